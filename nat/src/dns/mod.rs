//! Names: what the gateway's port 53 answers, whatever the uplink.
//!
//! Theory. A question is answered by the first of these that can:
//! - the [`zone`]: what is ours, from the table of stations; none of it ever goes to a resolver;
//! - the [`cache`]: what a resolver said before;
//! - the host's resolvers, to whom it goes as one of [`queries`]. Without an uplink containers have no way out, so neither have their questions:
//!   they are refused, for a name is a message like any other.
//!
//! The first two answer in the very buffer; no port of the host's is bound for any of it. The sockets to the resolvers are the io crate's, and
//! are the same with every uplink. Who comes by TCP is answered likewise, through one of the [`streams`].
pub mod cache;
pub mod message;
pub mod queries;
pub mod stored;
pub mod streams;
pub mod zone;

use crate::gateway::GatewayConfig;
use crate::ports::Random;
use crate::station::Stations;
use alloc::vec::Vec;
use cache::{Cache, CacheCounts};
use core::net::SocketAddr;
use core::time::Duration;
use message::{CHECKING_DISABLED, HEADER, IN, NAME, QUESTION, Question, RECURSION_DESIRED, kind};
use queries::{Answered, Ask, Asked, Client, Draw, Queries, QueryCounts};
use stored::Stored;
use streams::Streams;
use vswitch_switch::Time;
use zone::Answer;

/// The port of name servers (RFC 1035 4.2).
pub const PORT: u16 = 53;
/// Octets of a header and a question at the most.
pub const ASKED: usize = HEADER + NAME + QUESTION;
/// The bit of the header's fourth octet that asks whether data are authentic (RFC 6840 5.7).
const AUTHENTIC: u8 = 0x20;

/// A query, less what does not change its answer: see [`cache`].
pub type Key = Vec<u8>;

/// An answer that is there already.
#[derive(Debug)]
pub enum Found<'a> {
    /// Ours.
    Zone(Answer<'a>),
    /// A resolver's, of that age.
    Cached(&'a Stored, Duration),
}

impl Found<'_> {
    /// Octets that are enough for [`Found::write`].
    #[must_use]
    pub fn room(&self) -> usize {
        match self {
            Self::Zone(_) => queries::LONGEST,
            Self::Cached(stored, _) => stored.room().max(queries::LONGEST),
        }
    }

    /// Writes it into `into`; `asked` is the header and the question. Gives its octets.
    #[must_use]
    pub fn write(&self, into: &mut [u8], asked: &[u8], question: &Question) -> usize {
        match self {
            Self::Zone(answer) => {
                let (Some(place), Some(asked)) = (into.get_mut(..question.end), asked.get(..question.end)) else { return 0 };
                place.copy_from_slice(asked);
                zone::write(into, question, answer)
            }
            Self::Cached(stored, age) => stored.write(into, asked, question, *age),
        }
    }
}

/// Everything that was counted, and what there is now.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Questions that were answered from the zone.
    pub internal: u64,
    /// Questions refused, for there is no way out.
    pub refused: u64,
    /// Questions that came by TCP, of all.
    pub by_tcp: u64,
    /// See there.
    pub cache: CacheCounts,
    /// See there.
    pub queries: QueryCounts,
    /// Entries of the cache, and their octets.
    pub entries: usize,
    /// See there.
    pub octets: usize,
}

/// See the module's theory.
#[derive(Debug)]
pub struct Names {
    queries: Queries,
    cache: Cache,
    /// Who comes by TCP.
    pub streams: Streams,
    /// The host's, in their order, each once.
    resolvers: Vec<SocketAddr>,
    random: Random,
    internal: u64,
    refused: u64,
    by_tcp: u64,
}

/// The key of a query; `None` where its answer is for who asks alone.
fn key(question: &Question) -> Option<Key> {
    let edns = question.edns.ok()?;
    let plain = question.opcode() == 0 && question.flags[0] & RECURSION_DESIRED != 0 && question.class == IN;
    if !plain || question.kind == kind::OPT || edns.is_some_and(|edns| edns.subnet || edns.version != 0) {
        return None;
    }
    let dnssec = edns.is_some_and(|edns| edns.dnssec);
    let mut key = Vec::with_capacity(question.name.octets().len() + 3);
    key.extend_from_slice(question.name.octets());
    key.extend_from_slice(&question.kind.to_be_bytes());
    key.push(question.flags[1] & (CHECKING_DISABLED | AUTHENTIC) | u8::from(dnssec));
    Some(key)
}

impl Names {
    /// Without resolvers. `seeds` are 128 bits that nobody outside knows.
    #[must_use]
    pub fn new(seeds: [u64; 2]) -> Self {
        Self {
            queries: Queries::default(),
            cache: Cache::new(seeds[0]),
            streams: Streams::new(seeds[1]),
            resolvers: Vec::new(),
            random: Random::new([seeds[1], !seeds[0]]),
            internal: 0,
            refused: 0,
            by_tcp: 0,
        }
    }

    /// The host's resolvers, in the order in which they are to be asked. Others know other answers.
    pub fn set_resolvers(&mut self, resolvers: &[SocketAddr]) {
        let mut each = Vec::new();
        for resolver in resolvers {
            if !each.contains(resolver) {
                each.push(*resolver);
            }
        }
        if each != self.resolvers {
            self.cache.clear();
            self.resolvers = each;
        }
    }

    /// Those that are asked.
    #[must_use]
    pub fn resolvers(&self) -> &[SocketAddr] {
        &self.resolvers
    }

    /// An answer that is there already.
    #[must_use]
    pub fn find<'a>(
        &'a self,
        stations: &'a Stations,
        config: &GatewayConfig,
        question: &Question,
        has_way: bool,
        now: Time,
    ) -> Option<Found<'a>> {
        if let Some(answer) = zone::answer(stations, config, question) {
            return Some(Found::Zone(answer));
        }
        // A transfer (RFC 5936) has answers of many messages, and those who serve stub resolvers give none.
        let is_transfer = [kind::AXFR, kind::IXFR].contains(&question.kind);
        if !has_way || is_transfer {
            return Some(Found::Zone(Answer::Refusal(message::code::REFUSED)));
        }
        let (stored, age) = self.cache.get(&key(question)?, now)?;
        Some(Found::Cached(stored, age))
    }

    /// Takes note of which kind an answer was.
    pub fn count(&mut self, is_cached: bool, is_refused: bool) {
        let place = match (is_cached, is_refused) {
            (true, _) => &mut self.cache.counts.hits,
            (false, true) => &mut self.refused,
            (false, false) => &mut self.internal,
        };
        *place += 1;
    }

    /// A client's query to the host's resolvers.
    pub fn begin(&mut self, client: Client, message: &[u8], question: &Question) -> Asked {
        self.queries.begin(client, message, question, key(question))
    }

    /// An answer that is there already, for a client whose buffer is none for it.
    pub fn deliver(&mut self, client: Client, message: Vec<u8>, now: Time) -> bool {
        match client.stream {
            Some(stream) => self.streams.answer(stream, &message, now),
            None => return self.queries.deliver(client, message),
        }
        true
    }

    /// The next message that somebody asks by TCP: see [`Streams::ask`].
    pub fn ask_of_stream(&mut self) -> Option<(Client, streams::Asks)> {
        let (stream, asks) = self.streams.ask()?;
        let (owner, link, inside, gateway) = self.streams.ends(stream)?;
        self.by_tcp += u64::from(matches!(asks, streams::Asks::Message(_)));
        Some((Client { owner, link, inside, gateway, stream: Some(stream) }, asks))
    }

    /// A number that is not to be guessed.
    pub fn draw(&mut self) -> u32 {
        self.random.bits() as u32
    }

    /// The next resolver for a query, and what it is sent: see [`Queries::next`].
    pub fn next(&mut self, slot: u32, now: Time) -> Option<Ask<'_>> {
        let draw = Draw { id: self.random.bits() as u16, case: core::array::from_fn(|_| self.random.bits()) };
        self.queries.next(slot, &self.resolvers, draw, now)
    }

    /// What came from a resolver: see [`Queries::answer`].
    pub fn answered(&mut self, slot: u32, message: &mut [u8], now: Time) -> Answered {
        let cache = &mut self.cache;
        let answered = self.queries.answer(slot, message, self.resolvers.len(), |key, stored| cache.insert(key, stored, now));
        let Answered::Deliver(Client { stream: Some(stream), .. }) = answered else { return answered };
        self.streams.answer(stream, message, now);
        Answered::Told
    }

    /// What resolvers are being asked.
    #[must_use]
    pub const fn queries(&self) -> &Queries {
        &self.queries
    }

    /// Whether there is something to do at once.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.queries.has_work() || self.streams.has_work()
    }

    /// Whether there is something to be asked of resolvers, or told to who asked by UDP.
    #[must_use]
    pub fn has_answers(&self) -> bool {
        self.queries.has_work()
    }

    /// When a resolver's time is over, or something of a connection's.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        [self.queries.deadline(), self.streams.deadline()].into_iter().flatten().min()
    }

    /// A query for which the next resolver is to be asked.
    pub fn expire(&mut self, now: Time) -> Option<u32> {
        self.queries.expire(now)
    }

    /// The next answer that is in no buffer yet.
    pub fn poll(&mut self, now: Time) -> Option<(Client, Vec<u8>)> {
        while let Some((client, message)) = self.queries.poll() {
            let Some(stream) = client.stream else { return Some((client, message)) };
            self.streams.answer(stream, &message, now);
        }
        None
    }

    /// Forgets queries of stations that went; gives the slots whose sockets are to be closed.
    pub fn end(&mut self, stations: &Stations) -> Vec<u32> {
        self.queries.end(stations)
    }

    /// See there.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let (entries, octets) = self.cache.usage();
        let (cache, queries) = (self.cache.counts, self.queries.counts);
        Counts { internal: self.internal, refused: self.refused, by_tcp: self.by_tcp, cache, queries, entries, octets }
    }
}
