//! The choice of an external port, and of everything else that outsiders must not guess.
//!
//! Theory. The container's own port is kept where it is free (RFC 7857 10 leaves it open, users expect it, and the container's own
//! randomness is then the connection's). Else a port is drawn at random (RFC 6056), [`DRAWS`] times, and then searched from a random
//! place on, [`SEARCH`] ports: a bounded effort, however full the space is. The search goes in long strides, because used ports lie in
//! blocks: with one port of a hundred free it fails once in a thousand million. A port whose only use is over is a second choice.
use core::hash::{Hash, Hasher};

/// Random draws.
pub const DRAWS: u32 = 64;
/// Ports searched after them.
pub const SEARCH: u32 = 2_048;
/// From one port searched to the next: the golden section of the space, so that the places are spread evenly, and without a common
/// divisor with the number of ports of either class, so that none is met twice.
const STRIDE: u64 = 39_869;
/// The first port that needs no privilege.
const UNPRIVILEGED: u16 = 1_024;

/// A keyed sequence: SipHash-2-4 of a counter. Not to be foretold from what it has given, unlike a linear generator.
#[derive(Clone, Copy, Debug)]
pub struct Random {
    key: [u64; 2],
    counter: u64,
}

impl Random {
    /// From 128 bits that nobody outside knows.
    #[must_use]
    pub const fn new(key: [u64; 2]) -> Self {
        Self { key, counter: 0 }
    }

    /// The next 64 bits.
    #[allow(deprecated, reason = "the one of the standard library that is keyed and needs no std; its successor needs std")]
    pub fn bits(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        let mut hasher = core::hash::SipHasher::new_with_keys(self.key[0], self.key[1]);
        self.counter.hash(&mut hasher);
        hasher.finish()
    }
}

/// What is asked of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortPolicy {
    /// Keep the inside port where it is free.
    pub preserve: bool,
    /// RFC 4787 REQ-3a (N05): below 1024 stays below 1024, above stays above, also when it cannot be kept.
    pub keep_class: bool,
    /// RFC 4787 REQ-4, optional by RFC 7857 9 (N06): even stays even, odd stays odd.
    pub keep_parity: bool,
}

impl Default for PortPolicy {
    fn default() -> Self {
        Self { preserve: true, keep_class: false, keep_parity: false }
    }
}

/// Whether a port can be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Occupancy {
    /// Free.
    Free,
    /// Its use is over, but not long enough.
    Over,
    /// In use, or published.
    Taken,
}

/// A port that was chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chosen {
    /// The port.
    pub port: u16,
    /// It has a use that is over, and is to be vacated.
    pub is_over: bool,
}

/// Chooses a port: a free one, else one whose use is over; `None` when the effort is spent.
pub fn choose(random: &mut Random, wanted: u16, policy: PortPolicy, mut occupancy: impl FnMut(u16) -> Occupancy) -> Option<Chosen> {
    let free = |port| Some(Chosen { port, is_over: false });
    let mut over = None;
    let mut try_port = |port: u16| match occupancy(port) {
        Occupancy::Free => true,
        Occupancy::Over => {
            over = over.or(Some(port));
            false
        }
        Occupancy::Taken => false,
    };
    if policy.preserve && wanted > 0 && try_port(wanted) {
        return free(wanted);
    }
    let (first, count) =
        if policy.keep_class && wanted < UNPRIVILEGED { (1, UNPRIVILEGED - 1) } else { (UNPRIVILEGED, 0xffff - 1_023) };
    let place = |number: u64| {
        // Below 2^16 by the remainder.
        let port = first + (number % u64::from(count)) as u16;
        match (policy.keep_parity, (port ^ wanted) & 1) {
            (true, 1) if port == first => port + 1,
            (true, 1) => port - 1,
            _ => port,
        }
    };
    for _ in 0..DRAWS {
        let port = place(random.bits());
        if try_port(port) {
            return free(port);
        }
    }
    let start = random.bits() >> 1;
    for step in 0..u64::from(SEARCH) {
        let port = place(start + step * STRIDE);
        if try_port(port) {
            return free(port);
        }
    }
    over.map(|port| Chosen { port, is_over: true })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn port_of(random: &mut Random, wanted: u16, policy: PortPolicy, occupancy: impl FnMut(u16) -> Occupancy) -> Option<u16> {
        choose(random, wanted, policy, occupancy).map(|chosen| chosen.port)
    }

    #[test]
    fn the_wanted_port_where_it_is_free() {
        let mut random = Random::new([1, 2]);
        assert_eq!(port_of(&mut random, 53, PortPolicy::default(), |_| Occupancy::Free), Some(53));
        let other =
            port_of(&mut random, 53, PortPolicy::default(), |port| if port == 53 { Occupancy::Taken } else { Occupancy::Free });
        assert!(other.unwrap() >= 1_024);
        assert_eq!(port_of(&mut random, 53, PortPolicy::default(), |_| Occupancy::Taken), None);
        assert_eq!(choose(&mut random, 53, PortPolicy::default(), |_| Occupancy::Over), Some(Chosen { port: 53, is_over: true }));
    }

    #[test]
    fn class_and_parity() {
        let mut random = Random::new([1, 2]);
        let policy = PortPolicy { preserve: false, keep_class: true, keep_parity: true };
        for wanted in [1, 2, 1_023, 1_024, 5_000, 65_535] {
            for _ in 0..200 {
                let port = port_of(&mut random, wanted, policy, |_| Occupancy::Free).unwrap();
                assert_eq!((port < 1_024, port % 2), (wanted < 1_024, wanted % 2), "{wanted} {port}");
                assert!(port > 0);
            }
        }
    }

    #[test]
    fn a_block_of_used_ports_hides_no_free_one() {
        let mut random = Random::new([1, 2]);
        for _ in 0..1_000 {
            let occupancy = |port| if port < 64_890 { Occupancy::Taken } else { Occupancy::Free };
            assert!(port_of(&mut random, 5_000, PortPolicy::default(), occupancy).is_some());
        }
        // The search alone covers the privileged ones.
        let policy = PortPolicy { keep_class: true, ..PortPolicy::default() };
        let occupancy = |port| if port == 777 { Occupancy::Free } else { Occupancy::Taken };
        assert_eq!(port_of(&mut random, 5, policy, occupancy), Some(777));
    }

    #[test]
    fn draws_are_spread() {
        let mut random = Random::new([3, 4]);
        let policy = PortPolicy { preserve: false, ..PortPolicy::default() };
        let ports: BTreeSet<u16> = (0..1_000).map(|_| port_of(&mut random, 1, policy, |_| Occupancy::Free).unwrap()).collect();
        assert!(ports.len() > 980, "{}", ports.len());
    }
}
