//! MAC addresses (IEEE 802-2014 8.2): [`Mac`] is any six octets, [`UnicastMac`] one that may stand as a source.
use core::fmt;
use core::str::FromStr;

/// Any 48-bit address, in transmission order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// 00:00:00:00:00:00, never a valid source or destination.
    pub const ZERO: Self = Self([0; 6]);

    /// Whether the I/G bit is set: multicast or broadcast.
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// Whether this is the broadcast address.
    #[must_use]
    pub fn is_broadcast(self) -> bool {
        self == Self::BROADCAST
    }

    /// The last nibble when this is one of the 16 reserved group addresses 01-80-C2-00-00-00..0F
    /// (802.1Q-2018 table 8-1), which a bridge does not forward.
    #[must_use]
    pub const fn reserved_group(self) -> Option<u8> {
        match self.0 {
            [0x01, 0x80, 0xc2, 0, 0, last @ 0..=0x0f] => Some(last),
            _ => None,
        }
    }

    /// The address as the low 48 bits of an integer, first octet highest.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// The inverse of [`Mac::to_u64`]; the high 16 bits are ignored.
    #[must_use]
    pub const fn from_u64(value: u64) -> Self {
        let [_, _, a, b, c, d, e, f] = value.to_be_bytes();
        Self([a, b, c, d, e, f])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not a MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacParseError {
    /// Not six groups of one or two hexadecimal digits separated by ':' or '-'.
    Syntax,
    /// Multicast, broadcast or all zero where one station's address is needed.
    NotUnicast,
}

impl fmt::Display for MacParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "not a MAC address: write six hexadecimal octets, as 02:58:0a:58:00:02",
            Self::NotUnicast => "not one station's address: clear the lowest bit of the first octet, as 02:58:0a:58:00:02",
        })
    }
}

impl core::error::Error for MacParseError {}

impl FromStr for Mac {
    type Err = MacParseError;

    fn from_str(text: &str) -> Result<Self, MacParseError> {
        let mut octets = [0; 6];
        let mut groups = text.split([':', '-']);
        for octet in &mut octets {
            let group = groups.next().ok_or(MacParseError::Syntax)?;
            // from_str_radix takes a sign; an address has none.
            if group.is_empty() || group.len() > 2 || !group.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(MacParseError::Syntax);
            }
            *octet = u8::from_str_radix(group, 16).map_err(|_| MacParseError::Syntax)?;
        }
        match groups.next() {
            None => Ok(Self(octets)),
            Some(_) => Err(MacParseError::Syntax),
        }
    }
}

/// The address of one station: neither group nor all zero. Only such an address may be a source
/// (requirement L02; Linux `is_valid_ether_addr`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnicastMac(Mac);

impl UnicastMac {
    /// `None` for a group address and for all zeros.
    #[must_use]
    pub fn new(mac: Mac) -> Option<Self> {
        (!mac.is_group() && mac != Mac::ZERO).then_some(Self(mac))
    }

    /// The address itself.
    #[must_use]
    pub const fn mac(self) -> Mac {
        self.0
    }

    /// The address that vswitch gives by default to the holder of an IPv4 address: 02:58 (locally administered, "X")
    /// and the four octets. One IP, one MAC: a neighbour entry that outlives a container still reaches the next one
    /// that has its address.
    #[must_use]
    pub const fn for_ipv4(octets: [u8; 4]) -> Self {
        let [a, b, c, d] = octets;
        Self(Mac([0x02, 0x58, a, b, c, d]))
    }
}

impl fmt::Display for UnicastMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for UnicastMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for UnicastMac {
    type Err = MacParseError;

    fn from_str(text: &str) -> Result<Self, MacParseError> {
        Self::new(text.parse()?).ok_or(MacParseError::NotUnicast)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn parses_and_prints() {
        let mac: Mac = "02:58:0A-58-0:2".parse().unwrap();
        assert_eq!(mac.to_string(), "02:58:0a:58:00:02");
        assert_eq!(Mac::from_u64(mac.to_u64()), mac);
        for bad in
            ["", "02", "02:58:0a:58:00", "02:58:0a:58:00:02:03", "02:58:0a:58:00:+2", "g2:58:0a:58:00:02", "002:58:0a:58:00:02"]
        {
            assert_eq!(bad.parse::<Mac>(), Err(MacParseError::Syntax), "{bad}");
        }
        assert_eq!("01:00:5e:00:00:01".parse::<UnicastMac>(), Err(MacParseError::NotUnicast));
        assert_eq!("00:00:00:00:00:00".parse::<UnicastMac>(), Err(MacParseError::NotUnicast));
    }

    #[test]
    fn reserved_groups_are_sixteen() {
        assert_eq!(Mac([1, 0x80, 0xc2, 0, 0, 0x0f]).reserved_group(), Some(15));
        assert_eq!(Mac([1, 0x80, 0xc2, 0, 0, 0x10]).reserved_group(), None);
    }
}
