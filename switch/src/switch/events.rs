//! News of the switch, in a queue of [`EVENT_LIMIT`] that the caller fetches from.
//!
//! What happens once a frame is told at most once a second: the first spoofed frame of a port, the first flood of a port and class that
//! exceeded its budget. New addresses are told only where somebody asked for them ([`Switch::set_learned_events`]), at most
//! [`LEARNED_PER_SECOND`] a port, and never take the last half of the queue: a port that makes addresses up hides nobody's move.
//! All of it lies beside the way of a known unicast frame.
use super::Switch;
use crate::drop::DropReason;
use crate::mac::UnicastMac;
use crate::port::PortId;
use crate::storm::FloodClass;
use crate::time::Time;
use crate::vlan::Vid;
use core::time::Duration;

/// Events that wait to be fetched; what comes beyond is counted, not kept.
pub const EVENT_LIMIT: usize = 256;
/// Of them new addresses.
const LEARNED_LIMIT: usize = EVENT_LIMIT / 2;
/// New addresses of one port that are told, a second.
pub const LEARNED_PER_SECOND: u32 = 100;
/// Between two events about the same port and thing.
pub const EVENT_INTERVAL: Duration = Duration::from_secs(1);

/// Something that a person may want to know; the datapath does not care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchEvent {
    /// An address is new (L03).
    Learned {
        /// VLAN.
        vid: Vid,
        /// Address.
        mac: UnicastMac,
        /// Where it is.
        port: PortId,
    },
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
    /// A port sent from an address that is not its own (L08); what else it spoofs within [`EVENT_INTERVAL`] is not told.
    Guard {
        /// VLAN.
        vid: Vid,
        /// The address it used.
        mac: UnicastMac,
        /// The port.
        port: PortId,
    },
    /// A port floods more than its budget (L14); told once in [`EVENT_INTERVAL`] for each class.
    Storm {
        /// The port.
        port: PortId,
        /// What it floods.
        class: FloodClass,
    },
}

/// When a port's news were told last.
#[derive(Debug, Default)]
pub(super) struct Told {
    guard: Option<Time>,
    /// By class.
    storm: [Option<Time>; 3],
    /// When the interval began in which `learned` are counted.
    interval: Time,
    learned: u32,
}

/// Whether it is time to tell; if so it is told now.
fn due(told: &mut Option<Time>, now: Time) -> bool {
    let is_due = told.is_none_or(|told| now.since(told) >= EVENT_INTERVAL);
    if is_due {
        *told = Some(now);
    }
    is_due
}

impl Switch {
    pub(super) fn event(&mut self, event: SwitchEvent) {
        if self.events.len() < EVENT_LIMIT {
            self.events.push_back(event);
        } else {
            self.events_lost += 1;
        }
    }

    /// A frame with a source that is not its port's.
    #[cold]
    pub(super) fn spoofed(&mut self, port: PortId, vid: Vid, mac: UnicastMac, now: Time) -> DropReason {
        if self.told(port).is_some_and(|told| due(&mut told.guard, now)) {
            self.event(SwitchEvent::Guard { vid, mac, port });
        }
        DropReason::Spoof
    }

    /// A flood that exceeds its port's budget.
    #[cold]
    pub(super) fn stormed(&mut self, port: PortId, class: FloodClass, now: Time) -> DropReason {
        let told = self.told(port).map(|told| &mut told.storm);
        let last = told.map(|[broadcast, multicast, unknown]| match class {
            FloodClass::Broadcast => broadcast,
            FloodClass::Multicast => multicast,
            FloodClass::Unknown => unknown,
        });
        if last.is_some_and(|last| due(last, now)) {
            self.event(SwitchEvent::Storm { port, class });
        }
        DropReason::Storm
    }

    /// An address that was not known.
    #[cold]
    pub(super) fn learned(&mut self, port: PortId, vid: Vid, mac: UnicastMac, now: Time) {
        if !self.tells_learned {
            return;
        }
        let Some(told) = self.told(port) else { return };
        if now.since(told.interval) >= EVENT_INTERVAL {
            (told.interval, told.learned) = (now, 0);
        }
        told.learned = told.learned.saturating_add(1);
        if told.learned <= LEARNED_PER_SECOND && self.events.len() < LEARNED_LIMIT {
            self.event(SwitchEvent::Learned { vid, mac, port });
        } else {
            self.events_lost += 1;
        }
    }

    fn told(&mut self, port: PortId) -> Option<&mut Told> {
        self.ports.get_mut(port.index())?.as_deref_mut().map(|port| &mut port.told)
    }

    /// Whether new addresses are told; not so at the beginning.
    pub const fn set_learned_events(&mut self, tell: bool) {
        self.tells_learned = tell;
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
