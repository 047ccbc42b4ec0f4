//! Configuration files and the state file: `apply`, `show --config`, `restore`.
mod common;

use common::{Switch, TestNs, holder, ip, ping, privileged, wait_for};
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

/// A switch, three namespaces, and a file that is about them.
struct Stage {
    switch: Switch,
    a: TestNs,
    b: TestNs,
    c: TestNs,
}

impl Stage {
    fn new(what: &str) -> Self {
        let ns = |name: &str| TestNs::new(&format!("{what}-{name}"));
        Self { switch: Switch::new(), a: ns("a"), b: ns("b"), c: ns("c") }
    }

    fn text(&self) -> String {
        format!(
            "schema = 1\n\n[network]\nsubnet = \"10.10.1.0/24\"\nageing = 60\n\n\
             [container.a]\nnamespace = \"{}\"\nip = \"10.10.1.10\"\nvlan = 10\n\n\
             [container.b]\nnamespace = \"/run/netns/{}\"\ntype = \"veth\"\nvlan = 10\nstorm-broadcast = 500\n\n\
             [container.c]\nnamespace = \"{}\"\nmac = \"02:00:00:00:00:0c\"\nguard = false\nifname = \"net0\"\n",
            self.a.name, self.b.name, self.c.name
        )
    }

    fn write(&self, text: &str) -> String {
        let path = self.path();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().into()
    }

    fn path(&self) -> PathBuf {
        self.switch.run_dir().parent().unwrap().join("net.toml")
    }

    fn apply(&self, text: &str, flags: &[&str]) -> String {
        let file = self.write(text);
        self.switch.ok(&[&["apply", &file], flags].concat())
    }

    /// Feeds a command.
    fn fed(&self, args: &[&str], text: &str) -> String {
        let mut child = self.switch.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{args:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A container as `show --json` has it.
    fn row(&self, name: &str) -> serde_json::Value {
        let show = self.switch.json(&["show"]);
        show["attached"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone()
    }

    fn setting(&self, name: &str, setting: &str) -> bool {
        self.row(name)["settings"].as_array().unwrap().iter().any(|set| set == setting)
    }

    fn state(&self) -> PathBuf {
        self.switch.run_dir().join("state.json")
    }

    /// Waits until the state file has `part`: it is written once a second.
    fn wait_for_state(&self, part: &str) {
        wait_for(part, || std::fs::read_to_string(self.state()).is_ok_and(|state| state.contains(part)));
    }

    fn kill(&self) {
        let pid = nix::unistd::Pid::from_raw(self.switch.pid().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }
}

#[test]
fn a_file_is_applied_once() {
    let Some(()) = privileged() else { return };
    let stage = Stage::new("once");
    let text = stage.text();
    // A dry run changes nothing, not even that no switch runs.
    let plan = stage.apply(&text, &["--dry-run"]);
    stage.switch.fails(3, &["show"]);
    assert!(!stage.switch.run_dir().exists());
    assert_eq!(stage.apply(&text, &[]), plan, "what is printed is what would be");
    assert_eq!(
        plan,
        format!(
            "+ switch: start, subnet=10.10.1.0/24 ageing=60\n+ a: namespace {}, ip 10.10.1.10, vlan=10\n\
             + b: namespace /run/netns/{}, type veth, storm-broadcast=500, vlan=10\n\
             + c: namespace {}, mac 02:00:00:00:00:0c, ifname net0, guard=off\n",
            stage.a.name, stage.b.name, stage.c.name
        )
    );
    let (pid, before) = (stage.switch.pid(), stage.switch.json(&["show"])["attached"].clone());
    assert_eq!(stage.apply(&text, &[]), "nothing to change\n");
    assert_eq!((stage.switch.pid(), stage.switch.json(&["show"])["attached"].clone()), (pid, before));
    // It is as it says: b reaches a in their VLAN.
    ping(&stage.b, "10.10.1.10");
    assert!(stage.setting("b", "storm-broadcast=500") && stage.setting("c", "guard=off"));
    assert_eq!((stage.row("b")["type"].clone(), stage.row("c")["mac"].clone()), ("veth".into(), "02:00:00:00:00:0c".into()));
    assert!(ip(&["-n", &stage.c.name, "link"]).contains("net0"));
    assert_eq!(stage.switch.json(&["show"])["ageing"], 60);
}

#[test]
fn what_a_file_changes_is_changed_and_no_more() {
    let Some(()) = privileged() else { return };
    let stage = Stage::new("change");
    let text = stage.text();
    stage.apply(&text, &[]);
    let ports = |name: &str| (stage.row(name)["port"].clone(), stage.row(name)["ip"].clone());
    let (a, b, c) = (ports("a"), ports("b"), ports("c"));
    let other = text.replacen("vlan = 10", "vlan = 20", 1);
    assert_eq!(stage.apply(&other, &["--dry-run"]), "~ a: vlan=10 -> vlan=20\n");
    assert!(stage.setting("a", "vlan=10"), "a dry run changes nothing");
    assert_eq!(stage.apply(&other, &[]), "~ a: vlan=10 -> vlan=20\n");
    assert!(stage.setting("a", "vlan=20"));
    assert_eq!((a, b.clone(), c), (ports("a"), ports("b"), ports("c")), "nobody was attached again");
    // Set by hand is a change back.
    stage.switch.ok(&["set", "c", "hairpin=on", "learn=off"]);
    stage.switch.ok(&["set", "switch", "ageing=90"]);
    assert_eq!(stage.apply(&other, &[]), "~ switch: ageing=90 -> ageing=60\n~ c: hairpin=on learn=off -> hairpin=off learn=on\n");
    // What a port cannot be set to takes a new one, with the same addresses.
    let larger = other.replace("storm-broadcast = 500", "mtu = 9000");
    let said = stage.apply(&larger, &[]);
    assert!(said.starts_with("- b: mtu 1500 -> 9000\n+ b: namespace /run/netns/"), "{said}");
    assert_eq!((stage.row("b")["mtu"].clone(), ports("b").1), (9_000.into(), b.1));
    assert_eq!(stage.apply(&larger, &[]), "nothing to change\n");
}

#[test]
fn what_is_not_in_the_file_stays_unless_pruned() {
    let Some(()) = privileged() else { return };
    let stage = Stage::new("prune");
    let text = stage.text();
    let (without_c, _) = text.split_once("[container.c]").unwrap();
    stage.apply(&text, &[]);
    assert_eq!(stage.apply(without_c, &[]), "nothing to change\n");
    assert_eq!(stage.apply(without_c, &["--prune", "--dry-run"]), "- c: not in the file\n");
    assert_eq!(stage.switch.attached().len(), 3);
    assert_eq!(stage.apply(without_c, &["--prune"]), "- c: not in the file\n");
    assert_eq!(stage.switch.attached(), ["a", "b"]);
    // A container under another name: the old one is in the way, unless pruned.
    let renamed = without_c.replace("[container.a]", "[container.web]");
    let file = stage.write(&renamed);
    let error = stage.switch.fails(1, &["apply", &file]);
    assert_eq!(error, format!("{file}:8:13: this namespace is attached as a already: \"vswitch detach a\" first"));
    assert!(stage.apply(&renamed, &["--prune"]).starts_with("- a: not in the file\n+ web: "));
    assert_eq!(stage.switch.attached().len(), 2);
}

#[test]
fn addresses_are_reserved_by_a_file() {
    let Some(()) = privileged() else { return };
    let stage = Stage::new("reserved");
    let text = stage.text()
        + "\n[reservations]\n\"10.10.1.12\" = \"02:00:00:00:00:0c\"\n\"10.10.1.20\" = \"b\"\n\"10.10.1.30\" = \"later\"\n";
    let reserved = || {
        let leases = stage.switch.json(&["leases"]);
        let row = |row: &serde_json::Value| Some(format!("{} {}", row["address"].as_str()?, row["reserved_for"].as_str()?));
        leases.as_array().unwrap().iter().filter_map(row).collect::<Vec<_>>()
    };
    let plan = stage.apply(&text, &["--dry-run"]);
    let lines = "+ reserve 10.10.1.12: for 02:00:00:00:00:0c\n+ reserve 10.10.1.20: for b\n+ reserve 10.10.1.30: for later\n+ a: ";
    assert!(plan.contains(lines), "before anybody is attached: {plan}");
    assert_eq!(stage.apply(&text, &[]), plan);
    assert_eq!((stage.row("b")["ip"].clone(), stage.row("c")["ip"].clone()), ("10.10.1.20".into(), "10.10.1.12".into()));
    let all = ["10.10.1.12 02:00:00:00:00:0c", "10.10.1.20 b", "10.10.1.30 later"];
    assert_eq!(reserved(), all);
    assert_eq!(stage.apply(&text, &["--prune"]), "nothing to change\n");
    let table = format!("\n[reservations]\n{}", text.split_once("[reservations]\n").unwrap().1);
    let config = stage.switch.ok(&["show", "--config"]);
    assert!(config.contains(&table), "{config}");
    assert_eq!(stage.fed(&["apply", "--dry-run", "--prune", "-"], &config), "nothing to change\n");
    // Who has an address by its name or its hardware address has it reserved still with the next daemon, and the one after.
    stage.switch.ok(&["restart"]);
    assert_eq!(reserved(), all);
    stage.wait_for_state("\"later\"");
    stage.kill();
    assert!(stage.switch.ok(&["restore"]).ends_with("3 restored, 0 gone\n"));
    assert_eq!(reserved(), all);
    assert_eq!(stage.switch.ok(&["show", "--config"]), config);
    // By hand: it stays, unless pruned, or the file has another for its holder.
    stage.switch.ok(&["unreserve", "10.10.1.30"]);
    stage.switch.ok(&["reserve", "10.10.1.31", "later"]);
    stage.switch.ok(&["reserve", "10.10.1.32", "other"]);
    assert_eq!(
        stage.apply(&text, &[]),
        "- reserve 10.10.1.31: later has 10.10.1.30 in the file\n+ reserve 10.10.1.30: for later\n"
    );
    assert_eq!(reserved().len(), 4);
    assert_eq!(stage.apply(&text, &["--prune"]), "- reserve 10.10.1.32: not in the file\n");
    assert_eq!(reserved(), all);
    // For somebody else: who has it and may have another goes there; who is not in the file is in the way.
    let other = text.replace("\"b\"\n", "\"x\"\n");
    let said = stage.apply(&other, &[]);
    assert!(
        said.starts_with(
            "- reserve 10.10.1.20: other in the file\n- b: ip 10.10.1.20 is for x\n+ reserve 10.10.1.20: for x\n+ b: "
        ),
        "{said}"
    );
    assert_ne!(stage.row("b")["ip"], "10.10.1.20");
    assert_eq!(stage.apply(&other, &[]), "nothing to change\n");
    let (before, config) = (reserved(), stage.switch.ok(&["show", "--config"]));
    let fails = |text: &str, part: &str| {
        let file = stage.write(text);
        let error = stage.switch.fails(1, &["apply", &file]);
        assert!(error.starts_with(&format!("{file}:{part}")), "{error}");
    };
    fails(&other.replace("10.10.1.30", "10.10.1.10"), "9:6: this ip is reserved for later in the file: choose another");
    fails(&other.replace("10.10.1.30", "10.10.2.30"), "27:1: ip 10.10.2.30 is outside network default (10.10.1.0/24): ");
    fails("schema = 1\n[reservations]\n\"10.10.1.10\" = \"x\"", "3:1: this address is attached as a already: ");
    fails("schema = 1\n[reservations]\n\"10.10.1.99\" = \"52:54\"", "3:16: not a MAC address: ");
    assert_eq!((reserved(), stage.switch.ok(&["show", "--config"])), (before, config), "none of it changes anything");
    assert_eq!(stage.switch.fails(1, &["reserve", "10.10.1.99", "52:54"]).split_once(": ").unwrap().0, "not a MAC address");
}

#[test]
fn errors_say_line_and_column_and_change_nothing() {
    let Some(()) = privileged() else { return };
    let stage = Stage::new("errors");
    let good = stage.text();
    let fails = |text: &str| {
        let file = stage.write(text);
        let error = stage.switch.fails(1, &["apply", &file]);
        error.strip_prefix(&format!("{file}:")).unwrap_or_else(|| panic!("no place: {error}")).to_owned()
    };
    let none = good.replace(&stage.b.name, "none");
    for (text, part) in [
        (good.replace("vlan = 10", "vlan = 5000"), "10:8: cannot set vlan=5000: "),
        (good.replace("schema = 1", "schema = 2"), "1:10: this vswitch knows schema 1 only: "),
        (good.replace("[network]", "[network"), "3:9: "),
        (
            good.replace("ip = \"10.10.1.10\"", "ip = \"10.10.2.1\""),
            "9:6: ip 10.10.2.1 is outside network default (10.10.1.0/24): ",
        ),
        (none.clone(), "13:13: no file /run/netns/none: "),
        (good.replace(&stage.c.name, &format!("pid:{}", std::process::id())), "19:13: pid:"),
        (good.replace(&stage.c.name, &stage.a.name), "19:13: this namespace is that of container a too: "),
        // Two names of one namespace.
        (good.replace(&stage.b.name, &stage.a.name), "13:13: this is the namespace of container a too: "),
    ] {
        let error = fails(&text);
        assert!(error.starts_with(part), "{error}\nis not: {part}");
        stage.switch.fails(3, &["show"]);
    }
    // Without the container that has no namespace, where that is said to be fine.
    let file = stage.write(&none);
    let output = stage.switch.output(&["apply", &file, "--missing-ok"]);
    let warning = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && warning.starts_with("vswitch apply: b is left out: no file /run/netns/none: "), "{warning}");
    assert_eq!(stage.switch.attached(), ["a", "c"]);
    // What was fixed at the start.
    let error = fails(&good.replace("10.10.1.", "10.10.2."));
    assert!(error.starts_with("4:10: subnet is 10.10.1.0/24 and cannot change while the switch runs: "), "{error}");
    let error = stage.switch.fails(1, &["apply", "/none/net.toml"]);
    assert!(error.starts_with("cannot read /none/net.toml"), "{error}");
    // A change that fails midway says how far it came.
    ip(&["-n", &stage.b.name, "tuntap", "add", "eth0", "mode", "tap"]);
    let file = stage.write(&good);
    let error = stage.switch.fails(1, &["apply", &file]);
    assert!(error.starts_with("0 of 1 changes made, not \"+ b: ") && error.contains("already has an interface eth0"), "{error}");
}

#[test]
fn what_runs_is_written_as_a_file() {
    let Some(()) = privileged() else { return };
    let stage = Stage::new("write");
    let process = holder(&stage.switch);
    stage.switch.ok(&[
        "up",
        "--subnet",
        "10.10.1.0/24",
        "--gateway",
        "10.10.1.254",
        "--fdb-limit",
        "1000",
        "--group-forward",
        "0,2",
    ]);
    stage.switch.ok(&["attach", &stage.a.name, "--trunk", "10,20-29", "--native", "5", "--mtu", "9000"]);
    stage.switch.ok(&["attach", &stage.b.name, "--name", "b.1", "--type", "veth", "--isolated", "--ip", "10.10.1.77"]);
    stage.switch.ok(&["attach", &process.pid(), "--no-guard", "--mac", "02:00:00:00:00:09", "--ifname", "net0"]);
    stage.switch.ok(&["set", "b.1", "storm-broadcast=off", "storm-unknown=7", "tpid=802.1ad"]);
    let text = stage.switch.ok(&["show", "--config"]);
    assert!(text.starts_with("schema = 1\n\n[network]\nsubnet = \"10.10.1.0/24\"\n"), "{text}");
    assert!(
        text.contains("\n[container.\"b.1\"]\n") && text.contains(&format!("namespace = \"pid:{}\"\n", process.pid())),
        "{text}"
    );
    assert_eq!(stage.fed(&["apply", "--dry-run", "--prune", "-"], &text), "nothing to change\n", "{text}");
    let settings =
        |name: &str| (stage.row(name)["settings"].clone(), stage.row(name)["ip"].clone(), stage.row(name)["mac"].clone());
    let before = [&stage.a.name, "b.1"].map(settings);
    // On a switch where nothing is, it makes the same.
    stage.switch.ok(&["down"]);
    stage.fed(&["apply", "-"], &text);
    assert_eq!([&stage.a.name, "b.1"].map(settings), before);
    assert_eq!(stage.switch.ok(&["show", "--config"]), text);
}

#[test]
fn what_was_attached_to_a_killed_daemon_is_restored() {
    let Some(()) = privileged() else { return };
    let mut stage = Stage::new("restore");
    let error = stage.switch.fails(1, &["restore"]);
    assert!(error.starts_with("nothing is to be restored (no "), "{error}");
    stage.apply(&stage.text(), &[]);
    let (mut ends, stays) = (holder(&stage.switch), holder(&stage.switch));
    stage.switch.attach(&[&ends.pid(), "--name", "ends"]);
    stage.switch.attach(&[&stays.pid(), "--name", "stays", "--isolated"]);
    stage.switch.ok(&["set", "a", "hairpin=on"]);
    stage.switch.ok(&["set", "switch", "ageing=77", "group-forward=0"]);
    stage.wait_for_state("\"ageing\":77");
    let error = stage.switch.fails(1, &["restore"]);
    assert!(error.starts_with("a vswitch runs already"), "{error}");
    let config = stage.switch.ok(&["show", "--config"]);
    let pid = stage.switch.pid();
    stage.kill();
    ends.kill();
    stage.c.delete();
    let said = stage.switch.ok(&["restore"]);
    assert!(said.starts_with("vswitch up: network default (10.10.1.0/24), gateway 10.10.1.1, pid "), "{said}");
    assert!(said.ends_with("3 restored, 2 gone\n"), "{said}");
    for line in [
        format!("c: gone, there is no network namespace \"{}\"\n", stage.c.name),
        format!("ends: gone, process {} has ended\n", ends.pid()),
        "a: 10.10.1.10/24 on eth0, ".into(),
    ] {
        assert!(said.contains(&line), "{said}\nlacks {line}");
    }
    assert_ne!(stage.switch.pid(), pid);
    assert_eq!(stage.switch.attached(), ["a", "b", "stays"]);
    assert!(stage.setting("a", "hairpin=on") && stage.setting("stays", "group=1"));
    // All but what is gone is as it was.
    let kept = |config: &str| {
        let gone = |part: &&str| !part.starts_with("[container.c]") && !part.starts_with("[container.ends]");
        config.split("\n\n").filter(gone).map(|part| part.trim_end().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kept(&stage.switch.ok(&["show", "--config"])), kept(&config));
    ping(&stage.b, "10.10.1.10");
    // And what runs now can be restored in its turn.
    stage.wait_for_state("\"stays\"");
    stage.kill();
    assert!(stage.switch.ok(&["restore"]).ends_with("3 restored, 0 gone\n"));
}

#[test]
fn a_pid_of_another_process_is_not_restored() {
    let Some(()) = privileged() else { return };
    let stage = Stage::new("reuse");
    let process = holder(&stage.switch);
    stage.switch.attach(&[&process.pid(), "--name", "old"]);
    stage.wait_for_state("\"old\"");
    stage.kill();
    // As if the number had been given out again: the state knows another start.
    let state = std::fs::read_to_string(stage.state()).unwrap();
    let (before, after) = state.split_once("\"started\":").unwrap();
    let rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    assert!(rest.len() < after.len(), "a start is written: {state}");
    std::fs::write(stage.state(), format!("{before}\"started\":1{rest}")).unwrap();
    let said = stage.switch.ok(&["restore"]);
    assert!(said.contains(&format!("old: gone, process {} has ended, another has its number\n", process.pid())), "{said}");
    assert!(said.ends_with("0 restored, 1 gone\n"), "{said}");
    assert!(stage.switch.attached().is_empty());
}

#[test]
fn a_bad_state_is_named_and_set_aside() {
    let Some(()) = privileged() else { return };
    let stage = Stage::new("bad");
    stage.switch.attach(&[&stage.a.name]);
    stage.wait_for_state(&stage.a.name);
    let state = std::fs::read_to_string(stage.state()).unwrap();
    stage.kill();
    let bad = stage.switch.run_dir().join("state.json.bad");
    for (text, why) in [(&state[..state.len() - 9], "EOF"), (&state.replace("\"version\":1", "\"version\":9"), "its version is 9")]
    {
        std::fs::write(stage.state(), text).unwrap();
        let error = stage.switch.fails(1, &["restore"]);
        let path = stage.state();
        assert!(error.starts_with(&format!("{} is not understood ({why}", path.display())), "{error}");
        assert!(error.contains(&bad.display().to_string()) && !path.exists(), "{error}");
        assert_eq!(std::fs::read_to_string(&bad).unwrap(), *text);
        stage.switch.fails(3, &["show"]);
        assert!(stage.switch.fails(1, &["restore"]).starts_with("nothing is to be restored"));
    }
    // It is in nobody's way, and goes with the rest.
    stage.switch.attach(&[&stage.a.name]);
    stage.switch.ok(&["down"]);
    assert!(!stage.switch.run_dir().exists());
}

#[test]
fn the_state_goes_with_down_and_stays_after_a_signal() {
    let Some(()) = privileged() else { return };
    let stage = Stage::new("state");
    stage.switch.attach(&[&stage.a.name]);
    let pid = stage.switch.pid().unwrap();
    // At once, though it was written less than a second ago.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
    wait_for("its end", || !stage.switch.run_dir().join("control.sock").exists());
    assert!(stage.switch.ok(&["restore"]).ends_with("1 restored, 0 gone\n"));
    stage.wait_for_state(&stage.a.name);
    // What is not restored is forgotten by the next daemon.
    stage.kill();
    stage.switch.attach(&[&stage.b.name]);
    stage.wait_for_state(&stage.b.name);
    assert!(!std::fs::read_to_string(stage.state()).unwrap().contains(&stage.a.name));
    stage.switch.ok(&["detach", &stage.b.name]);
    // Its address is kept for it.
    wait_for("the state without it", || {
        let state: serde_json::Value = serde_json::from_slice(&std::fs::read(stage.state()).unwrap()).unwrap();
        let kept =
            state["addresses"]["kept"].as_array().is_some_and(|kept| kept.iter().any(|kept| kept["holder"] == *stage.b.name));
        kept && state["containers"].as_array().unwrap().is_empty()
    });
    stage.switch.ok(&["down"]);
    assert!(!stage.switch.run_dir().exists());
}

#[test]
fn a_restart_keeps_what_files_are_made_of() {
    let Some(()) = privileged() else { return };
    let stage = Stage::new("again");
    let process = holder(&stage.switch);
    stage.apply(&stage.text(), &[]);
    stage.switch.attach(&[&process.pid(), "--name", "process"]);
    stage.switch.ok(&["set", "switch", "ageing=77"]);
    let (config, pid) = (stage.switch.ok(&["show", "--config"]), stage.switch.pid());
    stage.wait_for_state("\"ageing\":77");
    std::fs::remove_file(stage.state()).unwrap();
    stage.switch.ok(&["restart"]);
    assert_ne!(stage.switch.pid(), pid);
    assert_eq!(stage.switch.ok(&["show", "--config"]), config);
    assert_eq!(stage.fed(&["apply", "--prune", "-"], &config), "nothing to change\n");
    // The new daemon writes a state of its own, the old one leaves it alone.
    stage.wait_for_state("\"process\"");
    stage.kill();
    assert!(stage.switch.ok(&["restore"]).ends_with("4 restored, 0 gone\n"));
    assert_eq!(stage.switch.ok(&["show", "--config"]), config);
}

#[test]
fn an_ordinary_user_applies_and_restores() {
    let Some(()) = privileged() else { return };
    let switch = Switch::ordinary(4_244);
    let process = holder(&switch);
    let text = format!("schema = 1\n[container.web]\nnamespace = \"pid:{}\"\ntype = \"veth\"\nisolated = true\n", process.pid());
    let file = switch.run_dir().parent().unwrap().join("net.toml");
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(switch.ok(&["apply", file]).lines().count(), 2);
    assert_eq!(switch.ok(&["apply", file]), "nothing to change\n");
    let state = switch.run_dir().join("state.json");
    wait_for("the state", || std::fs::read_to_string(&state).is_ok_and(|state| state.contains("\"web\"")));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(switch.pid().unwrap()), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert!(switch.ok(&["restore"]).ends_with("1 restored, 0 gone\n"));
    assert_eq!(switch.ok(&["apply", file]), "nothing to change\n");
}
