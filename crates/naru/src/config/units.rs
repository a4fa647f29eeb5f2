//! Durations, sizes and secrets as they are written in configuration: those of the profiles of games.

pub(crate) use naru_supervisor::profile::units::{Secret, Size, Span, read_secret_file};
