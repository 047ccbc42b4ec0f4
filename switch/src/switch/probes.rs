//! Loop probes (L15): when one is asked for, and who fetches it. Why there are any is told in [`super`].
use super::{GUARDED_FLOODS, PROBE_INTERVAL, PROBE_LIMIT, Switch, TagOp};
use crate::port::{Guard, PortId};
use crate::time::Time;
use crate::vlan::{Priority, Vid};

impl Switch {
    /// Asks for a probe through a port that floods, where one is due.
    pub(super) fn want_probe(&mut self, ingress: PortId, vid: Vid, now: Time) {
        let Some(Some(port)) = self.ports.get_mut(ingress.index()) else {
            return;
        };
        let after = match port.config.guard {
            // The gateway is us: it makes no loops.
            Guard::Bound(_) if ingress == PortId::GATEWAY => return,
            Guard::Bound(_) => GUARDED_FLOODS,
            Guard::Off => 1,
        };
        if now.since(port.interval) >= PROBE_INTERVAL {
            (port.interval, port.floods, port.probed) = (now, 0, false);
        }
        port.floods = port.floods.saturating_add(1);
        if port.floods >= after && !port.probed && self.probes.len() < PROBE_LIMIT {
            port.probed = true;
            self.probes.push_back((ingress, port.config.vlan.egress_tag(port.config.tpid, vid, Priority::default())));
        }
    }

    /// A port through which a loop probe is to be sent, with its tag; the caller makes the frame.
    pub fn next_probe(&mut self) -> Option<(PortId, TagOp)> {
        self.probes.pop_front()
    }

    /// Whether probes wait.
    #[inline]
    #[must_use]
    pub fn has_probes(&self) -> bool {
        !self.probes.is_empty()
    }
}
