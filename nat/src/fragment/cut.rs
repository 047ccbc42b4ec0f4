//! [`Fragmenter`]: an IPv4 packet without DF, cut for a link that it is too long for (RFC 791 3.2; N18); an IPv6 packet of our own too.
//!
//! Theory. The fragmenter owns the frame and works in place, so it needs no scratch buffer and allocates nothing. It goes from
//! *datagram* to datagram. A plain frame is one; its partial checksum is completed first, for only the whole can be summed. A GSO frame is as
//! many as it has segments: the headers of the next segment are written just before its payload, over what has been sent
//! already, so that each in turn lies in the frame as if it had come alone.
//!
//! From a datagram, fragments are copied out in order: the Ethernet header, an IP header, and as much as fits. All have the
//! datagram's identification. The first has its header with all options; the others only the options that say so (RFC 791 3.1: the
//! copied flag), padded. Offset and MF continue the datagram's own, which may be a fragment itself.
//!
//! IPv6 is cut by its source only (RFC 8200 4.5): [`Fragmenter::originate`] is for packets that we write ourselves, which have no extension
//! headers. Each fragment gets a fragment header after the IP header; a segment that fits gets none (RFC 8021).
//!
//! What it does not do: cut another's IPv6, and a packet with DF: [`DropReason::TooBig`] both.
use crate::checksum;
use crate::offload::Layout;
use vswitch_switch::{Csum, DropReason, FrameBuf};

/// The longest IPv4 header, octets.
const MAX_HEADER: usize = 60;
/// The shortest.
const MIN_HEADER: usize = 20;
/// The IPv6 header, octets.
const V6_HEADER: usize = 40;
/// The fragment header, octets (RFC 8200 4.5), and its number.
const V6_FRAGMENT: usize = 8;
const FRAGMENT_HEADER: u8 = 44;
/// All headers of a GSO frame, octets: Ethernet, two tags, IPv4 and TCP with all options.
const MAX_HEADERS: usize = 14 + 8 + 60 + 60;
/// Fragments begin at multiples of this, octets.
const UNIT: usize = 8;
const MORE: u16 = 0x2000;
const DONT: u16 = 0x4000;
const OFFSET: u16 = 0x1fff;

/// An IPv4 header, or an IPv6 header and a fragment header.
#[derive(Clone, Copy, Debug)]
struct Header {
    octets: [u8; MAX_HEADER],
    len: usize,
    is_v6: bool,
}

impl Header {
    /// Copies the header at the start of `packet`.
    fn read(packet: &[u8]) -> Option<Self> {
        let first = *packet.first()?;
        let len = usize::from(first & 15) * 4;
        if first >> 4 != 4 || len < MIN_HEADER {
            return None;
        }
        let mut octets = [0; MAX_HEADER];
        octets.get_mut(..len)?.copy_from_slice(packet.get(..len)?);
        Some(Self { octets, len, is_v6: false })
    }

    /// Copies the IPv6 header at the start of `packet`, and puts a fragment header behind it if it is to be cut.
    fn read_v6(packet: &[u8], cut: Option<u32>) -> Option<Self> {
        let mut octets = [0; MAX_HEADER];
        octets.get_mut(..V6_HEADER)?.copy_from_slice(packet.get(..V6_HEADER)?);
        let Some(id) = cut else { return Some(Self { octets, len: V6_HEADER, is_v6: true }) };
        let next = core::mem::replace(octets.get_mut(6)?, FRAGMENT_HEADER);
        *octets.get_mut(V6_HEADER)? = next;
        octets.get_mut(V6_HEADER + 4..V6_HEADER + V6_FRAGMENT)?.copy_from_slice(&id.to_be_bytes());
        Some(Self { octets, len: V6_HEADER + V6_FRAGMENT, is_v6: true })
    }

    /// The header of all fragments but the first: what options have the copied flag, then padding (RFC 791 3.1).
    fn for_later(&self) -> Option<Self> {
        const END: u8 = 0;
        const NO_OPERATION: u8 = 1;
        const COPIED: u8 = 0x80;
        let mut later = Self { octets: [0; MAX_HEADER], len: MIN_HEADER, is_v6: false };
        later.octets.get_mut(..MIN_HEADER)?.copy_from_slice(self.octets.get(..MIN_HEADER)?);
        let mut options = self.octets.get(MIN_HEADER..self.len)?;
        // Each turn takes at least one of at most 40 octets.
        while let Some((&kind, rest)) = options.split_first() {
            let len = match kind {
                END => break,
                NO_OPERATION => 1,
                _ => usize::from(*rest.first()?).max(2),
            };
            let (option, following) = options.split_at_checked(len)?;
            if kind & COPIED != 0 {
                later.octets.get_mut(later.len..later.len + len)?.copy_from_slice(option);
                later.len += len;
            }
            options = following;
        }
        later.len = later.len.next_multiple_of(4);
        *later.octets.first_mut()? = 0x40 | (later.len / 4) as u8;
        Some(later)
    }

    fn word(&self, at: usize) -> u16 {
        self.octets.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u16::from_be_bytes(*word))
    }

    /// Writes it to the start of `packet`, the whole fragment, with that length, that offset in units, whether more follow, and its checksum.
    fn write(&self, packet: &mut [u8], offset: u16, more: bool) -> Option<()> {
        let total = u16::try_from(packet.len()).ok()?;
        let place = packet.get_mut(..self.len)?;
        place.copy_from_slice(self.octets.get(..self.len)?);
        if self.is_v6 {
            place.get_mut(4..6)?.copy_from_slice(&total.checked_sub(V6_HEADER as u16)?.to_be_bytes());
            if self.len > V6_HEADER {
                let fragment = offset << 3 | u16::from(more);
                place.get_mut(V6_HEADER + 2..V6_HEADER + 4)?.copy_from_slice(&fragment.to_be_bytes());
            }
            return Some(());
        }
        let fragment = offset & OFFSET | if more { MORE } else { 0 };
        place.get_mut(2..4)?.copy_from_slice(&total.to_be_bytes());
        place.get_mut(6..8)?.copy_from_slice(&fragment.to_be_bytes());
        place.get_mut(10..12)?.copy_from_slice(&[0, 0]);
        let sum = checksum::checksum(place);
        place.get_mut(10..12)?.copy_from_slice(&sum.to_be_bytes());
        Some(())
    }
}

const MALFORMED: DropReason = DropReason::PacketMalformed;

/// What is needed to cut an IPv6 packet of our own.
#[derive(Clone, Copy, Debug)]
struct Own {
    /// The identification of its fragments.
    id: u32,
    mtu: usize,
}

/// What is being cut now: a whole packet or a fragment.
#[derive(Clone, Copy, Debug)]
struct Current {
    /// Of its next fragment.
    header: Header,
    later: Header,
    /// Octets from the buffer's start to its IP header; the Ethernet header before it goes into each fragment.
    l3: usize,
    /// Octets from the buffer's start to what has not been sent.
    at: usize,
    /// The same to its end.
    end: usize,
    /// Offset of what has not been sent, in units.
    offset: u16,
    /// Whether it is a fragment itself, and not the last.
    more: bool,
}

impl Current {
    /// Reads the packet that begins `start` octets into `frame`; an IPv6 packet only if it is our own.
    fn read(frame: &[u8], start: usize, own: Option<Own>) -> Result<Self, DropReason> {
        let packet = frame.get(start..).ok_or(MALFORMED)?;
        if packet.first().is_some_and(|first| first >> 4 == 6) {
            return Self::read_v6(packet, start, own.ok_or(DropReason::TooBig)?);
        }
        let header = Header::read(packet).ok_or(MALFORMED)?;
        let (total, fragment) = (usize::from(header.word(2)), header.word(6));
        if total < header.len || total > packet.len() {
            return Err(MALFORMED);
        }
        if fragment & DONT != 0 {
            return Err(DropReason::TooBig);
        }
        let later = header.for_later().ok_or(MALFORMED)?;
        let (offset, more) = (fragment & OFFSET, fragment & MORE != 0);
        // The last fragment's offset has 13 bits too.
        if usize::from(offset) * UNIT + total - header.len > usize::from(u16::MAX) {
            return Err(MALFORMED);
        }
        Ok(Self { header, later, l3: start, at: start + header.len, end: start + total, offset, more })
    }

    fn read_v6(packet: &[u8], start: usize, own: Own) -> Result<Self, DropReason> {
        let length = packet.get(4..).and_then(<[u8]>::first_chunk).ok_or(MALFORMED)?;
        let total = V6_HEADER + usize::from(u16::from_be_bytes(*length));
        if total > packet.len() {
            return Err(MALFORMED);
        }
        let header = Header::read_v6(packet, (total > own.mtu).then_some(own.id)).ok_or(MALFORMED)?;
        Ok(Self { header, later: header, l3: start, at: start + V6_HEADER, end: start + total, offset: 0, more: false })
    }
}

/// The segments of a GSO frame.
#[derive(Clone, Copy, Debug)]
struct Segmented {
    layout: Layout,
    headers: [u8; MAX_HEADERS],
    next: usize,
}

/// See the module's theory.
#[derive(Debug)]
pub struct Fragmenter {
    frame: FrameBuf,
    /// Octets before the IP header of each fragment.
    l3: usize,
    mtu: usize,
    own: Option<Own>,
    /// `None` between two datagrams.
    current: Option<Current>,
    segments: Option<Segmented>,
}

impl Fragmenter {
    /// Takes a frame whose IPv4 packet begins `l3` octets into it, to be cut to at most `mtu` octets of layer 3.
    ///
    /// # Errors
    /// The frame, and [`DropReason::TooBig`] when it may not be cut (DF, IPv6, an MTU that leaves no room),
    /// [`DropReason::PacketMalformed`], [`DropReason::BadOffload`] or [`DropReason::GsoUnsupported`].
    #[allow(clippy::result_large_err, reason = "a frame is moved, never copied or freed")]
    pub fn new(frame: FrameBuf, l3: usize, mtu: usize) -> Result<Self, (FrameBuf, DropReason)> {
        Self::begin(frame, l3, mtu, None)
    }

    /// The same for a frame that we are the source of: IPv6 is cut too, its fragments identified by `id`, those of each further segment by
    /// the number after.
    ///
    /// # Errors
    /// As [`Fragmenter::new`], but for IPv6.
    #[allow(clippy::result_large_err, reason = "a frame is moved, never copied or freed")]
    pub fn originate(frame: FrameBuf, l3: usize, mtu: usize, id: u32) -> Result<Self, (FrameBuf, DropReason)> {
        Self::begin(frame, l3, mtu, Some(Own { id, mtu }))
    }

    #[allow(clippy::result_large_err, reason = "a frame is moved, never copied or freed")]
    fn begin(mut frame: FrameBuf, l3: usize, mtu: usize, own: Option<Own>) -> Result<Self, (FrameBuf, DropReason)> {
        match Self::prepare(&mut frame, l3, mtu, own) {
            Ok((current, segments)) => Ok(Self { frame, l3, mtu, own, current, segments }),
            Err(reason) => Err((frame, reason)),
        }
    }

    fn prepare(
        frame: &mut FrameBuf,
        l3: usize,
        mtu: usize,
        own: Option<Own>,
    ) -> Result<(Option<Current>, Option<Segmented>), DropReason> {
        let current = Current::read(frame.bytes(), l3, own)?;
        if mtu < current.header.len + UNIT {
            return Err(DropReason::TooBig);
        }
        if frame.meta.gso.is_some() {
            let layout = Layout::of(frame).filter(|layout| layout.l3() == l3).ok_or(DropReason::GsoUnsupported)?;
            let mut headers = [0; MAX_HEADERS];
            let source = frame.bytes().get(..layout.headers());
            match (headers.get_mut(..layout.headers()), source) {
                (Some(place), Some(source)) => place.copy_from_slice(source),
                _ => return Err(DropReason::GsoUnsupported),
            }
            // Its first segment is read when it is asked for.
            return Ok((None, Some(Segmented { layout, headers, next: 0 })));
        }
        // Padding is no part of the checksum.
        let _ = frame.set_len(current.end);
        if let Csum::Partial { start, offset } = frame.meta.csum {
            if !checksum::finish(frame.bytes_mut(), usize::from(start), usize::from(offset)) {
                return Err(DropReason::BadOffload);
            }
            frame.meta.csum = Csum::Complete;
        }
        Ok((Some(current), None))
    }

    /// Writes the next fragment, complete, into `out`, whatever was there before. `false` after the last.
    #[must_use]
    pub fn next_into(&mut self, out: &mut FrameBuf) -> bool {
        let Some(current) = self.current.take().or_else(|| self.next_segment()) else { return false };
        self.write(current, out).is_some()
    }

    /// The frame, its octets no longer of any use: for its pool.
    #[must_use]
    pub fn into_frame(self) -> FrameBuf {
        self.frame
    }

    /// Makes the next segment a datagram, in place.
    fn next_segment(&mut self) -> Option<Current> {
        let segments = self.segments.as_mut()?;
        let range = segments.layout.place(segments.next, self.frame.len())?;
        let start = range.start;
        let segment = self.frame.bytes_mut().get_mut(range)?;
        let headers = segments.headers.get(..segments.layout.headers())?;
        segment.get_mut(..headers.len())?.copy_from_slice(headers);
        segments.layout.complete(segments.next, segment)?;
        segments.next += 1;
        let own = self.own.map(|own| Own { id: own.id.wrapping_add(segments.next as u32), ..own });
        Current::read(self.frame.bytes(), start + self.l3, own).ok()
    }

    fn write(&mut self, now: Current, out: &mut FrameBuf) -> Option<()> {
        let l3 = self.l3;
        let room = self.mtu.checked_sub(now.header.len)?;
        let rest = now.end.checked_sub(now.at)?;
        let len = if rest <= room { rest } else { room - room % UNIT };
        let is_last = len == rest;
        let frame = self.frame.bytes();
        // What metadata the buffer had goes.
        if !out.fill(frame.get(now.l3.checked_sub(l3)?..now.l3)?) || !out.set_len(l3 + now.header.len + len) {
            return None;
        }
        let packet = out.bytes_mut().get_mut(l3..)?;
        packet.get_mut(now.header.len..)?.copy_from_slice(frame.get(now.at..now.at + len)?);
        now.header.write(packet, now.offset, !is_last || now.more)?;
        if !is_last {
            let offset = now.offset.wrapping_add((len / UNIT) as u16);
            self.current = Some(Current { header: now.later, at: now.at + len, offset, ..now });
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;
