//! Router advertisements (RFC 4861 6.2): what a container that configures itself needs, and what tells the others that a way is gone.
//!
//! Theory. The gateway is the one router of its link, so an advertisement is a picture of what it is at that moment: the prefix, of which
//! addresses are made (RFC 4862), the MTU, who answers names (RFC 8106), that there is more by DHCPv6, and for how long it is a *default*
//! router: for none where IPv6 leads nowhere, so that a host without IPv6 gives its containers no route that would make them wait.
//!
//! Unasked, it goes to all nodes: three times at first and after every change, then at random intervals ([`Advert`] has the timers). Asked, it
//! is written over the question at once, like every other answer of the gateway. Of RFC 4861 6.2.6 this takes:
//! - exception: no delay of up to 0.5 s before an answer. It is there so that many routers do not answer at once; here is one.
//! - the answer goes to the asker alone. One who has no address yet is answered as a group, all nodes, but in a frame to his hardware address
//!   (RFC 6085 2): nobody else is woken, and MIN_DELAY_BETWEEN_RAS, which spares those, needs to delay nobody.
//!
//! What a container asks more often than [`Limiter`] lets it is dropped and counted. Other routers' advertisements are not read: the switch's
//! ports are containers, and none of them is a router of this link.
use super::{Gateway, GatewayV6, Routed, Side, Verdict};
use crate::ndp::{self, ALL_NODES};
use crate::packet::address_frame;
use crate::ports::Random;
use crate::station::Stations;
use core::net::Ipv6Addr;
use core::time::Duration;
use smoltcp::time::Duration as Span;
use smoltcp::wire::{NdiscPrefixInfoFlags, NdiscPrefixInformation, NdiscRepr, NdiscRouterFlags};
use vswitch_switch::{DropReason, FrameBuf, FramePool, Time, UnicastMac};

/// Between two unasked ones at the most: MaxRtrAdvInterval, its default (RFC 4861 6.2.1).
pub const MAX_INTERVAL: Duration = Duration::from_secs(600);
/// And at the least: MinRtrAdvInterval, a third of it.
pub const MIN_INTERVAL: Duration = Duration::from_secs(200);
/// The first ones come no later than this after each other: MAX_INITIAL_RTR_ADVERT_INTERVAL.
pub const INITIAL_INTERVAL: Duration = Duration::from_secs(16);
/// How many that are: MAX_INITIAL_RTR_ADVERTISEMENTS.
pub const INITIAL: u8 = 3;
/// Between two to all nodes: MIN_DELAY_BETWEEN_RAS. It spares a link whose router changes its mind all the time.
pub const MIN_DELAY: Duration = Duration::from_secs(3);
/// Seconds for which we are a default router: AdvDefaultLifetime, three of [`MAX_INTERVAL`]; RDNSS and DNSSL as long (RFC 8106 5.1).
pub const LIFETIME: u32 = 1_800;
/// Seconds for which an address is preferred, and valid: of RFC 9096 3.3, for a prefix that may be another after a start.
pub const PREFERRED: u32 = 2_700;
/// See [`PREFERRED`].
pub const VALID: u32 = 5_400;
/// The domain of containers' names, as DNS writes it.
pub const DOMAIN: &[u8; 18] = b"\x07vswitch\x08internal\x00";
/// The smallest MTU of an IPv6 link (RFC 8200 5).
const MIN_MTU: u16 = 1_280;
/// The MTU while nobody is there.
const DEFAULT_MTU: u16 = 1_500;
const HOPS: u8 = 64;

/// When the next unasked one is due, and what it says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Advert {
    leads_out: bool,
    /// Whether names are answered, and whether they ever were: who was told so is told when they are no longer.
    names: bool,
    named: bool,
    /// Of the first ones, how many are to come.
    initial: u8,
    due: Time,
    /// When the last one to all nodes went.
    sent: Option<Time>,
    random: Random,
}

/// What one says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    mac: UnicastMac,
    v6: GatewayV6,
    /// Seconds for which the router is a default one.
    router: u32,
    /// Who answers names, and for how many seconds.
    names: Option<u32>,
    mtu: u16,
}

impl Advert {
    fn new((leads_out, names): (bool, bool), key: [u64; 2], now: Time) -> Self {
        Self { leads_out, names, named: names, initial: INITIAL, due: now, sent: None, random: Random::new(key) }
    }

    /// Another picture: to be told at once, as the first ones were (RFC 4861 6.2.4).
    fn change(&mut self, (leads_out, names): (bool, bool), now: Time) {
        if (self.leads_out, self.names) == (leads_out, names) {
            return;
        }
        (self.leads_out, self.names) = (leads_out, names);
        self.named |= names;
        self.initial = INITIAL;
        self.due = self.sent.map_or(now, |sent| sent.after(MIN_DELAY)).max(now);
    }

    /// One goes now: RFC 4861 6.2.4 has the next one at random between the two intervals, the first ones earlier.
    fn sent(&mut self, now: Time) {
        self.sent = Some(now);
        let spread = (MAX_INTERVAL - MIN_INTERVAL).as_millis() as u64;
        let wait = MIN_INTERVAL + Duration::from_millis(self.random.bits() % (spread + 1));
        self.initial = self.initial.saturating_sub(1);
        self.due = now.after(if self.initial > 0 { wait.min(INITIAL_INTERVAL) } else { wait });
    }
}

/// The options that smoltcp does not write: RDNSS and DNSSL (RFC 8106 5.1, 5.2), lengths in units of 8 octets.
fn names(address: Ipv6Addr, lifetime: u32) -> [u8; 56] {
    const RDNSS: [u8; 4] = [25, 3, 0, 0];
    const DNSSL: [u8; 4] = [31, 4, 0, 0];
    let lifetime = lifetime.to_be_bytes();
    let all = RDNSS.into_iter().chain(lifetime).chain(address.octets()).chain(DNSSL).chain(lifetime).chain(*DOMAIN);
    // Zeros behind the domain are padding (5.2).
    let mut octets = [0; 56];
    for (place, octet) in octets.iter_mut().zip(all) {
        *place = octet;
    }
    octets
}

impl Said {
    /// Writes it, to `dst`; the Ethernet addresses are left for the caller.
    fn write(&self, frame: &mut FrameBuf, dst: Ipv6Addr) -> bool {
        let prefix = NdiscPrefixInformation {
            prefix_len: self.v6.prefix,
            flags: NdiscPrefixInfoFlags::ON_LINK | NdiscPrefixInfoFlags::ADDRCONF,
            valid_lifetime: Span::from_secs(VALID.into()),
            preferred_lifetime: Span::from_secs(PREFERRED.into()),
            prefix: self.v6.network(),
        };
        let advert = NdiscRepr::RouterAdvert {
            hop_limit: HOPS,
            // Addresses are not by DHCPv6, other things are (RFC 4861 4.2).
            flags: NdiscRouterFlags::OTHER,
            router_lifetime: Span::from_secs(self.router.into()),
            reachable_time: Span::ZERO,
            retrans_time: Span::ZERO,
            lladdr: Some(ndp::raw(self.mac)),
            mtu: Some(self.mtu.into()),
            prefix_info: Some(prefix),
        };
        let names = self.names.map(|lifetime| names(self.v6.address, lifetime));
        // RFC 4861 6.1.2: from the link-local address, with which hosts know the router.
        ndp::write_with(frame, self.v6.link_local, dst, advert, names.as_ref().map_or(&[], |octets| octets.as_slice()))
    }
}

/// RFC 4861 4.6.4: one MTU for all of the link, the smallest of those that speak IPv6, for nobody here can tell a sender that one is less.
fn mtu(stations: &Stations) -> u16 {
    stations.iter().map(|(_, station)| station.mtu).filter(|mtu| *mtu >= MIN_MTU).min().unwrap_or(DEFAULT_MTU)
}

impl Gateway {
    /// Advertises the gateway as a router from now on, or says that something is different: whether IPv6 leads anywhere outside, or another
    /// uplink.
    pub fn advertise(&mut self, leads_out: bool, now: Time) {
        // Another sequence than that of ports.
        let key = [self.key[0].rotate_left(32), self.key[1]];
        let picture = (leads_out, self.serves_names());
        if self.config.v6.is_some() {
            self.advert.get_or_insert_with(|| Advert::new(picture, key, now)).change(picture, now);
        }
    }

    /// Whether it is advertised as a default router; `None` where it is not at all.
    #[must_use]
    pub fn advertises(&self) -> Option<bool> {
        self.advert.map(|advert| advert.leads_out)
    }

    /// Ends it: who configured himself is told that there is no router and nobody for names any more (RFC 4861 6.2.5). The frame for all nodes;
    /// exception: without MIN_DELAY_BETWEEN_RAS, for nobody is there later.
    #[must_use]
    pub fn cease(&mut self, pool: &mut FramePool) -> Option<Routed> {
        let advert = self.advert.take()?;
        self.stations.iter().next()?;
        let said = Said { router: 0, names: advert.named.then_some(0), ..self.said()? };
        self.to_all(pool, &said)
    }

    /// Whether names are answered at the gateway's addresses.
    pub(super) const fn serves_names(&self) -> bool {
        self.exchange.is_some() || self.uplink.is_some()
    }

    fn said(&self) -> Option<Said> {
        let leads_out = self.advert.is_some_and(|advert| advert.leads_out);
        let named = self.advert.is_some_and(|advert| advert.named);
        Some(Said {
            mac: self.config.mac,
            v6: self.config.v6?,
            router: if leads_out { LIFETIME } else { 0 },
            names: if self.serves_names() { Some(LIFETIME) } else { named.then_some(0) },
            mtu: mtu(&self.stations),
        })
    }

    fn to_all(&self, pool: &mut FramePool, said: &Said) -> Option<Routed> {
        let mut frame = pool.take()?;
        if !said.write(&mut frame, ALL_NODES) {
            pool.put(frame);
            return None;
        }
        address_frame(&mut frame, ndp::group_mac(ALL_NODES), self.config.mac);
        Some(Routed::Generated(Side::Inside, frame))
    }

    /// The next unasked one, where it is due.
    pub(super) fn poll_advert(&mut self, pool: &mut FramePool, now: Time) -> Option<Routed> {
        if self.advert?.due > now {
            return None;
        }
        // To nobody it is not sent; who comes asks.
        let is_alone = self.stations.iter().next().is_none();
        let routed = if is_alone { None } else { Some(self.to_all(pool, &self.said()?)?) };
        if let Some(advert) = &mut self.advert {
            advert.sent(now);
        }
        routed
    }

    /// When that is.
    pub(super) fn advert_deadline(&self) -> Option<Time> {
        self.advert.map(|advert| advert.due)
    }

    /// Answers a solicitation from `src` (RFC 4861 6.2.6), over it.
    pub(super) fn solicited(&mut self, frame: &mut FrameBuf, src: Ipv6Addr, ingress: u16, now: Time) -> Verdict {
        let Some(said) = self.said().filter(|_| self.advert.is_some()) else { return Verdict::Drop(DropReason::GatewayUnserved) };
        if !self.may_ask(ingress, now) {
            return Verdict::Drop(DropReason::ServiceLimit);
        }
        let dst = if src.is_unspecified() { ALL_NODES } else { src };
        if said.write(frame, dst) { Verdict::Reply } else { Verdict::MALFORMED }
    }
}

#[cfg(test)]
mod tests;
