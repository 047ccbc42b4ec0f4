//! Who talks to whom: addresses of either family, and the tuple that names a flow in one direction.
//!
//! Everything about a flow is generic over the address, [`Ipv4Addr`] or [`Ipv6Addr`], and instantiated twice: one code for both
//! families, separate tables, and no octet of a 128-bit address in an IPv4 session.
use crate::checksum;
use core::fmt::{Debug, Display};
use core::hash::{Hash, Hasher};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Assigned protocol numbers (IANA) that are treated apart.
pub mod protocol {
    /// RFC 792.
    pub const ICMP: u8 = 1;
    /// RFC 9293.
    pub const TCP: u8 = 6;
    /// RFC 768.
    pub const UDP: u8 = 17;
    /// RFC 4340; its checksum covers the addresses.
    pub const DCCP: u8 = 33;
    /// RFC 4443.
    pub const ICMPV6: u8 = 58;
    /// RFC 3828; its checksum covers the addresses.
    pub const UDP_LITE: u8 = 136;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for core::net::Ipv4Addr {}
    impl Sealed for core::net::Ipv6Addr {}
}

/// An address of one family: [`Ipv4Addr`] or [`Ipv6Addr`], nothing else.
pub trait Address: sealed::Sealed + Copy + Eq + Ord + Debug + Display + Into<IpAddr> + 'static {
    /// Whether this is IPv6.
    const IS_V6: bool;
    /// The protocol number of the family's ICMP.
    const ICMP: u8;
    /// Octets of the fixed IP header.
    const HEADER: usize;
    /// Octets from the IP header's start to the source address; the destination follows it.
    const SOURCE: usize;
    /// Octets of an address.
    const LEN: usize;
    /// The MTU that every link must have (RFC 791 3.2: 68; RFC 8200 5: 1280).
    const LEAST_MTU: usize;

    /// The octets, in network order, as a number.
    fn bits(self) -> u128;
    /// The inverse; bits beyond the family's are ignored.
    fn of_bits(bits: u128) -> Self;
    /// Reads an address at the start of `octets`.
    fn read(octets: &[u8]) -> Option<Self>;
    /// Writes it to the start of `octets`; does nothing where they are too few.
    fn write(self, octets: &mut [u8]);
    /// The ones' complement sum of its octets.
    fn sum(self) -> u16;
    /// The sum of the pseudo-header.
    fn pseudo(self, dst: Self, protocol: u8, len: u32) -> u16;
    /// Whether it may name one host beyond a router: neither a group, nor loopback, nor unspecified, nor (IPv6) link-local, nor
    /// reserved (RFC 1812 5.3.7, RFC 4291 2.5).
    fn is_routable(self) -> bool;
    /// From either family.
    fn of(address: IpAddr) -> Option<Self>;
    /// Whether the first `prefix` bits are those of `other`.
    fn has_prefix(self, other: Self, prefix: u8) -> bool {
        let width = Self::LEN as u32 * 8;
        let host = width.saturating_sub(u32::from(prefix));
        host >= width || (self.bits() ^ other.bits()) >> host == 0
    }
}

impl Address for Ipv4Addr {
    const IS_V6: bool = false;
    const ICMP: u8 = protocol::ICMP;
    const HEADER: usize = 20;
    const SOURCE: usize = 12;
    const LEN: usize = 4;
    const LEAST_MTU: usize = 68;

    #[inline]
    fn bits(self) -> u128 {
        u128::from(self.to_bits())
    }

    fn of_bits(bits: u128) -> Self {
        Self::from_bits(bits as u32)
    }

    #[inline]
    fn read(octets: &[u8]) -> Option<Self> {
        octets.first_chunk::<4>().map(|octets| Self::from(*octets))
    }

    #[inline]
    fn write(self, octets: &mut [u8]) {
        if let Some(place) = octets.first_chunk_mut() {
            *place = self.octets();
        }
    }

    #[inline]
    fn sum(self) -> u16 {
        let bits = self.to_bits();
        checksum::add((bits >> 16) as u16, bits as u16)
    }

    fn pseudo(self, dst: Self, protocol: u8, len: u32) -> u16 {
        checksum::pseudo_v4(self.octets(), dst.octets(), protocol, len as u16)
    }

    #[inline]
    fn is_routable(self) -> bool {
        let bits = self.to_bits();
        // 0/8 (RFC 1122 3.2.1.3), 127/8, 169.254/16 (RFC 3927 7), 224/4 and 240/4.
        !(bits >= 0xe000_0000 || matches!(bits >> 24, 0 | 127) || bits >> 16 == 0xa9fe)
    }

    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }
}

impl Address for Ipv6Addr {
    const IS_V6: bool = true;
    const ICMP: u8 = protocol::ICMPV6;
    const HEADER: usize = 40;
    const SOURCE: usize = 8;
    const LEN: usize = 16;
    const LEAST_MTU: usize = 1_280;

    #[inline]
    fn bits(self) -> u128 {
        self.to_bits()
    }

    fn of_bits(bits: u128) -> Self {
        Self::from_bits(bits)
    }

    #[inline]
    fn read(octets: &[u8]) -> Option<Self> {
        octets.first_chunk::<16>().map(|octets| Self::from(*octets))
    }

    #[inline]
    fn write(self, octets: &mut [u8]) {
        if let Some(place) = octets.first_chunk_mut() {
            *place = self.octets();
        }
    }

    #[inline]
    fn sum(self) -> u16 {
        checksum::sum(&self.octets())
    }

    fn pseudo(self, dst: Self, protocol: u8, len: u32) -> u16 {
        checksum::pseudo_v6(self.octets(), dst.octets(), protocol, len)
    }

    #[inline]
    fn is_routable(self) -> bool {
        let bits = self.to_bits();
        // ff00::/8, fe80::/10, and ::/96 with the unspecified, loopback and v4-compatible; ::ffff:0:0/96 is never on a wire (RFC 4291 2.5.5).
        !(bits >> 120 == 0xff || bits >> 118 == 0xfe80 >> 6 || bits >> 32 == 0 || bits >> 32 == 0xffff)
    }

    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        }
    }
}

/// A flow in one direction. Ports are zero where the protocol has none; an echo request has its identifier as source port, an echo
/// reply as destination port, so that one is the other's reverse.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tuple<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Protocol number.
    pub protocol: u8,
}

impl<A: Address> Tuple<A> {
    /// The flow the other way.
    #[inline]
    #[must_use]
    pub const fn reverse(self) -> Self {
        Self { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport, protocol: self.protocol }
    }

    /// Its sender.
    #[inline]
    #[must_use]
    pub const fn source(self) -> Endpoint<A> {
        Endpoint { address: self.src, port: self.sport, protocol: self.protocol }
    }

    /// Its receiver.
    #[inline]
    #[must_use]
    pub const fn destination(self) -> Endpoint<A> {
        Endpoint { address: self.dst, port: self.dport, protocol: self.protocol }
    }
}

// By whole words: derived, each array would be hashed octet by octet with its length before it.
impl<A: Address> Hash for Tuple<A> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ports = u64::from(self.sport) << 32 | u64::from(self.dport) << 16 | u64::from(self.protocol);
        if A::IS_V6 {
            state.write_u128(self.src.bits());
            state.write_u128(self.dst.bits());
        } else {
            state.write_u64((self.src.bits() as u64) << 32 | self.dst.bits() as u64);
        }
        state.write_u64(ports);
    }
}

/// An address and a port of one protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Endpoint<A> {
    /// Address.
    pub address: A,
    /// Port, or the identifier of an echo.
    pub port: u16,
    /// Protocol number.
    pub protocol: u8,
}

impl<A: Address> Hash for Endpoint<A> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let port = u64::from(self.port) << 8 | u64::from(self.protocol);
        if A::IS_V6 {
            state.write_u128(self.address.bits());
            state.write_u64(port);
        } else {
            state.write_u64((self.address.bits() as u64) << 32 | port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_router_never_forwards() {
        for address in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "169.254.1.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"] {
            assert!(!address.parse::<Ipv4Addr>().unwrap().is_routable(), "{address}");
        }
        for address in ["1.1.1.1", "10.0.0.1", "223.255.255.254", "169.253.0.1"] {
            assert!(address.parse::<Ipv4Addr>().unwrap().is_routable(), "{address}");
        }
        for address in ["::", "::1", "::1.2.3.4", "::ffff:1.2.3.4", "fe80::1", "febf::1", "ff02::1"] {
            assert!(!address.parse::<Ipv6Addr>().unwrap().is_routable(), "{address}");
        }
        for address in ["2001:db8::1", "fd00::1", "fec0::1", "64:ff9b::1"] {
            assert!(address.parse::<Ipv6Addr>().unwrap().is_routable(), "{address}");
        }
    }

    #[test]
    fn prefixes() {
        let (a, b): (Ipv4Addr, Ipv4Addr) = ("10.0.0.1".parse().unwrap(), "10.0.0.254".parse().unwrap());
        assert!(a.has_prefix(b, 24) && a.has_prefix(b, 0) && !a.has_prefix(b, 25) && !a.has_prefix(b, 32) && a.has_prefix(a, 255));
        let (a, b): (Ipv6Addr, Ipv6Addr) = ("fd00::1".parse().unwrap(), "fd00::8000:0:0:1".parse().unwrap());
        assert!(a.has_prefix(b, 64) && !a.has_prefix(b, 65) && a.has_prefix(b, 0));
    }

    #[test]
    fn sums_are_those_of_the_octets() {
        let v4: Ipv4Addr = "198.51.100.7".parse().unwrap();
        assert_eq!(Address::sum(v4), checksum::sum(&v4.octets()));
        assert_eq!(Ipv4Addr::of_bits(Address::bits(v4)), v4);
        let v6: Ipv6Addr = "2001:db8::7".parse().unwrap();
        assert_eq!(Address::sum(v6), checksum::sum(&v6.octets()));
        assert_eq!(Ipv6Addr::of_bits(Address::bits(v6)), v6);
    }
}
