//! `uplink`: how containers reach the world; listed or set.
use crate::api::client::Client;
use crate::api::types::{UplinkOrder, Verb};
use crate::args::{Uplink, UplinkSet};
use crate::errors::PublishProblem;
use crate::print;
use crate::publish::parse_net;
use anyhow::{Context, Result, bail};
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
        Some(Uplink::Set { kind: UplinkSet::Socket }) => Client::connect()?.ask(Verb::UplinkSocket, &[]),
        Some(Uplink::Set { kind: UplinkSet::Packet(args) }) => set(&args),
    }
}

fn show(json: bool) -> Result<()> {
    let uplink: Option<UplinkOrder> = Client::connect()?.ask(Verb::Uplink, &[])?;
    if json {
        return print::json(&uplink);
    }
    match uplink {
        None => print::out("none\n"),
        Some(UplinkOrder { iface, mac, mtu, addresses, gateways, dhcp }) => {
            let from = if dhcp { "by DHCP " } else { "" };
            let addresses = if addresses.is_empty() { "no address yet".into() } else { addresses.join(", ") };
            let gateways: Vec<String> = gateways.iter().map(ToString::to_string).collect();
            let gateways = if gateways.is_empty() { "none".into() } else { gateways.join(", ") };
            print::out(&format!("packet {iface}, {from}{addresses}, gateway {gateways}, mac {mac}, mtu {mtu}\n"))
        }
    }
}

fn set(args: &crate::args::PacketUplink) -> Result<()> {
    if args.ip.is_empty() && !args.dhcp {
        bail!(PublishProblem::NoAddress);
    }
    let addresses = args
        .ip
        .iter()
        .map(|text| match parse_net(text) {
            Ok((address, prefix)) if text.contains('/') => Ok((address, format!("{address}/{prefix}"))),
            Ok(_) | Err(_) => Err(PublishProblem::UplinkAddress { text: text.clone() }),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mac = args.mac.unwrap_or_else(|| own_mac(&addresses, &args.iface));
    let mut order = plug(UplinkOrder {
        iface: args.iface.clone(),
        mac: mac.to_string(),
        mtu: 0,
        dhcp: args.dhcp,
        addresses: addresses.iter().map(|(_, text)| text.clone()).collect(),
        gateways: args.gateway.clone(),
    })?;
    let until = Instant::now() + DHCP_PATIENCE;
    while order.dhcp && !order.addresses.iter().any(|address| !address.contains(':')) {
        if Instant::now() > until {
            print::note("no DHCP server has answered yet; it is asked on, \"vswitch uplink\" shows what comes of it");
            break;
        }
        std::thread::sleep(LOOK);
        order = Client::connect()?.ask::<Option<UplinkOrder>>(Verb::Uplink, &[])?.unwrap_or(order);
    }
    print::out(&format!("uplink {}, mac {mac}, mtu {}\n", order.describe(), order.mtu))?;
    print::note("the host's firewall does not see this uplink: only published ports and replies come in");
    Ok(())
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
        print::note(&format!("{iface} is down: \"ip link set {iface} up\", and the uplink goes with it"));
    }
    if ["wireless", "phy80211"].iter().any(|kind| has(&iface, kind)) {
        print::note(&format!("{iface} is wireless: most access points drop frames of a second hardware address"));
    }
    Ok(order)
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
fn own_mac(addresses: &[(std::net::IpAddr, String)], iface: &str) -> UnicastMac {
    let octets = match addresses.first().map(|(address, _)| *address) {
        Some(std::net::IpAddr::V4(address)) => address.octets(),
        Some(std::net::IpAddr::V6(address)) => {
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
