//! What is counted, as the daemon tells it.
use serde::{Deserialize, Serialize};

/// Everything counted.
#[derive(Debug, Serialize, Deserialize)]
pub struct Stats {
    pub rx: u64,
    pub from_uplink: u64,
    pub generated: u64,
    pub copied: u64,
    pub tx: u64,
    pub to_uplink: u64,
    pub consumed: u64,
    pub held: u64,
    pub dropped: u64,
    /// Whether rx + from_uplink + generated + copied = tx + to_uplink + consumed + held + dropped.
    pub balanced: bool,
    pub drops: Vec<Drop>,
    /// Frames that the kernel dropped before they could be read, over all ports there are.
    pub kernel_drops: u64,
    pub fdb_entries: u32,
    pub fdb_capacity: u32,
    pub fdb_evicted: u64,
    /// Memberships of multicast groups, and reports of such that found no room.
    pub groups: u32,
    pub groups_full: u64,
    /// None without an uplink.
    pub nat: Option<super::outside::Sessions>,
    /// What became of questions to the gateway's port 53.
    pub names: super::names::NameCounts,
    /// News of the switch (moves, flaps, loops) that nobody fetched in time.
    pub events_lost: u64,
    /// Frames that each worker but the first has read, since the last restart.
    #[serde(default)]
    pub read: Vec<u64>,
}

/// A reason for which frames were dropped.
#[derive(Debug, Serialize, Deserialize)]
pub struct Drop {
    pub reason: String,
    pub frames: u64,
    pub explanation: String,
}
