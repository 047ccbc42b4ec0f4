//! News of the switch, in a queue of [`EVENT_LIMIT`] that the caller fetches from.
use super::Switch;
use crate::mac::UnicastMac;
use crate::port::PortId;
use crate::vlan::Vid;

/// Events that wait to be fetched; what comes beyond is counted, not kept.
pub const EVENT_LIMIT: usize = 256;

/// Something that a person may want to know; the datapath does not care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchEvent {
    /// An address moved (L07).
    Moved {
        /// VLAN.
        vid: Vid,
        /// Address.
        mac: UnicastMac,
        /// Where it was.
        from: PortId,
        /// Where it is.
        to: PortId,
    },
    /// An address moves too often and is held (L07).
    Flap {
        /// VLAN.
        vid: Vid,
        /// Address.
        mac: UnicastMac,
        /// Where it is held.
        held: PortId,
        /// Where else it was seen.
        seen: PortId,
    },
    /// A port is blocked: a frame of ours came in through it (L15).
    Loop {
        /// The port.
        port: PortId,
    },
}

impl Switch {
    pub(super) fn event(&mut self, event: SwitchEvent) {
        if self.events.len() < EVENT_LIMIT {
            self.events.push_back(event);
        } else {
            self.events_lost += 1;
        }
    }

    /// Events that nobody fetched in time.
    #[must_use]
    pub const fn events_lost(&self) -> u64 {
        self.events_lost
    }

    /// The oldest event that was not fetched yet.
    pub fn next_event(&mut self) -> Option<SwitchEvent> {
        self.events.pop_front()
    }
}
