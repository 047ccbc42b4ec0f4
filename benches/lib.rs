//! Shared pieces of the benchmarks: what the yardsticks (`relay`, `translate`) need to have a TAP in a container's namespace.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sched::{CloneFlags, setns};
use vswitch_io::sys::{IfName, tun};

/// Why a yardstick ends: it says so and no more.
pub type Failure = Box<dyn std::error::Error>;

/// Runs `act` in a named namespace and comes back.
///
/// # Errors
/// There is no such namespace, this process may not join it, or what `act` says.
pub fn inside<T>(namespace: &str, act: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let there = File::open(Path::new("/run/netns").join(namespace)).map_err(|error| format!("namespace {namespace}: {error}"))?;
    let home = File::open("/proc/self/ns/net")?;
    setns(there, CloneFlags::CLONE_NEWNET)?;
    let made = act();
    setns(home, CloneFlags::CLONE_NEWNET)?;
    made
}

/// A new TAP eth0 in the present namespace.
///
/// # Errors
/// Those of /dev/net/tun: it is not there, this process may not, or there is an eth0.
pub fn tap() -> std::io::Result<OwnedFd> {
    let fd = tun::open()?;
    let eth0 = IfName::parse("eth0").map_err(std::io::Error::other)?;
    tun::set_iff(&fd, &eth0, tun::FLAGS)?;
    tun::set_vnet_header_size(&fd, tun::HEADER_BYTES)?;
    tun::climb_offloads(&fd, 0)?;
    Ok(fd)
}
