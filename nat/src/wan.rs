//! Our end of the uplink's link: addresses that are ours there, and the way to the next hop.
//!
//! Theory. On the uplink we are a host like any other: we answer who asks for our addresses (ARP, neighbour discovery), ask for our next
//! hop, and remember who it is ([`neighbor`]). [`Wan::receive`] takes every frame of the link and leaves over the IP packets that were
//! sent to our MAC; [`Wan::resolve`] addresses a frame to its next hop, or keeps it until that has answered. Requests, and frames
//! that waited, come out of [`Wan::poll`].
//!
//! Nobody can fill the cache: it learns only about hops that we asked for (RFC 826's merge flag, RFC 4861 7.2.5). Somebody else's claim on an
//! address of ours is counted ([`Wan::conflicts`]) and defended by our answers (RFC 5227 2.4 (c)).
//!
//! Whether the default routers answer is told ([`reach`]), and before an address is used that was lent to us, whether it is free ([`probe`]).
//!
//! exception: RFC 4861 6.3.4. Router advertisements are heard only where no IPv6 gateway was given, and only for a default router: addresses are
//! set by hand.
pub mod dhcp;
mod ndp;
pub mod neighbor;
pub mod probe;
pub mod reach;

use crate::flow::Address;
use crate::packet::address_frame;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
pub use neighbor::Resolved;
use neighbor::{Asked, Neighbors, Said};
use probe::{Probe, Probed};
use reach::{RouterNews, Routers};
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress};
use vswitch_switch::head::ETHERNET_HEADER;
use vswitch_switch::{DropReason, EtherType, FrameBuf, FrameMeta, FramePool, Head, Mac, Time, UnicastMac};

/// Octets of an ARP packet for IPv4 over Ethernet.
const ARP_LEN: usize = 28;
/// RFC 5227 2.3: announcements of an address.
const ANNOUNCE_NUM: u8 = 2;
/// RFC 5227 2.3: between two of them.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);

/// Who we are on the uplink.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WanConfig {
    /// Our hardware address there.
    pub mac: UnicastMac,
    /// The link's MTU, octets of layer 3.
    pub mtu: u16,
    /// Our IPv4 addresses, with the bits of their prefixes.
    pub v4: Vec<(Ipv4Addr, u8)>,
    /// Our IPv6 addresses, likewise.
    pub v6: Vec<(Ipv6Addr, u8)>,
    /// The default router for IPv4.
    pub gateway_v4: Option<Ipv4Addr>,
    /// The default router for IPv6; none: whoever advertises itself.
    pub gateway_v6: Option<Ipv6Addr>,
}

/// What is left of a frame from the uplink.
#[derive(Debug)]
pub enum Received {
    /// An IP packet to us.
    Ip(FrameBuf),
    /// The buffer holds an answer.
    Reply(FrameBuf),
    /// Not for us, or noted.
    Consumed(FrameBuf),
    /// Malformed.
    Drop(FrameBuf, DropReason),
}

/// What comes out of [`Wan::poll`].
#[derive(Debug)]
pub enum WanOutput {
    /// To the uplink.
    Send {
        /// Complete.
        frame: FrameBuf,
        /// Whether it is ours; else it is one that waited.
        generated: bool,
    },
    /// It waited for a next hop that does not answer.
    Failed(FrameBuf),
}

/// A family on the link.
pub trait Linked: Address {
    /// The addresses that are ours.
    fn addresses(config: &WanConfig) -> &[(Self, u8)];
    /// The default router.
    fn gateway(wan: &Wan) -> Option<Self>;
}

impl Linked for Ipv4Addr {
    fn addresses(config: &WanConfig) -> &[(Self, u8)] {
        &config.v4
    }

    fn gateway(wan: &Wan) -> Option<Self> {
        wan.config.gateway_v4
    }
}

impl Linked for Ipv6Addr {
    fn addresses(config: &WanConfig) -> &[(Self, u8)] {
        &config.v6
    }

    fn gateway(wan: &Wan) -> Option<Self> {
        wan.config.gateway_v6.or(wan.router.map(|router| router.address))
    }
}

/// A default router that advertised itself.
#[derive(Clone, Copy, Debug)]
struct Router {
    address: Ipv6Addr,
    until: Time,
}

/// Announcements to be made of an address.
#[derive(Clone, Copy, Debug)]
struct Announcing {
    address: IpAddr,
    left: u8,
    due: Time,
}

/// See the module's theory.
#[derive(Debug)]
pub struct Wan {
    config: WanConfig,
    /// What neighbour discovery speaks from (RFC 4291 2.5.6).
    link_local: Ipv6Addr,
    neighbors: Neighbors,
    router: Option<Router>,
    routers: Routers,
    probe: Option<Probe>,
    announcing: Vec<Announcing>,
    conflicts: u64,
}

impl Wan {
    /// Our end of a link; its addresses are announced.
    #[must_use]
    pub fn new(config: WanConfig, seed: u64) -> Self {
        let link_local = ndp::link_local(config.mac);
        let mut wan = Self {
            config,
            link_local,
            neighbors: Neighbors::new(seed),
            router: None,
            routers: Routers::default(),
            probe: None,
            announcing: Vec::new(),
            conflicts: 0,
        };
        wan.announce(|_| true, Time::ZERO);
        wan
    }

    /// Who we are.
    #[must_use]
    pub const fn config(&self) -> &WanConfig {
        &self.config
    }

    /// Makes us another. New addresses are announced.
    pub fn set_config(&mut self, config: WanConfig, now: Time) {
        let before = core::mem::replace(&mut self.config, config);
        if before.mac != self.config.mac {
            self.link_local = ndp::link_local(self.config.mac);
        }
        let had: Vec<IpAddr> = addresses(&before).collect();
        let moved = before.mac != self.config.mac;
        if moved || (before.gateway_v4, before.gateway_v6) != (self.config.gateway_v4, self.config.gateway_v6) {
            self.routers.renew(now);
        }
        self.announce(|address| moved || !had.contains(&address), now);
    }

    /// Forgets who is on the link: it may be another one. Whoever is asked for just now is asked on.
    pub fn forget_link(&mut self, now: Time) {
        self.router = None;
        self.routers.renew(now);
        self.neighbors.forget_known();
    }

    /// Announces all addresses again: the link may be another one, or its switches have forgotten where we are.
    pub fn announce_all(&mut self, now: Time) {
        self.announcing.clear();
        self.announce(|_| true, now);
        self.routers.renew(now);
    }

    fn announce(&mut self, is_new: impl Fn(IpAddr) -> bool, now: Time) {
        let fresh: Vec<IpAddr> = addresses(&self.config).filter(|address| is_new(*address)).collect();
        let stays = |address| !fresh.contains(&address) && addresses(&self.config).any(|other| other == address);
        self.announcing.retain(|announcing| stays(announcing.address));
        self.announcing.extend(fresh.into_iter().map(|address| Announcing { address, left: ANNOUNCE_NUM, due: now }));
    }

    /// Times that somebody else claimed an address of ours.
    #[must_use]
    pub const fn conflicts(&self) -> u64 {
        self.conflicts
    }

    /// Goes on counting from what another process has counted.
    pub const fn set_conflicts(&mut self, conflicts: u64) {
        self.conflicts = conflicts;
    }

    /// Begins to find out whether an address is free on the link; of one at a time.
    pub const fn probe(&mut self, address: Ipv4Addr, now: Time) {
        self.probe = Some(Probe::new(address, now));
    }

    /// Ends that, known or not.
    pub const fn end_probe(&mut self) {
        self.probe = None;
    }

    /// What came of it, once.
    pub fn probed(&mut self) -> Option<Probed> {
        let probed = self.probe?.result();
        self.probe.take_if(|_| probed.is_some()).and(probed)
    }

    /// What became of the default routers since the last call.
    pub const fn router_news(&mut self) -> Option<RouterNews> {
        self.routers.news()
    }

    /// The default routers, IPv4 and IPv6.
    fn gateways(&self) -> [Option<IpAddr>; 2] {
        [Ipv4Addr::gateway(self).map(IpAddr::V4), Ipv6Addr::gateway(self).map(IpAddr::V6)]
    }

    /// Somebody said who he is.
    fn learn(&mut self, address: IpAddr, mac: UnicastMac, said: Said, now: Time) {
        self.neighbors.learn(address, mac, said, now);
        if said == Said::Answer && self.gateways().contains(&Some(address)) {
            self.routers.answered(address);
        }
    }

    /// The neighbours known: address, hardware address, state and age.
    pub fn neighbors(&self, now: Time, each: impl FnMut(IpAddr, Option<UnicastMac>, &'static str, Duration)) {
        self.neighbors.list(now, each);
    }

    /// The next hop to a destination: itself on our link, else the default router. `None`: there is no way.
    #[inline]
    #[must_use]
    pub fn next_hop<A: Linked>(&self, dst: A) -> Option<A> {
        let addresses = A::addresses(&self.config);
        if addresses.is_empty() {
            return None;
        }
        let is_on_link = addresses.iter().any(|(address, prefix)| address.has_prefix(dst, *prefix));
        if is_on_link { Some(dst) } else { A::gateway(self) }
    }

    /// Addresses a frame to its next hop; one that is not known is asked for, and the frame waits.
    #[inline]
    #[must_use]
    pub fn resolve<A: Linked>(&mut self, hop: A, frame: FrameBuf, now: Time) -> Resolved {
        // Whoever scans the link must not keep all others from the world.
        let is_gateway = A::gateway(self) == Some(hop);
        self.neighbors.resolve(hop.into(), is_gateway, frame, self.config.mac, now)
    }

    /// Takes a frame of the link; `head` was parsed from it.
    #[must_use]
    pub fn receive(&mut self, mut frame: FrameBuf, head: &Head, now: Time) -> Received {
        let is_ours = head.dst == self.config.mac.mac();
        if !is_ours && !head.dst.is_group() {
            return Received::Consumed(frame);
        }
        match head.ethertype {
            EtherType::ARP => self.receive_arp(frame, now),
            EtherType::IPV4 => Received::Ip(frame),
            EtherType::IPV6 if ndp::is_nd(&frame) => match ndp::receive(self, &mut frame, now) {
                Ok(Some(to)) => {
                    frame.meta = FrameMeta::default();
                    address_frame(&mut frame, to, self.config.mac);
                    Received::Reply(frame)
                }
                Ok(None) => Received::Consumed(frame),
                Err(reason) => Received::Drop(frame, reason),
            },
            EtherType::IPV6 => Received::Ip(frame),
            _ => Received::Consumed(frame),
        }
    }

    fn receive_arp(&mut self, mut frame: FrameBuf, now: Time) -> Received {
        let octets = frame.bytes_mut().get_mut(ETHERNET_HEADER..).and_then(<[u8]>::first_chunk_mut::<ARP_LEN>);
        let packet =
            octets.as_ref().and_then(|octets| ArpPacket::new_checked(&octets[..]).and_then(|packet| ArpRepr::parse(&packet)).ok());
        let Some(ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr: asker,
            target_protocol_addr: wanted,
            ..
        }) = packet
        else {
            return Received::Drop(frame, DropReason::GatewayMalformed);
        };
        let Some(mac) = UnicastMac::new(Mac(source_hardware_addr.0)) else {
            return Received::Drop(frame, DropReason::GatewayMalformed);
        };
        if mac == self.config.mac {
            // Our own, come back.
            return Received::Consumed(frame);
        }
        let is_ours = |address: Ipv4Addr| self.config.v4.iter().any(|(own, _)| *own == address);
        self.conflicts += u64::from(is_ours(asker));
        if let Some(probe) = &mut self.probe {
            probe.hear(asker, wanted);
        }
        let answers = is_ours(wanted) && operation == ArpOperation::Request;
        // RFC 826: merged where it is known already; who asks us is about to talk to us, but that alone makes no entry.
        let said = if operation == ArpOperation::Reply && is_ours(wanted) { Said::Answer } else { Said::Unasked };
        self.learn(asker.into(), mac, said, now);
        if !answers {
            return Received::Consumed(frame);
        }
        let own = EthernetAddress(self.config.mac.mac().0);
        let reply = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: own,
            source_protocol_addr: wanted,
            target_hardware_addr: source_hardware_addr,
            target_protocol_addr: asker,
        };
        if let Some(octets) = frame.bytes_mut().get_mut(ETHERNET_HEADER..).and_then(<[u8]>::first_chunk_mut::<ARP_LEN>) {
            reply.emit(&mut ArpPacket::new_unchecked(&mut octets[..]));
        }
        frame.meta = FrameMeta::default();
        address_frame(&mut frame, mac.mac(), self.config.mac);
        Received::Reply(frame)
    }

    /// What is to be sent now: frames whose next hop has answered, requests, announcements. `None` when there is nothing.
    #[must_use]
    pub fn poll(&mut self, pool: &mut FramePool, now: Time) -> Option<WanOutput> {
        // RFC 4861 6.3.5.
        self.router = self.router.filter(|router| router.until > now);
        if let Some(frame) = self.neighbors.release(self.config.mac) {
            return Some(WanOutput::Send { frame, generated: false });
        }
        while let Some(router) = self.routers.next(self.gateways(), now) {
            self.neighbors.ask(router, now);
        }
        let (gateways, routers) = (self.gateways(), &mut self.routers);
        let mut in_vain = |address| {
            if gateways.contains(&Some(address)) {
                routers.in_vain(address, now);
            }
        };
        if let Some(frame) = self.neighbors.failed(now, &mut in_vain) {
            return Some(WanOutput::Failed(frame));
        }
        if pool.available() == 0 {
            return None;
        }
        if let Some(asked) = self.neighbors.next_request(now) {
            return self.write(pool, |wan, frame| wan.write_request(frame, &asked));
        }
        if let Some(address) = self.probe.as_mut().and_then(|probe| probe.next(now)) {
            return self.write(pool, |wan, frame| wan.write_arp(frame, Ipv4Addr::UNSPECIFIED, address, None));
        }
        let announcing = self.announcing.iter_mut().find(|announcing| announcing.due <= now)?;
        announcing.left = announcing.left.saturating_sub(1);
        announcing.due = now.after(ANNOUNCE_INTERVAL);
        let address = announcing.address;
        self.announcing.retain(|announcing| announcing.left > 0);
        self.write(pool, |wan, frame| match address {
            IpAddr::V4(address) => wan.write_arp(frame, address, address, None),
            IpAddr::V6(address) => ndp::write_announcement(wan, frame, address),
        })
    }

    fn write(&self, pool: &mut FramePool, write: impl FnOnce(&Self, &mut FrameBuf) -> bool) -> Option<WanOutput> {
        let mut frame = pool.take()?;
        if write(self, &mut frame) {
            return Some(WanOutput::Send { frame, generated: true });
        }
        pool.put(frame);
        None
    }

    fn write_request(&self, frame: &mut FrameBuf, asked: &Asked) -> bool {
        match asked.address {
            IpAddr::V4(address) => {
                // From the address of the link that it is on; a gateway beyond our prefixes is asked from the first.
                let on_link = self.config.v4.iter().find(|(own, prefix)| own.has_prefix(address, *prefix));
                let Some((source, _)) = on_link.or(self.config.v4.first()) else { return false };
                self.write_arp(frame, *source, address, asked.mac)
            }
            IpAddr::V6(address) => ndp::write_solicitation(self, frame, address, asked.mac),
        }
    }

    /// A request from `source` for `wanted`, to everybody or to the one who had it last; both alike, an announcement, and from nobody, a
    /// probe (RFC 5227 1.1).
    fn write_arp(&self, frame: &mut FrameBuf, source: Ipv4Addr, wanted: Ipv4Addr, to: Option<UnicastMac>) -> bool {
        let mut octets = [0; ETHERNET_HEADER + ARP_LEN];
        let own = self.config.mac.mac();
        let request = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: EthernetAddress(own.0),
            source_protocol_addr: source,
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: wanted,
        };
        if let Some(place) = octets.get_mut(ETHERNET_HEADER..) {
            request.emit(&mut ArpPacket::new_unchecked(place));
        }
        let filled = frame.fill(&octets);
        address_frame(frame, to.map_or(Mac::BROADCAST, UnicastMac::mac), self.config.mac);
        write_type(frame, EtherType::ARP);
        filled
    }

    /// Frames that wait for a next hop.
    #[must_use]
    pub fn held(&self) -> usize {
        self.neighbors.held()
    }

    /// Gives up one of them.
    pub fn abandon(&mut self) -> Option<FrameBuf> {
        self.neighbors.abandon()
    }

    /// When [`Wan::poll`] has something, at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let announcing = self.announcing.iter().map(|announcing| announcing.due).min();
        let router = self.router.map(|router| router.until);
        let probe = self.probe.as_ref().map(Probe::deadline);
        announcing.into_iter().chain(router).chain(probe).chain(self.routers.deadline()).chain(self.neighbors.deadline()).min()
    }
}

fn addresses(config: &WanConfig) -> impl Iterator<Item = IpAddr> {
    let v4 = config.v4.iter().map(|(address, _)| IpAddr::V4(*address));
    v4.chain(config.v6.iter().map(|(address, _)| IpAddr::V6(*address)))
}

fn write_type(frame: &mut FrameBuf, ethertype: EtherType) {
    if let Some(place) = frame.bytes_mut().get_mut(12..14) {
        place.copy_from_slice(&ethertype.0.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
