//! Who listens to which group of IP multicast (L16, RFC 4541): the table behind [`crate::Switch::report`].
//!
//! Theory. Whoever reads reports (not this crate: it knows no IP) says that a port joined a *group* or left it. A group has a *name*, a number
//! that means something to that reader only, and the MAC address to which its frames go; several names share one address, so memberships
//! are kept by name and frames go by address. Source filters (IGMPv3, MLDv2) are not kept: who wants a group from one source is given all.
//!
//! Members are only to be relied on while somebody asks for them, for a membership ends after [`MEMBER_AGE`] unless it is reported again,
//! and reports answer *queries*. So a VLAN is *snooped*, each protocol for itself, from [`RESPONSE`] after the first query until
//! [`QUERIER_AGE`] after the last; before and after, everything floods as without this table. That holds after a restart too, which
//! takes no memberships along. This table asks itself, from the first report in a VLAN until its last membership ends: general queries every
//! [`QUERY_INTERVAL`], the first two faster, and none while another querier was heard, whoever has the lower address (exception to RFC 3376
//! 6.6.2 and RFC 3810 7.6.2: ours is no router, and a router that lost the election to us would be forgotten as one). A network without
//! reports, and a switch in which nobody listens, send nothing.
//!
//! Ports that ask are *router ports*: they get all groups and all reports. So does, for as long, a port whose membership finds no room: full
//! is a flood, never a loss. A port that leaves is asked [`LAST_MEMBER_COUNT`] times, a second apart, whether it still listens.
use crate::mac::Mac;
use crate::port::{MAX_PORTS, PortId, PortSet};
use crate::table::AgedMap;
use crate::time::Time;
use crate::vlan::Vid;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// Addresses of groups, over all VLANs, at the most: a solicited-node group for each of 4,095 ports, and as many others.
pub const GROUPS: usize = 8_192;
/// Memberships at the most.
pub const MEMBERSHIPS: u32 = 32_768;
/// Memberships of one port at the most.
pub const PER_PORT: u32 = 256;
/// Router ports, over all VLANs, at the most.
pub const ROUTERS: u32 = 4_096;
/// Ports that are asked whether they still listen, at the most; a leave beyond that is left to age.
pub const LEAVING: usize = 1_024;
/// Queries that wait to be sent at the most.
pub const QUERIES: usize = 256;
/// After its last report a membership, after its last query a router port ends (RFC 3376 8.4, RFC 3810 9.4).
pub const MEMBER_AGE: Duration = Duration::from_secs(260);
/// For which a querier is taken to be there after a query (RFC 3376 8.5, RFC 3810 9.5).
pub const QUERIER_AGE: Duration = Duration::from_secs(255);
/// Between two general queries (RFC 3376 8.2, RFC 3810 9.2).
pub const QUERY_INTERVAL: Duration = Duration::from_secs(125);
/// Between the first two (RFC 3376 8.6, RFC 3810 9.6).
pub const STARTUP_INTERVAL: Duration = Duration::from_millis(31_250);
/// Within which a general query is answered (RFC 3376 8.3, RFC 3810 9.3).
pub const RESPONSE: Duration = Duration::from_secs(10);
/// Within which a query about one group is answered (RFC 3376 8.8, RFC 3810 9.8).
pub const LAST_MEMBER_INTERVAL: Duration = Duration::from_secs(1);
/// Queries to a port that leaves (RFC 3376 8.9, RFC 3810 9.9).
pub const LAST_MEMBER_COUNT: u8 = 2;

/// Which protocol's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Family {
    /// IGMP.
    V4,
    /// MLD.
    V6,
}

/// A group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Group {
    /// What its reader calls it.
    pub name: u128,
    /// Where its frames go.
    pub mac: Mac,
    /// Whose it is.
    pub family: Family,
}

/// What a port said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It listens.
    Join(Group),
    /// It may listen no longer.
    Leave(Group),
    /// It asks who listens.
    Query(Family),
}

/// A query that is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Query {
    /// To a VLAN: who listens to what?
    General(Vid, Family),
    /// To a port: do you listen to this?
    Specific(Vid, PortId, Group),
}

/// A row for views.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupRow {
    /// VLAN.
    pub vid: Vid,
    /// The group; none for a router port.
    pub group: Option<Group>,
    /// Who listens.
    pub port: PortId,
    /// Since it said so last.
    pub age: Duration,
}

/// A membership; its class in the map is its port.
type Key = (Vid, u128, PortId);

#[derive(Clone, Copy, Debug)]
struct Member {
    mac: Mac,
    family: Family,
    /// It is being asked.
    leaving: bool,
}

#[derive(Clone, Copy, Debug)]
struct Leave {
    key: Key,
    group: Group,
    /// When it left: a later report keeps it.
    at: Time,
    due: Time,
    asked: u8,
}

/// Asking in one VLAN by one protocol.
#[derive(Clone, Copy, Default, Debug)]
struct Querier {
    /// Memberships.
    members: u32,
    /// The first query since there was none for [`MEMBER_AGE`], and the last.
    heard: Option<(Time, Time)>,
    /// When another one asked last.
    other: Option<Time>,
    /// When we ask next.
    next: Option<Time>,
    asked: u32,
}

impl Querier {
    fn hear(&mut self, now: Time) {
        // Members of then are still members.
        let since = self.heard.filter(|(_, last)| now.since(*last) < MEMBER_AGE).map_or(now, |(since, _)| since);
        self.heard = Some((since, now));
    }
}

#[derive(Default, Debug)]
struct Vlan {
    routers: PortSet,
    queriers: [Querier; 2],
    /// Until when nothing is relied on here, for something did not fit.
    overflow: Option<Time>,
}

/// See the module's theory.
#[derive(Debug)]
pub struct Groups {
    members: AgedMap<Key, Member>,
    routers: AgedMap<(Vid, PortId), ()>,
    /// By VLAN and address; sets that are free keep their room.
    index: HashMap<(Vid, Mac), u32, FixedState>,
    sets: Vec<PortSet>,
    free: Vec<u32>,
    vlans: Vec<Option<Box<Vlan>>>,
    leaving: VecDeque<Leave>,
    queries: VecDeque<Query>,
    /// VLANs in which we may have to ask.
    asking: Vec<(Vid, Family)>,
    /// Nothing is to be done before.
    due: Option<Time>,
    full: u64,
}

impl Groups {
    /// Nobody listens.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            members: AgedMap::new(MEMBERSHIPS, u32::from(MAX_PORTS), seed),
            routers: AgedMap::new(ROUTERS, 1, seed),
            index: HashMap::with_hasher(FixedState::with_seed(seed)),
            sets: Vec::new(),
            free: Vec::new(),
            vlans: Vec::new(),
            leaving: VecDeque::new(),
            queries: VecDeque::new(),
            asking: Vec::new(),
            due: None,
            full: 0,
        }
    }

    /// Memberships held.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.members.len()
    }

    /// Whether nobody listens and nobody asks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.routers.is_empty()
    }

    /// Reports that found no room, each a port that was given everything.
    #[must_use]
    pub const fn full(&self) -> u64 {
        self.full
    }

    fn vlan(&self, vid: Vid) -> Option<&Vlan> {
        self.vlans.get(usize::from(vid.get()))?.as_deref()
    }

    fn vlan_mut(&mut self, vid: Vid) -> Option<&mut Vlan> {
        let index = usize::from(vid.get());
        if self.vlans.len() <= index {
            self.vlans.resize_with(index + 1, || None);
        }
        self.vlans.get_mut(index).map(|vlan| &mut **vlan.get_or_insert_default())
    }

    fn querier(&mut self, vid: Vid, family: Family) -> Option<&mut Querier> {
        self.vlan_mut(vid)?.queriers.get_mut(family as usize)
    }

    /// Whether members are known, see the module's theory.
    #[must_use]
    pub fn is_snooped(&self, vid: Vid, family: Family, now: Time) -> bool {
        let Some(vlan) = self.vlan(vid) else { return false };
        let heard = vlan.queriers.get(family as usize).and_then(|querier| querier.heard);
        heard.is_some_and(|(since, last)| now.since(since) >= RESPONSE && now.since(last) < QUERIER_AGE)
            && vlan.overflow.is_none_or(|until| now >= until)
    }

    /// Whether anybody listens to an address.
    #[must_use]
    pub fn has(&self, vid: Vid, mac: Mac) -> bool {
        self.index.contains_key(&(vid, mac))
    }

    /// 64 ports' worth of an address's members.
    #[must_use]
    pub fn word(&self, vid: Vid, mac: Mac, word: usize) -> u64 {
        self.index.get(&(vid, mac)).and_then(|set| self.sets.get(*set as usize)).map_or(0, |set| set.word(word))
    }

    /// 64 ports' worth of router ports; the gateway is always one.
    #[must_use]
    pub fn routers(&self, vid: Vid, word: usize) -> u64 {
        self.vlan(vid).map_or(0, |vlan| vlan.routers.word(word)) | u64::from(word == 0)
    }

    /// A port said something.
    pub fn change(&mut self, vid: Vid, port: PortId, change: Change, now: Time) {
        match change {
            Change::Join(group) => self.join(vid, port, group, now),
            Change::Leave(group) => self.leave(vid, port, group, now),
            Change::Query(family) => {
                if let Some(querier) = self.querier(vid, family) {
                    querier.hear(now);
                    querier.other = Some(now);
                }
                self.route(vid, port, now);
            }
        }
    }

    fn join(&mut self, vid: Vid, port: PortId, group: Group, now: Time) {
        let key = (vid, group.name, port);
        if let Some((_, seen)) = self.members.get_mut(&key) {
            *seen = now;
            return;
        }
        let class = u32::from(port.get());
        let known = self.index.contains_key(&(vid, group.mac));
        let fits = self.members.class_len(class) < PER_PORT && (known || self.index.len() < GROUPS);
        let member = Member { mac: group.mac, family: group.family, leaving: false };
        if !fits || self.members.insert(key, member, class, now).is_err() {
            self.full += 1;
            return self.route(vid, port, now);
        }
        self.enlist(vid, group.mac, port);
        let Some(querier) = self.querier(vid, group.family) else { return };
        querier.members += 1;
        if querier.next.is_none() {
            (querier.next, querier.asked) = (Some(now), 0);
            self.asking.push((vid, group.family));
            self.due_at(now);
        }
    }

    fn enlist(&mut self, vid: Vid, mac: Mac, port: PortId) {
        let set = match self.index.get(&(vid, mac)) {
            Some(set) => *set,
            None => {
                let set = self.free.pop().unwrap_or(self.sets.len() as u32);
                if set as usize == self.sets.len() {
                    self.sets.push(PortSet::default());
                }
                self.index.insert((vid, mac), set);
                set
            }
        };
        if let Some(set) = self.sets.get_mut(set as usize) {
            set.insert(port);
        }
    }

    fn leave(&mut self, vid: Vid, port: PortId, group: Group, now: Time) {
        let key = (vid, group.name, port);
        if self.leaving.len() >= LEAVING {
            return;
        }
        match self.members.get_mut(&key) {
            Some((member, _)) if !member.leaving => member.leaving = true,
            Some(_) | None => return,
        }
        let due = now.after(LAST_MEMBER_INTERVAL);
        self.leaving.push_back(Leave { key, group, at: now, due, asked: 1 });
        self.ask(Query::Specific(vid, port, group));
        self.due_at(due);
    }

    /// A port gets everything, for some time.
    fn route(&mut self, vid: Vid, port: PortId, now: Time) {
        if let Some((_, seen)) = self.routers.get_mut(&(vid, port)) {
            *seen = now;
            return;
        }
        let fits = self.routers.insert((vid, port), (), 0, now).is_ok();
        self.full += u64::from(!fits);
        if let Some(vlan) = self.vlan_mut(vid) {
            if fits { vlan.routers.insert(port) } else { vlan.overflow = Some(now.after(MEMBER_AGE)) }
        }
    }

    fn ask(&mut self, query: Query) {
        if self.queries.len() < QUERIES {
            self.queries.push_back(query);
        }
    }

    fn due_at(&mut self, time: Time) {
        self.due = Some(self.due.map_or(time, |due| due.min(time)));
    }

    /// When [`Groups::tend`] has something to do.
    #[inline]
    #[must_use]
    pub const fn due(&self) -> Option<Time> {
        self.due
    }

    /// Asks where it is time to, and ends memberships of those who did not answer.
    pub fn tend(&mut self, now: Time) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        while let Some(leave) = self.leaving.front().copied().filter(|leave| leave.due <= now) {
            self.leaving.pop_front();
            let Some((member, seen)) = self.members.get_mut(&leave.key) else { continue };
            if *seen > leave.at {
                member.leaving = false;
            } else if leave.asked < LAST_MEMBER_COUNT {
                self.leaving.push_back(Leave { due: now.after(LAST_MEMBER_INTERVAL), asked: leave.asked + 1, ..leave });
                self.ask(Query::Specific(leave.key.0, leave.key.2, leave.group));
            } else {
                self.remove(leave.key);
            }
        }
        self.due = self.leaving.front().map(|leave| leave.due);
        let mut asking = core::mem::take(&mut self.asking);
        asking.retain(|&(vid, family)| {
            let next = self.inquire(vid, family, now);
            if let Some(next) = next {
                self.due_at(next);
            }
            next.is_some()
        });
        self.asking = asking;
    }

    /// Asks a VLAN if it is time to; says when it will be again.
    fn inquire(&mut self, vid: Vid, family: Family, now: Time) -> Option<Time> {
        let querier = self.querier(vid, family)?;
        if querier.members == 0 {
            (querier.next, querier.asked) = (None, 0);
            return None;
        }
        if querier.next.is_some_and(|next| next > now) {
            return querier.next;
        }
        let mut after = if querier.asked == 0 { STARTUP_INTERVAL } else { QUERY_INTERVAL };
        let other = querier.other.map(|other| now.since(other)).filter(|since| *since < QUERIER_AGE);
        if let Some(since) = other {
            after = QUERIER_AGE.saturating_sub(since);
        } else {
            querier.asked = querier.asked.saturating_add(1);
            querier.hear(now);
        }
        let next = now.after(after);
        querier.next = Some(next);
        if other.is_none() {
            self.ask(Query::General(vid, family));
        }
        Some(next)
    }

    /// The oldest query that is to be sent.
    pub fn next_query(&mut self) -> Option<Query> {
        self.queries.pop_front()
    }

    fn remove(&mut self, key: Key) {
        if let Some(member) = self.members.remove(&key) {
            self.removed(key, member);
        }
    }

    /// After a membership is gone from the map.
    fn removed(&mut self, (vid, _, port): Key, member: Member) {
        if let Some(querier) = self.querier(vid, member.family) {
            querier.members = querier.members.saturating_sub(1);
        }
        // Another group of the same address keeps the port.
        let class = u32::from(port.get());
        let is_same = |key: &Key, other: &Member| key.0 == vid && other.mac == member.mac;
        if self.members.seek(class, PER_PORT, is_same).is_some() {
            return;
        }
        let Some(&number) = self.index.get(&(vid, member.mac)) else { return };
        let Some(set) = self.sets.get_mut(number as usize) else { return };
        set.remove(port);
        if set.is_empty() {
            self.index.remove(&(vid, member.mac));
            self.free.push(number);
        }
    }

    /// A port is gone, or in other VLANs.
    pub fn forget_port(&mut self, port: PortId) {
        let class = u32::from(port.get());
        while let Some((key, _)) = self.members.oldest(class, Time::ZERO) {
            self.remove(key);
        }
        self.queries.retain(|query| !matches!(query, Query::Specific(_, to, _) if *to == port));
        for (vid, vlan) in (0u16..).zip(&mut self.vlans) {
            let (Some(vid), Some(vlan)) = (Vid::new(vid), vlan) else { continue };
            if vlan.routers.contains(port) {
                vlan.routers.remove(port);
                self.routers.remove(&(vid, port));
            }
        }
    }

    /// Ends what was not reported again; looks at `budget` entries of a port at the most.
    pub fn expire(&mut self, now: Time, budget: u32) {
        let mut over = Vec::new();
        for class in 0..u32::from(MAX_PORTS) {
            if self.members.class_len(class) > 0 {
                self.members.expire(class, MEMBER_AGE, now, budget, |_, key, member| over.push((key, member)));
            }
        }
        for (key, member) in over {
            self.removed(key, member);
        }
        let mut over = Vec::new();
        self.routers.expire(0, MEMBER_AGE, now, budget, |_, key, ()| over.push(key));
        for (vid, port) in over {
            if let Some(vlan) = self.vlan_mut(vid) {
                vlan.routers.remove(port);
            }
        }
    }

    /// A page for listing, memberships first: calls `each` for up to `looks` places; gives the next cursor.
    pub fn page(&self, cursor: u32, looks: u32, now: Time, mut each: impl FnMut(GroupRow)) -> Option<u32> {
        /// Past every place of a membership.
        const ROUTERS_FROM: u32 = 1 << 31;
        if cursor < ROUTERS_FROM {
            let next = self.members.page(cursor, looks, |&(vid, name, port), member, seen| {
                let group = Some(Group { name, mac: member.mac, family: member.family });
                each(GroupRow { vid, group, port, age: now.since(seen) });
            });
            return Some(next.unwrap_or(ROUTERS_FROM));
        }
        let next = self.routers.page(cursor - ROUTERS_FROM, looks, |&(vid, port), (), seen| {
            each(GroupRow { vid, group: None, port, age: now.since(seen) });
        })?;
        Some(ROUTERS_FROM + next)
    }
}
