//! A network's IPv6: of a unique local prefix, of one that is routed to this machine, or none. One word each, in every file and message:
//! `local`, PREFIX/64, `off`.
use crate::errors::NameProblem;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;
use vswitch_nat::flow::Address;

/// Bits of the IPv6 prefix: of which addresses can be made (RFC 4862 5.5.3, RFC 4291 2.5.1).
pub const PREFIX6: u8 = 64;
/// See [`PREFIX6`].
const HOST6: u128 = u64::MAX as u128;

/// See the module's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Ipv6 {
    /// A unique local prefix that is this machine's and this network's (RFC 4193).
    #[default]
    Local,
    /// The first address of a prefix that is routed here.
    Routed(Ipv6Addr),
    Off,
}

impl Ipv6 {
    /// Whether it is what a network has unless it is told otherwise.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// A prefix, as `--prefix6` takes it.
    pub fn routed(text: &str) -> Result<Self, NameProblem> {
        let prefix = || text.to_owned();
        let parts = text
            .split_once('/')
            .and_then(|(address, length)| Some((address.parse::<Ipv6Addr>().ok()?, length.parse::<u8>().ok()?)));
        let (address, length) = parts.ok_or_else(|| NameProblem::Prefix6 { prefix: prefix() })?;
        if length != PREFIX6 {
            return Err(NameProblem::Length6 { prefix: prefix() });
        }
        let base = Ipv6Addr::from_bits(address.to_bits() & !HOST6);
        if base != address {
            return Err(NameProblem::Bits6 { prefix: prefix(), base });
        }
        if !Ipv6Addr::from_bits(address.to_bits() | 1).is_routable() {
            return Err(NameProblem::NotUnicast6 { prefix: prefix() });
        }
        Ok(Self::Routed(address))
    }
}

impl fmt::Display for Ipv6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Routed(prefix) => write!(f, "{prefix}/{PREFIX6}"),
            Self::Off => f.write_str("off"),
        }
    }
}

impl FromStr for Ipv6 {
    type Err = NameProblem;

    fn from_str(word: &str) -> Result<Self, NameProblem> {
        match word {
            "local" => Ok(Self::Local),
            "off" => Ok(Self::Off),
            prefix => Self::routed(prefix),
        }
    }
}

impl TryFrom<String> for Ipv6 {
    type Error = NameProblem;

    fn try_from(word: String) -> Result<Self, NameProblem> {
        word.parse()
    }
}

impl From<Ipv6> for String {
    fn from(ipv6: Ipv6) -> Self {
        ipv6.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_there_and_back() {
        for word in ["local", "off", "2001:db8:1::/64", "fd00:1:2:3::/64"] {
            assert_eq!(word.parse::<Ipv6>().unwrap().to_string(), word);
        }
    }

    #[test]
    fn bad_prefixes() {
        for prefix in [
            "2001:db8::",
            "x/64",
            "10.0.0.0/8",
            "2001:db8::/x",
            "2001:db8::/48",
            "2001:db8::/65",
            "2001:db8::1/64",
            "fe80::/64",
            "ff02::/64",
            "::/64",
            "",
            "/64",
            "2001:db8::/264",
        ] {
            let error = prefix.parse::<Ipv6>().unwrap_err().to_string();
            assert!(error.contains(prefix) && error.contains(": "), "{error}");
        }
    }
}
