//! What a peer may ask for, by the user namespace it is in.
//!
//! A container of an ordinary user runs, outside, as that user: by its uid alone it could use the switch that it is plugged into. So a peer
//! in a user namespace *below* the daemon's may only attach (the way of `podman unshare vswitch attach`), which gives it nothing that its
//! namespace does not have.
//!
//! The daemon may not look at another's /proc/PID/ns/user (its sandbox forbids ptrace, and that is what the kernel asks for), but at its
//! uid_map and gid_map, which anyone may read. They are told in ids of the reader's namespace, or of the one above for the reader's own:
//! - equal to ours: the same namespace. (Or one below that maps every id to itself. In the host's own namespace only root can make that.)
//! - ids that ours lacks: a namespace above or beside ours, for one below has only ids that ours has.
//! - anything else, and whatever cannot be told, for /proc is hidden or the process gone: below.
use super::types::{Reach, Verb};
use crate::errors::ProtocolProblem;
use std::io;
use std::os::fd::AsFd;
use vswitch_io::sys::process;
use vswitch_io::sys::scm::{self, Peer};

/// An id that the reader's namespace lacks (user_namespaces(7)).
const UNMAPPED: u32 = u32::MAX;

/// Whether a peer may ask for everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    Full,
    /// It is in a user namespace below ours, or that cannot be told.
    AttachOnly,
}

impl Power {
    /// Refuses what this peer may not ask for.
    pub fn permit(self, verb: &Verb) -> Result<(), ProtocolProblem> {
        match (self, verb) {
            (Self::Full, _) | (Self::AttachOnly, Verb::Plug { .. } | Verb::Ready) => Ok(()),
            // What is published reaches beyond the container, and the host is above it.
            (Self::AttachOnly, Verb::Attach(wanted)) if wanted.publish.is_empty() && wanted.reach != Reach::Host => Ok(()),
            (
                Self::AttachOnly,
                Verb::Attach(_)
                | Verb::Detach { .. }
                | Verb::Uplink
                | Verb::UplinkPacket(_)
                | Verb::UplinkSocket
                | Verb::Stage
                | Verb::UplinkNone
                | Verb::Publish { .. }
                | Verb::Unpublish { .. }
                | Verb::Published
                | Verb::Flows { .. }
                | Verb::FlushFlows { .. }
                | Verb::Nat
                | Verb::Groups { .. }
                | Verb::Neighbors
                | Verb::Names
                | Verb::Leases { .. }
                | Verb::ReserveAddress { .. }
                | Verb::UnreserveAddress { .. }
                | Verb::RestoreAddresses(_)
                | Verb::Set { .. }
                | Verb::Fdb { .. }
                | Verb::FdbAdd { .. }
                | Verb::FdbDel { .. }
                | Verb::FdbFlush { .. }
                | Verb::Mirror { .. }
                | Verb::MirrorEnd
                | Verb::Events { .. }
                | Verb::Inspect { .. }
                | Verb::Info
                | Verb::Containers { .. }
                | Verb::Stats
                | Verb::Ports { .. }
                | Verb::HandOver
                | Verb::Down,
            ) => Err(ProtocolProblem::AttachOnly),
        }
    }
}

/// One line of a map: first id inside, first outside, count.
type Extent = [u32; 3];

/// A process's uid_map and gid_map as this process reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMaps([Vec<Extent>; 2]);

impl IdMaps {
    pub fn own() -> io::Result<Self> {
        Self::of("self")
    }

    fn of(process: &str) -> io::Result<Self> {
        let read = |map: &str| {
            let text = std::fs::read_to_string(format!("/proc/{process}/{map}"))?;
            parse(&text).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
        };
        Ok(Self([read("uid_map")?, read("gid_map")?]))
    }

    /// What a peer may, where these maps are ours.
    pub fn power_of(&self, socket: impl AsFd, peer: &Peer) -> Power {
        match self.peers(socket, peer) {
            Ok(maps) if self.is_above(&maps) => Power::AttachOnly,
            Ok(_) => Power::Full,
            // A hidden process of root's: in the host's namespace nobody but root himself is.
            Err(_) if peer.uid == 0 && self.is_hosts() => Power::Full,
            Err(error) => {
                tracing::warn!("cannot tell the user namespace of process {} ({error}): it may only attach", peer.pid);
                Power::AttachOnly
            }
        }
    }

    /// The peer's, if it is still there: its number may be another's by now.
    fn peers(&self, socket: impl AsFd, peer: &Peer) -> io::Result<Self> {
        let pidfd = match scm::peer_pidfd(socket) {
            Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => process::pidfd_open(peer.pid)?,
            other => other?,
        };
        let maps = Self::of(&peer.pid.to_string())?;
        if process::alive(&pidfd)? { Ok(maps) } else { Err(io::Error::from(io::ErrorKind::NotFound)) }
    }

    /// Whether `other` is of a namespace below ours.
    fn is_above(&self, other: &Self) -> bool {
        let lacks = |map: &Vec<Extent>| map.iter().any(|[_, outside, _]| *outside == UNMAPPED);
        self != other && !other.0.iter().any(lacks)
    }

    /// Whether it is the host's, or one that has all of the host's ids.
    fn is_hosts(&self) -> bool {
        self.0.iter().all(|map| *map == [[0, 0, u32::MAX]])
    }
}

/// None where the text is no map. A namespace that has none yet has no line.
fn parse(text: &str) -> Option<Vec<Extent>> {
    let extent = |line: &str| {
        let numbers: Option<Vec<u32>> = line.split_whitespace().map(|field| field.parse().ok()).collect();
        numbers?.try_into().ok()
    };
    text.lines().map(extent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maps(uid: &str, gid: &str) -> IdMaps {
        IdMaps([parse(uid).unwrap(), parse(gid).unwrap()])
    }

    #[test]
    fn below_is_told_from_beside_and_above() {
        let host = maps("         0          0 4294967295\n", "0 0 4294967295\n");
        assert!(!host.is_above(&host.clone()) && host.is_hosts());
        for below in ["0 4242 1", "0 1000 1\n1 100000 65536\n", "0 0 65536", ""] {
            assert!(host.is_above(&maps(below, "0 0 4294967295")), "{below}");
            assert!(host.is_above(&maps("0 0 4294967295", below)), "{below}");
        }
        let rootless = maps("0 1000 1\n1 100000 65536\n", "0 1000 1\n1 100000 65536\n");
        assert!(!rootless.is_hosts());
        // As read from there: the host, one beside it, one below.
        let unmapped = "0 4294967295 4294967295";
        assert!(!rootless.is_above(&maps(unmapped, unmapped)));
        assert!(!rootless.is_above(&maps("0 4294967295 1", "0 4294967295 1")));
        assert!(rootless.is_above(&maps("0 5 1000", "0 5 1000")));
    }

    #[test]
    fn what_is_no_map() {
        for text in ["x", "0 0", "0 0 1 2", "0 0 -1", "0 0 4294967296"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("1 2 3\n4 5 6\n").unwrap(), [[1, 2, 3], [4, 5, 6]]);
    }

    #[test]
    fn our_own_may_everything() {
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = scm::peer(&a).unwrap();
        assert_eq!(IdMaps::own().unwrap().power_of(&a, &peer), Power::Full);
        assert_eq!(maps("7 7 7", "7 7 7").power_of(&a, &peer), Power::AttachOnly);
    }

    #[test]
    fn attaching_is_all_that_one_below_may() {
        assert!(Power::Full.permit(&Verb::Down).is_ok() && Power::AttachOnly.permit(&Verb::Ready).is_ok());
        for verb in [Verb::Down, Verb::Info, Verb::Stats, Verb::MirrorEnd, Verb::Containers { after: None }] {
            let error = Power::AttachOnly.permit(&verb).unwrap_err().to_string();
            assert!(error.contains(": ") && !error.contains('\n'), "{error}");
        }
    }
}
