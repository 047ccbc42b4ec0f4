//! An ordinary user attaches a container of their own, and is told why others' are refused. Root plays the user: it
//! changes to `nobody` first.

mod common;

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::single::{self, Test, run_child};
use common::{TestNs, privileged, skip};
use vswitch_io::link::{IfName, LinkError, Netlink, TapOptions, VethOptions, open_tap, open_veth};
use vswitch_io::netns::{Namespace, NetnsError, NsSpec};
use vswitch_io::privilege::service_user;
use vswitch_io::sys::packet;

const TESTS: [Test; 2] = [
    ("an_ordinary_user_attaches_their_own", an_ordinary_user_attaches_their_own, attach_own),
    ("the_namespaces_of_others_are_refused", the_namespaces_of_others_are_refused, refuse_others),
];

fn main() {
    single::main(&TESTS);
}

fn an_ordinary_user_attaches_their_own() {
    let Some(()) = privileged() else { return };
    let dir = tempfile::tempdir().unwrap();
    run_child("an_ordinary_user_attaches_their_own", dir.path());
}

fn the_namespaces_of_others_are_refused() {
    let Some(()) = privileged() else { return };
    let ns = TestNs::new("theirs");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("name"), &ns.name).unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    run_child("the_namespaces_of_others_are_refused", dir.path());
}

/// Root becomes an ordinary user without any capability.
fn become_ordinary() {
    let user = service_user().unwrap();
    nix::unistd::setgroups(&[]).unwrap();
    nix::unistd::setgid(user.gid.into()).unwrap();
    nix::unistd::setuid(user.uid.into()).unwrap();
    // Changing the user made /proc/self root's own, as an exec would undo.
    nix::sys::prctl::set_dumpable(true).unwrap();
}

/// A process in a user and network namespace of its own; ends with the guard.
struct Container(Child);

impl Container {
    fn start() -> Option<Container> {
        let mut child =
            Command::new("unshare").args(["--user", "--map-root-user", "--net", "cat"]).stdin(Stdio::piped()).spawn().ok()?;
        let host = std::fs::read_link("/proc/self/ns/net").ok()?;
        let link = format!("/proc/{}/ns/net", child.id());
        for _ in 0..200 {
            if child.try_wait().ok()?.is_some() {
                return None;
            }
            let comm = std::fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap_or_default();
            if comm.trim() == "cat" && std::fs::read_link(&link).is_ok_and(|l| l != host) {
                return Some(Container(child));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn attach_own(_: &Path) {
    become_ordinary();
    let Some(container) = Container::start() else {
        skip("no user namespaces for ordinary users");
        return;
    };
    let namespace = Namespace::open(&NsSpec::Pid(i32::try_from(container.0.id()).unwrap())).unwrap();
    namespace.refuse_host().unwrap();
    assert_eq!(namespace.suggested_name(), format!("cat-{}", container.0.id()));
    let watch = namespace.watch().unwrap().unwrap();
    namespace.enter().unwrap();
    let (eth0, eth1) = (IfName::parse("eth0").unwrap(), IfName::parse("eth1").unwrap());
    let mac = [2, 0x58, 10, 88, 0, 2];
    let veth = open_veth(namespace.as_fd(), &eth0, &VethOptions { mac, mtu: 1500 }).unwrap();
    packet::verify(veth.as_fd()).unwrap();
    let mut netlink = Netlink::open().unwrap();
    assert!(netlink.index(&eth0).unwrap().is_some());
    // Whether a TAP can be made is a matter of the device's mode: 0666 usually.
    let mode = std::fs::metadata("/dev/net/tun").unwrap().permissions().mode() & 0o7777;
    match open_tap(&eth1, &TapOptions { mac, mtu: 1500, txqueuelen: 256, max_rung: 0 }) {
        Ok(_) => assert_eq!(mode & 0o006, 0o006),
        Err(LinkError::TunMode { mode: told }) => assert_eq!(told, mode),
        Err(e) => panic!("{e}"),
    }
    drop(veth);
    assert!((0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        netlink.index(&eth0).unwrap().is_none()
    }));
    drop(container);
    assert!(watch.gone().unwrap());
}

fn refuse_others(dir: &Path) {
    become_ordinary();
    let name = std::fs::read_to_string(dir.join("name")).unwrap();
    let error = Namespace::open(&NsSpec::Name(name.clone())).unwrap().enter().unwrap_err();
    let text = format!("namespace {name} belongs to root: \"sudo vswitch attach {name}\", or make your own with \"vswitch run\"");
    assert_eq!(error.to_string(), text);
    let error = Namespace::open(&NsSpec::Pid(1)).unwrap_err();
    assert!(matches!(error, NetnsError::BelongsTo { .. }), "{error}");
    // No right to make anything where we are.
    let here = std::fs::File::open("/proc/self/ns/net").unwrap();
    let error = open_veth(here.as_fd(), &IfName::parse("eth9").unwrap(), &VethOptions { mac: [2; 6], mtu: 1500 });
    assert!(matches!(error.unwrap_err(), LinkError::NotAllowed { .. }));
}
