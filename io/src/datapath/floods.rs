//! Floods: one buffer, a copy to each port, within the breath's budget; what is not through waits its turn.
use super::*;

/// Floods that wait at the most: at 1,100 ports 70,000 copies, a tenth of a second. They hold a quarter of the buffers.
pub const FLOODS_WAITING: usize = POOL_FRAMES / 4;
/// Of them, from one port.
pub const FLOODS_WAITING_PER_PORT: u16 = 8;

/// A flood that is not through.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) flood: Flood,
    /// Its slot in the arena.
    frame: u32,
    /// Copies sent.
    pub(super) sent: u32,
}

impl Datapath {
    pub(super) fn start_flood(&mut self, flood: Flood, mut frame: FrameBuf, now: Time) {
        frame.seal();
        let full = self.attached(flood.ingress()).is_some_and(|attached| attached.floods >= FLOODS_WAITING_PER_PORT);
        if full || self.floods.len() >= FLOODS_WAITING {
            return self.drop_frame(flood.ingress(), frame, DropReason::FloodBacklog);
        }
        self.copied += u64::from(flood.copies()) - 1;
        match self.arena_insert(frame) {
            Ok(frame) => {
                if let Some(Some(attached)) = self.ports.get_mut(flood.ingress().index()) {
                    attached.floods += 1;
                    attached.unknown += u16::from(flood.is_of_unknown());
                }
                let waiting = Waiting { flood, frame, sent: 0 };
                // Behind those that wait, so that none of the same flow is overtaken.
                let rest = if self.floods.is_empty() { self.run_flood(waiting, now) } else { Some(waiting) };
                self.floods.extend(rest);
            }
            Err(frame) => {
                self.copied -= u64::from(flood.copies()) - 1;
                self.drop_frame(flood.ingress(), frame, DropReason::NoBuffer);
            }
        }
        if self.switch.has_probes() {
            self.send_probes();
        }
    }

    /// Sends copies until the flood or the breath's budget ends; gives back what is not through.
    fn run_flood(&mut self, mut waiting: Waiting, now: Time) -> Option<Waiting> {
        while self.copies_left > 0 {
            let Some((egress, tag)) = self.switch.flood_next(&mut waiting.flood) else {
                self.end_flood(&waiting);
                return None;
            };
            self.copies_left -= 1;
            waiting.sent += 1;
            if egress == PortId::GATEWAY {
                self.copy_to_gateway(waiting.flood.ingress(), waiting.frame, now);
            } else {
                self.copy_to_port(egress, waiting.frame, tag);
            }
        }
        Some(waiting)
    }

    /// Ports that came or went while a flood waited make the number of copies differ from what was foreseen.
    pub(super) fn end_flood(&mut self, waiting: &Waiting) {
        let foreseen = waiting.flood.copies();
        self.copied += u64::from(waiting.sent.saturating_sub(foreseen));
        self.closed.drops.add(DropReason::PortGone, u64::from(foreseen.saturating_sub(waiting.sent)));
        self.release(waiting.frame);
        if let Some(Some(attached)) = self.ports.get_mut(waiting.flood.ingress().index()) {
            attached.floods = attached.floods.saturating_sub(1);
            attached.unknown = attached.unknown.saturating_sub(u16::from(waiting.flood.is_of_unknown()));
        }
    }

    fn copy_to_port(&mut self, egress: PortId, id: u32, tag: TagOp) {
        let Some(frame) = self.arena.get_mut(id as usize).and_then(|slot| slot.0.take()) else { return };
        let queue = self.is_queueing(egress, &frame);
        if !queue {
            self.transmit(egress, &frame, tag);
        }
        if let Some(slot) = self.arena.get_mut(id as usize) {
            slot.0 = Some(frame);
            slot.1 += u32::from(queue);
        }
        if queue {
            self.enqueue(egress, id, tag);
        }
    }

    fn copy_to_gateway(&mut self, ingress: PortId, id: u32, now: Time) {
        let Some(mut copy) = self.pool.take() else { return self.count_drop(PortId::GATEWAY, DropReason::NoBuffer) };
        let original = self.arena.get(id as usize).and_then(|slot| slot.0.as_ref());
        let filled = original.is_some_and(|frame| {
            let filled = copy.fill(frame.bytes());
            copy.meta = frame.meta;
            filled
        });
        if filled { self.gateway_takes(ingress, copy, now) } else { self.drop_frame(PortId::GATEWAY, copy, DropReason::NoBuffer) }
    }

    /// Begins a breath: the copy budget is whole again and floods that wait go on, oldest first.
    pub fn begin(&mut self, now: Time) {
        self.copies_left = COPIES_PER_BREATH;
        self.inhaled = 0;
        while let Some(waiting) = self.floods.pop_front() {
            if let Some(rest) = self.run_flood(waiting, now) {
                self.floods.push_front(rest);
                return;
            }
        }
    }

    /// Whether floods wait for the next breath.
    #[must_use]
    pub fn is_flooding(&self) -> bool {
        !self.floods.is_empty()
    }
}
