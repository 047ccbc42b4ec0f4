//! Software offload: checksums and segmentation for a port that cannot take a frame's metadata.
//!
//! Theory. A sender whose interface promised offloads hands over a frame that is not ready for a wire: its layer 4 checksum is
//! partial ([`Csum::Partial`]), or it is up to 64 KB long and to be cut ([`Gso`]). A port that makes the same promise takes it
//! as it is. For one that does not, the promise is kept here: [`finish_into`] completes the checksum of a copy, [`Segments`]
//! writes one segment at a time. Both write to a scratch buffer of the caller and leave the frame untouched, for other ports
//! may still want it whole. The tag is metadata and not written: the caller puts it between the addresses and the rest.
//!
//! A segment is the headers copied and corrected (kernel `net/ipv4/tcp_offload.c`, `udp_offload.c`, `net/ipv6/ip6_offload.c`):
//! - IPv4: total length, identification + i, header checksum; IPv6: payload length;
//! - TCP: sequence number + i * size, FIN and PSH only on the last, CWR only on the first (RFC 3168 6.1.2: it answers one
//!   ECE); UDP: length;
//! - the whole layer 4 checksum, computed afresh, whether the frame's own was partial or final.
//!
//! Limits: [`SEGMENT_LIMIT`] segments a frame, [`EXTENSION_LIMIT`] IPv6 extension headers, [`TAG_LIMIT`] tags left in the
//! octets. What does not fit, and what contradicts its metadata, is [`DropReason::GsoUnsupported`], found before the first
//! segment is written.
//!
//! exception: an IPv6 routing header with segments left (RFC 8200 8.1: the pseudo-header takes the final destination) is
//! refused; nothing that offloads writes one.
use crate::checksum;
use core::ops::Range;
use vswitch_switch::head::ETHERNET_HEADER;
use vswitch_switch::{Csum, DropReason, EtherType, FrameBuf, Gso, GsoKind};

/// Segments that one frame may be cut into.
pub const SEGMENT_LIMIT: usize = 65_536;
/// IPv6 extension headers that are followed.
pub const EXTENSION_LIMIT: usize = 8;
/// VLAN tags in the octets that are skipped.
pub const TAG_LIMIT: usize = 2;

const TAG_LEN: usize = 4;
const IPV6_HEADER: usize = 40;
const TCP: u8 = 6;
const UDP: u8 = 17;
const TCP_FIN: u8 = 0x01;
const TCP_PSH: u8 = 0x08;
const TCP_CWR: u8 = 0x80;

/// Copies `frame` to `scratch` with its checksum complete; returns the octets written.
///
/// `None` when the frame needs segmentation, when `scratch` is shorter than the frame, or when the metadata points outside it.
#[must_use]
pub fn finish_into(frame: &FrameBuf, scratch: &mut [u8]) -> Option<usize> {
    if frame.meta.gso.is_some() {
        return None;
    }
    let octets = frame.bytes();
    let out = scratch.get_mut(..octets.len())?;
    out.copy_from_slice(octets);
    match frame.meta.csum {
        Csum::Complete => Some(octets.len()),
        Csum::Partial { start, offset } => checksum::finish(out, usize::from(start), usize::from(offset)).then_some(octets.len()),
    }
}

/// The IP header of a frame to be cut, as far as its segments differ.
#[derive(Clone, Copy, Debug)]
enum Ip {
    V4 { src: [u8; 4], dst: [u8; 4], id: u16 },
    V6 { src: [u8; 16], dst: [u8; 16] },
}

/// The layer 4 header of a frame to be cut, as far as its segments differ.
#[derive(Clone, Copy, Debug)]
enum Transport {
    Tcp { seq: u32, flags: u8 },
    Udp,
}

/// What the segments of a GSO frame look like, its octets aside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    headers: usize,
    size: usize,
    l3: usize,
    l4: usize,
    ip: Ip,
    transport: Transport,
    count: usize,
}

impl Layout {
    /// Reads the headers; `None` where [`Segments::new`] says [`DropReason::GsoUnsupported`].
    pub(crate) fn of(frame: &FrameBuf) -> Option<Self> {
        frame.meta.gso.and_then(|gso| Self::read(frame.bytes(), gso))
    }

    fn read(frame: &[u8], gso: Gso) -> Option<Self> {
        let (l4, size) = (usize::from(gso.l4), usize::from(gso.size.get()));
        let (headers, payload) = frame.split_at_checked(usize::from(gso.headers))?;
        let (l3, ethertype) = find_l3(headers)?;
        let (protocol, transport) = match gso.kind {
            GsoKind::TcpV4 | GsoKind::TcpV6 => (TCP, read_tcp(headers, l4)?),
            GsoKind::UdpL4 => (UDP, (headers.len() == l4.checked_add(8)?).then_some(Transport::Udp)?),
        };
        let ip = match (gso.kind, ethertype) {
            (GsoKind::TcpV4 | GsoKind::UdpL4, EtherType::IPV4) => read_v4(headers, l3, l4, protocol)?,
            (GsoKind::TcpV6 | GsoKind::UdpL4, EtherType::IPV6) => read_v6(headers, l3, l4, protocol)?,
            (GsoKind::TcpV4 | GsoKind::TcpV6 | GsoKind::UdpL4, _) => return None,
        };
        // The longest segment must fit the 16 bits of IPv4's total length (for IPv6 40 octets more would, but nobody needs them).
        let longest = headers.len().checked_sub(l3)? + payload.len().min(size);
        // A frame without payload is still one segment.
        let count = payload.len().div_ceil(size).max(1);
        if longest > usize::from(u16::MAX) || count > SEGMENT_LIMIT {
            return None;
        }
        Some(Self { headers: headers.len(), size, l3, l4, ip, transport, count })
    }

    /// Octets of all headers.
    pub(crate) const fn headers(&self) -> usize {
        self.headers
    }

    /// Octets from the frame's start to layer 3.
    pub(crate) const fn l3(&self) -> usize {
        self.l3
    }

    /// Where the headers and the payload of segment `number` lie in a frame of `len` octets, if its headers are put right before its
    /// payload; `None` after the last.
    pub(crate) fn place(&self, number: usize, len: usize) -> Option<Range<usize>> {
        let start = number.checked_mul(self.size).filter(|_| number < self.count)?;
        let end = start.checked_add(self.headers)?.checked_add(self.size)?.min(len);
        Some(start..end)
    }

    /// Makes `out`, the frame's headers and the payload of segment `number`, that segment.
    pub(crate) fn complete(&self, number: usize, out: &mut [u8]) -> Option<()> {
        self.write_ip(number, out)?;
        self.write_transport(number, out)
    }

    fn write_ip(&self, number: usize, out: &mut [u8]) -> Option<()> {
        let len = out.len().checked_sub(self.l3)?;
        match self.ip {
            Ip::V4 { id, .. } => {
                put(out, self.l3 + 2, u16::try_from(len).ok()?)?;
                // 16 bits, by design of the field.
                put(out, self.l3 + 4, id.wrapping_add(number as u16))?;
                put(out, self.l3 + 10, 0)?;
                let sum = checksum::checksum(out.get(self.l3..self.l4)?);
                put(out, self.l3 + 10, sum)
            }
            Ip::V6 { .. } => put(out, self.l3 + 4, u16::try_from(len.checked_sub(IPV6_HEADER)?).ok()?),
        }
    }

    fn write_transport(&self, number: usize, out: &mut [u8]) -> Option<()> {
        let len = u16::try_from(out.len().checked_sub(self.l4)?).ok()?;
        let (protocol, field) = match self.transport {
            Transport::Tcp { seq, flags } => {
                let from = number.checked_mul(self.size)?;
                let seq = seq.wrapping_add(u32::try_from(from).ok()?).to_be_bytes();
                out.get_mut(self.l4 + 4..self.l4 + 8)?.copy_from_slice(&seq);
                let last_only = if number + 1 < self.count { TCP_FIN | TCP_PSH } else { 0 };
                let first_only = if number > 0 { TCP_CWR } else { 0 };
                *out.get_mut(self.l4 + 13)? = flags & !(last_only | first_only);
                (TCP, checksum::TCP_CHECKSUM)
            }
            Transport::Udp => {
                put(out, self.l4 + 4, len)?;
                (UDP, checksum::UDP_CHECKSUM)
            }
        };
        let pseudo = match self.ip {
            Ip::V4 { src, dst, .. } => checksum::pseudo_v4(src, dst, protocol, len),
            Ip::V6 { src, dst } => checksum::pseudo_v6(src, dst, protocol, u32::from(len)),
        };
        put(out, self.l4 + field, pseudo)?;
        checksum::finish(out, self.l4, field).then_some(())
    }
}

/// The segments of a GSO frame, written one at a time.
#[derive(Debug)]
pub struct Segments<'a> {
    frame: &'a [u8],
    layout: Layout,
    next: usize,
}

impl<'a> Segments<'a> {
    /// Reads the headers of a GSO frame.
    ///
    /// # Errors
    /// [`DropReason::GsoUnsupported`] when the frame has no segmentation left to do, when its headers are not those that its
    /// metadata tells of, or when a limit of this module is passed.
    pub fn new(frame: &'a FrameBuf) -> Result<Self, DropReason> {
        let layout = Layout::of(frame).ok_or(DropReason::GsoUnsupported)?;
        Ok(Self { frame: frame.bytes(), layout, next: 0 })
    }

    /// How many segments the frame is cut into in all, at least 1 and at most [`SEGMENT_LIMIT`].
    #[must_use]
    pub const fn count(&self) -> usize {
        self.layout.count
    }

    /// Writes the next segment, complete, to the start of `scratch` and returns its octets.
    ///
    /// `None` after the last one, and when `scratch` is shorter than the segment (headers + size at the most).
    #[must_use]
    pub fn next_into(&mut self, scratch: &mut [u8]) -> Option<usize> {
        let place = self.layout.place(self.next, self.frame.len())?;
        let (headers, payload) =
            (self.frame.get(..self.layout.headers)?, self.frame.get(place.start + self.layout.headers..place.end)?);
        let len = headers.len() + payload.len();
        let out = scratch.get_mut(..len)?;
        let (head, tail) = out.split_at_mut_checked(headers.len())?;
        head.copy_from_slice(headers);
        tail.copy_from_slice(payload);
        self.layout.complete(self.next, out)?;
        self.next += 1;
        Some(len)
    }
}

fn put(out: &mut [u8], at: usize, value: u16) -> Option<()> {
    out.get_mut(at..at.checked_add(2)?)?.copy_from_slice(&value.to_be_bytes());
    Some(())
}

fn get(octets: &[u8], at: usize) -> Option<u16> {
    array(octets, at).map(u16::from_be_bytes)
}

fn array<const N: usize>(octets: &[u8], at: usize) -> Option<[u8; N]> {
    octets.get(at..)?.first_chunk().copied()
}

/// Where layer 3 begins, past the tags that are in the octets, and what it is.
fn find_l3(headers: &[u8]) -> Option<(usize, EtherType)> {
    let mut at = ETHERNET_HEADER;
    for _ in 0..=TAG_LIMIT {
        match get(headers, at.checked_sub(2)?)? {
            0x8100 | 0x88a8 => at += TAG_LEN,
            other => return Some((at, EtherType(other))),
        }
    }
    None
}

fn read_v4(headers: &[u8], l3: usize, l4: usize, protocol: u8) -> Option<Ip> {
    let version_ihl = *headers.get(l3)?;
    let header = usize::from(version_ihl & 15) * 4;
    // A fragment (offset, or more to come) cannot be cut: its layer 4 header is not all of the datagram's.
    let is_fragment = get(headers, l3 + 6)? & 0x3fff != 0;
    if version_ihl >> 4 != 4 || header < 20 || l3 + header != l4 || is_fragment || *headers.get(l3 + 9)? != protocol {
        return None;
    }
    Some(Ip::V4 { src: array(headers, l3 + 12)?, dst: array(headers, l3 + 16)?, id: get(headers, l3 + 4)? })
}

fn read_v6(headers: &[u8], l3: usize, l4: usize, protocol: u8) -> Option<Ip> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const DESTINATION: u8 = 60;
    if *headers.get(l3)? >> 4 != 6 {
        return None;
    }
    let mut next = *headers.get(l3 + 6)?;
    let mut at = l3 + IPV6_HEADER;
    for _ in 0..EXTENSION_LIMIT {
        if next == protocol {
            break;
        }
        let [following, words, _, segments_left] = array(headers, at)?;
        let is_known = match next {
            HOP_BY_HOP | DESTINATION => true,
            ROUTING => segments_left == 0,
            _ => false,
        };
        if !is_known {
            return None;
        }
        next = following;
        at += (usize::from(words) + 1) * 8;
    }
    if next != protocol || at != l4 {
        return None;
    }
    Some(Ip::V6 { src: array(headers, l3 + 8)?, dst: array(headers, l3 + 24)? })
}

fn read_tcp(headers: &[u8], l4: usize) -> Option<Transport> {
    let header = usize::from(*headers.get(l4.checked_add(12)?)? >> 4) * 4;
    if header < 20 || headers.len() != l4 + header {
        return None;
    }
    Some(Transport::Tcp { seq: array(headers, l4 + 4).map(u32::from_be_bytes)?, flags: *headers.get(l4 + 13)? })
}

#[cfg(test)]
mod tests;
