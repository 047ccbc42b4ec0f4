//! The host's resolvers: a connected socket a query, so that nobody else can answer (RFC 5452 9), and the next resolver for a connection.
use super::*;
use socket2::Socket;
use vswitch_nat::flow::Address;
use vswitch_nat::packet::Packet;
use vswitch_nat::slirp::dns::{Answered, Asked, Client};
use vswitch_nat::slirp::wire::{Ip, UDP_HEADER, udp_headers, write_udp};
use vswitch_switch::DropReason;

/// Answers that are looked at in one turn: most are to no query of ours then.
const ANSWERS_PER_TURN: usize = 64;

/// The sockets of queries.
#[derive(Debug, Default)]
pub(super) struct Asking {
    sockets: Vec<Option<Socket>>,
    /// Slots whose socket may have something.
    ready: VecDeque<u32>,
}

impl Asking {
    pub(super) fn has_work(&self) -> bool {
        !self.ready.is_empty()
    }

    fn close(&mut self, slot: u32) {
        if let Some(place) = self.sockets.get_mut(slot as usize) {
            *place = None;
        }
    }

    pub(super) fn close_all(&mut self, slots: Vec<u32>) {
        for slot in slots {
            self.close(slot);
        }
    }
}

/// What a socket had.
enum Came {
    Octets(usize),
    Nothing,
    /// The resolver refuses, or cannot be reached.
    Failed,
}

/// Where the payload is, and the size of each datagram of several.
fn payload<A: Address>(p: &Packet<A>) -> (&[u8], usize) {
    let octets = p.frame().bytes().get(p.l4() + UDP_HEADER..p.l4() + p.payload().len()).unwrap_or_default();
    (octets, p.frame().meta.gso.map_or(octets.len(), |gso| usize::from(gso.size.get())))
}

impl Sockets {
    /// A packet with a query, or several.
    pub(super) fn take_query(&mut self, gateway: &mut Gateway, client: Client, packet: SocketPacket, now: Time) -> Routed {
        let (octets, size) = match &packet.packet {
            AnyPacket::V4(p) => payload(p),
            AnyPacket::V6(p) => payload(p),
        };
        let mut asked = Asked::Malformed;
        // The last one's fate is the packet's.
        for message in octets.chunks(size.max(1)) {
            let Some((exchange, ..)) = gateway.exchange_mut() else { break };
            asked = exchange.query(client, message);
            if let Asked::Ask(slot) = asked {
                self.ask(gateway, slot, now);
            }
        }
        match asked {
            Asked::Ask(_) => Routed::Consumed(packet.packet.into_frame()),
            Asked::Malformed => Routed::Drop(packet.packet.into_frame(), DropReason::GatewayMalformed),
            Asked::Quota => gateway.refuse_packet(packet, (IcmpError::Prohibited, DropReason::NatQuota), now),
            Asked::Full => gateway.refuse_packet(packet, (IcmpError::Prohibited, DropReason::NatFull), now),
        }
    }

    /// Asks the next resolver that can be asked.
    fn ask(&mut self, gateway: &mut Gateway, slot: u32, now: Time) {
        self.asking.close(slot);
        while let Some((resolver, message)) = gateway.exchange_mut().and_then(|(exchange, ..)| exchange.ask_next(slot, now)) {
            let opened = socket::connect_datagrams(resolver).and_then(|socket| {
                socket.send(message)?;
                self.wait_for(&socket, Token(QUERY_TOKENS + slot as usize), Interest::READABLE)?;
                Ok(socket)
            });
            let Ok(socket) = opened else { continue };
            let index = slot as usize;
            if self.asking.sockets.len() <= index {
                self.asking.sockets.resize_with(index + 1, || None);
            }
            if let Some(place) = self.asking.sockets.get_mut(index) {
                *place = Some(socket);
            }
            return;
        }
    }

    pub(super) fn query_event(&mut self, slot: u32) {
        if !self.asking.ready.contains(&slot) {
            self.asking.ready.push_back(slot);
        }
    }

    /// The next answer for a container.
    pub(super) fn poll_queries(&mut self, gateway: &mut Gateway, pool: &mut FramePool, now: Time) -> Option<FrameBuf> {
        while let Some(slot) = gateway.exchange_mut().and_then(|(exchange, ..)| exchange.queries.expire(now)) {
            self.ask(gateway, slot, now);
        }
        let has_failed = gateway.exchange().is_some_and(|exchange| exchange.queries.has_failed());
        if !has_failed && !self.asking.has_work() {
            return None;
        }
        let mut frame = pool.take()?;
        for _ in 0..ANSWERS_PER_TURN {
            let Some(client) = self.failed(gateway, &mut frame).or_else(|| self.answer(gateway, &mut frame, now)) else {
                if self.asking.has_work() {
                    continue;
                }
                break;
            };
            match self.fit(gateway, client.owner.port, frame, pool) {
                Ok(frame) => return Some(frame),
                Err(unfit) => frame = unfit,
            }
        }
        pool.put(frame);
        None
    }

    /// A client that is told that all resolvers have failed.
    fn failed(&mut self, gateway: &mut Gateway, frame: &mut FrameBuf) -> Option<Client> {
        let (exchange, ..) = gateway.exchange_mut()?;
        let (client, message) = exchange.queries.poll()?;
        let headers = udp_headers(client.inside.is_ipv6());
        if !frame.begin(headers + message.len()) {
            return None;
        }
        frame.bytes_mut().get_mut(headers..)?.copy_from_slice(&message);
        self.write_answer(frame, &client, message.len()).then_some(client)
    }

    /// What the first socket that is ready has, if it is an answer.
    fn answer(&mut self, gateway: &mut Gateway, frame: &mut FrameBuf, now: Time) -> Option<Client> {
        let slot = *self.asking.ready.front()?;
        let (exchange, ..) = gateway.exchange_mut()?;
        // Of either family: the shorter headers leave room for the longer.
        let room = udp_headers(true);
        if !frame.begin(room + datagram::LONGEST) {
            return None;
        }
        let came = match self.asking.sockets.get(slot as usize).and_then(Option::as_ref) {
            Some(socket) => receive(socket, frame.bytes_mut().get_mut(room..)?),
            None => Came::Nothing,
        };
        match came {
            Came::Octets(len) => {
                let message = frame.bytes_mut().get_mut(room..room + len)?;
                match exchange.answered(slot, message) {
                    Answered::Ignored => None,
                    Answered::Next => {
                        self.ask(gateway, slot, now);
                        None
                    }
                    Answered::Deliver(client) => {
                        self.asking.close(slot);
                        frame.bytes_mut().copy_within(room..room + len, udp_headers(client.inside.is_ipv6()));
                        self.write_answer(frame, &client, len).then_some(client)
                    }
                }
            }
            Came::Nothing => {
                self.asking.ready.pop_front();
                None
            }
            Came::Failed => {
                self.ask(gateway, slot, now);
                None
            }
        }
    }

    /// Writes the headers before an answer that lies behind their place.
    fn write_answer(&mut self, frame: &mut FrameBuf, client: &Client, len: usize) -> bool {
        self.id = self.id.wrapping_add(1);
        let ip = Ip { id: Some(self.id as u16), ..Ip::WHOLE };
        write_udp(frame, client.link, (client.gateway, client.inside), len, None, ip)
    }

    /// Lets the first resolver but the last be waited for not as long as a host: the client waits too.
    pub(super) fn hurry(&self, gateway: &mut Gateway, slot: u32, socket: &Socket) {
        let behind =
            gateway.exchange_mut().and_then(|(exchange, stations, config)| exchange.resolver_behind(stations, config, slot));
        if behind.is_some() {
            // Without it the next is asked later.
            let _ = socket::give_up_soon(socket);
        }
    }

    /// Connects a flow to the next resolver that can be connected to, where the one before could not; says whether there is one.
    pub(super) fn redial(&mut self, gateway: &mut Gateway, slot: u32) -> bool {
        while let Some((exchange, stations, config)) = gateway.exchange_mut()
            && let Some(resolver) = exchange.resolver_behind(stations, config, slot)
        {
            if let Some(flow) = exchange.flows.get_mut(slot) {
                flow.dialed = resolver;
            }
            let opened = socket::connect_stream(resolver, None).and_then(|(socket, peeks)| {
                self.hurry(gateway, slot, &socket);
                self.enter(slot, tcp::Stream::new(socket, peeks))
            });
            if opened.is_ok() {
                return true;
            }
        }
        false
    }
}

fn receive(socket: &Socket, into: &mut [u8]) -> Came {
    match io::Read::read(&mut &*socket, into) {
        Ok(len) => Came::Octets(len),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Came::Nothing,
        Err(_) => Came::Failed,
    }
}
