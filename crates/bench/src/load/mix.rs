//! What the phones say: echo requests, which are matched with their replies, and among them a share
//! of other messages, as `--mix` gives it.

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

/// A kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `# echo …` with a number; its reply is waited for.
    Echo,
    /// Talk that no command answers.
    Talk,
    /// `# help`.
    Help,
    /// `# ping`.
    Ping,
    /// `# client_info summary`.
    ClientInfo,
}

impl Kind {
    /// All kinds but echo, whose text carries numbers.
    pub(crate) const OTHERS: [Kind; 4] = [Kind::Talk, Kind::Help, Kind::Ping, Kind::ClientInfo];

    /// The text of a kind that is not echo.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Kind::Echo => "# echo",
            Kind::Talk => "오늘 점심은 뭐 먹을까요?",
            Kind::Help => "# help",
            Kind::Ping => "# ping",
            Kind::ClientInfo => "# client_info summary",
        }
    }
}

/// The order in which a phone goes through the kinds: a shuffled cycle of 100.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix(Vec<Kind>);

impl Default for Mix {
    fn default() -> Mix {
        Mix(vec![Kind::Echo])
    }
}

impl std::fmt::Display for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let echoes = self.0.iter().filter(|kind| **kind == Kind::Echo).count();
        write!(f, "{} % echo", echoes * 100 / self.0.len())
    }
}

impl Mix {
    /// Reads `echo=90,talk=8,help=1,ping=1`: weights of echo, talk, help, ping, info.
    ///
    /// # Errors
    /// Names the part that could not be read.
    pub fn parse(text: &str) -> Result<Mix, String> {
        let mut cycle = Vec::new();
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let kind = match name.trim() {
                "echo" => Kind::Echo,
                "talk" => Kind::Talk,
                "help" => Kind::Help,
                "ping" => Kind::Ping,
                "info" => Kind::ClientInfo,
                other => {
                    return Err(format!("unknown kind {other:?}: echo, talk, help, ping, info"));
                }
            };
            let weight: usize =
                weight.trim().parse().map_err(|_| format!("{weight:?} is no weight"))?;
            cycle.extend(std::iter::repeat_n(kind, weight.min(1000)));
        }
        if !cycle.contains(&Kind::Echo) {
            return Err("the mix needs a share of echo: only echoes are accounted for".to_owned());
        }
        cycle.shuffle(&mut StdRng::seed_from_u64(1));
        Ok(Mix(cycle))
    }

    /// The kind of the message with this running number.
    pub(crate) fn kind(&self, number: u64) -> Kind {
        let length = u64::try_from(self.0.len()).unwrap_or(1);
        self.0[usize::try_from(number % length).unwrap_or(0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact_over_a_cycle() {
        let mix = Mix::parse("echo=90,talk=7,help=3").unwrap();
        let count = |kind| (0..100).filter(|n| mix.kind(*n) == kind).count();
        assert_eq!((count(Kind::Echo), count(Kind::Talk), count(Kind::Help)), (90, 7, 3));
    }

    #[test]
    fn a_mix_without_echo_is_refused() {
        assert!(Mix::parse("talk=1").is_err());
        assert!(Mix::parse("echo=x").is_err());
        assert!(Mix::parse("echo,sing=1").is_err());
    }
}
