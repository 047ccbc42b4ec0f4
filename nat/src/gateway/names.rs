//! The gateway's port 53: see [`crate::dns`].
use super::route::Routable;
use super::sockets::reset_to;
use super::{Gateway, Routed, Side};
use crate::dns::message::{Question, code};
use crate::dns::queries::{Asked, Client, LONGEST};
use crate::dns::streams::{self, Refusal};
use crate::dns::zone::Answer;
use crate::dns::{ASKED, Found, PORT};
use crate::icmp_error::IcmpError;
use crate::packet::{Packet, Segment, Transport, tcp};
use crate::slirp::exchange::{ends, published};
use crate::slirp::wire::{Ip, Link, UDP_HEADER, udp_headers, write_udp};
use alloc::vec;
use vswitch_switch::{DropReason, FrameBuf, FramePool, Time, UnicastMac};

/// Messages of connections that are answered in one turn.
const MESSAGES: usize = 64;

/// What became of one question.
enum Asks<A: Routable> {
    Answered(Routed),
    /// Its packet is there still.
    Taken(Packet<A>, Asked),
}

impl Gateway {
    /// Whether octets of layer 3 are a datagram or a segment to port 53, be it whole or the first of its fragments.
    pub(super) fn is_question<A: Routable>(packet: &[u8]) -> bool {
        let header = if A::IS_V6 { A::HEADER } else { usize::from(packet.first().copied().unwrap_or(0) & 15) * 4 };
        packet.get(header + 2..).and_then(|rest| rest.first_chunk()).is_some_and(|port| u16::from_be_bytes(*port) == PORT)
    }

    /// Whether a packet asks for a name here, and not of a container that has the port.
    pub(super) fn asks<A: Routable>(&self, p: &Packet<A>) -> bool {
        let tuple = p.tuple();
        tuple.dport == PORT
            && matches!(p.transport(), Transport::Udp | Transport::Tcp(_))
            && p.fragment().is_none()
            && Some(tuple.dst) == A::own(&self.config)
            && !self.publishes_names::<A>(tuple.protocol)
    }

    fn publishes_names<A: Routable>(&self, number: u8) -> bool {
        let at = match (&self.exchange, &self.uplink) {
            (Some(exchange), _) if A::IS_V6 => published(&exchange.v6, number, PORT),
            (Some(exchange), _) => published(&exchange.v4, number, PORT),
            (None, Some(uplink)) => published(&uplink.nat.table::<A>().forwards, number, PORT),
            (None, None) => None,
        };
        at.is_some()
    }

    /// A packet with a question, or several.
    pub(super) fn take_question<A: Routable>(&mut self, p: Packet<A>, mac: UnicastMac, ingress: u16, now: Time) -> Routed {
        // It ends here, whatever the uplink.
        if !p.is_intact() {
            return Routed::Drop(p.into_frame(), DropReason::PacketMalformed);
        }
        let (inside, gateway) = ends(p.tuple());
        let link = Link { dst: mac, src: self.config.mac };
        if let Transport::Tcp(segment) = p.transport() {
            return self.take_segment(p, &segment, link, ingress, now);
        }
        let client = Client { owner: self.stations.owner(ingress), link, inside, gateway, stream: None };
        let payload = p.l4() + UDP_HEADER..p.l4() + p.payload().len();
        let asked = match p.frame().meta.gso {
            None => match self.ask(client, p, payload, now) {
                Asks::Answered(routed) => return routed,
                Asks::Taken(p, asked) => return self.told_of(p, asked, ingress, now),
            },
            Some(gso) => {
                let octets = p.frame().bytes().get(payload).unwrap_or_default();
                // The last one's fate is the packet's.
                octets.chunks(usize::from(gso.size.get())).fold(Asked::Malformed, |_, message| self.ask_apart(client, message, now))
            }
        };
        self.told_of(p, asked, ingress, now)
    }

    /// A segment of a client's that comes by TCP, or would.
    fn take_segment<A: Routable>(&mut self, p: Packet<A>, segment: &Segment, link: Link, ingress: u16, now: Time) -> Routed {
        let (inside, gateway) = ends(p.tuple());
        let stream = match self.names.streams.find(inside, gateway) {
            Some(stream) => stream,
            None if segment.has(tcp::RST) => return Routed::Drop(p.into_frame(), DropReason::NatState),
            None if !segment.has(tcp::SYN) || segment.has(tcp::ACK) => return reset_to(p, link, DropReason::NatState),
            None => {
                let owner = self.stations.owner(ingress);
                let mtu = self.stations.station(ingress).map_or(1_500, |station| station.mtu);
                let sequence = self.names.draw();
                let accepted = self.names.streams.accept::<A>((owner, link), (inside, gateway), segment, (sequence, mtu), now);
                return match accepted {
                    Ok(_) => Routed::Consumed(p.into_frame()),
                    Err(Refusal::Quota) => self.refuse_to(p, ingress, (IcmpError::Prohibited, DropReason::NatQuota), now),
                    Err(Refusal::Full) => self.refuse_to(p, ingress, (IcmpError::Prohibited, DropReason::NatFull), now),
                };
            }
        };
        let end = p.l4() + p.payload().len();
        let payload = p.frame().bytes().get(end - segment.len as usize..end).unwrap_or_default();
        self.names.streams.segment(stream, segment, payload, now);
        Routed::Consumed(p.into_frame())
    }

    /// The next frame for a client that comes by TCP, after a bounded number of answers that are there already.
    pub fn poll_streams(&mut self, pool: &mut FramePool, now: Time) -> Option<FrameBuf> {
        self.names.streams.end(&self.stations);
        for _ in 0..MESSAGES {
            let Some((client, asks)) = self.names.ask_of_stream() else { break };
            let (Some(stream), asked) = (client.stream, self.ask_by_tcp(client, asks, now)) else { continue };
            if asked == Asked::Malformed {
                self.names.streams.abort(stream);
            }
        }
        self.names.streams.poll(pool, now)
    }

    fn ask_by_tcp(&mut self, client: Client, asks: streams::Asks, now: Time) -> Asked {
        let streams::Asks::Message(message) = asks else { return Asked::Malformed };
        let asked = self.ask_apart(client, &message, now);
        if matches!(asked, Asked::Quota | Asked::Full)
            && let Some(mut question) = Question::of_query(&message)
        {
            // To be asked again later: there is no other way to say so here.
            question.by_tcp = true;
            let mut answer = vec![0; LONGEST];
            let len = Found::Zone(Answer::Refusal(code::SERVFAIL)).write(&mut answer, &message, &question);
            answer.truncate(len);
            self.names.deliver(client, answer, now);
        }
        asked
    }

    fn told_of<A: Routable>(&mut self, p: Packet<A>, asked: Asked, ingress: u16, now: Time) -> Routed {
        match asked {
            Asked::Waits => Routed::Consumed(p.into_frame()),
            Asked::Malformed => Routed::Drop(p.into_frame(), DropReason::GatewayMalformed),
            Asked::Quota => self.refuse_to(p, ingress, (IcmpError::Prohibited, DropReason::NatQuota), now),
            Asked::Full => self.refuse_to(p, ingress, (IcmpError::Prohibited, DropReason::NatFull), now),
        }
    }

    /// Whether what is not ours may be asked of others.
    const fn has_way(&self) -> bool {
        self.exchange.is_some() || self.uplink.is_some()
    }

    /// One question, answered in its own buffer where that can be at once.
    fn ask<A: Routable>(&mut self, client: Client, p: Packet<A>, payload: core::ops::Range<usize>, now: Time) -> Asks<A> {
        let message = p.frame().bytes().get(payload).unwrap_or_default();
        let Some(question) = Question::of_query(message) else { return Asks::Taken(p, Asked::Malformed) };
        let mut place = [0; ASKED];
        let (Some(asked), Some(octets)) = (place.get_mut(..question.end), message.get(..question.end)) else {
            return Asks::Taken(p, Asked::Malformed);
        };
        asked.copy_from_slice(octets);
        let has_way = self.has_way();
        let Some(found) = self.names.find(&self.stations, &self.config, &question, has_way, now) else {
            let asked = self.names.begin(client, message, &question);
            return Asks::Taken(p, asked);
        };
        let mut frame = p.into_frame();
        let headers = udp_headers(A::IS_V6);
        let mut len = 0;
        if frame.begin(headers + LONGEST) {
            len = found.write(frame.bytes_mut().get_mut(headers..).unwrap_or_default(), asked, &question);
        }
        let (cached, refused) = kind_of(&found);
        self.names.count(cached, refused);
        if len > 0 && write_udp(&mut frame, client.link, (client.gateway, client.inside), len, None, Ip::WHOLE) {
            Asks::Answered(Routed::Reply(Side::Inside, frame))
        } else {
            Asks::Answered(Routed::Drop(frame, DropReason::GatewayMalformed))
        }
    }

    /// One question of several in a packet, or of a connection: its answer waits for a buffer.
    fn ask_apart(&mut self, client: Client, message: &[u8], now: Time) -> Asked {
        let Some(mut question) = Question::of_query(message) else { return Asked::Malformed };
        question.by_tcp = client.stream.is_some();
        let has_way = self.has_way();
        let Some(found) = self.names.find(&self.stations, &self.config, &question, has_way, now) else {
            return self.names.begin(client, message, &question);
        };
        let mut answer = vec![0; found.room()];
        let len = found.write(&mut answer, message, &question);
        answer.truncate(len);
        let (cached, refused) = kind_of(&found);
        self.names.count(cached, refused);
        if self.names.deliver(client, answer, now) { Asked::Waits } else { Asked::Full }
    }
}

const fn kind_of(found: &Found<'_>) -> (bool, bool) {
    match found {
        Found::Zone(Answer::Refusal(code)) => (false, *code == crate::dns::message::code::REFUSED),
        Found::Zone(_) => (false, false),
        Found::Cached(..) => (true, false),
    }
}
