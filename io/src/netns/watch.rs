//! Telling that a namespace is gone: the receiver's half of what [`super::Namespace::watch`] sets up.
//!
//! A pidfd answers by itself. An inotify fd only says that something happened in the name's directory; then the name's
//! inode is compared with that of the namespace that was opened. The events themselves count only where the directory
//! cannot be looked into.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

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
    /// # Errors
    /// Those of poll(2), read(2) and stat(2): the watch tells nothing any more.
    pub fn gone(&self) -> io::Result<bool> {
        match &self.kind {
            WatchKind::Process => Ok(!process::alive(&self.fd)?),
            WatchKind::Name { dir, file, id } => self.events()?.gone(dir, file, *id),
        }
    }

    /// Takes the waiting events of an inotify fd. One fd serves all names in its directory: see [`Events::gone`].
    ///
    /// # Errors
    /// Those of read(2).
    pub fn events(&self) -> io::Result<Events> {
        let mut buf = vec![0; EVENT_BYTES];
        let mut events = Events::default();
        for _ in 0..EVENT_READS {
            match nix::unistd::read(&self.fd, &mut buf) {
                Ok(0) | Err(Errno::EAGAIN) => break,
                Ok(n) => events.add(buf.get(..n).unwrap_or_default()),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(events)
    }
}

/// What happened in a directory of names since it was last asked.
#[derive(Debug, Default)]
pub struct Events {
    /// Names that events were about, and whether the last one took the name away.
    names: BTreeMap<Vec<u8>, bool>,
    directory: Option<Directory>,
}

/// What befell the directory itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directory {
    /// Events were lost: any name may be meant.
    Overflow,
    /// It is gone, and the inotify fd with it is of no use any more.
    Gone,
}

impl Events {
    /// Reads inotify events: `wd, mask, cookie, len`, then `len` bytes of NUL-padded name.
    fn add(&mut self, mut events: &[u8]) {
        let word = |e: &[u8], at: usize| e.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes);
        while events.len() >= EVENT_HEADER_BYTES {
            let (mask, len) = (word(events, 4), word(events, 12) as usize);
            let end = EVENT_HEADER_BYTES.saturating_add(len);
            let name = events.get(EVENT_HEADER_BYTES..end).unwrap_or_default();
            let name = name.split(|b| *b == 0).next().unwrap_or_default();
            if mask & (libc::IN_DELETE_SELF | libc::IN_MOVE_SELF | libc::IN_UNMOUNT | libc::IN_IGNORED) != 0 {
                self.directory = Some(Directory::Gone);
            } else if mask & libc::IN_Q_OVERFLOW != 0 {
                self.directory = self.directory.or(Some(Directory::Overflow));
            } else if !name.is_empty() {
                self.names.insert(name.to_vec(), mask & (libc::IN_DELETE | libc::IN_MOVED_FROM) != 0);
            }
            events = events.get(end..).unwrap_or_default();
        }
    }

    /// Whether the inotify fd is of no use any more.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.directory == Some(Directory::Gone)
    }

    /// Whether `file` has to be looked at.
    #[must_use]
    pub fn concern(&self, file: &str) -> bool {
        self.directory.is_some() || self.names.contains_key(file.as_bytes())
    }

    /// Whether `file` in `dir` does not stand for `id` any more. Where the directory cannot be looked into (the daemon has another
    /// uid than the CLI), the last event about it decides alone.
    ///
    /// # Errors
    /// Those of stat(2): the watch tells nothing any more.
    pub fn gone(&self, dir: &Path, file: &str, id: NsId) -> io::Result<bool> {
        match NsId::of_path(&dir.join(file)) {
            Ok(now) => Ok(now != id),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                Ok(self.is_last() || self.names.get(file.as_bytes()).is_some_and(|away| *away))
            }
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Namespace, NetnsError, NsSpec};
    use super::*;

    #[test]
    fn a_process_watch() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let ns = Namespace::open(&NsSpec::Pid(i32::try_from(child.id()).unwrap())).unwrap();
        let watch = ns.watch().unwrap().unwrap();
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
        let watch = ns.watch().unwrap().unwrap();
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
        let read = |octets: &[u8]| {
            let mut events = Events::default();
            events.add(octets);
            events
        };
        assert!(read(&event).concern("box") && read(&event).names.values().all(|away| *away));
        assert!(!read(&event).concern("bo"));
        assert!(!read(&event[..7]).concern("box"));
        let mut again = event.clone();
        again[4..8].copy_from_slice(&libc::IN_CREATE.to_ne_bytes());
        assert!(!read(&[event.clone(), again].concat()).names[&b"box"[..]]);
        event[12..16].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(!read(&event).concern("box"));
        event[4..8].copy_from_slice(&libc::IN_IGNORED.to_ne_bytes());
        assert!(read(&event).concern("any") && read(&event).is_last());
        event[4..8].copy_from_slice(&libc::IN_Q_OVERFLOW.to_ne_bytes());
        assert!(read(&event).concern("any") && !read(&event).is_last());
    }
}
