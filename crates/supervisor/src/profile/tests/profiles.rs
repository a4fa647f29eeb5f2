//! Every shipped profile, with as little said as possible.

use std::collections::BTreeMap;

use super::*;
use crate::profile::format::Profile;
use crate::profile::ward::Means;

fn profile(name: &str) -> Profile {
    shipped::load(name, &toml::Table::new()).unwrap()
}

/// Every secret that the profile knows.
fn secrets(profile: &Profile) -> BTreeMap<String, units::Secret> {
    let names = profile.secrets.keys().cloned();
    names.map(|name| (name, units::Secret::new("canary".to_owned()))).collect()
}

#[test]
fn every_shipped_profile_resolves_with_little_said() {
    for (name, _) in shipped::SHIPPED {
        let profile = profile(name);
        assert!(!profile.title.is_empty() && !profile.about.is_empty(), "{name}");
        let command = if profile.command.is_empty() { "command = [\"./server\"]" } else { "" };
        let ward = ward(&format!("name = \"a\"\nprofile = \"{name}\"\n{command}"));
        assert_eq!(ward.stop.last().unwrap().act.means, Means::Kill, "{name}");
        assert!(ward.launch.is_some() && ward.hang.is_some(), "{name}");
        assert!(ward.ready.deadline.as_secs() >= 60, "{name}");
    }
}

#[test]
fn every_shipped_profile_resolves_with_all_it_knows_on_both_systems() {
    for (name, _) in shipped::SHIPPED {
        let profile = profile(name);
        let mut spec =
            spec(&format!("name = \"a\"\nprofile = \"{name}\"\ncommand = [\"./server\"]"));
        for (port, about) in &profile.ports {
            if about.optional {
                spec.ports.insert(port.clone(), 20_000);
            }
        }
        for platform in [Platform::Linux, format::System::Windows] {
            let around = Surroundings { platform, ..around() };
            let ward = resolve(&spec, &profile, &secrets(&profile), &around).unwrap();
            assert_eq!(ward.warnings, [], "{name} {platform:?}");
            let is_gentle = ward.stop.iter().any(|rung| rung.act.means != Means::Kill);
            assert!(is_gentle, "{name} {platform:?}");
            assert!(!format!("{ward:?}").contains("canary"), "{name} shows a secret");
        }
    }
}

#[test]
fn every_save_that_a_profile_knows_can_be_proved() {
    for (name, _) in shipped::SHIPPED {
        let profile = profile(name);
        for save in &profile.save {
            assert!(!save.confirmed.is_empty(), "{name}");
        }
        let gives_names = !profile.log.joined.is_empty();
        assert_eq!(gives_names, !profile.log.left.is_empty(), "{name}");
    }
}

#[test]
fn wards_without_their_secrets_say_what_is_missing() {
    let ward = ward("name = \"a\"\nprofile = \"palworld\"");
    let told = |problems: &[Problem], part: &str| {
        problems.iter().any(|problem| problem.to_string().contains(part))
    };
    assert!(told(&ward.warnings, "only killing it is left"), "{:?}", ward.warnings);
    assert!(told(&ward.warnings, "nothing can make it save"), "{:?}", ward.warnings);
    assert!(told(&ward.left_out, "secrets.admin"), "{:?}", ward.left_out);
}

#[test]
fn the_ladders_begin_where_the_games_are_gentlest() {
    let check = |text: &str, expected: &[&str]| {
        let ward = ward(&format!("name = \"a\"\n{text}"));
        let ladder: Vec<String> = (ward.stop.iter())
            .map(|rung| match &rung.act.means {
                Means::Net { via, at, .. } => format!("{} {}", via.as_str(), at.port()),
                Means::Signal(signal) => format!("signal {}", signal.number()),
                means => format!("{means:?}"),
            })
            .collect();
        assert_eq!(ladder, expected, "{text}");
    };
    check("profile = \"minecraft-java\"", &["Console", "signal 15", "Kill"]);
    check(
        "profile = \"minecraft-java\"\nsecrets.rcon = \"x\"\nattach.port = 25565",
        &["rcon 25575", "signal 15", "Kill"],
    );
    check("profile = \"teeworlds\"", &["signal 15", "Kill"]);
    check("profile = \"teeworlds\"\nsecrets.econ = \"x\"", &["econ 8304", "signal 15", "Kill"]);
    check("profile = \"quake3\"", &["Console", "signal 15", "Kill"]);
    check("profile = \"luanti\"", &["signal 15", "Kill"]);
    check(
        "profile = \"palworld\"\nsecrets.admin = \"x\"",
        &["palworld 8212", "palworld 8212", "Kill"],
    );
    check("profile = \"ark-sa\"\nsecrets.rcon = \"x\"", &["rcon 27020", "signal 2", "Kill"]);
}

#[test]
fn teeworlds_is_given_its_passwords_in_a_file() {
    let ward = ward("name = \"tee\"\nprofile = \"teeworlds\"\nsecrets.econ = \"canary\"");
    let launch = ward.launch.unwrap();
    assert_eq!(launch.args, ["-f", "naru.cfg"]);
    let file = &launch.files[0];
    assert_eq!(file.path, std::path::Path::new("/var/lib/naru/wards/tee/files/naru.cfg"));
    let text = file.text.reveal();
    assert!(text.contains("ec_password canary\n") && text.contains("ec_port 8304\n"), "{text}");
    assert!(!text.contains("rcon"), "no secret for it was given: {text}");
}
