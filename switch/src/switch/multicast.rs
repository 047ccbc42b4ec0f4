//! Where IP multicast goes (L16), and what is asked and answered on others' behalf. Who listens is in [`crate::groups`].
//!
//! What no report is made for is never restricted: 224.0.0.0/24 (RFC 4541 2.1.2 (2)) and all nodes, ff02::1 (RFC 3810 6). A frame says its
//! group by its MAC address only, so the 31 other groups of an address share its fate. Solicited-node groups and the well-known ones of a link
//! (ff02::2, ff02::fb, DHCPv6) go to their members once there are any, and flood until then whatever
//! [`SwitchConfig::flood_unregistered`](super::SwitchConfig::flood_unregistered) says: a host that makes no reports must be found.
use super::{Admitted, Egress, Flood, Forward, Switch, TagOp};
use crate::drop::DropReason;
use crate::groups::{Change, Family, GroupRow, Groups, Query};
use crate::head::{EtherType, Head};
use crate::mac::Mac;
use crate::port::PortId;
use crate::storm::FloodClass;
use crate::time::Time;
use crate::vlan::{Priority, Vid};

/// Which ports a flood is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// All that take its class.
    All,
    /// Those that listen to an address, and router ports.
    Members(Mac),
    /// Router ports.
    Routers,
}

/// What an address says of a group of IP.
enum Kind {
    /// Not one, or one that everybody gets.
    Everybody,
    /// Link-local groups of IPv6, solicited-node ones among them: flooded while nobody is known to listen.
    Link,
    /// The rest.
    Other(Family),
}

fn kind(head: &Head) -> Kind {
    match (head.ethertype, head.dst.0) {
        // RFC 1112 6.4; RFC 2464 7.
        (EtherType::IPV4, [0x01, 0, 0x5e, 0, 0, _]) | (EtherType::IPV6, [0x33, 0x33, 0, 0, 0, 1]) => Kind::Everybody,
        (EtherType::IPV4, [0x01, 0, 0x5e, 0..=0x7f, _, _]) => Kind::Other(Family::V4),
        (EtherType::IPV6, [0x33, 0x33, 0xff, _, _, _] | [0x33, 0x33, 0, 0, 0, _] | [0x33, 0x33, 0, 1, 0, _]) => Kind::Link,
        (EtherType::IPV6, [0x33, 0x33, _, _, _, _]) => Kind::Other(Family::V6),
        (_, _) => Kind::Everybody,
    }
}

impl Switch {
    /// Who gets a frame to a group.
    pub(super) fn scope(&self, vid: Vid, head: &Head, now: Time) -> Scope {
        let (family, floods) = match kind(head) {
            Kind::Everybody => return Scope::All,
            Kind::Link => (Family::V6, true),
            Kind::Other(family) => (family, self.config.flood_unregistered),
        };
        if !self.multicast.is_snooped(vid, family, now) {
            Scope::All
        } else if self.multicast.has(vid, head.dst) {
            Scope::Members(head.dst)
        } else if floods {
            Scope::All
        } else {
            Scope::Routers
        }
    }

    /// 64 ports' worth of those who take a flood. Whoever listens is not asked whether it takes floods.
    #[inline]
    pub(super) fn takers(&self, flood: &Flood, word: usize) -> u64 {
        match flood.scope {
            Scope::All => self.takers.of(flood.class).word(word),
            Scope::Members(mac) => self.multicast.word(flood.vid, mac, word) | self.multicast.routers(flood.vid, word),
            Scope::Routers => self.multicast.routers(flood.vid, word),
        }
    }

    /// Says where an admitted report goes: to router ports only (RFC 4541 2.1.1 (1)), so that nobody holds his own back for it; a query
    /// goes to everybody. What it says is entered, unless its source is refused. [`DropReason::NoEgress`] where there is no router: it was heard
    /// all the same. `changes` are what it says.
    pub fn report(&mut self, from: Admitted, head: &Head, changes: impl Iterator<Item = Change>, now: Time) -> Forward {
        if let Err(reason) = self.meet(&from, head, now) {
            return Forward::Drop(reason);
        }
        let mut asks = false;
        for change in changes {
            asks |= matches!(change, Change::Query(_));
            self.multicast.change(from.vid, from.ingress, change, now);
        }
        let scope = if asks { Scope::All } else { Scope::Routers };
        match self.flood(&from, FloodClass::Multicast, scope, now) {
            Ok(egress) => Forward::To(egress),
            Err(reason) => Forward::Drop(reason),
        }
    }

    /// Whether an admitted frame's sender can reach the station behind another port of its VLAN.
    #[must_use]
    pub fn reaches(&self, from: &Admitted, owner: PortId) -> bool {
        owner != from.ingress && !self.is_blocked(owner) && self.unicast(from, owner).is_ok()
    }

    /// An answer to an admitted frame, on another's behalf: the tag with which it goes back through the port that it came from. Learns the
    /// frame's source, as if it had gone on.
    ///
    /// # Errors
    /// Why the frame ends here and gets no answer.
    pub fn answer(&mut self, from: &Admitted, head: &Head, now: Time) -> Result<TagOp, DropReason> {
        self.meet(from, head, now)?;
        let port = self.port(from.ingress).ok_or(DropReason::PortGone)?;
        Ok(port.config.vlan.egress_tag(port.config.tpid, from.vid, from.priority))
    }

    /// Asks where it is time to. Cheap where it is not; [`Switch::deadline`] says when it will be.
    #[inline]
    pub fn tend_groups(&mut self, now: Time) {
        self.multicast.tend(now);
    }

    /// When [`Switch::tend_groups`] has something to do.
    #[must_use]
    pub const fn deadline(&self) -> Option<Time> {
        self.multicast.due()
    }

    /// A query that is to be sent, and where to; the caller makes the frame.
    pub fn next_query(&mut self) -> Option<(Query, Egress)> {
        loop {
            let query = self.multicast.next_query()?;
            let egress = match query {
                Query::General(vid, _) => {
                    let ingress = PortId::GATEWAY;
                    let from = Admitted { ingress, vid, group: 0, hairpin: false, learn: false, priority: Priority::default() };
                    self.begin_flood(&from, FloodClass::Multicast, Scope::All).map(Egress::Flood)
                }
                Query::Specific(vid, id, _) => self
                    .port(id)
                    .filter(|port| port.config.vlan.carries(vid))
                    .map(|port| Egress::One(id, port.config.vlan.egress_tag(port.config.tpid, vid, Priority::default()))),
            };
            if let Some(egress) = egress {
                return Some((query, egress));
            }
        }
    }

    /// Who listens.
    #[must_use]
    pub const fn groups(&self) -> &Groups {
        &self.multicast
    }

    /// A page of who listens, and the next cursor.
    pub fn groups_page(&self, cursor: u32, looks: u32, now: Time, each: impl FnMut(GroupRow)) -> Option<u32> {
        self.multicast.page(cursor, looks, now, each)
    }

    /// See [`SwitchConfig::flood_unregistered`](super::SwitchConfig::flood_unregistered).
    pub const fn set_flood_unregistered(&mut self, flood: bool) {
        self.config.flood_unregistered = flood;
    }
}
