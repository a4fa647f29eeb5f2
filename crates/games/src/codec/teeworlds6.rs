//! Teeworlds 0.6 and DDNet: info as text fields, in the old form and in DDNet's longer one.

use crate::error::AskError;
use crate::limits::{NAME_CHARS_MAX, NAMES_MAX, PARTS_MAX, TITLE_CHARS_MAX};
use crate::reader::Reader;
use crate::status::{Player, Status};
use crate::text::{Colours, clean_utf8, some};

const MARK: [u8; 4] = [0xff; 4];

/// Which form is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// What every 0.6 server answers; DDNet names only the first players in it.
    Old,
    /// DDNet's, with all players, in several datagrams if need be.
    Extended,
}

/// Asks. The old form sends back only the low eight bits of `token`, the extended one 24.
pub fn request(form: Form, token: u32) -> Vec<u8> {
    let [_, high, middle, low] = token.to_be_bytes();
    let mut out = match form {
        Form::Old => vec![0xff; 6],
        Form::Extended => vec![b'x', b'e', high, middle, 0, 0],
    };
    out.extend_from_slice(&MARK);
    out.extend_from_slice(b"gie3");
    out.push(low);
    out
}

/// An answer being put together.
#[derive(Debug)]
pub struct Assembly {
    token: u32,
    first: Option<First>,
    parts_seen: Vec<u32>,
    listed: u32,
    names: Vec<Player>,
}

#[derive(Debug)]
struct First {
    form: Form,
    clients: u32,
    status: Status,
}

impl Assembly {
    /// For the question sent with `token`.
    pub fn new(token: u32) -> Assembly {
        Assembly { token, first: None, parts_seen: Vec::new(), listed: 0, names: Vec::new() }
    }

    /// Takes a datagram and says whether the answer is whole. Strays change nothing.
    pub fn push(&mut self, bytes: &[u8]) -> Result<bool, AskError> {
        let mut reader = Reader::new(bytes);
        // Six bytes of header say nothing that matters here.
        if reader.take(6).is_none() || reader.expect(&MARK).is_none() {
            return Err(AskError::Malformed("not a Teeworlds 0.6 answer"));
        }
        let cut = AskError::Malformed("a Teeworlds 0.6 info cut short");
        let kind = reader.take(4).ok_or(cut.clone())?;
        let form = match kind {
            b"inf3" => Form::Old,
            b"iext" | b"iex+" => Form::Extended,
            _ => return Ok(false),
        };
        let expected = if form == Form::Old { self.token & 0xff } else { self.token & 0xff_ffff };
        if reader.decimal() != Some(expected) {
            return Ok(false);
        }
        if kind == b"iex+" {
            let number = reader.decimal().ok_or(cut)?;
            reader.text();
            self.more(number, reader)?;
        } else if self.first.is_none() {
            let (clients, status) = head(&mut reader, form).ok_or(cut)?;
            self.first = Some(First { form, clients, status });
            self.clients(reader, form);
        }
        Ok(self.is_whole())
    }

    fn more(&mut self, number: u32, reader: Reader<'_>) -> Result<(), AskError> {
        if self.parts_seen.contains(&number) {
            return Ok(());
        }
        if self.parts_seen.len() >= PARTS_MAX {
            return Err(AskError::TooLarge);
        }
        self.parts_seen.push(number);
        self.clients(reader, Form::Extended);
        Ok(())
    }

    fn clients(&mut self, mut reader: Reader<'_>, form: Form) {
        let mut read = || {
            let name = reader.text()?;
            // Clan, country, score and whether they play.
            for _ in 0..4 {
                reader.text()?;
            }
            if form == Form::Extended {
                reader.text()?;
            }
            Some(name)
        };
        while let Some(name) = read() {
            self.listed += 1;
            let name = clean_utf8(name, Colours::None, NAME_CHARS_MAX);
            if !name.is_empty() && self.names.len() < NAMES_MAX {
                self.names.push(Player { id: None, name });
            }
        }
    }

    /// The old form is one datagram; the extended one ends with its last player. A server under load leaves
    /// the list out of its first datagram and sends no more.
    fn is_whole(&self) -> bool {
        self.first.as_ref().is_some_and(|first| {
            first.form == Form::Old || self.listed >= first.clients || self.listed == 0
        })
    }

    /// Which form the server answered.
    pub fn form(&self) -> Option<Form> {
        self.first.as_ref().map(|first| first.form)
    }

    /// What is known, also when parts of it never came.
    pub fn into_status(self) -> Option<Status> {
        let first = self.first?;
        let whole = self.listed == first.clients;
        Some(Status {
            players: Some(first.clients),
            names: whole.then_some(self.names),
            ..first.status
        })
    }
}

fn head(reader: &mut Reader<'_>, form: Form) -> Option<(u32, Status)> {
    let title = |raw| some(clean_utf8(raw, Colours::None, TITLE_CHARS_MAX));
    let (version, name, map) = (reader.text()?, reader.text()?, reader.text()?);
    if form == Form::Extended {
        // Checksum and size of the map.
        reader.text()?;
        reader.text()?;
    }
    let (_kind, _flags) = (reader.text()?, reader.text()?);
    let (_players, _player_slots) = (reader.decimal()?, reader.decimal()?);
    let (clients, places) = (reader.decimal()?, reader.decimal()?);
    if form == Form::Extended {
        reader.text()?;
    }
    let status = Status {
        players_max: Some(places),
        name: title(name),
        map: title(map),
        version: title(version),
        ..Status::default()
    };
    Some((clients, status))
}

#[cfg(test)]
mod tests {
    use super::super::hex;
    use super::*;

    fn answer(kind: &str, fields: &[&str]) -> Vec<u8> {
        let mut out = vec![0xff; 10];
        out.extend_from_slice(kind.as_bytes());
        for field in fields {
            out.extend_from_slice(field.as_bytes());
            out.push(0);
        }
        out
    }

    const EXTENDED: [&str; 13] = [
        "1193046",
        "0.6.4",
        "Naru",
        "Multeasymap",
        "0",
        "0",
        "DDraceNetwork",
        "0",
        "2",
        "64",
        "3",
        "64",
        "",
    ];

    #[test]
    fn questions_are_written_as_on_the_wire() {
        assert_eq!(request(Form::Old, 0x12_3456), hex("ffffffffffff ffffffff 67696533 56"));
        assert_eq!(request(Form::Extended, 0x12_3456), hex("7865 1234 0000 ffffffff 67696533 56"));
    }

    #[test]
    fn the_old_form_is_one_datagram() {
        let fields = [
            "86", "0.6.4", "Naru", "dm1", "DM", "0", "1", "8", "2", "16", //
            "ann", "clan", "-1", "3", "1", "bob", "", "-1", "0", "0",
        ];
        let mut assembly = Assembly::new(0x12_3456);
        let raw = answer("inf3", &fields);
        assert_eq!(assembly.push(&raw), Ok(true));
        assert_eq!(assembly.form(), Some(Form::Old));
        let status = assembly.into_status().unwrap();
        assert_eq!((status.players, status.players_max), (Some(2), Some(16)));
        let names: Vec<_> = status.names.unwrap().into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["ann", "bob"]);
        assert_eq!(Assembly::new(7).push(&raw), Ok(false));
        assert!(Assembly::new(0x56).push(&raw[..40]).is_err());
    }

    #[test]
    fn the_extended_form_waits_for_its_last_player_in_any_order() {
        let mut first = EXTENDED.to_vec();
        first.extend(["ann", "", "-1", "3", "1", ""]);
        let more =
            ["1193046", "1", "", "bob", "", "-1", "3", "1", "", "eve", "", "-1", "0", "0", ""];
        let mut assembly = Assembly::new(0x12_3456);
        assert_eq!(assembly.push(&answer("iex+", &more)), Ok(false));
        assert_eq!(assembly.push(&answer("iex+", &more)), Ok(false));
        assert_eq!(assembly.push(&answer("iext", &first)), Ok(true));
        let status = assembly.into_status().unwrap();
        assert_eq!((status.players, status.names.map(|it| it.len())), (Some(3), Some(3)));
    }

    #[test]
    fn a_list_left_out_leaves_the_count() {
        let mut assembly = Assembly::new(0x12_3456);
        assert_eq!(assembly.push(&answer("iext", &EXTENDED)), Ok(true));
        let status = assembly.into_status().unwrap();
        assert_eq!((status.players, status.names), (Some(3), None));
        assert!(Assembly::new(1).push(b"short").is_err());
        assert_eq!(Assembly::new(1).push(&answer("list", &[])), Ok(false));
    }
}
