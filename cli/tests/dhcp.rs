//! DHCP with the clients that people have: busybox' udhcpc and ISC's dhclient, in containers that attach leaves to them.
mod common;

use common::{Background, Switch, TestNs, has, inside, inside_ok, ip, ping, privileged, wait_for};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use tempfile::TempDir;

/// What either client's script does: says what it was told, and sets the address.
const SCRIPT: &str = r#"#!/bin/sh
dev=${interface}
said() { echo "$*" >>"$(dirname "$0")/said"; }
if [ -n "$reason" ]; then
    case "$reason" in PREINIT*) ip link set "$dev" up; exit 0 ;; esac
    said "$reason ip=$new_ip_address mask=$new_subnet_mask router=$new_routers dns=$new_domain_name_servers domain=$new_domain_name mtu=$new_interface_mtu name=$new_host_name lease=$new_dhcp_lease_time"
    [ -z "$new_ip_address" ] || ip address replace "$new_ip_address/24" dev "$dev"
else
    said "$1 ip=$ip mask=$subnet router=$router dns=$dns domain=$domain mtu=$mtu name=$hostname lease=$lease"
    case "$1" in
        bound|renew) ip address replace "$ip/24" dev "$dev" ;;
        deconfig) ip address flush dev "$dev" ;;
    esac
fi
"#;

struct Stage {
    switch: Switch,
    dir: TempDir,
}

impl Stage {
    /// None, after saying SKIP, without root or the client; in CI that is a failure.
    fn new(client: &str) -> Option<Self> {
        privileged()?;
        has(&[client])?;
        let (switch, dir) = (Switch::new(), tempfile::tempdir().unwrap());
        switch.ok(&["up", "--subnet", "10.10.1.0/24"]);
        let script = dir.path().join("script");
        std::fs::write(&script, SCRIPT).unwrap();
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
        Some(Self { switch, dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What the script was told, a line each.
    fn said(&self) -> Vec<String> {
        std::fs::read_to_string(self.path("said")).unwrap_or_default().lines().map(Into::into).collect()
    }

    fn wait_for(&self, part: &str) -> String {
        wait_for(part, || self.said().iter().any(|line| line.starts_with(part)));
        self.said().into_iter().rfind(|line| line.starts_with(part)).unwrap()
    }

    fn udhcpc(&self, dev: &str, more: &[&str]) -> Vec<String> {
        let script = self.path("script").display().to_string();
        let options = ["-O", "mtu", "-O", "domain", "-O", "hostname", "-t", "10", "-T", "1", "-n", "-s", &script];
        let words = [&["busybox", "udhcpc", "-f", "-i", dev][..], &options, more].concat();
        words.into_iter().map(Into::into).collect()
    }

    /// Until it has a lease.
    fn lease(&self, ns: &TestNs, dev: &str, more: &[&str]) -> String {
        let words = self.udhcpc(dev, &[&["-q"], more].concat());
        inside_ok(ns, &words.iter().map(String::as_str).collect::<Vec<_>>());
        self.wait_for("bound")
    }

    /// The row of an address in `leases`.
    fn row(&self, address: &str) -> serde_json::Value {
        let leases = self.switch.json(&["leases"]);
        leases.as_array().unwrap().iter().find(|row| row["address"] == address).cloned().unwrap_or_default()
    }
}

#[test]
fn udhcpc_gets_what_attach_would_set() {
    let Some(stage) = Stage::new("busybox") else { return };
    let ns = TestNs::new("dhcp");
    let switch = &stage.switch;
    let line = switch.ok(&["attach", &ns.name, "--name", "web", "--no-config", "--mtu", "1400", "--ip", "10.10.1.7"]);
    assert!(line.starts_with("web: 10.10.1.7/24 by DHCP on eth0, mac 02:58:0a:0a:01:07, mtu 1400, gateway 10.10.1.1, "), "{line}");
    let link = ip(&["-n", &ns.name, "address", "show", "dev", "eth0"]);
    assert!(link.contains("UP") && !link.contains("inet "), "{link}");
    assert!(stage.row("10.10.1.7")["dhcp"].is_null());
    let told = stage.lease(&ns, "eth0", &[]);
    let all =
        "bound ip=10.10.1.7 mask=255.255.255.0 router=10.10.1.1 dns=10.10.1.1 domain=vswitch.internal mtu=1400 name=web lease=3600";
    assert_eq!(told, all);
    ping(&ns, "10.10.1.1");
    let row = stage.row("10.10.1.7");
    assert_eq!((row["holder"].as_str(), row["state"].as_str()), (Some("web"), Some("attached")));
    assert!((3_500..=3_600).contains(&row["dhcp"].as_u64().unwrap()), "{row}");
    // Whatever else it asks for.
    assert!(stage.lease(&ns, "eth0", &["-r", "10.10.1.99"]).starts_with("bound ip=10.10.1.7 "));
    // A client identifier, and an answer by broadcast.
    assert!(stage.lease(&ns, "eth0", &["-B", "-x", "0x3d:0001020304"]).starts_with("bound ip=10.10.1.7 "));
    switch.assert_balanced();
}

#[test]
fn udhcpc_renews_over_a_restart_and_releases() {
    let Some(stage) = Stage::new("busybox") else { return };
    let ns = TestNs::new("dhcp-r");
    stage.switch.attach(&[&ns.name, "--name", "web", "--no-config"]);
    let words = stage.udhcpc("eth0", &[]);
    let client = Background::start(
        inside(&ns, &words.iter().map(String::as_str).collect::<Vec<_>>()).stdout(Stdio::null()).stderr(Stdio::null()),
    );
    assert!(stage.wait_for("bound").contains("ip=10.10.1.2 "));
    // "ip netns exec" becomes the client.
    let signal =
        |signal: &str| assert!(std::process::Command::new("kill").args([signal, &client.pid()]).status().unwrap().success());
    let before = stage.row("10.10.1.2")["dhcp"].as_u64().unwrap();
    stage.switch.ok(&["restart"]);
    let after = stage.row("10.10.1.2")["dhcp"].as_u64().unwrap();
    assert!(after <= before && after > before - 30, "{before} {after}");
    signal("-USR1");
    assert!(stage.wait_for("renew").contains("ip=10.10.1.2 "));
    signal("-USR2");
    wait_for("the end of its lease", || stage.row("10.10.1.2")["dhcp"].is_null());
    assert_eq!(stage.row("10.10.1.2")["state"], "attached", "the container's all the same");
    assert!(stage.lease(&ns, "eth0", &[]).contains("ip=10.10.1.2 "));
}

#[test]
fn dhclient_is_told_no_and_begins_anew() {
    let Some(stage) = Stage::new("dhclient") else { return };
    let ns = TestNs::new("dhclient");
    stage.switch.attach(&[&ns.name, "--name", "db", "--no-config", "--mtu", "1300"]);
    // It was elsewhere before: INIT-REBOOT with an address of another network.
    let lease = "lease {\n  interface \"eth0\";\n  fixed-address 192.168.55.5;\n  option subnet-mask 255.255.255.0;\n  \
                 option dhcp-server-identifier 192.168.55.1;\n  option dhcp-lease-time 4000000;\n  \
                 renew 2 2036/01/01 00:00:00;\n  rebind 2 2036/01/01 00:00:00;\n  expire 2 2036/01/01 00:00:00;\n}\n";
    let [conf, leases, pid, script] = ["conf", "leases", "pid", "script"].map(|name| stage.path(name).display().to_string());
    std::fs::write(&leases, lease).unwrap();
    std::fs::write(&conf, "request subnet-mask, routers, domain-name, domain-name-servers, host-name, interface-mtu;\n").unwrap();
    let run = |more: &[&str]| {
        let words = ["dhclient", "-v", "-cf", &conf, "-lf", &leases, "-pf", &pid, "-sf", &script];
        let output = inside(&ns, &[&words, more, &["eth0"]].concat()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        said
    };
    let said = run(&["-1"]);
    assert!(said.contains("DHCPNAK from 10.10.1.1") && said.contains("DHCPACK of 10.10.1.2 from 10.10.1.1"), "{said}");
    let told = stage.wait_for("BOUND");
    assert_eq!(
        told,
        "BOUND ip=10.10.1.2 mask=255.255.255.0 router=10.10.1.1 dns=10.10.1.1 domain=vswitch.internal mtu=1300 name=db lease=3600"
    );
    ping(&ns, "10.10.1.1");
    assert!(run(&["-r"]).contains("DHCPRELEASE of 10.10.1.2"));
    wait_for("the end of its lease", || stage.row("10.10.1.2")["dhcp"].is_null());
    // With the lease that it wrote itself it is let in at once.
    let said = run(&["-1"]);
    assert!(!said.contains("DHCPNAK") && said.contains("DHCPACK of 10.10.1.2"), "{said}");
    run(&["-x"]);
}

/// A virtual machine, as a bridge in the container would have it: a second hardware address behind the port.
#[test]
fn a_station_behind_a_port_gets_an_address_of_its_own() {
    let Some(stage) = Stage::new("busybox") else { return };
    let ns = TestNs::new("dhcp-vm");
    stage.switch.attach(&[&ns.name, "--name", "host", "--no-guard"]);
    let name = &ns.name;
    ip(&["-n", name, "link", "add", "vm0", "link", "eth0", "address", "52:54:00:00:00:01", "type", "macvlan", "mode", "bridge"]);
    ip(&["-n", name, "link", "set", "vm0", "up"]);
    let told = stage.lease(&ns, "vm0", &[]);
    assert!(told.contains("ip=10.10.1.3 ") && told.contains(" name= "), "{told}");
    let row = stage.row("10.10.1.3");
    assert_eq!((row["holder"].as_str(), row["container"].as_str()), (Some("52:54:00:00:00:01"), Some("host")), "{row}");
    assert_eq!(row["state"], "leased");
    stage.switch.ok(&["restart"]);
    assert_eq!(stage.row("10.10.1.3")["state"], "leased");
    assert!(stage.lease(&ns, "vm0", &["-r", "10.10.1.3"]).contains("ip=10.10.1.3 "));
    stage.switch.ok(&["detach", "host"]);
    assert_eq!(stage.row("10.10.1.3")["state"], "quarantine");
}

#[test]
fn a_subnet_that_is_full_says_so_and_what_rests_is_used_then() {
    let Some(()) = privileged() else { return };
    let (switch, all) = (Switch::new(), ["f1", "f2", "f3", "f4", "f5", "f6"].map(TestNs::new));
    switch.ok(&["up", "--subnet", "10.10.1.0/29"]);
    let given: Vec<String> = all[..5].iter().map(|ns| switch.attach(&[&ns.name, "--no-config"])).collect();
    assert_eq!(given, ["10.10.1.2", "10.10.1.3", "10.10.1.4", "10.10.1.5", "10.10.1.6"]);
    let full = switch.fails(1, &["attach", &all[5].name]);
    assert!(full.contains("10.10.1.0/29") && full.contains('5'), "{full}");
    switch.ok(&["detach", &all[3].name]);
    switch.ok(&["detach", &all[1].name]);
    // In quarantine, but better than none: the one that was freed first.
    assert!(switch.attach(&[&all[5].name]).starts_with("10.10.1.5"));
    assert!(switch.attach(&[&all[1].name]).starts_with("10.10.1.3"), "its own");
}

/// All that a daemon which was killed knew of addresses and names; who renews goes on with its address.
#[test]
fn leases_reservations_and_aliases_outlive_a_daemon_that_is_killed() {
    let Some(stage) = Stage::new("busybox") else { return };
    let [web, db, vm, gone] = ["dhcp-kw", "dhcp-kd", "dhcp-kv", "dhcp-kg"].map(TestNs::new);
    let switch = &stage.switch;
    // One that was asked for, one that is reserved for who has it by its hardware address, one that a further station leased.
    switch.ok(&["reserve", "10.10.1.40", "02:00:00:00:00:40"]);
    switch.ok(&["reserve", "10.10.1.50", "later"]);
    switch.ok(&["reserve", "10.10.1.60", "52:54:00:00:00:01"]);
    let web_line =
        ["attach", &web.name, "--name", "web", "--no-config", "--ip", "10.10.1.30", "--alias", "www", "--alias", "api.test"];
    switch.ok(&web_line);
    assert_eq!(
        switch.attach(&[&db.name, "--name", "db", "--mac", "02:00:00:00:00:40", "--no-config", "--alias", "store"]),
        "10.10.1.40"
    );
    switch.attach(&[&vm.name, "--name", "vm", "--no-guard"]);
    switch.attach(&[&gone.name, "--name", "gone", "--ip", "10.10.1.70"]);
    switch.ok(&["detach", "gone"]);
    let add_station = || {
        let add = ["link", "add", "vm0", "link", "eth0", "address", "52:54:00:00:00:01", "type", "macvlan", "mode", "bridge"];
        ip(&[&["-n", &vm.name][..], &add].concat());
        ip(&["-n", &vm.name, "link", "set", "vm0", "up"]);
    };
    add_station();
    assert!(stage.lease(&vm, "vm0", &[]).contains("ip=10.10.1.60 "));
    let udhcpc = |more: &[&str]| {
        let words = stage.udhcpc("eth0", more);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Background::start(inside(&web, &words).stdout(Stdio::null()).stderr(Stdio::null()))
    };
    let mut client = udhcpc(&[]);
    stage.wait_for("bound ip=10.10.1.30 ");
    let [conf, leases, pid, script] = ["conf", "leases", "pid", "script"].map(|name| stage.path(name).display().to_string());
    std::fs::write(&conf, "request subnet-mask, routers;\n").unwrap();
    let dhclient = || {
        let words = ["dhclient", "-v", "-1", "-cf", &conf, "-lf", &leases, "-pf", &pid, "-sf", &script, "eth0"];
        let output = inside(&db, &words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.contains("DHCPACK of 10.10.1.40 from 10.10.1.1"), "{said}");
        said
    };
    // It goes on in the background, and writes its number there.
    let end_dhclient = || {
        let number = || std::fs::read_to_string(&pid).ok().filter(|text| text.ends_with('\n'));
        wait_for("dhclient's number", || number().is_some());
        assert!(inside(&db, &["kill", "-9", number().unwrap().trim()]).status().unwrap().success());
        std::fs::remove_file(&pid).unwrap();
    };
    dhclient();
    end_dhclient();
    let names = ["www", "api.test", "store", "web", "db.vswitch.internal", "gone"];
    let answers = || names.map(|name| inside_ok(&vm, &["dig", "+tries=1", "+short", "@10.10.1.1", name]).trim().to_owned());
    let expected = ["10.10.1.30", "10.10.1.30", "10.10.1.40", "10.10.1.30", "10.10.1.40", ""];
    assert_eq!(answers(), expected);
    // All but how long each is so.
    let rows = || {
        let mut rows = switch.json(&["leases"]).as_array().unwrap().clone();
        for row in &mut rows {
            let told = row["dhcp"].as_u64();
            assert!(told.is_none_or(|seconds| (3_400..=3_600).contains(&seconds)), "{row}");
            (row["dhcp"], row["age"]) = (told.is_some().into(), row["age"].is_u64().into());
        }
        rows
    };
    let before = rows();
    let states: Vec<_> = before.iter().map(|row| format!("{} {} {}", row["address"], row["state"], row["dhcp"])).collect();
    for (address, state, dhcp) in [
        ("10.10.1.30", "attached", true),
        ("10.10.1.40", "attached", true),
        ("10.10.1.50", "reserved", false),
        ("10.10.1.60", "leased", true),
        ("10.10.1.70", "quarantine", false),
    ] {
        assert!(states.contains(&format!("\"{address}\" \"{state}\" {dhcp}")), "{states:?}");
    }
    wait_for("the state", || {
        let octets = std::fs::read(switch.run_dir().join("state.json")).unwrap_or_default();
        let state: serde_json::Value = serde_json::from_slice(&octets).unwrap_or_default();
        let count = |what: &str| state["addresses"][what].as_array().map_or(0, Vec::len);
        (count("granted"), count("leased"), count("reserved"), count("kept")) == (2, 1, 3, 1)
    });
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(switch.pid().unwrap()), nix::sys::signal::Signal::SIGKILL).unwrap();
    let said = switch.ok(&["restore"]);
    assert!(said.contains("\nweb: 10.10.1.30/24 by DHCP on eth0, ") && said.ends_with("3 restored, 0 gone\n"), "{said}");
    assert_eq!(rows(), before);
    assert_eq!(answers(), expected);
    // The interface is a new one, so the client of the old one has to be started again; it wants its last address, and renews.
    client.kill();
    std::fs::remove_file(stage.path("said")).unwrap();
    let client = udhcpc(&["-r", "10.10.1.30"]);
    assert!(stage.wait_for("bound").contains(" ip=10.10.1.30 "));
    assert!(std::process::Command::new("kill").args(["-USR1", &client.pid()]).status().unwrap().success());
    assert!(stage.wait_for("renew").contains(" ip=10.10.1.30 "));
    ping(&web, "10.10.1.1");
    let said = dhclient();
    end_dhclient();
    assert!(!said.contains("DHCPNAK") && !said.contains("DHCPDISCOVER"), "{said}");
    add_station();
    assert!(stage.lease(&vm, "vm0", &[]).contains("ip=10.10.1.60 "));
    assert_eq!(rows(), before);
    // Nobody else gets what is kept.
    let refused = switch.fails(1, &["attach", &gone.name, "--name", "x", "--ip", "10.10.1.60"]);
    assert!(refused.contains("10.10.1.60 is taken by 52:54:00:00:00:01"), "{refused}");
    let refused = switch.fails(1, &["attach", &gone.name, "--name", "x", "--ip", "10.10.1.50"]);
    assert!(refused.contains("10.10.1.50 is reserved for later"), "{refused}");
    assert_eq!(switch.attach(&[&gone.name, "--name", "gone"]), "10.10.1.70", "its last");
    switch.assert_balanced();
}
