//! Which files belong to a backup: folders to take and patterns to leave out. Pure.

/// Why a pattern was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a pattern has 1 to {} bytes, and begins neither with `/` nor holds `..`",
    Pattern::LEN_BYTES_MAX
)]
pub struct PatternError;

/// What is left out: `*` and `?` stand for characters of one name, `**` for any number of folders. Without a
/// slash it fits a name in any folder. What fits a folder fits all that is in it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

impl Pattern {
    /// The longest pattern.
    pub const LEN_BYTES_MAX: usize = 256;

    /// Reads one.
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        let text = text.strip_suffix('/').unwrap_or(text);
        let fits = (1..=Self::LEN_BYTES_MAX).contains(&text.len())
            && !text.starts_with('/')
            && text.split('/').all(|part| !matches!(part, "" | "." | ".."));
        fits.then(|| Pattern(text.to_owned())).ok_or(PatternError)
    }

    /// Whether it names this path itself (not a folder above it).
    #[must_use]
    pub fn fits(&self, path: &[u8]) -> bool {
        if !self.0.contains('/') {
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            return name_fits(self.0.as_bytes(), name);
        }
        let pattern: Vec<&[u8]> = self.0.as_bytes().split(|byte| *byte == b'/').collect();
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        sequence_fits(&pattern, &parts, |part| *part == b"**", |part, name| name_fits(part, name))
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Pattern, PatternError> {
        Pattern::parse(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.0
    }
}

fn name_fits(pattern: &[u8], name: &[u8]) -> bool {
    sequence_fits(pattern, name, |c| *c == b'*', |c, byte| *c == b'?' || c == byte)
}

/// Wildcards over any sequence. Goes back to the last star only, so that it takes at most the product of both
/// lengths and no pattern is slow.
fn sequence_fits<T>(
    pattern: &[T],
    items: &[T],
    is_star: impl Fn(&T) -> bool,
    one: impl Fn(&T, &T) -> bool,
) -> bool {
    let (mut at, mut item, mut star) = (0, 0, None);
    while item < items.len() {
        if at < pattern.len() && is_star(&pattern[at]) {
            star = Some((at, item));
            at += 1;
        } else if at < pattern.len() && one(&pattern[at], &items[item]) {
            at += 1;
            item += 1;
        } else if let Some((star_at, taken)) = star {
            star = Some((star_at, taken + 1));
            at = star_at + 1;
            item = taken + 1;
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(is_star)
}

/// What of a folder belongs to a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Selection {
    /// Paths inside the folder that are taken; none means all of it.
    pub include: Vec<String>,
    /// What is left out of them.
    pub exclude: Vec<Pattern>,
}

impl Selection {
    /// Whether this path, whose folders are taken, is left out.
    #[must_use]
    pub fn leaves_out(&self, path: &[u8]) -> bool {
        self.exclude.iter().any(|pattern| pattern.fits(path))
    }

    /// Whether what is included are plain paths, none inside another.
    pub(super) fn is_sound(&self) -> bool {
        let apart = |(at, path): (usize, &String)| {
            let others = self.include.iter().enumerate().filter(|(other, _)| *other != at);
            super::archive::is_inside(path.as_bytes())
                && others
                    .map(|(_, other)| other)
                    .all(|other| other != path && !path.starts_with(&format!("{other}/")))
        };
        self.include.iter().enumerate().all(apart)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, path: &str, expected: bool) {
        let fits = Pattern::parse(pattern).unwrap().fits(path.as_bytes());
        assert_eq!(fits, expected, "{pattern} on {path}");
    }

    #[test]
    fn patterns_fit_names_paths_and_folders() {
        check("*.log", "a/b/x.log", true);
        check("*.log", "x.logs", false);
        check("cache", "a/cache", true);
        check("cache/", "a/cache", true);
        check("a/*", "a/b", true);
        check("a/*", "a/b/c", false);
        check("a/**/x", "a/b/c/x", true);
        check("a/**/x", "a/x", true);
        check("**/x?", "q/x1", true);
        check("**/x?", "q/x", false);
        check("a/b", "z/a/b", false);
        check(&"*a".repeat(100), &"a".repeat(4_000).replace('a', "b"), false);
    }

    #[test]
    fn patterns_and_selections_stay_inside() {
        for text in ["", "/", "/a", "a/../b", "..", "a//b", &"x".repeat(257)] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
        let sound = |include: &[&str]| {
            let include = include.iter().map(|path| (*path).to_owned()).collect();
            Selection { include, exclude: Vec::new() }.is_sound()
        };
        assert!(sound(&[]) && sound(&["saves", "config/a", "save"]));
        for include in [&["../x"][..], &["/etc"], &[""], &["a", "a"], &["a", "a/b"], &["a/../b"]] {
            assert!(!sound(include), "{include:?}");
        }
    }
}
