//! What the gateway knows of addresses, put to use on frames between containers: before the switch forwards them ([`Gateway::inspect`]).
//!
//! Theory. The daemon gave each port its addresses ([`crate::station`]), so three things can be done that a switch alone cannot:
//! - **Source guard** (L09). What a port sends as ARP, neighbour discovery, IPv4 or IPv6 must be from addresses that are its own: those it was
//!   given, further ones of the subnet and link-local ones that it was the first to use, none (0.0.0.0, ::) where a host has none yet.
//!   Router advertisements and redirects (RFC 6105) and what goes to a DHCP client (RFC 7610) come from no container.
//! - **Suppression.** A broadcast ARP request or multicast neighbour solicitation for an address whose station is known is answered in its
//!   buffer, on the station's behalf, to whoever could reach it. Unicast probes pass, so that reachability stays true; announcements pass
//!   (L22); what nobody is known to have floods. Who asks as if to take an address that another has (RFC 5227 probe, RFC 4862 DAD) is told
//!   that it is taken, and counted.
//! - **Membership** reports (IGMP, MLD) are read ([`membership`]) for the switch, which keeps who listens (L16).
//!
//! A frame is judged by what its receiver would take it for, so nothing here believes a checksum that an offload is still to make, and an IPv6
//! packet whose headers hide what follows is dropped (RFC 7113, RFC 6980). What is no IP and no ARP passes: a switch must carry it.
//! A priority tag within the outer tag does not: Linux takes such a frame for an untagged one.
//!
//! Ports without a station, and those whose guard is off, may send from anywhere; that they announce an address moves one that was only learned.
//! What a port does wrong is told once in [`NEWS_INTERVAL`].
pub mod arp;
mod chain;
pub mod membership;
pub mod nd;

use crate::flow::protocol::UDP;
use crate::gateway::Gateway;
use crate::station::{AddressGuard, Claim};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use chain::Upper;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use vswitch_switch::{DropReason, EtherType, FrameBuf, Head, Time, UnicastMac};

/// Between two news of one port.
pub const NEWS_INTERVAL: Duration = Duration::from_secs(1);
/// News that wait to be fetched at the most; what comes beyond is not told.
pub const NEWS: usize = 64;
/// UDP ports of DHCP clients: what goes there is a server's (RFC 2131 4.1, RFC 8415 7.2).
const DHCP_CLIENT: u16 = 68;
const DHCP_SERVER: u16 = 67;
const DHCPV6_CLIENT: u16 = 546;
const IGMP: u8 = 2;
const TCP: u8 = 6;
/// VLAN tags within the outer one.
const TAGS: [EtherType; 2] = [EtherType(0x8100), EtherType(0x88a8)];

/// What is to become of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inspected {
    /// It goes on.
    Pass,
    /// It ends here.
    Drop(DropReason),
    /// It asks where an address is that is known: [`answer`] writes the answer, for an asker that can reach the owner. For others it goes on.
    Asked(Asked),
    /// It claims an address that is another's: it ends here, and [`answer`] says so to its sender.
    Claimed(Asked),
    /// A membership report or query: [`membership::changes`] says of what.
    Report,
}

/// Where an address is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    /// The port of its owner.
    pub owner: u16,
    /// The owner's hardware address.
    pub mac: UnicastMac,
}

/// A port did what the guard does not let it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuardNews {
    /// The port.
    pub port: u16,
    /// What it did.
    pub reason: DropReason,
    /// The address that it used, if that is what was wrong.
    pub address: Option<IpAddr>,
    /// Whose that is.
    pub owner: Option<u16>,
}

/// What the gateway keeps for this.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Whether others are answered for.
    pub(crate) suppress: bool,
    /// By port, when news of it were told last.
    told: Vec<Time>,
    news: VecDeque<GuardNews>,
}

impl Default for Watch {
    fn default() -> Self {
        Self { suppress: true, told: Vec::new(), news: VecDeque::with_capacity(NEWS) }
    }
}

impl Watch {
    #[cold]
    fn tell(&mut self, news: GuardNews, now: Time) {
        let port = usize::from(news.port);
        if self.told.len() <= port {
            self.told.resize(port + 1, Time::ZERO);
        }
        let Some(told) = self.told.get_mut(port) else { return };
        if (*told == Time::ZERO || now.since(*told) >= NEWS_INTERVAL) && self.news.len() < NEWS {
            *told = now;
            self.news.push_back(news);
        }
    }
}

/// The frame that [`Gateway::inspect`] looks at.
#[derive(Clone, Copy)]
struct Seen<'a> {
    frame: &'a FrameBuf,
    /// From layer 3 on.
    packet: &'a [u8],
    head: &'a Head,
    port: u16,
    /// Whether the port's sources are judged.
    guarded: bool,
    now: Time,
}

/// Writes the answer to a frame that was [`Inspected::Asked`] or [`Inspected::Claimed`] over it. `false` where there is none to make.
#[must_use]
pub fn answer(frame: &mut FrameBuf, head: &Head, asked: &Asked) -> bool {
    match head.ethertype {
        EtherType::ARP => arp::answer(frame, head, asked),
        EtherType::IPV6 => nd::answer(frame, head, asked),
        _ => false,
    }
}

impl Gateway {
    /// Judges a frame from the port `port`, that of a container, which the switch admitted.
    #[inline]
    pub fn inspect(&mut self, frame: &FrameBuf, head: &Head, port: u16, now: Time) -> Inspected {
        let packet = frame.bytes().get(usize::from(head.l3)..).unwrap_or_default();
        let station = self.stations.station(port);
        let guarded = station.is_some_and(|station| station.guard != AddressGuard::Off);
        match head.ethertype {
            EtherType::IPV4 => {
                let Some((src, number)) = source_v4(packet) else { return Inspected::Pass };
                let is_own = !guarded || station.is_some_and(|station| station.v4 == Some(src));
                if is_own && number != UDP && number != IGMP {
                    return Inspected::Pass;
                }
                self.inspect_v4(&Seen { frame, packet, head, port, guarded, now }, src, is_own, number)
            }
            EtherType::IPV6 => {
                let Some((src, next)) = source_v6(packet) else { return Inspected::Pass };
                let is_own = !guarded || station.is_some_and(|station| station.v6 == Some(src));
                if is_own && next == TCP {
                    return Inspected::Pass;
                }
                self.inspect_v6(&Seen { frame, packet, head, port, guarded, now }, src, is_own)
            }
            EtherType::ARP => self.inspect_arp(&Seen { frame, packet, head, port, guarded, now }),
            tag if guarded && TAGS.contains(&tag) => inspect_tag(packet),
            _ => Inspected::Pass,
        }
    }

    fn inspect_v4(&mut self, seen: &Seen<'_>, src: Ipv4Addr, is_own: bool, number: u8) -> Inspected {
        let ports = (number == UDP).then(|| udp_v4(seen.packet)).flatten();
        if !is_own {
            // A host without an address asks for one, or listens to a group (RFC 4541 2.1.1 (1) d).
            let has_none = src.is_unspecified() && (ports == Some((DHCP_CLIENT, DHCP_SERVER)) || number == IGMP);
            if !has_none && let Some(reason) = self.refuses(seen, src.into()) {
                return Inspected::Drop(reason);
            }
        }
        if seen.guarded && ports.is_some_and(|(_, dst)| dst == DHCP_CLIENT) {
            return self.refuse(seen, DropReason::RogueDhcp, None, None);
        }
        let is_report = number == IGMP && seen.head.dst.is_group() && membership::is_report(seen.frame, seen.head);
        if is_report { Inspected::Report } else { Inspected::Pass }
    }

    fn inspect_v6(&mut self, seen: &Seen<'_>, src: Ipv6Addr, is_own: bool) -> Inspected {
        if !seen.guarded && !seen.head.dst.is_group() {
            return Inspected::Pass;
        }
        let upper = chain::upper(seen.packet);
        if !is_own {
            // Who has no address yet: duplicate address detection, router solicitation, reports of groups (RFC 4861, 3590).
            let may_have_none = matches!(upper, Upper::Icmp { kind: 131..=133 | 135 | 143, .. });
            if !(src.is_unspecified() && may_have_none)
                && let Some(reason) = self.refuses(seen, src.into())
            {
                return Inspected::Drop(reason);
            }
        }
        match upper {
            Upper::Hidden if seen.guarded => self.refuse(seen, DropReason::NdHidden, None, None),
            Upper::Udp { dst: DHCPV6_CLIENT } if seen.guarded => self.refuse(seen, DropReason::RogueDhcp, None, None),
            Upper::Icmp { kind: 134 | 137, .. } if seen.guarded => self.refuse(seen, DropReason::RogueRa, None, None),
            Upper::Icmp { kind: 133..=137, in_fragments: true, .. } if seen.guarded => {
                self.refuse(seen, DropReason::NdHidden, None, None)
            }
            Upper::Icmp { kind: 135, at, .. } => self.inspect_solicitation(seen, src, at),
            Upper::Icmp { kind: 136, at, .. } => self.inspect_advertisement(seen, at),
            Upper::Icmp { kind: 130..=132 | 143, .. }
                if seen.head.dst.is_group() && membership::is_report(seen.frame, seen.head) =>
            {
                Inspected::Report
            }
            Upper::Icmp { .. } | Upper::Udp { .. } | Upper::Hidden | Upper::Other => Inspected::Pass,
        }
    }

    /// Why a guarded port may not send from an address, if so. What is nobody's is its own from now on.
    fn refuses(&mut self, seen: &Seen<'_>, address: IpAddr) -> Option<DropReason> {
        let (mac, port, now) = (seen.head.src, seen.port, seen.now);
        let (is_inside, may_be) = match address {
            IpAddr::V4(v4) => (self.config().is_inside(v4), self.config().is_neighbour(v4)),
            IpAddr::V6(v6) => self.config().v6.map_or((v6.is_unicast_link_local(), true), |own| {
                use crate::flow::Address;
                let is_inside = v6.is_unicast_link_local() || own.address.has_prefix(v6, own.prefix);
                (is_inside, v6 != own.address && v6 != own.link_local)
            }),
        };
        let (reason, owner) = if !is_inside {
            (DropReason::SourceOutside, None)
        } else if !may_be {
            (DropReason::SourceTaken, self.is_own(address).then_some(0))
        } else {
            let claim = match address {
                IpAddr::V4(address) => self.stations.claim(port, mac, address, now),
                IpAddr::V6(address) => self.stations.claim(port, mac, address, now),
            };
            match claim {
                Claim::Own => return None,
                Claim::Taken(owner) => (DropReason::SourceTaken, Some(owner)),
                Claim::Full => (DropReason::SourceTaken, None),
            }
        };
        self.watch.tell(GuardNews { port, reason, address: Some(address), owner }, now);
        Some(reason)
    }

    /// Whether an address is the gateway's.
    fn is_own(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => address == self.config().address,
            IpAddr::V6(address) => self.config().v6.is_some_and(|v6| [v6.address, v6.link_local].contains(&address)),
        }
    }

    /// The same where the reason is another protocol's.
    #[cold]
    fn refuse(&mut self, seen: &Seen<'_>, reason: DropReason, address: Option<IpAddr>, owner: Option<u16>) -> Inspected {
        self.watch.tell(GuardNews { port: seen.port, reason, address, owner }, seen.now);
        Inspected::Drop(reason)
    }

    /// A guarded port says that an address is its own, in ARP or neighbour discovery.
    fn claims(&mut self, seen: &Seen<'_>, address: IpAddr, outside: DropReason) -> Option<DropReason> {
        let reason = self.refuses(seen, address)?;
        // News of it were told under the general name, at most once a second.
        let reason = if reason == DropReason::SourceTaken { DropReason::DuplicateClaim } else { outside };
        if let Some(last) = self.watch.news.back_mut().filter(|last| last.port == seen.port && last.address == Some(address)) {
            last.reason = reason;
        }
        Some(reason)
    }

    /// Where an address is that `seen` asks for, other than behind its own port.
    fn find(&self, seen: &Seen<'_>, address: IpAddr) -> Option<Asked> {
        if !self.watch.suppress {
            return None;
        }
        let (owner, mac) = if self.is_own(address) { (0, self.config().mac) } else { self.stations.find(address, seen.now)? };
        (owner != seen.port).then_some(Asked { owner, mac })
    }

    /// Somebody asks for an address as if to take it.
    fn probes(&mut self, seen: &Seen<'_>, address: IpAddr) -> Inspected {
        let owner = if self.is_own(address) { Some(0) } else { self.stations.holder(seen.port, address, seen.now) };
        let Some(owner) = owner else { return Inspected::Pass };
        let reason = DropReason::DuplicateClaim;
        self.watch.tell(GuardNews { port: seen.port, reason, address: Some(address), owner: Some(owner) }, seen.now);
        // Not known for sure, or not to be told: the owner defends it.
        self.find(seen, address).map_or(Inspected::Pass, Inspected::Claimed)
    }

    /// The oldest news that was not fetched.
    pub fn guard_news(&mut self) -> Option<GuardNews> {
        self.watch.news.pop_front()
    }

    /// Whether requests for known addresses are answered here, instead of flooded. So it is from the beginning.
    pub const fn set_suppress(&mut self, on: bool) {
        self.watch.suppress = on;
    }

    /// The same, to be asked.
    #[must_use]
    pub const fn suppresses(&self) -> bool {
        self.watch.suppress
    }
}

/// A priority tag makes Linux look within (net/core/dev.c: VLAN 0 that nobody has is taken off).
#[cold]
fn inspect_tag(packet: &[u8]) -> Inspected {
    match packet {
        [high, low, ..] if u16::from_be_bytes([*high, *low]) & 0x0fff == 0 => Inspected::Drop(DropReason::Vlan),
        _ => Inspected::Pass,
    }
}

/// Source and protocol; none of what no receiver takes for IPv4.
#[inline]
fn source_v4(packet: &[u8]) -> Option<(Ipv4Addr, u8)> {
    let header = packet.first_chunk::<20>()?;
    let &[_, _, _, _, _, _, _, _, _, number, _, _, a, b, c, d, ..] = header;
    Some((Ipv4Addr::new(a, b, c, d), number))
}

/// Source and next header.
#[inline]
fn source_v6(packet: &[u8]) -> Option<(Ipv6Addr, u8)> {
    let header = packet.first_chunk::<40>()?;
    let [_, _, _, _, _, _, next, _, rest @ ..] = header;
    Some((Ipv6Addr::from_octets(*rest.first_chunk()?), *next))
}

/// UDP's ports, in a first fragment or a whole packet.
fn udp_v4(packet: &[u8]) -> Option<(u16, u16)> {
    let &[first, _, _, _, _, _, flags, offset, ..] = packet else { return None };
    if u16::from_be_bytes([flags, offset]) & 0x1fff != 0 {
        return None;
    }
    let &[a, b, c, d] = packet.get(usize::from(first & 0xf) * 4..)?.first_chunk()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

#[cfg(test)]
mod tests;
