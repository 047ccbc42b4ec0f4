//! What is so on this machine. Nothing is judged here; what cannot be read is `None`.
use super::probe::{self, Probe};
use crate::api::client::Client;
use crate::api::outside::Uplink;
use crate::api::types::Verb;
use crate::commands::{limits, show, uplink};
use crate::rundir::{self, RunDir};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::inotify::{InitFlags, Inotify};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::Mode;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use vswitch_io::privilege;
use vswitch_io::sys::{process, tun};

/// Directories of other users' daemons that are looked into at the most.
const OTHERS: usize = 1_024;

/// How opening /dev/net/tun went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tun {
    Open,
    Absent,
    /// Its mode, which keeps us out.
    Mode(u32),
    Refused(Errno),
}

/// What is in the run directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// No daemon, and nothing in the way of one.
    Nothing,
    /// A daemon that answers.
    Runs,
    /// One that does not, with its PID.
    Hangs(Option<i32>),
    /// A daemon was killed: its socket is there.
    Killed,
    /// The directory cannot be ours.
    Unusable(String),
}

#[derive(Clone, Debug)]
pub struct Facts {
    pub is_root: bool,
    /// The daemon's group.
    pub gid: u32,
    pub kernel: String,
    pub tun: Tun,
    pub probe: Probe,
    pub max_user_namespaces: Option<u64>,
    /// kernel.unprivileged_userns_clone, which Debian's kernels have.
    pub userns_clone: Option<u64>,
    pub apparmor_restricts: bool,
    pub ping_group_range: Option<(u64, u64)>,
    /// RLIMIT_NOFILE, hard.
    pub open_files: u64,
    /// Attached now.
    pub containers: u64,
    /// gc_thresh3.
    pub neighbours: Option<u64>,
    pub inotify_instances: Option<u64>,
    /// This user has none left.
    pub inotify_exhausted: bool,
    pub seccomp: bool,
    /// Version of Landlock.
    pub landlock: Option<u32>,
    /// Policy of the host's FORWARD chain.
    pub forward: Option<String>,
    /// The host's route that leads where the network is.
    pub collision: Option<String>,
    /// What is known against the uplink, if there is one.
    pub uplink: Option<Vec<String>>,
    pub run_dir: PathBuf,
    pub left: Left,
    /// Run directories of other daemons.
    pub others: Vec<PathBuf>,
}

pub fn gather() -> Facts {
    let dir = RunDir::of_user();
    let info = Client::connect_to(&dir).and_then(|mut client| show::info(&mut client)).ok();
    let is_root = nix::unistd::geteuid().is_root();
    Facts {
        is_root,
        gid: privilege::service_user().map_or_else(|| nix::unistd::getegid().as_raw(), |service| service.gid),
        kernel: nix::sys::utsname::uname().map_or_else(|_| String::new(), |name| name.release().to_string_lossy().into_owned()),
        tun: tun(),
        probe: probe::start(),
        max_user_namespaces: number("user/max_user_namespaces"),
        userns_clone: number("kernel/unprivileged_userns_clone"),
        apparmor_restricts: number("kernel/apparmor_restrict_unprivileged_userns") == Some(1),
        ping_group_range: sysctl("net/ipv4/ping_group_range").and_then(|range| {
            let (first, last) = range.split_once(char::is_whitespace)?;
            Some((first.parse().ok()?, last.trim().parse().ok()?))
        }),
        open_files: getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard),
        containers: info.as_ref().map_or(0, |info| info.containers.into()),
        neighbours: limits::neighbours(),
        inotify_instances: number("fs/inotify/max_user_instances"),
        inotify_exhausted: Inotify::init(InitFlags::IN_CLOEXEC).is_err_and(|errno| errno == Errno::EMFILE),
        seccomp: sysctl("kernel/seccomp/actions_avail").is_some_and(|actions| actions.contains("errno")),
        landlock: process::landlock_version(),
        forward: is_root.then(forward).flatten(),
        collision: info.as_ref().and_then(|info| info.collision.clone()),
        uplink: info.as_ref().and_then(|_| uplink_warnings(&dir)),
        left: left(&dir, info.is_some()),
        others: others(&dir),
        run_dir: dir.path().into(),
    }
}

fn sysctl(name: &str) -> Option<String> {
    Some(std::fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?.trim().to_owned())
}

fn number(name: &str) -> Option<u64> {
    sysctl(name)?.parse().ok()
}

fn tun() -> Tun {
    match open(tun::DEVICE, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()) {
        Ok(_) => Tun::Open,
        Err(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO | Errno::ENOTDIR) => Tun::Absent,
        Err(Errno::EACCES) => Tun::Mode(std::fs::metadata(tun::DEVICE).map_or(0, |meta| meta.permissions().mode() & 0o7777)),
        Err(errno) => Tun::Refused(errno),
    }
}

fn uplink_warnings(dir: &RunDir) -> Option<Vec<String>> {
    let uplink: Option<Uplink> = Client::connect_to(dir).ok()?.ask(Verb::Uplink, &[]).ok()?;
    uplink.map(|there| uplink::warnings(&there))
}

/// The policy that iptables or nft says the FORWARD chain has.
fn forward() -> Option<String> {
    let commands: [&[&str]; 2] = [&["iptables", "-S", "FORWARD"], &["nft", "list", "chain", "ip", "filter", "FORWARD"]];
    commands.iter().find_map(|command| {
        let (program, args) = command.split_first()?;
        let output = Command::new(program).args(args).stdin(Stdio::null()).output().ok()?;
        policy(&String::from_utf8_lossy(&output.stdout))
    })
}

/// `-P FORWARD DROP`, or `... priority filter; policy drop;`.
fn policy(said: &str) -> Option<String> {
    let rest = said.strip_prefix("-P FORWARD ").or_else(|| said.split_once(" policy ").map(|(_, rest)| rest))?;
    let policy: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
    (!policy.is_empty()).then(|| policy.to_uppercase())
}

fn left(dir: &RunDir, answers: bool) -> Left {
    let own = nix::unistd::geteuid().as_raw();
    let owners = [own, privilege::service_user().map_or(own, |service| service.uid)];
    match std::fs::symlink_metadata(dir.path()) {
        Err(_) => Left::Nothing,
        Ok(_) if answers => Left::Runs,
        Ok(_) if dir.is_ending() => Left::Killed,
        Ok(_) if dir.is_locked() => {
            let lock = std::fs::read_to_string(dir.path().join("lock")).unwrap_or_default();
            Left::Hangs(lock.split_whitespace().next().and_then(|pid| pid.parse().ok()))
        }
        Ok(meta) if !meta.is_dir() => Left::Unusable("it is no directory".into()),
        Ok(meta) if !owners.contains(&meta.uid()) => Left::Unusable(format!("it belongs to uid {}", meta.uid())),
        Ok(meta) if meta.mode() & 0o022 != 0 => Left::Unusable("others can write to it".into()),
        Ok(_) if dir.socket().exists() => Left::Killed,
        Ok(_) => Left::Nothing,
    }
}

/// Daemons in the usual places of other users.
fn others(ours: &RunDir) -> Vec<PathBuf> {
    let entries = |dir: &str| std::fs::read_dir(dir).into_iter().flatten().flatten().take(OTHERS).map(|entry| entry.path());
    let users = entries("/run/user").map(|dir| dir.join("vswitch"));
    let temporary = entries("/tmp").filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("vswitch-"));
        name.is_some_and(|uid| uid.parse::<u32>().is_ok())
    });
    let all = [PathBuf::from(rundir::SYSTEM)].into_iter().chain(users).chain(temporary);
    all.filter(|path| path != ours.path() && RunDir::at(path.clone()).is_locked()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_as_both_programs_say_them() {
        let nft = "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n";
        assert_eq!(policy(nft).as_deref(), Some("DROP"));
        assert_eq!(policy("-P FORWARD ACCEPT\n-A FORWARD -j DOCKER-USER\n").as_deref(), Some("ACCEPT"));
        assert_eq!(policy("table ip filter {\n\tchain FORWARD {\n\t}\n}\n"), None);
        assert_eq!(policy(""), None);
    }
}
