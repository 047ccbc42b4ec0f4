//! The host's resolvers: those of resolv.conf(5), read anew whenever it is another file or is written.
//!
//! inotify watches the file, which may be a mount that is written in place, and the directories of its name and of each name that it is a
//! link to, where it is replaced. It is the directories that Landlock lets us read, for a rule about a file is lost with it. A watch tells of
//! whatever happens there: nothing is made of that but a look.
use super::Daemon;
use crate::print::list;
use crate::resolv_conf::{FILE, ResolvConf};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

/// Where who manages the file keeps it: it may become a link to there later.
const MANAGED: [&str; 4] = ["/run/systemd/resolve", "/run/NetworkManager", "/run/resolvconf", "/run/connman"];
/// Links followed (MAXSYMLINKS, path_resolution(7)).
const LINKS: usize = 40;
/// Reads of inotify in one look; the rest is another one's.
const READS: usize = 64;
/// The port of resolvers (RFC 1035 4.2).
const DOMAIN: u16 = 53;

/// The directories of a file's name, and of each that it is a link to.
fn directories(file: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut name = file.to_owned();
    for _ in 0..LINKS {
        let Some(directory) = name.parent().map(Path::to_owned) else { break };
        let link = std::fs::read_link(&name);
        found.push(directory.clone());
        match link {
            Ok(to) => name = directory.join(to),
            Err(_) => break,
        }
    }
    found
}

/// What is to be read for it.
pub fn read_dirs() -> Vec<PathBuf> {
    directories(Path::new(FILE)).into_iter().chain(MANAGED.map(PathBuf::from)).collect()
}

/// Where a program of the host's would ask.
fn addresses(conf: &ResolvConf) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for nameserver in &conf.nameservers {
        let scope = nameserver
            .scope
            .as_deref()
            .map_or(Some(0), |scope| scope.parse().ok().or_else(|| nix::net::if_::if_nametoindex(scope).ok()));
        match (nameserver.address, scope) {
            (IpAddr::V4(address), _) => addresses.push(SocketAddr::from((address, DOMAIN))),
            (IpAddr::V6(address), Some(scope)) => addresses.push(SocketAddrV6::new(address, DOMAIN, 0, scope).into()),
            (IpAddr::V6(address), None) => {
                tracing::warn!("nameserver {address} is on an interface that is not there, and left out")
            }
        }
    }
    if conf.nameservers.is_empty() {
        // resolv.conf(5): then it is the local machine's.
        addresses.push(SocketAddr::from((Ipv4Addr::LOCALHOST, DOMAIN)));
    }
    addresses
}

/// See the module's text.
pub struct Resolvers {
    file: PathBuf,
    inotify: Inotify,
    watched: Vec<WatchDescriptor>,
    pub addresses: Vec<SocketAddr>,
}

impl Resolvers {
    /// The host's, under a token of the daemon's; `None` where the kernel has no more watches.
    pub fn watched(registry: &Registry, token: Token) -> Option<Self> {
        let resolvers = Self::of(Path::new(FILE)).and_then(|resolvers| {
            registry.register(&mut SourceFd(&resolvers.inotify.as_fd().as_raw_fd()), token, Interest::READABLE)?;
            Ok(resolvers)
        });
        resolvers.inspect_err(|error| tracing::warn!("cannot watch {FILE} ({error}): containers are served no names")).ok()
    }

    fn of(file: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let mut resolvers = Self { file: file.into(), inotify, watched: Vec::new(), addresses: Vec::new() };
        resolvers.look();
        Ok(resolvers)
    }

    /// Takes the waiting events and reads the file; says whether the resolvers are others now.
    pub fn changed(&mut self) -> bool {
        for _ in 0..READS {
            if self.inotify.read_events().is_err() {
                break;
            }
        }
        self.look()
    }

    fn look(&mut self) -> bool {
        // Watched first: what happens in between is told again.
        self.watch();
        let addresses = addresses(&ResolvConf::of_host(&self.file));
        let is_other = addresses != self.addresses;
        self.addresses = addresses;
        is_other
    }

    /// Watches what the name leads through now. What is not there or may not be watched is left out.
    fn watch(&mut self) {
        let entries = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        let directories = directories(&self.file);
        let places = directories.iter().map(|directory| (directory.as_path(), entries));
        let places = places.chain([(self.file.as_path(), AddWatchFlags::IN_CLOSE_WRITE)]);
        // A place that is watched already keeps its descriptor.
        let watched: Vec<_> = places.filter_map(|(place, events)| self.inotify.add_watch(place, events).ok()).collect();
        // Taking one away is an event itself, so only what is not needed any more.
        for before in std::mem::replace(&mut self.watched, watched) {
            if !self.watched.contains(&before) {
                let _ = self.inotify.rm_watch(before);
            }
        }
    }
}

impl Daemon {
    /// Something happened to resolv.conf.
    pub(super) fn resolvers_changed(&mut self) {
        let changed = self.resolvers.as_mut().is_some_and(Resolvers::changed);
        if changed {
            tracing::info!("resolvers {}", list(&self.resolver_list()));
            if let Err(error) = self.set_resolvers() {
                tracing::error!("{error:#}");
            }
        }
    }

    pub(super) fn resolver_list(&self) -> Vec<IpAddr> {
        self.resolvers.iter().flat_map(|resolvers| &resolvers.addresses).map(SocketAddr::ip).collect()
    }

    /// Has the gateway ask them.
    pub(super) fn set_resolvers(&self) -> anyhow::Result<()> {
        let addresses = self.resolvers.as_ref().map(|resolvers| resolvers.addresses.clone()).unwrap_or_default();
        self.worker.set_resolvers(addresses)??;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, poll};
    use std::fs;
    use std::os::unix::fs::symlink;

    const FIRST: &str = "nameserver 192.0.2.1\n";
    const SECOND: &str = "nameserver 192.0.2.2\n";

    fn is_readable(resolvers: &Resolvers) -> bool {
        let mut fds = [PollFd::new(resolvers.inotify.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, 200_u16).unwrap() == 1
    }

    fn changes(resolvers: &mut Resolvers, to: &str) {
        assert!(is_readable(resolvers));
        assert!(resolvers.changed());
        assert_eq!(resolvers.addresses, [format!("{to}:53").parse().unwrap()]);
    }

    #[test]
    fn a_file_that_is_replaced_written_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, new) = (dir.path().join("resolv.conf"), dir.path().join("new"));
        fs::write(&file, FIRST).unwrap();
        let mut resolvers = Resolvers::of(&file).unwrap();
        assert_eq!(resolvers.addresses, ["192.0.2.1:53".parse().unwrap()]);
        fs::write(&new, SECOND).unwrap();
        fs::rename(&new, &file).unwrap();
        changes(&mut resolvers, "192.0.2.2");
        fs::write(&file, FIRST).unwrap();
        changes(&mut resolvers, "192.0.2.1");
        // The same again is no change.
        fs::write(&file, FIRST).unwrap();
        assert!(is_readable(&resolvers) && !resolvers.changed());
        fs::remove_file(&file).unwrap();
        changes(&mut resolvers, "127.0.0.1");
        fs::write(&new, SECOND).unwrap();
        fs::rename(&new, &file).unwrap();
        changes(&mut resolvers, "192.0.2.2");
    }

    #[test]
    fn a_link_to_a_file_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["etc", "run", "other"] {
            fs::create_dir(path(name)).unwrap();
        }
        fs::write(path("run/stub"), FIRST).unwrap();
        fs::write(path("other/stub"), SECOND).unwrap();
        symlink("../run/stub", path("etc/resolv.conf")).unwrap();
        let mut resolvers = Resolvers::of(&path("etc/resolv.conf")).unwrap();
        assert_eq!(resolvers.addresses, ["192.0.2.1:53".parse().unwrap()]);
        fs::write(path("run/new"), SECOND).unwrap();
        fs::rename(path("run/new"), path("run/stub")).unwrap();
        changes(&mut resolvers, "192.0.2.2");
        fs::write(path("run/stub"), FIRST).unwrap();
        changes(&mut resolvers, "192.0.2.1");
        symlink(path("other/stub"), path("etc/new")).unwrap();
        fs::rename(path("etc/new"), path("etc/resolv.conf")).unwrap();
        changes(&mut resolvers, "192.0.2.2");
        fs::write(path("other/new"), FIRST).unwrap();
        fs::rename(path("other/new"), path("other/stub")).unwrap();
        changes(&mut resolvers, "192.0.2.1");
        // To look is nothing to look at.
        while is_readable(&resolvers) {
            assert!(!resolvers.changed());
        }
    }

    #[test]
    fn addresses_of_both_families() {
        let conf = ResolvConf::parse("nameserver 127.0.0.53\nnameserver fe80::1%lo\nnameserver 2001:db8::1\n");
        let lo = nix::net::if_::if_nametoindex("lo").unwrap();
        let scoped = SocketAddrV6::new("fe80::1".parse().unwrap(), 53, 0, lo);
        assert_eq!(addresses(&conf), ["127.0.0.53:53".parse().unwrap(), scoped.into(), "[2001:db8::1]:53".parse().unwrap()]);
        assert_eq!(addresses(&ResolvConf::parse("nameserver fe80::1%no-such-interface\n")), []);
    }
}
