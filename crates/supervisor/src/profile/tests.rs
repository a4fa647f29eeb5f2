//! Shipped profiles against what the games print, wards put together of little and of much, and mistakes.

mod corpus;
mod lines;
mod plugins;
mod profiles;
mod wards;

use std::path::PathBuf;

use super::*;

fn around() -> Surroundings {
    Surroundings {
        platform: Platform::Linux,
        is_root: false,
        wards_dir: PathBuf::from("/var/lib/naru/wards"),
    }
}

/// A ward of `[[ward]]` text.
fn spec(text: &str) -> WardSpec {
    read::read(&read::parse(text).unwrap()).unwrap()
}

fn ward(text: &str) -> Ward {
    prepare(&spec(text), &around()).unwrap_or_else(|problems| panic!("{text}: {problems:?}"))
}

/// All mistakes as text.
fn mistakes(text: &str) -> Vec<String> {
    let problems = prepare(&spec(text), &around()).expect_err("there are mistakes");
    problems.iter().map(ToString::to_string).collect()
}
