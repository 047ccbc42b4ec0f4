//! The next-hop cache: who is behind an address of the uplink's link, for both families.
//!
//! Theory. A hop is *incomplete* (asked for, [`TRIES`] times a second apart; RFC 1122 2.3.2.1 wants at most one a second), then *reachable*
//! for [`REACHABLE`], then *stale*: it is still used, and asked for by name meanwhile (RFC 4861 7.3.2, RFC 1122 2.3.2.1 (2)); when it
//! does not answer [`TRIES`] times it is forgotten. Frames to an incomplete hop wait, the latest [`HELD_PER_HOP`] of them (RFC 1122 2.3.2.2).
//!
//! Limits: [`HOPS`] in all, [`INCOMPLETE`] that are asked for at once, so that a scan of the link is no storm of requests; [`HELD`] frames.
use crate::packet::address_frame;
use alloc::collections::VecDeque;
use core::net::IpAddr;
use core::time::Duration;
use vswitch_switch::{AgedMap, DropReason, FrameBuf, Time, UnicastMac};

/// Hops known at the most.
pub const HOPS: u32 = 1_024;
/// Hops that are asked for at once.
pub const INCOMPLETE: u32 = 64;
/// Frames that wait at the most.
pub const HELD: usize = 64;
/// The same, for one hop: a traceroute sends 16 probes at once.
pub const HELD_PER_HOP: usize = 32;
/// Requests before a hop is given up (RFC 4861 10, MAX_MULTICAST_SOLICIT).
pub const TRIES: u8 = 3;
/// Between two of them (RFC 4861 10, RETRANS_TIMER).
pub const INTERVAL: Duration = Duration::from_secs(1);
/// How long an answer is believed (RFC 1122 2.3.2.1: of the order of a minute).
pub const REACHABLE: Duration = Duration::from_secs(60);
/// How long one that is not used is kept.
const IDLE: Duration = Duration::from_secs(600);

const KNOWN: u32 = 0;
const ASKED: u32 = 1;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Hop {
    mac: Option<UnicastMac>,
    /// When he said so last, and whether it was an answer: what nobody asked for is not believed for long (RFC 4861 7.2.5).
    confirmed: Time,
    answered: bool,
    /// Requests sent since then, and when the next is due.
    tries: u8,
    due: Time,
    /// Used since it became stale: it is asked for.
    wanted: bool,
}

impl Hop {
    fn is_reachable(&self, now: Time) -> bool {
        self.answered && now.since(self.confirmed) <= REACHABLE
    }
}

/// How somebody came to say who he is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Said {
    /// He was asked.
    Answer,
    /// He was not: he asks himself, or announces.
    Unasked,
}

#[derive(Debug)]
struct Held {
    address: IpAddr,
    frame: FrameBuf,
}

/// What became of a frame to be sent.
#[derive(Debug)]
pub enum Resolved {
    /// Its Ethernet header is written.
    Send(FrameBuf),
    /// It waits.
    Held,
    /// There is no room to wait.
    Drop(FrameBuf, DropReason),
}

/// A request to be made: of everybody, or of the one who had the address last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Who is asked for.
    pub address: IpAddr,
    /// Who had it last.
    pub mac: Option<UnicastMac>,
}

/// See the module's theory.
#[derive(Debug)]
pub struct Neighbors {
    hops: AgedMap<IpAddr, Hop>,
    held: VecDeque<Held>,
    /// Whose frames may go.
    answered: VecDeque<IpAddr>,
    /// Whose frames have waited in vain.
    failed: VecDeque<IpAddr>,
}

impl Neighbors {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            hops: AgedMap::new(HOPS, 2, seed),
            held: VecDeque::with_capacity(HELD),
            answered: VecDeque::new(),
            failed: VecDeque::new(),
        }
    }

    #[inline]
    pub(super) fn resolve(
        &mut self,
        address: IpAddr,
        is_gateway: bool,
        mut frame: FrameBuf,
        own: UnicastMac,
        now: Time,
    ) -> Resolved {
        if let Some((hop, seen)) = self.hops.get_mut(&address) {
            *seen = now;
            if let Some(mac) = hop.mac {
                if !hop.wanted && !hop.is_reachable(now) {
                    (hop.wanted, hop.tries, hop.due) = (true, 0, now);
                    self.hops.set_class(&address, ASKED, now);
                }
                address_frame(&mut frame, mac.mac(), own);
                return Resolved::Send(frame);
            }
        } else if (self.hops.class_len(ASKED) >= INCOMPLETE && !is_gateway) || !self.begin(address, now) {
            return Resolved::Drop(frame, DropReason::NoNeighbour);
        }
        if self.held.len() >= HELD || self.held.iter().filter(|held| held.address == address).count() >= HELD_PER_HOP {
            // The latest are worth most: the earliest of the same hop gives way.
            let earliest = self.held.iter().position(|held| held.address == address);
            return match earliest.and_then(|at| self.held.remove(at)) {
                Some(earliest) => {
                    self.held.push_back(Held { address, frame });
                    Resolved::Drop(earliest.frame, DropReason::NoNeighbour)
                }
                None => Resolved::Drop(frame, DropReason::NoNeighbour),
            };
        }
        self.held.push_back(Held { address, frame });
        Resolved::Held
    }

    /// Begins to ask for a hop that is not known; one that is known for long gives way. `false`: all are asked for.
    fn begin(&mut self, address: IpAddr, now: Time) -> bool {
        if self.hops.len() >= HOPS
            && let Some((oldest, _)) = self.hops.oldest(KNOWN, now)
        {
            self.hops.remove(&oldest);
        }
        let hop = Hop { mac: None, confirmed: now, answered: false, tries: 0, due: now, wanted: true };
        self.hops.insert(address, hop, ASKED, now).is_ok()
    }

    /// Asks for a hop, though nothing is to be sent to it, unless it is asked for or has answered lately.
    pub(super) fn ask(&mut self, address: IpAddr, now: Time) {
        match self.hops.get_mut(&address) {
            None => {
                self.begin(address, now);
            }
            Some((hop, _)) if hop.wanted || hop.is_reachable(now) => {}
            Some((hop, _)) => {
                (hop.wanted, hop.tries, hop.due) = (true, 0, now);
                self.hops.set_class(&address, ASKED, now);
            }
        }
    }

    /// Forgets all that is known and not asked about.
    pub(super) fn forget_known(&mut self) {
        self.hops.clear_class(KNOWN);
    }

    /// Whom an address is known to belong to.
    pub(super) fn mac(&self, address: IpAddr) -> Option<UnicastMac> {
        self.hops.get(&address).and_then(|(hop, _)| hop.mac)
    }

    /// Somebody said who he is. An answer confirms; anything else only corrects what is known, and is asked about when it is used.
    pub(super) fn learn(&mut self, address: IpAddr, mac: UnicastMac, said: Said, now: Time) {
        let Some((hop, _)) = self.hops.get_mut(&address) else { return };
        let (was_unknown, answered) = (hop.mac.is_none(), said == Said::Answer);
        if answered || was_unknown || hop.mac != Some(mac) {
            *hop = Hop { mac: Some(mac), confirmed: now, answered, tries: 0, due: now, wanted: false };
            self.hops.set_class(&address, KNOWN, now);
        }
        if was_unknown && !self.answered.contains(&address) {
            self.answered.push_back(address);
        }
    }

    /// A frame whose hop has answered.
    pub(super) fn release(&mut self, own: UnicastMac) -> Option<FrameBuf> {
        while let Some(address) = self.answered.front().copied() {
            let mac = self.hops.get(&address).and_then(|(hop, _)| hop.mac);
            let at = self.held.iter().position(|held| held.address == address);
            if let (Some(mac), Some(at)) = (mac, at) {
                let mut frame = self.held.remove(at)?.frame;
                address_frame(&mut frame, mac.mac(), own);
                return Some(frame);
            }
            self.answered.pop_front();
        }
        None
    }

    /// A frame whose hop has not answered in time; `in_vain` is told of each such hop.
    pub(super) fn failed(&mut self, now: Time, in_vain: &mut impl FnMut(IpAddr)) -> Option<FrameBuf> {
        // Each turn takes a hop away.
        loop {
            while let Some(address) = self.failed.front().copied() {
                if let Some(at) = self.held.iter().position(|held| held.address == address) {
                    return self.held.remove(at).map(|held| held.frame);
                }
                self.failed.pop_front();
            }
            let at = self.hops.seek(ASKED, HOPS, |_, hop| hop.tries >= TRIES && hop.due <= now)?;
            let (address, _) = self.hops.remove_at(at)?;
            in_vain(address);
            self.failed.push_back(address);
        }
    }

    /// The next request that is due.
    pub(super) fn next_request(&mut self, now: Time) -> Option<Asked> {
        if self.hops.class_len(ASKED) == 0 {
            return None;
        }
        let at = self.hops.seek(ASKED, HOPS, |_, hop| hop.tries < TRIES && hop.due <= now)?;
        let (address, hop, _) = self.hops.at_mut(at)?;
        hop.tries += 1;
        hop.due = now.after(INTERVAL);
        let asked = Asked { address: *address, mac: hop.mac };
        self.hops.expire(KNOWN, IDLE, now, 16, |_, _, _| {});
        Some(asked)
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        if !self.answered.is_empty() || !self.failed.is_empty() {
            return Some(Time::ZERO);
        }
        if self.hops.class_len(ASKED) == 0 {
            return None;
        }
        let mut due: Option<Time> = None;
        // All of them: none is the one that is looked for.
        self.hops.seek(ASKED, HOPS, |_, hop| {
            due = Some(due.map_or(hop.due, |due| due.min(hop.due)));
            false
        });
        due
    }

    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) fn abandon(&mut self) -> Option<FrameBuf> {
        self.held.pop_front().map(|held| held.frame)
    }

    pub(super) fn list(&self, now: Time, mut each: impl FnMut(IpAddr, Option<UnicastMac>, &'static str, Duration)) {
        self.hops.page(0, HOPS, |address, hop, _| {
            let state = match hop.mac {
                None => "incomplete",
                Some(_) if hop.wanted => "probe",
                Some(_) if !hop.is_reachable(now) => "stale",
                Some(_) => "reachable",
            };
            each(*address, hop.mac, state, now.since(hop.confirmed));
        });
    }
}
