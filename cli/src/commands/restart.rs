//! `restart`: starts a new daemon, which takes everything over from the running one. What is attached keeps its interface and its
//! connections; frames wait in the kernel meanwhile. If the new one does not come up, the old one goes on.
//!
//! If the old one is killed amid that, the new one goes on with what it was given, and what it was not given is attached again, by the
//! state file. If no daemon is left, everything is: then this is `restore`.
use super::{restore, show, up};
use crate::api::client::Client;
use crate::api::types::{Info, Verb};
use crate::errors::{self, DaemonProblem};
use crate::print;
use crate::rundir::{Other, RunDir};
use crate::state::State;
use anyhow::{Context, Result, bail};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long a daemon that closed its connections may take to begin its end.
const END: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

pub fn run() -> Result<()> {
    let mut client = Client::connect()?;
    let old = show::info(&mut client)?;
    let own = nix::unistd::geteuid().as_raw();
    if own != old.owner {
        bail!(DaemonProblem::OfOther { owner: old.owner });
    }
    let running = Other::of_pid(i32::try_from(old.pid)?).context(DaemonProblem::HasEnded)?;
    let (theirs, ours) = UnixStream::pair()?;
    let new = up::Starting::new(&["--take-over".into()], OwnedFd::from(ours).into())?;
    let mut left = None;
    if let Err(error) = client.ask::<()>(Verb::HandOver, &[theirs.as_fd()]) {
        if !(errors::is_closed(&error) || errors::is_no_daemon(&error)) || !goes(&running) {
            new.kill();
            match Client::connect().and_then(|mut client| show::info(&mut client)) {
                Ok(info) => bail!(DaemonProblem::GoesOn { why: errors::line(&error), pid: info.pid }),
                Err(_) => return Err(error),
            }
        }
        print::note("the daemon that ran was killed meanwhile");
        // Nobody else writes it now: the new daemon waits for the end of the channel, which is open here too.
        left = State::read(&RunDir::of_user()).unwrap_or_else(|error| {
            print::note(&format!("vswitch restart: {}", errors::line(&error)));
            None
        });
    }
    drop(theirs);
    let gap = match new.wait() {
        Ok(gap) => gap,
        Err(error) => return start_again(&running, left, error),
    };
    let new = if let Some(state) = left { attach_the_rest(&running, state)? } else { show::info(&mut Client::connect()?)? };
    let gap = gap.parse::<f64>().map_or_else(|_| String::new(), |gap| format!(", no frame read for {:.1} ms", gap / 1e3));
    print::out(&format!(
        "vswitch restart: {} ({}) -> {} ({}), {} attached{gap}\n",
        old.version, old.pid, new.version, new.pid, new.containers
    ))
}

/// Whether a daemon that closed the connection has ended, or is about to.
fn goes(daemon: &Other) -> bool {
    let until = Instant::now() + END;
    while !daemon.is_gone() {
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    true
}

/// The new daemon did not come up. Unless the old one goes on, nobody is there.
fn start_again(old: &Other, left: Option<State>, error: anyhow::Error) -> Result<()> {
    if !goes(old) || !old.await_end() {
        return Err(error);
    }
    let Some(state) = left.map_or_else(|| State::read(&RunDir::of_user()), |state| Ok(Some(state)))? else {
        return Err(error);
    };
    print::note(&format!(
        "the new daemon did not come up ({error:#}), the old one has ended: starting another, and attaching again"
    ));
    restore::restore(&state)
}

/// Attaches again what a daemon that was killed had and could not pass on.
fn attach_the_rest(old: &Other, state: State) -> Result<Info> {
    let given = show::containers(&mut Client::connect()?)?;
    let is_given = |name: &str| given.iter().any(|container| container.name == name);
    let rest: Vec<_> = state.containers.iter().filter(|container| !is_given(&container.name)).cloned().collect();
    let mut attached = Ok(());
    if !rest.is_empty() {
        // Until then the interfaces of its ports are in the way.
        old.await_end();
        print::note(&format!("{} of its ports came with it, attaching {} again", given.len(), rest.len()));
        attached = restore::attach_again(&rest);
    }
    restore::outside_again(&state)?;
    attached?;
    show::info(&mut Client::connect()?)
}
