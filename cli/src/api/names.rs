//! Names, as the daemon tells them.
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A name that the gateway answers for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Name {
    pub name: String,
    /// Whose it is.
    pub container: String,
    pub ip: Ipv4Addr,
    pub ip6: Option<Ipv6Addr>,
    /// It is not the container's own, but another one of it.
    pub alias: bool,
}

/// What became of questions to the gateway's port 53.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameCounts {
    /// Answered of what is known here.
    pub internal: u64,
    /// Refused, for there is no uplink.
    pub refused: u64,
    /// Came by TCP, of all.
    #[serde(default)]
    pub by_tcp: u64,
    /// Answered of what a resolver said before.
    pub cached: u64,
    /// Waited for the answer to another's.
    pub joined: u64,
    /// Messages to resolvers.
    pub sent: u64,
    /// Answers of theirs.
    pub answered: u64,
    /// No resolver had an answer.
    pub failed: u64,
    /// Messages that were no answer to what was asked.
    pub ignored: u64,
    /// Answers in another case than asked.
    pub other_case: u64,
    /// Answers that could not be read.
    pub malformed: u64,
    /// Entries of the cache now, and their octets.
    pub entries: u64,
    pub octets: u64,
    /// Entries that gave way before their time.
    pub evicted: u64,
}
