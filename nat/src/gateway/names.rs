//! The gateway's port 53 by UDP: see [`crate::dns`].
use super::route::Routable;
use super::{Gateway, Routed, Side};
use crate::dns::message::Question;
use crate::dns::queries::{Asked, Client, LONGEST};
use crate::dns::zone::Answer;
use crate::dns::{ASKED, Found, PORT};
use crate::flow::protocol;
use crate::icmp_error::IcmpError;
use crate::packet::{Packet, Transport};
use crate::slirp::exchange::{ends, published};
use crate::slirp::wire::{Ip, Link, UDP_HEADER, udp_headers, write_udp};
use alloc::vec;
use vswitch_switch::{DropReason, Time, UnicastMac};

/// What became of one question.
enum Asks<A: Routable> {
    Answered(Routed),
    /// Its packet is there still.
    Taken(Packet<A>, Asked),
}

impl Gateway {
    /// Whether octets of layer 3 are a datagram to port 53, be it whole or the first of its fragments.
    pub(super) fn is_question<A: Routable>(packet: &[u8]) -> bool {
        let header = if A::IS_V6 { A::HEADER } else { usize::from(packet.first().copied().unwrap_or(0) & 15) * 4 };
        packet.get(header + 2..).and_then(|rest| rest.first_chunk()).is_some_and(|port| u16::from_be_bytes(*port) == PORT)
    }

    /// Whether a packet asks for a name here, and not of a container that has the port.
    pub(super) fn asks<A: Routable>(&self, p: &Packet<A>) -> bool {
        let tuple = p.tuple();
        tuple.dport == PORT
            && p.transport() == Transport::Udp
            && p.fragment().is_none()
            && Some(tuple.dst) == A::own(&self.config)
            && !self.publishes_names::<A>()
    }

    fn publishes_names<A: Routable>(&self) -> bool {
        let at = match (&self.exchange, &self.uplink) {
            (Some(exchange), _) if A::IS_V6 => published(&exchange.v6, protocol::UDP, PORT),
            (Some(exchange), _) => published(&exchange.v4, protocol::UDP, PORT),
            (None, Some(uplink)) => published(&uplink.nat.table::<A>().forwards, protocol::UDP, PORT),
            (None, None) => None,
        };
        at.is_some()
    }

    /// A packet with a question, or several.
    pub(super) fn take_question<A: Routable>(&mut self, p: Packet<A>, mac: UnicastMac, ingress: u16, now: Time) -> Routed {
        let (inside, gateway) = ends(p.tuple());
        let link = Link { dst: mac, src: self.config.mac };
        let client = Client { owner: self.stations.owner(ingress), link, inside, gateway };
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

    /// One question of several in a packet: its answer waits for a buffer.
    fn ask_apart(&mut self, client: Client, message: &[u8], now: Time) -> Asked {
        let Some(question) = Question::of_query(message) else { return Asked::Malformed };
        let has_way = self.has_way();
        let Some(found) = self.names.find(&self.stations, &self.config, &question, has_way, now) else {
            return self.names.begin(client, message, &question);
        };
        let mut answer = vec![0; LONGEST];
        let len = found.write(&mut answer, message, &question);
        answer.truncate(len);
        let (cached, refused) = kind_of(&found);
        self.names.count(cached, refused);
        if self.names.deliver(client, answer) { Asked::Waits } else { Asked::Full }
    }
}

const fn kind_of(found: &Found<'_>) -> (bool, bool) {
    match found {
        Found::Zone(Answer::Refusal(code)) => (false, *code == crate::dns::message::code::REFUSED),
        Found::Zone(_) => (false, false),
        Found::Cached(..) => (true, false),
    }
}
