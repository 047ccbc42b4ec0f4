//! Tries what an attach does, in namespaces that end with a process of its own: a TAP, made without root in a new user namespace.
use crate::errors::RunProblem;
use crate::print;
use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};
use std::process::{Command, Stdio};
use vswitch_io::link::{self, IfName, TapOptions};
use vswitch_switch::UnicastMac;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// A TAP was made, with these offloads (TUN_F_*).
    Tap(u32),
    /// There is a namespace, but no TAP in it.
    NoTap(String),
    /// No namespace.
    NoNamespace(String),
    /// It could not be tried.
    NotTried(String),
}

/// Runs [`run`] in a process of its own.
pub fn start() -> Probe {
    let tried = || -> Result<Probe> {
        let program = std::env::current_exe().context(RunProblem::NoVswitch)?;
        let output = Command::new(program).arg("doctor-probe").stdin(Stdio::null()).output().context(RunProblem::NotAgain)?;
        serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).trim().to_owned())
    };
    tried().unwrap_or_else(|error| Probe::NotTried(format!("{error:#}")))
}

/// The process: says what came of it and ends.
pub fn run() -> Result<()> {
    let user = if nix::unistd::geteuid().is_root() { CloneFlags::empty() } else { CloneFlags::CLONE_NEWUSER };
    let probe = match unshare(CloneFlags::CLONE_NEWNET | user) {
        Ok(()) => tap(),
        Err(errno) => Probe::NoNamespace(errno.desc().into()),
    };
    print::out(&serde_json::to_string(&probe)?)
}

fn tap() -> Probe {
    let mac = UnicastMac::for_ipv4([10, 88, 0, 2]).mac().0;
    let options = TapOptions { mac, mtu: 1_500, txqueuelen: super::super::attach::TAP_QUEUE_FRAMES, max_rung: 0 };
    let made = IfName::parse("eth0").map_err(|error| error.to_string());
    match made.and_then(|name| link::open_tap(&name, &options).map_err(|error| error.to_string())) {
        Ok((_, mask)) => Probe::Tap(mask),
        Err(why) => Probe::NoTap(why),
    }
}
