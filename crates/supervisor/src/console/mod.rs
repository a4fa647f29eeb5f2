//! What games print: followed, bounded, searched, masked, matched against patterns.

mod space;

pub use space::{Space, trim};
