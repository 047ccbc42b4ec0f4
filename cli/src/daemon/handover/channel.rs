//! The line between two daemons: messages and fds, and what its end or its silence means.
use super::Message;
use crate::errors::{self, HandoverProblem};
use crate::rundir::Other;
use anyhow::{Context, Result};
use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use vswitch_io::sys::scm;

/// How long each step of the other side may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Octets of a message at the most: the counters of 4,095 ports.
const MESSAGE_OCTETS: usize = 16 << 20;
/// Octets read at a time.
const CHUNK: usize = 64 << 10;
/// The line between the two.
pub struct Channel {
    stream: UnixStream,
    inbox: Vec<u8>,
    fds: VecDeque<OwnedFd>,
    /// The process at the other end, where that is known.
    pub(super) other: Option<Other>,
}

/// How a step failed, for what follows from it.
pub(super) enum Silence {
    /// The other side is gone.
    Gone,
    /// It says nothing for [`PATIENCE`].
    Late(std::io::Error),
    Failed(anyhow::Error),
}

impl From<Silence> for anyhow::Error {
    fn from(silence: Silence) -> Self {
        match silence {
            Silence::Gone => HandoverProblem::Gone.into(),
            Silence::Late(error) => HandoverProblem::Silent { seconds: PATIENCE.as_secs(), error }.into(),
            Silence::Failed(error) => error,
        }
    }
}

impl Channel {
    pub fn new(fd: OwnedFd) -> Result<Self> {
        let stream = UnixStream::from(fd);
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, inbox: Vec::new(), fds: VecDeque::new(), other: None })
    }

    pub(super) fn send(&self, message: &Message, mut fds: &[BorrowedFd<'_>]) -> Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let mut sent = 0;
        while let Some(rest) = line.get(sent..).filter(|rest| !rest.is_empty()) {
            sent += scm::send(&self.stream, rest, fds).context(HandoverProblem::Deaf)?;
            fds = &[];
        }
        Ok(())
    }

    pub(super) fn receive(&mut self) -> Result<Message, Silence> {
        let failed = |error: anyhow::Error| Silence::Failed(error);
        let mut searched = 0;
        loop {
            if let Some(end) = self.inbox.iter().skip(searched).position(|octet| *octet == b'\n') {
                let line: Vec<u8> = self.inbox.drain(..=searched + end).collect();
                let message = serde_json::from_slice(&line).context(HandoverProblem::NotUnderstood);
                let message = message.map_err(failed)?;
                return if let Message::Abort { why } = message {
                    Err(failed(HandoverProblem::Abort { why }.into()))
                } else {
                    Ok(message)
                };
            }
            searched = self.inbox.len();
            if searched > MESSAGE_OCTETS {
                return Err(failed(HandoverProblem::TooMuch.into()));
            }
            let mut chunk = vec![0; CHUNK];
            match scm::recv(&self.stream, &mut chunk, scm::MAX_FDS) {
                Ok(received) if received.bytes == 0 => return Err(self.ended()),
                Ok(received) => {
                    self.inbox.extend_from_slice(chunk.get(..received.bytes).unwrap_or_default());
                    self.fds.extend(received.fds);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Err(self.ended()),
                Err(error) => return Err(Silence::Late(error)),
            }
        }
    }

    /// What the channel's end means. Two daemons may not read the same ports: one that lives still does.
    fn ended(&self) -> Silence {
        match &self.other {
            Some(other) if !other.is_gone() => Silence::Failed(HandoverProblem::Left.into()),
            Some(_) | None => Silence::Gone,
        }
    }

    pub(super) fn one_fd(&mut self) -> Result<OwnedFd> {
        self.fds.pop_front().context(HandoverProblem::NoFds)
    }

    pub(super) fn two_fds(&mut self) -> Result<(OwnedFd, OwnedFd)> {
        self.fds.pop_front().zip(self.fds.pop_front()).context(HandoverProblem::NoFds)
    }

    /// The new one has signed the lock.
    pub fn end(self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    pub(super) fn abort(&self, error: &anyhow::Error) {
        let _ = self.send(&Message::Abort { why: errors::line(error) }, &[]);
    }
}
