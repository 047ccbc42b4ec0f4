//! ICMP errors: those of others, translated with the packet they quote, and our own.
//!
//! Theory. An error is about a packet that went the other way. It quotes that packet as it looked where the error was made; whoever gets
//! the error must see it as it looked when he sent it (RFC 5508 REQ-4, REQ-5; RFC 4443 for IPv6). So the quote's reverse is looked up
//! as a packet from the error's side would be, and the quote becomes what the session's other direction arrives as. The outer destination is
//! the quote's sender; the outer source stays a router's own (N16), unless the router is inside, or is the end itself that is translated.
//!
//! A session is neither refreshed nor ended (RFC 5508 REQ-6, RFC 4787 REQ-12, RFC 5382 REQ-10). Judged are the ICMP checksum
//! and the quoted IPv4 header's (RFC 5508 REQ-3, REQ-3a), with options (REQ-3b); not the quoted layer 4 checksum (REQ-3c), which is
//! updated where the quote is long enough to have it (N49); extensions (RFC 4884) are part of what is summed and otherwise left alone (REQ-3d).
//!
//! Our own errors ([`write_error`]) obey RFC 1812 4.3.2.7 and RFC 4443 2.4 (e): none about an error, a group, a later fragment or a
//! source that is not one host ([`deserves_error`]). They quote as much as fits 576 octets (RFC 1812 4.3.2.3), or 1,280 (RFC 4443 2.4 (c)).
use crate::checksum;
use crate::flow::{Address, Tuple, protocol};
use crate::nat::{Family, Nat};
use crate::packet::{Packet, Transport};
use crate::station::Stations;
use crate::tcp_state::Direction;
use core::time::Duration;
use etherparse::{LaxIpv4Slice, LaxIpv6Slice};
use vswitch_switch::{DropReason, FrameBuf, FrameMeta, Time};

/// Octets of an ICMP error's own header.
const ICMP_HEADER: usize = 8;
/// Hops of what we send (RFC 1122 3.2.1.7).
const HOPS: u8 = 64;
/// The longest IPv4 error, octets of layer 3.
const LONGEST_V4: usize = 576;

/// A packet in an error: who sent it to whom, and where that stands in the frame.
struct Quote<A> {
    tuple: Tuple<A>,
    /// Octets from the frame's start to the quoted IP header.
    l3: usize,
    /// Octets of it.
    header: usize,
    /// Octets from the frame's start to the quoted ports, zero for none.
    ports: [usize; 2],
    /// The same to the quoted layer 4 checksum, zero where there is none or it is cut off.
    checksum: usize,
    /// Whether that covers the addresses.
    is_pseudo: bool,
}

fn word(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..)?.first_chunk().map(|word| u16::from_be_bytes(*word))
}

fn put(octets: &mut [u8], at: usize, value: u16) {
    if let Some(place) = octets.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = value.to_be_bytes();
    }
}

/// Octets of the quoted IP headers, protocol number and whether layer 4 is there.
fn quoted_ip<A: Address>(quote: &[u8]) -> Option<(usize, u8, bool)> {
    if A::IS_V6 {
        let (ip, _) = LaxIpv6Slice::from_slice(quote).ok()?;
        let header = A::HEADER + ip.extensions().slice().len();
        Some((header, ip.payload().ip_number.0, !ip.is_payload_fragmented()))
    } else {
        let (ip, _) = LaxIpv4Slice::from_slice(quote).ok()?;
        let header = ip.header();
        // N42: RFC 5508 REQ-3a.
        let is_first = header.fragments_offset().value() == 0;
        checksum::is_valid(header.slice()).then_some((header.slice().len(), header.protocol().0, is_first))
    }
}

impl<A: Address> Quote<A> {
    /// Reads the packet that begins at `l3`; `None` where it is none that a session could be found by.
    fn read(frame: &[u8], l3: usize) -> Option<Self> {
        let quote = frame.get(l3..)?;
        let (header, number, has_l4) = quoted_ip::<A>(quote)?;
        let (src, dst) = (A::read(quote.get(A::SOURCE..)?)?, A::read(quote.get(A::SOURCE + A::LEN..)?)?);
        let l4 = l3 + header;
        let mut found = Self {
            tuple: Tuple { src, dst, sport: 0, dport: 0, protocol: number },
            l3,
            header,
            ports: [0; 2],
            checksum: 0,
            is_pseudo: number != protocol::ICMP,
        };
        // N49: 8 octets of layer 4 are quoted at the least (RFC 792), and TCP's checksum is not among them.
        let sum_at = |offset: usize| if frame.len() >= l4 + offset + 2 { l4 + offset } else { 0 };
        match number {
            protocol::TCP | protocol::UDP | protocol::UDP_LITE => {
                if !has_l4 {
                    return None;
                }
                (found.tuple.sport, found.tuple.dport) = (word(frame, l4)?, word(frame, l4 + 2)?);
                found.ports = [l4, l4 + 2];
                found.checksum = sum_at(if number == protocol::TCP { checksum::TCP_CHECKSUM } else { checksum::UDP_CHECKSUM });
            }
            number if number == A::ICMP => {
                if !has_l4 {
                    return None;
                }
                let (kind, id) = (*frame.get(l4)?, word(frame, l4 + 4)?);
                let (request, reply) = if A::IS_V6 { (128, 129) } else { (8, 0) };
                if kind == request {
                    (found.tuple.sport, found.ports) = (id, [l4 + 4, 0]);
                } else if kind == reply {
                    (found.tuple.dport, found.ports) = (id, [0, l4 + 4]);
                } else {
                    return None;
                }
                found.checksum = sum_at(2);
            }
            _ => {}
        }
        Some(found)
    }

    /// Makes the quoted packet go from `to.src` to `to.dst`.
    fn rewrite(&self, frame: &mut [u8], to: &Tuple<A>) {
        let from = &self.tuple;
        for (old, new, at) in [(from.src, to.src, self.l3 + A::SOURCE), (from.dst, to.dst, self.l3 + A::SOURCE + A::LEN)] {
            if let Some(place) = frame.get_mut(at..) {
                new.write(place);
            }
            if !A::IS_V6 {
                let header = self.l3 + 10;
                let updated = checksum::update_u16(word(frame, header).unwrap_or(0), old.sum(), new.sum());
                put(frame, header, updated);
            }
            if self.is_pseudo {
                self.update(frame, old.sum(), new.sum());
            }
        }
        for (old, new, at) in [(from.sport, to.sport, self.ports[0]), (from.dport, to.dport, self.ports[1])] {
            if at > 0 {
                put(frame, at, new);
                self.update(frame, old, new);
            }
        }
        debug_assert!(self.header >= A::HEADER);
    }

    fn update(&self, frame: &mut [u8], old: u16, new: u16) {
        let is_udp = matches!(self.tuple.protocol, protocol::UDP | protocol::UDP_LITE);
        match word(frame, self.checksum) {
            Some(sum) if self.checksum > 0 && !(is_udp && sum == 0) => {
                let updated = checksum::update_u16(sum, old, new);
                put(frame, self.checksum, if is_udp { checksum::non_zero(updated) } else { updated });
            }
            Some(_) | None => {}
        }
    }
}

/// Whether the ICMP checksum is right (N42: RFC 5508 REQ-3).
fn is_intact<A: Address>(p: &Packet<A>) -> bool {
    let message = p.payload();
    let sum = checksum::sum(message);
    let pseudo = if A::IS_V6 { p.tuple().src.pseudo(p.tuple().dst, A::ICMP, message.len() as u32) } else { 0 };
    checksum::add(sum, pseudo) == 0xffff
}

/// Computes the ICMP checksum of a message whose octets have changed.
fn finish<A: Address>(p: &mut Packet<A>) {
    let tuple = *p.tuple();
    let (l4, len) = (p.l4(), p.payload().len());
    put(p.octets_mut(), l4 + 2, 0);
    let pseudo = if A::IS_V6 { tuple.src.pseudo(tuple.dst, A::ICMP, len as u32) } else { 0 };
    let sum = !checksum::add(checksum::sum(p.payload()), pseudo);
    put(p.octets_mut(), l4 + 2, sum);
}

impl Nat {
    /// An error from inside, about what came from outside (N44).
    pub(crate) fn error_outbound<A: Family>(
        &mut self,
        stations: &Stations,
        p: &mut Packet<A>,
        port: u16,
    ) -> Result<(), DropReason> {
        self.translate_error(stations, p, Some(port), DropReason::NatState)
    }

    /// An error from outside, about what went out (N43).
    pub(crate) fn error_inbound<A: Family>(&mut self, stations: &Stations, p: &mut Packet<A>) -> Result<(), DropReason> {
        self.translate_error(stations, p, None, DropReason::Unsolicited)
    }

    fn translate_error<A: Family>(
        &mut self,
        stations: &Stations,
        p: &mut Packet<A>,
        inside: Option<u16>,
        unknown: DropReason,
    ) -> Result<(), DropReason> {
        if p.fragment().is_some() || !is_intact(p) {
            return Err(DropReason::PacketMalformed);
        }
        let quote = Quote::<A>::read(p.frame().bytes(), p.l4() + ICMP_HEADER).ok_or(DropReason::PacketMalformed)?;
        // Told to the quoted packet's sender, or it is nobody's business.
        if quote.tuple.src != p.tuple().dst {
            return Err(DropReason::PacketMalformed);
        }
        let likely = if inside.is_some() { Direction::Original } else { Direction::Reply };
        let sessions = &self.table::<A>().sessions;
        let (position, direction) = sessions.find(&quote.tuple.reverse(), likely).ok_or(unknown)?;
        let (original, session, _) = sessions.at(position).ok_or(unknown)?;
        if !stations.is_current(session.owner) {
            return Err(unknown);
        }
        if inside.is_some_and(|port| port != session.owner.port) {
            return Err(DropReason::SourceSpoof);
        }
        let sent = match direction {
            Direction::Original => session.reply,
            Direction::Reply => *original,
        };
        quote.rewrite(p.octets_mut(), &sent);
        if inside.is_some() || p.tuple().src == quote.tuple.dst {
            p.rewrite_src(sent.dst, 0);
        }
        p.rewrite_dst(sent.src, 0);
        finish(p);
        Ok(())
    }
}

impl Nat {
    /// Takes a translation back: a packet that was to leave becomes what its sender sent. Gives the sender's port.
    pub(crate) fn undo<A: Family>(&self, stations: &Stations, p: &mut Packet<A>) -> Option<u16> {
        let sessions = &self.table::<A>().sessions;
        let (position, direction) = sessions.find(&p.tuple().reverse(), Direction::Reply)?;
        let (original, session, _) = sessions.at(position).filter(|(_, session, _)| stations.is_current(session.owner))?;
        let sent = match direction {
            Direction::Original => session.reply,
            Direction::Reply => *original,
        };
        p.rewrite_src(sent.src, sent.sport);
        p.rewrite_dst(sent.dst, sent.dport);
        Some(session.owner.port)
    }
}

/// What we tell a sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IcmpError {
    /// No hop is left (RFC 792 type 11 code 0; RFC 4443 3.3).
    HopLimit,
    /// Larger than the next link's MTU (RFC 1191 4; RFC 4443 3.2).
    TooBig {
        /// That MTU, octets of layer 3.
        mtu: u16,
    },
    /// Not allowed: a quota or a full table (RFC 5508 REQ-8, N47; RFC 4443 3.1 code 1).
    Prohibited,
    /// No route (RFC 792 type 3 code 0; RFC 4443 3.1 code 0).
    NoRoute,
    /// Nobody listens there (RFC 1122 3.2.2.1 code 3; RFC 4443 3.1 code 4).
    Port,
    /// What somebody else said: type, code and the last two octets of the header.
    Told {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// An MTU, mostly.
        value: u16,
    },
    /// The next hop does not answer (RFC 1122 3.3.1.5 code 1; RFC 4443 3.1 code 3).
    Unreachable,
}

impl IcmpError {
    /// Type, code, and the last two octets of the header.
    const fn fields(self, is_v6: bool) -> (u8, u8, u16) {
        match (self, is_v6) {
            (Self::HopLimit, false) => (11, 0, 0),
            (Self::HopLimit, true) => (3, 0, 0),
            (Self::TooBig { mtu }, false) => (3, 4, mtu),
            (Self::TooBig { mtu }, true) => (2, 0, mtu),
            (Self::Prohibited, false) => (3, 13, 0),
            (Self::Prohibited, true) => (1, 1, 0),
            (Self::NoRoute, false) => (3, 0, 0),
            (Self::NoRoute, true) => (1, 0, 0),
            (Self::Told { kind, code, value }, _) => (kind, code, value),
            (Self::Port, false) => (3, 3, 0),
            (Self::Port, true) => (1, 4, 0),
            (Self::Unreachable, false) => (3, 1, 0),
            (Self::Unreachable, true) => (1, 3, 0),
        }
    }
}

/// Whether an error may be sent about a packet (RFC 1812 4.3.2.7, RFC 4443 2.4 (e)). Its addresses were judged by the parser.
#[must_use]
pub fn deserves_error<A: Address>(p: &Packet<A>) -> bool {
    let is_to_group = p.frame().bytes().first().is_some_and(|octet| octet & 1 == 1);
    // An ICMP message that is no query might be an error; unknown IPv6 types below 128 are parsed as such.
    let is_icmp = p.tuple().protocol == A::ICMP;
    let is_query = matches!(p.transport(), Transport::Echo { .. });
    !is_to_group && !p.is_later_fragment() && (!is_icmp || is_query)
}

/// Writes an error from `source` over the packet it is about. The Ethernet header is left for the caller.
#[must_use]
pub fn write_error<A: Address>(p: Packet<A>, error: IcmpError, source: A) -> FrameBuf {
    let (l3, to, len) = (p.l3(), p.tuple().src, p.len());
    let longest = if A::IS_V6 { A::LEAST_MTU } else { LONGEST_V4 };
    let headers = A::HEADER + ICMP_HEADER;
    let quoted = len.min(longest - headers);
    let total = headers + quoted;
    let mut frame = p.into_frame();
    frame.meta = FrameMeta::default();
    if !frame.set_len(l3 + total.max(len)) {
        return frame;
    }
    let octets = frame.bytes_mut();
    if octets.len() >= l3 + headers + quoted {
        octets.copy_within(l3..l3 + quoted, l3 + headers);
    }
    let (kind, code, value) = error.fields(A::IS_V6);
    if let Some(header) = octets.get_mut(l3..l3 + headers) {
        header.fill(0);
        if A::IS_V6 {
            put(header, 0, 0x6000);
            put(header, 4, (total - A::HEADER) as u16);
            put(header, 6, u16::from_be_bytes([A::ICMP, HOPS]));
        } else {
            put(header, 0, 0x4500);
            put(header, 2, total as u16);
            // RFC 6864 4.1: atomic, so its identification is nobody's.
            put(header, 6, 0x4000);
            put(header, 8, u16::from_be_bytes([HOPS, A::ICMP]));
        }
        if let Some(place) = header.get_mut(A::SOURCE..) {
            source.write(place);
        }
        if let Some(place) = header.get_mut(A::SOURCE + A::LEN..) {
            to.write(place);
        }
        put(header, A::HEADER, u16::from_be_bytes([kind, code]));
        put(header, A::HEADER + 6, value);
        if !A::IS_V6 {
            let sum = checksum::checksum(header.get(..A::HEADER).unwrap_or_default());
            put(header, 10, sum);
        }
    }
    let message = octets.get(l3 + A::HEADER..l3 + total).unwrap_or_default();
    let pseudo = if A::IS_V6 { source.pseudo(to, A::ICMP, message.len() as u32) } else { 0 };
    let sum = !checksum::add(checksum::sum(message), pseudo);
    put(octets, l3 + A::HEADER + 2, sum);
    let _ = frame.set_len(l3 + total);
    frame
}

/// A bucket of errors to be sent (RFC 1812 4.3.2.8, RFC 4443 2.4 (f)).
#[derive(Clone, Copy, Debug)]
pub struct Limiter {
    tokens: u32,
    filled: Time,
}

impl Limiter {
    /// Errors in a burst: a traceroute that sends 16 probes at once, three to a hop, sees every one answered.
    pub const BURST: u32 = 50;
    /// Between two errors in the long run: 100 a second.
    pub const INTERVAL: Duration = Duration::from_millis(10);

    /// Full.
    #[must_use]
    pub const fn new(now: Time) -> Self {
        Self { tokens: Self::BURST, filled: now }
    }

    /// Whether one more may be sent.
    pub fn take(&mut self, now: Time) -> bool {
        let interval = Self::INTERVAL.as_nanos() as u64;
        let more = now.nanos().saturating_sub(self.filled.nanos()) / interval;
        if more > 0 {
            self.tokens = self.tokens.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)).min(Self::BURST);
            self.filled = Time::from_nanos(self.filled.nanos() + more * interval);
        }
        let may = self.tokens > 0;
        self.tokens -= u32::from(may);
        may
    }
}
