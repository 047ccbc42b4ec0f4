//! Switch, gateway and ports composed; no fd in sight. Start reading here, at [`Datapath::from_port`].
//!
//! A frame's way: `Port::receive -> Head::parse -> Switch::admit -> Gateway::inspect -> Switch::onward -> Port::send`, or to the gateway, whose answer goes back into
//! `Switch::forward`, and whose routed packets go to the uplink. Back: `uplink -> Gateway -> Switch::forward -> Port::send`. A flood sends the one buffer to each port in turn and copies nothing. A breath sends at most
//! [`COPIES_PER_BREATH`] flood copies; a flood that is not through then waits in `floods`, first come, first served, and the next breath
//! resumes it. Known unicast goes on meanwhile, from the same port too; only a port whose flood is of unknown unicast is not read, for its
//! next frame to that station may know the way and overtake. Of floods that wait there are so few that buffers are left for the rest.
//!
//! Frames that wait (for a packet port's batch, for a flood's rest) lie in the arena, counted by who refers to them, and go back to the pool
//! with the last reference. Every frame has one fate; [`Datapath::accounts`] adds them up.
//!
//! Reading is in `datapath/inhale.rs`, what is refused or answered at the switch in `datapath/inspected.rs`, floods in `datapath/floods.rs`, the coming and going of ports and the accounts in `datapath/ports.rs`.
use crate::asking::Asking;
use crate::capture::Capture;
use crate::counters::{Accounts, PortCounters, PortStats, Stats};
use crate::port::Port;
use crate::port::{MemoryPort, PacketSocket};
use crate::sys::batch::{BATCH, Received};
use crate::uplink::Sockets;
use std::collections::VecDeque;
use vswitch_nat::gateway::{Gateway, Routed, Side};
use vswitch_nat::inspect::Inspected;
use vswitch_nat::offload;
use vswitch_switch::frame::MAX_FRAME;
use vswitch_switch::port::MAX_PORTS;
use vswitch_switch::switch::PortError;
use vswitch_switch::{
    Csum, DropCounts, DropReason, Egress, Flood, Forward, FrameBuf, FrameMeta, FramePool, Head, Mac, PortConfig, PortId, Switch,
    TagOp, Time,
};

mod floods;
mod inspected;
pub use floods::{FLOODS_WAITING, FLOODS_WAITING_PER_PORT};
mod inhale;
mod names;
mod ports;
mod sockets;

/// Buffers of one worker: 16 MiB of address space, touched as needed.
pub const POOL_FRAMES: usize = 256;
/// Flood copies of one breath. A copy is a TAP write of 2 us, so 128 are 0.25 ms: what a unicast frame beside a storm waits at most.
pub const COPIES_PER_BREATH: u32 = 128;
/// Frames of one port in one breath.
pub const FRAMES_PER_TURN: usize = 64;
/// Octets of one port in one breath.
pub const BYTES_PER_TURN: usize = 1 << 20;
/// Frames that waited in the gateway and go on in one breath.
pub const OUTPUT_PER_BREATH: usize = 256;
/// Octets of a loop probe.
const PROBE_LEN: usize = 60;
/// Where probes go: a locally administered group address that nobody joins.
const PROBE_DST: Mac = Mac([0x03, 0x58, 0, 0, 0, 1]);

/// What reading a port came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inhaled {
    /// Nothing is left to read.
    Idle,
    /// The budget ended it, or a flood of unknown unicast from it is under way.
    More,
    /// The interface is gone; never of an uplink that waits for its own ([`Datapath::uplink_is_down`]).
    Gone,
}

#[derive(Debug)]
struct Attached {
    port: Port,
    mtu: u16,
    counters: PortCounters,
    /// Where a reader reads it: which of the ports that had its number.
    place: Option<u32>,
    /// Read already, behind a flood that is not through.
    backlog: VecDeque<FrameBuf>,
    /// Floods of it under way, and how many of these are of unknown unicast.
    floods: u16,
    unknown: u16,
    capture: Option<Capture>,
}

/// See the module's theory.
#[derive(Debug)]
pub struct Datapath {
    /// The decisions.
    pub switch: Switch,
    /// What answers for itself and routes.
    pub gateway: Option<Gateway>,
    /// Where flows end, if that is the uplink.
    sockets: Option<Box<Sockets>>,
    /// Who asks the host's resolvers.
    asking: Option<Box<Asking>>,
    gateway_counters: PortCounters,
    ports: Vec<Option<Box<Attached>>>,
    pool: FramePool,
    arena: Vec<(Option<FrameBuf>, u32)>,
    arena_free: Vec<u32>,
    floods: VecDeque<floods::Waiting>,
    /// Packet ports with frames to be sent at exhale.
    dirty: Vec<PortId>,
    /// Ports read elsewhere that a send has found gone.
    gone: Vec<PortId>,
    batch: Vec<FrameBuf>,
    scratch: Box<[u8]>,
    copies_left: u32,
    /// Octets that came in this breath.
    inhaled: usize,
    generated: u64,
    copied: u64,
    consumed: u64,
    /// Counters of ports that are gone.
    closed: PortCounters,
    /// Of uplinks that are gone: frames from them and to them.
    closed_uplinks: (u64, u64),
}

impl Datapath {
    /// A datapath without ports but the gateway.
    #[must_use]
    pub fn new(switch: Switch, gateway: Option<Gateway>) -> Self {
        Self::with_buffers(switch, gateway, POOL_FRAMES)
    }

    /// The same with `buffers` of them, at least 1: tests run out of a few.
    #[must_use]
    pub fn with_buffers(switch: Switch, gateway: Option<Gateway>, buffers: usize) -> Self {
        Self {
            switch,
            gateway,
            sockets: None,
            asking: None,
            gateway_counters: PortCounters::default(),
            ports: Vec::new(),
            pool: FramePool::new(buffers),
            arena: (0..buffers).map(|_| (None, 0)).collect(),
            arena_free: (0..buffers as u32).rev().collect(),
            floods: VecDeque::with_capacity(floods::FLOODS_WAITING + 1),
            dirty: Vec::with_capacity(usize::from(MAX_PORTS)),
            gone: Vec::new(),
            batch: Vec::with_capacity(BATCH),
            scratch: vec![0; MAX_FRAME].into_boxed_slice(),
            copies_left: COPIES_PER_BREATH,
            inhaled: 0,
            generated: 0,
            copied: 0,
            consumed: 0,
            closed: PortCounters::default(),
            closed_uplinks: (0, 0),
        }
    }

    /// One frame from one port: the picture in the design. The buffer ends in the pool, in the arena or on its way.
    #[allow(clippy::wrong_self_convention, reason = "the name that the design gives it")]
    pub fn from_port(&mut self, ingress: PortId, frame: FrameBuf, now: Time) {
        let head = match Head::parse(frame.bytes(), frame.meta.tag) {
            Ok(head) => head,
            Err(reason) => return self.drop_frame(ingress, frame, reason),
        };
        let admitted = match self.switch.admit(ingress, &head, now) {
            Ok(admitted) => admitted,
            Err(reason) => return self.drop_frame(ingress, frame, reason),
        };
        // What the gateway says is its own.
        if ingress != PortId::GATEWAY
            && let Some(gateway) = &mut self.gateway
        {
            match gateway.inspect(&frame, &head, ingress.get(), now) {
                Inspected::Pass => {}
                inspected @ (Inspected::Drop(_) | Inspected::Asked(_) | Inspected::Claimed(_) | Inspected::Report) => {
                    return self.inspected(inspected, admitted, &head, frame, now);
                }
            }
        }
        let forward = self.switch.onward(admitted, &head, now);
        self.forwarded(forward, ingress, frame, now);
    }

    #[inline]
    fn forwarded(&mut self, forward: Forward, ingress: PortId, frame: FrameBuf, now: Time) {
        match forward {
            Forward::To(Egress::One(PortId::GATEWAY, _)) => self.gateway_takes(ingress, frame, now),
            Forward::To(Egress::One(egress, tag)) => self.port_takes(egress, frame, tag),
            Forward::To(Egress::Flood(flood)) => self.start_flood(flood, frame, now),
            Forward::Drop(reason) => self.drop_frame(ingress, frame, reason),
        }
    }

    fn gateway_takes(&mut self, ingress: PortId, frame: FrameBuf, now: Time) {
        let octets = frame.len() as u64;
        let head = Head::parse(frame.bytes(), frame.meta.tag);
        let (Some(gateway), Ok(head)) = (&mut self.gateway, head) else {
            return self.drop_frame(PortId::GATEWAY, frame, DropReason::GatewayUnserved);
        };
        let routed = gateway.receive(frame, &head, ingress.get(), now);
        if !matches!(routed, Routed::Drop(..)) {
            self.gateway_counters.tx_frames += 1;
            self.gateway_counters.tx_bytes += octets;
        }
        self.routed(PortId::GATEWAY, routed, now);
    }

    /// A frame from the uplink.
    fn uplink_gives(&mut self, frame: FrameBuf, now: Time) {
        match &mut self.gateway {
            Some(gateway) => {
                let routed = gateway.from_uplink(frame, now);
                self.routed(PortId::UPLINK, routed, now);
            }
            None => self.drop_frame(PortId::UPLINK, frame, DropReason::GatewayUnserved),
        }
    }

    /// What the gateway made of a frame that came from `from`.
    fn routed(&mut self, from: PortId, routed: Routed, now: Time) {
        match routed {
            Routed::Reply(side, frame) => {
                self.consumed += 1;
                self.generated += 1;
                self.gateway_gives(side, frame, now);
            }
            Routed::Refuse(side, frame, reason) => {
                self.count_drop(from, reason);
                self.generated += 1;
                self.gateway_gives(side, frame, now);
            }
            Routed::Generated(side, frame) => {
                self.generated += 1;
                self.gateway_gives(side, frame, now);
            }
            Routed::Forward(side, frame) => self.gateway_gives(side, frame, now),
            Routed::Held => {}
            Routed::Socket(packet) => self.socket_takes(from, packet, now),
            Routed::Consumed(frame) => {
                self.consumed += 1;
                self.pool.put(frame);
            }
            Routed::Drop(frame, reason) => self.drop_frame(from, frame, reason),
        }
    }

    fn gateway_gives(&mut self, side: Side, frame: FrameBuf, now: Time) {
        match side {
            Side::Inside => {
                self.gateway_counters.rx_frames += 1;
                self.gateway_counters.rx_bytes += frame.len() as u64;
                // Unicast to a station that is known, mostly: at worst it floods once and comes back to no gateway.
                self.from_port(PortId::GATEWAY, frame, now);
            }
            Side::Uplink => self.port_takes(PortId::UPLINK, frame, TagOp::Untagged),
        }
    }

    /// Lets what waited in the gateway go on: at most [`OUTPUT_PER_BREATH`] frames. Says whether more may be ready.
    pub fn drain_gateway(&mut self, now: Time) -> bool {
        for _ in 0..OUTPUT_PER_BREATH {
            let Some(gateway) = &mut self.gateway else { return false };
            match gateway.poll_output(&mut self.pool, now) {
                Some(routed) => self.routed(PortId::GATEWAY, routed, now),
                None => return false,
            }
        }
        true
    }

    fn port_takes(&mut self, egress: PortId, frame: FrameBuf, tag: TagOp) {
        if let Some(frame) = self.send(egress, frame, tag) {
            self.pool.put(frame);
        }
    }

    /// Sends a frame of its own to one port; gives the buffer back unless it waits in the arena.
    #[inline]
    fn send(&mut self, egress: PortId, mut frame: FrameBuf, tag: TagOp) -> Option<FrameBuf> {
        frame.seal();
        if !self.is_queueing(egress, &frame) {
            self.transmit(egress, &frame, tag);
            return Some(frame);
        }
        match self.arena_insert(frame) {
            Ok(id) => {
                self.enqueue(egress, id, tag);
                None
            }
            Err(frame) => {
                self.count_drop(egress, DropReason::NoBuffer);
                Some(frame)
            }
        }
    }

    #[inline]
    fn is_queueing(&self, egress: PortId, frame: &FrameBuf) -> bool {
        self.attached(egress).is_some_and(|attached| match &attached.port {
            Port::Packet(socket) => !socket.is_down() && frame.mtu_len() <= usize::from(attached.mtu),
            Port::Tap(_) | Port::Memory(_) => false,
        })
    }

    /// Sends a borrowed frame at once and counts what came of it.
    fn transmit(&mut self, egress: PortId, frame: &FrameBuf, tag: TagOp) {
        let Some(Some(attached)) = self.ports.get_mut(egress.index()) else {
            self.closed.drops.count(DropReason::PortGone);
            return;
        };
        if attached.port.is_down() {
            attached.counters.drops.count(DropReason::PortDown);
            return;
        }
        if frame.mtu_len() > usize::from(attached.mtu) {
            attached.counters.drops.count(DropReason::Mtu);
            return;
        }
        if let Some(capture) = &mut attached.capture {
            capture.offer(frame, tag_of(tag));
        }
        if attached.port.takes(frame) {
            let sent = attached.port.send(frame, tag);
            attached.count_sent(frame.len(), sent);
        } else if frame.meta.gso.is_none() {
            match offload::finish_into(frame, &mut self.scratch) {
                Some(len) => attached.send_scratch(&self.scratch, len, tag),
                None => attached.counters.drops.count(DropReason::EgressRefused),
            }
        } else {
            match offload::Segments::new(frame) {
                Ok(mut segments) => {
                    let mut count = 0;
                    while let Some(len) = segments.next_into(&mut self.scratch) {
                        attached.send_scratch(&self.scratch, len, tag);
                        count += 1;
                    }
                    self.copied += u64::saturating_sub(count, 1);
                    if count == 0 {
                        attached.counters.drops.count(DropReason::GsoUnsupported);
                    }
                }
                Err(reason) => attached.counters.drops.count(reason),
            }
        }
    }

    fn send_probes(&mut self) {
        while let Some((egress, tag)) = self.switch.next_probe() {
            let Some(mut probe) = self.pool.take() else { return };
            let mut octets = [0u8; PROBE_LEN];
            let source = self.switch.config().mac.mac().0;
            for (place, octet) in
                octets.iter_mut().zip(PROBE_DST.0.into_iter().chain(source).chain([0x88, 0xb5]).chain(*b"vswitch loop probe"))
            {
                *place = octet;
            }
            if probe.fill(&octets) {
                self.generated += 1;
                self.port_takes(egress, probe, tag);
            } else {
                self.pool.put(probe);
            }
        }
    }

    fn enqueue(&mut self, egress: PortId, id: u32, tag: TagOp) {
        let Some(Some(attached)) = self.ports.get_mut(egress.index()) else { return self.release(id) };
        let Port::Packet(socket) = &mut attached.port else { return self.release(id) };
        if let (Some(capture), Some((Some(frame), _))) = (&mut attached.capture, self.arena.get(id as usize)) {
            capture.offer(frame, tag_of(tag));
        }
        socket.queue.push_back((id, tag));
        let length = socket.queue.len();
        if length == 1 {
            self.dirty.push(egress);
        } else if length >= BATCH {
            self.flush(egress);
        }
    }

    /// Ends a breath: packet ports send what they queued.
    pub fn exhale(&mut self) {
        while let Some(id) = self.dirty.pop() {
            self.flush(id);
        }
    }

    fn flush(&mut self, id: PortId) {
        let Some(Some(attached)) = self.ports.get_mut(id.index()) else { return };
        let Port::Packet(socket) = &mut attached.port else { return };
        let queued = socket.queue.len();
        for _ in 0..queued {
            let arena = &self.arena;
            let frames = socket.queue.iter().filter_map(|&(id, tag)| Some((arena.get(id as usize)?.0.as_ref()?, tag)));
            // An error is the first frame's: that one is dropped and the rest tried again.
            let (done, failed) = match crate::sys::batch::send_packets(socket.fd(), frames) {
                Ok(0) => break,
                Ok(done) => (done, None),
                Err(error) => {
                    socket.note(&error);
                    if socket.is_gone() && attached.place.is_some() && !self.gone.contains(&id) {
                        self.gone.push(id);
                    }
                    (1, Some(crate::port::drop_reason(&error)))
                }
            };
            for (id, _) in socket.queue.drain(..done.min(socket.queue.len())) {
                let octets = self.arena.get(id as usize).and_then(|slot| slot.0.as_ref()).map_or(0, FrameBuf::len);
                match failed {
                    None => {
                        attached.counters.tx_frames += 1;
                        attached.counters.tx_bytes += octets as u64;
                    }
                    Some(reason) => attached.counters.drops.count(reason),
                }
                release_slot(&mut self.arena, &mut self.arena_free, &mut self.pool, id);
            }
            if socket.queue.is_empty() {
                break;
            }
        }
    }

    fn arena_insert(&mut self, frame: FrameBuf) -> Result<u32, FrameBuf> {
        let Some(id) = self.arena_free.pop() else { return Err(frame) };
        match self.arena.get_mut(id as usize) {
            Some(slot) => {
                *slot = (Some(frame), 1);
                Ok(id)
            }
            None => Err(frame),
        }
    }

    fn release(&mut self, id: u32) {
        release_slot(&mut self.arena, &mut self.arena_free, &mut self.pool, id);
    }

    fn drop_frame(&mut self, at: PortId, frame: FrameBuf, reason: DropReason) {
        self.count_drop(at, reason);
        self.pool.put(frame);
    }

    fn count_drop(&mut self, at: PortId, reason: DropReason) {
        if at == PortId::GATEWAY {
            self.gateway_counters.drops.count(reason);
        } else if let Some(Some(attached)) = self.ports.get_mut(at.index()) {
            attached.counters.drops.count(reason);
        } else {
            self.closed.drops.count(reason);
        }
    }

    #[inline]
    fn attached(&self, id: PortId) -> Option<&Attached> {
        self.ports.get(id.index())?.as_deref()
    }
}

impl Attached {
    #[inline]
    fn count_sent(&mut self, octets: usize, sent: Result<(), DropReason>) {
        match sent {
            Ok(()) => {
                self.counters.tx_frames += 1;
                self.counters.tx_bytes += octets as u64;
            }
            Err(reason) => self.counters.drops.count(reason),
        }
    }

    /// Sends `len` finished octets of the scratch buffer.
    fn send_scratch(&mut self, scratch: &[u8], len: usize, tag: TagOp) {
        let plain = FrameMeta { tag: None, csum: Csum::Complete, gso: None };
        let parts = scratch.get(..len).and_then(|octets| octets.split_at_checked(12)).unwrap_or_default();
        let sent = self.port.send_parts(&plain.to_vnet(tag), parts, tag);
        self.count_sent(len, sent);
    }

    fn queued(&self) -> u64 {
        match &self.port {
            Port::Packet(socket) => socket.queue.len() as u64,
            Port::Tap(_) | Port::Memory(_) => 0,
        }
    }
}

const fn tag_of(tag: TagOp) -> Option<vswitch_switch::Tag> {
    match tag {
        TagOp::Untagged => None,
        TagOp::Tagged(tag) => Some(tag),
    }
}

fn release_slot(arena: &mut [(Option<FrameBuf>, u32)], free: &mut Vec<u32>, pool: &mut FramePool, id: u32) {
    let Some(slot) = arena.get_mut(id as usize) else { return };
    slot.1 = slot.1.saturating_sub(1);
    if slot.1 == 0
        && let Some(frame) = slot.0.take()
    {
        pool.put(frame);
        free.push(id);
    }
}
