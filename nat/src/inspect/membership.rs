//! Reading IGMP (RFC 1112, RFC 2236, RFC 3376) and MLD (RFC 2710, RFC 3810) as a snooping switch does (RFC 4541), and writing its queries.
//!
//! A message counts with the right checksum (or one that an offload is still to make), from its own link: hop limit 1, and MLD with a
//! link-local source (or none, RFC 3590) and the router alert option (RFC 3810 6.2, 5). exception: IGMP is believed without that option, for
//! version 1 has none and Linux' bridge asks for none. What does not count is carried like any other frame to its group.
//!
//! Source filters are reduced to whether a group is wanted at all: whoever wants it from one source is given all of it.
use crate::checksum;
use core::net::{Ipv4Addr, Ipv6Addr};
use vswitch_switch::groups::{Change, Family, Group};
use vswitch_switch::{Csum, EtherType, FrameBuf, Head, Mac, UnicastMac};

/// Group records that are read of one report: what 1,500 octets hold.
const RECORDS: u16 = 184;
const IGMP: u8 = 2;
const ICMPV6: u8 = 58;
/// What an answer to a general query may take, in tenths of a second and in milliseconds: 10 s.
const RESPONSE_TENTHS: u8 = 100;
const RESPONSE_MILLIS: u16 = 10_000;
/// The same to a query about one group: 1 s.
const LAST_TENTHS: u8 = 10;
const LAST_MILLIS: u16 = 1_000;

/// A message that counts.
#[derive(Clone, Copy)]
enum Message<'a> {
    One(Option<Change>),
    Records { rest: &'a [u8], left: u16, family: Family },
}

/// What a message says, change by change.
pub struct Changes<'a>(Message<'a>);

fn group_v4(octets: &[u8]) -> Option<Group> {
    let &[a, b, c, d] = octets.first_chunk()?;
    // 224.0.0.0/24, and what shares its addresses, everybody gets (RFC 4541 2.1.2 (2)).
    if a & 0xf0 != 0xe0 || (b & 0x7f, c) == (0, 0) {
        return None;
    }
    let name = u128::from(Ipv4Addr::new(a, b, c, d).to_bits()) | 0xffff << 32;
    Some(Group { name, mac: Mac([0x01, 0, 0x5e, b & 0x7f, c, d]), family: Family::V4 })
}

fn group_v6(octets: &[u8]) -> Option<Group> {
    let address = Ipv6Addr::from_octets(*octets.first_chunk()?);
    let [first, scope, ..] = address.octets();
    // RFC 3810 6: neither all nodes nor what stays in a host is reported.
    if first != 0xff || scope & 0xf < 2 || address == crate::ndp::ALL_NODES {
        return None;
    }
    Some(Group { name: address.to_bits(), mac: crate::ndp::group_mac(address), family: Family::V6 })
}

/// Octets of an address.
const fn address_len(family: Family) -> usize {
    match family {
        Family::V4 => 4,
        Family::V6 => 16,
    }
}

impl Iterator for Changes<'_> {
    type Item = Change;

    fn next(&mut self) -> Option<Change> {
        let Message::Records { rest, left, family } = &mut self.0 else {
            let Message::One(change) = &mut self.0 else { return None };
            return change.take();
        };
        while *left > 0 {
            *left -= 1;
            let address = address_len(*family);
            let &[kind, aux, high, low, ..] = *rest else { return None };
            let sources = usize::from(u16::from_be_bytes([high, low]));
            let group = rest.get(4..)?;
            // RFC 3376 4.2.4 to 4.2.7, RFC 3810 5.2.4 to 5.2.8.
            *rest = rest.get(4 + address * (1 + sources) + usize::from(aux) * 4..)?;
            let group = match family {
                Family::V4 => group_v4(group),
                Family::V6 => group_v6(group),
            };
            let Some(group) = group else { continue };
            // RFC 3376 4.2.12, RFC 3810 5.2.12: 1 and 3 to INCLUDE, 2 and 4 to EXCLUDE, 5 allows sources, 6 blocks some.
            match (kind, sources) {
                (1 | 3, 0) => return Some(Change::Leave(group)),
                (2 | 4, _) | (1 | 3 | 5, 1..) => return Some(Change::Join(group)),
                (_, _) => {}
            }
        }
        None
    }
}

/// Whether a frame is a message that counts.
pub(super) fn is_report(frame: &FrameBuf, head: &Head) -> bool {
    read(frame, head).is_some()
}

/// What a frame says that was [`super::Inspected::Report`]; nothing where it is none.
#[must_use]
pub fn changes<'a>(frame: &'a FrameBuf, head: &Head) -> Changes<'a> {
    Changes(read(frame, head).unwrap_or(Message::One(None)))
}

fn read<'a>(frame: &'a FrameBuf, head: &Head) -> Option<Message<'a>> {
    let packet = frame.bytes().get(usize::from(head.l3)..)?;
    let is_checked = frame.meta.csum == Csum::Complete;
    match head.ethertype {
        EtherType::IPV4 => read_v4(packet, is_checked),
        EtherType::IPV6 => read_v6(packet, is_checked),
        _ => None,
    }
}

fn read_v4(packet: &[u8], is_checked: bool) -> Option<Message<'_>> {
    let &[first, _, l0, l1, _, _, flags, offset, ttl, IGMP, _, _, s0, s1, s2, s3, ..] = packet.first_chunk::<20>()? else {
        return None;
    };
    let fragment = u16::from_be_bytes([flags, offset]) & 0x3fff;
    if first >> 4 != 4 || fragment != 0 || ttl != 1 {
        return None;
    }
    let message = packet.get(usize::from(first & 0xf) * 4..usize::from(u16::from_be_bytes([l0, l1])))?;
    let &[kind, _, _, _, _, _, n0, n1, ..] = message else { return None };
    if is_checked && !checksum::is_valid(message) {
        return None;
    }
    let group = message.get(4..).and_then(group_v4);
    Some(match kind {
        // RFC 4541 2.1.1 (1) b: from 0.0.0.0 it is a proxy's, not a router's.
        0x11 if [s0, s1, s2, s3] != [0; 4] => Message::One(Some(Change::Query(Family::V4))),
        0x12 | 0x16 => Message::One(group.map(Change::Join)),
        0x17 => Message::One(group.map(Change::Leave)),
        0x22 => Message::Records { rest: message.get(8..)?, left: u16::from_be_bytes([n0, n1]).min(RECORDS), family: Family::V4 },
        _ => return None,
    })
}

fn read_v6(packet: &[u8], is_checked: bool) -> Option<Message<'_>> {
    let (header, _) = packet.split_first_chunk::<40>()?;
    let &[_, _, _, _, l0, l1, 0, 1, ref addresses @ ..] = header else { return None };
    let (src, dst) = (*addresses.first_chunk::<16>()?, *addresses.last_chunk::<16>()?);
    let payload = packet.get(40..40 + usize::from(u16::from_be_bytes([l0, l1])))?;
    let &[ICMPV6, len, ..] = payload else { return None };
    let (options, message) = payload.split_at_checked((usize::from(len) + 1) * 8)?;
    let address = Ipv6Addr::from_octets(src);
    if !has_router_alert(options.get(2..)?) || !(address.is_unicast_link_local() || address.is_unspecified()) {
        return None;
    }
    let sum = checksum::add(checksum::pseudo_v6(src, dst, ICMPV6, message.len() as u32), checksum::sum(message));
    if is_checked && sum != 0xffff {
        return None;
    }
    let &[kind, _, _, _, _, _, n0, n1, ..] = message else { return None };
    let group = message.get(8..).and_then(group_v6);
    Some(match kind {
        // RFC 3810 5.1.14: a query without a source is nobody's.
        130 if !address.is_unspecified() => Message::One(Some(Change::Query(Family::V6))),
        131 => Message::One(group.map(Change::Join)),
        132 => Message::One(group.map(Change::Leave)),
        143 => Message::Records { rest: message.get(8..)?, left: u16::from_be_bytes([n0, n1]).min(RECORDS), family: Family::V6 },
        _ => return None,
    })
}

/// RFC 2711 2.1: option 5, of 2 octets, which are 0 for MLD.
fn has_router_alert(mut options: &[u8]) -> bool {
    while let [kind, rest @ ..] = options {
        match (*kind, rest) {
            (0, rest) => options = rest,
            (5, [2, 0, 0, ..]) => return true,
            (_, [len, rest @ ..]) => options = rest.get(usize::from(*len)..).unwrap_or_default(),
            (_, []) => return false,
        }
    }
    false
}

/// Writes a query: a general one, or about one group. IGMP's is version 3 and from 0.0.0.0, as a proxy's (RFC 4541 2.1.1 (1) b), MLD's
/// version 2 and from `source`, link-local. It is complete but for a tag.
#[must_use]
pub fn write_query(frame: &mut FrameBuf, family: Family, group: Option<Group>, mac: UnicastMac, source: Ipv6Addr) -> bool {
    match family {
        Family::V4 => write_v4(frame, group, mac),
        Family::V6 => write_v6(frame, group, mac, source),
    }
}

fn write_v4(frame: &mut FrameBuf, group: Option<Group>, mac: UnicastMac) -> bool {
    let address = group.map_or([0; 4], |group| (group.name as u32).to_be_bytes());
    let (dst, to) = group.map_or(([224, 0, 0, 1], Mac([0x01, 0, 0x5e, 0, 0, 1])), |group| (address, group.mac));
    let tenths = if group.is_some() { LAST_TENTHS } else { RESPONSE_TENTHS };
    // RFC 3376 4.1: S and QRV (robustness 2), QQIC 125 s, no sources.
    let [a, b, c, d] = address;
    let mut igmp = [0x11, tenths, 0, 0, a, b, c, d, 2, 125, 0, 0];
    let [c0, c1] = checksum::checksum(&igmp).to_be_bytes();
    (igmp[2], igmp[3]) = (c0, c1);
    // Precedence 6, length 36, DF, TTL 1, router alert (RFC 2113).
    let mut ip = [0x46, 0xc0, 0, 36, 0, 0, 0x40, 0, 1, IGMP, 0, 0, 0, 0, 0, 0, dst[0], dst[1], dst[2], dst[3], 0x94, 4, 0, 0];
    let [c0, c1] = checksum::checksum(&ip).to_be_bytes();
    (ip[10], ip[11]) = (c0, c1);
    write(frame, to, mac, EtherType::IPV4, &[&ip, &igmp])
}

fn write_v6(frame: &mut FrameBuf, group: Option<Group>, mac: UnicastMac, source: Ipv6Addr) -> bool {
    let address = Ipv6Addr::from_bits(group.map_or(0, |group| group.name));
    let dst = group.map_or(crate::ndp::ALL_NODES, |_| address);
    let [m0, m1] = if group.is_some() { LAST_MILLIS } else { RESPONSE_MILLIS }.to_be_bytes();
    let mut mld = [0; 28];
    let fields = [130, 0, 0, 0, m0, m1, 0, 0].into_iter().chain(address.octets()).chain([2, 125, 0, 0]);
    for (place, octet) in mld.iter_mut().zip(fields) {
        *place = octet;
    }
    let pseudo = checksum::pseudo_v6(source.octets(), dst.octets(), ICMPV6, mld.len() as u32);
    let [c0, c1] = (!checksum::add(pseudo, checksum::sum(&mld))).to_be_bytes();
    (mld[2], mld[3]) = (c0, c1);
    // Hop-by-hop options: router alert for MLD, two octets of padding.
    let options = [ICMPV6, 0, 5, 2, 0, 0, 1, 0];
    let ip = [0x60, 0, 0, 0, 0, 36, 0, 1];
    write(frame, crate::ndp::group_mac(dst), mac, EtherType::IPV6, &[&ip, &source.octets(), &dst.octets(), &options, &mld])
}

fn write(frame: &mut FrameBuf, dst: Mac, src: UnicastMac, ethertype: EtherType, parts: &[&[u8]]) -> bool {
    /// The longer one.
    const LONGEST: usize = 14 + 40 + 8 + 28;
    let mut octets = [0; LONGEST];
    let head = dst.0.into_iter().chain(src.mac().0).chain(ethertype.0.to_be_bytes());
    let mut len = 0;
    for (place, octet) in octets.iter_mut().zip(head.chain(parts.iter().flat_map(|part| part.iter().copied()))) {
        *place = octet;
        len += 1;
    }
    octets.get(..len).is_some_and(|octets| frame.fill(octets))
}
