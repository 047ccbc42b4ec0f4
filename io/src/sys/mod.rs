//! The system calls: the only place of the workspace with `unsafe` code.
//!
//! Each wrapper does one system call (or the few that make no sense apart), takes and returns owned or borrowed fds, and
//! reports the kernel's errno unchanged as `io::Error`; what an errno *means* for the user is decided by the callers
//! ([`crate::link`], [`crate::netns`]). Where nix has a wrapper it is used and no `unsafe` is written.
//!
//! - [`tun`]: /dev/net/tun and the TUNSET* ioctls;
//! - [`packet`]: AF_PACKET sockets with virtio-net headers;
//! - [`scm`]: bytes with fds over unix sockets, peer credentials;
//! - [`ns`]: the nsfs ioctls;
//! - [`sender`]: a send-only AF_PACKET socket for load generators;
//! - [`socket`]: peeking and discarding on the host's sockets;
//! - [`process`]: pidfds, process facts from /proc, limits;
//! - [`tables`]: an allocator that asks for large pages.
#![allow(unsafe_code)]

pub mod activation;
pub mod batch;
pub mod ns;
pub mod packet;
pub mod process;
pub mod scm;
pub mod sender;
pub mod socket;
pub mod tables;
pub mod tun;
pub mod users;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// Longest name of a network interface in bytes, the NUL not counted (IFNAMSIZ - 1, linux/if.h).
pub const IFNAME_MAX_BYTES: usize = libc::IFNAMSIZ - 1;

/// The name of a network interface: one that the kernel takes as it is.
///
/// 1 to 15 bytes, neither "." nor "..", no '/', ':' or white space (`dev_valid_name`, net/core/dev.c), and beyond the
/// kernel's rule no '%' (there a pattern, not a name) and no control or non-ASCII character.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IfName(String);

/// Why a text is no interface name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IfNameError {
    /// Empty, or more than [`IFNAME_MAX_BYTES`].
    #[error("interface name {0:?} has {len} bytes: give 1 to {IFNAME_MAX_BYTES}", len = .0.len())]
    Length(String),
    /// "." or "..", or a character that no interface name may have.
    #[error("interface name {0:?} is not one the kernel takes: use letters, digits, '-', '_' and '.'")]
    Character(String),
}

impl IfName {
    /// Judges `name`.
    ///
    /// # Errors
    /// [`IfNameError`], which repeats the name escaped.
    pub fn parse(name: &str) -> Result<IfName, IfNameError> {
        if name.is_empty() || name.len() > IFNAME_MAX_BYTES {
            return Err(IfNameError::Length(name.into()));
        }
        let bad = |b: u8| !b.is_ascii_graphic() || matches!(b, b'/' | b':' | b'%');
        if name == "." || name == ".." || name.bytes().any(bad) {
            return Err(IfNameError::Character(name.into()));
        }
        Ok(IfName(name.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as the kernel's `char[IFNAMSIZ]`, NUL-padded.
    fn to_kernel(&self) -> [libc::c_char; libc::IFNAMSIZ] {
        let mut out = [0; libc::IFNAMSIZ];
        for (to, from) in out.iter_mut().zip(self.0.bytes()) {
            *to = from.cast_signed();
        }
        out
    }

    /// Reads a `char[IFNAMSIZ]` as the kernel filled it; the user of a container may have renamed the interface to
    /// anything that `dev_valid_name` takes, hence lossy.
    fn from_kernel(raw: &[libc::c_char; libc::IFNAMSIZ]) -> IfName {
        let bytes: Vec<u8> = raw.iter().map(|c| c.cast_unsigned()).take_while(|b| *b != 0).collect();
        IfName(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for IfName {
    type Err = IfNameError;

    fn from_str(s: &str) -> Result<IfName, IfNameError> {
        IfName::parse(s)
    }
}

/// Sets O_NONBLOCK on the open file description behind `fd`.
///
/// # Errors
/// Those of fcntl(2).
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let fd = fd.as_fd();
    let now = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(now | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Turns the -1 of a system call into its errno.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// getsockopt(2) for options whose value is an int.
fn getsockopt_int(fd: impl AsFd, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` and `len` are live for the call, and `len` is the size of `value`, so the kernel writes inside it.
    check(unsafe { libc::getsockopt(fd.as_fd().as_raw_fd(), level, name, (&raw mut value).cast(), &mut len) })?;
    Ok(value)
}

/// setsockopt(2) for plain values (ints and C structs).
fn setsockopt<T: Copy>(fd: impl AsFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is live for the call and `len` is its size; the kernel only reads it.
    check(unsafe { libc::setsockopt(fd.as_fd().as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), len) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names() {
        for good in ["eth0", "a", "br-1234.10", "fifteen-bytes-x"] {
            assert_eq!(IfName::parse(good).map(|n| n.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "sixteen-bytes-xx"] {
            assert!(matches!(IfName::parse(bad), Err(IfNameError::Length(_))), "{bad:?}");
        }
        for bad in [".", "..", "a/b", "a:1", "eth%d", "a b", "a\tb", "a\0b", "\u{e9}th0", "a\x7f"] {
            assert!(matches!(IfName::parse(bad), Err(IfNameError::Character(_))), "{bad:?}");
        }
        let name = IfName::parse("eth0").unwrap();
        assert_eq!(IfName::from_kernel(&name.to_kernel()), name);
    }

    #[test]
    fn socket_options() {
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        setsockopt(&a, libc::SOL_SOCKET, libc::SO_PASSCRED, &1i32).unwrap();
        assert_eq!(getsockopt_int(&a, libc::SOL_SOCKET, libc::SO_PASSCRED).unwrap(), 1);
        assert_eq!(getsockopt_int(&a, libc::SOL_SOCKET, libc::SO_TYPE).unwrap(), libc::SOCK_STREAM);
        assert!(getsockopt_int(&a, libc::SOL_PACKET, 0).is_err());
    }

    #[test]
    fn nonblocking() {
        use std::io::Read;
        let (mut a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        set_nonblocking(&a).unwrap();
        assert_eq!(a.read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
