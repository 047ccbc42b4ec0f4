//! Namespaces for tests, and whether tests may make them.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// None, after saying SKIP, where the test may not make namespaces and TAPs. In CI (VSWITCH_CI=1) that is a failure.
pub fn privileged() -> Option<()> {
    let why = if !nix::unistd::geteuid().is_root() {
        "not root"
    } else if let Err(e) = std::fs::File::options().read(true).write(true).open("/dev/net/tun") {
        eprintln!("/dev/net/tun: {e}");
        "no /dev/net/tun"
    } else {
        return Some(());
    };
    skip(why)
}

/// Whether a program is there.
#[must_use]
pub fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into(), "/bin".into()]).any(|dir| dir.join(program).exists())
}

/// Whether programs are there. None, after saying SKIP, where one is not; in CI that is a failure.
#[must_use]
pub fn has(programs: &[&str]) -> Option<()> {
    let absent = programs.iter().find(|program| !is_there(program));
    absent.map_or(Some(()), |program| skip(&format!("no {program}")))
}

/// Says SKIP and why, or fails in CI.
pub fn skip(why: &str) -> Option<()> {
    assert!(std::env::var_os("VSWITCH_CI").is_none_or(|v| v != "1"), "cannot run in CI: {why}");
    eprintln!("SKIP: {why}");
    None
}

/// Runs `ip` and returns what it printed.
pub fn ip(args: &[&str]) -> String {
    let out = Command::new("ip").args(args).output().expect("ip (iproute2) runs");
    assert!(out.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// An `ip netns` namespace of this test, removed at its end however it ends.
pub struct TestNs {
    /// Its name.
    pub name: String,
}

impl TestNs {
    /// Makes one with `what` in its name.
    pub fn new(what: &str) -> TestNs {
        // A test binary may run its tests side by side in one process, or each in its own.
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let ns = TestNs { name: format!("vst-{what}-{}-{serial}", std::process::id()) };
        ns.add();
        ns
    }

    /// Makes it again.
    pub fn add(&self) {
        ip(&["netns", "add", &self.name]);
    }

    /// Removes it.
    pub fn delete(&mut self) {
        ip(&["netns", "del", &self.name]);
    }
}

impl Drop for TestNs {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}
