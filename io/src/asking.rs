//! The host's resolvers: a connected socket a query, so that nobody else can answer (RFC 5452 9).
//!
//! Theory. What is asked of whom, and what is believed, is decided in [`vswitch_nat::dns`]; here are the sockets, each under its query's slot: a
//! datagram socket, or for what came by TCP a connection. They are the host's own whatever the uplink.
mod talk;

use crate::sys::socket;
use crate::uplink::fit::Fitter;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::Socket;
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use talk::Talk;
use vswitch_nat::Gateway;
use vswitch_nat::dns::queries::{Answered, Ask, Client};
use vswitch_nat::slirp::wire::{udp_headers, write_udp};
use vswitch_switch::{FrameBuf, FramePool, Time};

/// Answers that are looked at in one turn: most are to no query of ours then.
const ANSWERS_PER_TURN: usize = 64;
/// Where tokens begin: above those of the socket uplink.
const TOKENS: usize = 4 << 28;
/// Slots behind it.
const SLOTS: usize = (1 << 28) - 1;
/// Octets of an answer at the most: what a datagram holds.
const LONGEST: usize = 65_507;

/// See the module's theory.
#[derive(Debug)]
pub struct Asking {
    registry: Registry,
    sockets: Vec<Option<Line>>,
    /// Slots whose socket may have something.
    ready: VecDeque<u32>,
    fitter: Fitter,
    /// Changes of the stations at the last look.
    changes: u64,
    /// Whose turn it was.
    streams_first: bool,
}

/// A query's socket.
#[derive(Debug)]
enum Line {
    Datagrams(Socket),
    Stream(Box<Talk>),
}

/// What a socket had.
enum Came {
    Octets(usize),
    Nothing,
    /// The resolver refuses, or cannot be reached.
    Failed,
}

impl Asking {
    /// No socket yet; they will be waited for with `registry`.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self { registry, sockets: Vec::new(), ready: VecDeque::new(), fitter: Fitter::default(), changes: 0, streams_first: false }
    }

    /// Whether a token is one of ours.
    #[must_use]
    pub const fn is_token(token: Token) -> bool {
        token.0 >= TOKENS && token.0 < TOKENS + SLOTS
    }

    /// Whether a turn would do something.
    #[must_use]
    pub fn has_work(&self, gateway: &Gateway) -> bool {
        !self.ready.is_empty() || self.fitter.has_work() || gateway.names.has_work()
    }

    /// A socket has something.
    pub fn event(&mut self, token: Token) {
        let slot = (token.0 & SLOTS) as u32;
        if !self.ready.contains(&slot) {
            self.ready.push_back(slot);
        }
    }

    fn close(&mut self, slot: u32) {
        if let Some(place) = self.sockets.get_mut(slot as usize) {
            *place = None;
        }
    }

    /// Asks the next resolver that can be asked.
    fn ask(&mut self, gateway: &mut Gateway, slot: u32, now: Time) {
        self.close(slot);
        while let Some(ask) = gateway.names.next(slot, now) {
            let Ok(line) = self.open(ask, Token(TOKENS + slot as usize)) else { continue };
            let index = slot as usize;
            if self.sockets.len() <= index {
                self.sockets.resize_with(index + 1, || None);
            }
            if let Some(place) = self.sockets.get_mut(index) {
                *place = Some(line);
            }
            return;
        }
    }

    fn open(&self, ask: Ask<'_>, token: Token) -> io::Result<Line> {
        let wait = |socket: &Socket, interest| self.registry.register(&mut SourceFd(&socket.as_raw_fd()), token, interest);
        if ask.by_tcp {
            let talk = Talk::new(ask.resolver, ask.message)?;
            wait(&talk.socket, Interest::READABLE | Interest::WRITABLE)?;
            return Ok(Line::Stream(Box::new(talk)));
        }
        let socket = socket::connect_datagrams(ask.resolver)?;
        socket.send(ask.message)?;
        wait(&socket, Interest::READABLE)?;
        Ok(Line::Datagrams(socket))
    }

    /// The next answer for a container; `None` when there is none now, or no buffer for it. Who comes by TCP and who by UDP are served in turns.
    pub fn poll(&mut self, gateway: &mut Gateway, pool: &mut FramePool, now: Time) -> Option<FrameBuf> {
        self.streams_first = !self.streams_first;
        if self.streams_first {
            gateway.poll_streams(pool, now).or_else(|| self.poll_datagrams(gateway, pool, now))
        } else {
            self.poll_datagrams(gateway, pool, now).or_else(|| gateway.poll_streams(pool, now))
        }
    }

    fn poll_datagrams(&mut self, gateway: &mut Gateway, pool: &mut FramePool, now: Time) -> Option<FrameBuf> {
        let changes = gateway.stations.changes();
        if std::mem::replace(&mut self.changes, changes) != changes {
            for slot in gateway.names.end(&gateway.stations) {
                self.close(slot);
            }
        }
        if let Some(frame) = self.fitter.poll(pool) {
            return Some(frame);
        }
        while let Some(slot) = gateway.names.expire(now) {
            self.ask(gateway, slot, now);
        }
        if !gateway.names.has_answers() && self.ready.is_empty() {
            return None;
        }
        let mut frame = pool.take()?;
        for _ in 0..ANSWERS_PER_TURN {
            let Some(client) = self.told(gateway, &mut frame, now).or_else(|| self.answer(gateway, &mut frame, now)) else {
                if self.ready.is_empty() && !gateway.names.has_answers() {
                    break;
                }
                continue;
            };
            if !gateway.stations.is_current(client.owner) {
                continue;
            }
            match self.fitter.fit(gateway, client.owner.port, frame, pool) {
                Ok(frame) => return Some(frame),
                Err(unfit) => frame = unfit,
            }
        }
        pool.put(frame);
        None
    }

    /// A client that is told what is known already.
    fn told(&mut self, gateway: &mut Gateway, frame: &mut FrameBuf, now: Time) -> Option<Client> {
        let (client, message) = gateway.names.poll(now)?;
        let headers = udp_headers(client.inside.is_ipv6());
        if !frame.begin(headers + message.len()) {
            return None;
        }
        frame.bytes_mut().get_mut(headers..)?.copy_from_slice(&message);
        self.write_answer(frame, &client, message.len()).then_some(client)
    }

    /// What the first socket that is ready has, if it is an answer.
    fn answer(&mut self, gateway: &mut Gateway, frame: &mut FrameBuf, now: Time) -> Option<Client> {
        let slot = *self.ready.front()?;
        // Of either family: the shorter headers leave room for the longer.
        let room = udp_headers(true);
        if !frame.begin(room + LONGEST) {
            return None;
        }
        let came = match self.sockets.get_mut(slot as usize).and_then(Option::as_mut) {
            Some(Line::Datagrams(socket)) => receive(socket, frame.bytes_mut().get_mut(room..)?),
            Some(Line::Stream(talk)) => {
                let said = talk.go();
                self.heard(gateway, slot, said, now);
                return None;
            }
            None => Came::Nothing,
        };
        match came {
            Came::Octets(len) => {
                let message = frame.bytes_mut().get_mut(room..room + len)?;
                match gateway.names.answered(slot, message, now) {
                    Answered::Ignored => None,
                    Answered::Next => {
                        self.ask(gateway, slot, now);
                        None
                    }
                    Answered::Deliver(client) => {
                        self.close(slot);
                        frame.bytes_mut().copy_within(room..room + len, udp_headers(client.inside.is_ipv6()));
                        self.write_answer(frame, &client, len).then_some(client)
                    }
                    Answered::Told => {
                        self.close(slot);
                        None
                    }
                }
            }
            Came::Nothing => {
                self.ready.pop_front();
                None
            }
            Came::Failed => {
                self.ask(gateway, slot, now);
                None
            }
        }
    }

    /// What came of a connection to a resolver.
    fn heard(&mut self, gateway: &mut Gateway, slot: u32, said: io::Result<Vec<u8>>, now: Time) {
        let answered = match said {
            Ok(mut message) => gateway.names.answered(slot, &mut message, now),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.ready.pop_front();
                return;
            }
            Err(_) => Answered::Next,
        };
        match answered {
            Answered::Told | Answered::Deliver(_) => self.close(slot),
            // Nothing better is to come of that connection.
            Answered::Next | Answered::Ignored => self.ask(gateway, slot, now),
        }
    }

    /// Writes the headers before an answer that lies behind their place.
    fn write_answer(&mut self, frame: &mut FrameBuf, client: &Client, len: usize) -> bool {
        let ip = self.fitter.cuttable();
        write_udp(frame, client.link, (client.gateway, client.inside), len, None, ip)
    }
}

fn receive(socket: &Socket, into: &mut [u8]) -> Came {
    match io::Read::read(&mut &*socket, into) {
        Ok(len) => Came::Octets(len),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Came::Nothing,
        Err(_) => Came::Failed,
    }
}
