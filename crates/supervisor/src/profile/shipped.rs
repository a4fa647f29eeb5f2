//! The profiles that come with the program, and reading one from a file.

use std::io::Read;
use std::path::Path;

use toml::Table;

use super::format::Profile;
use super::read::{Problem, lay_over, parse, read, stands};

/// The largest profile; the shipped ones have up to 6 KiB.
const PROFILE_BYTES_MAX: u64 = 1 << 20;

/// Name and text of each shipped profile.
pub const SHIPPED: &[(&str, &str)] = &[
    ("ark-sa", include_str!("../../profiles/ark-sa.toml")),
    ("ark-se", include_str!("../../profiles/ark-se.toml")),
    ("generic", include_str!("../../profiles/generic.toml")),
    ("luanti", include_str!("../../profiles/luanti.toml")),
    ("minecraft-bedrock", include_str!("../../profiles/minecraft-bedrock.toml")),
    ("minecraft-java", include_str!("../../profiles/minecraft-java.toml")),
    ("palworld", include_str!("../../profiles/palworld.toml")),
    ("quake3", include_str!("../../profiles/quake3.toml")),
    ("source", include_str!("../../profiles/source.toml")),
    ("teeworlds", include_str!("../../profiles/teeworlds.toml")),
];

/// The text of a shipped profile.
#[must_use]
pub fn text(name: &str) -> Option<&'static str> {
    SHIPPED.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// A profile with what the operator lays over it. `name` is a shipped one, or a path with a `/`, a `\` or `.toml`
/// in it. Blocking: it may read a file.
pub fn load(name: &str, overrides: &Table) -> Result<Profile, Vec<Problem>> {
    let is_path = name.contains(['/', '\\']) || name.ends_with(".toml");
    let mut table = if is_path {
        let text =
            read_file(Path::new(name)).map_err(|message| vec![Problem::new("profile", message)])?;
        parse(&text).map_err(|problem| vec![problem.below("profile")])?
    } else {
        let text = text(name).ok_or_else(|| vec![Problem::new("profile", unknown(name))])?;
        parse(text).map_err(|problem| vec![problem.below("profile")])?
    };
    lay_over(&mut table, overrides);
    read(&table).map_err(|problems| {
        let placed = problems.into_iter().map(|problem| {
            let outer = if stands(overrides, &problem.key) { "override" } else { "profile" };
            problem.below(outer)
        });
        placed.collect()
    })
}

fn unknown(name: &str) -> String {
    let known: Vec<&str> = SHIPPED.iter().map(|(known, _)| *known).collect();
    format!(
        "there is no profile `{name}`: there are {}, or give the path of a file",
        known.join(", ")
    )
}

fn read_file(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    let bytes = file.take(PROFILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    match bytes as u64 > PROFILE_BYTES_MAX {
        true => Err(format!("{} is larger than {PROFILE_BYTES_MAX} bytes", path.display())),
        false => Ok(text),
    }
}
