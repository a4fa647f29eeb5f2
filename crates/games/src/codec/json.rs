//! JSON read defensively: unknown fields are skipped, values of another type count as absent, and lists are
//! cut while they are read.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde_json::Value;

use crate::limits::{NAME_CHARS_MAX, NAMES_MAX};
use crate::status::Player;
use crate::text::{Colours, clean};

/// A list of which only the first `NAMES_MAX` are kept, so that a megabyte of `{}` costs no more than names.
#[derive(Debug)]
pub(super) struct Listed<T> {
    pub(super) kept: Vec<T>,
    pub(super) count: usize,
}

impl<T> Default for Listed<T> {
    fn default() -> Listed<T> {
        Listed { kept: Vec::new(), count: 0 }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Listed<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Listed<T>, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
            type Value = Listed<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_unit<E>(self) -> Result<Listed<T>, E> {
                Ok(Listed::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Listed<T>, A::Error> {
                let mut listed = Listed::default();
                while listed.kept.len() < NAMES_MAX {
                    match items.next_element()? {
                        Some(item) => listed.kept.push(item),
                        None => break,
                    }
                }
                listed.count = listed.kept.len();
                while items.next_element::<IgnoredAny>()?.is_some() {
                    listed.count += 1;
                }
                Ok(listed)
            }
        }
        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

/// A number of players, seconds and the like: whole and not negative, also when written as `3.0`.
pub(super) fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let number = value.as_f64()?;
        // Exact below 2^53, and no server plays for 285 million years.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be whole and in range"
        )]
        (number.fract() == 0.0 && (0.0..9.0e15).contains(&number)).then_some(number as u64)
    })
}

pub(super) fn count(value: &Value) -> Option<u32> {
    whole(value).and_then(|number| u32::try_from(number).ok())
}

/// A rate or a time: finite and not negative.
pub(super) fn rate(value: &Value) -> Option<f32> {
    let number = value.as_f64()?;
    #[expect(clippy::cast_possible_truncation, reason = "a figure to show, not to count with")]
    let number = number as f32;
    (number.is_finite() && number >= 0.0).then_some(number)
}

/// A player out of the fields that name and identify one. `None` without a name.
pub(super) fn player(id: &Value, name: &Value, colours: Colours) -> Option<Player> {
    let name = clean(name.as_str()?, colours, NAME_CHARS_MAX);
    let id = id.as_str().map(|id| clean(id, Colours::None, NAME_CHARS_MAX));
    // Palworld writes the word while a player is still joining.
    let id = id.filter(|id| !id.is_empty() && id != "None");
    (!name.is_empty()).then_some(Player { id, name })
}
