//! What games print: followed, bounded, searched, masked, matched against patterns.
//!
//! `follow` reads a file once per tick, `lines` makes clean text of its bytes, `mask` takes secrets out before
//! anybody sees them, `ring` keeps the newest lines, `history`
//! searches older ones in the file, `space` bounds the file.

mod follow;
mod history;
mod lines;
mod mask;
mod ring;
mod space;

pub use follow::{Bounds, Counters, Follower, Place, Start, Tick};
pub use history::{FilePage, search_file};
pub use lines::{LINE_BYTES_MAX, Splitter, clean};
pub use mask::{MaskError, Masks, SECRET_BYTES_MAX, SECRET_BYTES_MIN};
pub use ring::{Line, Page, Query, Ring, Source};
pub use space::{Space, trim};

#[cfg(test)]
mod tests;
