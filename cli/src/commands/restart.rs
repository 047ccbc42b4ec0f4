//! `restart`: starts a new daemon, which takes everything over from the running one. What is attached keeps its interface and its
//! connections; frames wait in the kernel meanwhile. If the new one does not come up, the old one goes on.
use super::{show, up};
use crate::api::client::Client;
use crate::api::types::Verb;
use crate::{errors, print};
use anyhow::{Result, bail};
use nix::poll::{PollFd, PollFlags, poll};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use vswitch_io::sys::process;

/// How long a daemon that closed its connections may take to end, ms.
const END: u16 = 30_000;

pub fn run() -> Result<()> {
    let mut client = Client::connect()?;
    let old = show::info(&mut client)?;
    let own = nix::unistd::geteuid().as_raw();
    if own != old.owner {
        bail!("the daemon was started by uid {}: restart it as that user", old.owner);
    }
    let running = process::pidfd_open(i32::try_from(old.pid)?)?;
    let (theirs, ours) = UnixStream::pair()?;
    let new = up::Starting::new(&["--take-over".into()], OwnedFd::from(ours).into())?;
    if let Err(error) = client.ask::<()>(Verb::HandOver, &[theirs.as_fd()]) {
        // Killed in the middle of it? Then the new one goes on alone, with what it was given.
        let closed = errors::is_closed(&error) || errors::is_no_daemon(&error);
        let mut fds = [PollFd::new(running.as_fd(), PollFlags::POLLIN)];
        if !closed || poll(&mut fds, END).unwrap_or(0) == 0 {
            new.kill();
            bail!("{error:#}; pid {} goes on", old.pid);
        }
        print::note("the daemon that ran was killed meanwhile");
    }
    drop(theirs);
    let gap = new.wait()?;
    let new = show::info(&mut Client::connect()?)?;
    let gap = gap.parse::<f64>().map_or_else(|_| String::new(), |gap| format!(", no frame read for {:.1} ms", gap / 1e3));
    print::out(&format!(
        "vswitch restart: {} ({}) -> {} ({}), {} attached{gap}\n",
        old.version, old.pid, new.version, new.pid, new.containers
    ))
}
