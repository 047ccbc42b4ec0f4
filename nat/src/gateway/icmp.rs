//! ICMP echo (RFC 792, RFC 1122 3.2.2.6) to the gateway's address.
//!
//! Theory. An echo reply is its request with the IP addresses exchanged and the type 8 made 0, so it is written in place: the
//! IP header gets a TTL of [`REPLY_TTL`] and a fresh checksum, the ICMP checksum is updated by RFC 1624. Identification, TOS
//! and don't-fragment stay as they came.
//!
//! Fragments are mirrored one by one, without reassembly and so without state. Only the first carries the ICMP header; its
//! checksum is over the whole message and cannot be verified here, but RFC 1624 updates it without a look at the rest. Later
//! fragments change in their IP header alone and keep the identification, so the asker reassembles the reply of what it cut.
//! A fragment that belonged to no echo request comes back to its own sender, who finds no first fragment for it and lets it
//! expire: harmless, and cheaper than a reassembly buffer that anybody could fill.
//!
//! Options come back as they came (RFC 1122 3.2.2.6 asks for Record Route and Time Stamp), but for a source route: it would
//! have to be reversed, and is refused ([`DropReason::GatewayUnserved`]).
//!
//! Smurf: an echo request to a broadcast or multicast address, of IP or of Ethernet, is never answered (RFC 1122 3.2.2.6 and
//! 3.3.6 allow that), nor one whose source is not one host of our subnet (RFC 1122 3.2.1.3).
use super::{GatewayConfig, Verdict, is_group};
use crate::checksum;
use crate::packet::refuse_source_route;
use etherparse::Ipv4HeaderSlice;
use vswitch_switch::{Csum, DropReason, FrameBuf, Head};

/// Hops that a reply may take (RFC 1700; RFC 1122 3.2.1.7).
pub const REPLY_TTL: u8 = 64;
const ICMP: u8 = 1;
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
/// The longest IPv4 packet, octets.
const MAX_PACKET: usize = 65_535;

const UNSERVED: Verdict = Verdict::Drop(DropReason::GatewayUnserved);

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Whole,
    First,
    Later,
}

/// An ICMP packet to the gateway's address, its IP header verified.
struct Request {
    header: usize,
    total: usize,
    part: Part,
}

pub(super) fn receive(config: &GatewayConfig, frame: &mut FrameBuf, head: &Head) -> Verdict {
    if frame.meta.gso.is_none()
        && let Csum::Partial { start, offset } = frame.meta.csum
    {
        // Once, here: past this line all checksums are final, and a frame that ends as a drop no longer says otherwise.
        if !checksum::finish(frame.bytes_mut(), usize::from(start), usize::from(offset)) {
            return Verdict::MALFORMED;
        }
        frame.meta.csum = Csum::Complete;
    }
    let Some(packet) = frame.bytes_mut().get_mut(usize::from(head.l3)..) else {
        return Verdict::MALFORMED;
    };
    match read(config, packet, head).and_then(|request| answer(packet, &request)) {
        Ok(()) => Verdict::Reply,
        Err(verdict) => verdict,
    }
}

/// Judges the IP header; `Err` is the fate of all that is no ICMP packet to the gateway.
fn read(config: &GatewayConfig, packet: &[u8], head: &Head) -> Result<Request, Verdict> {
    let ip = Ipv4HeaderSlice::from_slice(packet).map_err(|_| Verdict::MALFORMED)?;
    let (header, total) = (ip.slice().len(), usize::from(ip.total_len()));
    // RFC 1122 3.2.1.2: the checksum of every datagram is verified. Past `total` lies Ethernet's padding.
    if total < header || total > packet.len() || !checksum::is_valid(ip.slice()) {
        return Err(Verdict::MALFORMED);
    }
    let dst = ip.destination_addr();
    if head.dst.is_group() || is_group(dst) || config.is_subnet_broadcast(dst) {
        return Err(Verdict::Consume);
    }
    if dst != config.address || ip.protocol().0 != ICMP {
        return Err(UNSERVED);
    }
    if !config.is_neighbour(ip.source_addr()) {
        return Err(Verdict::MALFORMED);
    }
    refuse_source_route(ip.options())
        .map_err(|reason| if reason == DropReason::SourceRoute { UNSERVED } else { Verdict::MALFORMED })?;
    let (offset, more) = (usize::from(ip.fragments_offset().value()) * 8, ip.more_fragments());
    let payload = total - header;
    // RFC 791 3.2: every fragment but the last is a multiple of 8 octets, and none reaches past the longest packet.
    if (more && !payload.is_multiple_of(8)) || header + offset + payload > MAX_PACKET {
        return Err(Verdict::MALFORMED);
    }
    let part = match (offset, more) {
        (0, false) => Part::Whole,
        (0, true) => Part::First,
        (_, _) => Part::Later,
    };
    Ok(Request { header, total, part })
}

/// Turns an echo request, or a fragment of one, into its reply.
fn answer(packet: &mut [u8], request: &Request) -> Result<(), Verdict> {
    let (header, message) =
        packet.get_mut(..request.total).and_then(|packet| packet.split_at_mut_checked(request.header)).ok_or(Verdict::MALFORMED)?;
    match request.part {
        Part::Whole if !checksum::is_valid(message) => return Err(Verdict::MALFORMED),
        Part::Whole | Part::First => answer_message(message)?,
        Part::Later => {}
    }
    let [_, _, _, _, _, _, _, _, ttl, _, c0, c1, s0, s1, s2, s3, d0, d1, d2, d3, ..] = header else {
        return Err(Verdict::MALFORMED);
    };
    *ttl = REPLY_TTL;
    for (src, dst) in [(s0, d0), (s1, d1), (s2, d2), (s3, d3)] {
        core::mem::swap(src, dst);
    }
    (*c0, *c1) = (0, 0);
    let [high, low] = checksum::checksum(header).to_be_bytes();
    if let Some([c0, c1]) = header.get_mut(10..).and_then(<[u8]>::first_chunk_mut) {
        (*c0, *c1) = (high, low);
    }
    Ok(())
}

fn answer_message(message: &mut [u8]) -> Result<(), Verdict> {
    // Type, code, checksum, identifier, sequence number.
    let [kind, code, c0, c1, _, _, _, _, ..] = message else {
        return Err(Verdict::MALFORMED);
    };
    if (*kind, *code) != (ECHO_REQUEST, 0) {
        return Err(UNSERVED);
    }
    let before = u16::from_be_bytes([*kind, *code]);
    let after = u16::from_be_bytes([ECHO_REPLY, *code]);
    *kind = ECHO_REPLY;
    let updated = checksum::update_u16(u16::from_be_bytes([*c0, *c1]), before, after);
    // RFC 1624 equation 3 takes for granted that the octets are not all zero; those of a reply may be, and then only 0xffff
    // verifies. It does so as well wherever 0 would.
    [*c0, *c1] = checksum::non_zero(updated).to_be_bytes();
    Ok(())
}
