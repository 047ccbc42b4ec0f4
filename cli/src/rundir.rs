//! The run directory: control socket, lock, log and state of one user's daemon.
//!
//! `VSWITCH_RUN_DIR`, else /run/vswitch for root, else `$XDG_RUNTIME_DIR/vswitch`, else /run/user/UID/vswitch, else a directory in /tmp
//! that is checked for owner and links. (Root of a user namespace is, for this, the user who made that.) A daemon that root starts runs as another user, whom the directory is given to: so it is never
//! one that holds anything else.
use crate::errors::DaemonProblem;
use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vswitch_io::privilege::Identity;
use vswitch_io::sys::process;

/// Where root's is.
pub const SYSTEM: &str = "/run/vswitch";
const SOCKET: &str = "control.sock";
const LOCK: &str = "lock";
const LOG: &str = "log";
const OLD_LOG: &str = "log.old";
const STATE: &str = "state.json";
const NEW_STATE: &str = "state.json.new";
const BAD_STATE: &str = "state.json.bad";

/// Octets of a lock file that are read.
const HOLDER_OCTETS: usize = 64;

/// How long a killed daemon may take to end: 1,100 ports take it 26 s.
const PREDECESSOR: Duration = Duration::from_secs(60);

/// How often the lock is tried that others remove meanwhile, or hold for a moment.
const LOCK_TRIES: usize = 8;

/// Between two tries of a lock whose holder is not there: a command that looks whether it is held has it for as long as that takes.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Files that are ours in there.
const OURS: [&str; 7] = [SOCKET, LOCK, LOG, OLD_LOG, STATE, NEW_STATE, BAD_STATE];

/// The user's run directory.
#[derive(Clone, Debug)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// Where it is; makes nothing.
    pub fn of_user() -> Self {
        let uid = uid_outside();
        let usable = |dir: PathBuf| dir.is_dir().then(|| dir.join("vswitch"));
        Self(if let Some(dir) = std::env::var_os("VSWITCH_RUN_DIR") {
            std::path::absolute(&dir).unwrap_or_else(|_| dir.into())
        } else if uid == 0 {
            SYSTEM.into()
        } else {
            std::env::var_os("XDG_RUNTIME_DIR")
                .and_then(|dir| usable(dir.into()))
                .or_else(|| usable(format!("/run/user/{uid}").into()))
                .unwrap_or_else(|| format!("/tmp/vswitch-{uid}").into())
        })
    }

    /// One somewhere else.
    pub const fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn socket(&self) -> PathBuf {
        self.0.join(SOCKET)
    }

    pub fn log(&self) -> PathBuf {
        self.0.join(LOG)
    }

    pub fn old_log(&self) -> PathBuf {
        self.0.join(OLD_LOG)
    }

    pub fn state(&self) -> PathBuf {
        self.0.join(STATE)
    }

    /// A state that is being written.
    pub fn new_state(&self) -> PathBuf {
        self.0.join(NEW_STATE)
    }

    /// A state that could not be read.
    pub fn bad_state(&self) -> PathBuf {
        self.0.join(BAD_STATE)
    }

    /// Makes it, or checks that what is there is ours alone, and gives it to `service`.
    pub fn prepare(&self, service: Option<Identity>) -> Result<()> {
        let dir = || self.0.clone();
        match DirBuilder::new().mode(0o700).create(&self.0) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => bail!(DaemonProblem::DirNotMade { dir: dir(), error }),
            Ok(()) | Err(_) => {}
        }
        let unusable = || DaemonProblem::DirNotUsed { dir: dir() };
        let meta = std::fs::symlink_metadata(&self.0).with_context(unusable)?;
        let own = nix::unistd::geteuid().as_raw();
        let owners = [Some(own), service.map(|service| service.uid)];
        if !meta.is_dir() || !owners.contains(&Some(meta.uid())) || meta.mode() & 0o022 != 0 {
            bail!(DaemonProblem::DirNotYours { dir: dir() });
        }
        for entry in std::fs::read_dir(&self.0).with_context(unusable)? {
            let name = entry?.file_name();
            if !OURS.iter().any(|ours| name == OsStr::new(ours)) {
                bail!(DaemonProblem::DirHolds { dir: dir(), name: name.display().to_string() });
            }
        }
        if let Some(service) = service {
            std::os::unix::fs::chown(&self.0, Some(service.uid), Some(service.gid)).with_context(unusable)?;
            // Others may see that root's daemon runs; the socket lets nobody in.
            std::fs::set_permissions(&self.0, std::fs::Permissions::from_mode(0o755)).with_context(unusable)?;
        }
        Ok(())
    }

    /// Takes the lock that one daemon holds as long as the file is open, or says who holds it.
    pub fn lock(&self) -> Result<File> {
        let path = self.0.join(LOCK);
        for _ in 0..LOCK_TRIES {
            let mut options = File::options();
            let options = options.read(true).write(true).create(true).truncate(false).mode(0o644).custom_flags(libc::O_NOFOLLOW);
            let file = options.open(&path).with_context(|| DaemonProblem::NotOpened { path: path.clone() })?;
            match file.try_lock() {
                // A "down" that ends just now may have removed the file between the two calls.
                Ok(()) if std::fs::metadata(&path).is_ok_and(|now| file.metadata().is_ok_and(|held| held.ino() == now.ino())) => {
                    await_predecessor(&file);
                    sign(&file, &signature()?).with_context(|| DaemonProblem::NotWritten { path: path.clone() })?;
                    return Ok(file);
                }
                Ok(()) => {}
                Err(_) => match Holder::of(&file) {
                    Holder::Runs(other) => bail!(DaemonProblem::RunsAlready { pid: other.pid.to_string() }),
                    Holder::Ends(other) => {
                        crate::print::note("waiting for the kernel to close the ports of the vswitch that was killed");
                        other.await_end();
                    }
                    // It ended since the lock was tried, or whoever holds it has not written its name yet.
                    Holder::Gone => std::thread::sleep(LOCK_PAUSE),
                },
            }
        }
        if self.is_locked() {
            bail!(DaemonProblem::RunsAlready { pid: "?".into() });
        }
        bail!(DaemonProblem::LockReplaced { path });
    }

    /// Whether a daemon holds the lock.
    pub fn is_locked(&self) -> bool {
        File::open(self.0.join(LOCK)).is_ok_and(|file| file.try_lock().is_err())
    }

    /// Whether the daemon was killed and is about to end: it answers no more.
    pub fn is_ending(&self) -> bool {
        // Looked at twice: in between, the lock may have been handed to another daemon by one that ends as it should.
        File::open(self.0.join(LOCK)).is_ok_and(|lock| {
            let named = holder(&lock);
            matches!(Holder::of(&lock), Holder::Ends(_)) && holder(&lock) == named
        })
    }

    /// Binds the control socket in place of one that a killed daemon left. Only for the holder of the lock.
    pub fn bind(&self, service: Option<Identity>) -> Result<UnixListener> {
        let path = self.socket();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => bail!(DaemonProblem::NotRemoved { path, error }),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path).with_context(|| DaemonProblem::SocketNotMade { path: path.clone() })?;
        let unusable = || DaemonProblem::DirNotUsed { dir: self.0.clone() };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).with_context(unusable)?;
        if let Some(service) = service {
            std::os::unix::fs::chown(&path, Some(service.uid), Some(service.gid)).with_context(unusable)?;
        }
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    /// Opens the log for appending, and gives it to `service`.
    pub fn open_log(&self, service: Option<Identity>) -> Result<File> {
        let path = self.log();
        let file = File::options().create(true).append(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(&path);
        let file = file.with_context(|| DaemonProblem::NotOpened { path: path.clone() })?;
        if let Some(service) = service {
            let unusable = || DaemonProblem::DirNotUsed { dir: self.0.clone() };
            std::os::unix::fs::fchown(&file, Some(service.uid), Some(service.gid)).with_context(unusable)?;
        }
        Ok(file)
    }

    /// Removes all that a daemon leaves, and the directory.
    pub fn remove(&self) {
        for name in OURS {
            let _ = std::fs::remove_file(self.0.join(name));
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// This process as a lock file names it: PID and start time.
pub fn signature() -> Result<String> {
    let own = i32::try_from(std::process::id())?;
    Ok(format!("{own} {}\n", process::start_time(own).context(DaemonProblem::NoProc)?))
}

/// Writes into a lock file who holds it.
pub fn sign(mut lock: &File, signature: &str) -> Result<()> {
    lock.set_len(0)?;
    lock.seek(SeekFrom::Start(0))?;
    Ok(lock.write_all(signature.as_bytes())?)
}

/// Our uid as the user namespace above ours numbers it: root of "podman unshare" is the user who started that.
fn uid_outside() -> u32 {
    let uid = nix::unistd::geteuid().as_raw();
    std::fs::read_to_string("/proc/self/uid_map").ok().and_then(|map| outside(&map, uid)).unwrap_or(uid)
}

/// The id outside of an id inside, by an id map (user_namespaces(7): first inside, first outside, count).
fn outside(map: &str, id: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let numbers: Option<Vec<u32>> = line.split_whitespace().map(|field| field.parse().ok()).collect();
        let [inside, outside, count] = numbers?.try_into().ok()?;
        let offset = id.checked_sub(inside).filter(|offset| *offset < count)?;
        outside.checked_add(offset)
    })
}

/// Whom a lock file names: PID and start time (proc(5), clock ticks since boot).
fn holder(file: &File) -> Option<(i32, u64)> {
    let mut octets = [0; HOLDER_OCTETS];
    let length = file.read_at(&mut octets, 0).ok()?;
    let (pid, start) = std::str::from_utf8(octets.get(..length)?).ok()?.trim().split_once(' ')?;
    Some((pid.parse().ok()?, start.parse().ok()?))
}

/// A daemon's process, which may come to an end meanwhile.
pub struct Other {
    pid: i32,
    pidfd: OwnedFd,
}

impl Other {
    /// The one of this PID, if there is one.
    pub fn of_pid(pid: i32) -> Option<Self> {
        Some(Self { pid, pidfd: process::pidfd_open(pid).ok()? })
    }

    /// The one that a lock file names, if it is there.
    pub fn of_lock(lock: &File) -> Option<Self> {
        let (pid, start) = holder(lock)?;
        let other = Self::of_pid(pid)?;
        (process::start_time(pid).ok()? == start).then_some(other)
    }

    /// Whether it has ended, or was killed and the kernel is still closing its ports, 20 ms each, one after another.
    pub fn is_gone(&self) -> bool {
        // A process gives up its memory, and with it its command line, before its files.
        !process::alive(&self.pidfd).unwrap_or(true)
            || std::fs::read(format!("/proc/{}/cmdline", self.pid)).map_or(true, |command| command.is_empty())
    }

    /// Waits for its end, for as long as one that was killed may take; says whether it came.
    pub fn await_end(&self) -> bool {
        let timeout = PollTimeout::try_from(PREDECESSOR).unwrap_or(PollTimeout::MAX);
        poll(&mut [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)], timeout).is_ok_and(|ready| ready > 0)
    }
}

/// The process that a lock file names.
enum Holder {
    /// It runs.
    Runs(Other),
    /// It was killed and the kernel is still closing its ports. Lock and socket go last.
    Ends(Other),
    /// It has ended, or none is named. One that has exited has closed all it had, though its parent may not know yet.
    Gone,
}

impl Holder {
    fn of(lock: &File) -> Self {
        let Some(other) = Other::of_lock(lock) else { return Self::Gone };
        // In this order: what it has no more while it is closing, it has no more either once it has exited.
        let (gone, alive) = (other.is_gone(), process::alive(&other.pidfd).unwrap_or(false));
        match (gone, alive) {
            (_, false) => Self::Gone,
            (true, true) => Self::Ends(other),
            (false, true) => Self::Runs(other),
        }
    }
}

/// Waits for the end of a daemon whose lock this was: until then the interfaces of its ports are in the way.
fn await_predecessor(lock: &File) {
    if let Some(other) = Other::of_lock(lock)
        && other.pid != std::process::id().cast_signed()
    {
        other.await_end();
    }
}

#[cfg(test)]
mod tests {
    use super::{LOCK, RunDir, outside, sign, signature};
    use std::fs::File;
    use std::time::Duration;

    #[test]
    fn ids_outside() {
        assert_eq!(outside("         0          0 4294967295\n", 0), Some(0));
        let rootless = "0 1000 1\n1 100000 65536\n";
        assert_eq!([0, 1, 65_536, 65_537].map(|id| outside(rootless, id)), [Some(1_000), Some(100_000), Some(165_535), None]);
        assert_eq!(outside("0 x 1", 0), None);
    }

    /// A directory with a lock that is held and names `holder`.
    fn held(name: &str, holder: &str) -> (RunDir, File) {
        let dir = RunDir::at(std::env::temp_dir().join(format!("vswitch-lock-{name}-{}", std::process::id())));
        dir.prepare(None).unwrap();
        let lock = File::options().write(true).create_new(true).open(dir.path().join(LOCK)).unwrap();
        lock.try_lock().unwrap();
        sign(&lock, holder).unwrap();
        (dir, lock)
    }

    #[test]
    fn a_lock_whose_holder_has_ended_is_waited_for() {
        // No process has this PID; others hold the lock for as long as they look.
        let (dir, lock) = held("ended", "2147483647 1\n");
        let other = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            drop(lock);
        });
        assert!(dir.lock().is_ok());
        other.join().unwrap();
        dir.remove();
    }

    #[test]
    fn a_lock_whose_holder_runs_is_refused() {
        let (dir, _lock) = held("runs", &signature().unwrap());
        let expected = format!("one runs already (pid {})", std::process::id());
        assert!(dir.lock().unwrap_err().to_string().starts_with(&expected));
        dir.remove();
    }

    #[test]
    fn a_lock_that_names_nobody_is_refused_in_the_end() {
        let (dir, _lock) = held("nobody", "");
        assert!(dir.lock().unwrap_err().to_string().starts_with("one runs already (pid ?)"));
        dir.remove();
    }
}
