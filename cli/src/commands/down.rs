//! `down`: ends the daemon, waits until it is gone, and removes what it leaves in the run directory.
use crate::api::client::Client;
use crate::api::types::Verb;
use crate::errors::DaemonProblem;
use crate::print;
use crate::rundir::RunDir;
use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// How long the end of a daemon may take: it closes its ports, 20 ms each, many at a time.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

pub fn run() -> Result<()> {
    let mut client = Client::connect()?;
    let info = super::show::info(&mut client)?;
    client.ask::<()>(Verb::Down, &[])?;
    client.wait_closed();
    let dir = RunDir::of_user();
    let until = Instant::now() + PATIENCE;
    while dir.is_locked() {
        if Instant::now() > until {
            bail!(DaemonProblem::NotEnded { pid: info.pid, seconds: PATIENCE.as_secs(), log: dir.log() });
        }
        std::thread::sleep(LOOK);
    }
    // The service manager's socket and directory are its own.
    if !info.activated
        && let Ok(_lock) = dir.lock()
    {
        dir.remove();
    }
    print::out(&format!("vswitch down: {} detached\n", info.containers))
}
