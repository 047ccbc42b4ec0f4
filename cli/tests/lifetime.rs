//! The daemon's life: what it may do, how it ends, what is left.
mod common;

use common::{Background, Switch, TestNs, holder, inside_ok, ip, ping, privileged, skip, wait_for};
use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Stdio;
use std::time::{Duration, Instant};

fn status(pid: i32, key: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap().trim().into()
}

/// Every thread of the daemon: capabilities, no_new_privs and seccomp are a thread's.
fn threads(pid: i32) -> Vec<i32> {
    std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect()
}

#[test]
fn a_daemon_that_root_starts_keeps_no_privilege() {
    let Some(()) = privileged() else { return };
    let (switch, ns) = (Switch::new(), TestNs::new("privs"));
    switch.attach(&[&ns.name]);
    let pid = switch.pid().unwrap();
    let all = threads(pid);
    assert!(all.len() > 2, "control thread, worker, closers");
    for thread in all {
        let uids: Vec<String> = status(thread, "Uid").split_whitespace().map(Into::into).collect();
        assert!(uids.iter().all(|uid| uid != "0") && uids.windows(2).all(|two| two[0] == two[1]), "{uids:?}");
        assert_eq!(status(thread, "Groups"), "");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status(thread, set), "0000000000000000", "{set} of thread {thread}");
        }
        assert_eq!((status(thread, "NoNewPrivs").as_str(), status(thread, "Seccomp").as_str()), ("1", "2"));
    }
    // Its directory is its own, and others only see that it is there.
    let meta = std::fs::metadata(switch.run_dir()).unwrap();
    assert_eq!(
        (meta.uid().to_string(), meta.permissions().mode() & 0o777),
        (status(pid, "Uid").split('\t').next().unwrap().into(), 0o755)
    );
    for file in ["control.sock", "log"] {
        assert_eq!(std::fs::metadata(switch.run_dir().join(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
    // It holds what it needs and nothing of ours.
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(), Some("/"));
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/fd/0")).unwrap().to_str(), Some("/dev/null"));
    assert_eq!(status(pid, "SigCgt").len(), 16);
}

#[test]
fn it_outlives_its_caller_and_ends_when_told() {
    let Some(()) = privileged() else { return };
    for signal in ["TERM", "INT"] {
        let (switch, ns) = (Switch::new(), TestNs::new("ends"));
        switch.attach(&[&ns.name]);
        let pid = switch.pid().unwrap().to_string();
        // A session of its own: no terminal's ^C or hang-up reaches it.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        assert_eq!(stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3), Some(pid.as_str()));
        inside_ok(&ns, &["kill", &format!("-{signal}"), &pid]);
        wait_for("its end", || !switch.run_dir().join("control.sock").exists());
        wait_for("the interface's end", || !ip(&["-n", &ns.name, "link"]).contains("eth0"));
        // Its interfaces are gone a moment before itself.
        wait_for("the process's end", || !std::path::Path::new(&format!("/proc/{pid}/exe")).exists());
        assert!(switch.fails(3, &["show"]).starts_with("no vswitch runs for root"));
    }
}

#[test]
fn down_leaves_nothing() {
    let Some(()) = privileged() else { return };
    let (switch, ns) = (Switch::new(), TestNs::new("leaves"));
    let links = ip(&["-o", "link"]);
    switch.attach(&[&ns.name, "--type", "veth"]);
    assert_eq!(ip(&["-o", "link"]), links, "the host sees no interface of ours");
    let pid = switch.pid().unwrap();
    assert_eq!(switch.ok(&["down"]), "vswitch down: 1 detached\n");
    assert!(!switch.run_dir().exists());
    assert!(!std::path::Path::new(&format!("/proc/{pid}/exe")).exists());
    // The kernel removes the pair in the background.
    wait_for("the interface's end", || !ip(&["-n", &ns.name, "link"]).contains("eth0"));
    switch.fails(3, &["down"]);
}

#[test]
fn a_killed_daemon_leaves_nothing_in_the_way() {
    let Some(()) = privileged() else { return };
    let (switch, a, b) = (Switch::new(), TestNs::new("killed-a"), TestNs::new("killed-b"));
    switch.attach(&[&a.name]);
    switch.attach(&[&b.name, "--type", "veth"]);
    let pid = switch.pid().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    switch.fails(3, &["show"]);
    // At once, while the kernel may be closing its ports still.
    switch.attach(&[&a.name]);
    let address = switch.attach(&[&b.name, "--type", "veth"]);
    ping(&a, &address);
    assert_ne!(switch.pid().unwrap(), pid);
}

#[test]
fn one_daemon_runs_at_a_time() {
    let Some(()) = privileged() else { return };
    let switch = Switch::new();
    let up = switch.ok(&["up"]);
    let pid = switch.pid().unwrap();
    assert!(up.starts_with("vswitch up: network default (") && up.ends_with(&format!(", pid {pid}\n")), "{up}");
    for flag in [&["up"][..], &["up", "--foreground"]] {
        assert!(switch.fails(1, flag).starts_with(&format!("one runs already (pid {pid}): ")));
    }
    // Many at once on a fresh directory: one is started, all are attached.
    switch.ok(&["down"]);
    let holders: Vec<Background> = (0..6).map(|_| holder(&switch)).collect();
    let attaches: Vec<_> = holders
        .iter()
        .map(|holder| switch.command(&["attach", &holder.pid()]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    for attach in attaches {
        let output = attach.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(switch.attached().len(), 6);
}

#[test]
fn in_the_foreground_it_logs_to_standard_error() {
    let Some(()) = privileged() else { return };
    let (switch, ns) = (Switch::new(), TestNs::new("fore"));
    let mut daemon =
        switch.command(&["up", "--foreground", "--ageing", "20", "--group-forward", "2"]).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the socket", || switch.run_dir().join("control.sock").exists());
    switch.attach(&[&ns.name]);
    let show = switch.json(&["show"]);
    assert_eq!((show["ageing"].as_u64(), show["group_forward"].as_str()), (Some(20), Some("2")));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.id() as i32), nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(daemon.wait().unwrap().success());
    let mut log = String::new();
    std::io::Read::read_to_string(daemon.stderr.as_mut().unwrap(), &mut log).unwrap();
    assert!(log.contains(" up: network default") && log.contains(&format!("{} (port 1", ns.name)), "{log}");
}

/// sd_listen_fds(3): the service manager's socket is used, and left to it.
#[test]
fn a_socket_that_the_service_manager_opened() {
    let Some(()) = privileged() else { return };
    let switch = Switch::new();
    std::fs::create_dir(switch.run_dir()).unwrap();
    let socket = switch.run_dir().join("control.sock");
    let script = "import os, socket, sys\n\
                  s = socket.socket(socket.AF_UNIX)\n\
                  s.bind(sys.argv[1]); s.listen()\n\
                  s.fileno() == 3 or os.dup2(s.fileno(), 3)\n\
                  os.set_inheritable(3, True)\n\
                  os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=sys.argv[3])\n\
                  os.execv(sys.argv[2], [sys.argv[2], 'up', '--foreground'])\n";
    let start = |count: &str| {
        let args = ["-c", script, socket.to_str().unwrap(), switch.program_path(), count];
        let mut command = switch.program("python3", &args);
        let daemon = command.stderr(Stdio::piped()).spawn().unwrap();
        wait_for("the socket", || socket.exists());
        daemon
    };
    let mut daemon = start("1");
    let show = switch.json(&["show"]);
    assert_eq!((show["activated"].as_bool(), show["pid"].as_u64()), (Some(true), Some(daemon.id().into())));
    switch.ok(&["down"]);
    assert!(daemon.wait().unwrap().success() && socket.exists());
    std::fs::remove_file(&socket).unwrap();
    // Two sockets are one too many.
    let output = start("2").wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("passed not one socket"), "{error}");
}

/// The README's first command, as root and without; what it says and that nothing is left.
#[test]
fn the_demo() {
    let Some(()) = privileged() else { return };
    let mut users = vec![Switch::new()];
    match rootless() {
        Some(switch) => users.push(switch),
        None => return,
    }
    for switch in users {
        let before = std::fs::read_dir("/tmp").unwrap().count();
        let output = switch.command(&["demo", "--seconds", "1"]).env("TMPDIR", "/tmp").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        for part in [
            "[1/5]",
            " --name web",
            "web: 10.",
            "client: 10.",
            "3 received",
            "Gbit/s (a bare copy loop on this machine: ",
            " established ",
            "  web sees ",
            "frames  rx ",
            "cleaned up",
        ] {
            assert!(said.contains(part), "no {part:?} in: {said}");
        }
        assert!(!said.contains("DOES NOT BALANCE"));
        assert_eq!(
            std::fs::read_dir("/tmp")
                .unwrap()
                .filter(|entry| {
                    entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("vswitch-demo-"))
                })
                .count(),
            0,
            "of {before} files before"
        );
    }
}

/// An ordinary user's switch; /dev/net/tun has its usual mode meanwhile.
fn rootless() -> Option<Switch> {
    let usual = std::fs::set_permissions("/dev/net/tun", PermissionsExt::from_mode(0o666));
    if let Err(error) = usual {
        skip(&format!("/dev/net/tun's mode cannot be set ({error})"))?;
    }
    Some(Switch::ordinary(4_242))
}

/// An ordinary user: daemon, attach, ping and TCP in user namespaces; the host's and root's namespaces are refused.
#[test]
fn without_root() {
    let Some(()) = privileged() else { return };
    let Some(switch) = rootless() else { return };
    let holders: Vec<Background> = (0..4).map(|_| holder(&switch)).collect();
    let kinds = ["tap", "veth"];
    let addresses: Vec<String> =
        holders.iter().enumerate().map(|(n, holder)| switch.attach(&[&holder.pid(), "--type", kinds[n % 2]])).collect();
    assert_eq!(status(switch.pid().unwrap(), "Uid").split('\t').next(), Some("4242"));
    // The bounding set is root's to empty; without it no_new_privs alone keeps capabilities from coming back.
    for (key, value) in [("CapPrm", "0000000000000000"), ("CapEff", "0000000000000000"), ("NoNewPrivs", "1"), ("Seccomp", "2")] {
        assert_eq!(status(switch.pid().unwrap(), key), value, "{key}");
    }
    for to in &addresses[1..] {
        let ping = ["-t", &holders[0].pid(), "-U", "-n", "--preserve-credentials", "ping", "-c2", "-i0.05", "-W2", to];
        let output = switch.program("nsenter", &ping).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let theirs = TestNs::new("roots");
    assert!(switch.fails(1, &["attach", &theirs.name]).contains("belongs to root: \"sudo vswitch attach"));
    assert!(switch.fails(1, &["attach", &std::process::id().to_string()]).contains(": "));
    switch.assert_balanced();
    // Root is let in, another user is not.
    assert!(
        std::process::Command::new(common::PROGRAM)
            .arg("show")
            .env("VSWITCH_RUN_DIR", switch.run_dir())
            .output()
            .unwrap()
            .status
            .success()
    );
    std::fs::set_permissions(switch.run_dir(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(switch.run_dir().join("control.sock"), PermissionsExt::from_mode(0o666)).unwrap();
    let mut other = Switch::ordinary(4_243).program(switch.program_path(), &["show"]);
    let output = other.env("VSWITCH_RUN_DIR", switch.run_dir()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("this vswitch belongs to uid 4242: start yours"), "{error}");
    switch.ok(&["down"]);
}

/// As many containers as root's journey has, of an ordinary user: each reached by ping, two joined by a TCP stream.
#[test]
fn sixty_four_containers_without_root() {
    let Some(()) = privileged() else { return };
    let Some(switch) = rootless() else { return };
    let holders: Vec<Background> = (0..64).map(|_| holder(&switch)).collect();
    let kinds = ["tap", "veth"];
    let addresses: Vec<String> =
        holders.iter().enumerate().map(|(n, holder)| switch.attach(&[&holder.pid(), "--type", kinds[n % 2]])).collect();
    let inside = |holder: &Background, command: &[&str]| {
        let enter = ["-t", &holder.pid(), "-U", "-n", "--preserve-credentials"].map(String::from);
        let words: Vec<&str> = enter.iter().map(String::as_str).chain(command.iter().copied()).collect();
        switch.program("nsenter", &words)
    };
    for to in &addresses[1..] {
        let output = inside(&holders[0], &["ping", "-c1", "-W2", to]).output().unwrap();
        assert!(output.status.success(), "{to}: {}", String::from_utf8_lossy(&output.stdout));
    }
    let _server = Background::start(inside(&holders[63], &["iperf3", "-s", "-1"]).stdout(Stdio::null()));
    let listens =
        || inside(&holders[63], &["ss", "-ltn"]).output().is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains(":5201"));
    wait_for("iperf3 listens", listens);
    let output = inside(&holders[0], &["iperf3", "-c", &addresses[63], "-t", "1", "-C", "cubic", "-J"]).output().unwrap();
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(result["end"]["sum_received"]["bytes"].as_u64().unwrap_or(0) > 1 << 20, "{result}");
    switch.assert_balanced();
}

/// What a daemon holds.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    fds: usize,
    watches: usize,
}

fn held(pid: i32) -> Held {
    let fdinfo = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    // One that is closed meanwhile is none.
    let all: Vec<String> = fdinfo.filter_map(|fd| std::fs::read_to_string(fd.unwrap().path()).ok()).collect();
    let watches = all.iter().flat_map(|fd| fd.lines()).filter(|line| line.starts_with("inotify ")).count();
    Held { fds: all.len(), watches }
}

/// Resident memory in KiB.
fn resident(pid: i32) -> u64 {
    status(pid, "VmRSS").trim_end_matches(" kB").parse().unwrap()
}

/// KiB that the daemon may have more after them: its threads that close ports have stacks, its allocator a reserve.
const SLACK: u64 = 2 << 10;
const CYCLES: usize = 1_000;
/// Beyond any patience; it takes some 25 s.
const LIMIT: Duration = Duration::from_secs(240);

#[test]
fn a_thousand_containers_come_and_go_and_leave_nothing() {
    let Some(()) = privileged() else { return };
    // Of a host that no other test changes.
    let (host, stays) = (TestNs::new("cycle-host"), TestNs::new("cycle-stays"));
    let switch = Switch::new().by_way_of(&["ip", "netns", "exec", &host.name].map(String::from));
    let all: Vec<TestNs> = (0..8).map(|number| TestNs::new(&format!("cycle{number}"))).collect();
    let until = Instant::now() + LIMIT;
    switch.ok(&["up", "--subnet", "10.10.1.0/24"]);
    switch.attach(&[&stays.name, "--name", "stays"]);
    let pid = switch.pid().unwrap();
    let cycles = |each: usize| {
        std::thread::scope(|scope| {
            for (number, ns) in all.iter().enumerate() {
                let switch = &switch;
                scope.spawn(move || {
                    let name = format!("c{number}");
                    for cycle in 0..each {
                        assert!(Instant::now() < until, "{name} is at cycle {cycle} of {each} still");
                        let kind = if (number + cycle) % 2 == 0 { "tap" } else { "veth" };
                        let alias = format!("{name}-{cycle}");
                        switch.ok(&["attach", &ns.name, "--name", &name, "--type", kind, "--alias", &alias]);
                        switch.ok(&["detach", &name]);
                    }
                });
            }
        });
    };
    let names = |view: &str, key: &str| {
        let rows = switch.json(&[view]);
        let names: BTreeSet<String> = rows.as_array().unwrap().iter().map(|row| row[key].as_str().unwrap().into()).collect();
        names
    };
    // Until all that is made once is there.
    cycles(6);
    std::thread::sleep(Duration::from_millis(500));
    let (before, memory, links) = (held(pid), resident(pid), ip(&["-n", &host.name, "-o", "link"]));
    cycles(CYCLES / all.len());
    wait_for("as many open files as before", || held(pid) == before);
    let grown = resident(pid).saturating_sub(memory);
    assert!(grown <= SLACK, "{grown} KiB more than {memory} after {CYCLES} cycles");
    assert_eq!(switch.pid(), Some(pid));
    assert_eq!((switch.attached(), names("ports", "name")), (vec!["stays".into()], ["gateway", "stays"].map(Into::into).into()));
    assert_eq!(names("names", "name"), ["gateway", "stays"].map(Into::into).into());
    // Each came back to its own address, which is only remembered now.
    let leases = switch.json(&["leases"]);
    let leases: Vec<&serde_json::Value> = leases.as_array().unwrap().iter().filter(|row| row["holder"] != "stays").collect();
    assert_eq!(leases.len(), all.len(), "{leases:?}");
    for row in leases {
        assert!(row["state"] == "quarantine" && row["container"].is_null() && row["dhcp"].is_null(), "{row}");
    }
    for ns in &all {
        wait_for("the interfaces' end", || ip(&["-n", &ns.name, "-o", "link"]).lines().count() == 1);
    }
    assert_eq!(ip(&["-n", &host.name, "-o", "link"]), links);
    ping(&stays, "10.10.1.1");
    switch.assert_balanced();
}
