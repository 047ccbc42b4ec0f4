//! Frames made well: what a fuzzer would be long in finding by itself.
use super::switch::station;
use vswitch_nat::checksum;
use vswitch_switch::Mac;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Segment sizes; the first cuts into single octets.
const SIZES: [u16; 8] = [1, 8, 100, 536, 1_448, 9_000, 65_000, 0];

/// How layer 3 and 4 look.
#[derive(Clone, Copy)]
enum Kind {
    /// Garbage behind a local experimental EtherType.
    Local,
    /// An ARP request for the gateway.
    Arp,
    /// An echo request to it.
    Ping,
    /// A TCP segment or UDP datagram with a partial checksum; to be cut or not, over IPv4 or IPv6.
    Stream { protocol: u8, v6: bool, gso: u8, partial: bool },
}

const KINDS: [Kind; 9] = [
    Kind::Local,
    Kind::Arp,
    Kind::Ping,
    Kind::Stream { protocol: UDP, v6: false, gso: 0, partial: true },
    Kind::Stream { protocol: TCP, v6: false, gso: 1, partial: true },
    Kind::Stream { protocol: TCP, v6: false, gso: 0x81, partial: false },
    Kind::Stream { protocol: TCP, v6: true, gso: 4, partial: true },
    Kind::Stream { protocol: UDP, v6: false, gso: 5, partial: true },
    Kind::Stream { protocol: UDP, v6: true, gso: 5, partial: false },
];

/// A virtio_net_hdr and a frame, tagged 802.1Q where `tci` is given; `shape` is kind, segment size, and two octets of payload length.
#[must_use]
pub fn frame(dst: u8, src: u8, &[kind, size, l0, l1]: &[u8; 4], tci: Option<&[u8; 2]>) -> Vec<u8> {
    let kind = KINDS[usize::from(kind) % KINDS.len()];
    let size = SIZES[usize::from(size % 8)];
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    // 64 KB are slow: rarely. So are thousands of segments.
    let length = if size <= 8 {
        length % 64
    } else if l0 == 0xff {
        length.min(65_400)
    } else {
        length % 4_096
    };
    let dst = match dst {
        0..=31 => Mac::BROADCAST,
        32..=47 => Mac([0x01, 0x80, 0xc2, 0, 0, dst & 15]),
        _ => station(dst).mac(),
    };
    let tag = tci.map_or(vec![], |tci| [&[0x81, 0][..], tci].concat());
    let l3 = (14 + tag.len()) as u16;
    let (vnet, ethertype, packet) = packet(kind, src, size, l3, &vec![7; length]);
    [&vnet[..], &dst.0, &station(src).mac().0, &tag, &ethertype, &packet].concat()
}

fn packet(kind: Kind, src: u8, size: u16, l3: u16, payload: &[u8]) -> ([u8; 10], [u8; 2], Vec<u8>) {
    let mac = station(src).mac().0;
    let address = [10, 88, 0, src % 16];
    match kind {
        Kind::Local => ([0; 10], [0x88, 0xb6], payload.to_vec()),
        Kind::Arp => {
            let request = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &mac, &address, &[0; 6], &[10, 88, 0, 1]].concat();
            ([0; 10], [8, 6], request)
        }
        Kind::Ping => {
            let mut message = [&[8, 0, 0, 0, 0, 1, 0, 2], payload].concat();
            let sum = checksum::checksum(&message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            ([0; 10], [8, 0], [&ipv4(1, address, message.len())[..], &message].concat())
        }
        Kind::Stream { protocol, v6, gso, partial } => {
            let ip_len: u16 = if v6 { 40 } else { 20 };
            let (header, field): (&[u8], u16) = if protocol == TCP {
                (&[0x10, 0, 0x20, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x99, 0xff, 0xff, 0, 0, 0, 0], 16)
            } else {
                (&[0x10, 0, 0x20, 0, 0, 8, 0, 0], 6)
            };
            let l4 = [header, payload].concat();
            let mut vnet = [0; 10];
            (vnet[0], vnet[1]) = (u8::from(partial), gso);
            let sizes = if gso == 0 { 0 } else { size };
            for (at, value) in [(2, l3 + ip_len + header.len() as u16), (4, sizes), (6, l3 + ip_len), (8, field)] {
                vnet[at..at + 2].copy_from_slice(&value.to_ne_bytes());
            }
            let (ethertype, ip) =
                if v6 { ([0x86, 0xdd], ipv6(protocol, l4.len())) } else { ([8, 0], ipv4(protocol, address, l4.len()).to_vec()) };
            (vnet, ethertype, [ip, l4].concat())
        }
    }
}

fn ipv4(protocol: u8, src: [u8; 4], payload: usize) -> [u8; 20] {
    let [t0, t1] = (20 + payload as u16).to_be_bytes();
    let [s0, s1, s2, s3] = src;
    let mut header = [0x45, 0, t0, t1, 0, 1, 0x40, 0, 64, protocol, 0, 0, s0, s1, s2, s3, 10, 88, 0, 1];
    let sum = checksum::checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

fn ipv6(protocol: u8, payload: usize) -> Vec<u8> {
    let [l0, l1] = (payload as u16).to_be_bytes();
    [&[0x60, 0, 0, 0, l0, l1, protocol, 64][..], &[0xfd; 32]].concat()
}
