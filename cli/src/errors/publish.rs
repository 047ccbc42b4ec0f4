//! Published ports and the uplink.
use std::net::{IpAddr, Ipv6Addr};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum PublishProblem {
    // What is written.
    #[error("\"{spec}\" is no published port: write [HOSTIP:]PORT[-PORT]:PORT[-PORT][/tcp|udp], as 8080:80")]
    Spec { spec: String },
    #[error("\"{spec}\": \"{protocol}\" has no ports to publish: write tcp or udp")]
    Protocol { spec: String, protocol: String },
    #[error("\"{spec}\": \"{ports}\" is neither a port nor a range: write 1 to 65535, the smaller first")]
    Ports { spec: String, ports: String },
    #[error("\"{spec}\": \"{address}\" is no address of this host: write one, an IPv6 address in brackets, or leave it out")]
    Address { spec: String, address: String },
    #[error("\"{spec}\": {outside} ports outside and {inside} inside: write ranges of the same length")]
    Lengths { spec: String, outside: u16, inside: u16 },
    #[error("--from {net} is no network: write A/LEN, as 192.0.2.0/24")]
    Net { net: String },

    // What is refused.
    #[error(
        "{spec}: port {port} is published to {by} already, nothing was published: choose another, or \"vswitch unpublish {port}\""
    )]
    Taken { spec: String, port: u16, by: String },
    #[error("{spec}: its last port inside would pass 65535: choose a shorter range")]
    Range { spec: String },
    #[error("{spec}: a published port has 1 to 64 containers: name fewer")]
    Backends { spec: String },
    #[error(
        "{spec}: \"{name}\" is the host, whose answers do not come back through the switch: give clients an address of its own"
    )]
    ToHost { spec: String, name: String },
    #[error("{spec}: there are as many published ranges as can be: publish whole ranges, or unpublish some")]
    Full { spec: String },
    #[error("{spec}: \"{name}\" is named twice: name each once")]
    Twice { spec: String, name: String },
    #[error("{port}/{protocol} is not published: \"vswitch published\" lists what is")]
    NotPublished { port: u16, protocol: String },
    #[error("{port}/{protocol} is not published to \"{name}\": \"vswitch published\" lists what is")]
    NotTo { port: u16, protocol: String, name: String },

    #[error("{place} is held by {name} (pid {pid}), nothing was published: choose another host port")]
    HeldBy { place: String, name: String, pid: u32 },
    #[error("{place} is held by another program, nothing was published: choose another host port")]
    Held { place: String },
    #[error(
        "{place}: ports below 1024 are root's, nothing was published: choose another, or \
         \"sudo sysctl -w net.ipv4.ip_unprivileged_port_start={port}\""
    )]
    Privileged { place: String, port: u16 },
    #[error("{place}: {address} is no address of this host, nothing was published: \"ip address\" lists them")]
    NoSuchAddress { place: String, address: String },
    #[error("{place}: no more files may be open, nothing was published: raise \"ulimit -n\", or publish fewer ports")]
    TooManySockets { place: String },
    #[error("{place} cannot be bound ({error}), nothing was published: see what is there with \"ss -ltnup\"")]
    NotBound { place: String, error: std::io::Error },
    #[error("{spec}: no socket for port {port} came with it: publish it with this version of vswitch")]
    NoSocket { spec: String, port: u16 },
    #[error("too many sockets were passed and not published: publish fewer ports at once")]
    Staged,

    // The uplink.
    #[error("--ip {text} is no address: write A/LEN, as 192.0.2.10/24")]
    UplinkAddress { text: String },
    #[error("--ip {address} is in the containers' network {network}: give the uplink another, or \"vswitch up --subnet\"")]
    Inside { address: IpAddr, network: String },
    #[error("--gateway {gateway} is on no link of --ip: give one that is, or the right length")]
    Gateway { gateway: IpAddr },
    #[error("--gateway {gateway} is --ip itself: give the router's address")]
    OwnGateway { gateway: IpAddr },
    #[error("--gateway {gateway} is a second one of its family: give one of each")]
    SecondGateway { gateway: IpAddr },
    #[error("{flag} {address} can be no host's on that link: give an address that can")]
    NotHost { flag: &'static str, address: IpAddr },
    #[error("--ip {address} is the host's own, on {iface}: give vswitch another of that network, for both cannot have one")]
    HostAddress { address: IpAddr, iface: String },
    #[error("no --ip: say which address of the uplink's network is to be vswitch's own")]
    NoAddress,
    #[error("{spec} is at an IPv6 address, and the network has no IPv6: publish at another, or start without --no-ipv6")]
    SpecWithoutIpv6 { spec: String },
    #[error("--ip {address} would have nobody to serve, the network has no IPv6: leave it out, or start without --no-ipv6")]
    NoIpv6 { address: Ipv6Addr },
    #[error("there is no interface \"{iface}\": {}", choice(.there))]
    NoInterface { iface: String, there: Vec<String> },
    #[error("{iface} is a port of the {kind} {master}, which takes its frames: \"vswitch uplink set packet {master}\"")]
    PortOf { iface: String, kind: &'static str, master: String },
    #[error("\"{iface}\" is no Ethernet interface: choose one that is, not lo or a tunnel")]
    NotEthernet { iface: String },
    #[error("you may not open a packet socket on {iface} ({error}): \"sudo vswitch uplink set\"")]
    Socket { iface: String, error: std::io::Error },
    #[error("there is no more interface {iface}: make it again, and the uplink goes with it")]
    IfaceGone { iface: String },
    #[error("{iface} is down: \"ip link set {iface} up\", and the uplink goes with it")]
    IfaceDown { iface: String },
    #[error("{iface} has no carrier: see to its cable or its other end")]
    NoCarrier { iface: String },
    #[error(
        "gateway {gateway} on {iface} does not answer {mac}: see whether it is on; where the network takes {iface}'s own hardware \
         address only (Wi-Fi, most clouds), \"vswitch uplink set socket\", or this one again with --mac, that address and \
         net.ipv4.ip_forward=0"
    )]
    RouterSilent { gateway: IpAddr, mac: String, iface: String },
    #[error("somebody else on {iface} claims an address of the uplink (times seen: {count}): give the uplink one that nobody has")]
    Conflicts { iface: String, count: u64 },
    #[error("the uplink's file descriptor is not what it should be ({error}): set it with this version")]
    UplinkFd { error: String },
}

/// Interfaces that are named at the most.
const NAMED: usize = 8;

/// What to take of what there is.
fn choice(there: &[String]) -> String {
    let named: Vec<&str> = there.iter().take(NAMED).map(String::as_str).collect();
    match (there.len(), there.len().saturating_sub(NAMED)) {
        (0, _) => "there is no other either but lo and tunnels, add one".into(),
        (_, 0) => format!("choose of {}", named.join(", ")),
        (_, more) => format!("choose of {} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = "8080:80/tcp";

    table! { PublishProblem:
        Spec { spec: "80".into() } => "\"80\" is no published port: write [HOSTIP:]PORT[-PORT]:PORT[-PORT][/tcp|udp], as 8080:80",
        Protocol { spec: "80:80/x".into(), protocol: "x".into() } => "\"80:80/x\": \"x\" has no ports to publish: write tcp or udp",
        Ports { spec: "0:80".into(), ports: "0".into() }
            => "\"0:80\": \"0\" is neither a port nor a range: write 1 to 65535, the smaller first",
        Address { spec: "x:80:80".into(), address: "x".into() }
            => "\"x:80:80\": \"x\" is no address of this host: write one, an IPv6 address in brackets, or leave it out",
        Lengths { spec: "80-81:80".into(), outside: 2, inside: 1 }
            => "\"80-81:80\": 2 ports outside and 1 inside: write ranges of the same length",
        Net { net: "x".into() } => "--from x is no network: write A/LEN, as 192.0.2.0/24",
        Taken { spec: SPEC.into(), port: 8080, by: "web".into() }
            => "8080:80/tcp: port 8080 is published to web already, nothing was published: choose another, or \"vswitch unpublish 8080\"",
        Range { spec: SPEC.into() } => "8080:80/tcp: its last port inside would pass 65535: choose a shorter range",
        Backends { spec: SPEC.into() } => "8080:80/tcp: a published port has 1 to 64 containers: name fewer",
        ToHost { spec: SPEC.into(), name: "host".into() }
            => "8080:80/tcp: \"host\" is the host, whose answers do not come back through the switch: give clients an address of its own",
        Full { spec: SPEC.into() }
            => "8080:80/tcp: there are as many published ranges as can be: publish whole ranges, or unpublish some",
        Twice { spec: SPEC.into(), name: "web".into() } => "8080:80/tcp: \"web\" is named twice: name each once",
        NotPublished { port: 80, protocol: "tcp".into() } => "80/tcp is not published: \"vswitch published\" lists what is",
        NotTo { port: 80, protocol: "tcp".into(), name: "web".into() }
            => "80/tcp is not published to \"web\": \"vswitch published\" lists what is",
        UplinkAddress { text: "x".into() } => "--ip x is no address: write A/LEN, as 192.0.2.10/24",
        Inside { address: IpAddr::from([10, 88, 0, 9]), network: "default (10.88.0.0/20)".into() }
            => "--ip 10.88.0.9 is in the containers' network default (10.88.0.0/20): give the uplink another, or \"vswitch up --subnet\"",
        Gateway { gateway: IpAddr::from([192, 0, 2, 1]) }
            => "--gateway 192.0.2.1 is on no link of --ip: give one that is, or the right length",
        OwnGateway { gateway: IpAddr::from([192, 0, 2, 1]) } => "--gateway 192.0.2.1 is --ip itself: give the router's address",
        SecondGateway { gateway: IpAddr::from([192, 0, 2, 1]) }
            => "--gateway 192.0.2.1 is a second one of its family: give one of each",
        NotHost { flag: "--ip", address: IpAddr::from([192, 0, 2, 0]) }
            => "--ip 192.0.2.0 can be no host's on that link: give an address that can",
        HostAddress { address: IpAddr::from([192, 0, 2, 2]), iface: "eth0".into() }
            => "--ip 192.0.2.2 is the host's own, on eth0: give vswitch another of that network, for both cannot have one",
        SpecWithoutIpv6 { spec: "[::1]:80:80/tcp".into() }
            => "[::1]:80:80/tcp is at an IPv6 address, and the network has no IPv6: publish at another, or start without --no-ipv6",
        NoIpv6 { address: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1) }
            => "--ip 2001:db8::1 would have nobody to serve, the network has no IPv6: leave it out, or start without --no-ipv6",
        NoAddress {} => "no --ip: say which address of the uplink's network is to be vswitch's own",
        NoInterface { iface: "eth9".into(), there: vec!["eth0".into(), "eth1".into()] }
            => "there is no interface \"eth9\": choose of eth0, eth1",
        PortOf { iface: "eth0".into(), kind: "bridge", master: "br0".into() }
            => "eth0 is a port of the bridge br0, which takes its frames: \"vswitch uplink set packet br0\"",
        NotEthernet { iface: "lo".into() } => "\"lo\" is no Ethernet interface: choose one that is, not lo or a tunnel",
        Socket { iface: "eth0".into(), error: std::io::Error::other("denied") }
            => "you may not open a packet socket on eth0 (denied): \"sudo vswitch uplink set\"",
        IfaceGone { iface: "eth0".into() } => "there is no more interface eth0: make it again, and the uplink goes with it",
        IfaceDown { iface: "eth0".into() } => "eth0 is down: \"ip link set eth0 up\", and the uplink goes with it",
        NoCarrier { iface: "eth0".into() } => "eth0 has no carrier: see to its cable or its other end",
        RouterSilent { gateway: IpAddr::from([192, 0, 2, 1]), mac: "02:58:c0:00:02:02".into(), iface: "eth0".into() }
            => "gateway 192.0.2.1 on eth0 does not answer 02:58:c0:00:02:02: see whether it is on; where the network takes eth0's own hardware \
                address only (Wi-Fi, most clouds), \"vswitch uplink set socket\", or this one again with --mac, that address and net.ipv4.ip_forward=0",
        Conflicts { iface: "eth0".into(), count: 2 }
            => "somebody else on eth0 claims an address of the uplink (times seen: 2): give the uplink one that nobody has",
        HeldBy { place: "0.0.0.0:8080/tcp".into(), name: "nginx".into(), pid: 812 }
            => "0.0.0.0:8080/tcp is held by nginx (pid 812), nothing was published: choose another host port",
        Held { place: "0.0.0.0:8080/tcp".into() }
            => "0.0.0.0:8080/tcp is held by another program, nothing was published: choose another host port",
        Privileged { place: "0.0.0.0:80/tcp".into(), port: 80 }
            => "0.0.0.0:80/tcp: ports below 1024 are root's, nothing was published: choose another, or \"sudo sysctl -w \
                net.ipv4.ip_unprivileged_port_start=80\"",
        NoSuchAddress { place: "192.0.2.9:80/tcp".into(), address: "192.0.2.9".into() }
            => "192.0.2.9:80/tcp: 192.0.2.9 is no address of this host, nothing was published: \"ip address\" lists them",
        TooManySockets { place: "0.0.0.0:8080/tcp".into() }
            => "0.0.0.0:8080/tcp: no more files may be open, nothing was published: raise \"ulimit -n\", or publish fewer ports",
        NotBound { place: "0.0.0.0:8080/tcp".into(), error: std::io::Error::other("denied") }
            => "0.0.0.0:8080/tcp cannot be bound (denied), nothing was published: see what is there with \"ss -ltnup\"",
        NoSocket { spec: "80:80/tcp".into(), port: 80 }
            => "80:80/tcp: no socket for port 80 came with it: publish it with this version of vswitch",
        Staged {} => "too many sockets were passed and not published: publish fewer ports at once",
        UplinkFd { error: "x".into() } => "the uplink's file descriptor is not what it should be (x): set it with this version",
    }

    #[test]
    fn interfaces_to_choose_from() {
        assert_eq!(choice(&[]), "there is no other either but lo and tunnels, add one");
        let many: Vec<String> = (0..10).map(|number| format!("e{number}")).collect();
        assert_eq!(choice(&many), "choose of e0, e1, e2, e3, e4, e5, e6, e7 and 2 more");
    }
}
