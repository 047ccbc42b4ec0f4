//! Who has which address of the network, as the daemon tells it and keeps it.
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// What an address is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressState {
    /// A container's, as long as it is attached.
    Attached,
    /// A further station's behind a container's port, until its lease ends.
    Leased,
    /// Had until just now: nobody else gets it while there is another.
    Quarantine,
    /// Nobody's; its last holder gets it again.
    Free,
    /// A client found it in use by somebody unknown.
    Declined,
    /// Nobody has it, and nobody but its holder gets it.
    Reserved,
}

impl AddressState {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Leased => "leased",
            Self::Quarantine => "quarantine",
            Self::Free => "free",
            Self::Declined => "declined",
            Self::Reserved => "reserved",
        }
    }
}

/// An address of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub address: Ipv4Addr,
    /// Who has it, had it last or is to have it: a container's name, or a hardware address.
    pub holder: String,
    pub state: AddressState,
    /// The container whose port it is behind.
    pub container: Option<String>,
    pub mac: Option<String>,
    /// Who is to have it, if that is said.
    pub reserved_for: Option<String>,
    /// Seconds for which its client was told that it may have it; `null` for who never asked by DHCP.
    pub dhcp: Option<u64>,
    /// Seconds since it is in this state, where nobody has it.
    pub age: Option<u64>,
}

/// What a daemon knows of addresses that no container has, for the one that follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// Those that somebody had.
    #[serde(default)]
    pub kept: Vec<Kept>,
    /// Further stations' behind ports.
    #[serde(default)]
    pub leased: Vec<Leased>,
    /// Address and holder.
    #[serde(default)]
    pub reserved: Vec<(Ipv4Addr, String)>,
    /// Until when containers were told by DHCP that they have theirs: name, seconds from now.
    #[serde(default)]
    pub granted: Vec<(String, u64)>,
}

/// An address that somebody had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub address: Ipv4Addr,
    pub holder: String,
    pub declined: bool,
    /// Seconds since then.
    pub age: u64,
}

/// A further station's lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leased {
    pub address: Ipv4Addr,
    pub mac: String,
    /// The container whose port it is behind.
    pub container: String,
    /// From now.
    pub seconds: u64,
}
