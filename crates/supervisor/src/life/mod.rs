//! The life of one ward as a pure state machine: what is wanted, what is seen, what to do next, and why.
