//! `exec`: becomes a program in a container that is attached. Nothing of ours is left beside it: signals, terminal and exit status are
//! its own.
use super::enter::Place;
use super::program;
use crate::args::Exec;
use anyhow::Result;
use std::process::ExitCode;
use vswitch_io::sys::process;

pub fn run(args: &Exec) -> ExitCode {
    program::exit("exec", start(args))
}

fn start(args: &Exec) -> Result<u8> {
    let place = Place::of(&args.name)?;
    place.enter()?;
    // A directory of the host that is open here is a way out.
    process::close_on_exec_from(3)?;
    Err(program::become_program(&args.command).into())
}
