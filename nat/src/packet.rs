//! [`Packet`]: layers 3 and 4 of a frame, parsed once, and rewritten in place.
//!
//! Theory. [`Packet::parse`] judges all that a router must judge (RFC 1812 5.2.2, RFC 8200 4) and keeps offsets; past it no field is
//! looked for again. A rewrite changes an address or a port and everything that covers it, by increments (RFC 1624 equation 3), never
//! by computing a checksum afresh: what arrived broken leaves broken (N77).
//!
//! Which checksum covers what: the IPv4 header's the addresses; that of TCP, UDP, UDP-Lite, DCCP and ICMPv6 addresses (pseudo-header) and
//! ports; that of ICMP the identifier only. A checksum that is still to be made ([`Csum::Partial`]) holds the pseudo-header's sum, so
//! addresses change it, without complement, and ports do not (N75). A GSO frame is one packet here: its segments get what it has (N76).
//!
//! Fragments (RFC 791 3.2, RFC 8200 4.5): only the first has ports; a later one has an address tuple alone, and
//! [`crate::fragment`] knows its datagram. Limits: [`EXTENSION_LIMIT`] IPv6 extension headers. A packet whose way its sender has
//! chosen (IPv4 source route, IPv6 routing header with segments left) is refused: it would carry addresses that we do not translate.
use crate::checksum;
use crate::flow::{Address, Tuple, protocol};
use crate::offload::EXTENSION_LIMIT;
use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice, TcpHeaderSlice};
use vswitch_switch::{Csum, DropReason, FrameBuf, Mac, UnicastMac};

mod intact;
mod read;
pub(crate) use read::refuse_source_route;
pub use read::{IpRead, Readable};
use read::{L4, find_option, is_martian, is_of};

/// TCP flags (RFC 9293 3.1).
pub mod tcp {
    /// No more data.
    pub const FIN: u8 = 0x01;
    /// Synchronise.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement is valid.
    pub const ACK: u8 = 0x10;
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// All of it.
    Whole,
    /// A fragment.
    Fragment(Fragment),
}

/// Where a fragment belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// The datagram's identification, 16 or 32 bits.
    pub id: u32,
    /// Octets of the datagram before it, a multiple of 8.
    pub offset: u16,
    /// Octets of the datagram in it.
    pub len: u16,
    /// Whether others follow.
    pub more: bool,
}

/// A TCP header, as far as a connection's state depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// Sequence number of the first octet.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// The low 8 flags.
    pub flags: u8,
    /// Window, not scaled.
    pub window: u16,
    /// Octets of payload.
    pub len: u32,
    /// Shift of the window scale option (RFC 7323 2.2), on a SYN.
    pub scale: Option<u8>,
    /// The maximum segment size option (RFC 9293 3.7.1), on a SYN.
    pub mss: Option<u16>,
}

impl Segment {
    /// Whether all of `flags` are set.
    #[must_use]
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

/// What layer 4 is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// TCP.
    Tcp(Segment),
    /// UDP or UDP-Lite.
    Udp,
    /// ICMP or ICMPv6 echo.
    Echo {
        /// Or a reply.
        request: bool,
    },
    /// An ICMP or ICMPv6 error: it quotes a packet.
    Error,
    /// Anything else, and ICMP that is neither: translated by address alone.
    Other,
    /// Not in this fragment.
    Absent,
}

/// See the module's theory. It owns its frame.
#[derive(Debug)]
pub struct Packet<A> {
    frame: FrameBuf,
    tuple: Tuple<A>,
    l3: usize,
    l4: usize,
    end: usize,
    part: Part,
    transport: Transport,
    /// Octets from the frame's start to the layer 4 checksum, zero for none.
    checksum: usize,
    /// The same for the two ports, zero for none.
    ports: [usize; 2],
    /// Octets from the frame's start to the IPv6 fragment header, zero for none.
    fragment_header: usize,
}

/// An end of a packet to be rewritten.
#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

/// A frame that is no packet to be routed, and why.
pub type Refused = (FrameBuf, DropReason);

const MALFORMED: DropReason = DropReason::PacketMalformed;
/// The longest packet, octets.
const MAX_PACKET: usize = 65_535;

impl<A: Readable> Packet<A> {
    /// Parses the packet that begins `l3` octets into the frame. The frame's end is cut to the packet's.
    ///
    /// # Errors
    /// The frame, and [`DropReason::PacketMalformed`], [`DropReason::SourceRoute`], [`DropReason::BadOffload`] or [`DropReason::Martian`]
    /// (an address that a router never forwards, RFC 1812 5.3.7).
    #[inline]
    pub fn parse(frame: FrameBuf, l3: usize) -> Result<Self, Refused> {
        Self::parse_to(frame, l3, false)
    }

    /// The same; with `link_local`, the destination may be one of 169.254.0.0/16.
    #[inline]
    pub(crate) fn parse_to(frame: FrameBuf, l3: usize, link_local: bool) -> Result<Self, Refused> {
        match Self::read(&frame, l3, link_local) {
            Ok((tuple, l4, end, l4_read, part, fragment_header)) => {
                let mut frame = frame;
                let _ = frame.set_len(end);
                let at = |offset: usize, is_there: bool| if is_there { l4 + offset } else { 0 };
                let [s, d] = l4_read.ports;
                let (has_source, has_destination) = match l4_read.transport {
                    Transport::Tcp(_) | Transport::Udp => (true, true),
                    Transport::Echo { request } => (request, !request),
                    Transport::Error | Transport::Other | Transport::Absent => (false, false),
                };
                Ok(Self {
                    frame,
                    tuple,
                    l3,
                    l4,
                    end,
                    part,
                    transport: l4_read.transport,
                    checksum: l4_read.checksum.map_or(0, |offset| l4 + offset),
                    ports: [at(s, has_source), at(d, has_destination)],
                    fragment_header,
                })
            }
            Err(reason) => Err((frame, reason)),
        }
    }

    /// What a packet is, where its layer 4 begins and where it ends, without taking the frame: for addresses of our own link, which are
    /// not judged.
    pub(crate) fn peek(frame: &FrameBuf, l3: usize) -> Result<(Transport, usize, usize), DropReason> {
        let packet = frame.bytes().get(l3..).ok_or(MALFORMED)?;
        let ip = A::read_ip(packet)?;
        let octets = packet.get(ip.header..ip.total).ok_or(MALFORMED)?;
        let transport = match ip.part {
            Part::Whole => L4::read::<A>(ip.protocol, octets, true)?.transport,
            Part::Fragment(_) => Transport::Absent,
        };
        Ok((transport, l3 + ip.header, l3 + ip.total))
    }

    #[allow(clippy::type_complexity, reason = "taken apart by its only caller")]
    #[inline]
    fn read(frame: &FrameBuf, l3: usize, link_local: bool) -> Result<(Tuple<A>, usize, usize, L4, Part, usize), DropReason> {
        let packet = frame.bytes().get(l3..).ok_or(MALFORMED)?;
        let ip = A::read_ip(packet)?;
        if is_martian(ip.src, ip.dst, link_local) {
            return Err(DropReason::Martian);
        }
        let (l4, end) = (l3 + ip.header, l3 + ip.total);
        let octets = packet.get(ip.header..ip.total).ok_or(MALFORMED)?;
        let read = match ip.part {
            Part::Whole => L4::read::<A>(ip.protocol, octets, true)?,
            // RFC 1858 3: a first fragment that is too short for its ports, or flags, is an attack, and refused with the malformed.
            Part::Fragment(Fragment { offset: 0, .. }) => L4::read::<A>(ip.protocol, octets, false)?,
            Part::Fragment(_) => L4::without_ports(Transport::Absent, None),
        };
        if let Some(gso) = frame.meta.gso
            && (usize::from(gso.l4) != l4 || ip.part != Part::Whole || !is_of(gso.kind, A::IS_V6, ip.protocol))
        {
            return Err(DropReason::BadOffload);
        }
        // What was behind the packet's end is cut off.
        if let Csum::Partial { start, offset } = frame.meta.csum
            && usize::from(start) + usize::from(offset) + 2 > end
        {
            return Err(DropReason::BadOffload);
        }
        let tuple = Tuple { src: ip.src, dst: ip.dst, sport: read.sport, dport: read.dport, protocol: ip.protocol };
        Ok((tuple, l4, end, read, ip.part, if ip.fragment_header == 0 { 0 } else { l3 + ip.fragment_header }))
    }
}

impl<A: Address> Packet<A> {
    /// Who sends to whom, rewrites included.
    #[inline]
    #[must_use]
    pub const fn tuple(&self) -> &Tuple<A> {
        &self.tuple
    }

    /// Layer 4.
    #[inline]
    #[must_use]
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    /// The fragment, if it is one.
    #[must_use]
    pub const fn fragment(&self) -> Option<Fragment> {
        match self.part {
            Part::Whole => None,
            Part::Fragment(fragment) => Some(fragment),
        }
    }

    /// Whether it is a fragment but the first: it has no ports.
    #[must_use]
    pub const fn is_later_fragment(&self) -> bool {
        matches!(self.part, Part::Fragment(fragment) if fragment.offset > 0)
    }

    /// The frame.
    #[must_use]
    pub const fn frame(&self) -> &FrameBuf {
        &self.frame
    }

    /// The frame, for one who will not look at the packet again.
    #[must_use]
    pub fn into_frame(self) -> FrameBuf {
        self.frame
    }

    /// Octets of layer 3, padding excluded.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.end - self.l3
    }

    /// Never: a packet has a header.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Octets from the frame's start to the IP header.
    #[must_use]
    pub const fn l3(&self) -> usize {
        self.l3
    }

    /// Octets from the frame's start to layer 4.
    #[must_use]
    pub const fn l4(&self) -> usize {
        self.l4
    }

    /// Layer 4's octets.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.frame.bytes().get(self.l4..self.end).unwrap_or_default()
    }

    /// What is judged against an MTU: all of it, or of its largest segment (layer 3 + layer 4 + gso_size).
    #[inline]
    #[must_use]
    pub fn mtu_len(&self) -> usize {
        self.frame.mtu_len()
    }

    /// Whether a router may cut it: IPv4 without DF (RFC 791 3.1).
    #[must_use]
    pub fn may_fragment(&self) -> bool {
        !A::IS_V6 && self.octet(self.l3 + 6) & 0x40 == 0
    }

    /// Hops left (TTL, hop limit).
    #[inline]
    #[must_use]
    pub fn hops(&self) -> u8 {
        self.octet(self.hops_at())
    }

    const fn hops_at(&self) -> usize {
        self.l3 + if A::IS_V6 { 7 } else { 8 }
    }

    /// Takes one hop (RFC 1812 5.3.1, RFC 8200 3). The caller has seen that there is more than one.
    #[inline]
    pub fn take_hop(&mut self) {
        let at = self.hops_at();
        let before = self.word(at);
        if let Some(hops) = self.frame.bytes_mut().get_mut(at) {
            *hops = hops.saturating_sub(1);
        }
        if !A::IS_V6 {
            let after = self.word(at);
            self.update(self.l3 + 10, before, after);
        }
    }

    /// Gives an IPv4 packet another identification (RFC 6864 5.3.1); nothing happens to IPv6.
    pub fn set_id(&mut self, id: u32) {
        if A::IS_V6 {
            if self.fragment_header > 0
                && let Some(place) = self.frame.bytes_mut().get_mut(self.fragment_header + 4..self.fragment_header + 8)
            {
                place.copy_from_slice(&id.to_be_bytes());
            }
        } else {
            let (at, id) = (self.l3 + 4, id as u16);
            let before = self.word(at);
            self.put(at, id);
            self.update(self.l3 + 10, before, id);
        }
        if let Part::Fragment(fragment) = &mut self.part {
            fragment.id = if A::IS_V6 { id } else { id & 0xffff };
        }
    }

    /// Rewrites the source.
    #[inline]
    pub fn rewrite_src(&mut self, address: A, port: u16) {
        self.rewrite(End::Source, address, port);
    }

    /// Rewrites the destination.
    #[inline]
    pub fn rewrite_dst(&mut self, address: A, port: u16) {
        self.rewrite(End::Destination, address, port);
    }

    #[inline]
    fn rewrite(&mut self, end: End, address: A, port: u16) {
        let (old, old_port, at, port_at) = match end {
            End::Source => (self.tuple.src, self.tuple.sport, self.l3 + A::SOURCE, self.ports[0]),
            End::Destination => (self.tuple.dst, self.tuple.dport, self.l3 + A::SOURCE + A::LEN, self.ports[1]),
        };
        if old != address {
            let (before, after) = (old.sum(), address.sum());
            if let Some(place) = self.frame.bytes_mut().get_mut(at..at + A::LEN) {
                address.write(place);
            }
            if !A::IS_V6 {
                self.update(self.l3 + 10, before, after);
            }
            if self.covers_addresses() {
                self.update_l4(before, after, true);
            }
        }
        if port_at > 0 && old_port != port {
            self.put(port_at, port);
            self.update_l4(old_port, port, false);
        }
        let port = if port_at > 0 { port } else { old_port };
        match end {
            End::Source => (self.tuple.src, self.tuple.sport) = (address, port),
            End::Destination => (self.tuple.dst, self.tuple.dport) = (address, port),
        }
    }

    /// Whether the layer 4 checksum has a pseudo-header: all but ICMP's for IPv4.
    const fn covers_addresses(&self) -> bool {
        self.checksum > 0 && self.tuple.protocol != protocol::ICMP
    }

    /// Whether the checksum of our layer 4 is still to be made. One of something encapsulated is not ours.
    #[inline]
    const fn is_partial(&self) -> bool {
        matches!(self.frame.meta.csum, Csum::Partial { start, offset }
            if start as usize == self.l4 && start as usize + offset as usize == self.checksum)
    }

    #[inline]
    fn update_l4(&mut self, before: u16, after: u16, is_pseudo: bool) {
        if self.checksum == 0 {
            return;
        }
        if self.is_partial() {
            // N75: what lies there is the pseudo-header's sum, not complemented.
            if is_pseudo {
                let sum = self.word(self.checksum);
                self.put(self.checksum, checksum::add(checksum::add(sum, !before), after));
            }
            return;
        }
        let is_udp = matches!(self.tuple.protocol, protocol::UDP | protocol::UDP_LITE);
        // N72: no checksum stays no checksum, and a computed zero is sent as 0xffff.
        let old = self.word(self.checksum);
        if is_udp && old == 0 {
            return;
        }
        let new = checksum::update_u16(old, before, after);
        self.put(self.checksum, if is_udp { checksum::non_zero(new) } else { new });
    }

    /// Updates the checksum at `at` for a word that it covers.
    #[inline]
    fn update(&mut self, at: usize, before: u16, after: u16) {
        let updated = checksum::update_u16(self.word(at), before, after);
        self.put(at, updated);
    }

    /// Lowers the maximum segment size that a SYN announces (RFC 9293 3.7.1) to `most`; says whether it did.
    pub fn clamp_mss(&mut self, most: u16) -> bool {
        const MSS: u8 = 2;
        let Transport::Tcp(segment) = self.transport else { return false };
        if !segment.has(tcp::SYN) {
            return false;
        }
        let header = usize::from(self.octet(self.l4 + 12) >> 4) * 4;
        let options = self.frame.bytes().get(self.l4 + 20..self.l4 + header).unwrap_or_default();
        let Some(option) = find_option(options, MSS).filter(|at| options.get(at + 1) == Some(&4)) else { return false };
        let at = self.l4 + 20 + option + 2;
        let before = self.word(at);
        if before <= most {
            return false;
        }
        self.put(at, most);
        // N78: a field at an odd place lies across two words, so its octets count the other way round.
        let is_odd = (at - self.l4) % 2 == 1;
        let (before, after) = if is_odd { (before.swap_bytes(), most.swap_bytes()) } else { (before, most) };
        self.update_l4(before, after, false);
        true
    }

    /// Writes the Ethernet header: who receives and who sends. What metadata there is of a tag goes.
    #[inline]
    pub fn address(&mut self, dst: UnicastMac, src: UnicastMac) {
        address_frame(&mut self.frame, dst.mac(), src);
    }

    #[inline]
    fn octet(&self, at: usize) -> u8 {
        self.frame.bytes().get(at).copied().unwrap_or(0)
    }

    #[inline]
    fn word(&self, at: usize) -> u16 {
        self.frame.bytes().get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u16::from_be_bytes(*word))
    }

    #[inline]
    fn put(&mut self, at: usize, value: u16) {
        if let Some(place) = self.frame.bytes_mut().get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            *place = value.to_be_bytes();
        }
    }

    /// The frame's octets, for who edits what the packet quotes.
    pub(crate) fn octets_mut(&mut self) -> &mut [u8] {
        self.frame.bytes_mut()
    }
}

/// Writes the two addresses of a frame.
pub(crate) fn address_frame(frame: &mut FrameBuf, dst: Mac, src: UnicastMac) {
    frame.meta.tag = None;
    if let Some([d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5]) = frame.bytes_mut().first_chunk_mut() {
        [*d0, *d1, *d2, *d3, *d4, *d5] = dst.0;
        [*s0, *s1, *s2, *s3, *s4, *s5] = src.mac().0;
    }
}

#[cfg(test)]
mod tests;
