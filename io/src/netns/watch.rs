//! Telling that a namespace is gone: the receiver's half of what [`super::Namespace::watch`] sets up.
//!
//! A pidfd answers by itself. An inotify fd only says that something happened in the name's directory; then the name's
//! inode is compared with that of the namespace that was opened. The events themselves count only where the directory
//! cannot be looked into.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;

use super::NsId;
use crate::sys::process;

/// Bytes read from inotify at once: holds at least 240 events of the longest name.
const EVENT_BYTES: usize = 64 << 10;

/// Most reads of inotify in one check; the kernel's default queue of 16,384 events fits.
const EVENT_READS: usize = 128;

/// Length in bytes of `struct inotify_event` without the name.
const EVENT_HEADER_BYTES: usize = 16;

/// What a [`Watch`]'s fd is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// A pidfd: gone when the process exits.
    Process,
    /// An inotify fd on `dir`: gone when `file` there is no longer `id`.
    Name {
        /// Absolute path of the directory.
        dir: PathBuf,
        /// The name in it.
        file: String,
        /// The namespace that was opened.
        id: NsId,
    },
}

/// What tells that a namespace is gone. The fd is readable whenever [`Watch::gone`] should be asked.
#[derive(Debug)]
pub struct Watch {
    /// pidfd or inotify fd.
    pub fd: OwnedFd,
    /// Which of them.
    pub kind: WatchKind,
}

impl Watch {
    /// Checks that the fd, received from a client, is of the kind it is said to be.
    #[must_use]
    pub fn fd_fits(&self) -> bool {
        match &self.kind {
            WatchKind::Process => process::is_pidfd(&self.fd),
            WatchKind::Name { .. } => {
                let link = std::fs::read_link(format!("/proc/self/fd/{}", self.fd.as_raw_fd()));
                link.is_ok_and(|l| l.as_os_str().as_encoded_bytes().ends_with(b"inotify"))
                    && crate::sys::set_nonblocking(&self.fd).is_ok()
            }
        }
    }

    /// Whether the namespace is gone. Takes all waiting events, so it suits edge-triggered polling; does not wait.
    ///
    /// Where the name's directory cannot be looked into (the daemon has another uid than the CLI), an event that took
    /// the name away decides alone.
    ///
    /// # Errors
    /// Those of poll(2), read(2) and stat(2): the watch tells nothing any more.
    pub fn gone(&self) -> io::Result<bool> {
        match &self.kind {
            WatchKind::Process => Ok(!process::alive(&self.fd)?),
            WatchKind::Name { dir, file, id } => {
                let taken_away = self.drain(file)?;
                match NsId::of_path(&dir.join(file)) {
                    Ok(now) => Ok(now != *id),
                    Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(true),
                    Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(taken_away),
                    Err(e) => Err(e),
                }
            }
        }
    }

    /// Reads the waiting events; whether one took `file` or the directory away.
    fn drain(&self, file: &str) -> io::Result<bool> {
        let mut buf = vec![0; EVENT_BYTES];
        let mut away = false;
        for _ in 0..EVENT_READS {
            match nix::unistd::read(&self.fd, &mut buf) {
                Ok(0) | Err(Errno::EAGAIN) => break,
                Ok(n) => away |= takes_away(buf.get(..n).unwrap_or_default(), file),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(away)
    }
}

/// Whether inotify events (`wd, mask, cookie, len`, then `len` bytes of NUL-padded name) took `file` away.
fn takes_away(mut events: &[u8], file: &str) -> bool {
    let word = |e: &[u8], at: usize| e.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes);
    while events.len() >= EVENT_HEADER_BYTES {
        let (mask, len) = (word(events, 4), word(events, 12) as usize);
        let end = EVENT_HEADER_BYTES.saturating_add(len);
        let name = events.get(EVENT_HEADER_BYTES..end).unwrap_or_default();
        let name = name.split(|b| *b == 0).next().unwrap_or_default();
        if mask & (libc::IN_DELETE_SELF | libc::IN_MOVE_SELF | libc::IN_UNMOUNT | libc::IN_IGNORED) != 0
            || (mask & (libc::IN_DELETE | libc::IN_MOVED_FROM) != 0 && name == file.as_bytes())
        {
            return true;
        }
        events = events.get(end..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::{Namespace, NetnsError, NsSpec};
    use super::*;

    #[test]
    fn a_process_watch() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let ns = Namespace::open(&NsSpec::Pid(i32::try_from(child.id()).unwrap())).unwrap();
        let watch = ns.watch().unwrap();
        assert!(watch.fd_fits());
        assert!(!watch.gone().unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(watch.gone().unwrap());
        assert!(matches!(ns.watch().unwrap_err(), NetnsError::Gone { .. }));
        assert!(matches!(Namespace::open(ns.spec()).unwrap_err(), NetnsError::NoSuchProcess { .. }));
    }

    #[test]
    fn a_name_watch_goes_by_the_inode() {
        // A symbolic link to our own namespace stands for the bind mount of `ip netns`.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("box");
        std::os::unix::fs::symlink("/proc/self/ns/net", &path).unwrap();
        let ns = Namespace::open(&NsSpec::Path(path.clone())).unwrap();
        assert_eq!(ns.suggested_name(), "box");
        let watch = ns.watch().unwrap();
        assert!(watch.fd_fits());
        assert!(!watch.gone().unwrap());
        std::fs::write(dir.path().join("other"), "").unwrap();
        std::fs::remove_file(dir.path().join("other")).unwrap();
        assert!(process_readable(&watch));
        assert!(!watch.gone().unwrap());
        assert!(!process_readable(&watch));
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/proc/self/ns/mnt", &path).unwrap();
        assert!(watch.gone().unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(watch.gone().unwrap());
        assert!(matches!(ns.watch().unwrap_err(), NetnsError::Gone { .. }));
    }

    fn process_readable(watch: &Watch) -> bool {
        !process::alive(&watch.fd).unwrap()
    }

    #[test]
    fn a_wrong_fd_is_no_watch() {
        let fd = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let id = NsId { dev: 1, ino: 2 };
        let name = WatchKind::Name { dir: "/run/netns".into(), file: "x".into(), id };
        assert!(!Watch { fd: fd(), kind: name }.fd_fits());
        assert!(!Watch { fd: fd(), kind: WatchKind::Process }.fd_fits());
    }

    #[test]
    fn events_are_read_with_care() {
        let mut event = Vec::new();
        for word in [1u32, libc::IN_DELETE, 0, 16] {
            event.extend_from_slice(&word.to_ne_bytes());
        }
        event.extend_from_slice(b"box\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert!(takes_away(&event, "box"));
        assert!(!takes_away(&event, "bo"));
        assert!(!takes_away(&event[..20], "box"));
        event[12..16].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(!takes_away(&event, "box"));
        assert!(!takes_away(&event[..7], "box"));
    }
}
