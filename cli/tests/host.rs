//! `attach --host`: the host as a port. "The host" is a namespace that the test makes, in which daemon and command line run.
mod common;

use common::{Background, Switch, TestNs, inside, inside_ok, ip, iperf, ping, privileged, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Read;
use std::process::Stdio;

const CONTAINER: &str = "10.88.0.2";
const HOST: &str = "10.88.0.3";

/// A host and a container on its switch.
struct World {
    switch: Switch,
    host: TestNs,
    web: TestNs,
}

impl World {
    fn new(label: &str) -> Self {
        let (host, web) = (TestNs::new(&format!("{label}h")), TestNs::new(&format!("{label}c")));
        let switch = Switch::new().by_way_of(&way(&host));
        assert_eq!(switch.attach(&[&web.name, "--name", "web"]), CONTAINER);
        Self { switch, host, web }
    }

    fn attach_host(&self) {
        assert_eq!(self.switch.attach(&["--host"]), HOST);
    }

    /// What of the host must not change: lo, default routes, and every setting that is not the new interface's.
    fn untouched(&self) -> [String; 4] {
        let host = &self.host.name;
        let settings = inside_ok(&self.host, &["sysctl", "-a", "-r", "^net[.]ipv[46][.]"]);
        [
            ip(&["-n", host, "address", "show", "dev", "lo"]),
            ip(&["-n", host, "route", "show", "default"]),
            ip(&["-n", host, "-6", "route", "show", "default"]),
            settings.lines().filter(|line| !line.contains(".vswitch0.")).collect::<Vec<_>>().join("\n"),
        ]
    }
}

fn way(ns: &TestNs) -> [String; 4] {
    ["ip", "netns", "exec", &ns.name].map(String::from)
}

fn has_link(ns: &TestNs) -> bool {
    ip(&["-n", &ns.name, "-o", "link"]).contains("vswitch0")
}

#[test]
fn host_and_containers_reach_each_other() {
    let Some(()) = privileged() else { return };
    let world = World::new("reach");
    let World { switch, host, web } = &world;
    let before = world.untouched();
    let line = switch.ok(&["attach", "--host"]);
    assert_eq!(
        line,
        format!("host: {HOST}/20 on vswitch0, mac 02:58:0a:58:00:03, mtu 1500, gateway 10.88.0.1, switch port 2, uplink socket\n")
    );
    assert_eq!(world.untouched(), before);
    assert_eq!((before[1].as_str(), before[2].as_str()), ("", ""));
    ping(host, CONTAINER);
    ping(web, HOST);
    ping(host, "10.88.0.1");
    let row = &switch.json(&["inspect", "host"]);
    ping(web, row["ip6"].as_str().unwrap());
    ping(host, switch.json(&["inspect", "web"])["ip6"].as_str().unwrap());
    for octets in iperf(host, web, CONTAINER).into_iter().chain(iperf(web, host, HOST)) {
        assert!(octets > 1 << 20, "{octets} octets in a second");
    }
    let neighbours = ip(&["-n", &host.name, "neigh"]);
    assert!(neighbours.contains("10.88.0.1 dev vswitch0 lladdr 02:58:0a:58:00:01 PERMANENT"), "{neighbours}");
    assert_eq!((row["reach"].as_str(), row["namespace"].as_str()), (Some("host"), Some("--host")));
    assert_eq!((row["watch"].as_str(), row["ifname"].as_str()), (Some("none"), Some("vswitch0")));
    switch.assert_balanced();
}

/// A container that sends router advertisements is believed by one that lets itself in for that, not by the host, nor by what attach configured.
#[test]
fn no_container_sets_the_hosts_routes() {
    let Some(()) = privileged() else { return };
    let (world, other) = (World::new("ra"), TestNs::new("rao"));
    world.attach_host();
    world.switch.ok(&["attach", &other.name]);
    // One that may: its advertisements reach the others.
    world.switch.ok(&["set", "web", "ip-guard=off"]);
    for (ns, iface) in [(&world.host, "vswitch0"), (&other, "eth0")] {
        assert_eq!(inside_ok(ns, &["sysctl", "-n", &format!("net.ipv6.conf.{iface}.accept_ra")]), "0\n");
    }
    inside_ok(&other, &["sysctl", "-q", "-w", "net.ipv6.conf.eth0.accept_ra=1"]);
    let script = "import socket\n\
                  s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)\n\
                  s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)\n\
                  s.sendto(bytes([134, 0, 0, 0, 64, 0, 7, 8] + [0] * 8), ('ff02::1', 0, 0, socket.if_nametoindex('eth0')))\n";
    // Its link-local address, from which it has to come, is not good at once.
    wait_for("an advertisement's route", || {
        inside_ok(&world.web, &["python3", "-c", script]);
        ip(&["-n", &other.name, "-6", "route"]).contains("proto ra")
    });
    assert_eq!(ip(&["-n", &world.host.name, "-6", "route", "show", "default"]), "");
}

#[test]
fn restart_keeps_it_and_detach_and_down_remove_it() {
    let Some(()) = privileged() else { return };
    let world = World::new("keep");
    let World { switch, host, .. } = &world;
    world.attach_host();
    let index = ip(&["-n", &host.name, "-o", "link", "show", "vswitch0"]);
    let echo = ["ping", "-i", "0.01", "-W", "2", "-c", "200", "-q", CONTAINER];
    let mut pings = Background::start(inside(host, &echo).stdout(Stdio::piped()));
    for _ in 0..3 {
        assert!(switch.ok(&["restart"]).contains("2 attached"));
    }
    let mut said = String::new();
    pings.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains(" 0% packet loss"), "{said}");
    assert_eq!(ip(&["-n", &host.name, "-o", "link", "show", "vswitch0"]), index, "the link did not flap");
    switch.ok(&["detach", "host"]);
    assert!(!has_link(host) && switch.attached() == ["web"]);
    // Everything chosen, and again after that.
    let flags = ["--name", "me", "--ip", "10.88.0.9", "--mac", "02:00:00:00:00:09", "--mtu", "1400", "--ifname", "inside0"];
    let line = switch.ok(&[&["attach", "--host", "--isolated"][..], &flags].concat());
    assert!(line.starts_with("me: 10.88.0.9/20 on inside0, mac 02:00:00:00:00:09, mtu 1400, "), "{line}");
    ping(host, CONTAINER);
    switch.ok(&["set", "web", "isolated=on"]);
    assert!(!inside(host, &["ping", "-c1", "-W1", CONTAINER]).output().unwrap().status.success());
    switch.ok(&["detach", "me"]);
    world.attach_host();
    assert_eq!(switch.ok(&["down"]), "vswitch down: 2 detached\n");
    assert!(!has_link(host));
}

#[test]
fn it_is_restored_after_the_daemon_was_killed() {
    let Some(()) = privileged() else { return };
    let world = World::new("back");
    let World { switch, host, web } = &world;
    switch.ok(&["attach", "--host", "--ip", HOST, "--vlan", "10"]);
    switch.ok(&["set", "web", "vlan=10"]);
    let before = switch.json(&["show"])["attached"].clone();
    // Written once a second at the most.
    let state = || std::fs::read_to_string(switch.run_dir().join("state.json")).unwrap();
    wait_for("the state", || state().matches("vlan=10").count() == 2);
    kill(Pid::from_raw(switch.pid().unwrap()), Signal::SIGKILL).unwrap();
    let said = switch.ok(&["restore"]);
    assert!(said.ends_with("2 restored, 0 gone\n"), "{said}");
    // Ports are numbered anew.
    let rows = |mut rows: serde_json::Value| {
        rows.as_array_mut().unwrap().iter_mut().for_each(|row| row["port"] = 0.into());
        rows.as_array_mut().unwrap().sort_by_key(|row| row["name"].to_string());
        rows
    };
    assert_eq!(rows(switch.json(&["show"])["attached"].clone()), rows(before));
    ping(host, CONTAINER);
    ping(web, HOST);
}

/// Whether it was passed on or has to be attached again, when the old daemon is killed amid a restart.
#[test]
fn a_restart_that_is_cut_short_brings_it_back() {
    let Some(()) = privileged() else { return };
    for step in ["old-asked", "old-greeted", "old-passing", "old-sent", "old-gone"] {
        let (host, web) = (TestNs::new("cuth"), TestNs::new("cutc"));
        let switch = Switch::new().by_way_of(&way(&host));
        assert!(switch.command(&["up"]).env("VSWITCH_TEST_DIE", step).status().unwrap().success());
        let world = World { switch, host, web };
        assert_eq!(world.switch.attach(&[&world.web.name, "--name", "web"]), CONTAINER);
        world.attach_host();
        let output = world.switch.output(&["restart"]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && error.contains("the daemon that ran was killed meanwhile"), "{step}: {error}");
        assert_eq!(world.switch.attached().len(), 2, "{step}");
        ping(&world.host, CONTAINER);
        ping(&world.web, HOST);
    }
}

#[test]
fn it_is_written_to_a_file_and_applied() {
    let Some(()) = privileged() else { return };
    let world = World::new("file");
    let World { switch, host, .. } = &world;
    world.attach_host();
    let config = switch.ok(&["show", "--config"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &config).unwrap();
    let file = file.path().to_str().unwrap();
    assert_eq!(switch.ok(&["apply", file]), "nothing to change\n");
    switch.ok(&["detach", "host"]);
    let said = switch.ok(&["apply", file]);
    assert_eq!(said, format!("+ host: namespace --host, ip {HOST}, mac 02:58:0a:58:00:03\n"));
    ping(host, CONTAINER);
    assert_eq!(switch.ok(&["show", "--config"]), config);
}

#[test]
fn the_host_is_refused_by_any_other_name() {
    let Some(()) = privileged() else { return };
    let world = World::new("name");
    let World { switch, host, .. } = &world;
    let sleep = Background::start(&mut inside(host, &["sleep", "300"]));
    let comm = format!("/proc/{}/comm", sleep.pid());
    wait_for("a process on the host", || std::fs::read_to_string(&comm).is_ok_and(|comm| comm.trim() == "sleep"));
    let remedy = "is in the host's own namespace: to plug in the host use \"vswitch attach --host\"";
    for name in [host.name.clone(), sleep.pid(), "/proc/self/ns/net".into()] {
        let error = switch.fails(1, &["attach", &name]);
        assert!(error.ends_with(remedy), "{error}");
    }
    // From where it is not one's own, the daemon knows.
    let elsewhere = TestNs::new("namee");
    let from = |args: &[&str]| {
        let output = inside(&elsewhere, &[&[common::PROGRAM], args].concat()).env("VSWITCH_RUN_DIR", switch.run_dir()).output();
        String::from_utf8(output.unwrap().stderr).unwrap()
    };
    let error = from(&["attach", &host.name]);
    assert!(error.contains("this namespace is the host's own: to plug in the host use \"vswitch attach --host\""), "{error}");
    let error = from(&["attach", "--host"]);
    let pid = switch.pid().unwrap();
    assert!(
        error
            .contains(&format!("in another network namespace than the daemon, which is in the host's: \"sudo nsenter -t {pid} -n"))
    );
    assert!(!has_link(host) && !has_link(&elsewhere) && switch.attached() == ["web"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let Some(()) = privileged() else { return };
    let world = World::new("sense");
    let World { switch, host, .. } = &world;
    let refused = |args: &[&str], part: &str| {
        let error = switch.fails(1, args);
        assert!(error.contains(part), "{args:?}: {error}");
    };
    refused(&["attach", "--host", "--type", "veth"], "--type veth is for containers: leave it out");
    refused(&["attach", "--host", "-p", "8080:80"], "8080:80: \"host\" is the host, whose answers do not come back");
    for args in [&["attach"][..], &["attach", "--host", "ns1"]] {
        assert_eq!(switch.output(args).status.code(), Some(2), "{args:?}");
    }
    // A network that the host knows another way to.
    ip(&["-n", &host.name, "link", "add", "other0", "type", "veth", "peer", "name", "far0"]);
    ip(&["-n", &host.name, "link", "set", "other0", "up"]);
    ip(&["-n", &host.name, "route", "add", "10.88.3.0/24", "dev", "other0"]);
    refused(&["attach", "--host"], "the switch's network 10.88.0.0/20 overlaps the route 10.88.3.0/24 of this host: ");
    ip(&["-n", &host.name, "route", "del", "10.88.3.0/24"]);
    refused(&["attach", "--host", "--ifname", "other0"], "already has an interface other0: pass --ifname other1");
    assert!(!has_link(host) && switch.attached() == ["web"]);
    world.attach_host();
    refused(
        &["attach", "--host"],
        "this namespace is already attached as \"host\" (port 2, 10.88.0.3): \"vswitch detach host\" first",
    );
    refused(&["publish", "8080:80", "host"], "is the host, whose answers do not come back");
    for args in [&["exec", "host", "--", "true"][..], &["run", "--network", "container:host", "--", "true"]] {
        let output = switch.output(args);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125), "{error}");
        assert!(
            error.contains("host is the host itself: run the command as it is, or with \"vswitch run --network host\""),
            "{error}"
        );
    }
}

/// A web server in a namespace.
fn serve(ns: &TestNs, port: &str) -> Background {
    let args = ["python3", "-m", "http.server", port, "--directory", "/sys"];
    let server = Background::start(inside(ns, &args).stdout(Stdio::null()).stderr(Stdio::null()));
    wait_for("a web server", || inside_ok(ns, &["ss", "-ltn"]).contains(&format!(":{port} ")));
    server
}

fn fetches(ns: &TestNs, from: &str) -> bool {
    let url = format!("http://{from}/");
    inside(ns, &["curl", "-s", "--noproxy", "*", "-o", "/dev/null", "-m", "2", &url]).status().unwrap().success()
}

/// What the README says of the host beside a packet uplink, which is on an interface of the host.
#[test]
fn beside_an_uplink_the_host_uses_inside_addresses() {
    let Some(()) = privileged() else { return };
    let (world, far) = (World::new("beside"), TestNs::new("besidef"));
    let World { switch, host, web } = &world;
    ip(&["-n", &host.name, "link", "add", "up0", "type", "veth", "peer", "name", "far0", "netns", &far.name]);
    for (ns, link, address) in [(host, "up0", "192.0.2.3/24"), (&far, "far0", "192.0.2.1/24")] {
        ip(&["-n", &ns.name, "link", "set", link, "up"]);
        ip(&["-n", &ns.name, "addr", "add", address, "dev", link]);
    }
    switch.ok(&["uplink", "set", "packet", "up0", "--ip", "192.0.2.2/24", "--gateway", "192.0.2.1"]);
    switch.ok(&["publish", "8080:80", "web"]);
    let _servers = [serve(web, "80"), serve(host, "9090")];
    wait_for("the uplink", || fetches(&far, "192.0.2.2:8080"));
    assert!(!fetches(host, &format!("{CONTAINER}:80")) && !fetches(host, "192.0.2.2:8080"), "the host is not plugged in");
    world.attach_host();
    assert!(fetches(host, &format!("{CONTAINER}:80")) && fetches(web, &format!("{HOST}:9090")));
    // Its address outside is not beyond the uplink, nor the uplink's beyond its own interface.
    assert!(!fetches(web, "192.0.2.3:9090") && !fetches(host, "192.0.2.2:8080"));
    // Unless it is sent through the switch.
    ip(&["-n", &host.name, "route", "add", "192.0.2.2", "via", "10.88.0.1"]);
    assert!(fetches(host, "192.0.2.2:8080"));
    assert!(fetches(&far, "192.0.2.2:8080") && !fetches(&far, "192.0.2.2:9090"));
    // The host's kernel takes packets to any of its addresses on any interface: only its firewall keeps containers from them.
    // But it answers from its own address inside only (L09), unless it may use any.
    ip(&["-n", &web.name, "route", "add", "192.0.2.3", "via", HOST]);
    assert!(!fetches(web, "192.0.2.3:9090") && switch.drops("source-outside") > 0);
    switch.ok(&["set", "host", "ip-guard=off"]);
    assert!(fetches(web, "192.0.2.3:9090"));
    // And routes for them, where it routes.
    ip(&["-n", &web.name, "route", "add", "192.0.2.1", "via", HOST]);
    ip(&["-n", &far.name, "route", "add", CONTAINER, "via", "192.0.2.3"]);
    inside_ok(host, &["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"]);
    ping(web, "192.0.2.1");
    switch.assert_balanced();
}

/// And no daemon is started for him.
#[test]
fn an_ordinary_user_is_told_that_it_takes_root() {
    let Some(()) = privileged() else { return };
    let host = TestNs::new("user");
    let switch = Switch::ordinary(4_243).by_way_of(&way(&host));
    let error = switch.fails(1, &["attach", "--host"]);
    assert!(error.starts_with("only root may plug in the host (CAP_NET_ADMIN in its network namespace): \"sudo "), "{error}");
    assert!(switch.daemons().is_empty() && !has_link(&host));
}
