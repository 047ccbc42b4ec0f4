//! An answer of a resolver's, to be given to others than who asked for it.
//!
//! Theory. It is kept as it came, less its OPT record: that is between two ends (RFC 6891 6.1.1), and who asks with one gets ours. The question is
//! who asks's own, letter for letter, and identifiers too. As names have the same length whatever their case, pointers stay right.
use super::message::{
    CHECKING_DISABLED, CODE, HEADER, Question, RECURSION_DESIRED, Records, Section, TRUNCATED, Writer, code, kind, word,
};
use super::zone::truncate;
use alloc::vec::Vec;
use core::time::Duration;

/// Octets of our OPT record.
const OPT: usize = 11;

/// See the module's theory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    octets: Vec<u8>,
    /// Where TTLs are.
    ttls: Vec<u16>,
    /// For how many seconds it may be kept; zero where it may not.
    lifetime: u32,
    /// There is no record of what was asked.
    is_denial: bool,
}

/// A TTL with its highest bit set is zero (RFC 2181 8).
const fn ttl_of(ttl: u32) -> u32 {
    if ttl >> 31 == 0 { ttl } else { 0 }
}

impl Stored {
    /// That of a response whose question ends at `end`; `None` where it cannot be told apart.
    #[must_use]
    pub fn of(message: &[u8], end: usize) -> Option<Self> {
        let (mut len, mut has_opt) = (message.len(), false);
        let (mut ttls, mut least, mut negative, mut answers) = (Vec::new(), u32::MAX, None, false);
        for record in Records::new(message, end) {
            let record = record.ok()?;
            if has_opt {
                // Behind the OPT record: it cannot be cut off.
                return None;
            }
            if record.kind == kind::OPT {
                // The upper part of the response code.
                if record.ttl >> 24 != 0 {
                    return None;
                }
                (has_opt, len) = (true, record.at);
                continue;
            }
            let ttl = ttl_of(record.ttl);
            least = least.min(ttl);
            ttls.push(u16::try_from(record.ttl_at).ok()?);
            answers |= record.section == Section::Answer && record.kind == word(message, end - 4)?;
            if record.section == Section::Authority && record.kind == kind::SOA {
                // RFC 2308 5: the lesser of the TTL and the minimum, which is the last of the data.
                let minimum = message.get(record.data.end - 4..record.data.end)?;
                negative = Some(ttl.min(u32::from_be_bytes(minimum.try_into().ok()?)));
            }
            len = record.data.end;
        }
        let mut octets = message.get(..len)?.to_vec();
        if let Some([_, _, asks, said, _, _, _, _, _, _, more, less]) = octets.first_chunk_mut::<HEADER>() {
            let others = u16::from_be_bytes([*more, *less]).saturating_sub(u16::from(has_opt));
            [*more, *less] = others.to_be_bytes();
            let is_denial = *said & CODE == code::NXDOMAIN || !answers;
            let lifetime = match *said & CODE {
                _ if *asks & TRUNCATED != 0 => 0,
                code::NOERROR | code::NXDOMAIN if is_denial => negative.unwrap_or(0).min(least),
                code::NOERROR => least,
                _ => 0,
            };
            return Some(Self { octets, ttls, lifetime, is_denial });
        }
        None
    }

    /// For how many seconds it may be kept; zero where it may not.
    #[must_use]
    pub const fn lifetime(&self) -> u32 {
        self.lifetime
    }

    /// Octets that it takes up.
    #[must_use]
    pub fn size(&self) -> usize {
        self.octets.len() + self.ttls.len() * 2
    }

    /// Octets that are enough for [`Stored::write`].
    #[must_use]
    pub fn room(&self) -> usize {
        self.octets.len() + OPT
    }

    /// Whether it says that there is no such name, or nothing of that type.
    #[must_use]
    pub const fn is_denial(&self) -> bool {
        self.is_denial
    }

    /// Writes it as the answer to `question`, `asked` octets of header and question, at that age; gives its octets.
    #[must_use]
    pub fn write(&self, into: &mut [u8], asked: &[u8], question: &Question, age: Duration) -> usize {
        let edns = question.edns.ok().flatten();
        let len = self.octets.len() + if edns.is_some() { OPT } else { 0 };
        let Some(asked) = asked.get(..question.end) else { return 0 };
        if len > question.limit() {
            let Some(place) = into.get_mut(..asked.len()) else { return 0 };
            place.copy_from_slice(asked);
            return truncate(into, question);
        }
        let Some(place) = into.get_mut(..self.octets.len()) else { return 0 };
        place.copy_from_slice(&self.octets);
        if let Some(place) = into.get_mut(HEADER..question.end) {
            place.copy_from_slice(asked.get(HEADER..).unwrap_or_default());
        }
        if let Some([a, b, asks, said, ..]) = into.first_chunk_mut::<HEADER>() {
            [*a, *b] = question.id.to_be_bytes();
            *asks = *asks & !RECURSION_DESIRED | question.flags[0] & RECURSION_DESIRED;
            *said = *said & !CHECKING_DISABLED | question.flags[1] & CHECKING_DISABLED;
        }
        // Rounded up: never is an answer kept longer than its first receiver would.
        let seconds = u32::try_from(age.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u32::MAX);
        for at in &self.ttls {
            if let Some(place) = into.get_mut(usize::from(*at)..).and_then(<[u8]>::first_chunk_mut::<4>) {
                *place = ttl_of(u32::from_be_bytes(*place)).saturating_sub(seconds).to_be_bytes();
            }
        }
        let Some(edns) = edns else { return len };
        let mut to = Writer::new(into, self.octets.len());
        to.opt(edns.dnssec, code::NOERROR);
        let end = to.end();
        if let Some([.., more, less]) = into.first_chunk_mut::<HEADER>() {
            [*more, *less] = u16::from_be_bytes([*more, *less]).saturating_add(1).to_be_bytes();
        }
        end.unwrap_or(self.octets.len())
    }
}
