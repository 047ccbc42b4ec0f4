//! The command line's end of the control protocol.
use super::types::{Answer, Request, VERSION, Verb};
use crate::errors::{self, DaemonProblem};
use crate::rundir::{self, RunDir};
use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use vswitch_io::sys::scm;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// How often a first request is sent again that a daemon did not read which was restarted just then.
const RETRIES: usize = 8;
/// Between two of them.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// A connection to the daemon.
pub struct Client {
    stream: BufReader<UnixStream>,
    dir: RunDir,
    /// Whether anything was answered on this connection.
    answered: bool,
}

impl Client {
    /// The user's daemon, if it runs.
    pub fn connect() -> Result<Self> {
        Self::connect_to(&RunDir::of_user())
    }

    /// The daemon of a run directory, if it runs.
    pub fn connect_to(dir: &RunDir) -> Result<Self> {
        if dir.is_ending() {
            bail!(DaemonProblem::Ending);
        }
        match UnixStream::connect(dir.socket()) {
            Ok(stream) => {
                stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
                stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
                Ok(Self { stream: BufReader::new(stream), dir: dir.clone(), answered: false })
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                let system = Path::new(rundir::SYSTEM);
                let user = user_name();
                if dir.path() != system && RunDir::at(system.into()).is_locked() {
                    bail!(DaemonProblem::OfRoot { user });
                }
                bail!(DaemonProblem::NoDaemon { user, socket: dir.socket() })
            }
            Err(error) => bail!(DaemonProblem::Unreachable { socket: dir.socket(), error }),
        }
    }

    /// One request and its answer.
    pub fn ask<T: DeserializeOwned>(&mut self, verb: Verb, fds: &[BorrowedFd<'_>]) -> Result<T> {
        let mut line = serde_json::to_vec(&Request { version: VERSION, verb })?;
        line.push(b'\n');
        for _ in 0..RETRIES {
            match self.send(&line, fds).and_then(|()| self.answer()) {
                // A daemon that is restarted answers what it has read; the first request on a connection it may not have read.
                Err(error) if errors::is_closed(&error) && !self.answered => {
                    std::thread::sleep(RETRY_PAUSE);
                    *self = Self::connect_to(&self.dir)?;
                }
                result => return result,
            }
        }
        self.send(&line, fds)?;
        self.answer()
    }

    fn send(&self, line: &[u8], mut fds: &[BorrowedFd<'_>]) -> Result<()> {
        let mut sent = 0;
        while let Some(rest) = line.get(sent..).filter(|rest| !rest.is_empty()) {
            match scm::send(self.stream.get_ref(), rest, fds) {
                Ok(n) => sent += n,
                // It may have said why before it closed.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Err(self.closed()),
                Err(error) => bail!(DaemonProblem::NotAsked { error, log: self.dir.log() }),
            }
            fds = &[];
        }
        Ok(())
    }

    /// The next answer.
    pub fn answer<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut answer = String::new();
        match self.stream.read_line(&mut answer) {
            Ok(0) => return Err(self.closed()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Err(self.closed()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                bail!(DaemonProblem::Silent { seconds: ANSWER_TIMEOUT.as_secs(), log: self.dir.log() })
            }
            Err(error) => bail!(DaemonProblem::Unreadable { error, log: self.dir.log() }),
        }
        self.answered = true;
        let answer = serde_json::from_str(&answer).context(DaemonProblem::NotUnderstood)?;
        match answer {
            Answer::Ok(value) => serde_json::from_value(value).context(DaemonProblem::OtherVersion),
            Answer::Error(text) => bail!(text),
        }
    }

    /// The next of answers that come unasked, however long that takes; None at the connection's end.
    pub fn next_answer<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        self.stream.get_ref().set_read_timeout(None)?;
        match self.stream.fill_buf() {
            Ok([]) => Ok(None),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(None),
            Ok(_) | Err(_) => self.answer().map(Some),
        }
    }

    /// Whether something was read already that [`Client::fd`] says nothing of.
    pub fn has_read_ahead(&self) -> bool {
        !self.stream.buffer().is_empty()
    }

    fn closed(&self) -> anyhow::Error {
        let log = self.dir.log();
        if self.dir.is_locked() && !self.dir.is_ending() { DaemonProblem::Closed { log }.into() } else { self.ended().into() }
    }

    /// What to say when the daemon ended in the middle of something.
    pub fn ended(&self) -> DaemonProblem {
        DaemonProblem::Ended { log: self.dir.log() }
    }

    /// All pages of a list.
    pub fn pages<Row: DeserializeOwned, Cursor: DeserializeOwned>(
        &mut self,
        mut ask: impl FnMut(Option<Cursor>) -> Verb,
    ) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let mut cursor = None;
        loop {
            let mut page: super::types::Page<Row, Cursor> = self.ask(ask(cursor), &[])?;
            rows.append(&mut page.rows);
            cursor = page.next;
            if cursor.is_none() {
                return Ok(rows);
            }
        }
    }

    /// Waits until the daemon closes the connection, for the time that an answer may take.
    pub fn wait_closed(&mut self) {
        let mut rest = String::new();
        while matches!(self.stream.read_line(&mut rest), Ok(n) if n > 0) {}
    }

    /// To wait for an answer beside other things.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.get_ref().as_fd()
    }
}

/// The name of who runs this.
pub fn user_name() -> String {
    vswitch_io::sys::users::name_of(nix::unistd::geteuid().as_raw())
}
