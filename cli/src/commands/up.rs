//! `up`: starts the daemon, here or in a session of its own.
use crate::api::client::Client;
use crate::args::Up;
use crate::rundir::RunDir;
use crate::{daemon, print};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use vswitch_io::privilege;

/// What the daemon says on its standard output once it answers.
const READY: &str = "ready\n";
/// Octets that a daemon may say instead.
const FAILURE_OCTETS: u64 = 4_096;

pub fn run(options: &Up) -> Result<()> {
    if options.detached {
        return detached(options);
    }
    if options.foreground {
        return daemon::run(options, || {});
    }
    start(options)?;
    let info = super::show::info(&mut Client::connect()?)?;
    print::out(&format!("vswitch up: network {}, gateway {}, pid {}\n", info.network, info.gateway, info.pid))
}

/// Runs this very program once more, as a daemon, and waits until it answers.
pub fn start(options: &Up) -> Result<()> {
    let program = std::env::current_exe().context("cannot find the vswitch program: start it by its path")?;
    let service = privilege::service_user();
    let dir = RunDir::of_user();
    dir.prepare(service)?;
    let log = dir.open_log(service)?;
    let mut command = Command::new(program);
    command.args(["up", "--foreground", "--detached"]);
    command.args(["--ageing", &options.ageing.to_string(), "--fdb-limit", &options.fdb_limit.to_string()]);
    for (flag, value) in [("--subnet", options.subnet.clone()), ("--gateway", options.gateway.map(|a| a.to_string()))] {
        command.args(value.map(|value| [flag.to_owned(), value]).into_iter().flatten());
    }
    if let Some(list) = &options.group_forward {
        command.args(["--group-forward", list]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut child = command.spawn().context("cannot start the daemon: see that the vswitch program is still there")?;
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        // It says one of two things and closes; both are short.
        stdout.take(FAILURE_OCTETS).read_to_string(&mut said)?;
    }
    if said == READY {
        return Ok(());
    }
    let status = child.wait()?;
    match said.trim() {
        "" => bail!("the daemon ended at its start ({status}): see {}", dir.log().display()),
        why => bail!("{why}"),
    }
}

/// What [`start`] runs.
fn detached(options: &Up) -> Result<()> {
    nix::unistd::setsid().context("cannot leave the session: run \"vswitch up\"")?;
    std::env::set_current_dir("/")?;
    let null = File::options().write(true).open("/dev/null")?;
    let ready = || {
        let _ = print::out(READY);
        let _ = nix::unistd::dup2_stdout(&null);
    };
    let result = daemon::run(options, ready);
    if let Err(error) = &result {
        // To who waits for us, as long as it does; to the log in any case.
        let _ = write!(std::io::stdout(), "{error:#}");
    }
    result
}
