//! Processes: pidfds, what /proc tells of one, and the limits of our own.
//!
//! A PID may be reused at any time, a pidfd never: whoever needs facts of a process by PID opens the pidfd first, reads
//! the facts, and then asks with [`alive`] whether they were still that process's.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::check;

/// Most bytes read of one file in /proc (a stat line has about 400).
const PROC_FILE_BYTES: u64 = 4096;

/// Position of `starttime` behind the command's closing parenthesis in /proc/PID/stat (field 22, proc_pid_stat(5)).
const START_TIME_FIELD: usize = 19;

/// pidfd_open(2); the fd is close-on-exec and becomes readable when the process exits.
///
/// # Errors
/// ESRCH: no such process; EINVAL (ENOENT since 6.13): not a process but a thread, or not positive.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0) };
    let raw = check(raw as libc::c_int)?;
    // SAFETY: `raw` is a new fd that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Whether the process of a pidfd has not exited.
///
/// # Errors
/// Those of poll(2).
pub fn alive(pidfd: impl AsFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut fds, PollTimeout::ZERO)? == 0)
}

/// Whether `fd` is a pidfd: asks with signal 0, which sends nothing.
#[must_use]
pub fn is_pidfd(fd: impl AsFd) -> bool {
    let raw = libc::c_long::from(fd.as_fd().as_raw_fd());
    // SAFETY: the siginfo pointer may be null; signal 0 has no effect on the process.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, raw, 0, std::ptr::null::<libc::siginfo_t>(), 0) };
    let error = io::Error::last_os_error().raw_os_error();
    // EPERM and ESRCH speak of the process, EBADF and EINVAL of the fd.
    result == 0 || matches!(error, Some(libc::EPERM | libc::ESRCH))
}

/// Reads a short file of /proc.
fn read_proc(path: &str) -> io::Result<String> {
    use io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(PROC_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The command name of a process (up to 15 bytes; the process may set it to anything).
///
/// # Errors
/// NotFound when it is gone.
pub fn comm(pid: i32) -> io::Result<String> {
    Ok(read_proc(&format!("/proc/{pid}/comm"))?.trim_end_matches('\n').to_owned())
}

/// When a process started, in clock ticks since boot: with the PID it names a process for the time of a boot.
///
/// # Errors
/// NotFound when it is gone; InvalidData when the line is not as proc_pid_stat(5) says.
pub fn start_time(pid: i32) -> io::Result<u64> {
    let stat = read_proc(&format!("/proc/{pid}/stat"))?;
    // The command, in parentheses, may hold spaces and parentheses itself: what counts follows the last one.
    let field = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(START_TIME_FIELD));
    field.and_then(|f| f.parse().ok()).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Raises the soft limit of open files to the hard one and returns it (in fds).
///
/// # Errors
/// Those of setrlimit(2).
pub fn raise_open_files() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// The version of Landlock that the kernel has (landlock_create_ruleset(2)); None where it has none, or it is turned off.
#[must_use]
pub fn landlock_version() -> Option<u32> {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the kernel reads no attribute, which must be null and of size 0, and makes no fd.
    let result = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0usize, VERSION) };
    u32::try_from(result).ok().filter(|version| *version > 0)
}

/// Marks every fd from `first` on close-on-exec, so that a program started next inherits only the lower ones.
///
/// # Errors
/// ENOSYS or EINVAL before Linux 5.11.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // Kernel: unsigned int flags.
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: no fd is closed: with this flag the kernel only sets a bit on those that are open.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
    check(result as libc::c_int)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn pidfd_tells_the_exit() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let pidfd = pidfd_open(pid).unwrap();
        assert!(is_pidfd(&pidfd));
        assert!(alive(&pidfd).unwrap());
        assert!(start_time(pid).unwrap() >= start_time(nix::unistd::getpid().as_raw()).unwrap());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!alive(&pidfd).unwrap());
        assert!(is_pidfd(&pidfd));
        assert_eq!(pidfd_open(-1).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn other_fds_are_no_pidfds() {
        assert!(!is_pidfd(std::fs::File::open("/dev/null").unwrap()));
        assert!(!is_pidfd(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()));
    }

    #[test]
    fn facts_of_our_own() {
        let pid = nix::unistd::getpid().as_raw();
        assert!(!comm(pid).unwrap().is_empty());
        assert!(start_time(pid).unwrap() > 0);
        assert!(comm(i32::MAX).is_err());
        // Some kernels have none; no version is this high.
        assert!(landlock_version().is_none_or(|version| (1..1_000).contains(&version)));
    }

    #[test]
    fn limit_and_inheritance() {
        assert!(raise_open_files().unwrap() >= 3);
        let file = std::fs::File::open("/dev/null").unwrap();
        nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
        close_on_exec_from(3).unwrap();
        let flags = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags, libc::FD_CLOEXEC);
    }
}
