//! What `publish` and `-p` take: `[HOSTIP:]PORT[-PORT]:PORT[-PORT][/tcp|udp]`, as Docker has it; an IPv6 address stands in brackets.
use crate::errors::PublishProblem;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use vswitch_nat::forward::BACKENDS;

/// A protocol that has ports to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// IANA's number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    fn parse(text: &str, spec: &str) -> Result<Self, PublishProblem> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err(PublishProblem::Protocol { spec: spec.into(), protocol: text.into() }),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A range of ports, and where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// On which of our addresses; `None` is all.
    pub address: Option<IpAddr>,
    pub protocol: Protocol,
    pub first: u16,
    pub last: u16,
    /// The container's port for the first.
    pub to: u16,
}

fn range(text: &str, spec: &str) -> Result<(u16, u16), PublishProblem> {
    let port = |text: &str| text.parse().ok().filter(|port| *port > 0);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => Err(PublishProblem::Ports { spec: spec.into(), ports: text.into() }),
    }
}

/// `[HOSTIP:]PORTS`.
fn address_and_ports<'a>(rest: &'a str, spec: &str) -> Result<(Option<IpAddr>, &'a str), PublishProblem> {
    let Some((address, ports)) = rest.rsplit_once(':') else { return Ok((None, rest)) };
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
    let parsed = match bare {
        Some(bare) => bare.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => address.parse().ok().filter(IpAddr::is_ipv4),
    };
    let parsed = parsed.ok_or_else(|| PublishProblem::Address { spec: spec.into(), address: address.into() })?;
    Ok((Some(parsed).filter(|address| !address.is_unspecified()), ports))
}

impl Spec {
    /// What of it others see: no two have the same.
    pub const fn outside(&self) -> (Option<IpAddr>, Protocol, u16, u16) {
        (self.address, self.protocol, self.first, self.last)
    }

    /// The first port that another has too, where both can be reached at one address.
    pub fn overlap(&self, other: &Self) -> Option<u16> {
        let same_address = other.address == self.address || other.address.is_none() || self.address.is_none();
        let overlaps = other.protocol == self.protocol && same_address && other.first <= self.last && self.first <= other.last;
        overlaps.then(|| other.first.max(self.first))
    }

    /// What `unpublish` takes for it and no other.
    pub fn port(&self) -> String {
        let address = self.address.map_or_else(String::new, |address| match address {
            IpAddr::V4(address) => format!("{address}:"),
            IpAddr::V6(address) => format!("[{address}]:"),
        });
        format!("{address}{}/{}", self.first, self.protocol)
    }
}

/// Whether a range can be published to containers of these names, as far as that tells.
pub fn judge(spec: &Spec, names: &[String]) -> Result<(), PublishProblem> {
    if names.is_empty() || names.len() > BACKENDS {
        return Err(PublishProblem::Backends { spec: spec.to_string() });
    }
    for (number, name) in names.iter().enumerate() {
        if names.iter().take(number).any(|earlier| earlier == name) {
            return Err(PublishProblem::Twice { spec: spec.to_string(), name: name.clone() });
        }
    }
    if usize::from(spec.last - spec.first) + usize::from(spec.to) > usize::from(u16::MAX) {
        return Err(PublishProblem::Range { spec: spec.to_string() });
    }
    Ok(())
}

impl FromStr for Spec {
    type Err = PublishProblem;

    fn from_str(spec: &str) -> Result<Self, PublishProblem> {
        let (ports, protocol) = match spec.split_once('/') {
            Some((ports, protocol)) => (ports, Protocol::parse(protocol, spec)?),
            None => (spec, Protocol::Tcp),
        };
        let bad = || PublishProblem::Spec { spec: spec.into() };
        let (rest, inside) = ports.rsplit_once(':').ok_or_else(bad)?;
        let (address, outside) = address_and_ports(rest, spec)?;
        let (first, last) = range(outside, spec)?;
        let (to, to_last) = range(inside, spec)?;
        if to_last - to != last - first {
            return Err(PublishProblem::Lengths { spec: spec.into(), outside: last - first + 1, inside: to_last - to + 1 });
        }
        Ok(Self { address, protocol, first, last, to })
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            None => {}
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
        }
        let span = self.last - self.first;
        let range = |first: u16| if span == 0 { first.to_string() } else { format!("{first}-{}", first + span) };
        write!(f, "{}:{}/{}", range(self.first), range(self.to), self.protocol)
    }
}

/// What `unpublish` takes: `[HOSTIP:]PORT[/tcp|udp]`, any port of the range; without an address, of all.
pub fn parse_port(text: &str) -> Result<(Option<IpAddr>, u16, Protocol), PublishProblem> {
    let (rest, protocol) = match text.split_once('/') {
        Some((rest, protocol)) => (rest, Protocol::parse(protocol, text)?),
        None => (text, Protocol::Tcp),
    };
    let (address, port) = address_and_ports(rest, text)?;
    let (first, last) = range(port, text)?;
    if first != last {
        return Err(PublishProblem::Ports { spec: text.into(), ports: port.into() });
    }
    Ok((address, first, protocol))
}

/// An address and the length of its prefix: `A/LEN`, or one address.
pub fn parse_net(text: &str) -> Result<(IpAddr, u8), PublishProblem> {
    let bad = || PublishProblem::Net { net: text.into() };
    let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let prefix = if text.contains('/') { prefix.parse().ok().filter(|prefix| *prefix <= most).ok_or_else(bad)? } else { most };
    Ok((address, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for spec in ["8080:80/tcp", "10000-20000:10000-20000/udp", "192.0.2.1:53:5353/udp", "[2001:db8::1]:80:80/tcp"] {
            assert_eq!(spec.parse::<Spec>().unwrap().to_string(), spec);
        }
        let spec: Spec = "0.0.0.0:8080:80".parse().unwrap();
        assert_eq!(spec, Spec { address: None, protocol: Protocol::Tcp, first: 8_080, last: 8_080, to: 80 });
        assert_eq!(parse_port("53/udp").unwrap(), (None, 53, Protocol::Udp));
        for spec in ["8080:80/tcp", "192.0.2.1:53-54:5353-5354/udp", "[2001:db8::1]:80:80/tcp"] {
            let spec: Spec = spec.parse().unwrap();
            assert_eq!(parse_port(&spec.port()).unwrap(), (spec.address, spec.first, spec.protocol));
        }
        assert_eq!(parse_net("192.0.2.0/24").unwrap(), ("192.0.2.0".parse().unwrap(), 24));
        assert_eq!(parse_net("::1").unwrap().1, 128);
    }

    #[test]
    fn overlaps() {
        let overlap = |one: &str, other: &str| one.parse::<Spec>().unwrap().overlap(&other.parse().unwrap());
        assert_eq!(overlap("8080:80", "8000-9000:8000-9000"), Some(8_080));
        assert_eq!(overlap("8000-9000:8000-9000", "192.0.2.1:8080:80"), Some(8_080));
        for (one, other) in [("80:80", "81:80"), ("80:80", "80:80/udp"), ("192.0.2.1:80:80", "192.0.2.2:80:80")] {
            assert_eq!((overlap(one, other), overlap(other, one)), (None, None), "{one} {other}");
        }
    }

    #[test]
    fn bad_specs_are_named() {
        for spec in [
            "",
            "80",
            ":",
            "80:",
            ":80",
            "0:80",
            "80:0",
            "65536:80",
            "80-79:80-79",
            "80-81:80",
            "80:80/sctp",
            "x:80:80",
            "::1:80:80",
            "[::1:80:80",
            "80:80/",
            "-:80",
            "1.2.3:80:80",
            "80:80:80:80",
            "1-:1-",
        ] {
            let error = spec.parse::<Spec>().unwrap_err().to_string();
            assert!(error.contains(spec) && error.contains(": "), "{error}");
        }
        for text in ["", "0", "80-81", "80/x", "x:80", "::1:80", "192.0.2.1:", "[192.0.2.1]:80"] {
            assert!(parse_port(text).is_err());
        }
        for text in ["", "x", "192.0.2.0/33", "::/129", "1.2.3.4/"] {
            assert!(parse_net(text).is_err(), "{text}");
        }
    }
}
