//! Answers to the commands that list players over RCON. Each is a text for people, so what is not understood
//! is left out rather than guessed.

use crate::error::AskError;
use crate::limits::{NAME_CHARS_MAX, NAMES_MAX};
use crate::protocol::Flavour;
use crate::status::{Player, Status};
use crate::text::{Colours, clean};

/// The command that lists players, where the flavour has one.
pub fn command(flavour: Flavour) -> Option<&'static str> {
    match flavour {
        Flavour::Plain => None,
        Flavour::Palworld => Some("ShowPlayers"),
        Flavour::Ark => Some("ListPlayers"),
        Flavour::Minecraft => Some("list"),
    }
}

/// Reads its answer.
pub fn decode(flavour: Flavour, answer: &[u8]) -> Result<Status, AskError> {
    let answer = String::from_utf8_lossy(answer);
    match flavour {
        Flavour::Plain => Ok(Status::default()),
        Flavour::Palworld => palworld(&answer),
        Flavour::Ark => ark(&answer),
        Flavour::Minecraft => minecraft(&answer),
    }
}

fn player(id: Option<&str>, name: &str) -> Option<Player> {
    let name = clean(name, Colours::Section, NAME_CHARS_MAX);
    let id = id.map(|id| clean(id, Colours::None, NAME_CHARS_MAX)).filter(|id| !id.is_empty());
    (!name.is_empty()).then_some(Player { id, name })
}

fn status(count: usize, names: Vec<Player>) -> Status {
    Status { players: u32::try_from(count).ok(), names: Some(names), ..Status::default() }
}

/// A header, then `name,playeruid,steamid`. The name may hold commas, the numbers do not.
fn palworld(answer: &str) -> Result<Status, AskError> {
    let mut lines = answer.lines().map(str::trim).filter(|line| !line.is_empty());
    if !lines.next().is_some_and(|header| header.to_ascii_lowercase().starts_with("name,")) {
        return Err(AskError::Malformed("not a list of Palworld players"));
    }
    let mut names = Vec::new();
    let mut count = 0;
    for line in lines {
        count += 1;
        let mut parts = line.rsplitn(3, ',');
        let (id, name) = (parts.next(), parts.nth(1));
        if names.len() < NAMES_MAX {
            names.extend(player(id, name.unwrap_or_default()));
        }
    }
    Ok(status(count, names))
}

/// `0. Name, id` per line, or that nobody is connected.
fn ark(answer: &str) -> Result<Status, AskError> {
    let mut names = Vec::new();
    let mut count = 0;
    let mut understood = answer.to_ascii_lowercase().contains("no players connected");
    for line in answer.lines().map(str::trim) {
        let Some((number, rest)) = line.split_once(". ") else { continue };
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let Some((name, id)) = rest.rsplit_once(',') else { continue };
        understood = true;
        count += 1;
        if names.len() < NAMES_MAX {
            names.extend(player(Some(id.trim()), name));
        }
    }
    understood.then(|| status(count, names)).ok_or(AskError::Malformed("not a list of ARK players"))
}

/// `There are 2 of a max of 20 players online: ann, bob` in its many wordings: the first two numbers are
/// count and places, and names follow the colon.
fn minecraft(answer: &str) -> Result<Status, AskError> {
    let unreadable = AskError::Malformed("not a list of Minecraft players");
    let answer = clean(answer, Colours::Section, usize::MAX);
    let (head, tail) = answer.split_once(':').unwrap_or((&answer, ""));
    let mut numbers = head
        .split(|char: char| !char.is_ascii_digit())
        .filter_map(|digits| digits.parse::<u32>().ok());
    let players = numbers.next().ok_or(unreadable)?;
    let players_max = numbers.next();
    let named: Vec<&str> = tail.split(',').map(str::trim).filter(|it| !it.is_empty()).collect();
    // Plugins group players and add titles; then the count still holds, but the names cannot be told.
    let names = (u32::try_from(named.len()) == Ok(players))
        .then(|| named.iter().take(NAMES_MAX).filter_map(|name| player(None, name)).collect());
    Ok(Status { players: Some(players), players_max, names, ..Status::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(flavour: Flavour, answer: &str, expected: Option<(u32, &[(&str, &str)])>) {
        let status = decode(flavour, answer.as_bytes()).ok();
        let found = status.map(|status| {
            let names = status.names.unwrap_or_default();
            let pairs = names.iter().map(|it| (it.name.clone(), it.id.clone().unwrap_or_default()));
            (status.players.unwrap(), pairs.collect::<Vec<_>>())
        });
        let expected = expected.map(|(count, names)| {
            (count, names.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect::<Vec<_>>())
        });
        assert_eq!(found, expected, "{answer:?}");
    }

    #[test]
    fn palworld_lists_as_csv_with_commas_in_names() {
        let answer = "name,playeruid,steamid\nAnn,123,765\nB,o,b,0,766\n";
        check(Flavour::Palworld, answer, Some((2, &[("Ann", "765"), ("B,o,b", "766")])));
        check(Flavour::Palworld, "name,playeruid,steamid\n", Some((0, &[])));
        check(Flavour::Palworld, "Unknown command", None);
    }

    #[test]
    fn ark_lists_by_number_or_says_that_nobody_is_there() {
        let answer = " \n0. Ann. B, 7656119\n1. Bob, 0002aa \n ";
        check(Flavour::Ark, answer, Some((2, &[("Ann. B", "7656119"), ("Bob", "0002aa")])));
        check(Flavour::Ark, "No Players Connected \n ", Some((0, &[])));
        check(Flavour::Ark, "Server received, But no response!! \n ", None);
    }

    #[test]
    fn minecraft_lists_in_many_wordings() {
        let modern = "There are 2 of a max of 20 players online: ann, §abob";
        check(Flavour::Minecraft, modern, Some((2, &[("ann", ""), ("bob", "")])));
        check(Flavour::Minecraft, "There are 0/20 players online:\n", Some((0, &[])));
        check(
            Flavour::Minecraft,
            "There are 2/20 players online:\nann, bob",
            Some((2, &[("ann", ""), ("bob", "")])),
        );
        let plugin = "There are 2 out of maximum 20 players online.\ndefault: ann, bob, [AFK]";
        check(Flavour::Minecraft, plugin, Some((2, &[])));
        check(Flavour::Minecraft, "Unknown command", None);
        let status = decode(Flavour::Minecraft, modern.as_bytes()).unwrap();
        assert_eq!(status.players_max, Some(20));
    }
}
