//! HTTP API, metrics, probes, accounts, roles and audit. No sockets of other gateways.
//!
//! The listener ([`AdminServer`]) hands each request to the edge, which numbers, bounds and measures
//! it; the route table (`routes`) says who may use a route and what it takes and gives; the handlers in
//! `api` read the store's ports and call the operator's actions ([`Control`]).

mod api;
mod auth;
mod bottleneck;
mod control;
mod control_bots;
pub mod doors;
mod edge;
mod error;
mod extract;
mod health;
mod keyed;
mod mask;
mod metrics;
mod openapi;
mod options;
mod routes;
mod server;
mod services;
mod state;
mod times;
mod ward_control;

pub use auth::{
    AccountLogins, Bootstrap, BootstrapError, OPERATOR_TOKEN_FILE, PasswordCost, bootstrap,
    put_account,
};
pub use control::{
    Control, ControlError, QueueState, Reloaded, SendRequest, SessionState, WorkerState,
};
pub use control_bots::BotsControl;
pub use health::{Check, Health, NodeHealth, Probe};
pub use openapi::openapi_json;
pub use options::{AdminLimits, AdminOptions, Network, NetworkError};
pub use routes::{RouteAccess, route_accesses};
pub use server::{AdminServer, BindError};
pub use services::{
    CategoryLevel, Chat, FocusLevel, LogControl, LogControlError, LogFocus, NodeDescription, Ports,
    Services,
};
pub use ward_control::{WardControl, WardServices};
