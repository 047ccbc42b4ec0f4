//! Reassembly: a socket takes whole datagrams, so what a container sends in fragments is put together first (RFC 791 3.2, RFC 8200 4.5).
//!
//! Theory. The fragment that comes first gives its buffer, in which each payload is put where it belongs; a bit for every 8 octets says what is
//! there. Nothing is ever written twice: a fragment that overlaps what is there is dropped and counted, whatever it says
//! (`exception:` RFC 5722 3 discards the whole datagram; with the first octets kept there is nothing to be gained by overlapping).
//! When all is there, a plain header is written before it, options and extension headers left out, and it is a packet like any other.
//!
//! Bounded: [`DATAGRAMS`] together and [`OF_PORT`] of one port at a time, each for [`LIFETIME`]; the oldest of the port gives way.
use super::wire::{Ip, Link, write_ip};
use crate::packet::{Fragment, Packet, Readable};
use alloc::collections::VecDeque;
use core::net::IpAddr;
use core::time::Duration;
use vswitch_switch::head::ETHERNET_HEADER;
use vswitch_switch::{DropReason, FrameBuf, Head, Time, UnicastMac};

/// Datagrams being put together at the most: a buffer each.
pub const DATAGRAMS: usize = 16;
/// Of one port.
pub const OF_PORT: usize = 4;
/// How long one may take (RFC 791 3.2: 15 s; nothing on a link of microseconds takes that long).
pub const LIFETIME: Duration = Duration::from_secs(5);
/// 64-bit words of a bit for every 8 octets of the longest datagram.
const WORDS: usize = 65_536 / 8 / 64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Name {
    src: IpAddr,
    dst: IpAddr,
    id: u32,
    protocol: u8,
    port: u16,
}

#[derive(Debug)]
struct Partial {
    name: Name,
    frame: FrameBuf,
    there: [u64; WORDS],
    have: usize,
    total: Option<usize>,
    hops: u8,
    since: Time,
}

/// What came of a fragment.
#[derive(Debug)]
pub enum Assembled<A> {
    /// The datagram is whole.
    Whole(Packet<A>),
    /// Others are waited for, and the fragment's buffer keeps them.
    Held,
    /// It was added; its buffer is free.
    Added(FrameBuf),
    /// It ends here.
    Drop(FrameBuf, DropReason),
}

/// See the module's theory.
#[derive(Debug, Default)]
pub struct Reassembly {
    partial: VecDeque<Partial>,
    /// Those that gave way.
    abandoned: VecDeque<FrameBuf>,
    /// Those whose octets went into another.
    spare: VecDeque<FrameBuf>,
}

impl Partial {
    /// Marks octets from `offset` on as there; `false`, and nothing is marked, when some are.
    fn mark(&mut self, offset: usize, len: usize) -> bool {
        let units = offset / 8..(offset + len).div_ceil(8);
        let is_there = |unit: usize| self.there.get(unit / 64).is_none_or(|word| word >> (unit % 64) & 1 == 1);
        if units.clone().any(is_there) {
            return false;
        }
        for unit in units {
            if let Some(word) = self.there.get_mut(unit / 64) {
                *word |= 1 << (unit % 64);
            }
        }
        self.have += len;
        true
    }
}

impl Reassembly {
    /// Buffers that wait here.
    #[must_use]
    pub fn held(&self) -> usize {
        self.partial.len() + self.abandoned.len() + self.spare.len()
    }

    /// The next buffer whose octets went into another.
    pub fn spare(&mut self) -> Option<FrameBuf> {
        self.spare.pop_front()
    }

    /// The next buffer of a datagram that is given up; `forever` is later than all of them.
    pub fn expire(&mut self, now: Time) -> Option<FrameBuf> {
        if let Some(frame) = self.abandoned.pop_front() {
            return Some(frame);
        }
        let is_over = self.partial.front().is_some_and(|partial| now.since(partial.since) >= LIFETIME);
        if is_over { self.partial.pop_front().map(|partial| partial.frame) } else { None }
    }

    /// When [`Reassembly::expire`] has something.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        if !self.abandoned.is_empty() || !self.spare.is_empty() {
            return Some(Time::ZERO);
        }
        self.partial.front().map(|partial| partial.since.after(LIFETIME))
    }

    /// Takes a fragment that came from a port.
    pub fn take<A: Readable>(&mut self, p: Packet<A>, fragment: Fragment, port: u16, now: Time) -> Assembled<A> {
        let tuple = p.tuple();
        let name = Name { src: tuple.src.into(), dst: tuple.dst.into(), id: fragment.id, protocol: tuple.protocol, port };
        match self.partial.iter().position(|partial| partial.name == name) {
            Some(at) => self.add(at, p, fragment),
            None => self.begin(name, p, fragment, now),
        }
    }

    fn begin<A: Readable>(&mut self, name: Name, p: Packet<A>, fragment: Fragment, now: Time) -> Assembled<A> {
        let of_port = self.partial.iter().filter(|partial| partial.name.port == name.port).count();
        if of_port >= OF_PORT {
            let oldest = self.partial.iter().position(|partial| partial.name.port == name.port);
            if let Some(partial) = oldest.and_then(|at| self.partial.remove(at)) {
                self.abandoned.push_back(partial.frame);
            }
        } else if self.partial.len() >= DATAGRAMS {
            return Assembled::Drop(p.into_frame(), DropReason::Fragment);
        }
        let (from, len, hops) = (p.l4(), p.payload().len(), p.hops());
        let mut frame = p.into_frame();
        let (offset, start) = (usize::from(fragment.offset), ETHERNET_HEADER + A::HEADER);
        let longest = frame.len().max(start + offset + len);
        if !frame.set_len(longest) {
            return Assembled::Drop(frame, DropReason::Fragment);
        }
        frame.bytes_mut().copy_within(from..from + len, start + offset);
        let total = (!fragment.more).then_some(offset + len);
        let mut partial = Partial { name, frame, there: [0; WORDS], have: 0, total, hops, since: now };
        partial.mark(offset, len);
        self.partial.push_back(partial);
        Assembled::Held
    }

    fn add<A: Readable>(&mut self, at: usize, p: Packet<A>, fragment: Fragment) -> Assembled<A> {
        let (offset, len) = (usize::from(fragment.offset), p.payload().len());
        let start = ETHERNET_HEADER + A::HEADER + offset;
        let Some(partial) = self.partial.get_mut(at) else { return Assembled::Drop(p.into_frame(), DropReason::Fragment) };
        let ends = (!fragment.more).then_some(offset + len);
        let contradicts = match (partial.total, ends) {
            (Some(total), Some(end)) => total != end,
            (Some(total), None) => offset + len > total,
            (None, _) => false,
        };
        let longest = partial.frame.len().max(start + len);
        if contradicts || !partial.frame.set_len(longest) || !partial.mark(offset, len) {
            return Assembled::Drop(p.into_frame(), DropReason::Fragment);
        }
        partial.total = partial.total.or(ends);
        if let Some(place) = partial.frame.bytes_mut().get_mut(start..start + len) {
            place.copy_from_slice(p.payload());
        }
        let free = p.into_frame();
        if partial.total.is_none_or(|total| partial.have < total) {
            return Assembled::Added(free);
        }
        // The buffer that has just come is done with; that of the whole goes on.
        let Some(partial) = self.partial.remove(at) else { return Assembled::Added(free) };
        self.spare.push_back(free);
        finish(partial)
    }
}

/// Writes the header of a datagram that is whole.
fn finish<A: Readable>(partial: Partial) -> Assembled<A> {
    let Partial { name, mut frame, total, hops, .. } = partial;
    let total = total.unwrap_or(0);
    let ends = A::of(name.src).zip(A::of(name.dst));
    let macs = Head::parse(frame.bytes(), None).ok().and_then(|head| Some((UnicastMac::new(head.dst)?, head.src)));
    let (Some(ends), Some((dst, src))) = (ends, macs) else { return Assembled::Drop(frame, DropReason::Fragment) };
    if !frame.set_len(ETHERNET_HEADER + A::HEADER + total) {
        return Assembled::Drop(frame, DropReason::Fragment);
    }
    frame.meta = Default::default();
    let ip = Ip { hops, id: Some(name.id as u16) };
    write_ip(frame.bytes_mut(), Link { dst, src }, ends, name.protocol, total, ip);
    // Its fragments were let in.
    match Packet::parse_to(frame, ETHERNET_HEADER, true) {
        Ok(p) => Assembled::Whole(p),
        Err((frame, reason)) => Assembled::Drop(frame, reason),
    }
}
