//! A DHCP client (RFC 2131) for the uplink's IPv4 address: smoltcp's, kept apart from what it must not see.
//!
//! Theory. smoltcp holds the state (discover, request, renew at T1, rebind at T2, give up at the end of the lease); around it is a wire of our
//! own, an inbox and an outbox. Three things are judged here, because smoltcp does not:
//! - what comes in (`Reply::read`): only an offer, ACK or NAK of this transaction, from one host, of an address that can be ours. A
//!   server that hides its address (IP source 0.0.0.0) would make smoltcp renew with 0.0.0.0, which it asserts never to do.
//! - how often we speak: a server that answers each request with a NAK, or with a lease of no seconds, would have it discover again at once,
//!   for ever. At most [`BURST`] messages at once and one in [`REFILL`] afterwards.
//! - who the server is on the link: a renewal is unicast, and we send it to the hardware address that the last ACK came from, be that the
//!   server's or its relay's. So nobody is asked by ARP; if another one answers for the server now, T2 comes and all are asked.
//!
//! Whoever uses it calls [`DhcpClient::poll`] at [`DhcpClient::deadline`], gives it what [`is_for_dhcp`] and empties [`DhcpClient::next_frame`] after
//! both. It allocates, a few times in a lease.
//!
//! Limits: [`QUEUE`] messages that wait, of which the latest are kept; [`DNS`] servers. A server that never answers is asked every ten seconds.
//!
//! What smoltcp does not say is in [`own`]: the question of a client that comes back with its address, and that an address is somebody else's.
//!
//! exception: RFC 2131 4.1 wants the time between discoveries doubled and at random; smoltcp's is fixed. An ACK without a subnet mask is ignored.
pub mod own;

use crate::flow::Address;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::net::Ipv4Addr;
use core::time::Duration;
use own::Reboot;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::dhcpv4::{Event, Socket};
use smoltcp::time::Instant;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    HardwareAddress, IpAddress, IpCidr, IpProtocol, Ipv4Packet, UdpPacket,
};
use vswitch_switch::head::ETHERNET_HEADER;
use vswitch_switch::{FrameBuf, Mac, Time, UnicastMac};

/// Messages that wait to be taken by [`DhcpClient::next_frame`].
pub const QUEUE: usize = 4;
/// DNS servers of a lease (RFC 2132 3.8), the first ones.
pub const DNS: usize = 3;
/// Messages that may be sent at once; an undisturbed lease takes two.
pub const BURST: u32 = 6;
/// For one more, afterwards.
pub const REFILL: Duration = Duration::from_secs(5);
/// Octets of layer 3 of the longest message, which the server is told (RFC 2132 9.10).
const MTU: usize = 1_500;
/// Turns of smoltcp for one event: a renewal needs one to ask for the server's hardware address, and another to send.
const TURNS: u32 = 4;
/// Seconds of a lease that does not say (as smoltcp has it).
const DEFAULT_LEASE: u32 = 120;
const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// RFC 2132 3.5.
const OPTION_ROUTER: u8 = 3;

/// What the server lets us have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    /// Our address.
    pub address: Ipv4Addr,
    /// Bits of its subnet's prefix, 1 to 32.
    pub prefix: u8,
    /// The default router: the first one, where there are several.
    pub gateway: Option<Ipv4Addr>,
    /// DNS servers, in the server's order.
    pub dns: [Option<Ipv4Addr>; DNS],
    /// For how long, when it was given; `u32::MAX` is for ever (RFC 2131 3.3).
    pub seconds: u32,
}

/// What [`DhcpClient::event`] tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DhcpEvent {
    /// There is a lease, or it says something else than before. A renewal that changes nothing is no event.
    Leased(Lease),
    /// There is none any more: it ended, or the server took it back (NAK).
    Lost,
}

/// Whether a frame of the link is one for [`DhcpClient::receive`]: IPv4, whole, UDP from a server's port to a client's.
#[must_use]
pub fn is_for_dhcp(frame: &[u8]) -> bool {
    payload(frame).is_some()
}

/// The server's IP address, and its message.
fn payload(frame: &[u8]) -> Option<(Ipv4Addr, &[u8])> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    if frame.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let ip = Ipv4Packet::new_checked(frame.payload()).ok()?;
    if ip.version() != 4 || ip.next_header() != IpProtocol::Udp || ip.more_frags() || ip.frag_offset() != 0 {
        return None;
    }
    let source = ip.src_addr();
    let udp = UdpPacket::new_checked(ip.payload()).ok()?;
    ((udp.src_port(), udp.dst_port()) == (SERVER_PORT, CLIENT_PORT)).then(|| (source, udp.payload()))
}

/// A server's message to us that smoltcp may see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Reply {
    is_ack: bool,
    is_offer: bool,
    /// RFC 2132 9.7.
    server: Option<Ipv4Addr>,
    seconds: u32,
    router: Option<Ipv4Addr>,
}

impl Reply {
    /// See the module's theory. smoltcp verifies the checksums.
    fn read(frame: &[u8], mac: UnicastMac, xid: u32) -> Option<Self> {
        let (source, message) = payload(frame)?;
        // RFC 1122 3.2.1.3: the source of a datagram is one host.
        if source.is_unspecified() || source.is_loopback() || source.is_broadcast() || source.is_multicast() {
            return None;
        }
        let packet = DhcpPacket::new_checked(message).ok()?;
        let repr = DhcpRepr::parse(&packet).ok()?;
        if repr.transaction_id != xid || repr.client_hardware_address != EthernetAddress(mac.mac().0) {
            return None;
        }
        let is_ack = repr.message_type == DhcpMessageType::Ack;
        let gives = is_ack || repr.message_type == DhcpMessageType::Offer;
        // An address that is routed, in a subnet that is not all there is.
        let is_good = repr.your_ip.is_routable() && repr.subnet_mask.is_none_or(|mask| !mask.is_unspecified());
        if !(repr.message_type == DhcpMessageType::Nak || gives && is_good) {
            return None;
        }
        // RFC 2132 3.5: a list, in order of preference. smoltcp takes a list of one only.
        let routers = packet.options().find(|option| option.kind == OPTION_ROUTER);
        let router = routers.and_then(|option| Ipv4Addr::read(option.data)).filter(|router| router.is_routable());
        let is_offer = repr.message_type == DhcpMessageType::Offer;
        Some(Self {
            is_ack,
            is_offer,
            server: repr.server_identifier,
            seconds: repr.lease_duration.unwrap_or(DEFAULT_LEASE),
            router,
        })
    }
}

/// The wire between smoltcp and us.
#[derive(Debug, Default)]
struct Wire {
    inbox: Option<Vec<u8>>,
    outbox: VecDeque<Vec<u8>>,
    /// Whose hardware address smoltcp asks for.
    asked: Option<Ipv4Addr>,
    /// The transaction of the latest message.
    xid: Option<u32>,
    /// Messages that may be sent now.
    credit: u32,
    refilled: Time,
}

impl Wire {
    fn refill(&mut self, now: Time) {
        let earned = now.since(self.refilled).as_secs() / REFILL.as_secs();
        if earned > 0 {
            self.credit = BURST.min(self.credit.saturating_add(u32::try_from(earned).unwrap_or(BURST)));
            self.refilled = now;
        }
    }

    /// What smoltcp sends: a request of ARP, which is answered here, or a message.
    fn take(&mut self, octets: Vec<u8>) {
        let Ok(frame) = EthernetFrame::new_checked(&octets[..]) else { return };
        if frame.ethertype() == EthernetProtocol::Arp {
            let request = ArpPacket::new_checked(frame.payload()).and_then(|packet| ArpRepr::parse(&packet));
            if let Ok(ArpRepr::EthernetIpv4 { operation: ArpOperation::Request, target_protocol_addr, .. }) = request {
                self.asked = Some(target_protocol_addr);
            }
            return;
        }
        // A BOOTP header has the transaction after four octets (RFC 2131 2); our IP header has no options.
        let Some(xid) = octets.get(ETHERNET_HEADER + 20 + 8 + 4..).and_then(<[u8]>::first_chunk) else { return };
        self.xid = Some(u32::from_be_bytes(*xid));
        self.say(octets);
    }

    /// Lets a message wait to be sent.
    fn say(&mut self, octets: Vec<u8>) {
        self.credit = self.credit.saturating_sub(1);
        if self.outbox.len() >= QUEUE {
            self.outbox.pop_front();
        }
        self.outbox.push_back(octets);
    }
}

struct Rx(Vec<u8>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Tx<'a>(&'a mut Wire);

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut octets = vec![0; len];
        let result = f(&mut octets);
        self.0.take(octets);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        let octets = self.inbox.take()?;
        Some((Rx(octets), Tx(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        (self.credit > 0).then_some(Tx(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = ETHERNET_HEADER + MTU;
        capabilities
    }
}

/// See the module's theory.
pub struct DhcpClient {
    mac: UnicastMac,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    wire: Wire,
    lease: Option<Lease>,
    /// Where the last ACK came from.
    server: Option<UnicastMac>,
    /// As it names itself there.
    server_id: Option<Ipv4Addr>,
    event: Option<DhcpEvent>,
    reboot: Option<Reboot>,
    /// Nothing is asked for until then.
    pause: Option<Time>,
    /// Leases that were declined.
    declined: u32,
}

impl fmt::Debug for DhcpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DhcpClient").field("mac", &self.mac).field("lease", &self.lease).finish_non_exhaustive()
    }
}

fn instant(now: Time) -> Instant {
    Instant::from_micros(i64::try_from(now.nanos() / 1_000).unwrap_or(i64::MAX))
}

impl DhcpClient {
    /// A client without a lease, for the station `mac`. `seed` is 64 bits that nobody outside knows
    /// and that are used for nothing else: transactions are numbered from it, and whoever sees a few can work it out.
    #[must_use]
    pub fn new(mac: UnicastMac, seed: u64) -> Self {
        let mut wire = Wire { credit: BURST, ..Wire::default() };
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac.mac().0)));
        config.random_seed = seed;
        let interface = Interface::new(config, &mut wire, Instant::from_micros(0));
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(Socket::new());
        Self {
            mac,
            interface,
            sockets,
            handle,
            wire,
            lease: None,
            server: None,
            server_id: None,
            event: None,
            reboot: None,
            pause: None,
            declined: 0,
        }
    }

    /// The lease that we have.
    #[must_use]
    pub const fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// Takes a frame of the link, its checksums final ([`vswitch_switch::Csum::Complete`]). What is no answer to us is ignored.
    pub fn receive(&mut self, frame: &[u8], now: Time) {
        let Some(xid) = self.wire.xid else { return };
        let Some(reply) = Reply::read(frame, self.mac, xid) else { return };
        let source = frame.get(6..).and_then(<[u8]>::first_chunk).and_then(|octets| UnicastMac::new(Mac(*octets)));
        let Some(source) = source else { return };
        if self.is_paused(now) {
            return;
        }
        if reply.is_ack {
            (self.server, self.server_id) = (Some(source), reply.server);
        }
        // Either way it is known what becomes of the lease.
        if !reply.is_offer {
            self.reboot = None;
        }
        self.wire.inbox = Some(frame.to_vec());
        self.run(now, Some(reply));
    }

    /// Does what is due.
    pub fn poll(&mut self, now: Time) {
        if !self.is_paused(now) {
            self.run(now, None);
            self.reboot(now);
        }
    }

    fn run(&mut self, now: Time, reply: Option<Reply>) {
        self.wire.refill(now);
        for _ in 0..TURNS {
            self.interface.poll(instant(now), &mut self.wire, &mut self.sockets);
            self.settle(reply);
            match self.wire.asked.take().and_then(|address| self.answer(address)) {
                Some(answer) => self.wire.inbox = Some(answer),
                None => return,
            }
        }
    }

    /// Takes over what smoltcp has come to.
    fn settle(&mut self, reply: Option<Reply>) {
        let lease = match self.sockets.get_mut::<Socket<'_>>(self.handle).poll() {
            None => return,
            Some(Event::Deconfigured) => None,
            Some(Event::Configured(config)) => {
                let mut dns = [None; DNS];
                for (place, server) in dns.iter_mut().zip(&config.dns_servers) {
                    *place = Some(*server);
                }
                Some(Lease {
                    address: config.address.address(),
                    prefix: config.address.prefix_len(),
                    gateway: reply.and_then(|reply| reply.router),
                    dns,
                    seconds: reply.map_or(DEFAULT_LEASE, |reply| reply.seconds),
                })
            }
        };
        if lease.is_some() || self.lease.is_some() {
            self.event = Some(lease.map_or(DhcpEvent::Lost, DhcpEvent::Leased));
        }
        self.lease = lease;
        self.interface.update_ip_addrs(|addresses| {
            addresses.clear();
            if let Some(lease) = lease {
                // With everybody on the link: see `answer`.
                let _ = addresses.push(IpCidr::new(IpAddress::Ipv4(lease.address), 0));
            }
        });
    }

    /// Tells smoltcp that the server is where its ACK came from.
    fn answer(&self, address: Ipv4Addr) -> Option<Vec<u8>> {
        let (server, lease) = (self.server?, self.lease?);
        let (server, own) = (EthernetAddress(server.mac().0), EthernetAddress(self.mac.mac().0));
        let reply = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: server,
            source_protocol_addr: address,
            target_hardware_addr: own,
            target_protocol_addr: lease.address,
        };
        let mut octets = vec![0; ETHERNET_HEADER + reply.buffer_len()];
        let mut frame = EthernetFrame::new_unchecked(&mut octets[..]);
        frame.set_src_addr(server);
        frame.set_dst_addr(own);
        frame.set_ethertype(EthernetProtocol::Arp);
        reply.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
        Some(octets)
    }

    /// Puts the next message into `out`; `false` when there is none.
    #[must_use]
    pub fn next_frame(&mut self, out: &mut FrameBuf) -> bool {
        self.wire.outbox.pop_front().is_some_and(|octets| out.fill(&octets))
    }

    /// What has come of the lease since the last call; the latest only.
    pub const fn event(&mut self) -> Option<DhcpEvent> {
        self.event.take()
    }

    /// When [`DhcpClient::poll`] has something to do. `now` decides nothing but what "at once" is.
    #[must_use]
    pub fn deadline(&mut self, now: Time) -> Option<Time> {
        if self.is_paused(now) {
            return self.pause;
        }
        let due = self.interface.poll_at(instant(now), &self.sockets)?;
        let due = Time::from_nanos(u64::try_from(due.total_micros()).unwrap_or(0).saturating_mul(1_000));
        let due = self.reboot_due().map_or(due, |reboot| reboot.min(due));
        // What has to be said but may not yet waits for the next credit.
        Some(if self.wire.credit == 0 { due.max(self.wire.refilled.after(REFILL)) } else { due })
    }
}

#[cfg(test)]
pub(crate) mod tests;
