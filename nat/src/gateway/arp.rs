//! ARP (RFC 826) for the gateway's address. A probe for it (RFC 5227 2.1.1, sender 0.0.0.0) is answered too, which defends it.
use super::{Answer, GatewayConfig};
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress};
use vswitch_switch::head::ETHERNET_HEADER;
use vswitch_switch::{DropReason, FrameBuf};

pub(super) fn receive(config: &GatewayConfig, frame: &mut FrameBuf) -> Answer {
    let malformed = Answer::Drop(DropReason::GatewayMalformed);
    let Some(octets) = frame.bytes().get(ETHERNET_HEADER..) else { return malformed };
    let Some(ArpRepr::EthernetIpv4 { operation, source_hardware_addr, source_protocol_addr, target_protocol_addr, .. }) =
        ArpPacket::new_checked(octets).ok().and_then(|packet| ArpRepr::parse(&packet).ok())
    else {
        return malformed;
    };
    // Requests for others and all replies are not for us: what we know of stations, we know from the switch.
    if operation != ArpOperation::Request || target_protocol_addr != config.address {
        return Answer::Consumed;
    }
    let reply = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress(config.mac.mac().0),
        source_protocol_addr: config.address,
        target_hardware_addr: source_hardware_addr,
        target_protocol_addr: source_protocol_addr,
    };
    match frame.bytes_mut().get_mut(ETHERNET_HEADER..).map(ArpPacket::new_checked) {
        Some(Ok(mut packet)) => {
            reply.emit(&mut packet);
            Answer::Reply
        }
        Some(Err(_)) | None => malformed,
    }
}
