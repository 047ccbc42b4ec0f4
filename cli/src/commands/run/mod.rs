//! `run`: a program in namespaces of its own, plugged in.
//!
//! Three processes. **This one** stays outside and is the program's parent: it passes signals on and ends as the program ends. The
//! **inner** one ([`inner`]) makes or joins the namespaces and becomes the program. The
//! **plugging** one ([`plug`]) does for the inner one what `attach` does, in a process of its own since it has to enter the namespace, and
//! nobody who did gets out again.
//!
//! ```text
//!   inner: namespaces made ------ Ready ----> outer: plugs in
//!   inner: mounts, exec <-------- Go -------- outer
//!   the channel closes: it runs (its end closes on exec); or Refused, at any time
//! ```
//! Should the outer one die, the inner one hears the channel close, and the program is killed (PR_SET_PDEATHSIG), unless it was to be
//! left alone (`-d`). Nothing is kept on disk, and the port goes with the process, as for any `attach PID`.
//!
//! Deliberately no PID namespace: processes that the program leaves behind go on, in a namespace that nothing is plugged into.
pub mod inner;

use super::attach::{self, Attached};
use super::enter::Place;
use super::program::{self, Refusal, SIGNALLED};
use crate::api::client::Client;
use crate::api::types::{Answer, NsId, Reach, Reserve, Verb};
use crate::args::{Plug, Run, RunNetwork};
use crate::errors::{self, RunProblem};
use crate::print;
use crate::resolv_conf::{FILE, ResolvConf};
use crate::rundir::RunDir;
use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use vswitch_io::netns::{Namespace, NsSpec};
use vswitch_io::sys::{process, scm};

/// Signals that are passed on to the program.
const PASSED: [Signal; 7] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGWINCH];
/// Octets of a message between outer and inner at the most.
const MESSAGE_OCTETS: usize = 4_096;

/// What the inner process is to make.
#[derive(Serialize, Deserialize)]
struct Setup {
    network: Network,
    detach: bool,
    /// The control socket's directory, to be hidden.
    hide: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Network {
    /// A new namespace, to be plugged in.
    Plugged,
    /// A new namespace, with lo only.
    Lonely,
    /// The caller's.
    Host,
    /// A container's.
    Joined(Place),
}

/// From the inner process.
#[derive(Serialize, Deserialize)]
enum Said {
    Ready,
    Refused(Refusal),
}

/// To the inner process, with the program's standard input.
#[derive(Serialize, Deserialize)]
struct Go {
    /// What is to be in /etc/resolv.conf, if not the host's.
    resolv_conf: Option<String>,
}

/// A socket between outer and inner: JSON, one object a line.
struct Channel(UnixStream);

impl Channel {
    fn say(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let mut fds = fds;
        while !line.is_empty() {
            let sent = scm::send(&self.0, &line, fds)?;
            line.drain(..sent);
            fds = &[];
        }
        Ok(())
    }

    /// The next message, None at the end. Messages take turns, so none is behind it.
    fn hear<T: DeserializeOwned>(&self) -> Result<Option<(T, Vec<OwnedFd>)>> {
        let (mut line, mut fds) = (Vec::new(), Vec::new());
        let mut chunk = [0; MESSAGE_OCTETS];
        while line.last() != Some(&b'\n') {
            let received = match scm::recv(&self.0, &mut chunk, 1) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                received => received?,
            };
            if received.bytes == 0 || line.len() > MESSAGE_OCTETS {
                return Ok(None);
            }
            line.extend_from_slice(chunk.get(..received.bytes).unwrap_or_default());
            fds.extend(received.fds);
        }
        Ok(Some((serde_json::from_slice(&line)?, fds)))
    }
}

/// What the plugging process is told.
#[derive(Serialize, Deserialize)]
struct Order {
    pid: i32,
    wanted: Reserve,
    rung: u8,
}

pub fn run(args: &Run) -> ExitCode {
    program::exit("run", start(args))
}

fn start(args: &Run) -> Result<u8> {
    let network = network(args)?;
    let signals = SigSet::from_iter(PASSED);
    signals.thread_block()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?;
    let (mut child, channel) = spawn(args, &network)?;
    let pid = i32::try_from(child.id())?;
    let begun = begin(args, &network, pid, &channel);
    // It hears that nobody speaks to it any more.
    drop(channel);
    let attached = match begun {
        Ok(attached) => attached,
        Err(error) => {
            child.wait()?;
            return Err(error);
        }
    };
    if args.detach {
        let line = attached.map_or_else(|| format!("pid {pid}\n"), |(attached, _)| format!("{attached}\n"));
        return print::out(&line).map(|()| 0);
    }
    let status = wait(&mut child, &signals)?;
    if let Some((_, ns)) = attached {
        unplug(ns);
    }
    let killed = status.signal().map(|signal| SIGNALLED + signal);
    Ok(u8::try_from(status.code().or(killed).unwrap_or_default())?)
}

fn network(args: &Run) -> Result<Network> {
    let network = match &args.network {
        RunNetwork::Bridge => return Ok(Network::Plugged),
        RunNetwork::None => Network::Lonely,
        RunNetwork::Host => Network::Host,
        RunNetwork::Container(name) => Network::Joined(Place::of(name)?),
    };
    if args.plug != Plug::default() {
        bail!(RunProblem::NoPort);
    }
    Ok(network)
}

/// Starts the inner process. Its standard input is our channel for now, since that needs no number to be agreed upon.
fn spawn(args: &Run, network: &Network) -> Result<(Child, Channel)> {
    let (ours, theirs) = UnixStream::pair()?;
    let setup = Setup { network: network.clone(), detach: args.detach, hide: RunDir::of_user().path().into() };
    let mut command = ourselves("run-inner", &setup)?;
    command.arg("--").args(&args.command).stdin(OwnedFd::from(theirs));
    if args.detach {
        command.stdout(Stdio::null()).stderr(Stdio::null());
    }
    let child = command.spawn().context(RunProblem::NoProcess)?;
    Ok((child, Channel(ours)))
}

/// This very program, for a hidden verb.
fn ourselves(verb: &str, argument: &impl Serialize) -> Result<Command> {
    let program = std::env::current_exe().context(RunProblem::NoVswitch)?;
    let mut command = Command::new(program);
    command.arg(verb).arg(serde_json::to_string(argument)?);
    Ok(command)
}

/// Until the program runs: what was plugged in, if anything.
fn begin(args: &Run, network: &Network, pid: i32, channel: &Channel) -> Result<Option<(Attached, NsId)>> {
    match channel.hear()? {
        Some((Said::Ready, _)) => {}
        Some((Said::Refused(refusal), _)) => return Err(refusal.into()),
        None => bail!(RunProblem::EndedAtStart),
    }
    let attached = if *network == Network::Plugged { Some(plug_in(&args.plug, pid)?) } else { None };
    let result = go(args, network, channel, attached.as_ref().map(|(attached, _)| attached));
    if let (Err(_), Some((_, ns))) = (&result, &attached) {
        unplug(*ns);
    }
    result.map(|()| attached)
}

fn go(args: &Run, network: &Network, channel: &Channel, attached: Option<&Attached>) -> Result<()> {
    let gateway = match network {
        Network::Plugged => attached.map(|attached| attached.lease.gateway),
        Network::Joined(_) => Some(super::show::info(&mut Client::connect()?)?.gateway),
        Network::Lonely | Network::Host => None,
    };
    let resolv_conf = gateway.map(resolv_conf);
    let null = File::open("/dev/null")?;
    let stdin = std::io::stdin();
    let input = if args.detach { null.as_fd() } else { stdin.as_fd() };
    channel.say(&Go { resolv_conf }, &[input])?;
    match channel.hear()? {
        // It runs, or a signal killed it before: its exit status tells.
        None | Some((Said::Ready, _)) => Ok(()),
        Some((Said::Refused(refusal), _)) => Err(refusal.into()),
    }
}

/// The container's /etc/resolv.conf: the gateway answers for names, whatever the uplink.
fn resolv_conf(gateway: Ipv4Addr) -> String {
    ResolvConf::of_host(Path::new(FILE)).for_container(gateway)
}

fn plug_in(args: &Plug, pid: i32) -> Result<(Attached, NsId)> {
    let namespace = Namespace::open(&NsSpec::Pid(pid))?;
    let mut wanted = attach::reserve(args, &namespace)?;
    if let Reach::Process { run, .. } = &mut wanted.reach {
        *run = true;
    }
    let ns = wanted.ns;
    let mut command = ourselves("run-plug", &Order { pid, wanted, rung: args.offload_rung })?;
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context(RunProblem::NotAgain)?;
    match serde_json::from_slice(&output.stdout).context(RunProblem::Interrupted)? {
        Answer::Ok(attached) => Ok((serde_json::from_value(attached)?, ns)),
        Answer::Error(why) => bail!(why),
    }
}

/// What the plugging process does.
pub fn plug(order: &str) -> Result<()> {
    // The outer one's are blocked, and a daemon that is started here would inherit that.
    SigSet::empty().thread_set_mask()?;
    let order: Order = serde_json::from_str(order)?;
    let plugged = Namespace::open(&NsSpec::Pid(order.pid)).map_err(Into::into).and_then(|namespace| {
        let id = namespace.id();
        if (NsId { dev: id.dev, ino: id.ino }) != order.wanted.ns {
            bail!(RunProblem::Ended);
        }
        attach::plug(&namespace, &order.wanted, order.rung)
    });
    let answer = match plugged {
        Ok(attached) => Answer::Ok(serde_json::to_value(attached)?),
        Err(error) => Answer::Error(errors::line(&error)),
    };
    print::json(&answer)
}

/// Waits for the program's end and passes signals on.
fn wait(child: &mut Child, signals: &SignalFd) -> Result<ExitStatus> {
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    let ended = process::pidfd_open(pid.as_raw())?;
    loop {
        let mut fds = [PollFd::new(ended.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [ended, signalled] = fds.map(|fd| fd.any().unwrap_or(false));
        if ended {
            return Ok(child.wait()?);
        }
        if signalled && let Some(info) = signals.read_signal()? {
            // What the terminal sends comes from the kernel, and the program, in the same foreground group, has it too.
            let is_from_process = info.ssi_code <= 0;
            if let (true, Ok(signal)) = (is_from_process, Signal::try_from(info.ssi_signo.cast_signed())) {
                let _ = kill(pid, signal);
            }
        }
    }
}

/// Waits until the port is gone, which the daemon may have closed already. It may have ended, too.
fn unplug(ns: NsId) {
    if let Ok(mut client) = Client::connect() {
        // No name is empty.
        let _ = client.ask::<()>(Verb::Detach { name: String::new(), ns: Some(ns) }, &[]);
    }
}
