//! Scripts for the simulated phone: one step a line, `#!`-free and without variables. Also what may
//! be typed: a line that is no `/command` is chat.

use std::time::Duration;

use crate::target::parse_duration;

/// One step of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Change the room; `NAME` or `NAME=channel id`.
    Room(String),
    /// Change the sender.
    As(String),
    Say(String),
    /// Say it this many times, numbered, as fast as possible.
    Flood(u64, String),
    /// Wait for the next reply, or the next that contains the text.
    WaitReply(Option<String>),
    /// Wait for the answer to the handshake.
    WaitWelcome,
    /// Fail when a reply comes within this time.
    Silence(Duration),
    Sleep(Duration),
    /// Send a line as it is.
    Raw(String),
    /// Cut the connection; back after the real pause.
    Drop,
    /// Cut the connection; back at once.
    Reconnect,
    Help,
    Quit,
}

pub(super) const HELP: &str = "\
text            say it in the current room
/room NAME[=ID] go to another room (ID: channel id)
/as NAME        speak as somebody else
/flood N [TEXT] say it N times as fast as possible
/drop           cut the connection; it comes back as a real phone does
/reconnect      cut the connection and come back at once
/raw LINE       send a line as it is
/quit           leave";

/// A script: blank lines and lines that begin with `//` are skipped.
pub(super) fn parse_script(text: &str) -> Result<Vec<Step>, String> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with("//"))
        .map(|(number, line)| parse_step(line).map_err(|why| format!("line {number}: {why}")))
        .collect()
}

/// What a person typed: a command after `/`, else chat.
pub(super) fn parse_typed(line: &str) -> Result<Option<Step>, String> {
    match line.strip_prefix('/') {
        Some(command) => parse_step(command).map(Some),
        None if line.trim().is_empty() => Ok(None),
        None => Ok(Some(Step::Say(line.to_owned()))),
    }
}

fn parse_step(line: &str) -> Result<Step, String> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let needed = |what: &str| match rest {
        "" => Err(format!("{word} needs {what}")),
        rest => Ok(rest.to_owned()),
    };
    Ok(match word {
        "room" => Step::Room(needed("a name")?),
        "as" => Step::As(needed("a name")?),
        "say" => Step::Say(needed("a text")?),
        "flood" => {
            let (count, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, "# echo"));
            let count = count.parse().map_err(|_| format!("{count:?} is no number"))?;
            Step::Flood(count, text.trim().to_owned())
        }
        "wait-reply" => Step::WaitReply((!rest.is_empty()).then(|| rest.to_owned())),
        "wait-welcome" => Step::WaitWelcome,
        "silence" => Step::Silence(parse_duration(rest)?),
        "sleep" => Step::Sleep(parse_duration(rest)?),
        "raw" => Step::Raw(needed("a line")?),
        "drop" => Step::Drop,
        "reconnect" => Step::Reconnect,
        "help" => Step::Help,
        "quit" => Step::Quit,
        other => return Err(format!("unknown step {other:?}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_line_by_line() {
        let script =
            "// a comment\nroom 점심방=184\n\nsay # echo 안녕\nwait-reply 에코\nsleep 20ms\ndrop";
        let steps = parse_script(script).unwrap();
        assert_eq!(
            steps,
            [
                Step::Room("점심방=184".to_owned()),
                Step::Say("# echo 안녕".to_owned()),
                Step::WaitReply(Some("에코".to_owned())),
                Step::Sleep(Duration::from_millis(20)),
                Step::Drop,
            ]
        );
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        assert_eq!(parse_script("say x\nsing").unwrap_err(), "line 2: unknown step \"sing\"");
        assert_eq!(parse_script("say").unwrap_err(), "line 1: say needs a text");
    }

    #[test]
    fn typed_lines_are_chat_unless_they_begin_with_a_slash() {
        assert_eq!(parse_typed("# help"), Ok(Some(Step::Say("# help".to_owned()))));
        assert_eq!(
            parse_typed("/flood 3 # echo x"),
            Ok(Some(Step::Flood(3, "# echo x".to_owned())))
        );
        assert_eq!(parse_typed("  "), Ok(None));
        assert!(parse_typed("/nonsense").is_err());
    }
}
