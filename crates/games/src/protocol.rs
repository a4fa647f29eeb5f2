//! The names of the protocols, and what each can do.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Whose dialect a Source RCON server speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// Valve's own servers and those that follow them. It can be told, and asked whether it lives.
    #[default]
    Plain,
    /// Palworld, deprecated by its vendor: arguments end at the first space.
    Palworld,
    /// ARK, both editions.
    Ark,
    /// Minecraft Java: short requests, one at a time.
    Minecraft,
}

/// A protocol that game servers speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Palworld's REST API.
    Palworld,
    /// Minecraft Java's server list ping, also of old versions.
    MinecraftPing,
    /// Minecraft Java's Query.
    MinecraftQuery,
    /// Minecraft Java's management protocol, from 1.21.9 on.
    MinecraftManagement,
    /// Minecraft Bedrock's unconnected ping.
    Bedrock,
    /// Valve's query protocol, of Source games, ARK and many others.
    A2s,
    /// Quake 3 and its family.
    Quake3,
    /// Teeworlds 0.7.
    Teeworlds,
    /// Teeworlds 0.6 and DDNet.
    Teeworlds06,
    /// Luanti (Minetest): only whether it lives.
    Luanti,
    /// Source RCON.
    Rcon(Flavour),
    /// The rcon command of Quake 3 and its family.
    Quake3Rcon,
    /// The external console of Teeworlds.
    Econ,
    /// Whether a TCP port takes connections.
    Tcp,
}

/// Every protocol with its name. The name is part of profiles, so it does not change.
const NAMES: [(&str, Protocol); 17] = [
    ("palworld", Protocol::Palworld),
    ("minecraft-ping", Protocol::MinecraftPing),
    ("minecraft-query", Protocol::MinecraftQuery),
    ("minecraft-management", Protocol::MinecraftManagement),
    ("bedrock", Protocol::Bedrock),
    ("a2s", Protocol::A2s),
    ("quake3", Protocol::Quake3),
    ("teeworlds", Protocol::Teeworlds),
    ("teeworlds-0.6", Protocol::Teeworlds06),
    ("luanti", Protocol::Luanti),
    ("rcon", Protocol::Rcon(Flavour::Plain)),
    ("rcon-palworld", Protocol::Rcon(Flavour::Palworld)),
    ("rcon-ark", Protocol::Rcon(Flavour::Ark)),
    ("rcon-minecraft", Protocol::Rcon(Flavour::Minecraft)),
    ("quake3-rcon", Protocol::Quake3Rcon),
    ("econ", Protocol::Econ),
    ("tcp", Protocol::Tcp),
];

impl Protocol {
    /// All of them, RCON once per flavour.
    pub fn all() -> impl Iterator<Item = Protocol> {
        NAMES.iter().map(|&(_, protocol)| protocol)
    }

    /// The name used in profiles.
    pub fn name(self) -> &'static str {
        // Every variant is in the table, which a test walks.
        NAMES.iter().find(|(_, protocol)| *protocol == self).map_or("", |(name, _)| name)
    }

    /// Whether an [`crate::Asker`] exists.
    pub fn asks(self) -> bool {
        !matches!(self, Protocol::Quake3Rcon | Protocol::Econ)
    }

    /// Whether a [`crate::Teller`] exists.
    pub fn tells(self) -> bool {
        matches!(
            self,
            Protocol::Palworld
                | Protocol::MinecraftManagement
                | Protocol::Rcon(_)
                | Protocol::Quake3
                | Protocol::Quake3Rcon
                | Protocol::Econ
        )
    }

    /// Whether an answer holds the number of players.
    pub fn counts(self) -> bool {
        self.asks()
            && !matches!(self, Protocol::Luanti | Protocol::Tcp | Protocol::Rcon(Flavour::Plain))
    }

    /// Whether [`crate::Want::Players`] gives names, if the server lets it. Minecraft's ping names only a sample.
    pub fn names(self) -> bool {
        self.counts() && self != Protocol::Bedrock
    }

    /// Whether it goes over UDP: silence then says less, since nobody refuses a firewalled datagram.
    pub fn is_datagram(self) -> bool {
        matches!(
            self,
            Protocol::MinecraftQuery
                | Protocol::Bedrock
                | Protocol::A2s
                | Protocol::Quake3
                | Protocol::Quake3Rcon
                | Protocol::Teeworlds
                | Protocol::Teeworlds06
                | Protocol::Luanti
        )
    }

    /// Whether asking without a password cannot work.
    pub fn wants_password(self) -> bool {
        matches!(
            self,
            Protocol::Palworld
                | Protocol::MinecraftManagement
                | Protocol::Rcon(_)
                | Protocol::Quake3Rcon
                | Protocol::Econ
        )
    }

    /// The port that servers use unless told otherwise. Management has none, `econ` and `tcp` neither.
    pub fn default_port(self) -> Option<u16> {
        Some(match self {
            Protocol::Palworld => 8212,
            Protocol::MinecraftPing | Protocol::MinecraftQuery => 25565,
            Protocol::Bedrock => 19132,
            Protocol::A2s => 27015,
            Protocol::Quake3 | Protocol::Quake3Rcon => 27960,
            Protocol::Teeworlds | Protocol::Teeworlds06 => 8303,
            Protocol::Luanti => 30000,
            Protocol::Rcon(Flavour::Palworld | Flavour::Minecraft) => 25575,
            Protocol::Rcon(Flavour::Ark) => 27020,
            Protocol::Rcon(Flavour::Plain) => 27015,
            Protocol::MinecraftManagement | Protocol::Econ | Protocol::Tcp => return None,
        })
    }

    /// Asking more often than this is refused by the server or brings nothing new.
    pub fn interval_min(self) -> Duration {
        match self {
            // Measured: of 30 questions at once an ioquake3 server answered 13; one per 1.1 s, all.
            Protocol::Quake3 | Protocol::Quake3Rcon => Duration::from_millis(1_100),
            // The server keeps its answer that long.
            Protocol::MinecraftQuery => Duration::from_secs(5),
            _ => Duration::from_secs(1),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No protocol has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown protocol; known are palworld, minecraft-ping, minecraft-query, minecraft-management, \
    bedrock, a2s, quake3, teeworlds, teeworlds-0.6, luanti, rcon, rcon-palworld, rcon-ark, \
    rcon-minecraft, quake3-rcon, econ, tcp"
)]
pub struct ProtocolError;

impl FromStr for Protocol {
    type Err = ProtocolError;

    fn from_str(raw: &str) -> Result<Protocol, ProtocolError> {
        NAMES.iter().find(|(name, _)| *name == raw).map(|&(_, it)| it).ok_or(ProtocolError)
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flavour::Plain => "plain",
            Flavour::Palworld => "palworld",
            Flavour::Ark => "ark",
            Flavour::Minecraft => "minecraft",
        })
    }
}

/// No flavour has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown flavour of RCON; known are plain, palworld, ark, minecraft")]
pub struct FlavourError;

impl FromStr for Flavour {
    type Err = FlavourError;

    fn from_str(raw: &str) -> Result<Flavour, FlavourError> {
        let all = [Flavour::Plain, Flavour::Palworld, Flavour::Ark, Flavour::Minecraft];
        all.into_iter().find(|flavour| flavour.to_string() == raw).ok_or(FlavourError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protocol_is_found_by_its_name_and_the_error_lists_them_all() {
        let listed = ProtocolError.to_string();
        for protocol in Protocol::all() {
            assert_eq!(protocol.to_string().parse(), Ok(protocol));
            assert!(listed.contains(protocol.name()), "{protocol}");
            assert!(protocol.asks() || protocol.tells());
        }
        for flavour in [Flavour::Plain, Flavour::Palworld, Flavour::Ark, Flavour::Minecraft] {
            assert_ne!(Protocol::Rcon(flavour).name(), "");
            assert_eq!(flavour.to_string().parse(), Ok(flavour));
        }
        assert_eq!("Palworld".parse::<Protocol>(), Err(ProtocolError));
    }
}
