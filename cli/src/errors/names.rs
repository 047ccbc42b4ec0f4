//! Names, addresses and the network.
use crate::daemon::network::PREFIXES;
use crate::daemon::{NAME_OCTETS, network};
use std::net::{Ipv4Addr, Ipv6Addr};
use thiserror::Error;
use vswitch_io::link::{IfNameError, MTU_MAX, MTU_MIN};
use vswitch_nat::ipam::{RESERVATIONS, Usage};
use vswitch_switch::UnicastMac;
use vswitch_switch::mac::MacParseError;

#[derive(Debug, Error)]
pub enum NameProblem {
    // Of what is attached.
    #[error("nothing is attached as \"{name}\": \"vswitch attach\" first")]
    NothingAttached { name: String },
    #[error("nothing is attached as \"{name}\": \"vswitch show\" lists what is")]
    NotAttached { name: String },
    #[error("this namespace is already attached as {at}: \"vswitch detach {other}\" first")]
    NamespaceAttached { at: String, other: String },
    #[error("the name is taken by {at}: pass --name, or \"vswitch detach {other}\" first")]
    Taken { at: String, other: String },
    #[error("the alias \"{alias}\" is taken by {at}: choose another, or \"vswitch detach {other}\" first")]
    AliasTaken { alias: String, at: String, other: String },
    #[error("\"{name}\" means the {name} itself: pass another --name")]
    Reserved { name: String },
    #[error(
        "{name:?} cannot be a name: pass --name with 1 to {NAME_OCTETS} letters, digits, '.', '_' or '-', the first a letter or digit"
    )]
    Odd { name: String },
    #[error("--ifname {ifname:?}: {error}")]
    Ifname { ifname: String, error: IfNameError },
    #[error("--mtu {mtu} cannot be set: choose {MTU_MIN} to {MTU_MAX}")]
    Mtu { mtu: u16 },

    #[error("--type veth is for containers: leave it out, the host has a TAP")]
    HostKind,

    // Addresses.
    #[error("--mac {mac}: {error}")]
    Mac { mac: String, error: MacParseError },
    #[error("--mac {mac} is the gateway's: choose another")]
    MacOfGateway { mac: UnicastMac },
    #[error("--mac {mac} is taken by {at}: choose another")]
    MacTaken { mac: UnicastMac, at: String },
    #[error("--ip {ip} is taken by {at}: choose another, or leave it out")]
    IpTaken { ip: Ipv4Addr, at: String },
    #[error("--ip {ip} is the gateway's: choose {range}")]
    IpOfGateway { ip: Ipv4Addr, range: String },
    #[error("--ip {ip} is outside network {network}: choose {range}, or \"vswitch up --subnet\"")]
    IpOutside { ip: Ipv4Addr, network: String, range: String },
    #[error("--ip {ip} is reserved for {holder}: choose another, or \"vswitch unreserve {ip}\"")]
    IpReserved { ip: Ipv4Addr, holder: String },
    #[error("{ip} is taken by {at}: choose another, or detach that one first")]
    ReserveTaken { ip: Ipv4Addr, at: String },
    #[error("{ip} is reserved for {holder}: \"vswitch unreserve {ip}\" first")]
    ReserveReserved { ip: Ipv4Addr, holder: String },
    #[error("there are {RESERVATIONS} reservations already: \"vswitch unreserve\" some")]
    ReserveFull,
    #[error("{ip} is not reserved: \"vswitch leases\" lists what is")]
    NotReserved { ip: Ipv4Addr },
    #[error(
        "network {network} has no address left ({} of {} in use, {} reserved, {} declined): detach something, or choose a larger --subnet",
        usage.held, usage.hosts, usage.reserved, usage.declined
    )]
    NoIpLeft { network: String, usage: Usage },

    // The network.
    #[error("network {network} collides with the host's route {route}: \"vswitch down\", and \"vswitch up --subnet\" with another")]
    Collision { network: String, route: String },
    #[error("cannot read this host's routes: give --subnet")]
    NoRoutes,
    #[error("--gateway {gateway} is outside {subnet}: choose {range}")]
    GatewayOutside { gateway: Ipv4Addr, subnet: String, range: String },
    #[error("--gateway {gateway} is in no private subnet that is free: give --subnet too")]
    GatewayNotFree { gateway: Ipv4Addr },
    #[error("every private /{} is in use on this host: give --subnet", network::PREFIX)]
    NoSubnetFree,
    #[error("--subnet {subnet} has no length: write A/LEN, as 10.88.0.0/20")]
    NoLength { subnet: String },
    #[error("--subnet {subnet} is no IPv4 subnet: write A/LEN, as 10.88.0.0/20")]
    NoSubnet { subnet: String },
    #[error("--subnet {subnet} cannot be: choose a length of {} to {}", PREFIXES.start(), PREFIXES.end())]
    Length { subnet: String },
    #[error("--subnet {subnet} has bits beyond its length: write {base}/{prefix}")]
    Bits { subnet: String, base: Ipv4Addr, prefix: u8 },
    #[error("--subnet {subnet} is no unicast subnet: choose a private one, as 10.88.0.0/20")]
    NotUnicast { subnet: String },
    #[error("--prefix6 {prefix} is no IPv6 prefix: write PREFIX/64, as 2001:db8:1::/64")]
    Prefix6 { prefix: String },
    #[error("--prefix6 {prefix} cannot be: addresses are made of 64 bits, as 2001:db8:1::/64")]
    Length6 { prefix: String },
    #[error("--prefix6 {prefix} has bits beyond its length: write {base}/64")]
    Bits6 { prefix: String, base: Ipv6Addr },
    #[error("--prefix6 {prefix} is no unicast prefix: give one that is routed to this machine, as 2001:db8:1::/64")]
    NotUnicast6 { prefix: String },
    #[error("a network cannot have {prefix} bits: restart with this version on both sides")]
    OtherPrefix { prefix: u8 },
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: &str = "\"web\" (port 1, 10.88.0.2)";
    const RANGE: &str = "10.88.0.2-10.88.15.254";
    const IP: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);

    fn mac() -> UnicastMac {
        UnicastMac::for_ipv4(IP.octets())
    }

    table! { NameProblem:
        NothingAttached { name: "web".into() } => "nothing is attached as \"web\": \"vswitch attach\" first",
        NotAttached { name: "web".into() } => "nothing is attached as \"web\": \"vswitch show\" lists what is",
        NamespaceAttached { at: AT.into(), other: "web".into() }
            => "this namespace is already attached as \"web\" (port 1, 10.88.0.2): \"vswitch detach web\" first",
        Taken { at: AT.into(), other: "web".into() }
            => "the name is taken by \"web\" (port 1, 10.88.0.2): pass --name, or \"vswitch detach web\" first",
        AliasTaken { alias: "www".into(), at: AT.into(), other: "web".into() }
            => "the alias \"www\" is taken by \"web\" (port 1, 10.88.0.2): choose another, or \"vswitch detach web\" first",
        Reserved { name: "switch".into() } => "\"switch\" means the switch itself: pass another --name",
        Odd { name: "a b".into() }
            => "\"a b\" cannot be a name: pass --name with 1 to 63 letters, digits, '.', '_' or '-', the first a letter or digit",
        Ifname { ifname: "a/b".into(), error: IfNameError::Character("a/b".into()) }
            => "--ifname \"a/b\": interface name \"a/b\" is not one the kernel takes: use letters, digits, '-', '_' and '.'",
        Mtu { mtu: 1 } => "--mtu 1 cannot be set: choose 68 to 65521",
        HostKind {} => "--type veth is for containers: leave it out, the host has a TAP",
        Mac { mac: "x".into(), error: MacParseError::Syntax }
            => "--mac x: not a MAC address: write six hexadecimal octets, as 02:58:0a:58:00:02",
        MacOfGateway { mac: mac() } => "--mac 02:58:0a:58:00:02 is the gateway's: choose another",
        MacTaken { mac: mac(), at: AT.into() }
            => "--mac 02:58:0a:58:00:02 is taken by \"web\" (port 1, 10.88.0.2): choose another",
        IpTaken { ip: IP, at: AT.into() }
            => "--ip 10.88.0.2 is taken by \"web\" (port 1, 10.88.0.2): choose another, or leave it out",
        IpOfGateway { ip: IP, range: RANGE.into() } => "--ip 10.88.0.2 is the gateway's: choose 10.88.0.2-10.88.15.254",
        IpOutside { ip: IP, network: "default (10.88.0.0/20)".into(), range: RANGE.into() }
            => "--ip 10.88.0.2 is outside network default (10.88.0.0/20): choose 10.88.0.2-10.88.15.254, or \"vswitch up --subnet\"",
        IpReserved { ip: IP, holder: "db".into() }
            => "--ip 10.88.0.2 is reserved for db: choose another, or \"vswitch unreserve 10.88.0.2\"",
        ReserveTaken { ip: IP, at: AT.into() }
            => "10.88.0.2 is taken by \"web\" (port 1, 10.88.0.2): choose another, or detach that one first",
        ReserveReserved { ip: IP, holder: "db".into() } => "10.88.0.2 is reserved for db: \"vswitch unreserve 10.88.0.2\" first",
        ReserveFull {} => "there are 4096 reservations already: \"vswitch unreserve\" some",
        NotReserved { ip: IP } => "10.88.0.2 is not reserved: \"vswitch leases\" lists what is",
        NoIpLeft { network: "default (10.88.0.0/20)".into(), usage: Usage { hosts: 4_093, held: 4_090, reserved: 2, declined: 1 } }
            => "network default (10.88.0.0/20) has no address left (4090 of 4093 in use, 2 reserved, 1 declined): detach something, or choose a larger --subnet",
        Collision { network: "default (10.88.0.0/20)".into(), route: "10.88.0.0/16".into() }
            => "network default (10.88.0.0/20) collides with the host's route 10.88.0.0/16: \"vswitch down\", and \"vswitch up --subnet\" with another",
        NoRoutes {} => "cannot read this host's routes: give --subnet",
        GatewayOutside { gateway: IP, subnet: "10.0.0.0/24".into(), range: "10.0.0.1-10.0.0.254".into() }
            => "--gateway 10.88.0.2 is outside 10.0.0.0/24: choose 10.0.0.1-10.0.0.254",
        GatewayNotFree { gateway: IP } => "--gateway 10.88.0.2 is in no private subnet that is free: give --subnet too",
        NoSubnetFree {} => "every private /20 is in use on this host: give --subnet",
        NoLength { subnet: "10.0.0.0".into() } => "--subnet 10.0.0.0 has no length: write A/LEN, as 10.88.0.0/20",
        NoSubnet { subnet: "x/24".into() } => "--subnet x/24 is no IPv4 subnet: write A/LEN, as 10.88.0.0/20",
        Length { subnet: "10.0.0.0/7".into() } => "--subnet 10.0.0.0/7 cannot be: choose a length of 8 to 30",
        Bits { subnet: "10.88.0.2/20".into(), base: Ipv4Addr::new(10, 88, 0, 0), prefix: 20 }
            => "--subnet 10.88.0.2/20 has bits beyond its length: write 10.88.0.0/20",
        NotUnicast { subnet: "224.0.0.0/8".into() } => "--subnet 224.0.0.0/8 is no unicast subnet: choose a private one, as 10.88.0.0/20",
        Prefix6 { prefix: "x/64".into() } => "--prefix6 x/64 is no IPv6 prefix: write PREFIX/64, as 2001:db8:1::/64",
        Length6 { prefix: "2001:db8::/48".into() }
            => "--prefix6 2001:db8::/48 cannot be: addresses are made of 64 bits, as 2001:db8:1::/64",
        Bits6 { prefix: "2001:db8::1/64".into(), base: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0) }
            => "--prefix6 2001:db8::1/64 has bits beyond its length: write 2001:db8::/64",
        NotUnicast6 { prefix: "ff02::/64".into() }
            => "--prefix6 ff02::/64 is no unicast prefix: give one that is routed to this machine, as 2001:db8:1::/64",
        OtherPrefix { prefix: 31 } => "a network cannot have 31 bits: restart with this version on both sides",
    }
}
