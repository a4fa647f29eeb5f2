//! The application behind chat, asked over HTTP: an adapter of the port `Backend`. What is asked and
//! answered has the shape that users of Centrifugo's proxies know; `docs/guide/backend.md` is the contract.
//!
//! `event` names what is asked, `request` and `answer` are the JSON, `calls` who makes them, `farewell` the queue
//! of connections that ended. Nothing here knows sockets of clients, channels or rights.

mod answer;
mod calls;
mod event;
mod farewell;
mod figures;
mod options;
mod request;

pub use answer::{BadAnswer, Reading, check_answer};
pub use calls::HttpBackend;
pub use event::Event;
pub use farewell::Farewells;
pub use options::{BackendError, BackendOptions, EndpointOptions};
