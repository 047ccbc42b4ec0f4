//! The ioctls of namespace files: kind, owning user namespace, owner.
//!
//! Source: ioctl_ns(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use super::check;

/// NSIO (linux/nsfs.h) with the numbers of the requests: `_IO(0xb7, n)`.
const NS_GET_USERNS: u32 = 0xb701;
const NS_GET_NSTYPE: u32 = 0xb703;
const NS_GET_OWNER_UID: u32 = 0xb704;

/// The kind of a namespace file: one of the CLONE_NEW* constants.
///
/// # Errors
/// ENOTTY: no namespace file.
pub fn kind(fd: impl AsFd) -> io::Result<libc::c_int> {
    // SAFETY: NS_GET_NSTYPE takes no argument.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), NS_GET_NSTYPE as _) })
}

/// The user namespace that owns the namespace behind `fd`.
///
/// # Errors
/// EPERM: it is neither the caller's user namespace nor one below it.
pub fn owning_user_namespace(fd: impl AsFd) -> io::Result<OwnedFd> {
    // SAFETY: NS_GET_USERNS takes no argument.
    let raw = check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), NS_GET_USERNS as _) })?;
    // SAFETY: `raw` is a new fd that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// The uid that made the user namespace behind `fd`, as the caller's user namespace numbers it.
///
/// # Errors
/// EINVAL: no user namespace.
pub fn owner(fd: impl AsFd) -> io::Result<u32> {
    let mut uid: libc::uid_t = 0;
    // SAFETY: NS_GET_OWNER_UID writes one uid_t.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), NS_GET_OWNER_UID as _, &raw mut uid) })?;
    Ok(uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn facts_of_our_own() {
        let net = std::fs::File::open("/proc/self/ns/net").unwrap();
        assert_eq!(kind(&net).unwrap(), libc::CLONE_NEWNET);
        let user = std::fs::File::open("/proc/self/ns/user").unwrap();
        assert_eq!(kind(&user).unwrap(), libc::CLONE_NEWUSER);
        owner(&user).unwrap();
        assert!(owner(&net).is_err());
        assert!(kind(std::fs::File::open("/dev/null").unwrap()).is_err());
        if let Ok(owning) = owning_user_namespace(&net) {
            let owning = std::fs::File::from(owning).metadata().unwrap();
            assert_eq!(owning.ino(), user.metadata().unwrap().ino());
        }
    }
}
