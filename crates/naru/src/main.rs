//! The binary: configuration, command line, wiring, signals, drain. It sees every other crate, and
//! nothing sees it.

mod chat;
mod cli;
mod config;
mod control;
mod emulation;
mod keys;
mod logs;
mod operate;
mod platform;
mod rooms;
mod serve;
mod serve_wards;
mod service;
mod signals;
mod stomp;
mod wards;
mod watchdog;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Some(code) = wards::keep_if_asked(std::env::args_os()) {
        return code;
    }
    let cli = cli::Cli::parse();
    // One TLS provider for listeners and clients; who comes second finds it installed already.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    match cli::run(cli) {
        Ok(code) => code,
        Err(error) => {
            service::complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
