//! Writing what sockets say as frames: headers before a payload that lies in the buffer already.
//!
//! Checksums of layer 4 are left to the receiver ([`Csum::Partial`] with the pseudo-header's sum), and so is segmentation: a frame carries up
//! to 64 KiB whatever the MTU. A port that cannot take that has it done by [`crate::offload`]. Only ICMP is summed here.
use super::tcp::Emit;
use crate::checksum;
use crate::flow::{Address, protocol};
use core::net::{IpAddr, SocketAddr};
use core::num::NonZeroU16;
use vswitch_switch::frame::{Gso, GsoKind};
use vswitch_switch::head::ETHERNET_HEADER;
use vswitch_switch::{Csum, FrameBuf, UnicastMac};

/// Octets of a TCP header without options.
const TCP_HEADER: usize = 20;
/// Octets of a UDP header.
pub const UDP_HEADER: usize = 8;
/// Octets of an ICMP header.
pub const ICMP_HEADER: usize = 8;
/// Octets of the options of our SYN: maximum segment size, one of padding, window scale.
const OFFER_MSS: usize = 4;
const OFFER_SCALE: usize = 4;
/// The longest packet, octets.
const MAX_PACKET: usize = 65_535;
/// Hops of what we send on the host's behalf.
pub const HOPS: u8 = 64;

/// The Ethernet header: who receives and who sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// The container.
    pub dst: UnicastMac,
    /// The gateway.
    pub src: UnicastMac,
}

/// How an IP header is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ip {
    /// TTL or hop limit.
    pub hops: u8,
    /// The identification of an IPv4 packet that may be cut; `None` forbids it (RFC 6864 4.1).
    pub id: Option<u16>,
}

impl Ip {
    /// Never cut.
    pub const WHOLE: Self = Self { hops: HOPS, id: None };
}

/// Octets of the Ethernet and IP headers.
#[must_use]
pub const fn ip_headers(is_v6: bool) -> usize {
    ETHERNET_HEADER + if is_v6 { 40 } else { 20 }
}

/// Octets before the payload of a TCP segment.
#[must_use]
pub const fn tcp_headers(is_v6: bool) -> usize {
    ip_headers(is_v6) + TCP_HEADER
}

/// Octets before the payload of a UDP datagram.
#[must_use]
pub const fn udp_headers(is_v6: bool) -> usize {
    ip_headers(is_v6) + UDP_HEADER
}

/// The longest payload that one frame of segments of `mss` carries: whole segments of it.
#[must_use]
pub fn longest(is_v6: bool, mss: u16) -> usize {
    let mss = usize::from(mss.max(1));
    let most = MAX_PACKET + ETHERNET_HEADER - tcp_headers(is_v6);
    (most / mss * mss).max(mss.min(most))
}

fn put(octets: &mut [u8], at: usize, value: u16) {
    if let Some(place) = octets.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = value.to_be_bytes();
    }
}

fn put_u32(octets: &mut [u8], at: usize, value: u32) {
    if let Some(place) = octets.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = value.to_be_bytes();
    }
}

/// Writes the Ethernet and the IP header of a packet whose layer 4 is `len` octets.
pub(super) fn write_ip<A: Address>(octets: &mut [u8], link: Link, (src, dst): (A, A), number: u8, len: usize, ip: Ip) {
    if let Some([d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1]) = octets.first_chunk_mut() {
        [*d0, *d1, *d2, *d3, *d4, *d5] = link.dst.mac().0;
        [*s0, *s1, *s2, *s3, *s4, *s5] = link.src.mac().0;
        [*t0, *t1] = if A::IS_V6 { [0x86, 0xdd] } else { [0x08, 0x00] };
    }
    let Some(header) = octets.get_mut(ETHERNET_HEADER..ETHERNET_HEADER + A::HEADER) else { return };
    header.fill(0);
    if A::IS_V6 {
        put(header, 0, 0x6000);
        put(header, 4, len as u16);
        put(header, 6, u16::from_be_bytes([number, ip.hops]));
    } else {
        put(header, 0, 0x4500);
        put(header, 2, (len + A::HEADER) as u16);
        put(header, 4, ip.id.unwrap_or(0));
        put(header, 6, if ip.id.is_some() { 0 } else { 0x4000 });
        put(header, 8, u16::from_be_bytes([ip.hops, number]));
    }
    if let Some(place) = header.get_mut(A::SOURCE..) {
        src.write(place);
    }
    if let Some(place) = header.get_mut(A::SOURCE + A::LEN..) {
        dst.write(place);
    }
    if !A::IS_V6 {
        let sum = checksum::checksum(header);
        put(header, 10, sum);
    }
}

/// Both ends in one family; `None` where they differ.
fn ends<A: Address>(from: SocketAddr, to: SocketAddr) -> Option<(A, A)> {
    Some((A::of(from.ip())?, A::of(to.ip())?))
}

/// Writes `link`, IP and layer 4's ports; gives the pseudo-header's sum.
fn write_to(octets: &mut [u8], link: Link, from: SocketAddr, to: SocketAddr, number: u8, len: usize, ip: Ip) -> Option<u16> {
    fn of<A: Address>(
        octets: &mut [u8],
        link: Link,
        (from, to): (SocketAddr, SocketAddr),
        (number, len): (u8, usize),
        ip: Ip,
    ) -> Option<u16> {
        let (src, dst) = ends::<A>(from, to)?;
        write_ip(octets, link, (src, dst), number, len, ip);
        Some(src.pseudo(dst, number, len as u32))
    }
    let sum = if to.is_ipv6() {
        of::<core::net::Ipv6Addr>(octets, link, (from, to), (number, len), ip)
    } else {
        of::<core::net::Ipv4Addr>(octets, link, (from, to), (number, len), ip)
    };
    let l4 = ip_headers(to.is_ipv6());
    put(octets, l4, from.port());
    put(octets, l4 + 2, to.port());
    sum
}

/// Writes a segment around the `len` octets that lie [`tcp_headers`] octets into the frame. `false`, and the frame is worth nothing, when it
/// does not fit. Options are only for a segment without payload.
#[must_use]
pub fn write_tcp(frame: &mut FrameBuf, link: Link, from: SocketAddr, to: SocketAddr, emit: &Emit, len: usize, mss: u16) -> bool {
    let is_v6 = to.is_ipv6();
    let l4 = ip_headers(is_v6);
    let options = emit.offer.map_or(0, |offer| OFFER_MSS + if offer.scale.is_some() { OFFER_SCALE } else { 0 });
    let header = TCP_HEADER + options;
    if l4 - ETHERNET_HEADER + header + len > MAX_PACKET || !frame.begin(l4 + header + len) {
        return false;
    }
    let octets = frame.bytes_mut();
    let Some(pseudo) = write_to(octets, link, from, to, protocol::TCP, header + len, Ip::WHOLE) else { return false };
    put_u32(octets, l4 + 4, emit.seq);
    put_u32(octets, l4 + 8, emit.ack);
    put(octets, l4 + 12, u16::from_be_bytes([(header / 4) as u8 * 16, emit.flags]));
    put(octets, l4 + 14, emit.window);
    put(octets, l4 + 16, pseudo);
    put(octets, l4 + 18, 0);
    if let Some(offer) = emit.offer {
        put(octets, l4 + 20, 0x0204);
        put(octets, l4 + 22, offer.mss);
        if let Some(shift) = offer.scale {
            put(octets, l4 + 24, 0x0103);
            put(octets, l4 + 26, u16::from_be_bytes([3, shift]));
        }
    }
    frame.meta.csum = Csum::Partial { start: l4 as u16, offset: checksum::TCP_CHECKSUM as u16 };
    if len > usize::from(mss) {
        let kind = if is_v6 { GsoKind::TcpV6 } else { GsoKind::TcpV4 };
        let size = NonZeroU16::new(mss).unwrap_or(NonZeroU16::MIN);
        frame.meta.gso = Some(Gso { kind, ecn: false, size, l4: l4 as u16, headers: (l4 + header) as u16 });
    }
    true
}

/// Writes a datagram around the `len` octets that lie [`udp_headers`] octets into the frame; with `segment`, as many datagrams of that
/// size each. `false` when it does not fit.
#[must_use]
pub fn write_udp(
    frame: &mut FrameBuf,
    link: Link,
    (from, to): (SocketAddr, SocketAddr),
    len: usize,
    segment: Option<NonZeroU16>,
    ip: Ip,
) -> bool {
    let is_v6 = to.is_ipv6();
    let l4 = ip_headers(is_v6);
    let total = UDP_HEADER + len;
    if total + l4 - ETHERNET_HEADER > MAX_PACKET || !frame.begin(l4 + total) {
        return false;
    }
    let octets = frame.bytes_mut();
    let Some(pseudo) = write_to(octets, link, from, to, protocol::UDP, total, ip) else { return false };
    put(octets, l4 + 4, total as u16);
    put(octets, l4 + 6, pseudo);
    frame.meta.csum = Csum::Partial { start: l4 as u16, offset: checksum::UDP_CHECKSUM as u16 };
    frame.meta.gso = segment.filter(|size| len > usize::from(size.get())).map(|size| Gso {
        kind: GsoKind::UdpL4,
        ecn: false,
        size,
        l4: l4 as u16,
        headers: (l4 + UDP_HEADER) as u16,
    });
    true
}

/// Writes the headers around an ICMP message whose octets lie [`ip_headers`] octets into the frame, and its checksum. `false` when it does
/// not fit or the addresses are of two families.
#[must_use]
pub fn write_icmp(frame: &mut FrameBuf, link: Link, (from, to): (IpAddr, IpAddr), len: usize, ip: Ip) -> bool {
    fn of<A: Address>(frame: &mut FrameBuf, link: Link, (from, to): (IpAddr, IpAddr), len: usize, ip: Ip) -> Option<()> {
        let (src, dst) = (A::of(from)?, A::of(to)?);
        let l4 = ETHERNET_HEADER + A::HEADER;
        if len + A::HEADER > MAX_PACKET || !frame.begin(l4 + len) {
            return None;
        }
        let octets = frame.bytes_mut();
        write_ip(octets, link, (src, dst), A::ICMP, len, ip);
        put(octets, l4 + 2, 0);
        let pseudo = if A::IS_V6 { src.pseudo(dst, A::ICMP, len as u32) } else { 0 };
        let sum = !checksum::add(checksum::sum(octets.get(l4..)?), pseudo);
        put(octets, l4 + 2, sum);
        Some(())
    }
    if to.is_ipv6() {
        of::<core::net::Ipv6Addr>(frame, link, (from, to), len, ip).is_some()
    } else {
        of::<core::net::Ipv4Addr>(frame, link, (from, to), len, ip).is_some()
    }
}

#[cfg(test)]
mod tests;
