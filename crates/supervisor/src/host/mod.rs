//! Everything that differs between operating systems. One file per system, the same functions in each.
