//! UDP and echo: a socket a mapping.
use super::*;
use socket2::Socket;
use std::net::{IpAddr, SocketAddr};
use vswitch_nat::flow::Address;
use vswitch_nat::packet::{Packet, Transport};
use vswitch_nat::slirp::datagrams::{DatagramSession, Ends, Kind, Via};
use vswitch_nat::slirp::exchange::{DatagramFate, Exchange};
use vswitch_nat::slirp::wire::{ICMP_HEADER, Ip, Link, UDP_HEADER, ip_headers, udp_headers, write_icmp, write_udp};
use vswitch_switch::head::ETHERNET_HEADER;
use vswitch_switch::{Csum, DropReason};

/// Octets of a datagram that are quoted in an error (RFC 1812 4.3.2.3: as much as makes 576).
const QUOTED: usize = 512;
/// The longest payload.
pub(super) const LONGEST: usize = 65_507;
/// Errors taken from a socket in one turn.
const ERRORS: usize = 8;

/// A mapping's socket, or a published port's.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: Socket,
    is_v6: bool,
    kind: Kind,
    /// What was set last, of IPv4 and of IPv6: a socket of both has two.
    hops: [u8; 2],
    dont_fragment: Option<bool>,
    readable: bool,
    /// Something was said of what was sent.
    told: bool,
    is_listed: bool,
}

impl Datagrams {
    pub(super) const fn new(socket: Socket, is_v6: bool, kind: Kind) -> Self {
        Self { socket, is_v6, kind, hops: [0; 2], dont_fragment: None, readable: false, told: false, is_listed: false }
    }

    /// The socket, and whether it is of IPv6.
    pub(super) const fn socket_of(&self) -> (&Socket, bool) {
        (&self.socket, self.is_v6)
    }

    pub(super) const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Makes the socket send as the packet would have gone.
    pub(super) fn follow(&mut self, facts: &Facts) {
        let [v4, v6] = &mut self.hops;
        let hops = if facts.is_v6 { v6 } else { v4 };
        if *hops != facts.hops && socket::set_hops(&self.socket, facts.is_v6, facts.hops).is_ok() {
            *hops = facts.hops;
        }
        if !facts.is_v6
            && self.dont_fragment != Some(facts.dont_fragment)
            && socket::set_dont_fragment(&self.socket, facts.dont_fragment).is_ok()
        {
            self.dont_fragment = Some(facts.dont_fragment);
        }
    }
}

/// What of a packet its socket has to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// Where the payload lies in the frame; of an echo, the message.
    pub(super) start: usize,
    pub(super) end: usize,
    segment: Option<u16>,
    is_v6: bool,
    pub(super) hops: u8,
    pub(super) dont_fragment: bool,
}

fn facts_of(packet: &SocketPacket) -> Facts {
    match &packet.packet {
        AnyPacket::V4(p) => facts(p),
        AnyPacket::V6(p) => facts(p),
    }
}

fn facts<A: Address>(p: &Packet<A>) -> Facts {
    let header = if p.transport() == Transport::Udp { UDP_HEADER } else { 0 };
    Facts {
        start: p.l4() + header,
        end: p.l4() + p.payload().len(),
        segment: p.frame().meta.gso.map(|gso| gso.size.get()),
        is_v6: A::IS_V6,
        hops: p.hops().saturating_sub(1).max(1),
        dont_fragment: !A::IS_V6 && !p.may_fragment(),
    }
}

/// Which table a socket is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Mapping(u32),
    Published(u32),
}

impl Sockets {
    pub(super) fn datagrams(&mut self, place: Place) -> Option<&mut Datagrams> {
        match place {
            Place::Mapping(slot) => self.udp.get_mut(slot as usize)?.as_mut(),
            Place::Published(slot) => self.listeners.datagrams(slot),
        }
    }

    /// Of one container's datagrams none overtakes another.
    fn send_or_hold(
        &mut self,
        gateway: &mut Gateway,
        (slot, to): (u32, SocketAddr),
        packet: SocketPacket,
        pool: &mut FramePool,
        now: Time,
    ) -> Routed {
        let facts = facts_of(&packet);
        if facts.segment.is_none() && self.waiting.len() < HELD {
            return self.hold_datagram(slot, to, packet, facts);
        }
        self.flush_datagrams(gateway, pool, now);
        self.send_datagram(gateway, Place::Mapping(slot), to, None, packet, now)
    }

    pub(super) fn take_datagram(&mut self, gateway: &mut Gateway, packet: SocketPacket, pool: &mut FramePool, now: Time) -> Routed {
        let SocketPacket { packet: p, ingress, mac } = &packet;
        let (is_v6, is_udp) = match p {
            AnyPacket::V4(p) => (false, p.transport() == Transport::Udp),
            AnyPacket::V6(p) => (true, p.transport() == Transport::Udp),
        };
        let Some((exchange, stations, config)) = gateway.exchange_mut() else {
            return Routed::Drop(packet.packet.into_frame(), DropReason::GatewayUnserved);
        };
        let fate = match p {
            AnyPacket::V4(p) => exchange.datagram(stations, config, p, (*ingress, *mac), now),
            AnyPacket::V6(p) => exchange.datagram(stations, config, p, (*ingress, *mac), now),
        };
        // The slot of one may be that of the new one.
        let given_way = exchange.datagrams.take_given_way();
        self.close_mappings(given_way);
        match fate {
            DatagramFate::Send(Via::Mapping(slot), to) if is_udp => self.send_or_hold(gateway, (slot, to), packet, pool, now),
            DatagramFate::Send(Via::Mapping(slot), to) => self.send_datagram(gateway, Place::Mapping(slot), to, None, packet, now),
            DatagramFate::Send(Via::Published(slot, from), to) => {
                self.send_datagram(gateway, Place::Published(slot), to, from, packet, now)
            }
            DatagramFate::Open(slot, to) => match self.open_mapping(slot, is_v6, is_udp) {
                Ok(()) => self.send_datagram(gateway, Place::Mapping(slot), to, None, packet, now),
                Err(error) => {
                    if let Some((exchange, stations, _)) = gateway.exchange_mut() {
                        exchange.datagrams.close(stations, slot);
                    }
                    self.ping_forbidden |= !is_udp && error.raw_os_error() == Some(libc::EACCES);
                    let is_unknown = error.raw_os_error() == Some(libc::EAFNOSUPPORT);
                    let told = if is_unknown { IcmpError::NoRoute } else { IcmpError::Prohibited };
                    gateway.refuse_packet(packet, (told, DropReason::SocketRefused), now)
                }
            },
            DatagramFate::Refuse(error, reason) => gateway.refuse_packet(packet, (error, reason), now),
        }
    }

    fn open_mapping(&mut self, slot: u32, is_v6: bool, is_udp: bool) -> io::Result<()> {
        let (opened, kind) = if is_udp { (socket::open_udp(is_v6)?, Kind::Udp) } else { (socket::open_echo(is_v6)?, Kind::Echo) };
        self.enter_mapping(slot, Datagrams::new(opened, is_v6, kind))
    }

    pub(super) fn enter_mapping(&mut self, slot: u32, datagrams: Datagrams) -> io::Result<()> {
        // Errors are always told. What a socket has sent is not to be.
        self.wait_for(&datagrams.socket, Token(UDP_TOKENS + slot as usize), Interest::READABLE)?;
        let index = slot as usize;
        if self.udp.len() <= index {
            self.udp.resize_with(index + 1, || None);
        }
        if let Some(place) = self.udp.get_mut(index) {
            *place = Some(datagrams);
        }
        Ok(())
    }

    pub(super) fn send_datagram(
        &mut self,
        gateway: &mut Gateway,
        place: Place,
        to: SocketAddr,
        from: Option<IpAddr>,
        packet: SocketPacket,
        now: Time,
    ) -> Routed {
        let facts = facts_of(&packet);
        let Some(datagrams) = self.datagrams(place) else {
            return Routed::Drop(packet.packet.into_frame(), DropReason::SocketRefused);
        };
        datagrams.follow(&facts);
        let frame = match &packet.packet {
            AnyPacket::V4(p) => p.frame(),
            AnyPacket::V6(p) => p.frame(),
        };
        let payload = frame.bytes().get(facts.start..facts.end).unwrap_or_default();
        let mut sent = socket::send_datagram((&datagrams.socket, datagrams.is_v6), to, payload, facts.segment, from);
        if let Err(error) = &sent {
            // What is pending on a socket is told by its next call, whatever that is about: once is enough.
            let is_pending =
                matches!(error.raw_os_error(), Some(libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EPROTO));
            if facts.segment.is_some() && matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EMSGSIZE | libc::EIO)) {
                sent = each((&datagrams.socket, datagrams.is_v6), to, payload, facts.segment, from);
            } else if is_pending {
                sent = socket::send_datagram((&datagrams.socket, datagrams.is_v6), to, payload, facts.segment, from);
            }
        }
        let Err(error) = sent else { return Routed::Consumed(packet.packet.into_frame()) };
        let refused = DropReason::SocketRefused;
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS) => Routed::Drop(packet.packet.into_frame(), DropReason::EgressFull),
            // EADDRNOTAVAIL: of a host whose IPv6 is turned off.
            Some(libc::ENETUNREACH | libc::EADDRNOTAVAIL) => gateway.refuse_packet(packet, (IcmpError::NoRoute, refused), now),
            Some(libc::EHOSTUNREACH | libc::EHOSTDOWN | libc::ENETDOWN) => {
                gateway.refuse_packet(packet, (IcmpError::Unreachable, refused), now)
            }
            Some(libc::EMSGSIZE) => {
                // How long it may be, the queue of errors knows.
                let mtu = self.local_mtu(place).unwrap_or(if facts.dont_fragment { 576 } else { 1_280 });
                gateway.refuse_packet(packet, (IcmpError::TooBig { mtu }, DropReason::TooBig), now)
            }
            _ => gateway.refuse_packet(packet, (IcmpError::Prohibited, refused), now),
        }
    }

    fn local_mtu(&mut self, place: Place) -> Option<u16> {
        let mut control = std::mem::take(&mut self.control);
        let mut found = None;
        for _ in 0..ERRORS {
            let Some(datagrams) = self.datagrams(place) else { break };
            let Ok(said) = socket::receive_error(&datagrams.socket, &mut [], &mut control) else { break };
            if said.errno == libc::EMSGSIZE {
                found = u16::try_from(said.info).ok();
            }
        }
        self.control = control;
        found
    }

    /// Something happened to a socket.
    pub(super) fn datagram_event(&mut self, place: Place, event: Event) {
        let Some(datagrams) = self.datagrams(place) else { return };
        datagrams.readable |= event.readable;
        datagrams.told |= event.closed;
        if (datagrams.readable || datagrams.told) && !std::mem::replace(&mut datagrams.is_listed, true) {
            self.datagrams_ready.push_back(place);
        }
    }

    /// The next datagram for a container.
    pub(super) fn poll_datagrams(&mut self, gateway: &mut Gateway, pool: &mut FramePool, now: Time) -> Option<FrameBuf> {
        while let Some(&place) = self.datagrams_ready.front() {
            let mut frame = pool.take()?;
            let Some(datagrams) = self.datagrams(place) else {
                pool.put(frame);
                self.datagrams_ready.pop_front();
                continue;
            };
            let (is_told, is_readable) = (datagrams.told, datagrams.readable);
            if !is_told && !is_readable {
                datagrams.is_listed = false;
                pool.put(frame);
                self.datagrams_ready.pop_front();
                continue;
            }
            let written =
                if is_told { self.error(gateway, place, &mut frame, now) } else { self.arrival(gateway, place, &mut frame, now) };
            let finished = match written {
                Some(Told::Frame(port)) => self.fitter.fit(gateway, port, frame, pool),
                Some(Told::Error(ingress, error, source)) => gateway.complain(frame, ingress, error, source, now),
                None => Err(frame),
            };
            match finished {
                Ok(frame) => {
                    self.datagrams_ready.rotate_left(1);
                    return Some(frame);
                }
                Err(frame) => pool.put(frame),
            }
        }
        None
    }

    /// A datagram from a socket, written as a frame; `None` when there was none, or it is refused.
    fn arrival(&mut self, gateway: &mut Gateway, place: Place, frame: &mut FrameBuf, now: Time) -> Option<Told> {
        let mut control = std::mem::take(&mut self.control);
        let received = self.datagrams(place).and_then(|datagrams| {
            let headers = if datagrams.kind == Kind::Udp { udp_headers(datagrams.is_v6) } else { ip_headers(datagrams.is_v6) };
            if !frame.begin(headers + LONGEST) {
                return None;
            }
            let into = frame.bytes_mut().get_mut(headers..)?;
            match socket::receive_datagram(&datagrams.socket, into, &mut control) {
                Ok(received) => {
                    if datagrams.is_v6 && received.from.is_ipv4() {
                        // Of a socket of both families: a smaller header goes before it.
                        frame.bytes_mut().copy_within(headers..headers + received.len, udp_headers(false));
                    }
                    Some((received, datagrams.kind))
                }
                Err(error) => {
                    // What is pending is told once; then the queue of errors has it.
                    datagrams.told |= error.kind() != io::ErrorKind::WouldBlock;
                    datagrams.readable = error.kind() != io::ErrorKind::WouldBlock;
                    None
                }
            }
        });
        self.control = control;
        let (received, kind) = received?;
        let (ends, session) = match place {
            Place::Mapping(slot) => {
                let (exchange, _, config) = gateway.exchange_mut()?;
                exchange.arrived(config, slot, received.from, received.len, now)?
            }
            Place::Published(slot) => self.arrived_published(gateway, slot, &received, now)?,
        };
        let ip = self.fitter.cuttable();
        let written = match kind {
            Kind::Udp => {
                let segment = received.segment.and_then(std::num::NonZeroU16::new);
                write_udp(frame, session.link, (ends.remote, ends.inside), received.len, segment, ip)
            }
            Kind::Echo => write_reply(frame, &ends, &session, received.len, ip),
        };
        written.then_some(Told::Frame(session.owner.port))
    }

    /// What was said of a datagram that was sent: it is written anew into the frame, with what its sender is to be told.
    fn error(&mut self, gateway: &mut Gateway, place: Place, frame: &mut FrameBuf, _now: Time) -> Option<Told> {
        let mut control = std::mem::take(&mut self.control);
        let said = self.datagrams(place).and_then(|datagrams| {
            let headers = if datagrams.kind == Kind::Udp { udp_headers(datagrams.is_v6) } else { ip_headers(datagrams.is_v6) };
            if !frame.begin(headers + QUOTED) {
                return None;
            }
            let into = frame.bytes_mut().get_mut(headers..)?;
            match socket::receive_error(&datagrams.socket, into, &mut control) {
                Ok(said) => {
                    if datagrams.is_v6 && said.to.is_ipv4() {
                        frame.bytes_mut().copy_within(headers..headers + said.len, udp_headers(false));
                    }
                    Some((said, datagrams.kind))
                }
                Err(_) => {
                    datagrams.told = false;
                    None
                }
            }
        });
        self.control = control;
        let (said, kind) = said?;
        let (exchange, _, config) = gateway.exchange_mut()?;
        let ends = match place {
            Place::Mapping(slot) => exchange.ends_with(config, slot, said.to)?,
            Place::Published(slot) => exchange.client(slot, said.to)?,
        };
        let Ends { inside, remote, .. } = ends;
        let session = *exchange.datagrams.session_mut(&ends)?;
        let is_v6 = inside.is_ipv6();
        let error = match said.icmp {
            Some((kind, code)) => IcmpError::Told { kind, code, value: said.mtu(is_v6) },
            None => return None,
        };
        let link = Link { dst: session.link.src, src: session.link.dst };
        let written = match kind {
            Kind::Udp => write_udp(frame, link, (inside, remote), said.len, None, Ip::WHOLE),
            Kind::Echo => {
                put_id(frame, is_v6, inside.port());
                write_icmp(frame, link, (inside.ip(), remote.ip()), said.len.max(ICMP_HEADER), Ip::WHOLE)
            }
        };
        // Of this host itself containers know the gateway only.
        let source = said.offender.map(|offender| Exchange::seen_as(config, SocketAddr::new(offender, 0)).ip());
        written.then_some(Told::Error(session.owner.port, error, source))
    }

    /// Closes the sockets of mappings that are gone.
    pub(super) fn close_mappings(&mut self, slots: Vec<u32>) {
        self.give_up_waiting(&slots);
        for slot in slots {
            if let Some(place) = self.udp.get_mut(slot as usize) {
                *place = None;
            }
        }
    }

    /// Ends what is idle for too long.
    pub fn tick(&mut self, gateway: &mut Gateway, now: Time, budget: u32) {
        let Some((exchange, stations, _)) = gateway.exchange_mut() else { return };
        let closed = exchange.datagrams.expire(stations, now, budget);
        self.close_mappings(closed);
    }

    /// Whether an echo socket was refused by net.ipv4.ping_group_range; says it once.
    pub fn take_ping_forbidden(&mut self) -> bool {
        self.ping_forbidden && !std::mem::replace(&mut self.ping_told, true)
    }
}

impl socket::SendError {
    fn mtu(&self, is_v6: bool) -> u16 {
        let tells = if is_v6 { self.icmp == Some((2, 0)) } else { self.icmp == Some((3, 4)) };
        if tells { u16::try_from(self.info).unwrap_or(u16::MAX) } else { 0 }
    }
}

/// What the frame holds.
enum Told {
    /// What goes to the container behind that port.
    Frame(u16),
    /// What a container sent, and what its port is to be told about it, by whom.
    Error(u16, IcmpError, Option<IpAddr>),
}

/// Datagram by datagram, where the way takes no batch.
fn each(socket: (&Socket, bool), to: SocketAddr, payload: &[u8], segment: Option<u16>, from: Option<IpAddr>) -> io::Result<()> {
    let size = usize::from(segment.unwrap_or(u16::MAX)).max(1);
    payload.chunks(size).try_for_each(|datagram| socket::send_datagram(socket, to, datagram, None, from))
}

/// Gives an echo message the container's identifier.
fn put_id(frame: &mut FrameBuf, is_v6: bool, id: u16) {
    if let Some(place) = frame.bytes_mut().get_mut(ip_headers(is_v6) + 4..).and_then(<[u8]>::first_chunk_mut) {
        *place = id.to_be_bytes();
    }
}

fn write_reply(frame: &mut FrameBuf, ends: &Ends, session: &DatagramSession, len: usize, ip: Ip) -> bool {
    put_id(frame, ends.inside.is_ipv6(), ends.inside.port());
    debug_assert!(matches!(frame.meta.csum, Csum::Complete) && frame.len() >= ETHERNET_HEADER);
    len >= ICMP_HEADER && write_icmp(frame, session.link, (ends.remote.ip(), ends.inside.ip()), len, ip)
}
