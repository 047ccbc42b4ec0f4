//! `events`: what happens, a line each, until interrupted. Where the daemon ends and another takes over, it goes on with that one.
use crate::api::client::Client;
use crate::api::events::{Event, EventKind};
use crate::api::types::Verb;
use crate::print;
use anyhow::Result;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long another daemon may take to take over.
const SUCCESSOR: Duration = Duration::from_secs(3);
/// Between two looks for it.
const LOOK: Duration = Duration::from_millis(20);

enum Ended {
    /// Nobody reads what we print.
    Reader,
    Daemon,
}

pub fn run(name: Option<&str>, json: bool) -> Result<()> {
    let subscribe = || -> Result<Client> {
        let mut client = Client::connect()?;
        client.ask::<()>(Verb::Events { name: name.map(Into::into) }, &[])?;
        Ok(client)
    };
    let mut client = subscribe()?;
    // Nobody need read that.
    let _ = writeln!(std::io::stderr(), "listening, ^C ends it");
    loop {
        match follow(&mut client, json)? {
            Ended::Reader => return Ok(()),
            Ended::Daemon => {}
        }
        client = successor(subscribe).ok_or_else(|| client.ended())?;
        say(&Event { reason: Some("another daemon took over".into()), ..Event::new(EventKind::Restart) }, json)?;
    }
}

fn follow(client: &mut Client, json: bool) -> Result<Ended> {
    let stdout = std::io::stdout();
    loop {
        if !client.has_read_ahead() {
            // Errors of a pipe come unasked: its reader is gone.
            let mut fds = [PollFd::new(client.fd(), PollFlags::POLLIN), PollFd::new(stdout.as_fd(), PollFlags::empty())];
            while matches!(poll(&mut fds, PollTimeout::NONE), Err(Errno::EINTR)) {}
            let [_, reader] = fds.map(|fd| fd.any().unwrap_or(true));
            if reader {
                return Ok(Ended::Reader);
            }
        }
        match client.next_answer::<Event>()? {
            Some(event) => say(&event, json)?,
            None => return Ok(Ended::Daemon),
        }
    }
}

fn successor(subscribe: impl Fn() -> Result<Client>) -> Option<Client> {
    let until = Instant::now() + SUCCESSOR;
    while Instant::now() < until {
        if let Ok(client) = subscribe() {
            return Some(client);
        }
        std::thread::sleep(LOOK);
    }
    None
}

fn say(event: &Event, json: bool) -> Result<()> {
    let line = if json { serde_json::to_string(event)? } else { event.to_string() };
    print::out(&(line + "\n"))
}
