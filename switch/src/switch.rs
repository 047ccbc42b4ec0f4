//! The heart: [`Switch::forward`] takes an ingress port, a [`Head`] and the time, and says where the frame goes.
//!
//! Order of judgement, each step a reason to drop: loop block, VLAN (L11), source guard (L08), learning (L03, L07), reserved
//! group (L01), then the destination: known unicast to one port (L05; what a port is bound to is known before it was heard), what goes to a
//! group with known members to these (L16, [`crate::groups`]), everything else flooded within its VLAN (L06) under the storm budget (L14).
//! [`Switch::admit`] is the first three of these steps, [`Switch::onward`] the rest: whoever knows what the frame carries judges that between
//! them. Learning comes after the filters that judge the source, so that a frame that is not admitted teaches
//! nothing, and before the destination, so that the next frame of the same batch finds what this one taught (L18).
//!
//! A flood is a value with a cursor ([`Flood`]): the caller asks [`Switch::flood_next`] port by port, stops when its budget is
//! used up and goes on later. Ports that came or went meanwhile are taken as they are then.
//!
//! Loops (L15). A container that bridges two of its ports would circle a broadcast for ever. Guarded ports stop most of that
//! by themselves: what comes back has a foreign source. Against the rest the switch asks for a probe (source: its own
//! address) through the port that floods, at most one a second and none while nothing is flooded. Any frame with our
//! own source that comes in through an unguarded port blocks it for [`LOOP_HOLD`]. One thing does circle between guarded ports:
//! a frame with the very source that the port is bound to. So a guarded port is probed too, but only from
//! [`GUARDED_FLOODS`] floods a second on, and only the probe itself blocks it.
//!
//! No address that somebody owns is learned elsewhere: binding one unlearns it. So a source that was learned behind the
//! port it comes from needs no look at the owners.
use crate::drop::DropReason;
use crate::fdb::{Fdb, FdbLimits, Learned};
use crate::groups::Groups;
use crate::guard::Owners;
use crate::head::{EtherType, Head};
use crate::mac::UnicastMac;
use crate::port::{Guard, PortConfig, PortId, PortSet};
use crate::storm::{FloodClass, Storm};
use crate::time::Time;
use crate::vlan::{Priority, Vid};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

mod events;
mod multicast;
mod ports;
mod probes;

use multicast::Scope;

pub use crate::frame::TagOp;
pub use events::{EVENT_INTERVAL, EVENT_LIMIT, LEARNED_PER_SECOND, SwitchEvent};

/// How long a port stays blocked after a frame of ours came back through it.
pub const LOOP_HOLD: Duration = Duration::from_secs(30);
/// Between two probes of one port.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Floods within [`PROBE_INTERVAL`] from which on a guarded port is probed: no station asks that much, every loop does.
pub const GUARDED_FLOODS: u32 = 100;
/// Probes that wait to be sent.
const PROBE_LIMIT: usize = 64;
/// Reserved group addresses that can never be forwarded: PAUSE, 01-80-C2-00-00-01, is for one link (802.3 annex 31B).
pub const NEVER_FORWARDED: u16 = 1 << 1;

/// The switch's own configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchConfig {
    /// Our own address: the gateway's, and the source of probes.
    pub mac: UnicastMac,
    /// Limits of the filtering database.
    pub fdb: FdbLimits,
    /// Bit N lets 01-80-C2-00-00-0N through (L01); [`NEVER_FORWARDED`] is ignored.
    pub group_forward: u16,
    /// Whether frames to an IP group that nobody is known to listen to are flooded, else they go to router ports only (L16).
    pub flood_unregistered: bool,
    /// Keys the hashes of network keys.
    pub seed: u64,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// It goes there.
    To(Egress),
    /// It ends here.
    Drop(DropReason),
}

/// Where a frame goes: never back to where it came from, unless that port has hairpin on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// To one port.
    One(PortId, TagOp),
    /// To at least one, see [`Switch::flood_next`].
    Flood(Flood),
}

/// A frame whose source may be on its port, see [`Switch::admit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    ingress: PortId,
    vid: Vid,
    group: u8,
    hairpin: bool,
    learn: bool,
    priority: Priority,
}

impl Admitted {
    /// Where it came from.
    #[must_use]
    pub const fn ingress(&self) -> PortId {
        self.ingress
    }
}

/// A flood under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    ingress: PortId,
    vid: Vid,
    class: FloodClass,
    scope: Scope,
    priority: Priority,
    group: u8,
    /// The next port to look at.
    cursor: u16,
    /// Ports when it began.
    copies: u32,
}

impl Flood {
    /// How many ports it had before it when it began, at least 1.
    #[must_use]
    pub const fn copies(&self) -> u32 {
        self.copies
    }

    /// Whether it is of unicast to a station that is not known: one that may be known for the next frame of its flow.
    #[must_use]
    pub const fn is_of_unknown(&self) -> bool {
        matches!(self.class, FloodClass::Unknown)
    }

    /// Where it came from.
    #[must_use]
    pub const fn ingress(&self) -> PortId {
        self.ingress
    }
}

/// Why a port could not be added or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortError {
    /// All [`crate::port::MAX_PORTS`] are taken.
    NoPort,
    /// The number is taken, or there is no such port.
    Number,
    /// Another port is bound to this address.
    MacTaken(UnicastMac),
}

#[derive(Debug)]
struct Port {
    config: PortConfig,
    storm: Storm,
    blocked_until: Option<Time>,
    /// When the interval began in which `floods` are counted.
    interval: Time,
    floods: u32,
    /// Whether a probe was asked for in it.
    probed: bool,
    told: events::Told,
}

/// One class of flood -> who takes it.
#[derive(Debug, Default)]
struct Takers {
    unknown: PortSet,
    broadcast: PortSet,
    multicast: PortSet,
}

impl Takers {
    fn of(&self, class: FloodClass) -> &PortSet {
        match class {
            FloodClass::Broadcast => &self.broadcast,
            FloodClass::Multicast => &self.multicast,
            FloodClass::Unknown => &self.unknown,
        }
    }
}

/// A learning switch. See the module's theory.
#[derive(Debug)]
pub struct Switch {
    config: SwitchConfig,
    ports: Vec<Option<Box<Port>>>,
    fdb: Fdb,
    owners: Owners,
    /// VLAN -> its ports; an index of 4,095 pointers, sets only where there are members.
    members: Vec<Option<Box<PortSet>>>,
    takers: Takers,
    /// Split-horizon group - 1 -> its ports.
    groups: Vec<PortSet>,
    multicast: Groups,
    blocked: PortSet,
    probes: VecDeque<(PortId, TagOp)>,
    events: VecDeque<SwitchEvent>,
    events_lost: u64,
    tells_learned: bool,
}

impl Switch {
    /// A switch with one port, the gateway, on VLAN 1.
    #[must_use]
    pub fn new(config: SwitchConfig) -> Self {
        let mut switch = Self {
            config,
            ports: Vec::new(),
            fdb: Fdb::new(config.fdb, config.seed),
            owners: Owners::new(config.seed),
            members: Vec::new(),
            takers: Takers::default(),
            groups: Vec::new(),
            multicast: Groups::new(config.seed),
            blocked: PortSet::default(),
            probes: VecDeque::with_capacity(PROBE_LIMIT),
            events: VecDeque::with_capacity(EVENT_LIMIT),
            events_lost: 0,
            tells_learned: false,
        };
        let gateway = PortConfig { guard: Guard::Bound(config.mac), ..PortConfig::default() };
        // The first port of an empty switch: it cannot be refused.
        let _ = switch.insert_port(PortId::GATEWAY, gateway);
        switch
    }

    /// Says where a frame from `ingress` goes: [`Switch::admit`] and [`Switch::onward`].
    #[inline]
    pub fn forward(&mut self, ingress: PortId, head: &Head, now: Time) -> Forward {
        match self.admit(ingress, head, now) {
            Ok(admitted) => self.onward(admitted, head, now),
            Err(reason) => Forward::Drop(reason),
        }
    }

    /// Judges where a frame comes from. Nothing is learned yet.
    ///
    /// # Errors
    /// Why it ends here.
    #[inline]
    pub fn admit(&mut self, ingress: PortId, head: &Head, now: Time) -> Result<Admitted, DropReason> {
        let Some(Some(port)) = self.ports.get_mut(ingress.index()) else {
            return Err(DropReason::PortGone);
        };
        if port.blocked_until.is_some_and(|until| now < until) {
            return Err(DropReason::Loop);
        }
        let vid = port.config.vlan.classify(head.tag)?;
        match port.config.guard {
            Guard::Bound(mac) if mac != head.src => return Err(self.not_its_own(ingress, vid, head, now)),
            Guard::Bound(_) | Guard::Off => {}
        }
        let PortConfig { group, hairpin, learn, .. } = port.config;
        Ok(Admitted { ingress, vid, group, hairpin, learn, priority: Priority::of(head.tag) })
    }

    /// Says where an admitted frame goes, and learns where it came from.
    #[inline]
    pub fn onward(&mut self, admitted: Admitted, head: &Head, now: Time) -> Forward {
        let judged = self.meet(&admitted, head, now).and_then(|()| self.judge(&admitted, head, now));
        match judged {
            Ok(egress) => Forward::To(egress),
            Err(reason) => Forward::Drop(reason),
        }
    }

    #[inline]
    fn judge(&mut self, from: &Admitted, head: &Head, now: Time) -> Result<Egress, DropReason> {
        let vid = from.vid;
        let (class, scope) = if head.dst.is_group() {
            if let Some(last) = head.dst.reserved_group()
                && self.config.group_forward & !NEVER_FORWARDED & 1 << last == 0
            {
                return Err(DropReason::ReservedGroup);
            }
            if head.dst.is_broadcast() {
                (FloodClass::Broadcast, Scope::All)
            } else {
                (FloodClass::Multicast, self.scope(vid, head, now))
            }
        } else if let Some(egress) = self.fdb.lookup(vid, head.dst, now).or_else(|| self.bound(vid, head.dst)) {
            if from.ingress == egress && !from.hairpin {
                return Err(DropReason::Filtered);
            }
            return self.unicast(from, egress);
        } else {
            (FloodClass::Unknown, Scope::All)
        };
        self.flood(from, class, scope, now)
    }

    /// Learns a source.
    #[inline]
    fn meet(&mut self, from: &Admitted, head: &Head, now: Time) -> Result<(), DropReason> {
        if from.learn && self.fdb.refresh(from.vid, head.src, from.ingress, now) {
            return Ok(());
        }
        self.meet_new(from.ingress, from.vid, head.src, now)
    }

    /// A source that was not learned behind this port before, or not to be learned.
    #[inline(never)]
    fn meet_new(&mut self, ingress: PortId, vid: Vid, src: UnicastMac, now: Time) -> Result<(), DropReason> {
        let Some(port) = self.port(ingress) else {
            return Err(DropReason::PortGone);
        };
        let (guard, learn, limit) = (port.config.guard, port.config.learn, port.config.fdb_limit);
        if guard == Guard::Off
            && let Some(owner) = self.owners.owner(src)
        {
            return Err(if owner == PortId::GATEWAY { self.block(ingress, now) } else { self.spoofed(ingress, vid, src, now) });
        }
        if !learn {
            return Ok(());
        }
        match self.fdb.learn(vid, src, ingress, limit, now) {
            Ok(Learned::Refreshed | Learned::Full) => Ok(()),
            Ok(Learned::New) => {
                self.learned(ingress, vid, src, now);
                Ok(())
            }
            Ok(Learned::Moved(from)) => {
                self.event(SwitchEvent::Moved { vid, mac: src, from, to: ingress });
                Ok(())
            }
            Ok(Learned::Flapping(held)) => {
                self.event(SwitchEvent::Flap { vid, mac: src, held, seen: ingress });
                Err(DropReason::Flap)
            }
            Err(DropReason::Spoof) => Err(self.spoofed(ingress, vid, src, now)),
            Err(reason) => Err(reason),
        }
    }

    /// To a station whose port is known.
    #[inline]
    fn unicast(&self, from: &Admitted, egress: PortId) -> Result<Egress, DropReason> {
        let &Admitted { ingress, vid, group, priority, .. } = from;
        let Some(to) = self.port(egress) else {
            return Err(DropReason::PortGone);
        };
        if group != 0 && group == to.config.group && ingress != egress {
            return Err(DropReason::Isolated);
        }
        // An entry made by hand may name a port that does not carry the VLAN (any more).
        if !to.config.vlan.carries(vid) {
            return Err(DropReason::Vlan);
        }
        Ok(Egress::One(egress, to.config.vlan.egress_tag(to.config.tpid, vid, priority)))
    }

    /// To everybody else in the VLAN.
    fn flood(&mut self, from: &Admitted, class: FloodClass, scope: Scope, now: Time) -> Result<Egress, DropReason> {
        let &Admitted { ingress, vid, .. } = from;
        let flood = self.begin_flood(from, class, scope).ok_or(DropReason::NoEgress)?;
        self.want_probe(ingress, vid, now);
        let Some(Some(port)) = self.ports.get_mut(ingress.index()) else {
            return Err(DropReason::PortGone);
        };
        // The gateway floods only what it was asked for.
        if ingress != PortId::GATEWAY && !port.storm.admit(class, flood.copies, now) {
            return Err(self.stormed(ingress, class, now));
        }
        Ok(Egress::Flood(flood))
    }

    /// A flood, unless it goes nowhere.
    fn begin_flood(&self, from: &Admitted, class: FloodClass, scope: Scope) -> Option<Flood> {
        let &Admitted { ingress, vid, group, priority, .. } = from;
        let mut flood = Flood { ingress, vid, class, scope, priority, group, cursor: 0, copies: 0 };
        let words = self.member_set(vid).map_or(0, PortSet::words);
        flood.copies = (0..words).map(|word| self.flood_word(&flood, word).count_ones()).sum();
        (flood.copies > 0).then_some(flood)
    }

    /// 64 ports' worth of where a flood goes.
    #[inline]
    fn flood_word(&self, flood: &Flood, word: usize) -> u64 {
        let mut ports = self.member_set(flood.vid).map_or(0, |members| members.word(word));
        ports &= self.takers(flood, word) & !self.blocked.word(word);
        if let Some(group) = usize::from(flood.group).checked_sub(1).and_then(|group| self.groups.get(group)) {
            ports &= !group.word(word);
        }
        if flood.ingress.index() >> 6 == word {
            ports &= !(1 << (flood.ingress.get() & 63));
        }
        ports
    }

    /// The next port of a flood, ascending; `None` at its end.
    #[inline]
    pub fn flood_next(&self, flood: &mut Flood) -> Option<(PortId, TagOp)> {
        let words = self.member_set(flood.vid)?.words();
        loop {
            let word = usize::from(flood.cursor >> 6);
            if word >= words {
                return None;
            }
            let rest = self.flood_word(flood, word) & (u64::MAX << (flood.cursor & 63));
            if rest == 0 {
                flood.cursor = (flood.cursor | 63) + 1;
                continue;
            }
            let number = (word << 6) as u16 + rest.trailing_zeros() as u16;
            flood.cursor = number + 1;
            let id = PortId::new(number)?;
            if let Some(port) = self.port(id) {
                return Some((id, port.config.vlan.egress_tag(port.config.tpid, flood.vid, flood.priority)));
            }
        }
    }

    /// A guarded port uses another address than its own: our probe came back, or a spoof.
    #[cold]
    fn not_its_own(&mut self, ingress: PortId, vid: Vid, head: &Head, now: Time) -> DropReason {
        if head.src == self.config.mac && head.ethertype == EtherType::EXPERIMENTAL {
            return self.block(ingress, now);
        }
        self.spoofed(ingress, vid, head.src, now)
    }

    /// A frame of ours came back through this port.
    #[cold]
    fn block(&mut self, ingress: PortId, now: Time) -> DropReason {
        if let Some(Some(port)) = self.ports.get_mut(ingress.index()) {
            port.blocked_until = Some(now.after(LOOP_HOLD));
        }
        self.blocked.insert(ingress);
        self.fdb.flush(ingress);
        self.event(SwitchEvent::Loop { port: ingress });
        DropReason::Loop
    }

    /// Periodic work, bounded by `budget` looks: unblocks ports, gives memory of aged entries back. Not needed for
    /// correctness of lookups; call it every few seconds while [`Switch::needs_tick`].
    pub fn tick(&mut self, now: Time, budget: u32) {
        let over: Vec<PortId> = self
            .blocked
            .iter()
            .filter(|&id| self.port(id).is_none_or(|port| port.blocked_until.is_none_or(|until| now >= until)))
            .collect();
        for id in over {
            self.blocked.remove(id);
            if let Some(Some(port)) = self.ports.get_mut(id.index()) {
                port.blocked_until = None;
            }
        }
        self.fdb.expire(now, budget);
        self.multicast.expire(now, budget);
    }

    /// Whether time alone can change anything.
    #[must_use]
    pub fn needs_tick(&self) -> bool {
        !self.fdb.is_empty() || !self.blocked.is_empty() || !self.multicast.is_empty()
    }

    #[inline]
    fn port(&self, id: PortId) -> Option<&Port> {
        self.ports.get(id.index())?.as_deref()
    }

    #[inline]
    fn member_set(&self, vid: Vid) -> Option<&PortSet> {
        self.members.get(usize::from(vid.get()))?.as_deref()
    }

    /// Whether a loop was found behind a port and it is blocked.
    #[must_use]
    pub fn is_blocked(&self, id: PortId) -> bool {
        self.blocked.contains(id)
    }

    /// The filtering database.
    #[must_use]
    pub const fn fdb(&self) -> &Fdb {
        &self.fdb
    }

    /// The filtering database, to be changed by hand.
    pub const fn fdb_mut(&mut self) -> &mut Fdb {
        &mut self.fdb
    }

    /// The configuration; the ageing time is that of [`Switch::fdb`].
    #[must_use]
    pub const fn config(&self) -> &SwitchConfig {
        &self.config
    }

    /// Which reserved group addresses pass from now on, see [`SwitchConfig::group_forward`].
    pub const fn set_group_forward(&mut self, mask: u16) {
        self.config.group_forward = mask & !NEVER_FORWARDED;
    }
}
