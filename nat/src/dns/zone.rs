//! The zone of the containers' names, and the answers that are ours alone.
//!
//! Theory. A container is NAME and NAME.[`DOMAIN`], and so is each of its aliases; its addresses lead back to the first. All of it is in
//! [`Stations`], nothing is kept here, so an answer is as new as the station. What is ours is never asked of anybody else:
//! - whatever is below the domain, known or not;
//! - a single label, whatever is asked of it but [`TOP_LEVEL`]: no resolver of the world has one (RFC 7719 "single-label"; it would leak what
//!   containers are called, for browsers and others ask for HTTPS and SRV beside addresses);
//! - the services of a container (RFC 8552: `_443._tcp.web`), of which none is told by name;
//! - the reverse of an address inside, known or not;
//! - `localhost`, and what is below it (RFC 6761 6.3).
//!
//! A denial has the SOA record (RFC 2308 3) of the part of the question's name that is ours; its TTL is that of all: a container may come
//! within seconds.
use super::message::{ANY_CLASS, HEADER, IN, Malformed, NAME, Name, Question, TRUNCATED, Writer, code, kind, write_header};
use crate::flow::Address;
use crate::gateway::GatewayConfig;
use crate::gateway::dhcp::DOMAIN;
use crate::station::Stations;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::Range;

/// For how long an answer may be kept: seconds.
pub const TTL: u32 = 5;
/// What the gateway is called.
pub const GATEWAY: &str = "gateway";
/// The labels of [`DOMAIN`].
const SUFFIX: [&str; 2] = ["vswitch", "internal"];
/// What the world is asked of a single label: who resolves or validates for itself asks of a top level domain (RFC 9156 2.3, RFC 4035 4).
const TOP_LEVEL: [u16; 4] = [kind::NS, kind::SOA, kind::DS, kind::DNSKEY];
/// RFC 8482 4.2: what is said instead of everything.
const CPU: &[u8] = b"RFC8482";

/// An answer of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer<'a> {
    /// An address.
    Address(IpAddr),
    /// A container's name, to be written below the domain.
    Pointer(&'a str),
    /// There is more than is said (RFC 8482).
    Minimal,
    /// Of the domain itself.
    Authority,
    /// The name server of the domain.
    Server,
    /// Of the name there is nothing of that type; the SOA's name begins at that label.
    NoData(usize),
    /// There is no such name; likewise.
    NoName(usize),
    /// It is not answered, and why.
    Refusal(u8),
}

/// What a name of ours is.
enum Held<'a> {
    Container(u16),
    Gateway,
    Loopback,
    Domain,
    Reverse(&'a str),
    /// There is such a part, with nothing of its own.
    Empty,
    Unknown,
}

/// The answer to a question that is ours; `None` where somebody else is to be asked.
#[must_use]
pub fn answer<'a>(stations: &'a Stations, config: &GatewayConfig, question: &Question) -> Option<Answer<'a>> {
    let (held, apex) = find(stations, config, question)?;
    Some(judge(question).map_or_else(|| records(stations, config, question, &held, apex), Answer::Refusal))
}

/// Why a question is not answered whatever its name.
fn judge(question: &Question) -> Option<u8> {
    if question.opcode() != 0 {
        return Some(code::NOTIMP);
    }
    match question.edns {
        Err(Malformed) => return Some(code::FORMERR),
        // RFC 6891 6.1.3.
        Ok(Some(edns)) if edns.version != 0 => return Some(code::BADVERS),
        Ok(_) => {}
    }
    (![IN, ANY_CLASS].contains(&question.class)).then_some(code::REFUSED)
}

/// What the name is, and which of its labels begins what is ours.
fn find<'a>(stations: &'a Stations, config: &GatewayConfig, question: &Question) -> Option<(Held<'a>, usize)> {
    let name = &question.name;
    let labels = name.labels();
    if let Some(found) = reverse::<Ipv4Addr>(stations, config, name).or_else(|| reverse::<Ipv6Addr>(stations, config, name)) {
        return Some(found);
    }
    if name.ends_with(&SUFFIX) {
        let own = labels - SUFFIX.len();
        let held = if own == 0 { Held::Domain } else { named(stations, name, 0..own).unwrap_or(Held::Unknown) };
        return Some((held, own));
    }
    if name.ends_with(&["localhost"]) {
        return Some((Held::Loopback, labels - 1));
    }
    // RFC 8552: of the name behind them.
    let service = (0..labels).take_while(|number| name.label(*number).is_some_and(|label| label.starts_with(b"_"))).count();
    match named(stations, name, service..labels) {
        Some(held) if service == 0 => Some((held, labels)),
        Some(_) => Some((Held::Unknown, labels)),
        // Root and its servers are the world's.
        None if labels == 1 && !TOP_LEVEL.contains(&question.kind) => Some((Held::Unknown, labels)),
        None => None,
    }
}

fn named<'a>(stations: &Stations, name: &Name, labels: Range<usize>) -> Option<Held<'a>> {
    let mut place = [0; NAME];
    let text = name.text(labels, &mut place)?;
    if text == GATEWAY {
        return Some(Held::Gateway);
    }
    stations.named(text).map(Held::Container)
}

/// A family in which addresses lead back to names (RFC 1035 3.5, RFC 3596 2.5).
trait Reverse: Address {
    const SUFFIX: [&'static str; 2];
    /// Bits of one label.
    const STEP: usize;
    fn value(label: &[u8]) -> Option<u128>;
    /// The subnet's prefix and the gateway's address.
    fn subnet(config: &GatewayConfig) -> Option<(Self, usize)>;
}

impl Reverse for Ipv4Addr {
    const SUFFIX: [&'static str; 2] = ["in-addr", "arpa"];
    const STEP: usize = 8;

    fn value(label: &[u8]) -> Option<u128> {
        let is_plain = label.len() == 1 || !label.starts_with(b"0");
        let value: u8 = core::str::from_utf8(label).ok()?.parse().ok()?;
        (is_plain && label.iter().all(u8::is_ascii_digit)).then_some(value.into())
    }

    fn subnet(config: &GatewayConfig) -> Option<(Self, usize)> {
        Some((config.address, usize::from(config.prefix.min(32))))
    }
}

impl Reverse for Ipv6Addr {
    const SUFFIX: [&'static str; 2] = ["ip6", "arpa"];
    const STEP: usize = 4;

    fn value(label: &[u8]) -> Option<u128> {
        match label {
            [digit @ b'0'..=b'9'] => Some(u128::from(*digit - b'0')),
            [digit @ b'a'..=b'f'] => Some(u128::from(*digit - b'a') + 10),
            _ => None,
        }
    }

    fn subnet(config: &GatewayConfig) -> Option<(Self, usize)> {
        config.v6.map(|v6| (v6.address, usize::from(v6.prefix.min(128))))
    }
}

fn reverse<'a, A: Reverse>(stations: &'a Stations, config: &GatewayConfig, name: &Name) -> Option<(Held<'a>, usize)> {
    if !name.ends_with(&A::SUFFIX) {
        return None;
    }
    let (own, prefix) = A::subnet(config)?;
    let (width, numbers) = (A::LEN * 8, name.labels() - A::SUFFIX.len());
    let (mut bits, mut address, mut left) = (0, 0u128, numbers);
    while let Some(number) = left.checked_sub(1)
        && bits < width
        && let Some(value) = name.label(number).and_then(A::value)
    {
        (bits, address, left) = (bits + A::STEP, address << A::STEP | value, number);
    }
    let address = A::of_bits(address.checked_shl((width - bits) as u32).unwrap_or(0));
    if bits < prefix || !own.has_prefix(address, prefix as u8) {
        return None;
    }
    let held = match (bits == width, left) {
        (true, 0) if address == own => Held::Reverse(GATEWAY),
        (true, 0) => stations.way(address).and_then(|way| stations.name(way.owner)).map_or(Held::Unknown, Held::Reverse),
        (false, 0) => Held::Empty,
        (_, 1..) => Held::Unknown,
    };
    Some((held, numbers - prefix.div_ceil(A::STEP)))
}

fn records<'a>(stations: &'a Stations, config: &GatewayConfig, q: &Question, held: &Held<'a>, apex: usize) -> Answer<'a> {
    let addresses = match held {
        Held::Unknown => return Answer::NoName(apex),
        Held::Empty => return Answer::NoData(apex),
        Held::Container(port) => {
            let station = stations.station(*port);
            (station.and_then(|station| station.v4), station.and_then(|station| station.v6))
        }
        Held::Gateway => (Some(config.address), config.v6.map(|v6| v6.address)),
        Held::Loopback => (Some(Ipv4Addr::LOCALHOST), Some(Ipv6Addr::LOCALHOST)),
        Held::Domain | Held::Reverse(_) => (None, None),
    };
    let found = match (q.kind, held) {
        (kind::ANY, _) => Some(Answer::Minimal),
        (kind::A, _) => addresses.0.map(|address| Answer::Address(address.into())),
        (kind::AAAA, _) => addresses.1.map(|address| Answer::Address(address.into())),
        (kind::PTR, Held::Reverse(name)) => Some(Answer::Pointer(name)),
        (kind::SOA, Held::Domain) => Some(Answer::Authority),
        (kind::NS, Held::Domain) => Some(Answer::Server),
        _ => None,
    };
    found.unwrap_or(Answer::NoData(apex))
}

fn put_domain(to: &mut Writer<'_>, name: &str) {
    to.labels(name);
    to.labels(DOMAIN);
    to.put(&[0]);
}

fn put_soa(to: &mut Writer<'_>) {
    to.record(kind::SOA, TTL, |to| {
        put_domain(to, GATEWAY);
        put_domain(to, "nobody");
        // Serial, refresh, retry, expire: nobody transfers it. Minimum (RFC 2308 4).
        for number in [1, 3_600, 600, 86_400, TTL] {
            to.put(&number.to_be_bytes());
        }
    });
}

/// Writes an answer over its question, which begins `message`; the rest is room. Gives the octets of the answer.
#[must_use]
pub fn write(message: &mut [u8], question: &Question, answer: &Answer<'_>) -> usize {
    let room = question.limit().min(message.len());
    let edns = question.edns.ok().flatten();
    let said = match answer {
        Answer::NoName(_) => code::NXDOMAIN,
        Answer::Refusal(said) => *said,
        Answer::Address(_) | Answer::Pointer(_) | Answer::Minimal => code::NOERROR,
        Answer::Authority | Answer::Server | Answer::NoData(_) => code::NOERROR,
    };
    let mut to = Writer::new(message.get_mut(..room).unwrap_or_default(), question.end);
    let label = |number| HEADER + question.name.start(number);
    let counts = match answer {
        Answer::NoData(apex) | Answer::NoName(apex) => {
            to.pointer(label(*apex));
            put_soa(&mut to);
            [0, 1]
        }
        Answer::Refusal(_) => [0, 0],
        Answer::Address(_) | Answer::Pointer(_) | Answer::Minimal | Answer::Authority | Answer::Server => {
            to.pointer(HEADER);
            match answer {
                Answer::Address(IpAddr::V4(address)) => to.record(kind::A, TTL, |to| to.put(&address.octets())),
                Answer::Address(IpAddr::V6(address)) => to.record(kind::AAAA, TTL, |to| to.put(&address.octets())),
                Answer::Pointer(name) => to.record(kind::PTR, TTL, |to| put_domain(to, name)),
                Answer::Server => to.record(kind::NS, TTL, |to| put_domain(to, GATEWAY)),
                Answer::Minimal => to.record(kind::HINFO, TTL, |to| {
                    to.put(&[CPU.len() as u8]);
                    to.put(CPU);
                    to.put(&[0]);
                }),
                Answer::Authority => put_soa(&mut to),
                Answer::NoData(_) | Answer::NoName(_) | Answer::Refusal(_) => {}
            }
            [1, 0]
        }
    };
    if let Some(edns) = edns {
        to.opt(edns.dnssec, said);
    }
    let end = to.end();
    let is_ours = !matches!(answer, Answer::Refusal(_));
    match end {
        Some(end) => {
            write_header(message, is_ours, said, [counts[0], counts[1], u16::from(edns.is_some())]);
            end
        }
        None => truncate(message, question),
    }
}

/// Makes of a query its answer that there is more, by TCP (RFC 2181 9).
#[must_use]
pub fn truncate(message: &mut [u8], question: &Question) -> usize {
    let edns = question.edns.ok().flatten();
    let mut to = Writer::new(message, question.end);
    if let Some(edns) = edns {
        to.opt(edns.dnssec, code::NOERROR);
    }
    let end = to.end();
    write_header(message, false, code::NOERROR, [0, 0, u16::from(edns.is_some() && end.is_some())]);
    if let Some(asks) = message.get_mut(2) {
        *asks |= TRUNCATED;
    }
    end.unwrap_or(question.end)
}

#[cfg(test)]
mod tests;
