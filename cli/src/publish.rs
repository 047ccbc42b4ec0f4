//! What `publish` and `-p` take: `[HOSTIP:]PORT[-PORT]:PORT[-PORT][/tcp|udp]`, as Docker has it; an IPv6 address stands in brackets.
use crate::errors::PublishProblem;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

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

impl FromStr for Spec {
    type Err = PublishProblem;

    fn from_str(spec: &str) -> Result<Self, PublishProblem> {
        let (ports, protocol) = match spec.split_once('/') {
            Some((ports, protocol)) => (ports, Protocol::parse(protocol, spec)?),
            None => (spec, Protocol::Tcp),
        };
        let bad = || PublishProblem::Spec { spec: spec.into() };
        let (rest, inside) = ports.rsplit_once(':').ok_or_else(bad)?;
        let (address, outside) = match rest.rsplit_once(':') {
            None => (None, rest),
            Some((address, outside)) => {
                let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
                let parsed = match bare {
                    Some(bare) => bare.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
                    None => address.parse().ok().filter(IpAddr::is_ipv4),
                };
                let parsed = parsed.ok_or_else(|| PublishProblem::Address { spec: spec.into(), address: address.into() })?;
                (Some(parsed).filter(|address| !address.is_unspecified()), outside)
            }
        };
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

/// What `unpublish` takes: `PORT[/tcp|udp]`, any port of the range.
pub fn parse_port(text: &str) -> Result<(u16, Protocol), PublishProblem> {
    let (port, protocol) = match text.split_once('/') {
        Some((port, protocol)) => (port, Protocol::parse(protocol, text)?),
        None => (text, Protocol::Tcp),
    };
    let (first, last) = range(port, text)?;
    if first != last {
        return Err(PublishProblem::Ports { spec: text.into(), ports: port.into() });
    }
    Ok((first, protocol))
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
        assert_eq!(parse_port("53/udp").unwrap(), (53, Protocol::Udp));
        assert_eq!(parse_net("192.0.2.0/24").unwrap(), ("192.0.2.0".parse().unwrap(), 24));
        assert_eq!(parse_net("::1").unwrap().1, 128);
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
        for text in ["", "0", "80-81", "80/x"] {
            assert!(parse_port(text).is_err());
        }
        for text in ["", "x", "192.0.2.0/33", "::/129", "1.2.3.4/"] {
            assert!(parse_net(text).is_err(), "{text}");
        }
    }
}
