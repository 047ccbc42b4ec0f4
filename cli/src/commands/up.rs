//! `up`: starts the daemon: here, as a transient unit of systemd, or in a session of its own.
use super::systemd;
use crate::api::client::Client;
use crate::args::Up;
use crate::errors::{self, DaemonProblem, RunProblem};
use crate::rundir::RunDir;
use crate::{daemon, print};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use vswitch_io::privilege;

/// What a daemon in the background is started with.
pub const DAEMON: [&str; 3] = ["up", "--foreground", "--detached"];
/// What the daemon says on its standard output once it answers; behind it the microseconds without a frame of a restart.
const READY: &str = "ready";
/// Octets that it, or an error instead, has at the most.
const ANSWER_OCTETS: u64 = 4_096;

pub fn run(options: &Up) -> Result<()> {
    if options.detached {
        return detached(options);
    }
    if options.foreground {
        return daemon::run(options, |_| {});
    }
    start(options)?;
    let info = super::show::info(&mut Client::connect()?)?;
    print::out(&format!("vswitch up: network {}, gateway {}, pid {}\n", info.network, info.gateway, info.pid))
}

/// Runs this very program once more, as a daemon, and waits until it answers.
pub fn start(options: &Up) -> Result<()> {
    let flags = flags(options);
    if systemd::start(&RunDir::of_user(), &flags)? {
        return Ok(());
    }
    Starting::new(&flags, Stdio::null())?.wait().map(drop)
}

/// A daemon that starts.
pub struct Starting {
    child: Child,
    dir: RunDir,
}

impl Starting {
    /// Runs this very program once more, with `flags`, in a session of its own.
    pub fn new(flags: &[String], input: Stdio) -> Result<Self> {
        let program = std::env::current_exe().context(RunProblem::NoVswitch)?;
        let service = privilege::service_user();
        let dir = RunDir::of_user();
        dir.prepare(service)?;
        let log = dir.open_log(service)?;
        let mut command = Command::new(program);
        command.args(DAEMON).args(flags).stdin(input).stdout(Stdio::piped()).stderr(log);
        // Whoever starts us may be a unit of systemd itself: that one's readiness is not ours to tell.
        command.env_remove("NOTIFY_SOCKET");
        let child = command.spawn().context(DaemonProblem::NotStarted)?;
        Ok(Self { child, dir })
    }

    /// Waits until it answers; gives back what it adds to that.
    pub fn wait(mut self) -> Result<String> {
        let mut said = String::new();
        if let Some(stdout) = self.child.stdout.take() {
            // It says one of two things and closes; both are short.
            stdout.take(ANSWER_OCTETS).read_to_string(&mut said)?;
        }
        if let Some(rest) = said.strip_prefix(READY) {
            return Ok(rest.trim().into());
        }
        let status = self.child.wait()?;
        match said.trim() {
            "" => bail!(DaemonProblem::EndedAtStart { status, log: self.dir.log() }),
            why => bail!(why.to_owned()),
        }
    }

    /// Ends it.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The options, as they are typed.
fn flags(options: &Up) -> Vec<String> {
    let mut flags = vec!["--ageing".into(), options.ageing.to_string(), "--fdb-limit".into(), options.fdb_limit.to_string()];
    for (flag, value) in [
        ("--subnet", options.subnet.clone()),
        ("--gateway", options.gateway.map(|gateway| gateway.to_string())),
        ("--group-forward", options.group_forward.clone()),
        ("--prefix6", options.prefix6.clone()),
        ("--workers", Some(options.workers.to_string())),
        ("--unregistered", Some(options.unregistered.name().into())),
    ] {
        flags.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
    }
    flags.extend(options.no_ipv6.then(|| "--no-ipv6".into()));
    flags.extend(options.no_suppress.then(|| "--no-suppress".into()));
    flags
}

/// What [`start`] runs.
fn detached(options: &Up) -> Result<()> {
    // Refused to one that leads a session already, as a unit of systemd does.
    let _ = nix::unistd::setsid();
    std::env::set_current_dir("/")?;
    let null = File::options().write(true).open("/dev/null")?;
    let ready = |gap: Option<Duration>| {
        let gap = gap.map_or_else(String::new, |gap| format!(" {}", gap.as_micros()));
        let _ = print::out(&format!("{READY}{gap}\n"));
        let _ = nix::unistd::dup2_stdout(&null);
    };
    let result = daemon::run(options, ready);
    if let Err(error) = &result {
        // To who waits for us, as long as it does; to the log in any case.
        let _ = write!(std::io::stdout(), "{}", errors::line(error));
    }
    result
}
