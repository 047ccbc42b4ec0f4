//! Neighbour discovery (RFC 4861), read and written with smoltcp: for the gateway inside and for our end of the uplink.
//!
//! A message counts only from its own link: hop limit 255, code 0, right checksum (RFC 4861 7.1). exception: fragmented or behind extension
//! headers it is no message to us (RFC 6980 says the first, nobody sends the second).
use crate::checksum;
use crate::flow::Address;
use core::net::Ipv6Addr;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{EthernetAddress, Icmpv6Packet, Icmpv6Repr, NdiscNeighborFlags, NdiscRepr, RawHardwareAddress};
use vswitch_switch::head::ETHERNET_HEADER;
use vswitch_switch::{DropReason, FrameBuf, Mac, UnicastMac};

const IPV6_HEADER: usize = 40;
const ICMPV6: u8 = 58;
/// RFC 4861 11.2: nobody beyond the link can send it.
const HOP_LIMIT: u8 = 255;
/// Octets of the longest message that we write: a router advertisement with all its options has 120.
const LONGEST_MESSAGE: usize = 128;
const LONGEST: usize = ETHERNET_HEADER + IPV6_HEADER + LONGEST_MESSAGE;
/// All nodes (RFC 4291 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What a message says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// Who has `target`?
    Solicitation {
        /// The address asked for.
        target: Ipv6Addr,
        /// The asker's hardware address, if it says.
        mac: Option<UnicastMac>,
    },
    /// `target` is at `mac`.
    Advertisement {
        /// The address.
        target: Ipv6Addr,
        /// Its hardware address, if it says.
        mac: Option<UnicastMac>,
        /// Whether it was asked.
        solicited: bool,
        /// Whether it replaces another hardware address that is known.
        overrides: bool,
    },
    /// Is there a router?
    RouterSolicitation {
        /// The asker's hardware address, if it says.
        mac: Option<UnicastMac>,
    },
    /// A router.
    Router {
        /// Seconds for which it is a default router; 0: it is none.
        lifetime: u64,
        /// Its hardware address, if it says.
        mac: Option<UnicastMac>,
    },
    /// Another one.
    Other,
}

/// Whether a frame is a neighbour discovery message (types 133 to 137).
#[must_use]
pub fn is_nd(frame: &FrameBuf) -> bool {
    let packet = frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default();
    packet.get(6) == Some(&ICMPV6) && packet.get(IPV6_HEADER).is_some_and(|kind| (133..=137).contains(kind))
}

/// Who sent a message to whom, and what it says.
///
/// # Errors
/// [`DropReason::GatewayMalformed`].
pub fn read(frame: &FrameBuf) -> Result<(Ipv6Addr, Ipv6Addr, Message), DropReason> {
    const MALFORMED: DropReason = DropReason::GatewayMalformed;
    let packet = frame.bytes().get(ETHERNET_HEADER..).ok_or(MALFORMED)?;
    let ip = etherparse::Ipv6HeaderSlice::from_slice(packet).map_err(|_| MALFORMED)?;
    let (src, dst) = (ip.source_addr(), ip.destination_addr());
    let message = packet.get(IPV6_HEADER..IPV6_HEADER + usize::from(ip.payload_length())).ok_or(MALFORMED)?;
    if ip.hop_limit() != HOP_LIMIT || message.get(1) != Some(&0) {
        return Err(MALFORMED);
    }
    // Here, for smoltcp looks at none where it is fuzzed.
    let sum = checksum::add(checksum::sum(message), src.pseudo(dst, ICMPV6, message.len() as u32));
    let icmp = Icmpv6Packet::new_checked(message).ok().filter(|_| sum == 0xffff).ok_or(MALFORMED)?;
    let Ok(Icmpv6Repr::Ndisc(nd)) = Icmpv6Repr::parse(&src, &dst, &icmp, &ChecksumCapabilities::ignored()) else {
        return Err(MALFORMED);
    };
    let mac = |address: Option<RawHardwareAddress>| {
        let octets: [u8; 6] = address?.as_bytes().try_into().ok()?;
        UnicastMac::new(Mac(octets))
    };
    let message = match nd {
        NdiscRepr::NeighborSolicit { target_addr, lladdr } => Message::Solicitation { target: target_addr, mac: mac(lladdr) },
        NdiscRepr::NeighborAdvert { flags, target_addr, lladdr } => Message::Advertisement {
            target: target_addr,
            mac: mac(lladdr),
            solicited: flags.contains(NdiscNeighborFlags::SOLICITED),
            overrides: flags.contains(NdiscNeighborFlags::OVERRIDE),
        },
        NdiscRepr::RouterAdvert { router_lifetime, lladdr, .. } => {
            Message::Router { lifetime: router_lifetime.secs(), mac: mac(lladdr) }
        }
        NdiscRepr::RouterSolicit { lladdr } => Message::RouterSolicitation { mac: mac(lladdr) },
        NdiscRepr::Redirect { .. } => Message::Other,
    };
    if is_valid(src, dst, message) { Ok((src, dst, message)) } else { Err(MALFORMED) }
}

/// RFC 4861 7.1.1, 7.1.2, 6.1.1, 6.1.2, as far as it concerns more than one field.
fn is_valid(src: Ipv6Addr, dst: Ipv6Addr, message: Message) -> bool {
    match message {
        // One who has no address yet asks the group, and does not say where he is.
        Message::Solicitation { target, mac } => {
            !target.is_multicast() && (!src.is_unspecified() || (dst == solicited_node(target) && mac.is_none()))
        }
        // Nobody's answer goes to a group.
        Message::Advertisement { target, solicited, .. } => !(target.is_multicast() || (solicited && dst.is_multicast())),
        Message::RouterSolicitation { mac } => !src.is_unspecified() || mac.is_none(),
        Message::Router { .. } => src.is_unicast_link_local(),
        Message::Other => true,
    }
}

/// The link-local address of a hardware address (RFC 4291 A, modified EUI-64).
#[must_use]
pub const fn link_local(mac: UnicastMac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.mac().0;
    Ipv6Addr::from_octets([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// The solicited-node group of an address (RFC 4291 2.7.1).
#[must_use]
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from_octets([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The Ethernet group of an IPv6 group (RFC 2464 7).
#[must_use]
pub const fn group_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

/// Writes "`target` is at `mac`", from `target` to `dst`; `router` as RFC 4861 4.4 has it. The Ethernet addresses are left for the caller.
#[must_use]
pub fn write_advertisement(frame: &mut FrameBuf, target: Ipv6Addr, dst: Ipv6Addr, mac: UnicastMac, router: bool) -> bool {
    let mut flags = NdiscNeighborFlags::OVERRIDE;
    flags.set(NdiscNeighborFlags::ROUTER, router);
    // RFC 4861 7.2.4: not to all nodes.
    flags.set(NdiscNeighborFlags::SOLICITED, !dst.is_multicast());
    write(frame, target, dst, NdiscRepr::NeighborAdvert { flags, target_addr: target, lladdr: Some(raw(mac)) })
}

/// Writes "who has `target`?", from `src`. The Ethernet addresses are left for the caller.
#[must_use]
pub fn write_solicitation(frame: &mut FrameBuf, src: Ipv6Addr, dst: Ipv6Addr, target: Ipv6Addr, mac: UnicastMac) -> bool {
    write(frame, src, dst, NdiscRepr::NeighborSolicit { target_addr: target, lladdr: Some(raw(mac)) })
}

pub(crate) fn raw(mac: UnicastMac) -> RawHardwareAddress {
    EthernetAddress(mac.mac().0).into()
}

fn write(frame: &mut FrameBuf, src: Ipv6Addr, dst: Ipv6Addr, nd: NdiscRepr<'_>) -> bool {
    write_with(frame, src, dst, nd, &[])
}

/// Writes a message with more options behind its own: those that smoltcp does not know. The Ethernet addresses are left for the caller.
#[must_use]
pub(crate) fn write_with(frame: &mut FrameBuf, src: Ipv6Addr, dst: Ipv6Addr, nd: NdiscRepr<'_>, more: &[u8]) -> bool {
    let own = nd.buffer_len();
    let len = own + more.len();
    let mut octets = [0; LONGEST];
    let Some((header, rest)) = octets.split_at_mut_checked(ETHERNET_HEADER + IPV6_HEADER) else { return false };
    let Some((first, behind)) = rest.get_mut(..len).and_then(|place| place.split_at_mut_checked(own)) else { return false };
    nd.emit(&mut Icmpv6Packet::new_unchecked(first));
    behind.copy_from_slice(more);
    let Some(message) = rest.get_mut(..len) else { return false };
    Icmpv6Packet::new_unchecked(message).fill_checksum(&src, &dst);
    write_header(header, (src, dst), ICMPV6, HOP_LIMIT, len as u16);
    octets.get(..ETHERNET_HEADER + IPV6_HEADER + len).is_some_and(|octets| frame.fill(octets))
}

/// Writes the EtherType and an IPv6 header over the first 54 octets of a frame, whose addresses are left for the caller.
pub(crate) fn write_header(header: &mut [u8], (src, dst): (Ipv6Addr, Ipv6Addr), next: u8, hops: u8, len: u16) {
    let [high, low] = len.to_be_bytes();
    let ip = [0x60, 0, 0, 0, high, low, next, hops];
    let ip = [0x86, 0xdd].into_iter().chain(ip).chain(src.octets()).chain(dst.octets());
    for (place, octet) in header.iter_mut().skip(12).zip(ip) {
        *place = octet;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vswitch_switch::FramePool;

    #[test]
    fn what_is_written_is_read() {
        let mut frame = FramePool::new(1).take().unwrap();
        let mac = UnicastMac::for_ipv4([10, 88, 0, 1]);
        let (own, peer): (Ipv6Addr, Ipv6Addr) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        assert!(write_solicitation(&mut frame, peer, solicited_node(own), own, mac));
        assert!(is_nd(&frame));
        let (src, dst, message) = read(&frame).unwrap();
        assert_eq!((src, dst), (peer, "ff02::1:ff00:1".parse().unwrap()));
        assert_eq!(message, Message::Solicitation { target: own, mac: Some(mac) });
        assert!(write_advertisement(&mut frame, own, peer, mac, true));
        assert_eq!(
            read(&frame).unwrap().2,
            Message::Advertisement { target: own, mac: Some(mac), solicited: true, overrides: true }
        );
        // RFC 4861 7.1.2: from beyond the link, or with another checksum, it is nothing.
        for (at, octet) in [(ETHERNET_HEADER + 7, 64), (ETHERNET_HEADER + 42, 0xee), (ETHERNET_HEADER + 41, 1)] {
            let before = frame.bytes()[at];
            frame.bytes_mut()[at] = octet;
            assert!(read(&frame).is_err(), "{at}");
            frame.bytes_mut()[at] = before;
        }
        for len in 0..frame.len() {
            let octets = frame.bytes()[..len].to_vec();
            let mut cut = FramePool::new(1).take().unwrap();
            assert!(cut.fill(&octets));
            assert!(!is_nd(&cut) || read(&cut).is_err(), "{len}");
        }
    }

    #[test]
    fn addresses_of_the_link() {
        let mac = UnicastMac::new(Mac([0x02, 0x58, 0x0a, 0x58, 0, 1])).unwrap();
        assert_eq!(link_local(mac), "fe80::58:aff:fe58:1".parse::<Ipv6Addr>().unwrap());
        assert_eq!(group_mac(ALL_NODES), Mac([0x33, 0x33, 0, 0, 0, 1]));
    }
}
