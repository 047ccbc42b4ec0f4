//! The inner process of `run`: it makes or joins the namespaces, waits until it is plugged in, and becomes the program.
//!
//! What it makes: a mount namespace, always, in which the control socket's directory is hidden and /etc/resolv.conf names the gateway, where
//! that answers; a network namespace, unless it joins one; a user namespace, unless it is root, in which the user is root and nobody else
//! exists.
use super::super::program::{self, Refusal};
use super::{Channel, Go, Network, Said, Setup};
use crate::errors::RunProblem;
use crate::resolv_conf::FILE as RESOLV_CONF;
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{dup2_stdin, getegid, geteuid, getppid, setsid};
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use vswitch_io::link::{self, Netlink};
use vswitch_io::sys::process;

/// Size of the file system over the control directory: it holds a resolv.conf.
const HIDING: &str = "size=64k,nr_inodes=8,mode=0755";
/// Says whether AppArmor lets ordinary users have user namespaces.
const APPARMOR: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";

pub fn run(setup: &str, command: &[OsString]) -> ExitCode {
    let channel = match std::io::stdin().as_fd().try_clone_to_owned() {
        Ok(socket) => Channel(UnixStream::from(socket)),
        Err(_) => return ExitCode::FAILURE,
    };
    let refusal = match prepare(&channel, setup) {
        Ok(()) => program::become_program(command),
        Err(error) => Refusal::from(error),
    };
    // Who started us may be gone.
    let _ = channel.say(&Said::Refused(refusal), &[]);
    ExitCode::FAILURE
}

fn prepare(channel: &Channel, setup: &str) -> Result<()> {
    let parent = getppid();
    let setup: Setup = serde_json::from_str(setup)?;
    make_namespaces(&setup.network).map_err(explain)?;
    channel.say(&Said::Ready, &[])?;
    let (go, fds): (Go, Vec<OwnedFd>) = channel.hear()?.context(RunProblem::StarterGone)?;
    let directory = std::env::current_dir();
    mount_over(&setup.hide, go.resolv_conf.as_deref()).map_err(explain)?;
    // Through the mounts: where we were may be hidden now.
    if !directory.is_ok_and(|directory| std::env::set_current_dir(directory).is_ok()) {
        std::env::set_current_dir("/")?;
    }
    let input = fds.first().context(RunProblem::NoInput)?;
    dup2_stdin(input)?;
    process::close_on_exec_from(3)?;
    if setup.detach {
        setsid()?;
    } else {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        if getppid() != parent {
            bail!(RunProblem::StarterGone);
        }
    }
    Ok(SigSet::empty().thread_set_mask()?)
}

/// The step that failed, and why.
type Step = (&'static str, anyhow::Error);

fn step<E: Into<anyhow::Error>>(what: &'static str) -> impl Fn(E) -> Step {
    move |error| (what, error.into())
}

fn make_namespaces(network: &Network) -> Result<(), Step> {
    let (uid, gid) = (geteuid(), getegid());
    let mut which = CloneFlags::CLONE_NEWNS;
    match network {
        Network::Plugged | Network::Lonely => which |= CloneFlags::CLONE_NEWNET,
        Network::Host => {}
        Network::Joined(place) => place.enter_network().map_err(|error| ("", error))?,
    }
    // Whoever joined another's network is root there.
    let is_user = !geteuid().is_root();
    if is_user {
        which |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(which).map_err(step("make namespaces"))?;
    if is_user {
        let write = |file: &str, text: String| std::fs::write(format!("/proc/self/{file}"), text).map_err(step("map your ids"));
        // Or gid_map may not be written.
        write("setgroups", "deny".into())?;
        write("uid_map", format!("0 {uid} 1"))?;
        write("gid_map", format!("0 {gid} 1"))?;
    }
    if *network == Network::Lonely {
        let mut netlink = Netlink::open().map_err(step("open rtnetlink"))?;
        link::loopback_up(&mut netlink).map_err(step("bring lo up"))?;
    }
    Ok(())
}

/// Hides the control directory below an empty file system, and puts a resolv.conf of ours in the place of the host's.
///
/// This is against accidents: the user is root in there and can unmount. Then the daemon refuses whoever is no root outside too: see
/// `api/peer.rs`.
fn mount_over(hide: &Path, resolv_conf: Option<&str>) -> Result<(), Step> {
    const NOTHING: Option<&str> = None;
    let harmless = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let read_only = harmless | MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING).map_err(step("have mounts of its own"))?;
    if !hide.is_dir() {
        return Ok(());
    }
    let hiding = step("hide the control socket");
    mount(Some("tmpfs"), hide, Some("tmpfs"), harmless, Some(HIDING)).map_err(hiding)?;
    // A host without the file asks its own resolver, if any: so does the container.
    if let Some(resolv_conf) = resolv_conf.filter(|_| Path::new(RESOLV_CONF).exists()) {
        let file = hide.join("resolv.conf");
        std::fs::write(&file, resolv_conf).map_err(step("write a resolv.conf"))?;
        mount(Some(&file), RESOLV_CONF, NOTHING, MsFlags::MS_BIND, NOTHING).map_err(step("bind a resolv.conf"))?;
        mount(NOTHING, RESOLV_CONF, NOTHING, read_only, NOTHING).map_err(step("bind a resolv.conf"))?;
        std::fs::remove_file(&file).map_err(step("hide the resolv.conf"))?;
    }
    mount(NOTHING, hide, NOTHING, read_only, NOTHING).map_err(step("hide the control socket"))
}

/// An error that names what to do.
fn explain((what, error): Step) -> anyhow::Error {
    if what.is_empty() {
        return error;
    }
    let errno = match error.downcast_ref::<Errno>() {
        Some(errno) => Some(*errno as i32),
        None => error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error),
    };
    let is_denied = [Some(libc::EPERM), Some(libc::EACCES)].contains(&errno);
    let is_full = errno == Some(libc::ENOSPC);
    if is_denied && !geteuid().is_root() && std::fs::read_to_string(APPARMOR).is_ok_and(|setting| setting.trim() == "1") {
        return RunProblem::AppArmor.into();
    }
    let error = error.to_string();
    let problem = if is_full {
        RunProblem::Full { what, error }
    } else if is_denied && geteuid().is_root() {
        RunProblem::RootDenied { what, error }
    } else if is_denied {
        RunProblem::UserDenied { what, error }
    } else {
        RunProblem::NoNamespaces { what, error }
    };
    problem.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        for (errno, part) in [(Errno::ENOSPC, "max_user_namespaces"), (Errno::EINVAL, "this kernel"), (Errno::EPERM, ": ")] {
            let error = explain(step("make namespaces")(errno)).to_string();
            assert!(error.contains(part) && !error.contains('\n'), "{error}");
        }
        assert_eq!(explain(("", anyhow::anyhow!("what: remedy"))).to_string(), "what: remedy");
    }
}
