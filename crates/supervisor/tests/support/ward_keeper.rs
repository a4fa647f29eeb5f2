//! The keeper as a process of its own, for tests: what `naru ward-keeper` does, and nothing else.

use std::path::PathBuf;
use std::process::ExitCode;

use naru_supervisor::keeper::{self, Role};

fn main() -> ExitCode {
    let args: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    let role = if args.iter().any(|arg| arg == "--exec") { Role::Exec } else { Role::Keep };
    match args.as_slice() {
        [command, flag, folder, ..] if command == keeper::COMMAND && flag == "--folder" => {
            keeper::main(&PathBuf::from(folder), role)
        }
        _ => ExitCode::from(2),
    }
}
