//! Entering a container that is attached: the daemon says how it is reached, the kernel whether we may.
use crate::api::client::Client;
use crate::api::types::{Container, Reach};
use crate::errors::{AttachProblem, NameProblem};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::unistd::{Gid, Uid};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::Path;
use vswitch_io::netns::{Namespace, NsId};
use vswitch_io::sys::process;

/// Where a container is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    name: String,
    reach: Reach,
    netns: u64,
}

impl Place {
    /// Of a container, by its name.
    pub fn of(name: &str) -> Result<Self> {
        let containers = super::show::containers(&mut Client::connect()?)?;
        let none = || NameProblem::NotAttached { name: name.into() };
        let Container { reach, netns, .. } = containers.into_iter().find(|container| container.name == name).with_context(none)?;
        if reach == Reach::Host {
            bail!(AttachProblem::EnterHost { name: name.into() });
        }
        Ok(Self { name: name.into(), reach, netns })
    }

    fn gone(&self) -> anyhow::Error {
        AttachProblem::Gone { name: self.name.clone() }.into()
    }

    /// Moves this process into the container's network namespace, and where needed into the user namespace that owns it.
    pub fn enter_network(&self) -> Result<()> {
        let namespace = Namespace::open(&self.reach.spec())?;
        // It is open now: its inode is no other's.
        if namespace.id().ino != self.netns {
            return Err(self.gone());
        }
        let outside = user_namespace("self")?;
        namespace.enter()?;
        settle(outside)
    }

    /// Moves this process into all that the container has of its own.
    pub fn enter(&self) -> Result<()> {
        match self.reach {
            Reach::Process { pid, start, run: true } => self.enter_process(pid, start),
            Reach::Process { run: false, .. } | Reach::Name(_) | Reach::Path(_) | Reach::Host => self.enter_network(),
        }
    }

    /// One that `run` made: user, mount and network namespace at once, for no single one would do.
    fn enter_process(&self, pid: i32, start: u64) -> Result<()> {
        let pidfd = process::pidfd_open(pid).map_err(|_| self.gone())?;
        if !process::start_time(pid).is_ok_and(|now| now == start) {
            return Err(self.gone());
        }
        let network = NsId::of_path(Path::new(&format!("/proc/{pid}/ns/net")));
        if network.is_ok_and(|network| network.ino != self.netns) {
            return Err(self.gone());
        }
        let (outside, theirs) = (user_namespace("self")?, user_namespace(&pid.to_string()));
        let theirs = match theirs {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(self.denied()),
            Err(_) => return Err(self.gone()),
            Ok(theirs) => theirs,
        };
        let mut which = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
        if theirs != outside {
            which |= CloneFlags::CLONE_NEWUSER;
        }
        let directory = std::env::current_dir();
        match setns(&pidfd, which) {
            Ok(()) => {}
            Err(Errno::ESRCH) => return Err(self.gone()),
            Err(Errno::EPERM | Errno::EACCES) => return Err(self.denied()),
            Err(error) => bail!(AttachProblem::NotEntered { name: self.name.clone(), error, pid }),
        }
        // Where we were, if the container has it too.
        if !directory.is_ok_and(|directory| std::env::set_current_dir(directory).is_ok()) {
            std::env::set_current_dir("/")?;
        }
        settle(outside)
    }

    fn denied(&self) -> anyhow::Error {
        AttachProblem::OfOther { name: self.name.clone() }.into()
    }
}

fn user_namespace(process: &str) -> std::io::Result<NsId> {
    NsId::of_path(Path::new(&format!("/proc/{process}/ns/user")))
}

/// Root of the host is nobody in a user namespace that does not know him: he becomes its root, as nsenter does.
fn settle(outside: NsId) -> Result<()> {
    let overflow =
        |file: &str| std::fs::read_to_string(format!("/proc/sys/kernel/{file}")).ok().and_then(|id| id.trim().parse().ok());
    let is_nobody = overflow("overflowuid") == Some(Uid::effective().as_raw());
    if user_namespace("self")? == outside || !is_nobody {
        return Ok(());
    }
    // Refused where the namespace may set no groups: then there are none to lose.
    let _ = nix::unistd::setgroups(&[]);
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    nix::unistd::setresgid(gid, gid, gid).and_then(|()| nix::unistd::setresuid(uid, uid, uid)).context(AttachProblem::NotRoot)
}
