//! `run` and `exec`: containers of our own, as root and as an ordinary user. What they see, how they end, and that nothing is left.
mod common;

use common::{Background, Switch, TestNs, holder, ip, privileged, skip, wait_for};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Output, Stdio};

/// An ordinary user's uid, and one of another.
const USER: u32 = 4_250;

/// A switch of root's and one of an ordinary user's.
fn users() -> Vec<Switch> {
    if privileged().is_none() {
        return Vec::new();
    }
    if let Err(error) = std::fs::set_permissions("/dev/net/tun", PermissionsExt::from_mode(0o666)) {
        let _ = skip(&format!("/dev/net/tun's mode cannot be set ({error})"));
        return vec![Switch::new()];
    }
    vec![Switch::new(), Switch::ordinary(USER)]
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a program prints in a container, which it leaves with success.
fn inside(switch: &Switch, how: &[&str], script: &str) -> String {
    switch.ok(&[how, &["--", "sh", "-c", script]].concat())
}

/// The address in the line that `run -d` prints.
fn address(line: &str) -> String {
    line.split_once(": ").unwrap().1.split_once('/').unwrap().0.into()
}

/// Whether any process is in a network namespace.
fn is_inhabited(netns: u64) -> bool {
    let link = format!("net:[{netns}]");
    std::fs::read_dir("/proc").unwrap().any(|entry| {
        let net = entry.unwrap().path().join("ns/net");
        std::fs::read_link(net).is_ok_and(|target| target.to_str() == Some(&link))
    })
}

fn row(switch: &Switch, name: &str) -> serde_json::Value {
    let show = switch.json(&["show"]);
    show["attached"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone()
}

/// A container's first process.
fn pid(switch: &Switch, name: &str) -> i32 {
    row(switch, name)["reach"]["process"]["pid"].as_i64().unwrap() as i32
}

fn kill(pid: i32, signal: &str) {
    let signal: nix::sys::signal::Signal = signal.parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

#[test]
fn a_server_and_its_client() {
    for switch in users() {
        let line = switch.ok(&["run", "-d", "--name", "web", "--mtu", "1400", "--", "python3", "-m", "http.server", "80"]);
        assert!(line.starts_with("web: 10.") && line.contains(" on eth0, mac ") && line.contains("mtu 1400"), "{line}");
        let web = address(&line);
        let fetch = format!("import urllib.request as r; print(r.urlopen('http://{web}/', timeout=5).status)");
        let client = ["run", "--name", "client", "--", "python3", "-c", &fetch];
        wait_for("the server", || said(&switch.output(&client)) == "200\n");
        // The client's port went with it, before its command returned.
        assert_eq!(switch.attached(), ["web"]);
        // A daemon that takes over knows the way in, too.
        switch.ok(&["restart"]);
        // In it by name: its interfaces, its mounts, and what it serves.
        let seen = inside(&switch, &["exec", "web"], "ip -o addr; cat /etc/resolv.conf; ls -A $VSWITCH_RUN_DIR; id -u");
        assert!(seen.contains(&format!("{web}/")) && seen.ends_with(".1\nsearch vswitch.internal\n0\n"), "{seen}");
        assert_eq!(switch.ok(&["exec", "web", "python3", "-c", &fetch.replace(&web, "127.0.0.1")]), "200\n");
        let (server, netns) = (pid(&switch, "web"), row(&switch, "web")["netns"].as_u64().unwrap());
        assert!(is_inhabited(netns));
        kill(server, "SIGTERM");
        switch.wait_until_gone("web");
        wait_for("an empty namespace", || !is_inhabited(netns));
        assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(switch.run_dir().to_str().unwrap()));
        switch.assert_balanced();
        assert!(switch.fails(125, &["exec", "web", "--", "true"]).starts_with("nothing is attached as \"web\""));
        switch.ok(&["down"]);
        assert!(!switch.run_dir().exists());
        switch.fails(125, &["exec", "web", "--", "true"]);
    }
}

#[test]
fn the_exit_status_is_the_programs() {
    for switch in users() {
        switch.ok(&["up"]);
        for (status, command) in [(0, "true"), (7, "exit 7"), (3, "exit 3"), (137, "kill -KILL $$"), (143, "kill $$")] {
            for how in [&["run"][..], &["run", "--network", "none"]] {
                let output = switch.output(&[how, &["--", "sh", "-c", command]].concat());
                assert_eq!(output.status.code(), Some(status), "{command}: {output:?}");
            }
        }
        for flag in ["--isolated", "-d"] {
            assert!(switch.fails(127, &["run", flag, "--", "no-such-program"]).contains("no program \"no-such-program\" is found"));
            assert!(switch.fails(126, &["run", flag, "--", "/etc/passwd"]).contains("\"/etc/passwd\" cannot be executed"));
            assert_eq!(switch.attached(), [""; 0], "{flag}");
        }
        assert!(switch.fails(125, &["run", "--ip", "192.0.2.1", "--", "true"]).starts_with("--ip 192.0.2.1 is outside network"));
        assert!(switch.fails(125, &["run", "--network", "host", "--ip", "10.88.0.9", "--", "true"]).contains("leave them out"));
        assert!(switch.fails(125, &["run", "--network", "container:web", "--", "true"]).starts_with("nothing is attached as"));
        assert_eq!(switch.output(&["run"]).status.code(), Some(2));
        assert_eq!(switch.output(&["run", "--network", "moon", "--", "true"]).status.code(), Some(2));
        // The same of exec.
        switch.ok(&["run", "-d", "sleep", "300"]);
        assert_eq!(switch.output(&["exec", "c1", "--", "sh", "-c", "exit 9"]).status.code(), Some(9));
        assert!(switch.fails(127, &["exec", "c1", "no-such-program"]).contains("is found: "));
        assert!(switch.fails(126, &["exec", "c1", "/etc/passwd"]).contains("cannot be executed"));
        kill(pid(&switch, "c1"), "SIGKILL");
    }
}

/// Docker's four: closed, bridged, joined, open.
#[test]
fn the_four_container_models() {
    for switch in users() {
        let links = "ip -o link | cut -d: -f2 | tr -d ' ' | cut -d@ -f1 | sort";
        // Closed: lo alone, and it works; no daemon is needed or started.
        assert_eq!(inside(&switch, &["run", "--network", "none"], links), "lo\n");
        let itself = inside(&switch, &["run", "--network", "none"], "ping -c1 -W1 127.0.0.1 | grep -c ' 0% packet loss'");
        assert_eq!(itself, "1\n");
        // Open: the host's namespace and interfaces.
        let host = std::fs::read_link("/proc/self/ns/net").unwrap();
        let seen = inside(&switch, &["run", "--network", "host"], "readlink /proc/self/ns/net; readlink /proc/self/ns/mnt");
        assert_eq!(seen.lines().next(), host.to_str());
        let mounts = std::fs::read_link("/proc/self/ns/mnt").unwrap();
        assert_ne!(seen.lines().nth(1), mounts.to_str());
        assert!(!switch.run_dir().exists());
        // Bridged: a namespace of its own, plugged in; names are given.
        let first = switch.ok(&["run", "-d", "--", "sleep", "300"]);
        let second = switch.ok(&["run", "-d", "--network", "bridge", "--type", "veth", "--", "sleep", "300"]);
        assert!(first.starts_with("c1: ") && second.starts_with("c2: "), "{first}{second}");
        assert_eq!(inside(&switch, &["exec", "c1"], links), "eth0\nlo\n");
        assert_ne!(inside(&switch, &["exec", "c1"], "readlink /proc/self/ns/net").trim(), host.to_str().unwrap());
        let ping = format!("ping -c2 -i0.1 -W2 {} | grep -c ' 0% packet loss'", address(&first));
        assert_eq!(inside(&switch, &["exec", "c2"], &ping), "1\n");
        // Joined: the same interface and address, not another port.
        let joined = inside(&switch, &["run", "--network", "container:c2"], "ip -o -4 addr show eth0; cat /etc/resolv.conf");
        assert!(joined.contains(&format!("{}/", address(&second))) && joined.contains("\nnameserver 10."), "{joined}");
        assert_eq!(inside(&switch, &["run", "--network", "container:c2"], &ping), "1\n");
        assert_eq!(switch.attached(), ["c1", "c2"]);
        let detached = switch.ok(&["run", "-d", "--network", "container:c2", "--", "sleep", "300"]);
        let neighbour: i32 = detached.trim().strip_prefix("pid ").unwrap().parse().unwrap();
        let netns = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        assert_eq!(netns(neighbour), netns(pid(&switch, "c2")));
        for process in [neighbour, pid(&switch, "c1"), pid(&switch, "c2")] {
            kill(process, "SIGKILL");
        }
        switch.wait_until_gone("c2");
    }
}

/// Started with pipes; waits for its first line.
fn start(switch: &Switch, script: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child =
        switch.command(&["run", "--", "sh", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");
    (child, out)
}

#[test]
fn signals_and_streams_pass() {
    for switch in users() {
        for signal in ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH"] {
            let script = format!("trap 'exit 9' {signal}; echo up; while :; do sleep 0.02; done");
            let (mut child, _out) = start(&switch, &script);
            kill(child.id() as i32, &format!("SIG{signal}"));
            assert_eq!(child.wait().unwrap().code(), Some(9), "{signal}");
        }
        // One that the program does not catch.
        let (mut child, _out) = start(&switch, "echo up; exec sleep 300");
        kill(child.id() as i32, "SIGTERM");
        assert_eq!(child.wait().unwrap().code(), Some(143));
        // Standard input and its end.
        let (mut child, mut out) = start(&switch, "echo up; cat");
        child.stdin.take().unwrap().write_all(b"through\n").unwrap();
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        assert_eq!((rest.as_str(), child.wait().unwrap().code()), ("through\n", Some(0)));
        assert_eq!(switch.attached(), [""; 0]);
        // Whoever kills us kills it, and its port goes.
        let (mut child, _out) = start(&switch, "echo up; exec sleep 300");
        let inner = pid(&switch, "c1");
        child.kill().unwrap();
        child.wait().unwrap();
        switch.wait_until_gone("c1");
        wait_for("its end", || !std::path::Path::new(&format!("/proc/{inner}/exe")).exists());
    }
}

/// What the terminal sends goes to its whole foreground group, so it is not passed on once more.
#[test]
fn an_interrupt_comes_once() {
    const PTY: &str = "import os, pty, sys\n\
                       pid, fd = pty.fork()\n\
                       if pid == 0: os.execv(sys.argv[1], sys.argv[1:])\n\
                       said = b''\n\
                       while b'up' not in said: said += os.read(fd, 1000)\n\
                       os.write(fd, b'\\x03')\n\
                       try:\n\
                       \x20 while True: said += os.read(fd, 1000)\n\
                       except OSError: pass\n\
                       print(said.count(b'got'), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n";
    let Some(switch) = users().into_iter().next() else { return };
    let script = "trap 'echo got' INT; echo up; n=0; while [ $n -lt 40 ]; do sleep 0.02; n=$((n + 1)); done; exit 5";
    let run = [switch.program_path(), "run", "--network", "none", "--", "sh", "-c", script];
    let output = switch.program("python3", &[&["-c", PTY], &run[..]].concat()).output().unwrap();
    assert_eq!(said(&output), "1 5\n", "{}", String::from_utf8_lossy(&output.stderr));
}

/// The container's root can unmount what hides the control socket; as who it is outside it may then do no more than attach.
#[test]
fn a_container_cannot_rule_the_switch() {
    let Some(switch) = users().into_iter().nth(1) else { return };
    switch.ok(&["run", "-d", "--", "sleep", "300"]);
    let program = switch.program_path();
    let hidden = inside(&switch, &["exec", "c1"], &format!("ls -A $VSWITCH_RUN_DIR; {program} show 2>&1; echo $?"));
    assert!(hidden.starts_with("vswitch show: no vswitch runs for root") && hidden.ends_with("\n3\n"), "{hidden}");
    let uncovered =
        |command: &str| inside(&switch, &["exec", "c1"], &format!("umount $VSWITCH_RUN_DIR; {program} {command} 2>&1; echo $?"));
    // The first takes it away for all.
    assert!(uncovered("show").contains("vswitch show: you are in a user namespace below the switch's"));
    for command in ["down", "detach c1", "set c1 guard=off", "mirror c1 -", "fdb flush", "ports", "stats --json"] {
        let refused = inside(&switch, &["exec", "c1"], &format!("{program} {command} 2>&1; echo $?"));
        assert!(refused.contains(": you are in a user namespace below") && refused.ends_with("\n1\n"), "{command}: {refused}");
    }
    // Attaching it may: a namespace of its own, as under "podman unshare".
    let below = format!("unshare --net sleep 300 & sleep 0.5; {program} attach $! --name below; kill $!");
    assert!(inside(&switch, &["exec", "c1"], &below).starts_with("below: 10."));
    assert!(switch.attached().contains(&"c1".to_owned()));
    // Root outside enters it as its root.
    let mut root = std::process::Command::new(common::PROGRAM);
    let output = root.args(["exec", "c1", "--", "sh", "-c", "id -u; ip -o link"]).env("VSWITCH_RUN_DIR", switch.run_dir()).output();
    let seen = said(&output.unwrap());
    assert!(seen.starts_with("0\n") && seen.contains("eth0"), "{seen}");
    kill(pid(&switch, "c1"), "SIGKILL");
}

/// An engine's command line is asked for the PID.
#[test]
fn containers_of_engines() {
    let Some(()) = privileged() else { return };
    let switch = Switch::new();
    let (container, dir) = (holder(&switch), tempfile::tempdir().unwrap());
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in\n'inspect --type container -f {{{{.State.Pid}}}} web') echo {};;\n*idle) echo 0;;\n\
         *) echo \"Error: No such container\" >&2; exit 1;;\nesac\n",
        container.pid()
    );
    std::fs::write(dir.path().join("docker"), script).unwrap();
    std::fs::set_permissions(dir.path().join("docker"), PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", dir.path().display());
    let run = |args: &[&str], path: &str| {
        let output = switch.command(args).env("PATH", path).output().unwrap();
        (output.status.code(), said(&output) + &String::from_utf8_lossy(&output.stderr))
    };
    let (status, line) = run(&["attach", "docker:web"], &path);
    assert!(status == Some(0) && line.contains("web: 10."), "{line}");
    assert!(inside(&switch, &["exec", "web"], "ip -o link").contains("eth0"));
    for (ns, part) in [
        ("docker:idle", "docker container idle does not run: \"docker start idle\" first"),
        ("docker:none", "docker knows no running container none (Error: No such container): see \"docker ps\""),
        ("docker:-x", "names no container: "),
    ] {
        let (status, line) = run(&["attach", ns], &path);
        assert!(status == Some(1) && line.contains(part), "{ns}: {line}");
    }
    let (status, line) = run(&["attach", "podman:web"], dir.path().to_str().unwrap());
    assert!(status == Some(1) && line.starts_with("vswitch attach: there is no podman command: install podman"), "{line}");
    assert_eq!(run(&["detach", "docker:web"], &path).0, Some(0));
    assert_eq!(switch.attached(), [""; 0]);
}

/// `exec` also enters what `attach` took: by name, by path, by PID.
#[test]
fn exec_in_what_was_attached() {
    let Some(()) = privileged() else { return };
    let (switch, named) = (Switch::new(), TestNs::new("exec"));
    let process = holder(&switch);
    switch.attach(&[&named.name, "--name", "named"]);
    switch.attach(&[&process.pid(), "--name", "process"]);
    assert_eq!(row(&switch, "named")["reach"]["name"], named.name);
    for name in ["named", "process"] {
        assert!(inside(&switch, &["exec", name], "ip -o link").contains("eth0"), "{name}");
        // Its network alone: files are the host's.
        let mounts = inside(&switch, &["exec", name], "readlink /proc/self/ns/mnt");
        assert_eq!(mounts.trim(), std::fs::read_link("/proc/self/ns/mnt").unwrap().to_str().unwrap());
    }
    // Another namespace of the same name is another.
    let joined = inside(&switch, &["run", "--network", "container:named"], "ip -o link");
    assert!(joined.contains("eth0"), "{joined}");
    ip(&["netns", "del", &named.name]);
    switch.wait_until_gone("named");
    ip(&["netns", "add", &named.name]);
    assert!(switch.fails(125, &["exec", "named", "--", "true"]).starts_with("nothing is attached as \"named\""));
}

/// A process of an ordinary user's namespace, whose map root writes, as newuidmap does for subordinate ids.
fn mapped(switch: &Switch, uid: &str) -> Background {
    let outer = Background::start(&mut switch.program("unshare", &["--user", "--net", "sleep", "300"]));
    let comm = format!("/proc/{}/comm", outer.pid());
    wait_for("a process in a namespace", || std::fs::read_to_string(&comm).is_ok_and(|comm| comm.trim() == "sleep"));
    for (map, id) in [("uid_map", uid), ("gid_map", uid)] {
        std::fs::write(format!("/proc/{}/{map}", outer.pid()), format!("0 {id} 1\n1 200000 65536\n")).unwrap();
    }
    outer
}

/// Rootless containers as engines make them, seen from the user's shell: subordinate ids, and one user namespace in another (keep-id).
#[test]
fn nested_user_namespaces() {
    let Some(switch) = users().into_iter().nth(1) else { return };
    let outer = mapped(&switch, &USER.to_string());
    // A process that runs as a subordinate id.
    let subordinate = Background::start(std::process::Command::new("nsenter").args([
        "-t",
        &outer.pid(),
        "-U",
        "-n",
        "-S",
        "1000",
        "-G",
        "1000",
        "unshare",
        "--user",
        "--map-root-user",
        "--net",
        "sleep",
        "300",
    ]));
    let comm = format!("/proc/{}/comm", subordinate.pid());
    wait_for("a process below", || std::fs::read_to_string(&comm).is_ok_and(|comm| comm.trim() == "sleep"));
    let uid = std::fs::read_to_string(format!("/proc/{}/status", subordinate.pid())).unwrap();
    assert!(uid.contains("Uid:\t200999\t"), "{uid}");
    for (holder, name) in [(&outer, "outer"), (&subordinate, "subordinate")] {
        let address = switch.attach(&[&holder.pid(), "--name", name]);
        let seen = inside(&switch, &["exec", name], "ip -o -4 addr show eth0");
        assert!(seen.contains(&format!("{address}/")), "{seen}");
    }
    let addresses = [row(&switch, "outer"), row(&switch, "subordinate")].map(|row| row["ip"].as_str().unwrap().to_owned());
    let ping = format!("ping -c2 -i0.1 -W2 {} | grep -c ' 0% packet loss'", addresses[1]);
    assert_eq!(inside(&switch, &["exec", "outer"], &ping), "1\n");
    // From within one's own user namespace: the same switch, which lets it attach.
    let own = ["--user", "--map-root-user", switch.program_path(), "run", "--network", "none", "--", "id", "-u"];
    assert_eq!(said(&switch.program("unshare", &own).output().unwrap()), "0\n");
    // What is not the user's: the error names the command that does.
    let theirs = TestNs::new("nested");
    let error = switch.fails(1, &["attach", &theirs.name]);
    assert!(error.contains(&format!("belongs to root: \"sudo vswitch attach {}\"", theirs.name)), "{error}");
    let stranger = Switch::ordinary(USER + 1);
    let strange = holder(&stranger);
    let error = switch.fails(1, &["attach", &strange.pid()]);
    let expected = format!("namespace pid:{0} belongs to uid {1}: \"sudo vswitch attach pid:{0}\"", strange.pid(), USER + 1);
    assert!(error.contains(&expected), "{error}");
}
