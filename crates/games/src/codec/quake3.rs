//! Quake 3 and its family: `getinfo`, `getstatus` and `rcon`, each one datagram of text.

use crate::error::AskError;
use crate::limits::{NAME_CHARS_MAX, NAMES_MAX, TITLE_CHARS_MAX};
use crate::status::{Player, Status};
use crate::text::{Colours, clean_utf8, some};

const MARK: [u8; 4] = [0xff; 4];

/// Asks for the counts. The server sends `challenge` back.
pub fn getinfo(challenge: &str) -> Vec<u8> {
    [&MARK[..], b"getinfo ", challenge.as_bytes(), b"\n"].concat()
}

/// Asks for the settings and the players. The server sends `challenge` back among the settings.
pub fn getstatus(challenge: &str) -> Vec<u8> {
    [&MARK[..], b"getstatus ", challenge.as_bytes(), b"\n"].concat()
}

/// A command with its password. The server splits at spaces and knows no way around that for the password.
pub fn rcon(password: &str, command: &str) -> Result<Vec<u8>, &'static str> {
    super::one_line(command)?;
    // The server reads at most 1,024 bytes of it.
    if command.len() + password.len() > 1_000 {
        return Err("command and password have more than 1,000 bytes together");
    }
    if password.is_empty() || !password.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"')
    {
        return Err("the password must be printable ASCII without spaces and quotes");
    }
    let parts = [&MARK[..], b"rcon ", password.as_bytes(), b" ", command.as_bytes(), b"\n"];
    Ok(parts.concat())
}

/// What a datagram is.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Counts.
    Info(Box<Info>),
    /// Settings and players.
    Status(Box<Listing>),
    /// Text that a command printed; one answer may be several of them.
    Print(Vec<u8>),
    /// The password of a command is wrong, or the server has none.
    BadPassword,
    /// Something else.
    Other,
}

/// The answer to `getinfo`.
#[derive(Clone, Debug, PartialEq)]
pub struct Info {
    /// What was sent with the question.
    pub challenge: String,
    /// Whether the server tells people from bots.
    pub tells_bots: bool,
    /// What it says.
    pub status: Status,
}

/// The answer to `getstatus`.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// What was sent with the question, if the server sends it back.
    pub challenge: String,
    /// What it says, without names.
    pub status: Status,
    /// Everybody, bots too, with their ping in ms: bots have 0, and so may people on the same machine.
    pub everybody: Vec<(Player, u32)>,
}

impl Listing {
    /// The players, once `humans` of them are known to be people.
    pub fn names(self, humans: Option<u32>) -> Vec<Player> {
        let pinged = self.everybody.iter().filter(|(_, ping)| *ping > 0).count();
        let certain = humans.is_some_and(|humans| usize::try_from(humans) == Ok(pinged));
        let everybody = self.everybody.into_iter();
        everybody.filter(|(_, ping)| !certain || *ping > 0).map(|(player, _)| player).collect()
    }
}

/// Reads a datagram.
pub fn decode(bytes: &[u8]) -> Result<Answer, AskError> {
    let Some(rest) = bytes.strip_prefix(&MARK) else {
        return Err(AskError::Malformed("not a Quake 3 answer"));
    };
    let end = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
    let (word, body) = rest.split_at(end);
    let body = body.get(1..).unwrap_or_default();
    Ok(match word {
        b"infoResponse" => Answer::Info(Box::new(info(body))),
        b"statusResponse" => Answer::Status(Box::new(listing(body))),
        b"print" if is_refusal(body) => Answer::BadPassword,
        b"print" => Answer::Print(body.to_vec()),
        _ => Answer::Other,
    })
}

fn is_refusal(body: &[u8]) -> bool {
    let body = body.to_ascii_lowercase();
    body.starts_with(b"bad rconpassword") || body.starts_with(b"no rconpassword")
}

/// `\key\value\key\value`; keys are compared without regard to case, as the game does.
fn settings(body: &[u8]) -> impl Iterator<Item = (String, &[u8])> {
    let end = body.iter().position(|&byte| byte == b'\n').unwrap_or(body.len());
    let line = body.get(..end).unwrap_or_default();
    let mut fields = line.strip_prefix(b"\\").unwrap_or(line).split(|&byte| byte == b'\\');
    std::iter::from_fn(move || {
        let key = fields.next()?;
        Some((String::from_utf8_lossy(key).to_ascii_lowercase(), fields.next()?))
    })
}

fn number(raw: &[u8]) -> Option<u32> {
    std::str::from_utf8(raw).ok()?.trim().parse().ok()
}

fn title(raw: &[u8]) -> Option<String> {
    some(clean_utf8(raw, Colours::Caret, TITLE_CHARS_MAX))
}

fn info(body: &[u8]) -> Info {
    let mut status = Status::default();
    let (mut clients, mut humans) = (None, None);
    let mut challenge = String::new();
    for (key, value) in settings(body) {
        match &*key {
            "clients" => clients = number(value),
            "g_humanplayers" => humans = number(value),
            "sv_maxclients" => status.players_max = number(value),
            "hostname" => status.name = title(value),
            "mapname" => status.map = title(value),
            "challenge" => challenge = clean_utf8(value, Colours::None, TITLE_CHARS_MAX),
            _ => (),
        }
    }
    status.players = humans.or(clients);
    status.bots = humans.and_then(|humans| clients.and_then(|all| all.checked_sub(humans)));
    Info { challenge, tells_bots: humans.is_some(), status }
}

fn listing(body: &[u8]) -> Listing {
    let mut status = Status::default();
    let mut challenge = String::new();
    for (key, value) in settings(body) {
        match &*key {
            "sv_maxclients" => status.players_max = number(value),
            "sv_hostname" => status.name = title(value),
            "mapname" => status.map = title(value),
            "version" => status.version = title(value),
            "challenge" => challenge = clean_utf8(value, Colours::None, TITLE_CHARS_MAX),
            _ => (),
        }
    }
    let mut everybody = Vec::new();
    let mut count = 0_u32;
    for line in body.split(|&byte| byte == b'\n').skip(1) {
        // score ping "name"
        let mut parts = line.splitn(3, |&byte| byte == b' ');
        let (Some(_score), Some(ping), Some(name)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        count += 1;
        let name = name.strip_prefix(b"\"").unwrap_or(name);
        let name = name.strip_suffix(b"\"").unwrap_or(name);
        let name = clean_utf8(name, Colours::Caret, NAME_CHARS_MAX);
        if !name.is_empty() && everybody.len() < NAMES_MAX {
            // A ping that is no number may be anybody's: not 0, which would make it a bot's.
            everybody.push((Player { id: None, name }, number(ping).unwrap_or(u32::MAX)));
        }
    }
    status.players = Some(count);
    Listing { challenge, status, everybody }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &[u8]) -> Answer {
        decode(&[&MARK[..], text].concat()).unwrap()
    }

    #[test]
    fn questions_are_written_as_on_the_wire() {
        assert_eq!(getinfo("abc"), b"\xff\xff\xff\xffgetinfo abc\n");
        assert_eq!(getstatus("abc"), b"\xff\xff\xff\xffgetstatus abc\n");
        assert_eq!(rcon("PW", "status").unwrap(), b"\xff\xff\xff\xffrcon PW status\n");
        for (password, command) in
            [("", "x"), ("a b", "x"), ("a\"", "x"), ("a", "x\nquit"), ("a", "")]
        {
            assert!(rcon(password, command).is_err(), "{password:?} {command:?}");
        }
        assert!(rcon("a", &"x".repeat(1_000)).is_err());
    }

    #[test]
    fn getinfo_tells_people_from_bots_where_the_server_does() {
        let told = br"infoResponse
\voip\opus\g_humanplayers\1\sv_maxclients\16\clients\9\mapname\oa_dm1\hostname\^1My^7 ward\challenge\abc";
        let Answer::Info(info) = answer(told) else { panic!("info") };
        let status = &info.status;
        assert_eq!((status.players, status.bots, status.players_max), (Some(1), Some(8), Some(16)));
        assert_eq!(
            (status.name.as_deref(), status.map.as_deref()),
            (Some("My ward"), Some("oa_dm1"))
        );
        assert_eq!((&*info.challenge, info.tells_bots), ("abc", true));
        let Answer::Info(info) = answer(b"infoResponse\n\\clients\\9") else { panic!("info") };
        assert_eq!(
            (info.status.players, info.status.bots, info.tells_bots),
            (Some(9), None, false)
        );
    }

    #[test]
    fn getstatus_names_everybody() {
        let told = b"statusResponse\n\\sv_maxclients\\16\\sv_hostname\\w\\version\\ioq3 1.36\n12 48 \"^2Ann B\"\n0 0 \"Grunt\"\nbroken\n";
        let Answer::Status(listing) = answer(told) else { panic!("status") };
        assert_eq!((listing.status.players, listing.status.players_max), (Some(2), Some(16)));
        let names = |humans| {
            let names = listing.clone().names(humans).into_iter().map(|it| it.name);
            names.collect::<Vec<_>>()
        };
        assert_eq!(names(Some(1)), ["Ann B"]);
        assert_eq!(names(None), ["Ann B", "Grunt"]);
        assert_eq!(names(Some(2)), ["Ann B", "Grunt"]);
    }

    #[test]
    fn a_wrong_password_is_known_and_other_text_is_an_answer() {
        assert_eq!(answer(b"print\nBad rconpassword.\n"), Answer::BadPassword);
        assert_eq!(answer(b"print\nNo rconpassword set on the server.\n"), Answer::BadPassword);
        assert_eq!(answer(b"print\nmap: oa_dm1\n"), Answer::Print(b"map: oa_dm1\n".to_vec()));
        assert_eq!(answer(b"disconnect"), Answer::Other);
        assert_eq!(answer(b""), Answer::Other);
        assert!(decode(b"\xff\xff\xff").is_err());
    }
}
