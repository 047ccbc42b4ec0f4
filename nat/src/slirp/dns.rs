//! Queries to the gateway's port 53 by UDP, which the host's resolvers answer.
//!
//! Theory. A query is passed on as it is (EDNS, cookies and all) but for its identifier, which is drawn anew for each resolver asked: beside a
//! socket of its own, and so a port that is drawn too, that is what an answer has to know (RFC 5452 9). One with another identifier or question
//! is ignored. The resolvers are asked in their order, each for [`PATIENCE`], all of them [`ROUNDS`] times (resolv.conf(5): `timeout`,
//! `attempts`); one that refuses, or cannot be reached, is passed over at once, and so is one that answers that it cannot, as long as there
//! are others. When all have failed the client is told (SERVFAIL), for whoever is not told waits. A truncated answer goes to the client, who
//! comes back by TCP.
//!
//! Queries are bounded in all ([`QUERIES`]) and by container ([`PER_CONTAINER`]). Nothing is cached, and a restart forgets queries: clients
//! ask again.
use super::wire::Link;
use crate::station::{Owner, Stations};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;
use slab::Slab;
use vswitch_switch::Time;

/// Queries that wait for an answer at the most: a socket each.
pub const QUERIES: usize = 1_024;
/// Those of one container.
pub const PER_CONTAINER: usize = 128;
/// How long one resolver is waited for.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How often each resolver is asked.
pub const ROUNDS: usize = 2;
/// Octets of a query at the most: without EDNS there are 512 (RFC 1035 4.2.1), with it seldom more.
pub const LONGEST: usize = 4_096;

/// Octets of a message's header (RFC 1035 4.1.1).
const HEADER: usize = 12;
/// Octets of a question behind its name: type and class.
const QUESTION: usize = 4;
/// Octets of a name, and of one label, at the most (RFC 1035 3.1).
const NAME: usize = 255;
const LABEL: u8 = 63;
/// Parts of the header's third octet: it is a response, what is asked for, recursion is desired.
const RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;
const RECURSION_DESIRED: u8 = 0x01;
/// Of the fourth: recursion is available; the response code.
const RECURSION_AVAILABLE: u8 = 0x80;
const CODE: u8 = 0x0f;
const SERVFAIL: u8 = 2;
const NOTIMP: u8 = 4;
const REFUSED: u8 = 5;

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Client {
    /// Whose it is.
    pub owner: Owner,
    /// Hardware addresses.
    pub link: Link,
    /// The container's end.
    pub inside: SocketAddr,
    /// The gateway's, as it was asked.
    pub gateway: SocketAddr,
}

#[derive(Debug)]
struct Query {
    client: Client,
    /// The identifier of the client's.
    original: u16,
    /// That of what was sent.
    id: u16,
    message: Vec<u8>,
    /// Where the question ends.
    end: usize,
    /// Resolvers asked.
    asked: usize,
    /// When the next is, unless all have failed.
    deadline: Option<Time>,
}

/// What a query is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// It waits under this slot; [`Queries::next`] says whom to ask.
    Ask(u32),
    /// No query.
    Malformed,
    /// The container asks too much already.
    Quota,
    /// All together do.
    Full,
}

/// What a resolver's answer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answered {
    /// Not to our query.
    Ignored,
    /// That it cannot say: the next is to be asked.
    Next,
    /// The client's, with its identifier. The query is over.
    Deliver(Client),
}

/// See the module's theory.
#[derive(Debug, Default)]
pub struct Queries {
    queries: Slab<Query>,
    deadlines: BTreeSet<(Time, u32)>,
    /// Queries by container's port.
    held: BTreeMap<u16, usize>,
    /// Those whose client is to be told.
    failed: VecDeque<u32>,
}

fn word(message: &[u8], at: usize) -> Option<u16> {
    message.get(at..)?.first_chunk().map(|octets| u16::from_be_bytes(*octets))
}

fn put_id(message: &mut [u8], id: u16) {
    if let Some(place) = message.first_chunk_mut() {
        *place = id.to_be_bytes();
    }
}

/// The two octets of flags.
fn flags(message: &[u8]) -> Option<[u8; 2]> {
    word(message, 2).map(u16::to_be_bytes)
}

/// Where the only question of a message ends (RFC 9619: there is exactly one); its name is not compressed, for nothing is before it.
fn question_end(message: &[u8]) -> Option<usize> {
    if word(message, 4)? != 1 {
        return None;
    }
    let mut at = HEADER;
    loop {
        let label = *message.get(at)?;
        if label > LABEL {
            return None;
        }
        at += 1 + usize::from(label);
        if at - HEADER > NAME {
            return None;
        }
        if label == 0 {
            break;
        }
    }
    let end = at + QUESTION;
    (end <= message.len()).then_some(end)
}

impl Query {
    /// Whether a message answers it.
    fn is_answered_by(&self, message: &[u8]) -> bool {
        let same_kind = |a: [u8; 2], b: [u8; 2]| a[0] & RESPONSE != 0 && (a[0] ^ b[0]) & OPCODE == 0;
        let is_response = matches!((flags(message), flags(&self.message)), (Some(a), Some(b)) if same_kind(a, b));
        let name_end = self.end - QUESTION;
        // Some resolvers write names in lower case (RFC 1035 2.3.3: case does not matter).
        let is_name = match (message.get(HEADER..name_end), self.message.get(HEADER..name_end)) {
            (Some(theirs), Some(ours)) => theirs.eq_ignore_ascii_case(ours),
            (None, _) | (_, None) => false,
        };
        let rest = message.get(name_end..self.end);
        word(message, 0) == Some(self.id)
            && is_response
            && question_end(message) == Some(self.end)
            && is_name
            && rest == self.message.get(name_end..self.end)
    }

    /// The answer that nobody has one.
    fn failure(&self) -> Vec<u8> {
        let mut message: Vec<u8> = self.message.get(..self.end).unwrap_or_default().to_vec();
        put_id(&mut message, self.original);
        if let Some([_, _, asks, code, _, _, counts @ ..]) = message.first_chunk_mut::<HEADER>() {
            *asks = RESPONSE | *asks & (OPCODE | RECURSION_DESIRED);
            *code = RECURSION_AVAILABLE | SERVFAIL;
            // No answer, authority nor additional record.
            *counts = [0; 6];
        }
        message
    }
}

impl Queries {
    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queries.len()
    }

    /// Whether none does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }

    /// A client's query.
    pub fn begin(&mut self, client: Client, message: &[u8]) -> Asked {
        let (Some(original), Some([asks, _]), Some(end)) = (word(message, 0), flags(message), question_end(message)) else {
            return Asked::Malformed;
        };
        if asks & RESPONSE != 0 || message.len() > LONGEST {
            return Asked::Malformed;
        }
        if self.held.get(&client.owner.port).is_some_and(|held| *held >= PER_CONTAINER) {
            return Asked::Quota;
        }
        if self.queries.len() >= QUERIES {
            return Asked::Full;
        }
        *self.held.entry(client.owner.port).or_default() += 1;
        let query = Query { client, original, id: original, message: message.to_vec(), end, asked: 0, deadline: None };
        Asked::Ask(self.queries.insert(query) as u32)
    }

    /// The next resolver that a query is to be sent to, from a new socket, and what; `id` is drawn. `None` when all have failed: then
    /// [`Queries::poll`] has what the client is told.
    pub fn next(&mut self, slot: u32, resolvers: &[SocketAddr], id: u16, now: Time) -> Option<(SocketAddr, &[u8])> {
        let query = self.queries.get_mut(slot as usize)?;
        if let Some(before) = query.deadline.take() {
            self.deadlines.remove(&(before, slot));
        }
        let round = query.asked.checked_div(resolvers.len());
        let resolver = query.asked.checked_rem(resolvers.len()).and_then(|at| resolvers.get(at));
        let (Some(resolver), true) = (resolver, round.is_some_and(|round| round < ROUNDS)) else {
            self.failed.push_back(slot);
            return None;
        };
        query.asked += 1;
        query.id = id;
        put_id(&mut query.message, id);
        let deadline = now.after(PATIENCE);
        query.deadline = Some(deadline);
        self.deadlines.insert((deadline, slot));
        Some((*resolver, &query.message))
    }

    /// What came from the resolver that was asked last, of `resolvers`.
    pub fn answer(&mut self, slot: u32, message: &mut [u8], resolvers: usize) -> Answered {
        let Some(query) = self.queries.get(slot as usize).filter(|query| query.deadline.is_some()) else {
            return Answered::Ignored;
        };
        if !query.is_answered_by(message) {
            return Answered::Ignored;
        }
        let cannot = flags(message).is_some_and(|[_, code]| [SERVFAIL, NOTIMP, REFUSED].contains(&(code & CODE)));
        if cannot && query.asked < resolvers {
            return Answered::Next;
        }
        put_id(message, query.original);
        let client = query.client;
        self.remove(slot);
        Answered::Deliver(client)
    }

    fn remove(&mut self, slot: u32) -> Option<Query> {
        let query = self.queries.try_remove(slot as usize)?;
        if let Some(deadline) = query.deadline {
            self.deadlines.remove(&(deadline, slot));
        }
        let port = query.client.owner.port;
        if let Some(held) = self.held.get_mut(&port) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&port);
            }
        }
        Some(query)
    }

    /// When the next resolver's time is over.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// A query whose resolver's time is over: the next is to be asked.
    pub fn expire(&mut self, now: Time) -> Option<u32> {
        let (at, slot) = self.deadlines.first().copied().filter(|(at, _)| *at <= now)?;
        self.deadlines.remove(&(at, slot));
        if let Some(query) = self.queries.get_mut(slot as usize) {
            query.deadline = None;
        }
        Some(slot)
    }

    /// Whether a client is to be told that all have failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// The next client that is to be told so, and the answer. Its query is over.
    pub fn poll(&mut self) -> Option<(Client, Vec<u8>)> {
        let slot = self.failed.pop_front()?;
        let query = self.remove(slot)?;
        Some((query.client, query.failure()))
    }

    /// Forgets queries of stations that went; gives the slots whose sockets are to be closed.
    pub fn end(&mut self, stations: &Stations) -> Vec<u32> {
        let stale = self.queries.iter().filter(|(_, query)| !stations.is_current(query.client.owner));
        let gone: Vec<u32> = stale.map(|(slot, _)| slot as u32).collect();
        for slot in &gone {
            self.remove(*slot);
            self.failed.retain(|failed| failed != slot);
        }
        gone
    }
}

#[cfg(test)]
mod tests;
