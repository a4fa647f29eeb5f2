//! Measures monitors of game servers (docs/operations/ward-benchmark.md), without anything of the server.

#[cfg(target_os = "linux")]
mod linux {
    use clap::Parser;
    use naru_bench::wards::WardsArgs;

    /// What it costs to watch game servers.
    #[derive(Parser)]
    pub(crate) struct Load {
        #[command(flatten)]
        pub(crate) args: WardsArgs,
    }
}

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<std::process::ExitCode> {
    naru_bench::wards::run(&<linux::Load as clap::Parser>::parse().args)
}

/// What processes cost is read from `/proc`.
#[cfg(not(target_os = "linux"))]
fn main() {}
