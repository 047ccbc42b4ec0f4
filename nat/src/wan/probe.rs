//! Whether an IPv4 address is free on the link, before it is used (RFC 5227 2.1.1).
//!
//! Theory. [`PROBES`] requests for the address are sent from nobody. Whoever answers, claims the address or probes it as we do has it; when
//! that has not happened [`INTERVAL`] after the last one, it is free.
//!
//! exception: RFC 5227 1.1 waits up to a second before the first probe, 1 to 2 between them and 2 after the last. Containers wait meanwhile, so half
//! a second does here; who has the address all the same is counted later ([`super::Wan::conflicts`]).
use core::net::Ipv4Addr;
use core::time::Duration;
use vswitch_switch::Time;

/// RFC 5227 1.1, PROBE_NUM.
pub const PROBES: u8 = 3;
/// Between two of them, and after the last.
pub const INTERVAL: Duration = Duration::from_millis(500);

/// What came of a probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probed {
    /// Of which address.
    pub address: Ipv4Addr,
    /// Whether nobody has it.
    pub is_free: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Asking { left: u8, due: Time },
    Known { is_free: bool },
}

/// One address that is probed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    address: Ipv4Addr,
    state: State,
}

impl Probe {
    pub(super) const fn new(address: Ipv4Addr, now: Time) -> Self {
        Self { address, state: State::Asking { left: PROBES, due: now } }
    }

    /// Somebody else sent an ARP packet from `asker` about `wanted`.
    pub(super) fn hear(&mut self, asker: Ipv4Addr, wanted: Ipv4Addr) {
        if let State::Asking { .. } = self.state
            && (asker == self.address || (asker.is_unspecified() && wanted == self.address))
        {
            self.state = State::Known { is_free: false };
        }
    }

    /// The address that is to be asked for now.
    pub(super) fn next(&mut self, now: Time) -> Option<Ipv4Addr> {
        match self.state {
            State::Asking { left: 0, due } if due <= now => {
                self.state = State::Known { is_free: true };
                None
            }
            State::Asking { left, due } if due <= now => {
                self.state = State::Asking { left: left - 1, due: now.after(INTERVAL) };
                Some(self.address)
            }
            State::Asking { .. } | State::Known { .. } => None,
        }
    }

    pub(super) const fn result(&self) -> Option<Probed> {
        match self.state {
            State::Asking { .. } => None,
            State::Known { is_free } => Some(Probed { address: self.address, is_free }),
        }
    }

    pub(super) const fn deadline(&self) -> Time {
        match self.state {
            State::Asking { due, .. } => due,
            State::Known { .. } => Time::ZERO,
        }
    }
}
