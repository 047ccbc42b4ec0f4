//! What the daemon refuses of what it is asked for, names, addresses and settings apart.
use crate::api::events::SUBSCRIBERS;
use std::io;
use std::path::PathBuf;
use thiserror::Error;
use vswitch_switch::mac::MacParseError;
use vswitch_switch::{Mac, UnicastMac, Vid};

#[derive(Debug, Error)]
pub enum VerbProblem {
    #[error("this connection is in the middle of something: open another")]
    Busy,

    // The steps of attach.
    #[error("nothing is being attached on this connection, or its namespace went away meanwhile: attach again")]
    NotAttaching,
    #[error(
        "this command is in another network namespace than the daemon, which is in the host's: \
         \"sudo nsenter -t {pid} -n vswitch attach --host\""
    )]
    OtherHost { pid: u32 },
    #[error("this namespace is the host's own: to plug in the host use \"vswitch attach --host\"")]
    IsHost,
    #[error("it was detached meanwhile: attach again")]
    Detached,
    #[error("{name} has a port, or was reserved for another kind: attach again")]
    NotReserved { name: String },
    #[error("{count} file descriptors with a port: send the port's and the watch's")]
    PlugFds { count: usize },
    #[error("the port's file descriptor is not what it should be ({error}): attach with this version")]
    PortFd { error: String },
    #[error("{} is no absolute path: attach with this version", .dir.display())]
    WatchDir { dir: PathBuf },
    #[error("the watch's file descriptor is not what it should be: attach with this version")]
    WatchFd,
    #[error("cannot watch the namespace: attach again")]
    NotWatched,
    #[error("the namespace went away meanwhile: make it again and attach it")]
    NamespaceGone,
    #[error("it has no port yet: plug one in first")]
    NotPlugged,
    #[error("every port is taken: detach something first")]
    NoPortFree,
    #[error("{name} went away meanwhile: attach it again")]
    PortGone { name: String },
    #[error("{mac} belongs to another port: choose another --mac, or leave the guard off")]
    MacOfPort { mac: UnicastMac },

    // Detach.
    #[error("{name} is being attached: wait for it")]
    BeingAttached { name: String },
    #[error("detached, but the kernel is slow to remove the interface: look again")]
    SlowKernel,

    // The forwarding database.
    #[error("VLAN {vlan} cannot be: choose 1 to 4094")]
    NoVlan { vlan: u16 },
    #[error("{mac}: {error}")]
    NoMac { mac: String, error: MacParseError },
    #[error("{name} is not in VLAN {vid}: give one of its own with --vlan, or \"vswitch set {name} vlan={vid}\" first")]
    NotInVlan { name: String, vid: Vid },
    #[error("the table is full of entries made by hand: \"vswitch fdb del\" some, or \"vswitch up --fdb-limit\"")]
    FdbFull,
    #[error("{mac} is not known in VLAN {vid}: \"vswitch fdb\" lists what is")]
    NotKnown { mac: Mac, vid: Vid },

    // Mirrors and events.
    #[error("a mirror needs one file descriptor, to write to: send one")]
    MirrorFd,
    #[error("{name} is mirrored already: end that mirror first (interrupt it)")]
    Mirrored { name: String },
    #[error("too many mirrors run: end one first")]
    Mirrors,
    #[error("no mirror runs on this connection: start one")]
    NoMirror,
    #[error("the file cannot be written ({error}) after {frames} frames: choose another")]
    MirrorNotWritten { error: io::Error, frames: u64 },
    #[error("{SUBSCRIBERS} connections are told of events already: end one of them")]
    Subscribers,

    // Restart.
    #[error("a hand-over needs one file descriptor, to speak over: \"vswitch restart\"")]
    HandOverFd,
    #[error("a restart is under way: wait for it")]
    Leaving,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: UnicastMac = UnicastMac::for_ipv4([10, 88, 0, 2]);

    fn vid() -> Vid {
        Vid::new(10).unwrap()
    }

    table! { VerbProblem:
        Busy {} => "this connection is in the middle of something: open another",
        NotAttaching {} => "nothing is being attached on this connection, or its namespace went away meanwhile: attach again",
        OtherHost { pid: 7 }
            => "this command is in another network namespace than the daemon, which is in the host's: \
                \"sudo nsenter -t 7 -n vswitch attach --host\"",
        IsHost {} => "this namespace is the host's own: to plug in the host use \"vswitch attach --host\"",
        Detached {} => "it was detached meanwhile: attach again",
        NotReserved { name: "web".into() } => "web has a port, or was reserved for another kind: attach again",
        PlugFds { count: 3 } => "3 file descriptors with a port: send the port's and the watch's",
        PortFd { error: "odd".into() } => "the port's file descriptor is not what it should be (odd): attach with this version",
        WatchDir { dir: "netns".into() } => "netns is no absolute path: attach with this version",
        WatchFd {} => "the watch's file descriptor is not what it should be: attach with this version",
        NotWatched {} => "cannot watch the namespace: attach again",
        NamespaceGone {} => "the namespace went away meanwhile: make it again and attach it",
        NotPlugged {} => "it has no port yet: plug one in first",
        NoPortFree {} => "every port is taken: detach something first",
        PortGone { name: "web".into() } => "web went away meanwhile: attach it again",
        MacOfPort { mac: MAC } => "02:58:0a:58:00:02 belongs to another port: choose another --mac, or leave the guard off",
        BeingAttached { name: "web".into() } => "web is being attached: wait for it",
        SlowKernel {} => "detached, but the kernel is slow to remove the interface: look again",
        NoVlan { vlan: 4_095 } => "VLAN 4095 cannot be: choose 1 to 4094",
        NoMac { mac: "x".into(), error: MacParseError::Syntax }
            => "x: not a MAC address: write six hexadecimal octets, as 02:58:0a:58:00:02",
        NotInVlan { name: "web".into(), vid: vid() }
            => "web is not in VLAN 10: give one of its own with --vlan, or \"vswitch set web vlan=10\" first",
        FdbFull {} => "the table is full of entries made by hand: \"vswitch fdb del\" some, or \"vswitch up --fdb-limit\"",
        NotKnown { mac: MAC.mac(), vid: vid() } => "02:58:0a:58:00:02 is not known in VLAN 10: \"vswitch fdb\" lists what is",
        MirrorFd {} => "a mirror needs one file descriptor, to write to: send one",
        Mirrored { name: "web".into() } => "web is mirrored already: end that mirror first (interrupt it)",
        Mirrors {} => "too many mirrors run: end one first",
        NoMirror {} => "no mirror runs on this connection: start one",
        MirrorNotWritten { error: io::Error::other("full"), frames: 7 }
            => "the file cannot be written (full) after 7 frames: choose another",
        Subscribers {} => "16 connections are told of events already: end one of them",
        HandOverFd {} => "a hand-over needs one file descriptor, to speak over: \"vswitch restart\"",
        Leaving {} => "a restart is under way: wait for it",
    }
}
