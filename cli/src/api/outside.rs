//! How the uplink and the NAT are, as the daemon tells it: what was asked for is in [`super::types`].
use super::types::UplinkOrder;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The uplink, where there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Uplink {
    /// The host's sockets.
    Socket,
    /// An interface with addresses of ours.
    Packet(PacketUplink),
}

impl Uplink {
    /// What was asked for, of a packet uplink.
    pub fn packet(self) -> Option<UplinkOrder> {
        match self {
            Self::Socket => None,
            Self::Packet(PacketUplink { order, .. }) => Some(order),
        }
    }
}

/// What `plug` is answered.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plugged {
    pub port: u16,
    /// `socket`, `packet IFACE` or `none`.
    pub uplink: String,
}

/// The uplink as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    #[serde(flatten)]
    pub uplink: Uplink,
    /// Whom the gateway asks for names.
    pub resolvers: Vec<IpAddr>,
}

/// A packet uplink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketUplink {
    #[serde(flatten)]
    pub order: UplinkOrder,
    /// Routers that do not answer.
    pub silent: Vec<IpAddr>,
    /// Times that somebody else on its link claimed an address of ours.
    pub conflicts: u64,
}

/// What happened to the NAT's sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// That there are, those included that are over and may be given up for others.
    pub sessions: u64,
    /// Begun.
    pub begun: u64,
    /// Ended by their timer, their container's end or another connection in their place.
    pub ended: u64,
    /// Given up for others, table or quota being full.
    pub reclaimed: u64,
    /// TCP segments outside their window.
    pub invalid: u64,
}

/// A rule of the NAT.
#[derive(Debug, Serialize, Deserialize)]
pub struct NatRow {
    /// `dnat` or `masquerade`.
    pub target: String,
    pub protocol: String,
    pub source: String,
    pub destination: String,
    pub to: String,
    pub sessions: u64,
    pub packets: u64,
    pub bytes: u64,
}

/// A port that listens to a group of multicast, or asks who does.
#[derive(Debug, Serialize, Deserialize)]
pub struct GroupEntry {
    pub vlan: u16,
    /// None: a router port, which gets all of them.
    pub group: Option<IpAddr>,
    /// Where its frames go.
    pub mac: Option<String>,
    pub port: u16,
    pub name: String,
    /// Seconds since it said so last.
    pub age: u64,
}

/// Who is behind an address.
#[derive(Debug, Serialize, Deserialize)]
pub struct Neighbor {
    /// `inside` or `uplink`.
    pub side: String,
    pub address: IpAddr,
    pub mac: Option<String>,
    pub state: String,
    /// Seconds since it was confirmed.
    pub age: Option<u64>,
    /// The container.
    pub name: Option<String>,
}
