//! What the facts mean: a pure function each.
use super::facts::{Facts, Left, Tun};
use super::probe::Probe;
use crate::commands::limits::Limits;
use serde::Serialize;
use vswitch_io::sys::tun::OFFLOAD_LADDER;
use vswitch_switch::port::MAX_PORTS;

/// The oldest kernel that is supported.
const KERNEL: (u32, u32) = (5, 15);
/// Fds that a daemon has with nothing attached, about, and those of a container.
const FILES: (u64, u64) = (16, 2);
/// The version of Landlock that has all that the sandbox asks for (Linux 6.12).
const LANDLOCK: u32 = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Ok,
    /// Good to know.
    Note,
    /// Something does not work.
    Problem,
}

impl State {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Problem => "PROBLEM",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub state: State,
    pub check: &'static str,
    pub what: String,
    pub remedy: Option<String>,
}

impl Finding {
    /// In one line.
    pub fn text(&self) -> String {
        self.remedy.as_ref().map_or_else(|| self.what.clone(), |remedy| format!("{}: {remedy}", self.what))
    }
}

fn finding(state: State, check: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { state, check, what: what.into(), remedy: Some(remedy.into()) }
}

/// From a line "what: remedy".
fn said(state: State, check: &'static str, line: &str) -> Finding {
    let (what, remedy) = line.split_once(": ").unwrap_or((line, "see the kernel's log"));
    finding(state, check, what, remedy)
}

fn fine(check: &'static str, what: impl Into<String>) -> Finding {
    Finding { state: State::Ok, check, what: what.into(), remedy: None }
}

use State::{Note, Problem};

pub fn all(facts: &Facts) -> Vec<Finding> {
    let checks = [
        kernel,
        tun,
        offload,
        user_namespaces,
        open_files,
        neighbours,
        inotify,
        sandbox,
        ping_sockets,
        firewall,
        network,
        uplink,
        leftovers,
        other_daemons,
    ];
    checks.iter().map(|check| check(facts)).collect()
}

fn kernel(facts: &Facts) -> Finding {
    let mut numbers = facts.kernel.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return finding(Note, "kernel", format!("{:?} is no version that is understood", facts.kernel), "use Linux 5.15 or newer");
    };
    if (major, minor) < KERNEL {
        return finding(Problem, "kernel", format!("Linux {} is too old", facts.kernel), "use 5.15 or newer");
    }
    fine("kernel", format!("Linux {}", facts.kernel))
}

fn tun(facts: &Facts) -> Finding {
    let instead = "or attach with --type veth";
    match facts.tun {
        Tun::Open => fine("tun", "/dev/net/tun can be opened"),
        Tun::Absent => finding(
            Problem,
            "tun",
            "/dev/net/tun does not exist",
            format!("\"sudo modprobe tun\"; inside Docker start with --device /dev/net/tun; {instead}"),
        ),
        Tun::Mode(mode) => finding(
            Problem,
            "tun",
            format!("/dev/net/tun is mode {mode:04o}, you need read-write"),
            format!("\"sudo chmod 0666 /dev/net/tun\" (the usual mode), {instead}"),
        ),
        Tun::Refused(errno) => finding(
            Problem,
            "tun",
            format!("/dev/net/tun cannot be opened ({})", errno.desc()),
            format!("inside Docker start with --device /dev/net/tun, {instead}"),
        ),
    }
}

fn offload(facts: &Facts) -> Finding {
    let [udp, tcp, checksum, _] = OFFLOAD_LADDER;
    let slower = |what: &str, mask: u32, remedy: &str| finding(Note, "offload", format!("TAPs have {what} ({mask:#04x})"), remedy);
    match &facts.probe {
        Probe::Tap(mask) if *mask == udp => {
            fine("offload", format!("TAPs leave checksums, TCP and UDP segmentation to the switch ({mask:#04x})"))
        }
        Probe::Tap(mask) if *mask == tcp => slower("no UDP segmentation", *mask, "Linux 6.2 or newer has it"),
        Probe::Tap(mask) if *mask == checksum => slower("no segmentation, so TCP is slow", *mask, "use a newer kernel"),
        Probe::Tap(mask) => slower("no offloads, so TCP is slow", *mask, "use a newer kernel"),
        Probe::NoTap(_) if facts.tun != Tun::Open => finding(Note, "offload", "not tried, for there is no TAP", "see tun"),
        Probe::NoTap(why) => said(Problem, "offload", why),
        Probe::NoNamespace(_) => finding(Note, "offload", "not tried, for no namespace can be made", "see user namespaces"),
        Probe::NotTried(why) => finding(Note, "offload", format!("not tried ({why})"), "run the program by its path"),
    }
}

fn user_namespaces(facts: &Facts) -> Finding {
    const NAME: &str = "user namespaces";
    // Root needs none; who else uses the machine may.
    let state = if facts.is_root { Note } else { Problem };
    let without_root = "so nothing works without root";
    if facts.max_user_namespaces == Some(0) {
        let remedy = "\"sudo sysctl user.max_user_namespaces=16384\"";
        return finding(state, NAME, format!("user.max_user_namespaces is 0, {without_root}"), remedy);
    }
    if facts.userns_clone == Some(0) {
        let remedy = "\"sudo sysctl kernel.unprivileged_userns_clone=1\"";
        return finding(state, NAME, format!("kernel.unprivileged_userns_clone is 0, {without_root}"), remedy);
    }
    let apparmor =
        "\"sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0\", or install the profile in docs/apparmor, or use sudo";
    if facts.apparmor_restricts && facts.is_root {
        return finding(Note, NAME, "AppArmor restricts those of ordinary users", apparmor);
    }
    let no_rights = facts.tun == Tun::Open && matches!(facts.probe, Probe::NoTap(_));
    if facts.apparmor_restricts && (no_rights || matches!(facts.probe, Probe::NoNamespace(_))) {
        return finding(Problem, NAME, "AppArmor denies user namespaces to this binary", apparmor);
    }
    match &facts.probe {
        Probe::NoNamespace(why) => {
            let remedy = "see the log of the security module or container runtime that forbids it, or use sudo";
            finding(Problem, NAME, format!("no namespace can be made ({why})"), remedy)
        }
        Probe::Tap(_) | Probe::NoTap(_) | Probe::NotTried(_) if facts.is_root => fine(NAME, "not needed by root"),
        Probe::Tap(_) | Probe::NoTap(_) => fine(NAME, "can be made"),
        Probe::NotTried(_) => fine(NAME, "not forbidden by a sysctl"),
    }
}

fn open_files(facts: &Facts) -> Finding {
    let (fixed, each) = FILES;
    let room = facts.open_files.saturating_sub(fixed) / each;
    let what = format!("{} at the most (ulimit -Hn)", facts.open_files);
    if room >= u64::from(MAX_PORTS) {
        return fine("open files", what);
    }
    let state = if room <= facts.containers { Problem } else { Note };
    let needed = fixed + each * u64::from(MAX_PORTS);
    finding(
        state,
        "open files",
        format!("{what}, room for about {room} containers"),
        format!("a hard limit of {needed} is enough for all ports"),
    )
}

fn neighbours(facts: &Facts) -> Finding {
    const NAME: &str = "neighbour table";
    let Some(limit) = facts.neighbours else {
        return finding(Note, NAME, "its limit is not shown in this network namespace", "look on the host");
    };
    let limits = Limits { containers: facts.containers, neighbours: facts.neighbours, open_files: 0, open_files_limit: u64::MAX };
    match limits.of_neighbours() {
        Some(warning) => said(Problem, NAME, &warning),
        None => fine(NAME, format!("{limit} entries for the host and all containers, {} attached", facts.containers)),
    }
}

fn inotify(facts: &Facts) -> Finding {
    let limit = facts.inotify_instances.map_or_else(|| "?".into(), |limit| limit.to_string());
    if facts.inotify_exhausted {
        let what = format!("you have no instance left of {limit}, so no name in /run/netns can be watched");
        return finding(Problem, "inotify", what, "\"sudo sysctl fs.inotify.max_user_instances=1024\"");
    }
    fine("inotify", format!("{limit} instances a user; a switch needs one for each directory of names"))
}

fn sandbox(facts: &Facts) -> Finding {
    if !facts.seccomp {
        let what = "the kernel has no seccomp filters, so the daemon does not start";
        return finding(Problem, "sandbox", what, "use a kernel with CONFIG_SECCOMP_FILTER");
    }
    match facts.landlock {
        Some(version) if version >= LANDLOCK => fine("sandbox", format!("seccomp, Landlock {version}")),
        Some(version) => {
            finding(Note, "sandbox", format!("seccomp, Landlock {version} does a part"), "Linux 6.12 or newer does all")
        }
        None => finding(Note, "sandbox", "seccomp, but no Landlock", "boot a kernel that has it with lsm=landlock,..."),
    }
}

fn ping_sockets(facts: &Facts) -> Finding {
    const NAME: &str = "ping sockets";
    let gid = u64::from(facts.gid);
    match facts.ping_group_range {
        Some((first, last)) if (first..=last).contains(&gid) => fine(NAME, format!("group {gid} may make them")),
        Some((first, last)) => finding(
            Note,
            NAME,
            format!(
                "group {gid} may make none (net.ipv4.ping_group_range is {first} {last}), so no ping leaves the host without root"
            ),
            "\"sudo sysctl net.ipv4.ping_group_range='0 2147483647'\"",
        ),
        None => finding(Note, NAME, "net.ipv4.ping_group_range cannot be read", "look on the host"),
    }
}

fn firewall(facts: &Facts) -> Finding {
    match facts.forward.as_deref() {
        None => fine("firewall", "the FORWARD chain was not read; no rule of it sees frames between containers"),
        Some("ACCEPT") => fine("firewall", "the FORWARD policy is ACCEPT; frames between containers do not pass it"),
        Some(policy) => finding(
            Note,
            "firewall",
            format!("the FORWARD policy is {policy}"),
            "nothing to do, frames between containers do not pass it; what other programs forward does",
        ),
    }
}

fn network(facts: &Facts) -> Finding {
    match &facts.collision {
        None => fine("network", "collides with no route of the host that is known"),
        Some(collision) => said(Problem, "network", collision),
    }
}

fn uplink(facts: &Facts) -> Finding {
    match facts.uplink.as_deref() {
        None => fine("uplink", "there is none"),
        Some([]) => fine("uplink", "nothing is known against it"),
        Some([warning, ..]) => said(Problem, "uplink", warning),
    }
}

fn leftovers(facts: &Facts) -> Finding {
    let (name, dir) = ("run directory", facts.run_dir.display());
    match &facts.left {
        Left::Nothing => fine(name, format!("{dir}: no daemon runs, nothing is in the way of one")),
        Left::Runs => fine(name, format!("{dir}: a daemon runs and answers")),
        Left::Killed => finding(Note, name, format!("{dir} is of a daemon that was killed"), "\"vswitch up\" goes on with it"),
        Left::Hangs(Some(pid)) => finding(
            Problem,
            name,
            format!("{dir}: a daemon (pid {pid}) runs and does not answer"),
            format!("\"vswitch logs\", then \"kill {pid}\""),
        ),
        Left::Hangs(None) => {
            finding(Problem, name, format!("{dir}: the lock is held by an unknown process"), "end what has the file lock open")
        }
        Left::Unusable(why) => {
            finding(Problem, name, format!("{dir} cannot be used ({why})"), "remove it, or choose another with VSWITCH_RUN_DIR")
        }
    }
}

fn other_daemons(facts: &Facts) -> Finding {
    let places: Vec<String> = facts.others.iter().map(|path| path.display().to_string()).collect();
    if places.is_empty() {
        return fine("other daemons", "none in the usual places");
    }
    let what = format!("{} too, with containers of their own", places.join(", "));
    finding(Note, "other daemons", what, "sudo, or VSWITCH_RUN_DIR, reaches them")
}

#[cfg(test)]
mod tests;
