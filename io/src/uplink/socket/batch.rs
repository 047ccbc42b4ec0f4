//! Datagrams of one turn: those of one size from one mapping to one remote leave in one call.
//!
//! Theory. A system call and a way through the host's stack for each datagram is most of what UDP costs. So they are held until the port's
//! turn is over, and runs of equal ones (only the last may be shorter) are sent as one buffer that the kernel cuts again (UDP_SEGMENT,
//! udp(7)), at the network card or at the receiving socket. Their order is kept. Where the kernel or the way takes no such buffer, each is sent
//! alone, and judged alone.
use super::datagram::{Facts, Place};
use super::*;
use std::io::IoSlice;
use std::net::SocketAddr;
use vswitch_switch::DropReason;

/// Datagrams of a run at the most (UDP_MAX_SEGMENTS, linux/udp.h, before Linux 6.11).
const RUN: usize = 64;
/// Octets of a run at the most: what one datagram may have.
const RUN_OCTETS: usize = 65_507;

/// A datagram that waits for the end of the turn.
#[derive(Debug)]
pub(super) struct Waiting {
    slot: u32,
    to: SocketAddr,
    packet: SocketPacket,
    facts: Facts,
}

impl Waiting {
    fn payload(&self) -> &[u8] {
        let frame = match &self.packet.packet {
            AnyPacket::V4(p) => p.frame(),
            AnyPacket::V6(p) => p.frame(),
        };
        frame.bytes().get(self.facts.start..self.facts.end).unwrap_or_default()
    }
}

impl Sockets {
    /// Holds a datagram of a mapping's until the turn is over.
    pub(super) fn hold_datagram(&mut self, slot: u32, to: SocketAddr, packet: SocketPacket, facts: Facts) -> Routed {
        self.waiting.push(Waiting { slot, to, packet, facts });
        Routed::Held
    }

    /// Gives up what waits for mappings that are gone, whose slots may be others' now.
    pub(super) fn give_up_waiting(&mut self, slots: &[u32]) {
        if slots.is_empty() {
            return;
        }
        let (gone, stay) = std::mem::take(&mut self.waiting).into_iter().partition(|waiting| slots.contains(&waiting.slot));
        self.waiting = stay;
        let gone: Vec<Waiting> = gone;
        self.routed.extend(gone.into_iter().map(|waiting| Routed::Drop(waiting.packet.packet.into_frame(), DropReason::NatFull)));
    }

    /// Sends what waits. What is refused is in [`Sockets::take_routed`].
    pub(super) fn flush_datagrams(&mut self, gateway: &mut Gateway, pool: &mut FramePool, now: Time) {
        let mut waiting = std::mem::take(&mut self.waiting);
        while !waiting.is_empty() {
            let count = run_of(&waiting);
            let is_sent = count > 1 && self.send_run(waiting.get(..count).unwrap_or_default());
            for one in waiting.drain(..count) {
                let routed = if is_sent {
                    Routed::Consumed(one.packet.packet.into_frame())
                } else {
                    self.send_datagram(gateway, Place::Mapping(one.slot), one.to, None, one.packet, now)
                };
                match routed {
                    Routed::Consumed(frame) => {
                        pool.put(frame);
                        self.done += 1;
                    }
                    other @ (Routed::Reply(..)
                    | Routed::Refuse(..)
                    | Routed::Forward(..)
                    | Routed::Generated(..)
                    | Routed::Socket(_)
                    | Routed::Held
                    | Routed::Drop(..)) => self.routed.push_back(other),
                }
            }
        }
        self.waiting = waiting;
    }

    /// Sends a run in one call; `false`, and nothing was sent, where that cannot be.
    fn send_run(&mut self, run: &[Waiting]) -> bool {
        let Some(first) = run.first() else { return false };
        let Some(datagrams) = self.datagrams(Place::Mapping(first.slot)) else { return false };
        datagrams.follow(&first.facts);
        let Ok(size) = u16::try_from(first.payload().len()) else { return false };
        let mut pieces = [IoSlice::new(&[]); RUN];
        for (piece, waiting) in pieces.iter_mut().zip(run) {
            *piece = IoSlice::new(waiting.payload());
        }
        let pieces = pieces.get(..run.len()).unwrap_or_default();
        socket::send_datagrams(datagrams.socket_of(), first.to, pieces, Some(size), None).is_ok()
    }

    /// What became of held packets that were refused.
    pub fn take_routed(&mut self) -> Option<Routed> {
        self.routed.pop_front()
    }
}

/// How many from the first on can leave in one call; at least one.
fn run_of(waiting: &[Waiting]) -> usize {
    let Some(first) = waiting.first() else { return 0 };
    let size = first.payload().len();
    let (mut count, mut octets) = (1, size);
    for next in waiting.iter().skip(1).take(RUN - 1) {
        let len = next.payload().len();
        let is_like = next.slot == first.slot
            && next.to == first.to
            && next.facts.hops == first.facts.hops
            && next.facts.dont_fragment == first.facts.dont_fragment;
        octets += len;
        if !is_like || len == 0 || len > size || octets > RUN_OCTETS {
            break;
        }
        count += 1;
        if len < size {
            break;
        }
    }
    if size == 0 { 1 } else { count }
}
