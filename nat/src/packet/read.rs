//! Reading headers, with etherparse: IP with all its extensions, and as much of layer 4 as a NAT looks at.
use super::*;
use crate::slirp::reach::is_link_local_v4;
use etherparse::{IpAuthHeaderSlice, Ipv6FragmentHeaderSlice, Ipv6RawExtHeaderSlice, ip_number};
use vswitch_switch::GsoKind;

/// Whether a router never forwards from or to these addresses.
#[inline]
pub(super) fn is_martian<A: Address>(src: A, dst: A, link_local: bool) -> bool {
    // exception: RFC 3927 7, where the host itself, no router, has the other end; it was allowed for this container.
    !src.is_routable() || !(dst.is_routable() || (link_local && is_link_local_v4(dst)))
}

/// What an IP header says; for [`Packet::parse`] only.
#[derive(Debug)]
pub struct IpRead<A> {
    pub(super) src: A,
    pub(super) dst: A,
    pub(super) protocol: u8,
    /// Octets of all IP headers.
    pub(super) header: usize,
    /// Octets of the packet.
    pub(super) total: usize,
    pub(super) part: Part,
    /// Octets from the packet's start to the IPv6 fragment header, zero for none.
    pub(super) fragment_header: usize,
}

/// A family's header, read: the trait half of [`Packet::parse`].
pub trait Readable: Address {
    /// Judges the IP header at the start of `packet`, which may be followed by padding.
    ///
    /// # Errors
    /// [`DropReason::PacketMalformed`] or [`DropReason::SourceRoute`].
    fn read_ip(packet: &[u8]) -> Result<IpRead<Self>, DropReason>;
}

fn part(id: u32, offset: usize, len: usize, more: bool, header: usize) -> Result<Part, DropReason> {
    if offset == 0 && !more {
        return Ok(Part::Whole);
    }
    // RFC 791 3.2, RFC 8200 4.5: every fragment but the last is a multiple of 8 octets, none is empty or reaches past the longest packet.
    let fits = header + offset + len <= MAX_PACKET;
    match (u16::try_from(offset), u16::try_from(len)) {
        (Ok(offset), Ok(len)) if fits && len > 0 && (!more || len % 8 == 0) => {
            Ok(Part::Fragment(Fragment { id, offset, len, more }))
        }
        _ => Err(MALFORMED),
    }
}

impl Readable for core::net::Ipv4Addr {
    #[inline]
    fn read_ip(packet: &[u8]) -> Result<IpRead<Self>, DropReason> {
        let ip = Ipv4HeaderSlice::from_slice(packet).map_err(|_| MALFORMED)?;
        let (header, total) = (ip.slice().len(), usize::from(ip.total_len()));
        // RFC 1812 5.2.2: a router verifies lengths and the header's checksum.
        if total < header || total > packet.len() || !checksum::is_valid(ip.slice()) {
            return Err(MALFORMED);
        }
        if header > Self::HEADER {
            refuse_source_route(ip.options())?;
        }
        let offset = usize::from(ip.fragments_offset().value()) * 8;
        let part = part(u32::from(ip.identification()), offset, total - header, ip.more_fragments(), header)?;
        let (src, dst, protocol) = (ip.source_addr(), ip.destination_addr(), ip.protocol().0);
        Ok(IpRead { src, dst, protocol, header, total, part, fragment_header: 0 })
    }
}

/// RFC 791 3.1, options: one octet of end (0) or padding (1), else kind, length (both included), data. A source route is refused, as
/// RFC 7126 4.3.5 and 4.4.5 advise.
pub(crate) fn refuse_source_route(mut options: &[u8]) -> Result<(), DropReason> {
    const END: u8 = 0;
    const PADDING: u8 = 1;
    const LOOSE: u8 = 131;
    const STRICT: u8 = 137;
    // Each turn takes at least one of at most 40 octets.
    while let Some((&kind, rest)) = options.split_first() {
        options = match kind {
            END => return Ok(()),
            PADDING => rest,
            LOOSE | STRICT => return Err(DropReason::SourceRoute),
            _ => {
                let len = rest.first().map_or(0, |&len| usize::from(len));
                options.get(len..).filter(|_| len >= 2).ok_or(MALFORMED)?
            }
        };
    }
    Ok(())
}

impl Readable for core::net::Ipv6Addr {
    #[inline]
    fn read_ip(packet: &[u8]) -> Result<IpRead<Self>, DropReason> {
        let ip = Ipv6HeaderSlice::from_slice(packet).map_err(|_| MALFORMED)?;
        let total = Self::HEADER + usize::from(ip.payload_length());
        if total > packet.len() {
            return Err(MALFORMED);
        }
        let (src, dst, next) = (ip.source_addr(), ip.destination_addr(), ip.next_header());
        // The common case has no extensions.
        if matches!(next.0, protocol::TCP | protocol::UDP | protocol::ICMPV6) {
            let (header, part) = (Self::HEADER, Part::Whole);
            return Ok(IpRead { src, dst, protocol: next.0, header, total, part, fragment_header: 0 });
        }
        let (mut at, mut next, mut fragment_header, mut kind) = (Self::HEADER, next, 0, Part::Whole);
        for number in 0..=EXTENSION_LIMIT {
            let rest = packet.get(at..total).ok_or(MALFORMED)?;
            let len = match next {
                // RFC 8200 4.1: directly behind the fixed header only.
                ip_number::IPV6_HOP_BY_HOP if number > 0 => return Err(MALFORMED),
                ip_number::IPV6_HOP_BY_HOP | ip_number::IPV6_DEST_OPTIONS | ip_number::IPV6_ROUTE => {
                    let extension = Ipv6RawExtHeaderSlice::from_slice(rest).map_err(|_| MALFORMED)?;
                    // RFC 8200 4.4: the fourth octet counts the segments left.
                    if next == ip_number::IPV6_ROUTE && extension.slice().get(3).is_none_or(|left| *left != 0) {
                        return Err(DropReason::SourceRoute);
                    }
                    next = extension.next_header();
                    extension.slice().len()
                }
                // One is enough: a fragment's payload would be a fragment.
                ip_number::IPV6_FRAG if fragment_header > 0 => return Err(MALFORMED),
                ip_number::IPV6_FRAG => {
                    let fragment = Ipv6FragmentHeaderSlice::from_slice(rest).map_err(|_| MALFORMED)?;
                    let (offset, more) = (usize::from(fragment.fragment_offset().value()) * 8, fragment.more_fragments());
                    fragment_header = at;
                    // Octets before the fragment header belong to every fragment.
                    let len = rest.len().checked_sub(fragment.slice().len()).ok_or(MALFORMED)?;
                    kind = part(fragment.identification(), offset, len, more, at)?;
                    next = fragment.next_header();
                    fragment.slice().len()
                }
                ip_number::AUTH => {
                    let auth = IpAuthHeaderSlice::from_slice(rest).map_err(|_| MALFORMED)?;
                    next = auth.next_header();
                    auth.slice().len()
                }
                upper => return Ok(IpRead { src, dst, protocol: upper.0, header: at, total, part: kind, fragment_header }),
            };
            at += len;
            // RFC 8200 4.5: what follows is in the first fragment only; in a later one it is payload, whatever it looks like.
            if matches!(kind, Part::Fragment(Fragment { offset: 1.., .. })) {
                return Ok(IpRead { src, dst, protocol: next.0, header: at, total, part: kind, fragment_header });
            }
        }
        Err(MALFORMED)
    }
}

/// What layer 4 says: kind, ports, where the ports lie and where the checksum, the last two from its start on.
pub(super) struct L4 {
    pub(super) transport: Transport,
    pub(super) sport: u16,
    pub(super) dport: u16,
    pub(super) ports: [usize; 2],
    pub(super) checksum: Option<usize>,
}

impl L4 {
    pub(super) const fn without_ports(transport: Transport, checksum: Option<usize>) -> Self {
        Self { transport, sport: 0, dport: 0, ports: [0; 2], checksum }
    }

    /// `whole` octets are the datagram's, of which a first fragment has fewer.
    #[inline]
    pub(super) fn read<A: Address>(number: u8, octets: &[u8], is_whole: bool) -> Result<Self, DropReason> {
        let with_ports = |transport, checksum| {
            let &[s0, s1, d0, d1, ..] = octets else { return Err(MALFORMED) };
            let (sport, dport) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
            Ok(Self { transport, sport, dport, ports: [0, 2], checksum: Some(checksum) })
        };
        match number {
            protocol::TCP => {
                let header = TcpHeaderSlice::from_slice(octets).map_err(|_| MALFORMED)?;
                with_ports(Transport::Tcp(segment(&header, octets)), checksum::TCP_CHECKSUM)
            }
            protocol::UDP => {
                // RFC 768: the length counts the header; it may be less than what IP carries.
                let len = octets.get(4..).and_then(<[u8]>::first_chunk).map_or(0, |len| usize::from(u16::from_be_bytes(*len)));
                if len < 8 || (is_whole && len > octets.len()) {
                    return Err(MALFORMED);
                }
                with_ports(Transport::Udp, checksum::UDP_CHECKSUM)
            }
            // RFC 3828 3.1: a header of eight octets. Its length is a coverage, and the receiver's to judge.
            protocol::UDP_LITE if octets.len() < 8 => Err(MALFORMED),
            protocol::UDP_LITE => with_ports(Transport::Udp, checksum::UDP_CHECKSUM),
            number if number == A::ICMP => Self::read_icmp::<A>(octets),
            protocol::DCCP => Ok(Self::without_ports(Transport::Other, Some(6))),
            _ => Ok(Self::without_ports(Transport::Other, None)),
        }
    }

    fn read_icmp<A: Address>(octets: &[u8]) -> Result<Self, DropReason> {
        let &[kind, _, _, _, i0, i1, _, _, ..] = octets else { return Err(MALFORMED) };
        let id = u16::from_be_bytes([i0, i1]);
        // RFC 792; RFC 4443 2.1: types below 128 are errors.
        let (is_request, is_reply, is_error) =
            if A::IS_V6 { (kind == 128, kind == 129, kind < 128) } else { (kind == 8, kind == 0, matches!(kind, 3 | 4 | 11 | 12)) };
        Ok(if is_request {
            Self { transport: Transport::Echo { request: true }, sport: id, dport: 0, ports: [4, 0], checksum: Some(2) }
        } else if is_reply {
            Self { transport: Transport::Echo { request: false }, sport: 0, dport: id, ports: [0, 4], checksum: Some(2) }
        } else {
            Self::without_ports(if is_error { Transport::Error } else { Transport::Other }, Some(2))
        })
    }
}

/// Whether frames of such a kind carry that protocol over that family.
pub(super) const fn is_of(kind: GsoKind, is_v6: bool, number: u8) -> bool {
    match kind {
        GsoKind::TcpV4 => !is_v6 && number == protocol::TCP,
        GsoKind::TcpV6 => is_v6 && number == protocol::TCP,
        GsoKind::UdpL4 => number == protocol::UDP,
    }
}

fn segment(header: &TcpHeaderSlice<'_>, octets: &[u8]) -> Segment {
    const FLAGS: usize = 13;
    const MSS: u8 = 2;
    const WINDOW_SCALE: u8 = 3;
    let flags = header.slice().get(FLAGS).copied().unwrap_or(0);
    let options = header.options();
    let (mut scale, mut mss) = (None, None);
    if flags & tcp::SYN != 0 {
        // RFC 7323 2.3: a shift above 14 is taken as 14.
        scale = find_option(options, WINDOW_SCALE).and_then(|at| options.get(at + 2)).map(|shift| (*shift).min(14));
        mss = find_option(options, MSS).and_then(|at| options.get(at + 2..at + 4)).and_then(<[u8]>::first_chunk);
    }
    Segment {
        seq: header.sequence_number(),
        ack: header.acknowledgment_number(),
        flags,
        window: header.window_size(),
        len: (octets.len() - header.slice().len()) as u32,
        scale,
        mss: mss.map(|mss| u16::from_be_bytes(*mss)),
    }
}

/// Where an option of a TCP header begins (RFC 9293 3.1).
pub(super) fn find_option(options: &[u8], wanted: u8) -> Option<usize> {
    let mut at = 0;
    // Each turn takes at least one of at most 40 octets.
    loop {
        match *options.get(at)? {
            0 => return None,
            1 => at += 1,
            kind => {
                let len = usize::from(*options.get(at + 1)?);
                if len < 2 || at + len > options.len() {
                    return None;
                }
                if kind == wanted {
                    return Some(at);
                }
                at += len;
            }
        }
    }
}
