//! `vswitch`: the command line. The verbs and the daemon are not built yet; it says so instead of pretending.
#![forbid(unsafe_code)]
use std::process::ExitCode;

fn main() -> ExitCode {
    eprintln!("vswitch: the command line is not built yet: the switch, the datapath and the worker are libraries, see README.md");
    ExitCode::from(2)
}
