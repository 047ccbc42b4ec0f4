//! The packet uplink: what is refused, and its interface's comings and goings, with the daemon confined as it is.
mod common;

use common::{Switch, TestNs, inside, inside_ok, ip, privileged, wait_for};

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
    world.switch.attach(&[&web.name]);
    world.set(&SET);
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
