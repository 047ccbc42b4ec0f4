//! The one network: its subnet, its gateway, and who has which address.
use super::network6::{Ipv6, PREFIX6};
use crate::errors::NameProblem;
use anyhow::{Context, Result, bail};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;
use vswitch_io::link::{Ipv4Net, Netlink};
use vswitch_nat::gateway::{GatewayConfig, GatewayV6};
use vswitch_nat::ndp::link_local;
use vswitch_switch::UnicastMac;

/// Prefix of a subnet that we choose, in bits.
pub const PREFIX: u8 = 20;
/// Prefixes that can be asked for: from a class A to one with two hosts.
pub const PREFIXES: std::ops::RangeInclusive<u8> = 8..=30;
/// Bits of a route's prefix from which on it leads somewhere in particular: with fewer it is a default route in parts (0.0.0.0/1).
const WIDE: u8 = 8;
/// The network's name; there will be others.
const NAME: &str = "default";

/// A subnet and its gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    config: GatewayConfig,
    ipv6: Ipv6,
}

impl Network {
    /// What was asked for, or the first private /20 that this host has no other use for.
    pub fn choose(subnet: Option<&str>, gateway: Option<Ipv4Addr>) -> Result<Self> {
        let in_use = Netlink::open().and_then(|mut netlink| netlink.ipv4_in_use());
        let in_use = in_use.context(NameProblem::NoRoutes)?;
        let net = match subnet {
            Some(subnet) => parse(subnet)?,
            None => free(&in_use, gateway)?,
        };
        Self::new(net, gateway)
    }

    /// A network by what is known of it; whether the host has another use for it is not looked at.
    pub fn parse(subnet: &str, gateway: Option<Ipv4Addr>) -> Result<Self> {
        Self::new(parse(subnet)?, gateway)
    }

    fn new(net: Ipv4Net, gateway: Option<Ipv4Addr>) -> Result<Self> {
        let address = gateway.unwrap_or_else(|| Ipv4Addr::from_bits(net.address.to_bits() + 1));
        let mac = UnicastMac::for_ipv4(address.octets());
        let config = GatewayConfig { mac, address, prefix: net.prefix, v6: None };
        let network = Self { config, ipv6: Ipv6::Off }.with_ipv6(Ipv6::default());
        if !network.is_host(address) || network.base() != net.address.to_bits() {
            let range = Range(&Self::new(net, None)?, None).to_string();
            bail!(NameProblem::GatewayOutside { gateway: address, subnet: format!("{}/{}", net.address, net.prefix), range });
        }
        Ok(network)
    }

    /// That of another daemon.
    pub fn of(gateway: Ipv4Addr, prefix: u8) -> Result<Self> {
        if !PREFIXES.contains(&prefix) {
            bail!(NameProblem::OtherPrefix { prefix });
        }
        Self::new(Ipv4Net { address: Ipv4Addr::from_bits(gateway.to_bits() & !(u32::MAX >> prefix)), prefix }, Some(gateway))
    }

    /// The same with another IPv6, or none.
    pub fn with_ipv6(mut self, ipv6: Ipv6) -> Self {
        let local = gateway6(Ipv4Net { address: Ipv4Addr::from_bits(self.base()), prefix: self.config.prefix });
        let address = match ipv6 {
            Ipv6::Local => Some(local),
            Ipv6::Routed(prefix) => Some(Ipv6Addr::from_bits(prefix.to_bits() | 1)),
            Ipv6::Off => None,
        };
        let link_local = link_local(self.config.mac);
        self.config.v6 = address.map(|address| GatewayV6 { address, prefix: PREFIX6, link_local });
        Self { ipv6, ..self }
    }

    /// What was chosen.
    pub const fn ipv6(&self) -> Ipv6 {
        self.ipv6
    }

    pub const fn gateway(&self) -> GatewayConfig {
        self.config
    }

    /// The network's own.
    pub const fn net(&self) -> Ipv4Net {
        Ipv4Net { address: Ipv4Addr::from_bits(self.base()), prefix: self.config.prefix }
    }

    /// The address and the routes that the kernel has where `host` is an interface's address in it: of the net, of the address itself, of
    /// both broadcast addresses.
    pub fn routes_of(&self, host: Ipv4Addr) -> [Ipv4Net; 5] {
        let Ipv4Net { address: base, prefix } = self.net();
        let broadcast = Ipv4Addr::from_bits(self.base() | self.hosts());
        let one = |address| Ipv4Net { address, prefix: 32 };
        [self.net(), Ipv4Net { address: host, prefix }, one(host), one(base), one(broadcast)]
    }

    /// As `--subnet` takes it.
    pub fn subnet(&self) -> String {
        format!("{}/{}", Ipv4Addr::from_bits(self.base()), self.config.prefix)
    }

    /// The gateway's IPv6 address, if there is one: the first of the network's prefix.
    pub fn gateway6(&self) -> Option<Ipv6Addr> {
        self.config.v6.map(|v6| v6.address)
    }

    /// The IPv6 address that belongs to an IPv4 one: its last 32 bits are the same.
    pub fn ip6(&self, ip: Ipv4Addr) -> Option<Ipv6Addr> {
        self.gateway6().map(|gateway| Ipv6Addr::from_bits(gateway.to_bits() & !0xffff | u128::from(ip.to_bits())))
    }

    pub const fn prefix(&self) -> u8 {
        self.config.prefix
    }

    const fn hosts(&self) -> u32 {
        u32::MAX >> self.config.prefix
    }

    const fn base(&self) -> u32 {
        self.config.address.to_bits() & !self.hosts()
    }

    /// Whether an address names a host: neither outside nor the subnet's own or its broadcast address.
    const fn is_host(&self, address: Ipv4Addr) -> bool {
        let host = address.to_bits() & self.hosts();
        self.config.is_inside(address) && host != 0 && host != self.hosts()
    }

    /// Checks an address asked for.
    pub fn check(&self, address: Ipv4Addr) -> Result<()> {
        let range = Range(self, Some(self.config.address));
        if address == self.config.address {
            bail!(NameProblem::IpOfGateway { ip: address, range: range.to_string() });
        }
        if !self.is_host(address) {
            bail!(NameProblem::IpOutside { ip: address, network: self.to_string(), range: range.to_string() });
        }
        Ok(())
    }
}

/// The route of `in_use` that a network would get in the way of.
pub fn overlap(network: Ipv4Net, in_use: &[Ipv4Net]) -> Option<Ipv4Net> {
    in_use.iter().find(|route| route.prefix >= WIDE && route.overlaps(&network)).copied()
}

/// A unique local /64 for a network (RFC 4193 3.2): 40 bits that are this machine's and this subnet's, so that they are the same after
/// a restart, and hardly anybody else's.
fn gateway6(net: Ipv4Net) -> Ipv6Addr {
    // Read once: the daemon cannot later.
    static MACHINE: OnceLock<Vec<u8>> = OnceLock::new();
    let machine = MACHINE.get_or_init(|| std::fs::read("/etc/machine-id").unwrap_or_default());
    // FNV-1a: the same in every version, which the standard library's hash does not promise.
    let octets = machine.iter().copied().chain(net.address.octets()).chain([net.prefix]);
    let hash = octets.fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3));
    let global = u128::from(hash & 0xff_ffff_ffff);
    Ipv6Addr::from_bits(0xfd << 120 | global << 80 | 1)
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NAME} ({})", self.subnet())
    }
}

/// The addresses of a network but `without`, where that is at an end.
struct Range<'a>(&'a Network, Option<Ipv4Addr>);

impl fmt::Display for Range<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range(network, without) = self;
        let (mut first, mut last) = (network.base() + 1, network.base() + network.hosts() - 1);
        let without = without.map(Ipv4Addr::to_bits);
        first += u32::from(without == Some(first));
        last -= u32::from(without == Some(last));
        write!(f, "{}-{}", Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(last))
    }
}

fn parse(subnet: &str) -> Result<Ipv4Net> {
    let text = || subnet.to_owned();
    let (address, prefix) = subnet.split_once('/').with_context(|| NameProblem::NoLength { subnet: text() })?;
    let address: Ipv4Addr = address.parse().with_context(|| NameProblem::NoSubnet { subnet: text() })?;
    let prefix = prefix.parse().ok().filter(|prefix| PREFIXES.contains(prefix));
    let prefix = prefix.with_context(|| NameProblem::Length { subnet: text() })?;
    let base = Ipv4Addr::from_bits(address.to_bits() & !(u32::MAX >> prefix));
    if base != address {
        bail!(NameProblem::Bits { subnet: text(), base, prefix });
    }
    if address.is_loopback()
        || address.is_unspecified()
        || address.is_link_local()
        || address.to_bits() >= 0xe000_0000
        || address.octets()[0] == 0
    {
        bail!(NameProblem::NotUnicast { subnet: text() });
    }
    Ok(Ipv4Net { address, prefix })
}

/// The first of 10.88.0.0/20, 10.89.0.0/20, ..., 172.16.0.0/20, ..., 192.168.0.0/20, ... that overlaps nothing in use.
fn free(in_use: &[Ipv4Net], gateway: Option<Ipv4Addr>) -> Result<Ipv4Net> {
    let tens = (88..=255).chain(0..88).map(|second| Ipv4Addr::new(10, second, 0, 0));
    let others = (16..32).map(|second| Ipv4Addr::new(172, second, 0, 0));
    let rest = (0..16).map(|third| Ipv4Addr::new(192, 168, third * 16, 0));
    let mut nets = tens.chain(others).chain(rest).map(|address| Ipv4Net { address, prefix: PREFIX });
    let fits = |net: &Ipv4Net| {
        let host = gateway.map(|address| Ipv4Net { address, prefix: 32 });
        host.is_none_or(|host| net.overlaps(&host)) && !in_use.iter().any(|used| net.overlaps(used))
    };
    nets.find(fits).with_context(|| match gateway {
        Some(gateway) => NameProblem::GatewayNotFree { gateway },
        None => NameProblem::NoSubnetFree,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(subnet: &str, gateway: Option<[u8; 4]>) -> Result<Network> {
        Network::new(parse(subnet)?, gateway.map(Into::into))
    }

    #[test]
    fn a_free_subnet_overlaps_nothing() {
        let used = |nets: &[(&str, u8)]| -> Vec<Ipv4Net> {
            nets.iter().map(|(address, prefix)| Ipv4Net { address: address.parse().unwrap(), prefix: *prefix }).collect()
        };
        let first = |nets: &[(&str, u8)]| free(&used(nets), None).unwrap().address.to_string();
        assert_eq!(first(&[]), "10.88.0.0");
        assert_eq!(first(&[("10.88.3.4", 32)]), "10.89.0.0");
        assert_eq!(first(&[("10.0.0.0", 8)]), "172.16.0.0");
        assert_eq!(first(&[("10.0.0.0", 8), ("172.16.0.0", 12), ("192.168.0.0", 24)]), "192.168.16.0");
        assert!(free(&used(&[("0.0.0.0", 1), ("128.0.0.0", 1)]), None).is_err());
        assert_eq!(free(&[], Some(Ipv4Addr::new(10, 90, 0, 1))).unwrap().address, Ipv4Addr::new(10, 90, 0, 0));
    }

    #[test]
    fn addresses_of_a_network() {
        let seed = network("10.10.1.0/24", Some([10, 10, 1, 254])).unwrap();
        assert_eq!(seed.to_string(), "default (10.10.1.0/24)");
        assert!(seed.check(Ipv4Addr::new(10, 10, 1, 253)).is_ok());
        for (address, part) in [
            ("10.10.1.254", "is the gateway's: choose 10.10.1.1-10.10.1.253"),
            ("10.10.1.0", "is outside network default (10.10.1.0/24): choose 10.10.1.1-10.10.1.253"),
            ("10.10.1.255", "outside"),
            ("10.10.2.1", "outside"),
        ] {
            let error = seed.check(address.parse().unwrap()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn ipv6_of_a_network() {
        let local = network("10.10.1.0/24", None).unwrap();
        assert!(
            local.gateway6().unwrap().is_unique_local()
                && local.ip6(Ipv4Addr::new(10, 10, 1, 9)).unwrap().to_string().ends_with("::a0a:109")
        );
        let routed = local.with_ipv6(Ipv6::routed("2001:db8:1::/64").unwrap());
        assert_eq!(routed.gateway6().unwrap().to_string(), "2001:db8:1::1");
        assert_eq!(routed.ip6(Ipv4Addr::new(10, 10, 1, 9)).unwrap().to_string(), "2001:db8:1::a0a:109");
        let off = routed.with_ipv6(Ipv6::Off);
        assert_eq!((off.gateway6(), off.ip6(Ipv4Addr::new(10, 10, 1, 9)), off.gateway().v6), (None, None, None));
        assert_eq!(off.with_ipv6(Ipv6::Local), local);
    }

    #[test]
    fn a_route_that_the_network_hides_or_is_hidden_by() {
        let net = |address: [u8; 4], prefix| Ipv4Net { address: address.into(), prefix };
        let ours = net([10, 88, 0, 0], 20);
        // A VPN's default route in halves is no way to anything in particular.
        let beside = [net([0, 0, 0, 0], 1), net([10, 88, 16, 0], 20), net([192, 168, 1, 0], 24)];
        assert_eq!(overlap(ours, &beside), None);
        for route in [ours, net([10, 88, 3, 4], 32), net([10, 0, 0, 0], 8)] {
            assert_eq!(overlap(ours, &[&beside[..], &[route]].concat()), Some(route));
        }
    }

    #[test]
    fn bad_subnets() {
        for subnet in [
            "10.0.0.0",
            "10.0.0.0/7",
            "10.0.0.0/31",
            "10.0.0.1/24",
            "x/24",
            "127.0.0.0/8",
            "224.0.0.0/8",
            "0.0.0.0/8",
            "10.0.0.0/x",
        ] {
            let error = format!("{:#}", network(subnet, None).unwrap_err());
            assert!(error.contains(subnet) && error.contains(": "), "{error}");
        }
        for gateway in [[10, 0, 1, 1], [10, 0, 0, 0], [10, 0, 0, 255]] {
            let error = network("10.0.0.0/24", Some(gateway)).unwrap_err().to_string();
            assert!(error.contains("choose 10.0.0.1-10.0.0.254"), "{error}");
        }
    }
}
