//! Chooses the dialect of a connection from a phone's hello.

use naru_domain::Dialect;

/// The three shapes of a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HelloForm {
    /// A bare object: 3.2.x, older ones, and 3.3.0-a1.
    Bare,
    /// `{"event":"handshake","data":{…}}`: 3.3.0-a2 and newer.
    Event,
    /// `{"type":"handshake","auth":{…},"info":{…}}`: 3.3.1 only.
    Typed,
}

/// The dialect of a phone that announced `version` in a hello of this form.
///
/// Only the leading `major.minor` counts: versions carry suffixes, and files lie about the rest. A
/// version that cannot be read says nothing, so then the form decides.
#[must_use]
pub fn choose_dialect(version: &str, form: HelloForm) -> Dialect {
    if form == HelloForm::Typed {
        return Dialect::Typed;
    }
    match (major_minor(version), form) {
        (Some(number), _) if number >= (3, 3) => Dialect::Raw,
        (Some(_), _) | (None, HelloForm::Bare) => Dialect::Json,
        (None, _) => Dialect::Raw,
    }
}

fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches(['v', 'V', ' ']).split('.');
    let major = leading_number(parts.next()?)?;
    Some((major, parts.next().and_then(leading_number).unwrap_or(0)))
}

fn leading_number(part: &str) -> Option<u32> {
    let end = part.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(part.len());
    part[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{HelloForm, choose_dialect};
    use naru_domain::Dialect;

    #[track_caller]
    fn check(version: &str, form: HelloForm, expected: Dialect) {
        assert_eq!(choose_dialect(version, form), expected, "{version} {form:?}");
    }

    #[test]
    fn the_leading_major_and_minor_choose_the_dialect() {
        for version in ["2.9.0c", "3.1.4", "3.2.0", "3.2.1+imglogshort", "3.2.2+smartlog", "3"] {
            check(version, HelloForm::Bare, Dialect::Json);
        }
        for version in ["3.3.0", "3.3.2", "3.3.3", "3.10.1", "4.0", "v3.3.3", "4"] {
            check(version, HelloForm::Event, Dialect::Raw);
        }
    }

    #[test]
    fn the_bare_hello_of_3_3_0_a1_means_the_raw_dialect() {
        check("3.3.0", HelloForm::Bare, Dialect::Raw);
    }

    #[test]
    fn only_the_typed_hello_means_the_typed_dialect() {
        check("3.3.1", HelloForm::Typed, Dialect::Typed);
        check("3.3.1", HelloForm::Event, Dialect::Raw);
    }

    #[test]
    fn the_form_decides_when_the_version_cannot_be_read() {
        for version in ["", "newest", ".3", "99999999999999999999.1"] {
            check(version, HelloForm::Bare, Dialect::Json);
            check(version, HelloForm::Event, Dialect::Raw);
        }
    }
}
