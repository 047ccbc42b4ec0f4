//! Giving up privileges: what the daemon does before its first thread.
//!
//! The daemon parses what containers send, so it should be able to do nothing that its work does not need. Its work is
//! done on fds that others open and pass. [`drop_privileges`], in this order, each step needing rights that the next
//! ones take away:
//!
//! 1. bounding set emptied (where CAP_SETPCAP allows), supplementary groups, gid, uid changed (a root start);
//! 2. all other capability sets emptied;
//! 3. no_new_privs, not dumpable (no core with frames in it, no ptrace by the same user);
//! 4. Landlock: no file but in the directories given, no TCP, no signal to and no abstract socket of others. Best
//!    effort: what the kernel does not know is left out, and the [`Report`] says so;
//! 5. seccomp: a list of system calls and arguments. What is not on it fails with EPERM; it does not kill, for a whole
//!    network should not die of one call that was forgotten.
//!
//! Capabilities, Landlock and seccomp are a thread's, handed down to the threads it makes: so it is refused when there
//! is a second thread already. Nothing here can be undone.

mod seccomp;

use std::io;
use std::path::PathBuf;

use caps::CapSet;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr,
    RulesetStatus, Scope,
};
use nix::sys::prctl;
use nix::unistd::{Gid, Uid};

use crate::sys::users;

/// The user a root start changes to, if it exists.
pub const USER: &str = "vswitch";

/// The user taken where [`USER`] does not exist.
pub const FALLBACK_USER: &str = "nobody";

/// The newest Landlock version whose rules are used (Linux 6.12; the next ones change nothing here).
const LANDLOCK: ABI = ABI::V6;

/// A user and a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// What is left to the process.
#[derive(Clone, Debug, Default)]
pub struct Confinement {
    /// Whom to change to; None keeps user and group. See [`service_user`].
    pub target: Option<Identity>,
    /// Directories to read, write, make and remove files and sockets in. They must exist.
    pub read_write_dirs: Vec<PathBuf>,
    /// Directories to read. Those that do not exist are left out.
    pub read_dirs: Vec<PathBuf>,
    /// What a system call comes to that is not on the list.
    pub denied: Denied,
}

/// What becomes of a system call that is not on the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Denied {
    /// It fails with EPERM.
    #[default]
    Refused,
    /// It ends the process: in tests, where none may go unnoticed.
    Fatal,
}

/// How much of Landlock the kernel enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforced {
    /// Everything asked for.
    Fully,
    /// An older version of Landlock: a part.
    Partly,
    /// The kernel has none, or it is turned off.
    Not,
}

/// What was enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The user and group that the process has now.
    pub identity: Identity,
    /// Whether the bounding set could be emptied; else no_new_privs alone keeps capabilities from coming back.
    pub bounding_set_empty: bool,
    /// Landlock.
    pub landlock: Enforced,
}

/// Why privileges could not be dropped. The process must not go on then: some may be gone, some not.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// There is more than one thread.
    #[error("privileges can be dropped by a single-threaded process only, this one has {0} threads: drop them earlier")]
    Threads(usize),
    /// A directory that should stay usable cannot be opened.
    #[error("cannot open directory {} ({why}): make it, readable for the user vswitch runs as", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        why: String,
    },
    /// A step failed.
    #[error("cannot {what} ({why}): start without the restriction that forbids it, or as an ordinary user")]
    Step {
        /// The step.
        what: &'static str,
        /// The kernel's answer.
        why: String,
    },
}

fn step<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> PrivilegeError {
    move |e| PrivilegeError::Step { what, why: e.to_string() }
}

/// Whom a root start changes to: `vswitch` if there is such a user, else `nobody`. None when not started as root, and
/// when root is a user namespace's that has no other user ("unshare -Ur"): then there is nobody to change to.
#[must_use]
pub fn service_user() -> Option<Identity> {
    if !Uid::effective().is_root() {
        return None;
    }
    let user = users::by_name(USER).or_else(|| users::by_name(FALLBACK_USER))?;
    let identity = Identity { uid: user.uid, gid: user.gid };
    let map = |file| std::fs::read_to_string(file).unwrap_or_default();
    let may_set_groups = std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|s| s.trim() == "allow");
    let mapped = maps(&map("/proc/self/uid_map"), identity.uid) && maps(&map("/proc/self/gid_map"), identity.gid);
    (mapped && may_set_groups).then_some(identity)
}

/// Whether an id map (user_namespaces(7): first inside, first outside, count) has `id` inside.
fn maps(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut fields = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) = (fields.next(), fields.next(), fields.next()) else {
            return false;
        };
        (first..first.saturating_add(count)).contains(&u64::from(id))
    })
}

/// Gives up all that `confinement` does not keep: see the module's text.
///
/// # Errors
/// [`PrivilegeError`]; the caller should exit.
pub fn drop_privileges(confinement: &Confinement) -> Result<Report, PrivilegeError> {
    let threads = std::fs::read_dir("/proc/self/task").map_err(step("count the threads"))?.count();
    if threads != 1 {
        return Err(PrivilegeError::Threads(threads));
    }
    let bounding_set_empty = empty_bounding_set();
    if let Some(target) = confinement.target {
        change_user(target)?;
    }
    for set in [CapSet::Ambient, CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        caps::clear(None, set).map_err(step("give up capabilities"))?;
    }
    prctl::set_no_new_privs().map_err(step("set no_new_privs"))?;
    prctl::set_dumpable(false).map_err(step("turn core dumps off"))?;
    let landlock = restrict_files(confinement)?;
    seccomp::install(confinement.denied).map_err(step("filter system calls"))?;
    let identity = Identity { uid: Uid::effective().as_raw(), gid: Gid::effective().as_raw() };
    Ok(Report { identity, bounding_set_empty, landlock })
}

/// Drops what can be dropped of the bounding set; whether it is empty then.
fn empty_bounding_set() -> bool {
    for cap in caps::all() {
        // Refused without CAP_SETPCAP, and for capabilities the kernel does not know: what counts is what is left.
        let _ = caps::drop(None, CapSet::Bounding, cap);
    }
    caps::read(None, CapSet::Bounding).is_ok_and(|left| left.is_empty())
}

/// Changes groups, group and user, all ids of each, and checks that there is no way back.
fn change_user(target: Identity) -> Result<(), PrivilegeError> {
    let (uid, gid) = (Uid::from_raw(target.uid), Gid::from_raw(target.gid));
    nix::unistd::setgroups(&[]).map_err(step("leave the supplementary groups"))?;
    nix::unistd::setresgid(gid, gid, gid).map_err(step("change the group"))?;
    nix::unistd::setresuid(uid, uid, uid).map_err(step("change the user"))?;
    if !uid.is_root() && nix::unistd::setuid(Uid::from_raw(0)).is_ok() {
        return Err(PrivilegeError::Step { what: "change the user for good", why: "root can be had back".into() });
    }
    Ok(())
}

/// Confines file access to the directories given.
fn restrict_files(confinement: &Confinement) -> Result<Enforced, PrivilegeError> {
    let failed = || step("restrict file access");
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))
        // Flows connect; listening sockets are bound by the command line.
        .and_then(|r| r.handle_access(AccessNet::BindTcp))
        .and_then(|r| r.scope(Scope::from_all(LANDLOCK)))
        .and_then(Ruleset::create)
        .map_err(failed())?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeSock
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir;
    let mut ruleset = ruleset;
    for path in &confinement.read_write_dirs {
        ruleset = allow(ruleset, path, read | write)?;
    }
    for path in confinement.read_dirs.iter().filter(|p| p.exists()) {
        ruleset = allow(ruleset, path, read)?;
    }
    let status = ruleset.restrict_self().map_err(failed())?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Enforced::Fully,
        RulesetStatus::PartiallyEnforced => Enforced::Partly,
        RulesetStatus::NotEnforced => Enforced::Not,
    })
}

/// Adds one directory to the rules.
fn allow(ruleset: RulesetCreated, path: &PathBuf, access: BitFlags<AccessFs>) -> Result<RulesetCreated, PrivilegeError> {
    let failed = |why: String| PrivilegeError::Directory { path: path.clone(), why };
    let fd = PathFd::new(path).map_err(|e| failed(root_cause(&e)))?;
    ruleset.add_rule(PathBeneath::new(fd, access)).map_err(|e| failed(e.to_string()))
}

/// The innermost text of an error, which names the errno.
fn root_cause(error: &dyn std::error::Error) -> String {
    error.source().and_then(|s| s.downcast_ref::<io::Error>()).map_or_else(|| error.to_string(), io::Error::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_maps() {
        let whole = "         0          0 4294967295\n";
        assert!(maps(whole, 0) && maps(whole, 65534) && !maps(whole, u32::MAX));
        let single = "0 1000 1\n";
        assert!(maps(single, 0) && !maps(single, 65534));
        assert!(maps("0 1000 1\n1 100000 65536\n", 65534));
        assert!(!maps("", 0) && !maps("x y z\n0 0", 0));
    }

    #[test]
    fn a_second_thread_is_an_error() {
        // libtest runs this on a second thread, but for --test-threads=1.
        let other = std::thread::spawn(|| drop_privileges(&Confinement::default()));
        let error = other.join().unwrap().unwrap_err();
        assert!(matches!(error, PrivilegeError::Threads(n) if n > 1), "{error}");
    }
}
