//! Ids, names, positions, messages, close reasons, limits and the port traits of Naru.
//!
//! This crate knows no runtime, socket, SQL, HTTP or serialization crate. Whatever crosses a wire or
//! an API is converted next to that edge.

pub mod channel;
pub mod clock;
pub mod close;
pub mod delivery;
pub mod ids;
pub mod limits;
pub mod metrics;
pub mod phone;
pub mod ports;
pub mod work;

pub use channel::ChannelParts;
pub use clock::{Clock, Timestamp};
pub use close::CloseReason;
pub use delivery::{
    ChannelName, Delivery, DeliveryBody, DeliveryClass, Durability, Epoch, Membership, Offset,
    PartyInfo, Position, Publication, PublicationMeta, Version,
};
pub use ids::{
    BotName, DeviceId, DeviceKey, Generation, MessageId, RoomKey, ScheduleId, SessionId, WorkNumber,
};
pub use phone::{Approval, Dialect, MediaItem, MediaKind, PhoneReply, ReplyBody};
