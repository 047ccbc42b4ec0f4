//! Frames of containers that are more than carried: refused, answered on somebody's behalf, or read as reports of multicast (see
//! [`vswitch_nat::inspect`]). All of it lies beside the way of plain unicast.
use super::*;
use vswitch_nat::inspect::{self, Asked, Inspected, membership};
use vswitch_nat::ndp::link_local;
use vswitch_switch::Admitted;
use vswitch_switch::groups::Query;

impl Datapath {
    /// A frame that is not just to be carried.
    #[cold]
    pub(super) fn inspected(&mut self, inspected: Inspected, from: Admitted, head: &Head, frame: FrameBuf, now: Time) {
        let ingress = from.ingress();
        match inspected {
            Inspected::Drop(reason) => self.drop_frame(ingress, frame, reason),
            Inspected::Asked(asked) => {
                let reaches = PortId::new(asked.owner).is_some_and(|owner| self.switch.reaches(&from, owner));
                if reaches { self.answer(from, head, frame, &asked, None, now) } else { self.onward(from, head, frame, now) }
            }
            Inspected::Claimed(asked) => {
                self.answer(from, head, frame, &asked, Some(DropReason::DuplicateClaim), now);
            }
            Inspected::Report => {
                let forward = self.switch.report(from, head, membership::changes(&frame, head), now);
                if forward == Forward::Drop(DropReason::NoEgress) {
                    // Heard, and no router to tell it.
                    self.consumed += 1;
                    return self.pool.put(frame);
                }
                self.forwarded(forward, ingress, frame, now);
            }
            Inspected::Pass => self.onward(from, head, frame, now),
        }
    }

    pub(super) fn onward(&mut self, from: Admitted, head: &Head, frame: FrameBuf, now: Time) {
        let forward = self.switch.onward(from, head, now);
        self.forwarded(forward, from.ingress(), frame, now);
    }

    /// Answers through the port that the question came from. With a reason the question is refused, else consumed.
    fn answer(&mut self, from: Admitted, head: &Head, mut frame: FrameBuf, asked: &Asked, refused: Option<DropReason>, now: Time) {
        let ingress = from.ingress();
        let tag = match self.switch.answer(&from, head, now) {
            Ok(tag) => tag,
            Err(reason) => return self.drop_frame(ingress, frame, reason),
        };
        if !inspect::answer(&mut frame, head, asked) {
            return self.onward(from, head, frame, now);
        }
        match refused {
            Some(reason) => self.count_drop(ingress, reason),
            None => self.consumed += 1,
        }
        self.generated += 1;
        self.port_takes(ingress, frame, tag);
    }

    /// Asks who listens to which group, where it is time to: [`Switch::deadline`] says when.
    pub fn tend_groups(&mut self, now: Time) {
        self.switch.tend_groups(now);
        let Some(config) = self.gateway.as_ref().map(|gateway| *gateway.config()) else { return };
        while self.pool.available() > 0
            && let Some((query, egress)) = self.switch.next_query()
        {
            let Some(mut frame) = self.pool.take() else { return };
            let (family, group) = match query {
                Query::General(_, family) => (family, None),
                Query::Specific(_, _, group) => (group.family, Some(group)),
            };
            let source = config.v6.map_or_else(|| link_local(config.mac), |v6| v6.link_local);
            if !membership::write_query(&mut frame, family, group, config.mac, source) {
                self.pool.put(frame);
                continue;
            }
            self.generated += 1;
            self.forwarded(Forward::To(egress), PortId::GATEWAY, frame, now);
        }
    }
}
