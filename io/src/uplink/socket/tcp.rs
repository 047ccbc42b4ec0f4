//! TCP flows' sockets.
mod pump;
mod send;

use super::*;
use socket2::Socket;
use std::io::IoSlice;
use std::net::{Shutdown, SocketAddr};
use vswitch_nat::flow::Address;
use vswitch_nat::icmp_error::IcmpError;
use vswitch_nat::packet::{Packet, Transport, tcp as flags};
use vswitch_nat::slirp::exchange::{Exchange, TcpFate};
use vswitch_nat::slirp::flows::Flow;
use vswitch_nat::slirp::tcp::{Emit, Expired, State};
use vswitch_nat::slirp::wire::{Link, longest, tcp_headers, write_tcp};
use vswitch_switch::DropReason;
use vswitch_switch::head::ETHERNET_HEADER;

/// With more hops left than traceroute tries (30 by default), a SYN has the host's: to set them and put them back is four system calls.
const FEW_HOPS: u8 = 32;

/// A flow's socket.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) socket: Socket,
    /// Whether the kernel keeps the peek offset.
    peeks: bool,
    /// See the theory; what was sent of it is before `sent`.
    pub(super) spill: Vec<u8>,
    pub(super) sent: usize,
    /// Exchanges whose octets were left in the socket, and whether those before were taken out in part.
    left: u8,
    in_part: bool,
    /// What the container may send ahead while nothing is spilled.
    room: u32,
    /// Octets that the container has and that are still in the socket.
    unconsumed: u32,
    readable: bool,
    closed: bool,
    /// There is an error behind what can be read.
    failed: bool,
    /// It is in the list of those that are ready, of those that are lazy, of those in which something was left.
    is_listed: bool,
    is_lazy: bool,
    is_left: bool,
    /// shutdown() once the spill is through.
    pub(super) finish: bool,
    /// Until it is connected its segments go as far as the container's only.
    pub(super) few_hops: bool,
}

impl Stream {
    pub(super) const fn new(socket: Socket, peeks: bool) -> Self {
        Self {
            socket,
            peeks,
            spill: Vec::new(),
            sent: 0,
            left: 0,
            in_part: false,
            room: SPILL,
            unconsumed: 0,
            readable: false,
            closed: false,
            failed: false,
            is_listed: false,
            is_lazy: false,
            is_left: false,
            finish: false,
            few_hops: false,
        }
    }

    /// Whether what the container has may stay in the socket for now. Little of a socket of which nothing else is there: what stays of a
    /// buffer of the kernel's holds all of it, and so could fill the socket until [`LEFT_FOR`] is over.
    fn may_leave(&mut self, flying: u32) -> bool {
        if flying > 0 {
            return self.unconsumed < LAZY;
        }
        self.left += 1;
        !self.in_part && self.left < LEFT_TIMES && self.unconsumed < LEFT
    }

    /// Takes out of the socket what the container has, while `flying` octets more are on the way to it.
    pub(super) fn take_out(&mut self, flying: u32) {
        self.consume();
        self.in_part = flying > 0 || self.readable;
    }

    /// Takes out of the socket what the container has.
    pub(super) fn consume(&mut self) {
        if self.unconsumed > 0
            && let Ok(octets) = socket::discard(&self.socket, self.unconsumed as usize)
        {
            self.unconsumed = self.unconsumed.saturating_sub(u32::try_from(octets).unwrap_or(u32::MAX));
            self.left = 0;
        }
    }

    fn spilled(&self) -> usize {
        self.spill.len() - self.sent
    }
}

/// What a failed connect() means to the container: `None` for nothing, for it waits as long itself.
enum Failure {
    Reset,
    Told(IcmpError),
    Silent,
}

fn failure(error: &io::Error, is_v6: bool) -> Failure {
    match error.raw_os_error() {
        // A host whose IPv6 is turned off has no address to connect from.
        Some(libc::EADDRNOTAVAIL) if is_v6 => Failure::Told(IcmpError::NoRoute),
        Some(libc::ECONNREFUSED | libc::ECONNRESET | libc::ECONNABORTED) => Failure::Reset,
        Some(libc::ENETUNREACH | libc::EAFNOSUPPORT) => Failure::Told(IcmpError::NoRoute),
        Some(libc::EHOSTUNREACH | libc::EHOSTDOWN | libc::ENETDOWN) => Failure::Told(IcmpError::Unreachable),
        Some(libc::ETIMEDOUT) => Failure::Silent,
        // The host's firewall, and whatever it has no more of.
        _ => Failure::Told(IcmpError::Prohibited),
    }
}

/// The part of a packet that a flow is about.
fn facts<A: Address>(p: &Packet<A>) -> Option<(vswitch_nat::packet::Segment, usize, usize)> {
    let Transport::Tcp(segment) = p.transport() else { return None };
    Some((segment, p.l4() + p.payload().len() - segment.len as usize, p.len()))
}

impl Sockets {
    pub(super) fn take_tcp(&mut self, gateway: &mut Gateway, packet: SocketPacket, pool: &mut FramePool, now: Time) -> Routed {
        let SocketPacket { packet: p, ingress, mac } = &packet;
        let Some((exchange, stations, config)) = gateway.exchange_mut() else {
            return Routed::Drop(packet.packet.into_frame(), DropReason::GatewayUnserved);
        };
        let fate = match p {
            AnyPacket::V4(p) => exchange.tcp(stations, config, p, (*ingress, *mac), now),
            AnyPacket::V6(p) => exchange.tcp(stations, config, p, (*ingress, *mac), now),
        };
        let given_way = exchange.datagrams.take_given_way();
        self.close_mappings(given_way);
        match fate {
            TcpFate::Flow(slot) => self.segment(gateway, slot, packet, pool, now),
            TcpFate::Connect(slot, to) => self.connect(gateway, slot, to, packet, now),
            TcpFate::Reset(reason) => gateway.reset_packet(packet, reason),
            TcpFate::Refuse(error, reason) => gateway.refuse_packet(packet, (error, reason), now),
            TcpFate::Drop(reason) => Routed::Drop(packet.packet.into_frame(), reason),
        }
    }

    fn connect(&mut self, gateway: &mut Gateway, slot: u32, to: SocketAddr, packet: SocketPacket, now: Time) -> Routed {
        // The way to it is the container's to measure; the way to what stands behind the gateway's address is not.
        let is_there = gateway.exchange().and_then(|exchange| exchange.flows.get(slot)).is_some_and(|flow| flow.remote == to);
        let hops = match &packet.packet {
            AnyPacket::V4(p) => p.hops(),
            AnyPacket::V6(p) => p.hops(),
        };
        let hops = Some(hops.saturating_sub(1).max(1)).filter(|hops| is_there && *hops <= FEW_HOPS);
        let opened = socket::connect_stream(to, hops)
            .and_then(|(socket, peeks)| self.enter(slot, Stream { few_hops: hops.is_some(), ..Stream::new(socket, peeks) }));
        let Err(error) = opened else { return Routed::Consumed(packet.packet.into_frame()) };
        if let Some((exchange, stations, _)) = gateway.exchange_mut() {
            exchange.close(stations, slot);
        }
        match failure(&error, matches!(packet.packet, AnyPacket::V6(_))) {
            Failure::Reset => gateway.reset_packet(packet, DropReason::SocketRefused),
            Failure::Told(told) => gateway.refuse_packet(packet, (told, DropReason::SocketRefused), now),
            Failure::Silent => Routed::Drop(packet.packet.into_frame(), DropReason::SocketRefused),
        }
    }

    pub(super) fn enter(&mut self, slot: u32, stream: Stream) -> io::Result<()> {
        self.wait_for(&stream.socket, Token(TCP_TOKENS + slot as usize), Interest::READABLE | Interest::WRITABLE)?;
        let index = slot as usize;
        if self.tcp.len() <= index {
            self.tcp.resize_with(index + 1, || None);
        }
        if let Some(place) = self.tcp.get_mut(index) {
            *place = Some(stream);
        }
        Ok(())
    }

    /// The socket of a connection that a published port has accepted.
    pub(super) fn enter_accepted(&mut self, slot: u32, accepted: Socket) -> io::Result<()> {
        let peeks = socket::prepare_stream(&accepted)?;
        self.enter(slot, Stream::new(accepted, peeks))
    }

    fn stream(&mut self, slot: u32) -> Option<&mut Stream> {
        self.tcp.get_mut(slot as usize)?.as_mut()
    }

    /// A segment of a flow's.
    fn segment(&mut self, gateway: &mut Gateway, slot: u32, packet: SocketPacket, pool: &mut FramePool, now: Time) -> Routed {
        let facts = match &packet.packet {
            AnyPacket::V4(p) => facts(p),
            AnyPacket::V6(p) => facts(p),
        };
        let frame = packet.packet.into_frame();
        if self.held.len() >= HELD {
            self.flush(gateway, pool, now);
        }
        let full = self.spilled >= SPILL_ALL;
        let Some((exchange, ..)) = gateway.exchange_mut() else { return Routed::Consumed(frame) };
        let (Some((segment, payload, octets)), Some(flow)) = (facts, exchange.flows.get_mut(slot)) else {
            return Routed::Consumed(frame);
        };
        let Some(stream) = self.tcp.get_mut(slot as usize).and_then(Option::as_mut) else { return Routed::Consumed(frame) };
        flow.count_out(octets);
        flow.tcp.limit(if full { 0 } else { u32::MAX });
        let taken = flow.tcp.segment(&segment, now);
        stream.unconsumed = stream.unconsumed.saturating_add(taken.consume);
        stream.finish |= taken.finish;
        if taken.consume > 0 && !std::mem::replace(&mut stream.is_lazy, true) {
            self.lazy.push(slot);
        }
        if stream.readable && !stream.is_listed && flow.tcp.may_send() > 0 {
            stream.is_listed = true;
            self.ready.push_back(slot);
        }
        let is_over = flow.tcp.state() == State::Over;
        exchange.flows.touched(slot);
        if taken.reset {
            self.abort(gateway, slot);
            return Routed::Consumed(frame);
        }
        if taken.len > 0 {
            let (start, len) = (payload + taken.skip as usize, taken.len as usize);
            self.held.push(Held { slot, frame, start, len });
            return Routed::Held;
        }
        // Where that was all, closing the socket says it too.
        if taken.finish && !is_over {
            self.end_of_container(slot);
        }
        exchange_due(gateway, slot);
        Routed::Consumed(frame)
    }

    pub(super) fn stream_event(&mut self, gateway: &mut Gateway, slot: u32, event: Event, now: Time) {
        let Some(state) = gateway.exchange().and_then(|exchange| exchange.flows.get(slot)).map(|flow| flow.tcp.state()) else {
            return;
        };
        if state == State::Connecting {
            return self.connection_event(gateway, slot, event, now);
        }
        let Some(stream) = self.stream(slot) else { return };
        stream.readable |= event.readable || event.closed;
        stream.closed |= event.closed;
        stream.failed |= event.failed;
        if stream.readable && !std::mem::replace(&mut stream.is_listed, true) {
            self.ready.push_back(slot);
        }
        if event.writable {
            self.drain_spill(gateway, slot);
        }
    }

    fn connection_event(&mut self, gateway: &mut Gateway, slot: u32, event: Event, now: Time) {
        if !event.writable && !event.closed {
            return;
        }
        let Some(stream) = self.stream(slot) else { return };
        let error = if event.failed { stream.socket.take_error() } else { Ok(None) };
        match error {
            Ok(None) => {
                // What cannot be put back is as it was for its way so far.
                if std::mem::take(&mut stream.few_hops)
                    && let Some(flow) = gateway.exchange().and_then(|exchange| exchange.flows.get(slot))
                {
                    let _ = socket::is_connected(&stream.socket, flow.dialed.is_ipv6());
                }
                stream.readable = event.readable || event.closed;
                stream.closed = event.closed;
                if stream.readable && !std::mem::replace(&mut stream.is_listed, true) {
                    self.ready.push_back(slot);
                }
                if let Some((exchange, ..)) = gateway.exchange_mut()
                    && let Some(flow) = exchange.flows.get_mut(slot)
                {
                    flow.tcp.connected(now);
                    exchange.flows.touched(slot);
                    exchange.flows.is_due(slot);
                }
            }
            Ok(Some(error)) | Err(error) => self.not_connected(gateway, slot, &error),
        }
    }

    fn not_connected(&mut self, gateway: &mut Gateway, slot: u32, error: &io::Error) {
        let said = self.said_of(slot);
        let Some((exchange, stations, config)) = gateway.exchange_mut() else { return };
        if let Some((error, offender)) = said {
            let source = offender.map(|offender| Exchange::seen_as(config, SocketAddr::new(offender, 0)).ip());
            if let Some(flow) = exchange.close(stations, slot) {
                self.told.push_back((Box::new(flow), error, source));
            }
            return self.forget(slot);
        }
        match failure(error, false) {
            Failure::Reset => {
                if let Some(flow) = exchange.flows.get_mut(slot) {
                    flow.tcp.reset();
                }
                exchange.flows.is_due(slot);
            }
            Failure::Told(told) => {
                if let Some(flow) = exchange.close(stations, slot) {
                    self.told.push_back((Box::new(flow), told, None));
                }
            }
            Failure::Silent => drop(exchange.close(stations, slot)),
        }
        self.forget(slot);
    }

    /// What the network said of a connection that could not be, and who did.
    fn said_of(&mut self, slot: u32) -> Option<(IcmpError, Option<IpAddr>)> {
        let mut control = std::mem::take(&mut self.control);
        let said = self.stream(slot).and_then(|stream| socket::receive_error(&stream.socket, &mut [], &mut control).ok());
        self.control = control;
        let said = said?;
        let (kind, code) = said.icmp?;
        Some((IcmpError::Told { kind, code, value: 0 }, said.offender))
    }

    /// The host's connection is broken: the container is told.
    fn broken(&mut self, gateway: &mut Gateway, slot: u32) {
        if let Some((exchange, ..)) = gateway.exchange_mut()
            && let Some(flow) = exchange.flows.get_mut(slot)
        {
            flow.tcp.reset();
            exchange.flows.is_due(slot);
        }
        self.forget(slot);
    }

    /// Closes a flow's socket with a RST, and forgets the flow.
    pub(super) fn abort(&mut self, gateway: &mut Gateway, slot: u32) {
        if let Some(stream) = self.stream(slot) {
            let _ = stream.socket.set_linger(Some(Duration::ZERO));
        }
        self.close(gateway, slot);
    }

    fn close(&mut self, gateway: &mut Gateway, slot: u32) {
        self.forget(slot);
        if let Some((exchange, stations, _)) = gateway.exchange_mut() {
            exchange.close(stations, slot);
        }
    }

    /// Closes a flow's socket.
    fn forget(&mut self, slot: u32) {
        if let Some(stream) = self.tcp.get_mut(slot as usize).and_then(Option::take) {
            self.spilled -= stream.spilled();
        }
    }

    /// Ends the flows of stations that went, or are others now.
    pub fn sweep(&mut self, gateway: &mut Gateway) {
        let Some(exchange) = gateway.exchange() else { return };
        let stale = |flow: &Flow| !gateway.stations.is_current(flow.owner);
        let gone: Vec<u32> = exchange.flows.iter().filter(|(_, flow)| stale(flow)).map(|(slot, _)| slot).collect();
        for slot in gone {
            self.abort(gateway, slot);
        }
        if let Some((exchange, stations, _)) = gateway.exchange_mut() {
            let closed = exchange.datagrams.end(stations, |stations, session| !stations.is_current(session.owner));
            self.close_mappings(closed);
        }
    }
}

fn exchange_due(gateway: &mut Gateway, slot: u32) {
    if let Some((exchange, ..)) = gateway.exchange_mut() {
        exchange.flows.is_due(slot);
    }
}
