//! A process after `drop_privileges`: what it is, what it can no longer do, and that it can still do its work.
//!
//! Capabilities, Landlock and seccomp are a thread's and cannot be undone: see `common::single`.

mod common;

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::privileged;
use common::single::{self, Test, run_child};
use nix::errno::Errno;
use vswitch_io::link::{IfName, TapOptions, VethOptions, open_tap, open_veth};
use vswitch_io::netns::{Namespace, NsSpec, Watch};
use vswitch_io::privilege::{Confinement, Denied, Enforced, Report, drop_privileges, service_user};
use vswitch_io::sys::{packet, process, scm, tun};

const TESTS: [Test; 3] = [
    ("a_root_start_becomes_nobody", a_root_start_becomes_nobody, child_of_a_root_start),
    ("an_ordinary_start_stays_itself", an_ordinary_start_stays_itself, child_of_an_ordinary_start),
    ("a_denied_call_can_be_made_fatal", a_denied_call_can_be_made_fatal, child_that_is_denied),
];

fn main() {
    single::main(&TESTS);
}

fn a_root_start_becomes_nobody() {
    let Some(()) = privileged() else { return };
    let dir = tempfile::tempdir().unwrap();
    let user = service_user().unwrap();
    std::os::unix::fs::chown(dir.path(), Some(user.uid), Some(user.gid)).unwrap();
    run_child("a_root_start_becomes_nobody", dir.path());
}

fn an_ordinary_start_stays_itself() {
    let dir = tempfile::tempdir().unwrap();
    run_child("an_ordinary_start_stays_itself", dir.path());
}

/// What the journeys rely on: that none of them passes where the daemon makes a call that is not on the list.
fn a_denied_call_can_be_made_fatal() {
    let dir = tempfile::tempdir().unwrap();
    let status = single::child("a_denied_call_can_be_made_fatal", dir.path()).status;
    assert_eq!(status.signal(), Some(nix::sys::signal::Signal::SIGSYS as i32), "{status}");
}

fn child_that_is_denied(dir: &Path) {
    let confinement = Confinement { read_write_dirs: vec![dir.to_owned()], denied: Denied::Fatal, ..Confinement::default() };
    drop_privileges(&confinement).unwrap();
    let _ = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET);
}

fn confine(dir: &Path, change_user: bool) -> Report {
    let confinement = Confinement {
        target: if change_user { service_user() } else { None },
        read_write_dirs: vec![dir.to_owned()],
        read_dirs: vec!["/etc".into(), "/proc".into(), "/nowhere".into()],
        ..Confinement::default()
    };
    drop_privileges(&confinement).unwrap()
}

/// What the confined process holds from before, as the daemon gets it from the CLI.
struct Held {
    tap: OwnedFd,
    veth: OwnedFd,
    watch: Watch,
    child: std::process::Child,
}

/// Opens ports in a namespace of this process's own and a watch on a child.
fn hold() -> Held {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    let name = |n| IfName::parse(n).unwrap();
    let mac = [2, 0x58, 10, 88, 0, 2];
    let (tap, _) = open_tap(&name("tap0"), &TapOptions { mac, mtu: 1500, txqueuelen: 256, max_rung: 0 }).unwrap();
    let here = std::fs::File::open("/proc/self/ns/net").unwrap();
    let veth = open_veth(here.as_fd(), &name("veth0"), &VethOptions { mac, mtu: 1500 }).unwrap();
    let child = Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
    let spec = NsSpec::Pid(i32::try_from(child.id()).unwrap());
    let watch = Namespace::open(&spec).unwrap().watch().unwrap().unwrap();
    Held { tap, veth, watch, child }
}

fn child_of_a_root_start(dir: &Path) {
    let mut held = hold();
    let user = service_user().unwrap();
    let report = confine(dir, true);
    assert_eq!(report.identity, user);
    assert!(report.bounding_set_empty);
    let status = status();
    let ids = |id: u32| [id.to_string().as_str(); 4].join("\t");
    assert_eq!(status["Uid"], ids(user.uid));
    assert_eq!(status["Gid"], ids(user.gid));
    assert_eq!(status["Groups"], "");
    assert_eq!(status["CapBnd"], "0000000000000000");
    check_confined(dir, &report);
    // The fds that were passed still do their work.
    tun::verify(held.tap.as_fd()).unwrap();
    assert_eq!(tun::climb_offloads(&held.tap, 1).unwrap(), 0x07);
    assert_eq!(nix::unistd::read(&held.tap, &mut [0; 64]), Err(Errno::EAGAIN));
    packet::verify(held.veth.as_fd()).unwrap();
    packet::statistics(&held.veth).unwrap();
    assert!(held.watch.fd_fits());
    assert!(!held.watch.gone().unwrap());
    drop(held.child.stdin.take());
    for _ in 0..200 {
        if held.watch.gone().unwrap() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(held.watch.gone().unwrap());
}

fn child_of_an_ordinary_start(dir: &Path) {
    if let Some(user) = service_user() {
        // Started by root: become an ordinary user first.
        std::os::unix::fs::chown(dir, Some(user.uid), Some(user.gid)).unwrap();
        nix::unistd::setgroups(&[]).unwrap();
        nix::unistd::setgid(user.gid.into()).unwrap();
        nix::unistd::setuid(user.uid.into()).unwrap();
    }
    assert_eq!(service_user(), None);
    let report = confine(dir, false);
    assert_eq!(report.identity.uid, nix::unistd::geteuid().as_raw());
    check_confined(dir, &report);
}

/// Fields of /proc/self/status, which `confine` leaves readable.
fn status() -> HashMap<String, String> {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let fields = text.lines().filter_map(|l| l.split_once(':'));
    fields.map(|(k, v)| (k.to_owned(), v.trim().to_owned())).collect()
}

fn check_confined(dir: &Path, report: &Report) {
    let status = status();
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status[set], "0000000000000000", "{set}");
    }
    assert_eq!(status["NoNewPrivs"], "1");
    assert_eq!(status["Seccomp"], "2");
    assert!(!nix::sys::prctl::get_dumpable().unwrap_or(false));
    check_denied_calls();
    check_files(dir, report);
    check_work(dir);
}

/// System calls that must fail with EPERM.
fn check_denied_calls() {
    use nix::sched::{CloneFlags, setns, unshare};
    use nix::sys::socket::{AddressFamily as Af, SockFlag, SockType, socket};
    let net = std::fs::File::open("/proc/self/ns/net").unwrap();
    assert_eq!(setns(&net, CloneFlags::CLONE_NEWNET), Err(Errno::EPERM));
    assert_eq!(unshare(CloneFlags::CLONE_NEWUSER), Err(Errno::EPERM));
    assert_eq!(unshare(CloneFlags::CLONE_NEWNET), Err(Errno::EPERM));
    for family in [Af::Packet, Af::Netlink] {
        let result = socket(family, SockType::Datagram, SockFlag::empty(), None);
        assert_eq!(result.unwrap_err(), Errno::EPERM, "{family:?}");
    }
    // What containers' flows end in, and nothing below it.
    for family in [Af::Inet, Af::Inet6] {
        for kind in [SockType::Datagram, SockType::Stream] {
            assert!(socket(family, kind, SockFlag::SOCK_CLOEXEC, None).is_ok(), "{family:?} {kind:?}");
        }
        let raw = socket(family, SockType::Raw, SockFlag::empty(), None);
        assert_eq!(raw.unwrap_err(), Errno::EPERM, "{family:?}");
    }
    assert_eq!(nix::sys::ptrace::traceme(), Err(Errno::EPERM));
    assert_eq!(nix::mount::umount("/nowhere"), Err(Errno::EPERM));
    assert_eq!(nix::sys::signal::kill(nix::unistd::getppid(), None), Err(Errno::EPERM));
    assert_eq!(nix::sys::prctl::set_dumpable(true), Err(Errno::EPERM));
    // Neither a process nor a program: fork, vfork and posix_spawn are all clone without CLONE_THREAD.
    let error = Command::new("/bin/true").status().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
    assert!(tun::open().is_err());
}

/// Files within the directory given, and none elsewhere.
fn check_files(dir: &Path, report: &Report) {
    let (one, two) = (dir.join("one"), dir.join("two"));
    std::fs::write(&one, "text").unwrap();
    std::fs::rename(&one, &two).unwrap();
    assert_eq!(std::fs::read_to_string(&two).unwrap(), "text");
    std::fs::remove_file(&two).unwrap();
    std::fs::create_dir(dir.join("sub")).unwrap();
    std::fs::remove_dir(dir.join("sub")).unwrap();
    std::fs::read("/etc/passwd").unwrap();
    assert!(std::fs::metadata("/usr/bin").is_ok());
    if report.landlock != Enforced::Not {
        for path in ["/usr/bin", "/var", "/tmp"] {
            let error = std::fs::read_dir(path).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{path}");
        }
        let error = std::fs::write("/tmp/vswitch-confined", "").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    }
}

/// What the daemon does all day: threads, polling, its control socket with fds, randomness, time.
fn check_work(dir: &Path) {
    let path = dir.join("control.sock");
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let source = listener.as_raw_fd();
    let mut poll = mio::Poll::new().unwrap();
    poll.registry().register(&mut mio::unix::SourceFd(&source), mio::Token(1), mio::Interest::READABLE).unwrap();
    let waker = mio::Waker::new(poll.registry(), mio::Token(2)).unwrap();
    let client = std::thread::Builder::new().name("client".into()).spawn(move || {
        let mut stream = UnixStream::connect(&path).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        scm::send(&stream, b"hello", &[theirs.as_fd()]).unwrap();
        waker.wake().unwrap();
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).unwrap();
        std::fs::remove_file(&path).unwrap();
        (ours, answer)
    });
    let client = client.unwrap();
    let mut events = mio::Events::with_capacity(8);
    let mut seen = std::collections::HashSet::new();
    while seen.len() < 2 {
        poll.poll(&mut events, Some(Duration::from_secs(5))).unwrap();
        assert!(!events.is_empty(), "neither connection nor waker came");
        seen.extend(events.iter().map(mio::event::Event::token));
    }
    let (stream, _) = listener.accept().unwrap();
    assert_eq!(scm::peer(&stream).unwrap().pid.unsigned_abs(), std::process::id());
    let got = loop {
        match scm::recv(&stream, &mut [0; 16], 4) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(1)),
            other => break other.unwrap(),
        }
    };
    assert_eq!((got.bytes, got.fds.len()), (5, 1));
    scm::send(&stream, b"ok", &[]).unwrap();
    let (mut ours, answer) = client.join().unwrap();
    assert_eq!(&answer, b"ok");
    nix::unistd::write(&got.fds[0], b"!").unwrap();
    ours.read_exact(&mut [0; 1]).unwrap();
    process::raise_open_files().unwrap();
    assert!(Instant::now().elapsed() < Duration::from_secs(1));
    std::io::stdout().flush().unwrap();
    assert!(std::panic::catch_unwind(|| assert!(std::hint::black_box(false), "unwinding works")).is_err());
}
