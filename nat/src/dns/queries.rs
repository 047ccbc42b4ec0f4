//! Queries to the gateway's port 53 which the host's resolvers answer.
//!
//! Theory. A query is passed on as it is (EDNS, cookies and all) but for its identifier and the case of its name's letters ("0x20"), which are
//! drawn anew for each resolver asked: beside a socket of its own, and so a port that is drawn too, that is what an answer has to know (RFC 5452
//! 9). One with another identifier or question is ignored; the right one in another case is counted and not believed, and the next resolver
//! asked. Where all have failed and one of them so, the client is told to come by TCP, where nobody can answer in another's place. The resolvers
//! are asked in their order, each for [`PATIENCE`], all of them [`ROUNDS`] times (resolv.conf(5): `timeout`, `attempts`); one that refuses, or
//! cannot be reached, is passed over at once, and so is one that answers that it cannot, as long as there are others. When all have failed the
//! client is told (SERVFAIL), for whoever is not told waits. A truncated answer goes to the client, who comes back by TCP.
//!
//! What came by TCP is asked by TCP, each query in a connection of its own, its name as it was written: nobody else can answer there.
//!
//! Who asks what somebody else has asked and not been told yet waits with him ([`JOINED`]). Queries are bounded in all ([`QUERIES`]) and by
//! container ([`PER_CONTAINER`]). A restart forgets them: clients ask again.
use super::Key;
use super::message::{
    CODE, HEADER, OPCODE, QUESTION, Question, RECURSION_AVAILABLE, RECURSION_DESIRED, RESPONSE, Records, TRUNCATED, code,
};
use super::stored::Stored;
use super::streams::StreamId;
use crate::slirp::wire::Link;
use crate::station::{Owner, Stations};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec;
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

/// Clients that wait for the answer to one query, beside the first.
pub const JOINED: usize = 64;
/// Answers that wait for a buffer.
pub const READY: usize = 1_024;
/// Octets in which a name has a letter's case drawn: all.
const CASES: usize = 4;

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
    /// By which connection, if it is TCP.
    pub stream: Option<StreamId>,
}

/// What a resolver is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask<'a> {
    /// Where to, from a new socket.
    pub resolver: SocketAddr,
    /// The message.
    pub message: &'a [u8],
    /// By TCP, its length before it.
    pub by_tcp: bool,
}

/// What is drawn for each message sent: its identifier, and the case of each letter (draft-vixie-dnsext-dns0x20).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Draw {
    /// The identifier.
    pub id: u16,
    /// A bit an octet of the name.
    pub case: [u64; CASES],
}

/// A client, and the question as it asked it.
#[derive(Debug)]
struct Asker {
    client: Client,
    question: Question,
    /// Header and question.
    octets: Vec<u8>,
}

#[derive(Debug)]
struct Query {
    first: Asker,
    /// Those who asked the same meanwhile.
    joined: Vec<Asker>,
    /// Under which they find it.
    key: Option<Key>,
    /// The identifier of what was sent.
    id: u16,
    message: Vec<u8>,
    /// Resolvers asked.
    asked: usize,
    /// One of them answered in another case.
    other_case: bool,
    /// When the next is.
    deadline: Option<Time>,
}

/// What was counted.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct QueryCounts {
    /// Messages sent to resolvers.
    pub sent: u64,
    /// Answers believed.
    pub answered: u64,
    /// Clients that were told that all resolvers failed.
    pub failed: u64,
    /// Clients who waited for the answer to another's query.
    pub joined: u64,
    /// Messages to no query of ours.
    pub ignored: u64,
    /// Answers to ours but for the case of letters.
    pub other_case: u64,
    /// Answers that cannot be read.
    pub malformed: u64,
}

/// What a query is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// It waits: [`Queries::expire`] tells when somebody is to be asked.
    Waits,
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
    /// The query is over, and its client has the answer.
    Told,
}

/// See the module's theory.
#[derive(Debug, Default)]
pub struct Queries {
    queries: Slab<Query>,
    /// New ones: their first resolver is to be asked.
    due: VecDeque<u32>,
    deadlines: BTreeSet<(Time, u32)>,
    /// Queries by container's port, those that joined another's too.
    held: BTreeMap<u16, usize>,
    /// Those that another may join.
    by_key: BTreeMap<Key, u32>,
    /// Answers that are not in a buffer yet.
    ready: VecDeque<(Client, Vec<u8>)>,
    /// See there.
    pub counts: QueryCounts,
}

fn put_id(message: &mut [u8], id: u16) {
    if let Some(place) = message.first_chunk_mut() {
        *place = id.to_be_bytes();
    }
}

impl Asker {
    fn new(client: Client, question: Question, message: &[u8]) -> Self {
        Self { client, question, octets: message.get(..question.end).unwrap_or_default().to_vec() }
    }

    /// The answer that nobody has one; or, where one had it in a case that is not believed, that it is to be asked for by TCP.
    fn failure(self, other_case: bool) -> (Client, Vec<u8>) {
        let mut message = self.octets;
        if let Some([_, _, asks, said, _, _, counts @ ..]) = message.first_chunk_mut::<HEADER>() {
            *asks = RESPONSE | *asks & (OPCODE | RECURSION_DESIRED) | if other_case { TRUNCATED } else { 0 };
            *said = RECURSION_AVAILABLE | if other_case { code::NOERROR } else { code::SERVFAIL };
            // No answer, authority nor additional record.
            *counts = [0; 6];
        }
        (self.client, message)
    }

    /// A copy of another's answer.
    fn copy(self, stored: Option<&Stored>) -> (Client, Vec<u8>) {
        let Some(stored) = stored else { return self.failure(false) };
        let mut message = vec![0; stored.room()];
        let len = stored.write(&mut message, &self.octets, &self.question, Duration::ZERO);
        message.truncate(len);
        (self.client, message)
    }
}

/// How a message is to a query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Match {
    No,
    OtherCase,
    Yes,
}

impl Query {
    /// Whether a message answers it.
    fn is_answered_by(&self, message: &[u8]) -> Match {
        let ours = &self.first.question;
        let Some(theirs) = Question::read(message) else { return Match::No };
        let is_response = theirs.flags[0] & RESPONSE != 0 && theirs.opcode() == ours.opcode();
        let is_same = (theirs.name, theirs.kind, theirs.class) == (ours.name, ours.kind, ours.class);
        if theirs.id != self.id || !is_response || !is_same || theirs.end != ours.end {
            return Match::No;
        }
        let is_same_case = message.get(HEADER..ours.end) == self.message.get(HEADER..ours.end);
        if is_same_case || self.is_by_tcp() { Match::Yes } else { Match::OtherCase }
    }

    const fn is_by_tcp(&self) -> bool {
        self.first.client.stream.is_some()
    }

    /// Draws the case of the name's letters.
    fn draw(&mut self, draw: Draw) {
        self.id = draw.id;
        put_id(&mut self.message, draw.id);
        if self.is_by_tcp() {
            return;
        }
        let end = self.first.question.end - QUESTION;
        for (number, octet) in self.message.get_mut(HEADER..end).unwrap_or_default().iter_mut().enumerate() {
            let bits = draw.case.get(number / 64).copied().unwrap_or(0);
            if bits >> (number % 64) & 1 == 1 && octet.is_ascii_alphabetic() {
                *octet ^= 0x20;
            }
        }
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

    /// How many of a container's do, those that joined another's too.
    #[must_use]
    pub fn of(&self, port: u16) -> usize {
        self.held.get(&port).copied().unwrap_or(0)
    }

    /// A client's query; with a key, an identical one may be under way.
    pub fn begin(&mut self, client: Client, message: &[u8], question: &Question, key: Option<Key>) -> Asked {
        if message.len() > LONGEST {
            return Asked::Malformed;
        }
        if self.held.get(&client.owner.port).is_some_and(|held| *held >= PER_CONTAINER) {
            return Asked::Quota;
        }
        let asker = Asker::new(client, *question, message);
        // By UDP it may be truncated.
        let is_shared = client.stream.is_none();
        let known = key
            .as_ref()
            .filter(|_| is_shared)
            .and_then(|key| self.by_key.get(key))
            .and_then(|slot| self.queries.get_mut(*slot as usize));
        if let Some(query) = known.filter(|query| query.joined.len() < JOINED) {
            query.joined.push(asker);
            *self.held.entry(client.owner.port).or_default() += 1;
            self.counts.joined += 1;
            return Asked::Waits;
        }
        if self.queries.len() >= QUERIES {
            return Asked::Full;
        }
        *self.held.entry(client.owner.port).or_default() += 1;
        let shared = key.clone().filter(|_| is_shared);
        let query = Query {
            first: asker,
            joined: Vec::new(),
            key,
            id: question.id,
            message: message.to_vec(),
            asked: 0,
            other_case: false,
            deadline: None,
        };
        let slot = self.queries.insert(query) as u32;
        if let Some(key) = shared {
            self.by_key.entry(key).or_insert(slot);
        }
        self.due.push_back(slot);
        Asked::Waits
    }

    /// An answer that is there already, for a client whose buffer is none for it. `false` where too many wait.
    pub fn deliver(&mut self, client: Client, message: Vec<u8>) -> bool {
        let fits = self.ready.len() < READY;
        if fits {
            self.ready.push_back((client, message));
        }
        fits
    }

    /// The next resolver that a query is to be sent to, and what. `None` when all have failed: then [`Queries::poll`] has what the clients
    /// are told.
    pub fn next(&mut self, slot: u32, resolvers: &[SocketAddr], draw: Draw, now: Time) -> Option<Ask<'_>> {
        let query = self.queries.get_mut(slot as usize)?;
        if let Some(before) = query.deadline.take() {
            self.deadlines.remove(&(before, slot));
        }
        let round = query.asked.checked_div(resolvers.len());
        let resolver = query.asked.checked_rem(resolvers.len()).and_then(|at| resolvers.get(at));
        let (Some(resolver), true) = (resolver, round.is_some_and(|round| round < ROUNDS)) else {
            self.fail(slot);
            return None;
        };
        let query = self.queries.get_mut(slot as usize)?;
        query.asked += 1;
        query.draw(draw);
        let deadline = now.after(PATIENCE);
        query.deadline = Some(deadline);
        self.deadlines.insert((deadline, slot));
        self.counts.sent += 1;
        Some(Ask { resolver: *resolver, message: &query.message, by_tcp: query.is_by_tcp() })
    }

    fn fail(&mut self, slot: u32) {
        if let Some(query) = self.remove(slot) {
            let other_case = query.other_case;
            for asker in core::iter::once(query.first).chain(query.joined) {
                self.counts.failed += 1;
                // As many as there were queries: bounded by their number.
                self.ready.push_back(asker.failure(other_case));
            }
        }
    }

    /// What came from the resolver that was asked last, of `resolvers`. `each` is shown an answer that is believed, with its key.
    pub fn answer(&mut self, slot: u32, message: &mut [u8], resolvers: usize, each: impl FnOnce(Key, &Stored)) -> Answered {
        let Some(query) = self.queries.get_mut(slot as usize).filter(|query| query.deadline.is_some()) else {
            return Answered::Ignored;
        };
        match query.is_answered_by(message) {
            Match::No => {
                self.counts.ignored += 1;
                return Answered::Ignored;
            }
            Match::OtherCase => {
                query.other_case = true;
                self.counts.other_case += 1;
                return Answered::Next;
            }
            Match::Yes => {}
        }
        let end = query.first.question.end;
        if Records::new(message, end).any(|record| record.is_err()) {
            self.counts.malformed += 1;
            return Answered::Next;
        }
        let said = message.get(3).map_or(0, |said| said & CODE);
        if [code::SERVFAIL, code::NOTIMP, code::REFUSED].contains(&said) && query.asked < resolvers {
            return Answered::Next;
        }
        let Some(query) = self.remove(slot) else { return Answered::Ignored };
        self.counts.answered += 1;
        if query.key.is_some() || !query.joined.is_empty() {
            let stored = Stored::of(message, end);
            for asker in query.joined {
                self.ready.push_back(asker.copy(stored.as_ref()));
            }
            if let (Some(key), Some(stored)) = (query.key, &stored) {
                each(key, stored);
            }
        }
        // As it was asked, the case of its letters too.
        if let (Some(place), Some(asked)) = (message.get_mut(HEADER..end), query.first.octets.get(HEADER..end)) {
            place.copy_from_slice(asked);
        }
        put_id(message, query.first.question.id);
        Answered::Deliver(query.first.client)
    }

    fn remove(&mut self, slot: u32) -> Option<Query> {
        let query = self.queries.try_remove(slot as usize)?;
        if let Some(deadline) = query.deadline {
            self.deadlines.remove(&(deadline, slot));
        }
        if let Some(key) = &query.key
            && self.by_key.get(key) == Some(&slot)
        {
            self.by_key.remove(key);
        }
        for asker in core::iter::once(&query.first).chain(&query.joined) {
            let port = asker.client.owner.port;
            if let Some(held) = self.held.get_mut(&port) {
                *held -= 1;
                if *held == 0 {
                    self.held.remove(&port);
                }
            }
        }
        Some(query)
    }

    /// When the next resolver's time is over.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Whether there is something for [`Queries::expire`] or [`Queries::poll`] at once.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.due.is_empty() || !self.ready.is_empty()
    }

    /// A query that is new, or whose resolver's time is over: the next is to be asked.
    pub fn expire(&mut self, now: Time) -> Option<u32> {
        while let Some(slot) = self.due.pop_front() {
            if self.queries.get(slot as usize).is_some_and(|query| query.asked == 0) {
                return Some(slot);
            }
        }
        let (at, slot) = self.deadlines.first().copied().filter(|(at, _)| *at <= now)?;
        self.deadlines.remove(&(at, slot));
        if let Some(query) = self.queries.get_mut(slot as usize) {
            query.deadline = None;
        }
        Some(slot)
    }

    /// The next client that is to be told something which is in no buffer yet.
    pub fn poll(&mut self) -> Option<(Client, Vec<u8>)> {
        self.ready.pop_front()
    }

    /// Forgets queries of stations that went; gives the slots whose sockets are to be closed.
    pub fn end(&mut self, stations: &Stations) -> Vec<u32> {
        self.ready.retain(|(client, _)| stations.is_current(client.owner));
        let is_gone = |query: &Query| {
            core::iter::once(&query.first).chain(&query.joined).all(|asker| !stations.is_current(asker.client.owner))
        };
        let gone: Vec<u32> = self.queries.iter().filter(|(_, query)| is_gone(query)).map(|(slot, _)| slot as u32).collect();
        for slot in &gone {
            self.remove(*slot);
        }
        gone
    }
}

#[cfg(test)]
mod tests;
