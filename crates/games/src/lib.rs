//! How game servers are asked and told: pure codecs of their query and admin protocols, and clients that
//! speak them with deadlines. It knows neither processes nor wards, keeps nothing and decides nothing.

pub mod client;
pub mod codec;
pub mod limits;

mod endpoint;
mod error;
mod protocol;
mod reader;
mod status;
mod text;

pub use client::{AskTell, Asker, Teller, Watcher, asker, both, teller};
pub use endpoint::{Endpoint, Secret};
pub use error::{AskError, TellError};
pub use protocol::{Flavour, FlavourError, Protocol, ProtocolError};
pub use status::{Event, Player, Status, Tick, Want};
