//! Changes as rtnetlink messages.
//!
//! Source: rtnetlink(7), linux/if_link.h, linux/if_addr.h.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Change, IfName, LinkSettings, VethPeer};

/// Turning IPv6 address generation off fails where there is no IPv6 on the link: then there is nothing to turn off.
pub(super) fn excused(change: &Change<'_>, errno: i32) -> bool {
    let only_ipv6 = matches!(change, Change::Set { settings: LinkSettings { no_ipv6_address: true, .. }, .. });
    only_ipv6 && matches!(errno, libc::EAFNOSUPPORT | libc::EOPNOTSUPP)
}

/// A change as rtnetlink message, with the flags it needs beside NLM_F_REQUEST and NLM_F_ACK.
pub(super) fn request(change: &Change<'_>) -> (RouteNetlinkMessage, u16) {
    match change {
        Change::Veth { name, index, mtu, arp, peer } => {
            (RouteNetlinkMessage::NewLink(veth(name, *index, *mtu, *arp, peer)), NLM_F_CREATE | NLM_F_EXCL)
        }
        Change::DeleteLink { index } => {
            let mut message = LinkMessage::default();
            message.header.index = *index;
            (RouteNetlinkMessage::DelLink(message), 0)
        }
        Change::Set { index, settings } => {
            let mut message = LinkMessage::default();
            message.header.index = *index;
            fill(&mut message, settings);
            (RouteNetlinkMessage::SetLink(message), 0)
        }
        Change::SetByName { name, settings } => {
            let mut message = LinkMessage::default();
            message.attributes.push(LinkAttribute::IfName(name.as_str().into()));
            fill(&mut message, settings);
            (RouteNetlinkMessage::SetLink(message), 0)
        }
        Change::Address { index, address, prefix } => {
            let message = ipv4_address(*index, *address, *prefix);
            (RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
        }
        Change::DefaultRoute { index, gateway } => {
            let mut message = RouteMessage::default();
            let (family, hop) = match gateway {
                IpAddr::V4(gateway) => (AddressFamily::Inet, RouteAddress::Inet(*gateway)),
                IpAddr::V6(gateway) => (AddressFamily::Inet6, RouteAddress::Inet6(*gateway)),
            };
            message.header.address_family = family;
            message.header.table = RouteHeader::RT_TABLE_MAIN;
            message.header.protocol = RouteProtocol::Boot;
            message.header.scope = RouteScope::Universe;
            message.header.kind = RouteType::Unicast;
            message.attributes.push(RouteAttribute::Gateway(hop));
            message.attributes.push(RouteAttribute::Oif(*index));
            (RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL)
        }
        Change::Address6 { index, address, prefix } => {
            let mut message = AddressMessage::default();
            message.header.family = AddressFamily::Inet6;
            message.header.prefix_len = *prefix;
            message.header.index = *index;
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Address(IpAddr::V6(*address)));
            (RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
        }
        Change::Neighbour { index, address, mac } => {
            let mut message = NeighbourMessage::default();
            let (family, destination) = match address {
                IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(*address)),
                IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(*address)),
            };
            message.header.family = family;
            message.header.ifindex = *index;
            message.header.state = NeighbourState::Permanent;
            message.attributes.push(NeighbourAttribute::Destination(destination));
            message.attributes.push(NeighbourAttribute::LinkLocalAddress(mac.to_vec()));
            (RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
        }
    }
}

/// The message that makes a veth pair.
fn veth(name: &IfName, index: u32, mtu: u32, arp: bool, peer: &VethPeer<'_>) -> LinkMessage {
    let mut other = LinkMessage::default();
    other.attributes.push(LinkAttribute::IfName(peer.name.as_str().into()));
    other.attributes.push(LinkAttribute::NetNsFd(peer.namespace.as_raw_fd()));
    other.attributes.push(LinkAttribute::Mtu(peer.mtu));
    other.attributes.push(LinkAttribute::Address(peer.mac.to_vec()));
    let mut message = LinkMessage::default();
    message.header.index = index;
    if !arp {
        message.header.flags = LinkFlags::Noarp;
        message.header.change_mask = LinkFlags::Noarp;
    }
    message.attributes.push(LinkAttribute::IfName(name.as_str().into()));
    message.attributes.push(LinkAttribute::Mtu(mtu));
    message
        .attributes
        .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other)))]));
    message
}

/// The message that adds an IPv4 address with its broadcast address (none in a /31 or /32, RFC 3021).
fn ipv4_address(index: u32, address: Ipv4Addr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(IpAddr::V4(address)));
    message.attributes.push(AddressAttribute::Address(IpAddr::V4(address)));
    if prefix < 31 {
        let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        let broadcast = Ipv4Addr::from_bits(address.to_bits() | host_bits);
        message.attributes.push(AddressAttribute::Broadcast(broadcast));
    }
    message
}

/// Writes `settings` into a link message.
fn fill(message: &mut LinkMessage, settings: &LinkSettings) {
    let mut flag = |bit: LinkFlags, on: Option<bool>| {
        if let Some(on) = on {
            message.header.change_mask |= bit;
            message.header.flags.set(bit, on);
        }
    };
    flag(LinkFlags::Up, settings.up);
    flag(LinkFlags::Noarp, settings.arp.map(|arp| !arp));
    let attributes = &mut message.attributes;
    attributes.extend(settings.mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
    attributes.extend(settings.mtu.map(LinkAttribute::Mtu));
    attributes.extend(settings.txqueuelen.map(LinkAttribute::TxQueueLen));
    if settings.no_ipv6_address {
        let none = vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)];
        attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(none)]));
    }
}
