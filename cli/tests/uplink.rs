//! The packet uplink: what is refused, and its interface's comings and goings, with the daemon confined as it is.
mod common;

use common::{Background, Switch, TestNs, has, inside, inside_ok, ip, privileged, wait_for};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

const FAR: &str = "192.0.2.1";
const SET: [&str; 6] = ["uplink", "set", "packet", "up0", "--ip", "192.0.2.2/24"];

/// A switch that lives in a namespace of its own with up0, whose far end has an address and is in another.
struct World {
    switch: Switch,
    host: TestNs,
    far: TestNs,
}

impl World {
    fn new(label: &str) -> Self {
        let [host, far] = ["h", "f"].map(|end| TestNs::new(&format!("{label}{end}")));
        let way = ["ip", "netns", "exec", &host.name].map(String::from);
        let world = Self { switch: Switch::new().by_way_of(&way), host, far };
        world.make_link();
        world
    }

    fn make_link(&self) {
        ip(&["-n", &self.host.name, "link", "add", "up0", "type", "veth", "peer", "name", "far0", "netns", &self.far.name]);
        ip(&["-n", &self.far.name, "link", "set", "far0", "address", "02:59:01:01:01:02", "up"]);
        ip(&["-n", &self.far.name, "addr", "add", "192.0.2.1/24", "dev", "far0"]);
        self.link(&["set", "up0", "up"]);
    }

    fn link(&self, args: &[&str]) {
        ip(&[&["-n", &self.host.name, "link"], args].concat());
    }

    /// What `uplink set` says beside its line.
    fn set(&self, args: &[&str]) -> String {
        let output = self.switch.output(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        said
    }

    fn logged(&self, line: &str) -> usize {
        let log = std::fs::read_to_string(self.switch.run_dir().join("log")).unwrap();
        log.lines().filter(|logged| logged.ends_with(line)).count()
    }
}

fn reaches(ns: &TestNs, address: &str) -> bool {
    inside(ns, &["ping", "-c1", "-W1", address]).output().unwrap().status.success()
}

#[test]
fn the_uplink_goes_and_comes_with_its_interface() {
    let Some(()) = privileged() else { return };
    let (world, web) = (World::new("upl"), TestNs::new("uplweb"));
    world.switch.ok(&["up"]);
    // The line ends with the uplink.
    for (words, told) in [(&["uplink", "set", "none"][..], "none"), (&SET, "packet up0")] {
        world.set(words);
        let line = world.switch.ok(&["attach", &web.name]);
        assert!(line.ends_with(&format!(", switch port 1, uplink {told}\n")), "{line}");
        world.switch.ok(&["detach", &web.name]);
    }
    world.switch.attach(&[&web.name]);
    wait_for("traffic", || reaches(&web, FAR));
    world.link(&["set", "up0", "down"]);
    wait_for("the log", || world.logged("uplink up0 is down") == 1);
    world.link(&["set", "up0", "up"]);
    wait_for("traffic", || reaches(&web, FAR));
    wait_for("the log", || world.logged("uplink up0 is back") == 1);
    world.link(&["del", "up0"]);
    wait_for("the log", || world.logged("uplink up0 is down") == 2);
    assert!(!reaches(&web, FAR));
    assert!(world.switch.ok(&["uplink"]).starts_with("packet up0, "), "it stays");
    world.make_link();
    wait_for("traffic", || reaches(&web, FAR));
    wait_for("the log", || world.logged("uplink up0 is back") == 2);
    world.switch.assert_balanced();
}

#[test]
fn an_uplink_without_its_interface_is_handed_over() {
    let Some(()) = privileged() else { return };
    let (world, web) = (World::new("uplr"), TestNs::new("uplrweb"));
    world.switch.attach(&[&web.name]);
    world.set(&SET);
    wait_for("traffic", || reaches(&web, FAR));
    world.link(&["del", "up0"]);
    wait_for("the log", || world.logged("uplink up0 is down") == 1);
    world.switch.ok(&["restart"]);
    wait_for("the log", || world.logged("uplink up0 is down") == 2);
    world.make_link();
    wait_for("traffic", || reaches(&web, FAR));
    world.switch.assert_balanced();
}

#[test]
fn what_is_refused_and_what_is_noted() {
    let Some(()) = privileged() else { return };
    let (world, web) = (World::new("uplx"), TestNs::new("uplxweb"));
    world.switch.attach(&[&web.name]);
    let mut other = SET;
    other[3] = "up9";
    assert!(world.switch.fails(1, &other).ends_with("there is no interface \"up9\": choose of up0"));
    other[3] = "lo";
    assert!(world.switch.fails(1, &other).contains("\"lo\" is no Ethernet interface: "));
    // On that interface or on another.
    for iface in ["up0", "lo"] {
        ip(&["-n", &world.host.name, "addr", "add", "192.0.2.2/24", "dev", iface]);
        let refused = world.switch.fails(1, &SET);
        assert!(refused.contains(&format!("--ip 192.0.2.2 is the host's own, on {iface}: ")), "{refused}");
        ip(&["-n", &world.host.name, "addr", "del", "192.0.2.2/24", "dev", iface]);
    }
    assert!(world.switch.ok(&["uplink"]).starts_with("socket, resolvers "));
    world.link(&["set", "up0", "down"]);
    assert!(world.set(&SET).contains("up0 is down: \"ip link set up0 up\", and the uplink goes with it\n"));
    world.link(&["set", "up0", "up"]);
    wait_for("traffic", || reaches(&web, FAR));
    if !inside(&world.host, &["ip", "link", "add", "br0", "type", "bridge"]).output().unwrap().status.success() {
        return eprintln!("SKIP: this kernel has no bridge");
    }
    inside_ok(&world.host, &["ip", "link", "set", "br0", "up"]);
    world.link(&["set", "up0", "master", "br0"]);
    let said = world.switch.fails(1, &SET);
    assert!(said.ends_with("up0 is a port of the bridge br0, which takes its frames: \"vswitch uplink set packet br0\""), "{said}");
    // As it says.
    other[3] = "br0";
    world.set(&other);
    wait_for("traffic", || reaches(&web, FAR));
}

/// As a network that lets only the interface's own hardware address through.
#[test]
fn a_gateway_that_ignores_our_hardware_address_is_named() {
    let Some(()) = privileged() else { return };
    let (world, web) = (World::new("upg"), TestNs::new("upgweb"));
    world.switch.attach(&[&web.name]);
    let mut events = world.switch.command(&["events", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(events.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let told = BufReader::new(events.stdout.take().unwrap()).lines();
    let _events = Background(events);
    let mut told =
        told.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()).filter(|event| event["event"] == "uplink");
    let far = |args: &[&str]| ip(&[&["-n", &world.far.name, "link", "set", "far0"], args].concat());
    far(&["arp", "off"]);
    let set = [&SET[..], &["--gateway", FAR]].concat();
    world.set(&set);
    // Without any traffic.
    wait_for("the view", || {
        world.switch.ok(&["uplink"]).contains("\ngateway 192.0.2.1 on up0 does not answer 02:58:c0:00:02:02: ")
    });
    let uplink = world.switch.json(&["uplink"]);
    let warning = uplink["warnings"][0].as_str().unwrap();
    assert!(
        uplink["silent"][0] == FAR && warning.contains("\"vswitch uplink set socket\", or this one again with --mac"),
        "{uplink}"
    );
    assert_eq!(told.next().unwrap()["reason"], warning);
    let doctor = world.switch.output(&["doctor", "--json"]);
    let doctor: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let finding = doctor.as_array().unwrap().iter().find(|finding| finding["check"] == "uplink").unwrap();
    assert!(finding["state"] == "problem" && warning.starts_with(finding["what"].as_str().unwrap()), "{finding}");
    assert!(!reaches(&web, FAR));
    wait_for("the log", || world.logged(&format!("uplink: {warning}")) == 1);
    // A link that is down says nothing of who is on it.
    world.link(&["set", "up0", "down"]);
    wait_for("the view", || world.switch.ok(&["uplink"]).contains("\nup0 is down: "));
    assert_eq!(told.next().unwrap()["reason"], "up0 is down");
    world.link(&["set", "up0", "up"]);
    assert_eq!(told.next().unwrap()["reason"], "up0 is back");
    assert_eq!(told.next().unwrap()["reason"], warning);
    far(&["arp", "on"]);
    wait_for("traffic", || reaches(&web, FAR));
    assert_eq!(told.next().unwrap()["reason"], "gateway 192.0.2.1 answers");
    assert_eq!(world.switch.json(&["uplink"])["warnings"], serde_json::json!([]));
    world.switch.assert_balanced();
}

/// What the warning of a silent gateway advises: containers and the host share one hardware address.
#[test]
fn the_interfaces_own_hardware_address_serves_both() {
    let Some(()) = privileged() else { return };
    let (world, web) = (World::new("upm"), TestNs::new("upmweb"));
    inside_ok(&world.host, &["sysctl", "-q", "-w", "net.ipv4.ip_forward=0"]);
    ip(&["-n", &world.host.name, "addr", "add", "192.0.2.3/24", "dev", "up0"]);
    world.switch.attach(&[&web.name]);
    let own = inside_ok(&world.host, &["cat", "/sys/class/net/up0/address"]);
    world.set(&[&SET[..], &["--gateway", FAR, "--mac", own.trim()]].concat());
    wait_for("traffic", || reaches(&web, FAR));
    assert!(reaches(&world.host, FAR) && reaches(&world.far, "192.0.2.3"));
    inside_ok(&web, &["ping", "-c", "5", "-i", "0.05", "-W", "1", FAR]);
    world.switch.assert_balanced();
}

/// By another program's server: RFC 2131 3.1 (5), an address that somebody has is declined; 4.3.2, INIT-REBOOT once the link is back.
#[test]
fn dhcp_declines_what_somebody_has_and_confirms_its_lease_when_the_link_is_back() {
    let Some(()) = privileged() else { return };
    let Some(()) = has(&["busybox"]) else { return };
    let (world, web) = (World::new("upd"), TestNs::new("updweb"));
    world.switch.attach(&[&web.name]);
    // The server does not see it: it is on the link, and not on its interface's net.
    ip(&["-n", &world.far.name, "addr", "add", "192.0.2.50/32", "dev", "far0"]);
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (leases, pid, said) = (path("leases"), path("pid"), path("said"));
    let config = format!(
        "start 192.0.2.50\nend 192.0.2.51\ninterface far0\nlease_file {leases}\npidfile {pid}\n\
         opt subnet 255.255.255.0\nopt router {FAR}\nopt lease 600\n"
    );
    File::create(&leases).unwrap();
    std::fs::write(path("config"), config).unwrap();
    let server = &mut inside(&world.far, &["busybox", "udhcpd", "-f", &path("config")]);
    let _server = Background::start(server.stdout(Stdio::null()).stderr(File::create(&said).unwrap()));
    let acks = || std::fs::read_to_string(&said).unwrap().matches("sending ACK to ").count();
    // busybox begins with the first address for a hardware address that is even, with the second for one that is odd.
    world.set(&["uplink", "set", "packet", "up0", "--dhcp", "--mac", "02:00:00:00:00:02"]);
    wait_for("the log", || {
        world.logged("uplink up0: DHCP gives 192.0.2.50, which somebody else there has: declined, asking anew") == 1
    });
    assert!(world.switch.ok(&["uplink"]).contains("by DHCP no address yet"));
    // Not before ten seconds have passed.
    std::thread::sleep(std::time::Duration::from_secs(8));
    assert_eq!(acks(), 1);
    wait_for("the other address", || world.switch.ok(&["uplink"]).contains("by DHCP 192.0.2.51/24, gateway 192.0.2.1, "));
    wait_for("traffic", || reaches(&web, FAR));
    assert_eq!(acks(), 2);
    world.link(&["set", "up0", "down"]);
    wait_for("the log", || world.logged("uplink up0 is down") == 1);
    world.link(&["set", "up0", "up"]);
    wait_for("the lease confirmed", || acks() == 3);
    wait_for("traffic", || reaches(&web, FAR));
    assert!(world.switch.ok(&["uplink"]).contains("by DHCP 192.0.2.51/24, "));
    world.switch.assert_balanced();
}

#[test]
fn a_route_of_the_host_that_collides_is_named() {
    let Some(()) = privileged() else { return };
    let world = World::new("col");
    world.switch.ok(&["up", "--subnet", "10.88.0.0/20"]);
    let collides = || world.switch.json(&["show"])["collision"].as_str().map(str::to_owned);
    assert_eq!(collides(), None);
    // The host as a port has an address and a route there, which is no other way.
    world.switch.ok(&["attach", "--host"]);
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(collides(), None);
    ip(&["-n", &world.host.name, "route", "add", "10.88.0.0/16", "via", "192.0.2.7", "onlink", "dev", "up0"]);
    wait_for("the collision", || collides().is_some());
    let said = collides().unwrap();
    assert!(
        said.starts_with("network default (10.88.0.0/20) collides with the host's route 10.88.0.0/16: \"vswitch down\""),
        "{said}"
    );
    let doctor = String::from_utf8(world.switch.output(&["doctor"]).stdout).unwrap();
    assert!(doctor.contains("collides with the host's route 10.88.0.0/16"), "{doctor}");
    assert_eq!(world.logged(&said), 1);
    ip(&["-n", &world.host.name, "route", "del", "10.88.0.0/16"]);
    wait_for("its end", || collides().is_none());
    // A default route in halves is no way to anything in particular.
    ip(&["-n", &world.host.name, "route", "add", "0.0.0.0/1", "via", "192.0.2.7", "onlink", "dev", "up0"]);
    world.switch.ok(&["restart"]);
    assert_eq!(collides(), None);
}
