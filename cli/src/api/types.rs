//! What the command line and the daemon say to each other: one JSON object a line each way, over a unix socket that also passes fds.
//!
//! A request carries the protocol's version, and another version is refused with the remedy. A connection has one request under way at
//! a time. Most are one question and one answer; three last:
//! - **attach** is three requests on one connection: `attach` reserves name and addresses and is answered with a [`Lease`]; the command
//!   line makes the interface; `plug` passes its fd and the watch's; the command line configures the interface; `ready` keeps it all. A
//!   connection that ends before `ready` takes the port with it.
//! - **mirror** and **events** last as long as their connection; events come unasked.
//!
//! Lists come in pages, so that no answer outgrows its buffer, whatever the number of ports.
pub use super::outside::{GroupEntry, NatRow};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use vswitch_io::netns::NsSpec;

/// Raised with every change that an older end would misread.
pub const VERSION: u32 = 3;
/// Octets of a request at the most, its newline included.
pub const REQUEST_BYTES: usize = 64 << 10;
/// Fds that come with a request at the most: a port's and a watch's.
pub const REQUEST_FDS: usize = 250;
/// Rows of a page at the most: a row is below 3 KB and a path of 4 KB twice, an answer below 2 MiB.
pub const PAGE_ROWS: usize = 128;

/// A request as it is sent.
#[derive(Serialize, Deserialize)]
pub struct Request {
    pub version: u32,
    #[serde(flatten)]
    pub verb: Verb,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Verb {
    Attach(Reserve),
    Plug {
        kind: Kind,
        /// TUN_F_* mask that the TAP was set to.
        mask: u32,
        /// What the second fd is; the host's own namespace is not watched and has none.
        watch: Option<WatchKind>,
    },
    Ready,
    Detach {
        /// As typed: a container's name, unless `ns` says more.
        name: String,
        ns: Option<NsId>,
    },
    Set {
        name: String,
        settings: Vec<String>,
    },
    Fdb {
        cursor: u32,
    },
    FdbAdd {
        vlan: u16,
        mac: String,
        name: String,
    },
    FdbDel {
        vlan: u16,
        mac: String,
    },
    FdbFlush {
        name: Option<String>,
    },
    /// With the file's fd.
    Mirror {
        name: String,
    },
    MirrorEnd,
    /// Answered, then an [`super::events::Event`] an answer for as long as the connection lasts.
    Events {
        /// Only those about this container.
        name: Option<String>,
    },
    Inspect {
        name: String,
    },
    /// An [`super::outside::Uplink`] or null.
    Uplink,
    /// With the packet socket's fd.
    UplinkPacket(UplinkOrder),
    UplinkSocket,
    /// Bound sockets, for what this connection publishes next.
    Stage,
    UplinkNone,
    Publish {
        /// As `publish` takes it.
        spec: String,
        names: Vec<String>,
        /// Nets, as A/LEN; empty for everybody.
        from: Vec<String>,
    },
    Unpublish {
        /// As `unpublish` takes it.
        port: String,
        name: Option<String>,
    },
    Published,
    /// Sessions, from this place on.
    Flows {
        cursor: u64,
    },
    FlushFlows {
        name: String,
    },
    Nat,
    /// Who listens to which group of multicast, from this place on.
    Groups {
        cursor: u32,
    },
    Neighbors,
    Names,
    /// Addresses after this one.
    Leases {
        after: Option<Ipv4Addr>,
    },
    ReserveAddress {
        address: Ipv4Addr,
        /// A container's name or a hardware address.
        holder: String,
    },
    UnreserveAddress {
        address: Ipv4Addr,
    },
    /// What a daemon before this one knew.
    RestoreAddresses(super::leases::Addresses),
    Info,
    /// Containers whose name comes after this one.
    Containers {
        after: Option<String>,
    },
    Stats,
    /// Ports from this number on.
    Ports {
        from: u16,
    },
    Down,
    /// With one end of a socket pair: another daemon is at the other end.
    HandOver,
}

/// A port's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A TAP: fastest, and the kernel need not know veth
    Tap,
    /// One end of a veth pair, whose other end we read through a packet socket
    Veth,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tap => "tap",
            Self::Veth => "veth",
        }
    }
}

/// Device and inode of a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NsId {
    pub dev: u64,
    pub ino: u64,
}

/// How a namespace is found again: what `exec` enters, `restore` attaches, and a list names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// An `ip netns` name.
    Name(String),
    /// A namespace file.
    Path(PathBuf),
    /// A process; its start time, in clock ticks since boot, tells it from a later one of the same number.
    Process {
        pid: i32,
        start: u64,
        /// `run` made it: it has mounts of its own.
        run: bool,
    },
    /// The daemon's own namespace, and that of the command line.
    Host,
}

impl Reach {
    pub fn spec(&self) -> NsSpec {
        match self {
            Self::Name(name) => NsSpec::Name(name.clone()),
            Self::Path(path) => NsSpec::Path(path.clone()),
            Self::Process { pid, .. } => NsSpec::Pid(*pid),
            Self::Host => NsSpec::Host,
        }
    }

    /// When its process started, where it is one's.
    pub const fn started(&self) -> Option<u64> {
        match self {
            Self::Process { start, .. } => Some(*start),
            Self::Name(_) | Self::Path(_) | Self::Host => None,
        }
    }
}

/// What attach asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reserve {
    /// None: c1, c2, ... by the daemon.
    pub name: Option<String>,
    pub ns: NsId,
    pub reach: Reach,
    pub kind: Kind,
    pub ip: Option<Ipv4Addr>,
    pub mac: Option<String>,
    pub mtu: u16,
    pub ifname: String,
    /// As `set` takes them.
    pub settings: Vec<String>,
    /// As `publish` takes them.
    #[serde(default)]
    pub publish: Vec<String>,
}

/// What attach is given.
#[derive(Debug, Serialize, Deserialize)]
pub struct Lease {
    pub name: String,
    pub ip: Ipv4Addr,
    pub prefix: u8,
    pub mac: String,
    pub gateway: Ipv4Addr,
    pub gateway_mac: String,
    /// In the network's unique local prefix (RFC 4193).
    pub ip6: Option<Ipv6Addr>,
    pub prefix6: u8,
    pub gateway6: Option<Ipv6Addr>,
}

/// What the second fd of `plug` is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WatchKind {
    /// A pidfd.
    Process,
    /// An inotify fd on `dir`.
    Name { dir: PathBuf, file: String },
}

/// An answer as it is sent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    Ok(serde_json::Value),
    /// "what: remedy", one line.
    Error(String),
}

#[derive(Debug, Serialize, Deserialize)]
pub struct FdbEntry {
    pub vlan: u16,
    pub mac: String,
    pub port: u16,
    pub name: String,
    pub r#static: bool,
    /// Seconds since it was seen last.
    pub age: u64,
}

/// A page and where the next one begins.
#[derive(Debug, Serialize, Deserialize)]
pub struct Page<Row, Cursor> {
    pub rows: Vec<Row>,
    pub next: Option<Cursor>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Info {
    pub version: String,
    pub pid: u32,
    /// Who started it.
    pub owner: u32,
    /// Whom it runs as.
    pub uid: u32,
    pub socket: PathBuf,
    pub network: String,
    pub subnet: String,
    pub gateway: Ipv4Addr,
    pub gateway_mac: String,
    /// Its IPv6 address, with the length of the prefix; none without IPv6.
    pub gateway6: Option<String>,
    /// What was chosen, as `show --config` has it.
    #[serde(default)]
    pub ipv6: crate::daemon::network6::Ipv6,
    pub uplink: String,
    /// Seconds since its start.
    pub uptime: u64,
    /// Restarts since then.
    pub restarts: u32,
    /// Whether the service manager listens, and starts it anew when asked.
    pub activated: bool,
    pub containers: u32,
    pub fdb_entries: u32,
    pub fdb_capacity: u32,
    /// Seconds.
    pub ageing: u64,
    /// Reserved group addresses let through, as `set switch group-forward=` takes them.
    pub group_forward: String,
    #[serde(flatten)]
    pub spread: crate::settings::Spread,
    /// Threads that read containers' interfaces.
    #[serde(default)]
    pub workers: crate::settings::Workers,
    /// The host's route that leads where the network is, and what to do about it.
    #[serde(default)]
    pub collision: Option<String>,
    /// What the sandbox lacks on this kernel, if anything.
    pub confinement: String,
    /// The command that shows its log, if systemd's journal has that.
    pub journal: Option<String>,
    /// Fds it needs for what is attached and connected, about.
    pub open_files: u64,
    /// Fds it may have (RLIMIT_NOFILE).
    pub open_files_limit: u64,
}

/// A packet uplink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkOrder {
    pub iface: String,
    /// Ours there.
    pub mac: String,
    pub mtu: u16,
    /// Whether the IPv4 address is DHCP's.
    #[serde(default)]
    pub dhcp: bool,
    /// Ours there, as A/LEN.
    pub addresses: Vec<String>,
    /// One of each family at the most.
    pub gateways: Vec<IpAddr>,
}

/// A published range.
#[derive(Debug, Serialize, Deserialize)]
pub struct Published {
    /// As `publish` takes it.
    pub spec: String,
    /// None: all.
    pub address: Option<String>,
    pub protocol: String,
    pub first: u16,
    pub last: u16,
    /// The container's port for the first.
    pub to: u16,
    pub names: Vec<String>,
    /// Nets that may use it; empty for everybody.
    pub from: Vec<String>,
    pub sessions: u64,
    pub packets: u64,
    /// Octets of layer 3.
    pub bytes: u64,
    /// Packets of clients that may not.
    pub refused: u64,
}

/// One direction of a flow.
#[derive(Debug, Serialize, Deserialize)]
pub struct Inside {
    pub src: IpAddr,
    pub sport: u16,
    pub dst: IpAddr,
    pub dport: u16,
}

/// A session of the NAT.
#[derive(Debug, Serialize, Deserialize)]
pub struct Flow {
    pub container: String,
    pub protocol: String,
    pub state: String,
    /// Whether its first packet came from outside.
    pub inbound: bool,
    /// Its packets as they come from where it began.
    pub original: Inside,
    /// Those against it, as they come.
    pub reply: Inside,
    /// Seconds since it began.
    pub age: u64,
    /// Seconds until it ends if it stays idle.
    pub expires: u64,
    /// Original, reply.
    pub packets: [u64; 2],
    /// Octets of layer 3, likewise.
    pub bytes: [u64; 2],
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Container {
    pub name: String,
    pub port: u16,
    pub r#type: Kind,
    pub ip: Ipv4Addr,
    pub prefix: u8,
    pub ip6: Option<Ipv6Addr>,
    pub prefix6: u8,
    pub mac: String,
    pub ifname: String,
    pub mtu: u16,
    /// Inode of its namespace.
    pub netns: u64,
    pub reach: Reach,
    /// The same as the command line has it: `ns1`, `/path`, `pid:123`, `--host`.
    pub namespace: String,
    pub vlan: String,
    /// All that `set` can change, as it takes it.
    pub settings: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Port {
    pub port: u16,
    pub name: String,
    pub r#type: String,
    pub mtu: u16,
    /// TUN_F_* mask.
    pub offload: u32,
    pub rx_frames: u64,
    pub rx_bytes: u64,
    pub tx_frames: u64,
    pub tx_bytes: u64,
    pub dropped: u64,
    /// By reason; those that are zero are left out.
    pub drops: std::collections::BTreeMap<String, u64>,
    pub kernel_drops: u64,
    pub fdb_entries: u32,
    /// By loop detection.
    pub blocked: bool,
}

/// Everything about one container, but its addresses in the table.
#[derive(Debug, Serialize, Deserialize)]
pub struct Inspected {
    #[serde(flatten)]
    pub container: Container,
    /// What tells that its namespace is gone.
    pub watch: String,
    /// When it was attached: RFC 3339, UTC.
    pub since: String,
    pub counters: Port,
    /// Reasons for which frames of it were dropped.
    pub dropped: Vec<super::stats::Drop>,
}

/// What a mirror did.
#[derive(Debug, Serialize, Deserialize)]
pub struct Mirrored {
    /// Frames handed to the file.
    pub frames: u64,
    /// Frames that did not fit, for the file took them too slowly.
    pub lost: u64,
}
