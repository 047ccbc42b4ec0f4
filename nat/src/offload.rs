//! Software offload, for a port that cannot take a frame's metadata: checksums finished, GSO frames cut.
//!
//! Everything is written into the caller's scratch buffer; the frame itself is only read, for others may still send it.
//! Segments follow the kernel's rules: IPv4 length, identification and header checksum; IPv6 payload length; TCP sequence numbers,
//! FIN and PSH only on the last, CWR only on the first; UDP length; layer 4 checksum in full.
use crate::checksum;
use vswitch_switch::frame::GsoKind;
use vswitch_switch::head::ETHERNET_HEADER;
use vswitch_switch::{Csum, DropReason, FrameBuf, Gso};

const TCP: u8 = 6;
const UDP: u8 = 17;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// Copies a frame into `scratch` with its checksum finished; says how many octets it has, `None` when they do not fit.
#[must_use]
pub fn finish_into(frame: &FrameBuf, scratch: &mut [u8]) -> Option<usize> {
    let octets = frame.bytes();
    let place = scratch.get_mut(..octets.len())?;
    place.copy_from_slice(octets);
    match frame.meta.csum {
        Csum::Complete => Some(octets.len()),
        Csum::Partial { start, offset } => checksum::finish(place, usize::from(start), usize::from(offset)).then_some(octets.len()),
    }
}

/// The segments of a GSO frame, one at a time.
#[derive(Debug)]
pub struct Segments<'a> {
    octets: &'a [u8],
    gso: Gso,
    is_v4: bool,
    /// Payload octets already written.
    done: usize,
    index: u16,
}

fn set(octets: &mut [u8], at: usize, value: &[u8]) -> Option<()> {
    octets.get_mut(at..at + value.len())?.copy_from_slice(value);
    Some(())
}

fn word(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(octets.get(at..at + 2)?.try_into().ok()?))
}

impl<'a> Segments<'a> {
    /// # Errors
    /// [`DropReason::GsoUnsupported`] where the frame is not what its metadata says.
    pub fn new(frame: &'a FrameBuf) -> Result<Self, DropReason> {
        let octets = frame.bytes();
        let gso = frame.meta.gso.ok_or(DropReason::GsoUnsupported)?;
        let version = octets.get(ETHERNET_HEADER).map(|octet| octet >> 4);
        let is_v4 = match (gso.kind, version) {
            (GsoKind::TcpV4 | GsoKind::UdpL4, Some(4)) => true,
            (GsoKind::TcpV6 | GsoKind::UdpL4, Some(6)) => false,
            _ => return Err(DropReason::GsoUnsupported),
        };
        let smallest = ETHERNET_HEADER + if is_v4 { 20 } else { 40 };
        if usize::from(gso.l4) < smallest || usize::from(gso.headers) >= octets.len() {
            return Err(DropReason::GsoUnsupported);
        }
        Ok(Self { octets, gso, is_v4, done: 0, index: 0 })
    }

    /// Writes the next segment into `scratch`; says how many octets it has, `None` at the end.
    pub fn next_into(&mut self, scratch: &mut [u8]) -> Option<usize> {
        let headers = usize::from(self.gso.headers);
        let payload = self.octets.get(headers + self.done..)?;
        let size = payload.len().min(usize::from(self.gso.size.get()));
        if size == 0 {
            return None;
        }
        let is_last = size == payload.len();
        let len = headers + size;
        let segment = scratch.get_mut(..len)?;
        set(segment, 0, self.octets.get(..headers)?)?;
        set(segment, headers, payload.get(..size)?)?;
        self.write_l3(segment, len)?;
        self.write_l4(segment, len, is_last)?;
        self.done += size;
        self.index = self.index.wrapping_add(1);
        Some(len)
    }

    fn write_l3(&self, segment: &mut [u8], len: usize) -> Option<()> {
        let l3 = ETHERNET_HEADER;
        if !self.is_v4 {
            return set(segment, l3 + 4, &u16::try_from(len - l3 - 40).ok()?.to_be_bytes());
        }
        set(segment, l3 + 2, &u16::try_from(len - l3).ok()?.to_be_bytes())?;
        let id = word(segment, l3 + 4)?.wrapping_add(self.index);
        set(segment, l3 + 4, &id.to_be_bytes())?;
        set(segment, l3 + 10, &[0, 0])?;
        let checksum = checksum::of(segment.get(l3..usize::from(self.gso.l4))?);
        set(segment, l3 + 10, &checksum.to_be_bytes())
    }

    fn write_l4(&self, segment: &mut [u8], len: usize, is_last: bool) -> Option<()> {
        let l4 = usize::from(self.gso.l4);
        let l4_len = len - l4;
        let (protocol, field) = match self.gso.kind {
            GsoKind::TcpV4 | GsoKind::TcpV6 => {
                let sequence = u32::from_be_bytes(segment.get(l4 + 4..l4 + 8)?.try_into().ok()?);
                set(segment, l4 + 4, &sequence.wrapping_add(self.done as u32).to_be_bytes())?;
                let flags = segment.get_mut(l4 + 13)?;
                if !is_last {
                    *flags &= !(FIN | PSH);
                }
                if self.index > 0 {
                    *flags &= !CWR;
                }
                (TCP, l4 + 16)
            }
            GsoKind::UdpL4 => {
                set(segment, l4 + 4, &u16::try_from(l4_len).ok()?.to_be_bytes())?;
                (UDP, l4 + 6)
            }
        };
        set(segment, field, &[0, 0])?;
        let addresses =
            if self.is_v4 { ETHERNET_HEADER + 12..ETHERNET_HEADER + 20 } else { ETHERNET_HEADER + 8..ETHERNET_HEADER + 40 };
        let pseudo = checksum::sum(segment.get(addresses)?) + u64::from(protocol) + l4_len as u64;
        let mut checksum = !checksum::fold(pseudo + checksum::sum(segment.get(l4..)?));
        if checksum == 0 && protocol == UDP {
            checksum = 0xffff;
        }
        set(segment, field, &checksum.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use pnet_packet::ipv4::Ipv4Packet;
    use pnet_packet::ipv6::Ipv6Packet;
    use pnet_packet::tcp::TcpPacket;
    use pnet_packet::udp::UdpPacket;
    use pnet_packet::{Packet, ipv4, tcp, udp};
    use proptest::prelude::*;
    use vswitch_switch::{FramePool, Tpid};

    const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

    /// A GSO frame as a TAP hands it: `kind` 1 TCPv4, 4 TCPv6, 5 UDP over IPv4.
    fn gso_frame(kind: u8, size: u16, payload: &[u8]) -> FrameBuf {
        let l3: Vec<u8> = if kind == 4 {
            [&[0x60, 0, 0, 0, 0, 0, 6, 64][..], &[0xfd; 32]].concat()
        } else {
            let mut header =
                [0x45, 0, 0, 0, 0xff, 0xff, 0x40, 0, 64, if kind == 5 { 17 } else { 6 }, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
            let total = 20 + if kind == 5 { 8 } else { 20 } + payload.len() as u16;
            header[2..4].copy_from_slice(&total.to_be_bytes());
            header.to_vec()
        };
        let l4: &[u8] = if kind == 5 {
            &[0, 1, 0, 2, 0, 0, 0, 0]
        } else {
            &[0, 1, 0, 2, 0xff, 0xff, 0xff, 0, 0, 0, 0, 9, 0x50, 0x99, 1, 0, 0, 0, 0, 0]
        };
        let start = (14 + l3.len()) as u16;
        let mut vnet = [1, kind, 0, 0, 0, 0, 0, 0, 0, 0];
        vnet[4..6].copy_from_slice(&size.to_ne_bytes());
        vnet[6..8].copy_from_slice(&start.to_ne_bytes());
        vnet[8..10].copy_from_slice(&(if kind == 5 { 6u16 } else { 16 }).to_ne_bytes());
        let ethertype: [u8; 2] = if kind == 4 { [0x86, 0xdd] } else { [8, 0] };
        let octets = [&vnet[..], &MACS, &ethertype, &l3, l4, payload].concat();
        let mut frame = FramePool::new(1).take().unwrap();
        frame.space()[..octets.len()].copy_from_slice(&octets);
        frame.receive(octets.len(), None, Tpid::Dot1q).unwrap();
        frame
    }

    fn cut(frame: &FrameBuf) -> Vec<Vec<u8>> {
        let mut scratch = alloc::vec![0xa5; 65_600];
        let mut segments = Segments::new(frame).unwrap();
        core::iter::from_fn(|| segments.next_into(&mut scratch).map(|len| scratch[..len].to_vec())).collect()
    }

    proptest! {
        #[test]
        fn tcp_v4_segments_are_right(payload in proptest::collection::vec(any::<u8>(), 1..6_000), size in 1u16..2_000) {
            let segments = cut(&gso_frame(1, size, &payload));
            let mut joined = Vec::new();
            for (index, octets) in segments.iter().enumerate() {
                let ip = Ipv4Packet::new(&octets[14..]).unwrap();
                let segment = TcpPacket::new(ip.payload()).unwrap();
                prop_assert_eq!(ip.get_checksum(), ipv4::checksum(&ip));
                prop_assert_eq!(ip.get_identification(), 0xffffu16.wrapping_add(index as u16));
                prop_assert_eq!(segment.get_checksum(), tcp::ipv4_checksum(&segment, &ip.get_source(), &ip.get_destination()));
                prop_assert_eq!(segment.get_sequence(), 0xffff_ff00u32.wrapping_add(joined.len() as u32));
                let last = index + 1 == segments.len();
                prop_assert_eq!(segment.get_flags() & 0x9, if last { 0x9 } else { 0 });
                prop_assert_eq!(segment.get_flags() & 0x80 != 0, index == 0);
                joined.extend_from_slice(segment.payload());
            }
            prop_assert_eq!(joined, payload);
        }

        #[test]
        fn tcp_v6_segments_are_right(payload in proptest::collection::vec(any::<u8>(), 1..6_000), size in 1u16..2_000) {
            let mut joined = Vec::new();
            for octets in cut(&gso_frame(4, size, &payload)) {
                let ip = Ipv6Packet::new(&octets[14..]).unwrap();
                let segment = TcpPacket::new(ip.payload()).unwrap();
                prop_assert_eq!(segment.get_checksum(), tcp::ipv6_checksum(&segment, &ip.get_source(), &ip.get_destination()));
                joined.extend_from_slice(segment.payload());
            }
            prop_assert_eq!(joined, payload);
        }

        #[test]
        fn udp_segments_are_right(payload in proptest::collection::vec(any::<u8>(), 1..6_000), size in 1u16..2_000) {
            let mut joined = Vec::new();
            for octets in cut(&gso_frame(5, size, &payload)) {
                let ip = Ipv4Packet::new(&octets[14..]).unwrap();
                let datagram = UdpPacket::new(ip.payload()).unwrap();
                prop_assert_eq!(datagram.get_checksum(), udp::ipv4_checksum(&datagram, &ip.get_source(), &ip.get_destination()));
                prop_assert_eq!(usize::from(datagram.get_length()), ip.payload().len());
                joined.extend_from_slice(datagram.payload());
            }
            prop_assert_eq!(joined, payload);
        }
    }
}
