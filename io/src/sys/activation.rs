//! Socket activation: a listening socket that the service manager opened for us (sd_listen_fds(3)).
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname, getsockopt, sockopt};

/// The first fd that a service manager passes (SD_LISTEN_FDS_START).
const FIRST: RawFd = 3;

/// Sockets that are taken at the most.
const MOST: RawFd = 1_024;

/// Whether the socket was taken: it has one owner.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The one listening unix stream socket that was passed, if any was: `pid` is LISTEN_PID and `count` LISTEN_FDS as the environment has
/// them. It is given away once.
///
/// # Errors
/// More sockets than one, or one of another kind.
pub fn listener(pid: Option<&str>, count: Option<&str>) -> io::Result<Option<OwnedFd>> {
    let is_for_us = pid.and_then(|pid| pid.parse().ok()) == Some(std::process::id());
    if !is_for_us || TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(None);
    }
    let wrong = |why: &'static str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    if count != Some("1") {
        return wrong("the service manager passed not one socket (LISTEN_FDS): give vswitch.socket one ListenStream");
    }
    nix::fcntl::fcntl(
        // SAFETY: borrowed for this call only; it fails where there is no such fd.
        unsafe { std::os::fd::BorrowedFd::borrow_raw(FIRST) },
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC),
    )?;
    // SAFETY: the fd is open, as fcntl said; the service manager passed it for us to own, and TAKEN keeps a second owner out.
    let socket = unsafe { OwnedFd::from_raw_fd(FIRST) };
    let listens = getsockopt(&socket, sockopt::AcceptConn).unwrap_or(false);
    let family = getsockname::<SockaddrStorage>(FIRST).ok().and_then(|address| address.family());
    if !listens || family != Some(AddressFamily::Unix) {
        return wrong("what the service manager passed is no listening unix socket: give vswitch.socket a ListenStream");
    }
    Ok(Some(socket))
}

/// All sockets that were passed, for who takes several: as [`listener`] has it. They are given away once.
#[must_use]
pub fn inherited(pid: Option<&str>, count: Option<&str>) -> Vec<OwnedFd> {
    let is_for_us = pid.and_then(|pid| pid.parse().ok()) == Some(std::process::id());
    let count = count.and_then(|count| count.parse::<RawFd>().ok()).filter(|count| (1..=MOST).contains(count));
    let Some(count) = count.filter(|_| is_for_us && !TAKEN.swap(true, Ordering::Relaxed)) else { return Vec::new() };
    let own = |fd: RawFd| {
        nix::fcntl::fcntl(
            // SAFETY: borrowed for this call only; it fails where there is no such fd.
            unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) },
            nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC),
        )
        .ok()?;
        // SAFETY: the fd is open, as fcntl said; the service manager passed it for us to own, and TAKEN keeps a second owner out.
        Some(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    (FIRST..FIRST + count).filter_map(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_for_us() {
        assert!(listener(None, Some("1")).unwrap().is_none());
        assert!(listener(Some("1"), Some("1")).unwrap().is_none());
        assert!(listener(Some("x"), Some("1")).unwrap().is_none());
        for (pid, count) in [(None, Some("1")), (Some("1"), Some("1")), (Some("x"), None)] {
            assert!(inherited(pid, count).is_empty());
        }
    }
}
