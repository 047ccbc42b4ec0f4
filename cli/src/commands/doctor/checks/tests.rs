//! Each check against literals; each problem has a remedy.
use super::*;
use nix::errno::Errno;

/// An ordinary user on a machine where everything works.
fn good() -> Facts {
    Facts {
        is_root: false,
        gid: 1_000,
        kernel: "6.18.1-generic".into(),
        tun: Tun::Open,
        probe: Probe::Tap(0x67),
        max_user_namespaces: Some(96_364),
        userns_clone: None,
        apparmor_restricts: false,
        ping_group_range: Some((0, 2_147_483_647)),
        open_files: 1_048_576,
        containers: 0,
        neighbours: Some(1_024),
        inotify_instances: Some(128),
        inotify_exhausted: false,
        seccomp: true,
        landlock: Some(7),
        forward: Some("ACCEPT".into()),
        collision: None,
        uplink: Some(Vec::new()),
        run_dir: "/run/user/1000/vswitch".into(),
        left: Left::Nothing,
        others: Vec::new(),
    }
}

/// What a check finds where one thing is other than good.
fn found(check: &str, change: impl FnOnce(&mut Facts)) -> (State, String) {
    let mut facts = good();
    change(&mut facts);
    let findings = all(&facts);
    for finding in &findings {
        assert!(!finding.text().contains('\n') && !finding.what.is_empty(), "{finding:?}");
        assert_eq!(finding.state == State::Ok, finding.remedy.is_none(), "{finding:?}");
    }
    let of_check = findings.iter().find(|finding| finding.check == check).unwrap();
    (of_check.state, of_check.text())
}

/// That it is of this state and has these parts.
fn check(name: &str, change: impl FnOnce(&mut Facts), state: State, parts: &[&str]) {
    let (is, text) = found(name, change);
    assert_eq!(is, state, "{text}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text:?}");
    }
}

#[test]
fn a_good_machine_has_nothing_to_tell() {
    assert!(all(&good()).iter().all(|finding| finding.state == State::Ok));
    assert_eq!(all(&good()).len(), 14);
}

#[test]
fn uplinks() {
    check("uplink", |facts| facts.uplink = None, State::Ok, &["there is none"]);
    let silent = |facts: &mut Facts| facts.uplink = Some(vec!["gateway is silent: see to it".into()]);
    check("uplink", silent, Problem, &["gateway is silent: see to it"]);
}

#[test]
fn kernels() {
    for (version, state) in [("5.15.0-91", State::Ok), ("5.14.21", Problem), ("4.19", Problem), ("10.0", State::Ok), ("", Note)] {
        check("kernel", |facts| facts.kernel = version.into(), state, &[]);
    }
}

#[test]
fn tun_devices() {
    check("tun", |facts| facts.tun = Tun::Absent, Problem, &["does not exist", "modprobe tun", "--type veth"]);
    check("tun", |facts| facts.tun = Tun::Mode(0o600), Problem, &["is mode 0600", "chmod 0666"]);
    check("tun", |facts| facts.tun = Tun::Refused(Errno::EPERM), Problem, &["Operation not permitted", "--device /dev/net/tun"]);
}

#[test]
fn offload_rungs() {
    for (mask, part) in [(0x07, "no UDP segmentation (0x07): Linux 6.2"), (0x01, "TCP is slow (0x01)"), (0, "no offloads")] {
        check("offload", |facts| facts.probe = Probe::Tap(mask), Note, &[part]);
    }
    let no_tap = |facts: &mut Facts| facts.probe = Probe::NoTap("cannot make a TAP (x): check the kernel's log".into());
    check("offload", no_tap, Problem, &["cannot make a TAP (x): check the kernel's log"]);
    let no_device = |facts: &mut Facts| (facts.tun, facts.probe) = (Tun::Absent, Probe::NoTap("it does not exist: x".into()));
    check("offload", no_device, Note, &["see tun"]);
    check("offload", |facts| facts.probe = Probe::NoNamespace("x".into()), Note, &["see user namespaces"]);
    check("offload", |facts| facts.probe = Probe::NotTried("x".into()), Note, &["not tried (x)"]);
}

#[test]
fn user_namespaces_and_who_forbids_them() {
    const NAME: &str = "user namespaces";
    for (is_root, state) in [(false, Problem), (true, Note)] {
        let none = |facts: &mut Facts| (facts.is_root, facts.max_user_namespaces) = (is_root, Some(0));
        check(NAME, none, state, &["user.max_user_namespaces is 0", "sudo sysctl user.max_user_namespaces="]);
        let debian = |facts: &mut Facts| (facts.is_root, facts.userns_clone) = (is_root, Some(0));
        check(NAME, debian, state, &["sudo sysctl kernel.unprivileged_userns_clone=1"]);
    }
    check(NAME, |facts| facts.userns_clone = Some(1), State::Ok, &["can be made"]);
    check(NAME, |facts| facts.is_root = true, State::Ok, &["not needed by root"]);
    // Ubuntu: the namespace can be made, and nothing done in it.
    let ubuntu = |facts: &mut Facts| (facts.apparmor_restricts, facts.probe) = (true, Probe::NoTap("x: y".into()));
    check(NAME, ubuntu, Problem, &["AppArmor denies", "apparmor_restrict_unprivileged_userns=0"]);
    check(NAME, |facts| facts.apparmor_restricts = true, State::Ok, &["can be made"]);
    check(NAME, |facts| (facts.apparmor_restricts, facts.is_root) = (true, true), Note, &["ordinary users"]);
    check(NAME, |facts| facts.probe = Probe::NoNamespace("EPERM".into()), Problem, &["(EPERM)", "sudo"]);
    check(NAME, |facts| facts.probe = Probe::NotTried("x".into()), State::Ok, &[]);
}

#[test]
fn limits_of_the_kernel() {
    check("open files", |facts| facts.open_files = 1_024, Note, &["1024 at the most", "about 504 containers", "8208 is enough"]);
    check("open files", |facts| (facts.open_files, facts.containers) = (1_024, 504), Problem, &[]);
    check("open files", |facts| facts.open_files = 8_208, State::Ok, &[]);
    check(
        "network",
        |facts| facts.collision = Some("network a collides with the host's route b: do this".into()),
        Problem,
        &["collides", "do this"],
    );
    check("neighbour table", |facts| facts.containers = 900, Problem, &["900 containers", "gc_thresh3=8192"]);
    check("neighbour table", |facts| facts.neighbours = None, Note, &["look on the host"]);
    check("inotify", |facts| facts.inotify_exhausted = true, Problem, &["no instance left of 128", "max_user_instances=1024"]);
}

#[test]
fn sandboxes() {
    check("sandbox", |facts| facts.seccomp = false, Problem, &["CONFIG_SECCOMP_FILTER"]);
    check("sandbox", |facts| facts.landlock = None, Note, &["lsm=landlock"]);
    check("sandbox", |facts| facts.landlock = Some(3), Note, &["Landlock 3 does a part"]);
    check("sandbox", |facts| facts.landlock = Some(6), State::Ok, &[]);
}

#[test]
fn what_only_matters_to_traffic_with_the_outside_is_a_note() {
    check("ping sockets", |facts| facts.ping_group_range = Some((1, 0)), Note, &["group 1000", "is 1 0", "sudo sysctl"]);
    check("ping sockets", |facts| facts.ping_group_range = Some((0, 999)), Note, &[]);
    check("ping sockets", |facts| facts.ping_group_range = Some((1_000, 1_000)), State::Ok, &[]);
    check("ping sockets", |facts| facts.ping_group_range = None, Note, &[]);
    check("firewall", |facts| facts.forward = Some("DROP".into()), Note, &["policy is DROP", "nothing to do"]);
    check("firewall", |facts| facts.forward = None, State::Ok, &[]);
}

#[test]
fn what_others_left() {
    const NAME: &str = "run directory";
    check(NAME, |facts| facts.left = Left::Runs, State::Ok, &["runs and answers"]);
    check(NAME, |facts| facts.left = Left::Killed, Note, &["/run/user/1000/vswitch is of a daemon that was killed", "vswitch up"]);
    check(NAME, |facts| facts.left = Left::Hangs(Some(77)), Problem, &["pid 77", "\"kill 77\""]);
    check(NAME, |facts| facts.left = Left::Hangs(None), Problem, &["lock"]);
    check(NAME, |facts| facts.left = Left::Unusable("it belongs to uid 7".into()), Problem, &["uid 7", "VSWITCH_RUN_DIR"]);
    let others = |facts: &mut Facts| facts.others = vec!["/run/vswitch".into(), "/tmp/vswitch-7".into()];
    check("other daemons", others, Note, &["/run/vswitch, /tmp/vswitch-7", "sudo"]);
}
