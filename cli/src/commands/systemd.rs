//! `up` where systemd runs: the daemon becomes a transient unit, so that it belongs to no login and ends with none.
//!
//! A user's unit belongs to the user's manager, which ends with the last login unless "loginctl enable-linger" was said. Where this cannot
//! be done the daemon is started in a session of its own.
use super::up;
use crate::errors::RunProblem;
use crate::rundir::{self, RunDir};
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// There where systemd is PID 1 (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";
const PROGRAM: &str = "systemd-run";
/// Octets of a unit's name at the most; systemd takes 255.
const NAME_OCTETS: usize = 200;
/// Seconds that the daemon may take to end: it closes its ports.
const STOP: &str = "60";
/// Seconds that it may take to be ready: as long as one that was killed may take to end.
const START: &str = "90";

/// Starts the daemon, with these flags, as a transient unit and waits until it is ready. False, and nothing runs, where that cannot be.
pub fn start(dir: &RunDir, flags: &[String]) -> Result<bool> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if dir.is_locked() || !Path::new(BOOTED).exists() || !in_systemds_view() {
        return Ok(false);
    }
    let Some(program) = find(&path) else { return Ok(false) };
    let is_user = !nix::unistd::geteuid().is_root();
    let own = std::env::current_exe().context(RunProblem::NoVswitch)?;
    let words = up::DAEMON.iter().copied().chain(flags.iter().map(String::as_str));
    let daemon: Vec<OsString> = [own.into()].into_iter().chain(words.map(Into::into)).collect();
    let line = command_line(dir, is_user, &daemon);
    let mut command = Command::new(program);
    // What it says is of no use to who sees the daemon start the other way; the unit's output is in the journal.
    command.args(line).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let is_started = command.status().is_ok_and(|status| status.success());
    // What runs where we do not see it is of no use.
    let is_ours = is_started && dir.socket().exists();
    if is_started && !is_ours {
        let scope = if is_user { &["--user"][..] } else { &[] };
        let _ = Command::new("systemctl").args(scope).args(["stop", &unit(dir)]).stdin(Stdio::null()).status();
    }
    Ok(is_ours)
}

/// Whether what we see (users, files) is what systemd's units see.
fn in_systemds_view() -> bool {
    let whole = |map: String| map.split_whitespace().eq(["0", "0", "4294967295"]);
    let same_files = match (std::fs::read_link("/proc/self/ns/mnt"), std::fs::read_link("/proc/1/ns/mnt")) {
        (Ok(ours), Ok(theirs)) => ours == theirs,
        // Not for an ordinary user to know: the socket will tell.
        (Ok(_) | Err(_), Ok(_) | Err(_)) => true,
    };
    same_files && std::fs::read_to_string("/proc/self/uid_map").is_ok_and(whole)
}

fn find(path: &OsString) -> Option<PathBuf> {
    let is_program =
        |file: &PathBuf| std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    std::env::split_paths(path).map(|dir| dir.join(PROGRAM)).find(is_program)
}

/// The unit's name: "vswitch", and where the run directory is none of the usual ones, that too.
fn unit(dir: &RunDir) -> String {
    let path = dir.path();
    let users = |path: &Path| path.ends_with("vswitch") && path.ancestors().nth(2) == Some(Path::new("/run/user"));
    let usual = path == Path::new(rundir::SYSTEM) || users(path);
    if usual {
        return "vswitch".into();
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '.' { c } else { '-' };
    let name: String = path.to_string_lossy().chars().map(plain).collect();
    // What tells two apart is at the end.
    let from = name.len().saturating_sub(NAME_OCTETS);
    format!("vswitch-{}", name.get(from..).unwrap_or_default().trim_start_matches('-'))
}

/// Arguments of systemd-run. It waits until the unit is ready, for its type is notify.
fn command_line(dir: &RunDir, is_user: bool, daemon: &[OsString]) -> Vec<OsString> {
    let mut line: Vec<OsString> = if is_user { vec!["--user".into()] } else { Vec::new() };
    line.extend(["--quiet", "--collect"].map(Into::into));
    line.push(format!("--unit={}", unit(dir)).into());
    line.push("--description=vswitch: a switch for containers".into());
    let properties = ["Type=notify".to_owned(), format!("TimeoutStartSec={START}"), format!("TimeoutStopSec={STOP}")];
    line.extend(properties.map(|property| format!("--property={property}").into()));
    let mut environment = OsString::from("--setenv=VSWITCH_RUN_DIR=");
    environment.push(dir.path());
    line.extend([environment, "--".into()]);
    line.extend_from_slice(daemon);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(dir: &str, is_user: bool) -> Vec<String> {
        let daemon = ["/usr/bin/vswitch", "up", "--foreground"].map(OsString::from);
        let line = command_line(&RunDir::at(dir.into()), is_user, &daemon);
        line.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn the_command_line_of_root_and_of_a_user() {
        let root = [
            "--quiet",
            "--collect",
            "--unit=vswitch",
            "--description=vswitch: a switch for containers",
            "--property=Type=notify",
            "--property=TimeoutStartSec=90",
            "--property=TimeoutStopSec=60",
            "--setenv=VSWITCH_RUN_DIR=/run/vswitch",
            "--",
            "/usr/bin/vswitch",
            "up",
            "--foreground",
        ];
        assert_eq!(line("/run/vswitch", false), root);
        let user = line("/run/user/1000/vswitch", true);
        assert_eq!((user[0].as_str(), &user[1..8]), ("--user", &root.map(String::from)[..7]));
        assert_eq!(user[8], "--setenv=VSWITCH_RUN_DIR=/run/user/1000/vswitch");
        assert_eq!(user[9..], root[8..]);
    }

    #[test]
    fn every_run_directory_has_a_unit_of_its_own() {
        let unit = |dir: &str| unit(&RunDir::at(dir.into()));
        assert_eq!(unit("/tmp/vswitch-demo-7/run"), "vswitch-tmp-vswitch-demo-7-run");
        assert_eq!(unit("/tmp/a b%c/ü"), "vswitch-tmp-a-b-c--");
        assert_eq!(unit("/run/user/1000/other"), "vswitch-run-user-1000-other");
        let (long, other) = (unit(&format!("/{}/a", "d".repeat(300))), unit(&format!("/{}/b", "d".repeat(300))));
        assert!(long.len() <= 255 && long != other, "{long}");
    }

    #[test]
    fn only_what_can_be_run_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = std::env::join_paths(["/nonexistent".as_ref(), dir.path()]).unwrap();
        assert_eq!(find(&path), None);
        let program = dir.path().join(PROGRAM);
        std::fs::write(&program, "").unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o644)).unwrap();
        assert_eq!(find(&path), None);
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(find(&path), Some(program));
    }
}
