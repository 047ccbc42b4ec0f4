//! What is counted, and the law: every frame has exactly one fate.
use std::time::Duration;
use vswitch_switch::{DropCounts, PortId};

/// Both sides of the law of accounting: `rx + from_uplink + generated + copied = tx + to_uplink + consumed + held + dropped`, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Received from ports.
    pub rx: u64,
    /// Received from the uplink.
    pub from_uplink: u64,
    /// Made here: the gateway's answers, requests and fragments, loop probes.
    pub generated: u64,
    /// Flood copies and segments beyond the first.
    pub copied: u64,
    /// Taken by an egress port's kernel.
    pub tx: u64,
    /// Taken by the uplink's kernel.
    pub to_uplink: u64,
    /// Taken by the gateway.
    pub consumed: u64,
    /// Queued now.
    pub held: u64,
    /// Dropped, for any reason.
    pub dropped: u64,
}

impl Accounts {
    /// Whether the law holds.
    #[must_use]
    pub const fn balanced(&self) -> bool {
        self.rx + self.from_uplink + self.generated + self.copied
            == self.tx + self.to_uplink + self.consumed + self.held + self.dropped
    }
}

/// One port's counters. A drop is counted at the port that causes it: ingress for what is not admitted, egress for what
/// cannot leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// Frames received.
    pub rx_frames: u64,
    /// Octets received, without tags.
    pub rx_bytes: u64,
    /// Frames sent (a GSO frame is one).
    pub tx_frames: u64,
    /// Octets sent, without tags.
    pub tx_bytes: u64,
    /// Frames dropped.
    pub drops: DropCounts,
}

/// What is counted beside the ports that there are: for a process that goes on where another ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Of ports that are gone.
    pub closed: PortCounters,
    /// The gateway's.
    pub gateway: PortCounters,
    /// Of uplinks that are gone, what came from them and what went to them, in frames.
    pub uplinks: (u64, u64),
    /// See [`Accounts`].
    pub generated: u64,
    /// See [`Accounts`].
    pub copied: u64,
    /// See [`Accounts`].
    pub consumed: u64,
}

/// A port as it is listed.
#[derive(Clone, Debug)]
pub struct PortStats {
    /// `tap`, `veth`, `memory`, `gateway` or `uplink`.
    pub kind: &'static str,
    /// Layer 3 octets that a frame to it may have.
    pub mtu: u16,
    /// Its counters.
    pub counters: PortCounters,
    /// Frames that the kernel dropped before we could read them.
    pub kernel_drops: u64,
    /// Dynamic addresses behind it.
    pub fdb_entries: u32,
    /// Blocked by loop detection.
    pub blocked: bool,
    /// TUN_F_* mask in force.
    pub offload: u32,
}

/// A snapshot of everything counted.
#[derive(Clone, Debug)]
pub struct Stats {
    /// The law's terms.
    pub accounts: Accounts,
    /// Ports, ascending: the gateway's first, the uplink ([`PortId::UPLINK`]) last if there is one.
    pub ports: Vec<(PortId, PortStats)>,
    /// Drops by reason over all ports, closed ones included.
    pub drops: DropCounts,
    /// FDB entries in use.
    pub fdb_entries: u32,
    /// FDB entries at the most.
    pub fdb_capacity: u32,
    /// FDB entries that gave way to others.
    pub fdb_evicted: u64,
    /// FDB ageing time.
    pub ageing: Duration,
    /// Reserved group addresses let through, see [`vswitch_switch::SwitchConfig`].
    pub group_forward: u16,
    /// Memberships of multicast groups.
    pub groups: u32,
    /// Reports of such that found no room: their ports got everything.
    pub groups_full: u64,
    /// Events of the switch that nobody fetched in time.
    pub events_lost: u64,
    /// Frames that each further worker has read.
    pub read: Vec<u64>,
}
