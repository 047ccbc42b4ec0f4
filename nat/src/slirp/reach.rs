//! Reach control: where containers may go through the host's sockets.
//!
//! Theory. A socket reaches what its host reaches, its loopback services and its link's neighbours included, and a kernel takes several
//! spellings of "this host" ([probed on Linux 6.18] connect() to 0.0.0.0, ::, ::ffff:127.0.0.1 and ::ffff:0.0.0.0 all reach loopback). So every
//! destination is judged before there is a socket, by the *exact class* of its address, and the class decides, not a list of examples. Then
//! the rules that were set for the container, first match first; what no rule names is allowed.
use crate::flow::{Address, protocol};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Rules of one container at the most.
pub const RULES: usize = 256;

/// What an address is, as far as it decides whether a container may go there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Any other: to be had.
    Global,
    /// 0.0.0.0/8 (RFC 1122 3.2.1.3) and :: (RFC 4291 2.5.2): "this host" to a kernel.
    Unspecified,
    /// 127.0.0.0/8 (RFC 1122 3.2.1.3) and ::1 (RFC 4291 2.5.3).
    Loopback,
    /// IPv4 spelt as IPv6: ::ffff:0:0/96 (RFC 4291 2.5.5.2), and ::/96 (2.5.5.1).
    Mapped,
    /// 169.254.0.0/16 (RFC 3927), fe80::/10 (RFC 4291 2.5.6): the host's own link, and where clouds keep credentials.
    LinkLocal,
    /// 224.0.0.0/4 (RFC 5771), ff00::/8 (RFC 4291 2.7).
    Multicast,
    /// 255.255.255.255 (RFC 919).
    Broadcast,
    /// 240.0.0.0/4 (RFC 1112 4).
    Reserved,
}

impl Class {
    /// Of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    const fn of_v4(address: Ipv4Addr) -> Self {
        let bits = address.to_bits();
        match bits >> 24 {
            0 => Self::Unspecified,
            127 => Self::Loopback,
            169 if bits >> 16 == 0xa9fe => Self::LinkLocal,
            224..=239 => Self::Multicast,
            240..=255 if bits == u32::MAX => Self::Broadcast,
            240..=255 => Self::Reserved,
            _ => Self::Global,
        }
    }

    const fn of_v6(address: Ipv6Addr) -> Self {
        let bits = address.to_bits();
        match bits {
            0 => Self::Unspecified,
            1 => Self::Loopback,
            _ if bits >> 32 == 0 || bits >> 32 == 0xffff => Self::Mapped,
            _ if bits >> 118 == 0xfe80 >> 6 => Self::LinkLocal,
            _ if bits >> 120 == 0xff => Self::Multicast,
            _ => Self::Global,
        }
    }
}

/// Whether an address is of 169.254.0.0/16. (One of fe80::/10 needs a scope, which no packet has.)
pub(crate) fn is_link_local_v4<A: Address>(address: A) -> bool {
    !A::IS_V6 && Class::of(address.into()) == Class::LinkLocal
}

/// One rule: an address with a prefix, and a port and a protocol if it is about these only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReachRule {
    /// Whether what matches is allowed.
    pub allow: bool,
    /// The network.
    pub net: IpAddr,
    /// Bits of its prefix.
    pub prefix: u8,
    /// The port, all without.
    pub port: Option<u16>,
    /// The protocol's number, all without.
    pub protocol: Option<u8>,
}

impl ReachRule {
    fn matches(&self, address: IpAddr, port: u16, number: u8) -> bool {
        let net = match (self.net, address) {
            (IpAddr::V4(net), IpAddr::V4(address)) => net.has_prefix(address, self.prefix),
            (IpAddr::V6(net), IpAddr::V6(address)) => net.has_prefix(address, self.prefix),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        };
        let has_ports = matches!(number, protocol::TCP | protocol::UDP);
        net && self.port.is_none_or(|wanted| wanted == port && has_ports) && self.protocol.is_none_or(|wanted| wanted == number)
    }
}

/// What one container may reach.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reach {
    /// The gateway's address stands for the host's loopback.
    pub host_loopback: bool,
    /// Link-local addresses too.
    pub link_local: bool,
    /// The first that matches decides; at most [`RULES`].
    pub rules: Vec<ReachRule>,
}

impl Reach {
    /// Whether a socket may be made for a destination.
    #[must_use]
    pub fn admits(&self, address: IpAddr, port: u16, protocol: u8) -> bool {
        let possible = match Class::of(address) {
            Class::Global => true,
            Class::LinkLocal => self.link_local,
            Class::Unspecified | Class::Loopback | Class::Mapped | Class::Multicast | Class::Broadcast | Class::Reserved => false,
        };
        possible && self.rules_admit(address, port, protocol)
    }

    /// Whether the rules alone let something through: for packets, whose addresses the router has judged.
    #[must_use]
    pub fn rules_admit(&self, address: IpAddr, port: u16, protocol: u8) -> bool {
        self.rules.iter().take(RULES).find(|rule| rule.matches(address, port, protocol)).is_none_or(|rule| rule.allow)
    }

    /// Whether all that `other` admits is surely admitted: flows that began under `other` may go on.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        // Permissions in front of the same rules, or no prohibition at all.
        let added = self.rules.len().saturating_sub(other.rules.len());
        let rules = self.rules.ends_with(&other.rules) && self.rules.iter().take(added).all(|rule| rule.allow)
            || self.rules.iter().all(|rule| rule.allow);
        rules && self.host_loopback >= other.host_loopback && self.link_local >= other.link_local
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(address: &str) -> Class {
        Class::of(address.parse().unwrap())
    }

    #[test]
    fn every_class_has_its_edges() {
        let cases: [(Class, &[&str]); 8] = [
            (Class::Unspecified, &["0.0.0.0", "0.0.0.1", "0.255.255.255", "::"]),
            (Class::Loopback, &["127.0.0.0", "127.0.0.1", "127.255.255.255", "::1"]),
            (Class::Mapped, &["::2", "::127.0.0.1", "::255.255.255.255", "::ffff:0.0.0.0", "::ffff:127.0.0.1", "::ffff:192.0.2.1"]),
            (Class::LinkLocal, &["169.254.0.0", "169.254.169.254", "169.254.255.255", "fe80::", "fe80::1", "febf:ffff::1"]),
            (Class::Multicast, &["224.0.0.0", "239.255.255.255", "ff00::", "ff02::1", "ffff::"]),
            (Class::Broadcast, &["255.255.255.255"]),
            (Class::Reserved, &["240.0.0.0", "255.255.255.254"]),
            (
                Class::Global,
                &[
                    "1.0.0.0",
                    "10.0.0.1",
                    "126.255.255.255",
                    "128.0.0.0",
                    "169.253.255.255",
                    "169.255.0.0",
                    "192.0.2.1",
                    "223.255.255.255",
                    "::1:0:0",
                    "::fffe:7f00:1",
                    "::1:0:7f00:1",
                    "64:ff9b::7f00:1",
                    "2001:db8::1",
                    "fd00::1",
                    "fe7f:ffff::",
                    "fec0::",
                    "feff::1",
                ],
            ),
        ];
        for (wanted, addresses) in cases {
            for address in addresses {
                assert_eq!(class(address), wanted, "{address}");
            }
        }
    }

    #[test]
    fn only_what_is_global_is_reached_and_no_rule_opens_the_rest() {
        let all = |net: &str| ReachRule { allow: true, net: net.parse().unwrap(), prefix: 0, port: None, protocol: None };
        let open = Reach { rules: alloc::vec![all("0.0.0.0"), all("::")], ..Reach::default() };
        for reach in [Reach::default(), open] {
            for address in ["0.0.0.0", "127.0.0.1", "::", "::1", "::ffff:127.0.0.1", "::127.0.0.1", "169.254.169.254", "fe80::1"] {
                assert!(!reach.admits(address.parse().unwrap(), 80, 6), "{address}");
            }
            for address in ["224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1"] {
                assert!(!reach.admits(address.parse().unwrap(), 80, 17), "{address}");
            }
            assert!(reach.admits("192.0.2.1".parse().unwrap(), 80, 6) && reach.admits("2001:db8::1".parse().unwrap(), 80, 6));
        }
        let link = Reach { link_local: true, ..Reach::default() };
        assert!(link.admits("169.254.169.254".parse().unwrap(), 80, 6) && link.admits("fe80::1".parse().unwrap(), 80, 6));
        assert!(!link.admits("127.0.0.1".parse().unwrap(), 80, 6));
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rule =
            |allow, net: &str, prefix, port, protocol| ReachRule { allow, net: net.parse().unwrap(), prefix, port, protocol };
        let reach = Reach {
            rules: alloc::vec![
                rule(true, "10.0.0.53", 32, Some(53), Some(17)),
                rule(false, "10.0.0.0", 8, None, None),
                rule(true, "192.0.2.7", 32, None, None),
                rule(false, "0.0.0.0", 0, Some(25), Some(6)),
                rule(false, "2001:db8::", 32, None, None),
            ],
            ..Reach::default()
        };
        let admits = |address: &str, port, protocol| reach.admits(address.parse().unwrap(), port, protocol);
        assert!(admits("10.0.0.53", 53, 17) && !admits("10.0.0.53", 53, 6) && !admits("10.0.0.53", 54, 17));
        assert!(!admits("10.1.2.3", 80, 6) && admits("11.1.2.3", 80, 6));
        assert!(admits("192.0.2.7", 25, 6) && !admits("192.0.2.8", 25, 6) && admits("192.0.2.8", 25, 17));
        assert!(!admits("2001:db8::1", 80, 6) && admits("2001:db9::1", 25, 6));
    }

    #[test]
    fn what_covers_another_cuts_nothing() {
        let rule = |allow, net: &str| ReachRule { allow, net: net.parse().unwrap(), prefix: 8, port: None, protocol: None };
        let of = |rules: &[ReachRule]| Reach { rules: rules.to_vec(), ..Reach::default() };
        let (open, link) = (of(&[]), Reach { link_local: true, ..Reach::default() });
        let (deny, other) = (rule(false, "10.0.0.0"), rule(false, "11.0.0.0"));
        let allow = rule(true, "10.0.0.0");
        assert!(open.covers(&open) && open.covers(&of(&[deny])) && link.covers(&open) && !open.covers(&link));
        assert!(!of(&[deny]).covers(&open) && of(&[deny]).covers(&of(&[deny])) && !of(&[deny]).covers(&of(&[other])));
        assert!(of(&[allow, deny]).covers(&of(&[deny])) && !of(&[deny]).covers(&of(&[allow, deny])));
        assert!(!of(&[other, deny]).covers(&of(&[deny])) && of(&[allow]).covers(&of(&[deny, allow])));
    }

    #[test]
    fn a_rule_with_a_port_is_about_protocols_that_have_ports() {
        let net = "0.0.0.0".parse().unwrap();
        let reach = Reach {
            rules: alloc::vec![ReachRule { allow: false, net, prefix: 0, port: Some(53), protocol: None }],
            ..Reach::default()
        };
        let admits = |protocol| reach.admits("192.0.2.1".parse().unwrap(), 53, protocol);
        assert!(!admits(protocol::TCP) && !admits(protocol::UDP) && admits(protocol::ICMP));
    }
}
