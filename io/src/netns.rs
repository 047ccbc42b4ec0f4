//! Network namespaces of containers: naming one, opening it, telling whether it is gone, entering it.
//!
//! **Naming.** A user says which namespace by an `ip netns` name, a path, `pid:N` or a bare PID ([`NsSpec`]). The host's own is none of
//! these: who means it says so ([`NsSpec::Host`]), and any other name that turns out to be the host's is refused.
//! **Identity.** Two names are the same namespace when device and inode are ([`NsId`]).
//! **A PID can be reused** between any two system calls. So the pidfd is opened first, then /proc/PID/ns/net, and only
//! if the pidfd's process still runs after that was the namespace its own.
//! **Gone.** A TAP's fd keeps its namespace alive and hears nothing when the name goes. So with the port goes what to
//! watch ([`Watch`]): the pidfd, readable when the process exits; or an inotify fd on the directory of the name, after
//! whose events the name's inode is compared with the one that was opened. inotify tells nothing of *which* namespace a
//! name stands for, hence the comparison: "del" and "add" of the same name in one go is a new inode (the old inode
//! cannot be reused as long as the port's fd pins it).
//! **Entering.** Whoever holds CAP_SYS_ADMIN over the namespace's owning user namespace enters it directly and keeps
//! what it may do outside (root's large socket buffers). Anyone else joins the owning user namespace first, which makes
//! it capable there, and then the network namespace. The owner is asked of the namespace itself (NS_GET_USERNS): the
//! process's own user namespace may be another one, below it. Entering is for a single-threaded process: the CLI.
//!
//! Not here: making namespaces that last, mounts, and the decision what may be attached.

mod watch;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs, statfs};

use crate::sys::{ns, process, users};
pub use watch::{Events, Watch, WatchKind};

/// Where `ip netns` keeps its names, in the order in which they are searched.
pub const NAME_DIRS: [&str; 2] = ["/run/netns", "/var/run/netns"];

/// How the host's own namespace is written: as the flag that names it.
pub const HOST: &str = "--host";

/// The file of the namespace that this process runs in.
const OWN: &str = "/proc/self/ns/net";

/// Longest `ip netns` name in bytes (NAME_MAX).
pub const NAME_MAX_BYTES: usize = 255;

/// Longest path in bytes, the NUL not counted (PATH_MAX - 1).
pub const PATH_MAX_BYTES: usize = 4095;

/// Which network namespace the user means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NsSpec {
    /// A name in one of [`NAME_DIRS`].
    Name(String),
    /// A namespace file. Relative paths are of the current directory.
    Path(PathBuf),
    /// The namespace of a process.
    Pid(i32),
    /// The one that this process runs in.
    Host,
}

impl NsSpec {
    /// The same, whatever the current directory.
    ///
    /// # Errors
    /// [`NetnsError::System`] when there is no current directory.
    pub fn absolute(self) -> Result<NsSpec, NetnsError> {
        match &self {
            NsSpec::Path(path) => std::path::absolute(path).map(NsSpec::Path).map_err(|e| system(&self, "find", e)),
            NsSpec::Name(_) | NsSpec::Pid(_) | NsSpec::Host => Ok(self),
        }
    }

    /// Reads what a user wrote. What has a '/' is a path (`/proc/N/ns/net` is taken as the PID, for its exit can be
    /// watched); `pid:N` and a bare number are a PID; [`HOST`] is the host's; the rest is an `ip netns` name.
    ///
    /// # Errors
    /// [`NetnsError::BadSpec`].
    pub fn parse(text: &str) -> Result<NsSpec, NetnsError> {
        let bad = |why| Err(NetnsError::BadSpec { text: text.chars().take(64).collect(), why });
        if text.is_empty() {
            return bad("is empty");
        }
        if text.chars().any(char::is_control) {
            return bad("has a control character");
        }
        if text.contains('/') {
            if text.len() > PATH_MAX_BYTES {
                return bad("is longer than a path may be");
            }
            let pid = text.strip_prefix("/proc/").and_then(|t| t.strip_suffix("/ns/net"));
            return match pid.and_then(positive) {
                Some(pid) => Ok(NsSpec::Pid(pid)),
                None => Ok(NsSpec::Path(text.into())),
            };
        }
        let number = text.strip_prefix("pid:").or_else(|| text.bytes().all(|b| b.is_ascii_digit()).then_some(text));
        if let Some(number) = number {
            return match positive(number) {
                Some(pid) => Ok(NsSpec::Pid(pid)),
                None => bad("is no PID"),
            };
        }
        if text == HOST {
            return Ok(NsSpec::Host);
        }
        if text == "." || text == ".." {
            return bad("is no name");
        }
        if text.len() > NAME_MAX_BYTES {
            return bad("is longer than 255 bytes");
        }
        Ok(NsSpec::Name(text.into()))
    }
}

/// A positive decimal number without sign.
fn positive(text: &str) -> Option<i32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| digits && *n > 0)
}

impl fmt::Display for NsSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NsSpec::Name(name) => f.write_str(name),
            NsSpec::Path(path) => write!(f, "{}", path.display()),
            NsSpec::Pid(pid) => write!(f, "pid:{pid}"),
            NsSpec::Host => f.write_str(HOST),
        }
    }
}

/// Why a namespace cannot be used. Each text is one line, "what: remedy".
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The text names no namespace.
    #[error("{text:?} {why}: give an \"ip netns\" name, a path or pid:N")]
    BadSpec {
        /// What was given, at most 64 characters of it.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No such `ip netns` name.
    #[error("no network namespace {name:?} in {}: \"ip netns add {name}\", or give a path or pid:N", NAME_DIRS[0])]
    NoSuchName {
        /// The name.
        name: String,
    },
    /// No such file.
    #[error("no file {}: give the path of a network namespace, an \"ip netns\" name or pid:N", .path.display())]
    NoSuchPath {
        /// The path.
        path: PathBuf,
    },
    /// No such process, or it exited meanwhile.
    #[error("no process {pid} runs: give the PID of one that does")]
    NoSuchProcess {
        /// The PID.
        pid: i32,
    },
    /// The number is of a thread.
    #[error("{pid} is a thread: give the PID of its process")]
    Thread {
        /// The number.
        pid: i32,
    },
    /// A file, but no network namespace: of a name, what `ip netns` leaves when the mount is lost.
    #[error("{} is no network namespace here: give a PID, or podman:ID of rootless podman's, or make it anew (\"ip netns add\")", .path.display())]
    NotANamespace {
        /// The file.
        path: PathBuf,
    },
    /// The file or the process may not be looked at.
    #[error("you may not open {}: use sudo, or a namespace of your own", .path.display())]
    Denied {
        /// The file.
        path: PathBuf,
    },
    /// The user has no power over the namespace.
    #[error("namespace {spec} belongs to {owner}: \"sudo vswitch attach {spec}\", or make your own with \"vswitch run\"")]
    BelongsTo {
        /// The namespace.
        spec: String,
        /// Who made it.
        owner: String,
    },
    /// The namespace is the one vswitch itself or the system runs in, and that was not said.
    #[error("{spec} is in the host's own namespace: to plug in the host use \"vswitch attach --host\"")]
    Host {
        /// The namespace.
        spec: String,
    },
    /// The name went, or stands for another namespace now.
    #[error("namespace {spec} went away meanwhile: make it again and attach it")]
    Gone {
        /// The namespace.
        spec: String,
    },
    /// Another system call failed.
    #[error("cannot {what} namespace {spec} ({source}): check that it exists and that you may use it")]
    System {
        /// The namespace.
        spec: String,
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// What a namespace is told by: device and inode of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NsId {
    /// Device number of nsfs.
    pub dev: u64,
    /// Inode, unique as long as the namespace lives.
    pub ino: u64,
}

impl NsId {
    /// Of the namespace that this process runs in.
    ///
    /// # Errors
    /// Those of stat(2).
    pub fn own() -> io::Result<NsId> {
        NsId::of_path(Path::new(OWN))
    }

    /// Of a path, followed through symbolic links.
    ///
    /// # Errors
    /// Those of stat(2).
    pub fn of_path(path: &Path) -> io::Result<NsId> {
        let meta = std::fs::metadata(path)?;
        Ok(NsId { dev: meta.dev(), ino: meta.ino() })
    }

    /// Of an open namespace.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn of_fd(fd: BorrowedFd<'_>) -> io::Result<NsId> {
        let stat = nix::sys::stat::fstat(fd)?;
        #[allow(clippy::unnecessary_cast)] // the widths differ between architectures
        Ok(NsId { dev: stat.st_dev as u64, ino: stat.st_ino as u64 })
    }
}

/// Where a namespace was found.
#[derive(Debug)]
enum Origin {
    Name { dir: PathBuf, file: String },
    Process { pid: i32, comm: String, pidfd: OwnedFd },
    Host,
}

/// An open network namespace.
#[derive(Debug)]
pub struct Namespace {
    fd: OwnedFd,
    id: NsId,
    spec: NsSpec,
    origin: Origin,
}

impl Namespace {
    /// Opens the namespace that `spec` names. Nothing but a namespace file is ever opened.
    ///
    /// # Errors
    /// [`NetnsError`]. The host's own namespace opens too: see [`Namespace::refuse_host`].
    pub fn open(spec: &NsSpec) -> Result<Namespace, NetnsError> {
        match spec {
            NsSpec::Name(name) => {
                for dir in NAME_DIRS {
                    match Namespace::open_file(spec, &Path::new(dir).join(name)) {
                        Err(NetnsError::NoSuchPath { .. }) => {}
                        other => return other,
                    }
                }
                Err(NetnsError::NoSuchName { name: name.clone() })
            }
            NsSpec::Path(path) => {
                let path = std::path::absolute(path).map_err(|e| system(spec, "find", e))?;
                Namespace::open_file(spec, &path)
            }
            NsSpec::Pid(pid) => Namespace::open_process(spec, *pid),
            NsSpec::Host => {
                let (fd, id) = open_ns_file(spec, Path::new(OWN))?;
                Ok(Namespace { fd, id, spec: spec.clone(), origin: Origin::Host })
            }
        }
    }

    fn open_file(spec: &NsSpec, path: &Path) -> Result<Namespace, NetnsError> {
        let (fd, id) = open_ns_file(spec, path)?;
        let (Some(dir), Some(file)) = (path.parent(), path.file_name().and_then(|f| f.to_str())) else {
            return Err(NetnsError::NotANamespace { path: path.into() });
        };
        let origin = Origin::Name { dir: dir.into(), file: file.into() };
        Ok(Namespace { fd, id, spec: spec.clone(), origin })
    }

    fn open_process(spec: &NsSpec, pid: i32) -> Result<Namespace, NetnsError> {
        let pidfd = process::pidfd_open(pid).map_err(|e| match e.raw_os_error() {
            Some(libc::ESRCH) => NetnsError::NoSuchProcess { pid },
            Some(libc::EINVAL | libc::ENOENT) => NetnsError::Thread { pid },
            _ => system(spec, "watch the process of", e),
        })?;
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        let opened = open_ns_file(spec, &path);
        let comm = process::comm(pid).unwrap_or_else(|_| "pid".into());
        // Only now is it certain that /proc/PID was this process all the time.
        if !process::alive(&pidfd).map_err(|e| system(spec, "watch the process of", e))? {
            return Err(NetnsError::NoSuchProcess { pid });
        }
        // A process that is just ending has no namespace any more.
        let ended = |e: &NetnsError| matches!(e, NetnsError::NoSuchPath { .. });
        let (fd, id) = opened.map_err(|e| {
            if ended(&e) {
                return NetnsError::NoSuchProcess { pid };
            }
            if !matches!(e, NetnsError::Denied { .. }) {
                return e;
            }
            let owner = std::fs::metadata(format!("/proc/{pid}")).map(|meta| meta.uid());
            let owner = owner.map_or_else(|_| "another user".into(), users::name_of);
            NetnsError::BelongsTo { spec: spec.to_string(), owner }
        })?;
        Ok(Namespace { fd, id, spec: spec.clone(), origin: Origin::Process { pid, comm, pidfd } })
    }

    /// What the namespace is told by.
    #[must_use]
    pub fn id(&self) -> NsId {
        self.id
    }

    /// How the user named it.
    #[must_use]
    pub fn spec(&self) -> &NsSpec {
        &self.spec
    }

    /// A name for the container: the `ip netns` name, the last part of the path, command-PID, or host. Only ASCII letters,
    /// digits, '.', '_' and '-'; others become '-'.
    #[must_use]
    pub fn suggested_name(&self) -> String {
        let raw = match &self.origin {
            Origin::Name { file, .. } => file.clone(),
            Origin::Process { pid, comm, .. } => format!("{comm}-{pid}"),
            Origin::Host => "host".into(),
        };
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }
        };
        raw.chars().map(plain).collect()
    }

    /// Whether it is the namespace that this process runs in, or the system's (that of PID 1, where that can be seen).
    ///
    /// # Errors
    /// [`NetnsError::System`] when our own namespace cannot be told.
    pub fn is_host(&self) -> Result<bool, NetnsError> {
        let own = NsId::own().map_err(|e| system(&self.spec, "compare", e))?;
        let init = NsId::of_path(Path::new("/proc/1/ns/net")).ok();
        Ok(self.id == own || init == Some(self.id))
    }

    /// Refuses the host's own namespace ([`Namespace::is_host`]) by any name but [`NsSpec::Host`].
    ///
    /// # Errors
    /// [`NetnsError::Host`].
    pub fn refuse_host(&self) -> Result<(), NetnsError> {
        match self.origin {
            Origin::Host => Ok(()),
            Origin::Name { .. } | Origin::Process { .. } if self.is_host()? => {
                Err(NetnsError::Host { spec: self.spec.to_string() })
            }
            Origin::Name { .. } | Origin::Process { .. } => Ok(()),
        }
    }

    /// What tells that the namespace is gone, to be passed to the daemon. None for the host's, which is there as long as the daemon that
    /// runs in it.
    ///
    /// # Errors
    /// [`NetnsError::Gone`] when it went since it was opened; [`NetnsError::System`].
    pub fn watch(&self) -> Result<Option<Watch>, NetnsError> {
        let failed = |e: io::Error| system(&self.spec, "watch", e);
        let watch = match &self.origin {
            Origin::Process { pidfd, .. } => Watch { fd: pidfd.try_clone().map_err(failed)?, kind: WatchKind::Process },
            Origin::Name { dir, file } => {
                let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(|e| failed(e.into()))?;
                let events = AddWatchFlags::IN_DELETE
                    | AddWatchFlags::IN_MOVED_FROM
                    | AddWatchFlags::IN_MOVED_TO
                    | AddWatchFlags::IN_CREATE
                    | AddWatchFlags::IN_DELETE_SELF
                    | AddWatchFlags::IN_MOVE_SELF
                    | AddWatchFlags::IN_ONLYDIR;
                inotify.add_watch(dir.as_path(), events).map_err(|e| failed(e.into()))?;
                let kind = WatchKind::Name { dir: dir.clone(), file: file.clone(), id: self.id };
                Watch { fd: inotify.into(), kind }
            }
            Origin::Host => return Ok(None),
        };
        // What went before the watch was set gives no event.
        if watch.gone().map_err(failed)? {
            return Err(NetnsError::Gone { spec: self.spec.to_string() });
        }
        Ok(Some(watch))
    }

    /// Moves the calling thread into the namespace, and where that needs it the process into the user namespace that
    /// owns it (which only a single-threaded process can). It is in the host's already, and needs no right for that.
    ///
    /// # Errors
    /// [`NetnsError::BelongsTo`], [`NetnsError::System`].
    pub fn enter(&self) -> Result<(), NetnsError> {
        if let Origin::Host = self.origin {
            return Ok(());
        }
        match setns(&self.fd, CloneFlags::CLONE_NEWNET) {
            Ok(()) => return Ok(()),
            Err(Errno::EPERM) => {}
            Err(e) => return Err(system(&self.spec, "enter", e.into())),
        }
        let belongs_to = |owner: String| NetnsError::BelongsTo { spec: self.spec.to_string(), owner };
        let user = ns::owning_user_namespace(&self.fd).map_err(|_| belongs_to("another user".into()))?;
        let owner = || belongs_to(ns::owner(&user).map_or_else(|_| "another user".into(), users::name_of));
        let same = NsId::of_fd(user.as_fd()).ok() == NsId::of_path(Path::new("/proc/self/ns/user")).ok();
        if same {
            return Err(owner());
        }
        if let Err(e) = setns(&user, CloneFlags::CLONE_NEWUSER) {
            let denied = e == Errno::EPERM;
            return Err(if denied { owner() } else { system(&self.spec, "join the owner of", e.into()) });
        }
        setns(&self.fd, CloneFlags::CLONE_NEWNET).map_err(|e| system(&self.spec, "enter", e.into()))
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn system(spec: &NsSpec, what: &'static str, source: io::Error) -> NetnsError {
    NetnsError::System { spec: spec.to_string(), what, source }
}

/// Opens a namespace file. Its kind is asked before it is opened, for open(2) of a device or FIFO may have effects.
fn open_ns_file(spec: &NsSpec, path: &Path) -> Result<(OwnedFd, NsId), NetnsError> {
    let failed = |e: io::Error| match e.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR | libc::ESRCH) => NetnsError::NoSuchPath { path: path.into() },
        Some(libc::EACCES | libc::EPERM) => NetnsError::Denied { path: path.into() },
        _ => system(spec, "open", e),
    };
    let not_one = || NetnsError::NotANamespace { path: path.into() };
    if statfs(path).map_err(|e| failed(e.into()))?.filesystem_type() != NSFS_MAGIC {
        return Err(not_one());
    }
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    let fd = OwnedFd::from(File::options().read(true).custom_flags(flags).open(path).map_err(failed)?);
    let nsfs = fstatfs(&fd).is_ok_and(|s| s.filesystem_type() == NSFS_MAGIC);
    if !nsfs || ns::kind(&fd).ok() != Some(libc::CLONE_NEWNET) {
        return Err(not_one());
    }
    let id = NsId::of_fd(fd.as_fd()).map_err(failed)?;
    Ok((fd, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs() {
        assert_eq!(NsSpec::parse("ns1").unwrap(), NsSpec::Name("ns1".into()));
        assert_eq!(NsSpec::parse("12a").unwrap(), NsSpec::Name("12a".into()));
        assert_eq!(NsSpec::parse("12").unwrap(), NsSpec::Pid(12));
        assert_eq!(NsSpec::parse("pid:12").unwrap(), NsSpec::Pid(12));
        assert_eq!(NsSpec::parse("/proc/12/ns/net").unwrap(), NsSpec::Pid(12));
        assert_eq!(NsSpec::parse("--host").unwrap(), NsSpec::Host);
        assert_eq!(NsSpec::Host.to_string(), HOST);
        assert_eq!(NsSpec::parse("./x").unwrap(), NsSpec::Path("./x".into()));
        assert_eq!(NsSpec::parse("/proc/self/ns/net").unwrap(), NsSpec::Path("/proc/self/ns/net".into()));
        let long = "n".repeat(256);
        let long_path = format!("/{}", "p/".repeat(2100));
        let bad = [
            "",
            ".",
            "..",
            "a\nb",
            "a\0",
            "pid:",
            "pid:-1",
            "pid:0",
            "0",
            "pid:x",
            "pid:+1",
            "99999999999",
            long.as_str(),
            long_path.as_str(),
            "/a\x1bb",
        ];
        for text in bad {
            let error = NsSpec::parse(text).unwrap_err().to_string();
            assert!(error.len() < 600 && error.contains(": ") && !error.contains('\n'), "{text:?}: {error}");
        }
    }

    #[test]
    fn what_is_no_namespace_is_refused() {
        let error = |spec: &str| Namespace::open(&NsSpec::parse(spec).unwrap()).unwrap_err();
        assert_eq!(
            error("vswitch-none").to_string(),
            "no network namespace \"vswitch-none\" in /run/netns: \"ip netns add vswitch-none\", or give a path or pid:N"
        );
        assert!(matches!(error("/dev/null"), NetnsError::NotANamespace { .. }));
        assert!(matches!(error("/"), NetnsError::NotANamespace { .. }));
        assert!(matches!(error("/nowhere/x"), NetnsError::NoSuchPath { .. }));
        assert!(matches!(error("/dev/null/x"), NetnsError::NoSuchPath { .. }));
        assert!(matches!(error("/proc/self/ns/mnt"), NetnsError::NotANamespace { .. }));
        assert!(matches!(error("2147483647"), NetnsError::NoSuchProcess { .. }));
    }

    #[test]
    fn the_hosts_own_is_told() {
        let own = Namespace::open(&NsSpec::Pid(nix::unistd::getpid().as_raw())).unwrap();
        assert!(own.is_host().unwrap());
        let error = own.refuse_host().unwrap_err().to_string();
        assert!(error.contains("the host's own namespace"), "{error}");
        assert!(error.ends_with("to plug in the host use \"vswitch attach --host\""), "{error}");
        let again = Namespace::open(&NsSpec::parse("/proc/self/ns/net").unwrap()).unwrap();
        assert!(again.refuse_host().is_err());
        assert_eq!(own.id(), again.id());
        assert_eq!(again.suggested_name(), "net");
        let name = own.suggested_name();
        assert!(name.ends_with(&format!("-{}", std::process::id())), "{name}");
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)), "{name}");
    }

    #[test]
    fn the_host_is_meant_by_its_own_word() {
        let host = Namespace::open(&NsSpec::Host).unwrap();
        assert_eq!((host.id(), host.suggested_name().as_str()), (NsId::own().unwrap(), "host"));
        assert!(host.is_host().unwrap() && host.watch().unwrap().is_none());
        host.refuse_host().unwrap();
        // By whoever runs this, without a right.
        host.enter().unwrap();
    }

    #[test]
    fn a_thread_is_no_process() {
        let (tid, wait) = std::sync::mpsc::channel();
        let (done, hold) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tid.send(nix::unistd::gettid().as_raw()).unwrap();
            let _ = hold.recv();
        });
        let error = Namespace::open(&NsSpec::Pid(wait.recv().unwrap())).unwrap_err();
        assert!(matches!(error, NetnsError::Thread { .. }), "{error}");
        drop(done);
        thread.join().unwrap();
    }
}
