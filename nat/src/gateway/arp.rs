//! ARP (RFC 826) for the gateway's address, and its defence (RFC 5227).
//!
//! Theory. A request for our address is answered, whoever asks: a station with an address of the subnet, one that probes
//! whether the address is free (sender 0.0.0.0, RFC 5227 2.1.1), and one that announces it as its own. To the last two the
//! answer is the news that the address is taken.
//!
//! exception: RFC 5227 2.4 (c) defends with a broadcast announcement, at most once in DEFEND_INTERVAL (10 s). That needs a
//! clock and repairs the caches of others, which here hold the gateway as a permanent neighbour and do not believe the claim.
//! So a claim on our address that asks for another is only dropped and counted as malformed, where an administrator sees it.
//!
//! Replies and requests for others are consumed: the gateway asks nobody, so it learns from nobody (RFC 826 would let it).
use super::{GatewayConfig, Verdict, is_group};
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress};
use vswitch_switch::{FrameBuf, Head};

/// Octets of an ARP packet for IPv4 over Ethernet.
const ARP_LEN: usize = 28;

pub(super) fn receive(config: &GatewayConfig, frame: &mut FrameBuf, head: &Head) -> Verdict {
    // Past the 28 octets lies the padding to Ethernet's minimum; it goes back as it came.
    let Some(octets) = frame.bytes_mut().get_mut(usize::from(head.l3)..).and_then(<[u8]>::first_chunk_mut::<ARP_LEN>) else {
        return Verdict::MALFORMED;
    };
    // RFC 826, packet reception: hardware type, protocol type and both lengths must be ours.
    let Ok(packet) = ArpPacket::new_checked(&octets[..]).and_then(|packet| ArpRepr::parse(&packet)) else {
        return Verdict::MALFORMED;
    };
    let ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: asker,
        source_protocol_addr: asker_address,
        target_protocol_addr: wanted,
        target_hardware_addr: _,
    } = packet
    else {
        return Verdict::MALFORMED;
    };
    match operation {
        ArpOperation::Request => {}
        ArpOperation::Reply => return Verdict::Consume,
        ArpOperation::Unknown(_) => return Verdict::unserved(head),
    }
    if !asker.is_unicast() || asker == EthernetAddress([0; 6]) || is_group(asker_address) {
        return Verdict::MALFORMED;
    }
    if wanted != config.address {
        return if asker_address == config.address { Verdict::MALFORMED } else { Verdict::Consume };
    }
    let reply = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress(config.mac.mac().0),
        source_protocol_addr: config.address,
        target_hardware_addr: asker,
        target_protocol_addr: asker_address,
    };
    reply.emit(&mut ArpPacket::new_unchecked(&mut octets[..]));
    Verdict::Reply
}
