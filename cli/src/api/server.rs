//! The daemon's end of the control protocol: connections, lines, fds, deadlines. What a request means is not known here.
//!
//! A peer in a user namespace below the daemon's may only attach: see [`super::peer`].
//!
//! Nothing waits for a peer. A connection has one request under way; what it sends meanwhile waits in its buffer and the socket's. It ends
//! with an error in one line when it is another user's, when a request is longer than [`REQUEST_BYTES`], is no JSON or of another
//! version, brings too many fds, or is not complete in time. A peer that does not read its answer is closed.
use super::peer::{IdMaps, Power};
use super::types::{Answer, REQUEST_BYTES, REQUEST_FDS, Request, VERSION, Verb};
use crate::errors::ProtocolProblem;
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use serde_json::Value;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use vswitch_io::sys::scm;

/// Connections at the most.
pub const CONNECTIONS: usize = 64;
/// How long a peer may take for its next request, and for reading an answer.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Connections taken at a time.
const ACCEPTS: usize = 16;
/// Octets read at a time.
const CHUNK: usize = 16 << 10;

/// A connection; its number is used again, the serial is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    slot: usize,
    serial: u64,
}

struct Connection {
    serial: u64,
    power: Power,
    stream: UnixStream,
    inbox: Vec<u8>,
    fds: Vec<OwnedFd>,
    outbox: Vec<u8>,
    /// A request is under way.
    busy: bool,
    /// The peer sends no more.
    eof: bool,
    /// To be closed once the outbox is empty.
    closing: bool,
    patience: Option<Duration>,
    deadline: Option<Instant>,
    /// Its last answer, or its begin.
    since: Instant,
}

/// All connections.
pub struct Server {
    listener: UnixListener,
    /// Who may use it, beside root.
    owner: u32,
    own_maps: IdMaps,
    first_token: usize,
    slots: Vec<Option<Connection>>,
    serial: u64,
    turn: usize,
    closed: Vec<ConnectionId>,
}

impl Server {
    /// Tokens `listener` and [`CONNECTIONS`] from `first_token` on are its own.
    pub fn new(
        listener: std::os::unix::net::UnixListener,
        owner: u32,
        registry: &Registry,
        token: Token,
        first_token: usize,
    ) -> std::io::Result<Self> {
        let mut listener = UnixListener::from_std(listener);
        registry.register(&mut listener, token, Interest::READABLE)?;
        let slots = (0..CONNECTIONS).map(|_| None).collect();
        let own_maps = IdMaps::own()?;
        Ok(Self { listener, owner, own_maps, first_token, slots, serial: 0, turn: 0, closed: Vec::new() })
    }

    /// For another process to listen on.
    pub fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Takes new connections; says whether there may be more.
    pub fn accept(&mut self, registry: &Registry, now: Instant) -> bool {
        for _ in 0..ACCEPTS {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(stream, registry, now),
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) => {
                    tracing::warn!("cannot take a connection: {error}");
                    return false;
                }
            }
        }
        true
    }

    fn admit(&mut self, mut stream: UnixStream, registry: &Registry, now: Instant) {
        let refuse = |mut stream: UnixStream, why: ProtocolProblem| {
            let _ = stream.write_all(&line(&Answer::Error(why.to_string())));
        };
        let power = match scm::peer(&stream) {
            Ok(peer) if peer.uid == self.owner || peer.uid == 0 => self.own_maps.power_of(&stream, &peer),
            Ok(peer) => {
                tracing::warn!("refused a connection of uid {}", peer.uid);
                return refuse(stream, ProtocolProblem::OfOther { owner: self.owner });
            }
            Err(error) => return refuse(stream, ProtocolProblem::Nobody { error }),
        };
        let Some(slot) = self.slots.iter().position(Option::is_none) else {
            return refuse(stream, ProtocolProblem::Connections);
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = registry.register(&mut stream, Token(self.first_token + slot), interest) {
            return refuse(stream, ProtocolProblem::NoWait { error });
        }
        self.serial += 1;
        self.slots[slot] = Some(Connection {
            serial: self.serial,
            power,
            stream,
            inbox: Vec::new(),
            fds: Vec::new(),
            outbox: Vec::new(),
            busy: false,
            eof: false,
            closing: false,
            patience: Some(PATIENCE),
            deadline: Some(now + PATIENCE),
            since: now,
        });
    }

    /// Reads and writes what a connection is ready for; false where the token is none of a connection's.
    pub fn ready(&mut self, token: Token) -> bool {
        let Some(slot) = token.0.checked_sub(self.first_token).filter(|slot| *slot < CONNECTIONS) else { return false };
        if let Some(Some(connection)) = self.slots.get_mut(slot) {
            connection.read();
            connection.write();
        }
        true
    }

    /// The next request that is complete; connections take turns.
    pub fn next_request(&mut self) -> Option<(ConnectionId, Verb, Vec<OwnedFd>)> {
        for _ in 0..CONNECTIONS {
            let slot = self.turn;
            self.turn = (self.turn + 1) % CONNECTIONS;
            if let Some(Some(connection)) = self.slots.get_mut(slot)
                && let Some((verb, fds)) = connection.next_request()
            {
                return Some((ConnectionId { slot, serial: connection.serial }, verb, fds));
            }
        }
        None
    }

    fn get(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slots.get_mut(id.slot)?.as_mut().filter(|connection| connection.serial == id.serial)
    }

    /// Answers the request under way.
    pub fn answer(&mut self, id: ConnectionId, answer: &Answer, now: Instant) {
        if let Some(connection) = self.get(id) {
            connection.busy = false;
            connection.since = now;
            connection.deadline = connection.patience.map(|patience| now + patience);
            connection.outbox.extend_from_slice(&line(answer));
            connection.write();
            // What came meanwhile gave its event already.
            connection.read();
        }
    }

    /// Sends what was not asked for; false, and nothing is sent, when it would have more than `limit` octets wait.
    pub fn push(&mut self, id: ConnectionId, answer: &Answer, limit: usize) -> bool {
        let Some(connection) = self.get(id) else { return false };
        let line = line(answer);
        let fits = !connection.closing && connection.outbox.len() + line.len() <= limit;
        if fits {
            connection.outbox.extend_from_slice(&line);
            connection.write();
        }
        fits
    }

    /// How long the peer may take from its next answer on; None: as long as it likes.
    pub fn set_patience(&mut self, id: ConnectionId, patience: Option<Duration>) {
        if let Some(connection) = self.get(id) {
            connection.patience = patience;
        }
    }

    /// Closes a connection once its answer is written.
    pub fn close(&mut self, id: ConnectionId) {
        if let Some(connection) = self.get(id) {
            connection.closing = true;
        }
    }

    /// Connections there are.
    pub fn len(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Connections that are in the middle of something, or were so within `pause`: their next request may be on its way.
    pub fn active(&self, pause: Duration, now: Instant) -> impl Iterator<Item = ConnectionId> {
        let is_idle = move |connection: &Connection| {
            let Connection { busy, inbox, outbox, since, .. } = connection;
            !busy && inbox.is_empty() && outbox.is_empty() && now.saturating_duration_since(*since) >= pause
        };
        self.slots.iter().enumerate().filter_map(move |(slot, connection)| {
            let connection = connection.as_ref().filter(|connection| !is_idle(connection))?;
            Some(ConnectionId { slot, serial: connection.serial })
        })
    }

    /// When [`Server::sweep`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.slots.iter().flatten().filter(|connection| !connection.busy).filter_map(|connection| connection.deadline).min()
    }

    /// Closes what has ended or is too slow, and says which.
    pub fn sweep(&mut self, now: Instant) -> Vec<ConnectionId> {
        for slot in 0..self.slots.len() {
            let Some(Some(connection)) = self.slots.get_mut(slot) else { continue };
            let late = !connection.busy && connection.deadline.is_some_and(|deadline| deadline <= now);
            if late && connection.outbox.is_empty() && !connection.closing {
                connection.fail(&ProtocolProblem::Late);
            }
            let done = !connection.busy && (connection.eof || connection.closing) && connection.outbox.is_empty();
            if late || done {
                self.closed.push(ConnectionId { slot, serial: connection.serial });
                self.slots[slot] = None;
            }
        }
        std::mem::take(&mut self.closed)
    }
}

fn line(answer: &Answer) -> Vec<u8> {
    let mut line =
        serde_json::to_vec(answer).unwrap_or_else(|_| br#"{"error":"the answer cannot be written: report it"}"#.to_vec());
    line.push(b'\n');
    line
}

impl Connection {
    fn read(&mut self) {
        let mut chunk = [0; CHUNK];
        // A request too many waits in the socket until the one under way is answered.
        while !self.eof && !self.closing && self.inbox.len() <= REQUEST_BYTES {
            match scm::recv(&self.stream, &mut chunk, REQUEST_FDS) {
                Ok(received) if received.bytes == 0 => self.eof = true,
                Ok(received) => {
                    self.inbox.extend_from_slice(chunk.get(..received.bytes).unwrap_or_default());
                    self.fds.extend(received.fds);
                    if self.fds.len() > REQUEST_FDS {
                        return self.fail(&ProtocolProblem::Fds);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    return self.fail(&ProtocolProblem::LostFds { error });
                }
                Err(_) => {
                    self.eof = true;
                    self.outbox.clear();
                }
            }
        }
    }

    fn write(&mut self) {
        while !self.outbox.is_empty() {
            match self.stream.write(&self.outbox) {
                Ok(n) => drop(self.outbox.drain(..n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.eof = true;
                    self.outbox.clear();
                }
            }
        }
    }

    fn fail(&mut self, why: &ProtocolProblem) {
        self.outbox.extend_from_slice(&line(&Answer::Error(why.to_string().replace('\n', " "))));
        self.closing = true;
        self.busy = false;
        self.deadline = Some(Instant::now() + PATIENCE);
        self.fds.clear();
        self.inbox.clear();
        self.write();
    }

    fn next_request(&mut self) -> Option<(Verb, Vec<OwnedFd>)> {
        if self.busy || self.closing {
            return None;
        }
        let Some(end) = self.inbox.iter().take(REQUEST_BYTES).position(|octet| *octet == b'\n') else {
            if self.inbox.len() >= REQUEST_BYTES {
                self.fail(&ProtocolProblem::TooLong);
            } else if self.eof && !self.inbox.is_empty() {
                self.fail(&ProtocolProblem::NotComplete);
            }
            return None;
        };
        let request: Vec<u8> = self.inbox.drain(..=end).collect();
        match parse(&request) {
            Ok(verb) => {
                if let Err(why) = self.power.permit(&verb) {
                    self.fail(&why);
                    return None;
                }
                self.busy = true;
                Some((verb, std::mem::take(&mut self.fds)))
            }
            Err(why) => {
                self.fail(&why);
                None
            }
        }
    }
}

/// The version is judged first: what another version means by the rest is unknown.
fn parse(request: &[u8]) -> Result<Verb, ProtocolProblem> {
    let value: Value = serde_json::from_slice(request).map_err(|error| ProtocolProblem::NoJson { error })?;
    match value.get("version").and_then(Value::as_u64) {
        None => return Err(ProtocolProblem::NoVersion),
        Some(version) if version == u64::from(VERSION) => {}
        Some(version) => return Err(ProtocolProblem::OtherVersion { ours: env!("CARGO_PKG_VERSION"), version }),
    }
    let request: Request = serde_json::from_value(value).map_err(|error| ProtocolProblem::NotUnderstood { error })?;
    Ok(request.verb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_parsed_with_care() {
        assert!(matches!(parse(br#"{"version":3,"verb":"info"}"#), Ok(Verb::Info)));
        for (request, part) in [
            (&b"\xff\n"[..], "no JSON"),
            (b"[]", "no version"),
            (br#"{"version":"1","verb":"info"}"#, "no version"),
            (br#"{"version":9,"verb":"new-one"}"#, "protocol 3, not 9"),
            (br#"{"version":3,"verb":"new-one"}"#, "not understood"),
            (br#"{"version":3,"verb":"fdb","cursor":-1}"#, "not understood"),
        ] {
            let error = parse(request).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(": ") && !error.contains('\n'), "{error}");
        }
        // Depth is bounded by serde_json.
        assert!(parse(&b"[".repeat(REQUEST_BYTES)).is_err());
    }
}
