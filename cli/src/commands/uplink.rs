//! `uplink`: how containers reach the world; listed or set.
use super::bind;
use crate::api::client::Client;
use crate::api::outside;
use crate::api::types::{Published, UplinkOrder, Verb};
use crate::args::{Uplink, UplinkSet};
use crate::config::outside::Packet;
use crate::errors::PublishProblem;
use crate::print;
use crate::publish::{Spec, parse_net};
use anyhow::{Context, Result, bail};
use nix::sys::socket::SockaddrStorage;
use serde::Serialize;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use vswitch_io::link::{IfName, Netlink};
use vswitch_io::sys::packet;
use vswitch_switch::{Mac, UnicastMac};

/// Where the kernel tells of interfaces.
const INTERFACES: &str = "/sys/class/net";
/// IFF_UP (linux/if.h).
const IFF_UP: u32 = 1;
/// How long a DHCP server may take before we go on without it.
const DHCP_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// ARPHRD_ETHER (linux/if_arp.h).
const ETHERNET: &str = "1";

pub fn run(action: Option<Uplink>, json: bool) -> Result<()> {
    match action {
        None => show(json),
        Some(Uplink::Set { kind: UplinkSet::None }) => Client::connect()?.ask(Verb::UplinkNone, &[]),
        Some(Uplink::Set { kind: UplinkSet::Socket }) => set_socket(),
        Some(Uplink::Set { kind: UplinkSet::Packet(args) }) => set(&args),
    }
}

/// What `uplink --json` prints.
#[derive(Serialize)]
struct View {
    #[serde(flatten)]
    listed: outside::Listed,
    /// What needs to be looked at, each with its remedy.
    warnings: Vec<String>,
}

fn show(json: bool) -> Result<()> {
    let listed: Option<outside::Listed> = Client::connect()?.ask(Verb::Uplink, &[])?;
    let view = listed.map(|listed| View { warnings: warnings(&listed.uplink), listed });
    if json {
        return print::json(&view);
    }
    let Some(View { listed: outside::Listed { uplink, resolvers }, warnings }) = view else { return print::out("none\n") };
    let Some(UplinkOrder { iface, mac, mtu, addresses, gateways, dhcp }) = uplink.packet() else {
        return print::out(&format!("socket, resolvers {}\n", print::list(&resolvers)));
    };
    let from = if dhcp { "by DHCP " } else { "" };
    let addresses = if addresses.is_empty() { "no address yet".into() } else { addresses.join(", ") };
    let gateways: Vec<String> = gateways.iter().map(ToString::to_string).collect();
    let gateways = if gateways.is_empty() { "none".into() } else { gateways.join(", ") };
    let resolvers = print::list(&resolvers);
    print::out(&format!("packet {iface}, {from}{addresses}, gateway {gateways}, mac {mac}, mtu {mtu}, resolvers {resolvers}\n"))?;
    warnings.iter().try_for_each(|warning| print::out(&format!("{warning}\n")))
}

/// How an interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Gone,
    Down,
    NoCarrier,
    Up,
}

impl Link {
    fn of(iface: &str) -> Self {
        if !has(iface, "flags") {
            Self::Gone
        } else if is_down(iface) {
            Self::Down
        } else if fact(iface, "carrier") == "0" {
            Self::NoCarrier
        } else {
            Self::Up
        }
    }
}

/// What of the uplink needs to be looked at, each with its remedy.
pub fn warnings(uplink: &outside::Uplink) -> Vec<String> {
    match uplink {
        outside::Uplink::Socket => Vec::new(),
        outside::Uplink::Packet(uplink) => {
            problems(uplink, Link::of(&uplink.order.iface)).iter().map(ToString::to_string).collect()
        }
    }
}

fn problems(uplink: &outside::PacketUplink, link: Link) -> Vec<PublishProblem> {
    let UplinkOrder { iface, mac, .. } = &uplink.order;
    let iface = || iface.clone();
    let silent = uplink.silent.iter();
    let mut problems: Vec<PublishProblem> = match link {
        Link::Gone => vec![PublishProblem::IfaceGone { iface: iface() }],
        Link::Down => vec![PublishProblem::IfaceDown { iface: iface() }],
        Link::NoCarrier => vec![PublishProblem::NoCarrier { iface: iface() }],
        // Only of a link that is up it says anything.
        Link::Up => {
            silent.map(|gateway| PublishProblem::RouterSilent { gateway: *gateway, mac: mac.clone(), iface: iface() }).collect()
        }
    };
    if uplink.conflicts > 0 {
        problems.push(PublishProblem::Conflicts { iface: iface(), count: uplink.conflicts });
    }
    problems
}

fn set(args: &crate::args::PacketUplink) -> Result<()> {
    if args.ip.is_empty() && !args.dhcp {
        bail!(PublishProblem::NoAddress);
    }
    let addresses = args
        .ip
        .iter()
        .map(|text| match parse_net(text) {
            Ok((address, prefix)) if text.contains('/') => Ok(format!("{address}/{prefix}")),
            Ok(_) | Err(_) => Err(PublishProblem::UplinkAddress { text: text.clone() }),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut order = plug(order(&Packet {
        iface: args.iface.clone(),
        addresses,
        dhcp: args.dhcp,
        gateways: args.gateway.clone(),
        mac: args.mac,
    }))?;
    let until = Instant::now() + DHCP_PATIENCE;
    while order.dhcp && !order.addresses.iter().any(|address| !address.contains(':')) {
        if Instant::now() > until {
            print::note("no DHCP server has answered yet; it is asked on, \"vswitch uplink\" shows what comes of it");
            break;
        }
        std::thread::sleep(LOOK);
        order = Client::connect()?
            .ask::<Option<outside::Uplink>>(Verb::Uplink, &[])?
            .and_then(outside::Uplink::packet)
            .unwrap_or(order);
    }
    print::out(&format!("uplink {}, mac {}, mtu {}\n", order.describe(), order.mac, order.mtu))?;
    print::note("the host's firewall does not see this uplink: only published ports and replies come in");
    Ok(())
}

/// Makes the host's sockets the uplink; what is published is bound first.
pub fn set_socket() -> Result<()> {
    let mut client = Client::connect()?;
    let published: Vec<Published> = client.ask(Verb::Published, &[])?;
    let specs = published.iter().map(|row| row.spec.parse()).collect::<Result<Vec<Spec>, _>>()?;
    let has_sockets = client.ask::<Option<outside::Uplink>>(Verb::Uplink, &[])? == Some(outside::Uplink::Socket);
    if !has_sockets {
        bind::stage(&mut client, &specs)?;
    }
    client.ask(Verb::UplinkSocket, &[])
}

/// As the daemon takes it, with a hardware address where none was given.
pub fn order(packet: &Packet) -> UplinkOrder {
    packet.order(packet.mac.unwrap_or_else(|| own_mac(&packet.addresses, &packet.iface)))
}

/// Opens the uplink's socket and gives it to the daemon; the MTU is the interface's.
pub fn plug(mut order: UplinkOrder) -> Result<UplinkOrder> {
    // The daemon first: without one there is nothing to set.
    let mut client = Client::connect()?;
    let iface = order.iface.clone();
    let no_interface = || PublishProblem::NoInterface { iface: iface.clone(), there: ethernet() };
    let name = IfName::parse(&iface).map_err(|_| no_interface())?;
    let index = Netlink::open()?.index(&name)?.with_context(no_interface)?;
    if fact(&iface, "type") != ETHERNET {
        bail!(PublishProblem::NotEthernet { iface });
    }
    for (sign, kind) in [("brport", "bridge"), ("bonding_slave", "bond")] {
        if has(&iface, sign) {
            let master = std::fs::read_link(format!("{INTERFACES}/{iface}/master")).unwrap_or_default();
            let master = master.file_name().unwrap_or_default().to_string_lossy().into_owned();
            bail!(PublishProblem::PortOf { iface, kind, master });
        }
    }
    refuse_own(&order.addresses, &host_addresses())?;
    order.mtu = fact(&iface, "mtu").parse().unwrap_or(1_500);
    let mac: UnicastMac =
        order.mac.parse().map_err(|error| PublishProblem::UplinkFd { error: format!("{}: {error}", order.mac) })?;
    let (socket, promiscuous) =
        packet::open_uplink(index, mac.mac().0).map_err(|error| PublishProblem::Socket { iface: iface.clone(), error })?;
    client.ask::<()>(Verb::UplinkPacket(order.clone()), &[socket.as_fd()])?;
    if promiscuous {
        print::note(&format!("{iface} takes no second address and is promiscuous now"));
    }
    if is_down(&iface) {
        print::note(&PublishProblem::IfaceDown { iface: iface.clone() }.to_string());
    }
    if ["wireless", "phy80211"].iter().any(|kind| has(&iface, kind)) {
        print::note(&format!("{iface} is wireless: most access points drop frames of a second hardware address"));
    }
    Ok(order)
}

/// Refuses an address that the host has itself: it would answer for it too.
fn refuse_own(ours: &[String], host: &[(String, IpAddr)]) -> Result<(), PublishProblem> {
    let is_own = |address: IpAddr| ours.iter().any(|net| parse_net(net).is_ok_and(|(ours, _)| ours == address));
    match host.iter().find(|(_, address)| is_own(*address)) {
        Some((iface, address)) => Err(PublishProblem::HostAddress { address: *address, iface: iface.clone() }),
        None => Ok(()),
    }
}

/// The host's addresses with their interfaces, on all of them.
fn host_addresses() -> Vec<(String, IpAddr)> {
    let address = |address: SockaddrStorage| match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Some(IpAddr::V4(v4.ip())),
        (None, v6) => v6.map(|v6| IpAddr::V6(v6.ip())),
    };
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let all = all.filter_map(|of| Some((of.interface_name, address(of.address?)?)));
    // Those that no host has on a link are refused as such.
    all.filter(|(_, address)| !address.is_loopback()).collect()
}

/// What the kernel says of an interface, in one word.
fn fact(iface: &str, fact: &str) -> String {
    std::fs::read_to_string(format!("{INTERFACES}/{iface}/{fact}")).unwrap_or_default().trim().into()
}

fn has(iface: &str, part: &str) -> bool {
    std::path::Path::new(&format!("{INTERFACES}/{iface}/{part}")).exists()
}

fn is_down(iface: &str) -> bool {
    let flags = fact(iface, "flags");
    flags.strip_prefix("0x").and_then(|flags| u32::from_str_radix(flags, 16).ok()).is_some_and(|flags| flags & IFF_UP == 0)
}

/// The interfaces that can be an uplink, by name.
fn ethernet() -> Vec<String> {
    let entries = std::fs::read_dir(INTERFACES).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| fact(name, "type") == ETHERNET).collect();
    names.sort_unstable();
    names
}

/// Locally administered, and the same whenever the address is, or where there is none to choose by, the interface.
fn own_mac(addresses: &[String], iface: &str) -> UnicastMac {
    let octets = match addresses.first().and_then(|net| parse_net(net).ok()).map(|(address, _)| address) {
        Some(IpAddr::V4(address)) => address.octets(),
        Some(IpAddr::V6(address)) => {
            let [.., a, b, c, d] = address.octets();
            [a, b, c, d]
        }
        None => {
            let of_iface = std::fs::read_to_string(format!("/sys/class/net/{iface}/address")).unwrap_or_default();
            let mac: Mac = of_iface.trim().parse().unwrap_or(Mac::ZERO);
            let [.., a, b, c, d] = mac.0;
            [a, b, c, d]
        }
    };
    UnicastMac::for_ipv4(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_addresses_are_refused() {
        let host = [("lo".to_owned(), "127.0.0.1"), ("eth0".to_owned(), "198.51.100.2"), ("eth1".to_owned(), "2001:db8::2")];
        let host = host.map(|(iface, address)| (iface, address.parse().unwrap()));
        let refused = |ours: &str| refuse_own(&[ours.into()], &host).err().map(|problem| problem.to_string());
        assert_eq!(refused("198.51.100.3/24"), None);
        assert!(refused("198.51.100.2/32").unwrap().starts_with("--ip 198.51.100.2 is the host's own, on eth0: "));
        assert!(refused("2001:db8::2/64").unwrap().contains("on eth1: "));
        assert!(host_addresses().iter().all(|(iface, _)| !iface.is_empty()));
    }

    #[test]
    fn a_silent_router_is_told_of_a_link_that_is_up() {
        let order = UplinkOrder {
            iface: "eth0".into(),
            mac: "02:58:c6:33:64:02".into(),
            mtu: 1_500,
            dhcp: false,
            addresses: vec!["198.51.100.2/24".into()],
            gateways: vec!["198.51.100.1".parse().unwrap()],
        };
        let mut uplink = outside::PacketUplink { order, silent: Vec::new(), conflicts: 0 };
        let told =
            |uplink: &outside::PacketUplink, link| problems(uplink, link).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(told(&uplink, Link::Up), [""; 0]);
        uplink.silent = uplink.order.gateways.clone();
        let [silent] = &told(&uplink, Link::Up)[..] else { panic!("one") };
        assert!(silent.starts_with("gateway 198.51.100.1 on eth0 does not answer 02:58:c6:33:64:02: "), "{silent}");
        uplink.conflicts = 3;
        for (link, part) in [(Link::Gone, "there is no more"), (Link::Down, "is down"), (Link::NoCarrier, "no carrier")] {
            let [first, second] = &told(&uplink, link)[..] else { panic!("two") };
            assert!(first.contains(part) && second.contains(" (times seen: 3): "), "{first} {second}");
        }
    }
}
