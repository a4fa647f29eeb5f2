//! `naru bench stomp|centrifuge|floor` as a program of its own: for a machine that makes the load and
//! has no need of the server. Built without anything of the server.

use std::process::ExitCode;

use clap::Parser;
use naru_bench::chat::{self, CentrifugeArgs, StompArgs, floor};

/// Chat clients against a server, and a bare server to compare with.
#[derive(Parser)]
enum Load {
    Stomp(StompArgs),
    Centrifuge(CentrifugeArgs),
    Floor(floor::FloorArgs),
}

fn main() -> anyhow::Result<ExitCode> {
    match Load::parse() {
        Load::Stomp(args) => chat::stomp(args),
        Load::Centrifuge(args) => chat::centrifuge(args),
        Load::Floor(args) => floor::run(args),
    }
}
