//! Stateless DHCPv6 (RFC 8415): what there is beside addresses, for who asks.
//!
//! Theory. Addresses come from advertisements ([`super::advert`]), so this server has none. It answers an information request with who answers
//! names and in which domain; and who wants an address after all is told that there is none, instead of asking for ever: NoAddrsAvail and
//! NoPrefixAvail to who begins (18.3.1, 18.3.2), NoBinding to who goes on with what another server gave (18.3.4, 18.3.5, 18.3.7, 18.3.8), NotOnLink
//! to who comes with addresses of elsewhere (18.3.3). It keeps nothing: an answer is a function of its question, written over it.
//!
//! What is not for us (another server's identifier), what no server answers, and what a rule of section 16 has discarded, is consumed:
//! DHCPv6 is asked of a group, and a copy may be meant for others. What contradicts itself is malformed.
//!
//! exception: messages to our own address get no UseMulticast (18.4); no answer of ours has the option that would allow them.
//! exception: no authentication (20), no relays (19): the asker is on our link.
use super::{Gateway, GatewayV6, Verdict, advert};
use crate::checksum;
use crate::flow::Address;
use crate::ndp::write_header;
use core::net::Ipv6Addr;
use vswitch_switch::head::ETHERNET_HEADER;
use vswitch_switch::{Csum, DropReason, FrameBuf, Mac, Time, UnicastMac};

/// All_DHCP_Relay_Agents_and_Servers (7.1).
pub const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// Its Ethernet group (RFC 2464 7).
const SERVERS_MAC: Mac = Mac([0x33, 0x33, 0, 1, 0, 2]);
const SERVER_PORT: [u8; 2] = 547_u16.to_be_bytes();
const CLIENT_PORT: [u8; 2] = 546_u16.to_be_bytes();
const IPV6: usize = 40;
const UDP: u8 = 17;
/// Octets of IPv6 and UDP header.
const HEADERS: usize = IPV6 + 8;
const HOPS: u8 = 64;
/// Seconds after which information is asked for again (21.23): as long as what is advertised is good. At least IRT_MINIMUM, 600.
pub const REFRESH: u32 = advert::LIFETIME;
/// Octets of a client's identifier at the most: a type, and 128 (11.1).
const DUID: usize = 130;
/// Identity associations that are answered in one message; nobody has more interfaces on one link.
const ASSOCIATIONS: usize = 8;
/// Options of one message that are looked at, and codes of one option request: more than there are.
const OPTIONS: usize = 64;
/// Octets of the longest answer: client and server identifiers, associations of 18 each with a status, and the information.
const LONGEST: usize = ETHERNET_HEADER + HEADERS + 4 + (4 + DUID) + 14 + ASSOCIATIONS * 22 + 6 + 20 + 22 + 8;

// Messages (7.3).
const SOLICIT: u8 = 1;
const ADVERTISE: u8 = 2;
const REQUEST: u8 = 3;
const CONFIRM: u8 = 4;
const RENEW: u8 = 5;
const REBIND: u8 = 6;
const REPLY: u8 = 7;
const RELEASE: u8 = 8;
const DECLINE: u8 = 9;
const INFORMATION_REQUEST: u8 = 11;

// Options (21, RFC 3646).
const CLIENT_ID: u16 = 1;
const SERVER_ID: u16 = 2;
const IA_NA: u16 = 3;
const IA_TA: u16 = 4;
const IA_ADDRESS: u16 = 5;
const OPTION_REQUEST: u16 = 6;
const STATUS: u16 = 13;
const DNS_SERVERS: u16 = 23;
const DOMAIN_LIST: u16 = 24;
const IA_PD: u16 = 25;
const REFRESH_TIME: u16 = 32;

// Statuses (21.13).
const SUCCESS: u16 = 0;
const NO_ADDRS_AVAIL: u16 = 2;
const NO_BINDING: u16 = 3;
const NOT_ON_LINK: u16 = 4;
const NO_PREFIX_AVAIL: u16 = 6;

/// Whether a frame is one for DHCPv6 servers.
pub(super) fn is_for(frame: &FrameBuf) -> bool {
    let octets = frame.bytes();
    let packet = octets.get(ETHERNET_HEADER..).unwrap_or_default();
    let ports = packet.get(IPV6 + 2..IPV6 + 4);
    octets.get(..6) == Some(&SERVERS_MAC.0) && packet.get(6) == Some(&UDP) && ports == Some(&SERVER_PORT)
}

/// The options of a message, or of one option; `None` of one that goes beyond its end.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = Option<(u16, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let option = self.0.split_first_chunk().and_then(|([c0, c1, l0, l1], rest)| {
            let (data, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*l0, *l1])))?;
            self.0 = rest;
            Some((u16::from_be_bytes([*c0, *c1]), data))
        });
        if option.is_none() {
            self.0 = &[];
        }
        Some(option)
    }
}

/// An identity association: of which kind, and which of the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Association {
    code: u16,
    id: [u8; 4],
}

/// A question, judged.
#[derive(Clone, Copy, Debug)]
struct Question<'a> {
    kind: u8,
    transaction: [u8; 3],
    client: Option<&'a [u8]>,
    server: Option<&'a [u8]>,
    associations: [Option<Association>; ASSOCIATIONS],
    /// Addresses that it names, and whether one of them is not of our link.
    addresses: usize,
    elsewhere: bool,
    /// What it asks for; all, where it does not say.
    requested: Option<&'a [u8]>,
}

impl<'a> Question<'a> {
    /// Reads a message; `None` where it contradicts itself.
    fn read(message: &'a [u8], v6: &GatewayV6) -> Option<Self> {
        let ([kind, t0, t1, t2], rest) = message.split_first_chunk()?;
        let mut question = Self {
            kind: *kind,
            transaction: [*t0, *t1, *t2],
            client: None,
            server: None,
            associations: [None; ASSOCIATIONS],
            addresses: 0,
            elsewhere: false,
            requested: None,
        };
        for (number, option) in Options(rest).enumerate() {
            let (code, data) = option.filter(|_| number < OPTIONS)?;
            match code {
                // 11.1: a type and at least one octet. Neither is there twice (21.2, 21.3).
                CLIENT_ID if question.client.is_none() && (3..=DUID).contains(&data.len()) => question.client = Some(data),
                SERVER_ID if question.server.is_none() && (3..=DUID).contains(&data.len()) => question.server = Some(data),
                CLIENT_ID | SERVER_ID => return None,
                IA_NA | IA_TA | IA_PD => question.associate(code, data, v6)?,
                OPTION_REQUEST if data.len() % 2 == 0 => question.requested = Some(data),
                OPTION_REQUEST => return None,
                _ => {}
            }
        }
        Some(question)
    }

    fn associate(&mut self, code: u16, data: &[u8], v6: &GatewayV6) -> Option<()> {
        // An IAID, and T1 and T2 but in the temporary one (21.4, 21.5, 21.21).
        let (id, rest) = data.split_first_chunk::<4>()?;
        let inner = if code == IA_TA { rest } else { rest.get(8..)? };
        for option in Options(inner).take(OPTIONS) {
            let (code, data) = option?;
            if code == IA_ADDRESS {
                let address = Ipv6Addr::read(data.get(..24)?)?;
                self.addresses += 1;
                self.elsewhere |= !v6.address.has_prefix(address, v6.prefix);
            }
        }
        if let Some(free) = self.associations.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(Association { code, id: *id });
        }
        Some(())
    }

    /// Whether it is for this server to answer, by the rules of section 16, and with what: a kind of message and a status for what was asked for.
    fn judge(&self, duid: &[u8]) -> Option<(u8, Option<u16>)> {
        let to_us = self.server == Some(duid);
        let has_client = self.client.is_some();
        let begins = has_client && self.server.is_none();
        let goes_on = has_client && to_us;
        let has_associations = self.associations.iter().any(Option::is_some);
        match self.kind {
            SOLICIT if begins => Some((ADVERTISE, Some(NO_ADDRS_AVAIL))),
            REQUEST if goes_on => Some((REPLY, Some(NO_ADDRS_AVAIL))),
            // 18.3.3: without addresses there is nothing to confirm.
            CONFIRM if begins && self.addresses > 0 => Some((REPLY, None)),
            RENEW if goes_on => Some((REPLY, Some(NO_BINDING))),
            REBIND if begins => Some((REPLY, Some(NO_BINDING))),
            RELEASE | DECLINE if goes_on => Some((REPLY, Some(NO_BINDING))),
            INFORMATION_REQUEST if !has_associations && (self.server.is_none() || to_us) => Some((REPLY, None)),
            _ => None,
        }
    }

    fn wants(&self, code: u16) -> bool {
        self.requested.is_none_or(|codes| codes.as_chunks::<2>().0.iter().any(|own| *own == code.to_be_bytes()))
    }
}

/// An answer in the making; `full` where it did not fit.
struct Answer {
    octets: [u8; LONGEST],
    len: usize,
    full: bool,
}

impl Answer {
    fn put(&mut self, octets: &[u8]) {
        match self.octets.get_mut(self.len..self.len + octets.len()) {
            Some(place) => {
                place.copy_from_slice(octets);
                self.len += octets.len();
            }
            None => self.full = true,
        }
    }

    fn option(&mut self, code: u16, parts: &[&[u8]]) {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        self.put(&code.to_be_bytes());
        self.put(&(len as u16).to_be_bytes());
        for part in parts {
            self.put(part);
        }
    }

    fn message(question: &Question<'_>, v6: &GatewayV6, duid: &[u8], names: bool, (kind, status): (u8, Option<u16>)) -> Self {
        let mut answer = Self { octets: [0; LONGEST], len: ETHERNET_HEADER + HEADERS, full: false };
        answer.put(&[kind]);
        answer.put(&question.transaction);
        if let Some(client) = question.client {
            answer.option(CLIENT_ID, &[client]);
        }
        answer.option(SERVER_ID, &[duid]);
        match question.kind {
            CONFIRM => answer.status(if question.elsewhere { NOT_ON_LINK } else { SUCCESS }),
            // 18.3.7, 18.3.8: the message as such was understood.
            RELEASE | DECLINE => answer.status(SUCCESS),
            _ => {}
        }
        for association in question.associations.iter().flatten().filter_map(|association| Some((association, status?))) {
            answer.association(association.0, association.1);
        }
        if names && question.wants(DNS_SERVERS) {
            answer.option(DNS_SERVERS, &[&v6.address.octets()]);
        }
        if names && question.wants(DOMAIN_LIST) {
            answer.option(DOMAIN_LIST, &[advert::DOMAIN]);
        }
        if question.kind == INFORMATION_REQUEST && question.wants(REFRESH_TIME) {
            answer.option(REFRESH_TIME, &[&REFRESH.to_be_bytes()]);
        }
        answer
    }

    fn status(&mut self, status: u16) {
        self.option(STATUS, &[&status.to_be_bytes()]);
    }

    /// An association with nothing in it but why.
    fn association(&mut self, association: &Association, status: u16) {
        let status = if association.code == IA_PD && status == NO_ADDRS_AVAIL { NO_PREFIX_AVAIL } else { status };
        let [s0, s1] = status.to_be_bytes();
        let inner = [0, STATUS as u8, 0, 2, s0, s1];
        let times: &[u8] = if association.code == IA_TA { &[] } else { &[0; 8] };
        self.option(association.code, &[&association.id, times, &inner]);
    }

    /// Puts the headers before it, into the frame; the Ethernet addresses are left for the caller.
    fn finish(mut self, frame: &mut FrameBuf, src: Ipv6Addr, dst: Ipv6Addr) -> bool {
        let Some(datagram) = self.octets.get_mut(ETHERNET_HEADER + IPV6..self.len).filter(|_| !self.full) else { return false };
        let len = datagram.len() as u16;
        let [l0, l1] = len.to_be_bytes();
        let header = [SERVER_PORT[0], SERVER_PORT[1], CLIENT_PORT[0], CLIENT_PORT[1], l0, l1, 0, 0];
        for (place, octet) in datagram.iter_mut().zip(header) {
            *place = octet;
        }
        let sum = checksum::add(checksum::sum(datagram), src.pseudo(dst, UDP, len.into()));
        if let Some(place) = datagram.get_mut(6..8) {
            place.copy_from_slice(&checksum::non_zero(!sum).to_be_bytes());
        }
        write_header(&mut self.octets, (src, dst), UDP, HOPS, len);
        self.octets.get(..self.len).is_some_and(|octets| frame.fill(octets))
    }
}

/// Our identifier: of the link-layer address (11.4), which is the network's as long as it has that gateway.
fn duid(mac: UnicastMac) -> [u8; 10] {
    let [a, b, c, d, e, f] = mac.mac().0;
    [0, 3, 0, 1, a, b, c, d, e, f]
}

/// The asker, and the message, of a frame that is sound.
fn open(frame: &mut FrameBuf) -> Option<(Ipv6Addr, usize, usize)> {
    if let Csum::Partial { start, offset } = frame.meta.csum {
        if frame.meta.gso.is_some() || !checksum::finish(frame.bytes_mut(), usize::from(start), usize::from(offset)) {
            return None;
        }
        frame.meta.csum = Csum::Complete;
    }
    let packet = frame.bytes().get(ETHERNET_HEADER..)?;
    let ip = etherparse::Ipv6HeaderSlice::from_slice(packet).ok()?;
    let (src, dst) = (ip.source_addr(), ip.destination_addr());
    let len = usize::from(ip.payload_length());
    let datagram = packet.get(IPV6..IPV6 + len)?;
    let sum = checksum::add(checksum::sum(datagram), src.pseudo(dst, UDP, len as u32));
    let is_whole = datagram.get(4..6) == Some(&(len as u16).to_be_bytes()) && datagram.get(6..8) != Some(&[0, 0]);
    // 7.2 has the client's port; 18.2 has it ask from its link-local address, to the group.
    let is_client = datagram.get(..2) == Some(&CLIENT_PORT) && src.is_unicast_link_local() && dst == SERVERS;
    (is_whole && is_client && sum == 0xffff).then_some((src, ETHERNET_HEADER + HEADERS, ETHERNET_HEADER + IPV6 + len))
}

impl Gateway {
    /// Answers a message to DHCPv6 servers.
    pub(super) fn dhcp6(&mut self, v6: &GatewayV6, frame: &mut FrameBuf, ingress: u16, now: Time) -> Verdict {
        let Some((client, from, to)) = open(frame) else { return Verdict::MALFORMED };
        let Some(question) = frame.bytes().get(from..to).and_then(|message| Question::read(message, v6)) else {
            return Verdict::MALFORMED;
        };
        let duid = duid(self.config.mac);
        let Some(kind) = question.judge(&duid) else { return Verdict::Consume };
        if !self.may_ask(ingress, now) {
            return Verdict::Drop(DropReason::ServiceLimit);
        }
        let answer = Answer::message(&question, v6, &duid, self.serves_names(), kind);
        if answer.finish(frame, v6.link_local, client) { Verdict::Reply } else { Verdict::MALFORMED }
    }
}

#[cfg(test)]
mod tests;
