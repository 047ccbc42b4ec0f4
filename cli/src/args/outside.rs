//! Arguments of the commands about the outside: the uplink and the NAT.
use super::{Group, Subcommand};
use std::net::IpAddr;
use vswitch_switch::UnicastMac;

#[derive(Subcommand)]
pub enum Uplink {
    /// Set it
    Set {
        #[command(subcommand)]
        kind: UplinkSet,
    },
}

#[derive(Subcommand)]
pub enum UplinkSet {
    /// None: containers reach each other only
    None,
    /// The host's sockets: no privilege needed, and the host's firewall applies
    Socket,
    /// An interface on which vswitch has its own hardware and IP addresses, past the host's firewall
    Packet(PacketUplink),
}

#[derive(Group)]
pub struct PacketUplink {
    /// The interface
    pub iface: String,
    /// An address of its network that is to be vswitch's own, IPv4 or IPv6
    #[arg(long, value_name = "A/LEN")]
    pub ip: Vec<String>,
    /// Ask the network's DHCP server for the IPv4 address and router
    #[arg(long)]
    pub dhcp: bool,
    /// Its router, one of each family
    #[arg(long, value_name = "A")]
    pub gateway: Vec<IpAddr>,
    /// Hardware address there [default: 02:58 and the IP address]
    #[arg(long)]
    pub mac: Option<UnicastMac>,
}

#[derive(Group)]
pub struct Publish {
    /// [HOSTIP:]PORT[-PORT]:PORT[-PORT][/tcp|udp]
    pub spec: String,
    /// A container, or several that share the connections: web1,web2
    #[arg(value_name = "NAME[,NAME]")]
    pub names: String,
    /// Only clients of this network [default: everybody]
    #[arg(long, value_name = "A/LEN")]
    pub from: Vec<String>,
}

#[derive(Group)]
pub struct Flows {
    /// Only this container's
    pub name: Option<String>,
    /// Only of this protocol: tcp, udp, icmp, icmpv6
    #[arg(long, value_name = "PROTO")]
    pub protocol: Option<String>,
    /// Only with this port at either end
    #[arg(long)]
    pub port: Option<u16>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Subcommand)]
pub enum Flush {
    /// A container's sessions, at once
    Flows {
        /// A container
        name: String,
    },
}
