//! ICMP echo (RFC 792, RFC 1122 3.2.2.6) to the gateway's address.
//!
//! The answer is the question with its addresses exchanged, type 0 for 8 and the checksum updated (RFC 1624). That works for fragments too,
//! one by one and without reassembly: only the first carries the ICMP header, all carry the addresses, and the asker joins them. The
//! ICMP checksum of a whole datagram is verified first; that of a fragmented one by the asker, on the answer. IP options go back as they came.
use super::{Answer, GatewayConfig};
use crate::checksum;
use core::net::Ipv4Addr;
use etherparse::Ipv4HeaderSlice;
use vswitch_switch::head::ETHERNET_HEADER;
use vswitch_switch::{Csum, DropReason, FrameBuf};

const ICMP: u8 = 1;
const ECHO_REQUEST: u8 = 8;
/// Time to live of what the gateway sends (RFC 1700).
const TTL: u8 = 64;

struct Question {
    source: Ipv4Addr,
    header: usize,
    total: usize,
    protocol: u8,
    destination: Ipv4Addr,
    is_first: bool,
    is_whole: bool,
}

fn parse(packet: &[u8]) -> Option<Question> {
    let header = Ipv4HeaderSlice::from_slice(packet).ok()?;
    let length = header.slice().len();
    let total = usize::from(header.total_len());
    if total < length || total > packet.len() || checksum::of(header.slice()) != 0 {
        return None;
    }
    let offset = header.fragments_offset().value();
    Some(Question {
        source: header.source_addr(),
        header: length,
        total,
        protocol: header.protocol().0,
        destination: header.destination_addr(),
        is_first: offset == 0,
        is_whole: offset == 0 && !header.more_fragments(),
    })
}

pub(super) fn receive(config: &GatewayConfig, frame: &mut FrameBuf) -> Answer {
    let (unserved, malformed) = (Answer::Drop(DropReason::GatewayUnserved), Answer::Drop(DropReason::GatewayMalformed));
    if let Csum::Partial { start, offset } = frame.meta.csum {
        if frame.meta.gso.is_some() {
            return unserved;
        }
        checksum::finish(frame.bytes_mut(), usize::from(start), usize::from(offset));
    }
    let Some(packet) = frame.bytes_mut().get_mut(ETHERNET_HEADER..) else { return malformed };
    let Some(question) = parse(packet) else { return malformed };
    if question.destination != config.address || question.protocol != ICMP {
        return unserved;
    }
    // RFC 1122 3.2.1.3: no answer to what cannot be one station; the gateway's own address is nobody else's.
    if !config.is_host(question.source) || question.source == config.address {
        return malformed;
    }
    let Some((header, rest)) = packet.split_at_mut_checked(question.header) else { return malformed };
    let Some(message) = rest.get_mut(..question.total - question.header) else { return malformed };
    if question.is_first {
        let whole = question.is_whole.then(|| checksum::of(message));
        match message {
            [kind, 0, c0, c1, _, _, _, _, ..] if *kind == ECHO_REQUEST => {
                if whole.is_some_and(|sum| sum != 0) {
                    return malformed;
                }
                let updated = checksum::update(u16::from_be_bytes([*c0, *c1]), u16::from(ECHO_REQUEST) << 8, 0);
                [*c0, *c1] = updated.to_be_bytes();
                *kind = 0;
            }
            [_, _, _, _, _, _, _, _, ..] => return unserved,
            _ => return malformed,
        }
    }
    let (source, own) = (question.source.octets(), config.address.octets());
    if let [_, _, _, _, _, _, _, _, ttl, _, c0, c1, addresses @ ..] = &mut *header {
        *ttl = TTL;
        (*c0, *c1) = (0, 0);
        for (place, octet) in addresses.iter_mut().zip(own.into_iter().chain(source)) {
            *place = octet;
        }
    }
    let sum = checksum::of(header).to_be_bytes();
    if let Some(field) = header.get_mut(10..12) {
        field.copy_from_slice(&sum);
    }
    Answer::Reply
}
