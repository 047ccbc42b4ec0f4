use super::*;
use crate::api::outside;
use crate::api::types::Kind;
use crate::config::parse;
use crate::daemon::holder;
use vswitch_nat::ipam::{Holder, Ipam};
use vswitch_switch::UnicastMac;

/// Namespaces of these tests: "n7" is inode 7, "/n7" is too.
fn found(config: &Config) -> BTreeMap<String, u64> {
    let inode = |entry: &Entry| entry.wanted.namespace.to_string().trim_matches(|c: char| !c.is_ascii_digit()).parse().ok();
    config.containers.iter().filter_map(|entry| Some((entry.wanted.name.clone(), inode(entry)?))).collect()
}

fn config(text: &str) -> Config {
    parse("net.toml", format!("schema = 1\n{text}").as_bytes()).unwrap()
}

fn planned(text: &str, running: Option<&Running>, prune: bool) -> Result<Plan> {
    let config = config(text);
    plan(&config, running, &found(&config), prune)
}

fn nothing_attached() -> Running {
    let network = Network::parse("10.88.0.0/20", None).unwrap();
    Running {
        network,
        ageing: 300,
        fdb_limit: 65_536,
        group_forward: "off".into(),
        spread: settings::Spread::default(),
        workers: settings::Workers::default(),
        uplink: None,
        published: Vec::new(),
        reserved: Vec::new(),
        leased: Vec::new(),
        containers: Vec::new(),
    }
}

/// What the commands of a plan would leave running.
fn carried_out(plan: &Plan, running: Option<&Running>) -> Running {
    let mut running = running.cloned().unwrap_or_else(nothing_attached);
    for change in &plan.changes {
        match change {
            Change::Start(options) => {
                running.network = Network::parse(options.subnet.as_deref().unwrap_or("10.88.0.0/20"), options.gateway).unwrap();
                running.ageing = options.ageing.unwrap_or(300);
                running.fdb_limit = options.fdb_limit.unwrap_or(65_536);
                running.workers = options.workers.unwrap_or_default();
                running.group_forward = options.group_forward.clone().unwrap_or_else(|| "off".into());
                let (suppress, unregistered) = (options.suppress, options.unregistered);
                running.spread = running.spread.set(&settings::SwitchSettings { suppress, unregistered, ..Default::default() });
            }
            Change::SetSwitch { to, .. } => {
                let set = settings::of_switch(to).unwrap();
                running.ageing = set.ageing.map_or(running.ageing, |ageing| ageing.as_secs());
                running.group_forward = set.group_forward.map_or(running.group_forward, settings::group_list);
                running.spread = running.spread.set(&set);
            }
            Change::Detach { name, .. } => {
                assert!(running.containers.iter().any(|container| container.name == *name), "{name} is not attached");
                running.containers.retain(|container| container.name != *name);
                // What is published to it goes with it.
                running.published.iter_mut().for_each(|publish| publish.names.retain(|other| other != name));
                running.published.retain(|publish| !publish.names.is_empty());
            }
            Change::Uplink { to: Uplink::None, .. } => running.uplink = None,
            Change::Uplink { to: Uplink::Socket, .. } => running.uplink = Some(outside::Uplink::Socket),
            Change::Uplink { to: Uplink::Packet(packet), .. } => {
                let mut order = packet.order(packet.mac.unwrap_or(UnicastMac::for_ipv4([198, 51, 100, 2])));
                order.judge(&running.network).unwrap();
                if order.dhcp {
                    // As its server says.
                    order.addresses.insert(0, "198.51.100.77/24".into());
                    order.gateways.push("198.51.100.1".parse().unwrap());
                }
                let (silent, conflicts) = (Vec::new(), 0);
                running.uplink = Some(outside::Uplink::Packet(outside::PacketUplink { order, silent, conflicts }));
            }
            Change::Unpublish { spec, .. } => {
                let before = running.published.len();
                running.published.retain(|publish| publish.spec != spec.to_string());
                assert_eq!(running.published.len(), before - 1, "{spec} is not published");
            }
            Change::Publish(publish) => {
                let spec: Spec = publish.spec.parse().unwrap();
                for other in &running.published {
                    assert_eq!(spec.overlap(&other.spec.parse().unwrap()), None, "{spec}");
                }
                let is_attached = |name: &String| running.containers.iter().any(|container| container.name == *name);
                assert!(!publish.names.is_empty() && publish.names.iter().all(is_attached), "{publish:?}");
                running.published.push(publish.clone());
            }
            Change::Unreserve { address, .. } => {
                let before = running.reserved.len();
                running.reserved.retain(|(reserved, _)| reserved != address);
                assert_eq!(running.reserved.len(), before - 1, "{address} is not reserved");
            }
            Change::Reserve { address, holder } => {
                running.network.check(*address).unwrap();
                for (reserved, other) in &running.reserved {
                    assert!(reserved != address && other != holder, "{address} for {holder}");
                }
                let is_its = |container: &Container| container.name == *holder || container.mac == *holder;
                assert!(!running.containers.iter().any(|container| container.ip == *address && !is_its(container)), "{address}");
                running.reserved.push((*address, holder.clone()));
                running.reserved.sort_unstable();
            }
            Change::Set { name, to, .. } => {
                let container = running.containers.iter_mut().find(|container| container.name == *name).unwrap();
                let mac = container.mac.parse().unwrap();
                let is = port_config(mac, &container.settings).unwrap();
                container.settings = settings::describe(&settings::apply(&is, mac, to).unwrap());
            }
            Change::Attach(wanted) => {
                let row = attached(wanted, &running);
                for other in &running.containers {
                    assert!(other.name != row.name && other.netns != row.netns && other.ip != row.ip && other.mac != row.mac);
                }
                running.containers.push(row);
            }
        }
    }
    running
}

fn attached(wanted: &Wanted, running: &Running) -> Container {
    let mut ipam = Ipam::new(running.network.gateway().address, running.network.prefix());
    for other in &running.containers {
        ipam.hold(other.ip, Holder::Name(other.name.clone()), None);
    }
    for (address, text) in &running.reserved {
        ipam.reserve(
            *address,
            &[holder(text).unwrap(), ipam.get(*address).map_or_else(|| holder(text).unwrap(), |(at, _)| at.clone())],
        )
        .unwrap();
    }
    let holders: Vec<Holder> =
        [Some(Holder::Name(wanted.name.clone())), wanted.mac.map(Holder::Mac)].into_iter().flatten().collect();
    let ip = wanted.ip.unwrap_or_else(|| ipam.choose(&holders).unwrap());
    ipam.check(ip, &holders).unwrap();
    let mac = wanted.mac.unwrap_or_else(|| UnicastMac::for_ipv4(ip.octets()));
    let namespace = wanted.namespace.to_string();
    Container {
        name: wanted.name.clone(),
        port: 1,
        r#type: wanted.kind,
        ip,
        prefix: 20,
        ip6: running.network.ip6(ip),
        prefix6: 64,
        mac: mac.to_string(),
        ifname: wanted.ifname.clone(),
        mtu: wanted.mtu,
        netns: namespace.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap(),
        reach: crate::api::types::Reach::Path("/r".into()),
        namespace,
        vlan: String::new(),
        settings: settings::describe(&port_config(mac, &wanted.settings).unwrap()),
    }
}

const THREE: &str = r#"
[network]
ageing = 60
[container.a]
namespace = "n1"
vlan = 10
[container.b]
namespace = "n2"
ip = "10.88.0.2"
[container.c]
namespace = "/n3"
type = "veth"
trunk = "10,20"
"#;

const RESERVED: &str = r#"
[reservations]
"10.88.0.2" = "a"
"10.88.0.7" = "b"
"10.88.0.8" = "52:54:00:00:00:01"
"10.88.0.9" = "nobody"
[container.a]
namespace = "n1"
[container.b]
namespace = "n2"
"#;

/// Files of which each can follow each.
const FILES: [&str; 17] = [
    "",
    THREE,
    "[container.a]\nnamespace = \"n1\"",
    "[container.a]\nnamespace = \"n1\"\nip = \"10.88.0.2\"",
    "[container.a]\nnamespace = \"n1\"\nip = \"10.88.0.2\"\nmac = \"02:00:00:00:00:01\"\nguard = false\nstorm-broadcast = false",
    "[container.a]\nnamespace = \"n2\"\n[container.b]\nnamespace = \"n1\"\nip = \"10.88.0.9\"",
    "[container.a]\nnamespace = \"n1\"\ntrunk = \"10,20\"\nnative = 5\nmtu = 9000\n[network]\nageing = 90\ngroup-forward = \"0\"",
    "[container.d]\nnamespace = \"n3\"\nip = \"10.88.0.3\"\nisolated = true\nlearn = false\n[container.b]\nnamespace = \"n1\"\nip = \"10.88.0.4\"",
    "[container.a]\nnamespace = \"n1\"\ntrunk = \"7\"\nguard = true\nifname = \"net0\"\ntpid = \"802.1ad\"\nfdb-limit = 9",
    OUTSIDE,
    "[uplink]\ntype = \"none\"\n[container.a]\nnamespace = \"n1\"\n[publish]\n\"8080-8081:80-81\" = [\"a\"]",
    "[uplink]\ntype = \"packet\"\ninterface = \"eth0\"\ndhcp = true\nip = \"2001:db8::2/64\"\ngateway = \"fe80::1\"",
    "[uplink]\ntype = \"packet\"\ninterface = \"eth0\"\nip = \"198.51.100.3/24\"\nmac = \"02:00:00:00:00:07\"\n\
     [container.b]\nnamespace = \"n1\"\n[publish]\n\"192.0.2.1:8080:80\" = \"b\"\n\"192.0.2.2:8080:80\" = { to = \"b\", from = \"10.0.0.0/8\" }",
    RESERVED,
    "[reservations]\n\"10.88.0.7\" = \"a\"\n\"10.88.0.2\" = \"b\"\n\"10.88.0.9\" = \"52:54:00:00:00:01\"",
    "[reservations]\n\"10.88.0.2\" = \"02:00:00:00:00:01\"\n[container.a]\nnamespace = \"n1\"\nmac = \"02:00:00:00:00:01\"\n\
     [container.b]\nnamespace = \"n2\"",
    "[reservations]\n\"10.88.0.3\" = \"a\"\n\"10.88.0.4\" = \"b\"\n[container.a]\nnamespace = \"n2\"\nip = \"10.88.0.3\"\n\
     [container.b]\nnamespace = \"/n1\"\nip = \"10.88.0.2\"",
];

const OUTSIDE: &str = r#"
[uplink]
type = "packet"
interface = "eth0"
ip = ["198.51.100.2/24", "2001:db8::2/64"]
gateway = "198.51.100.1"
[publish]
"8080:80" = "a"
"53:53/udp" = { to = ["b", "a"], from = ["192.0.2.0/24", "2001:db8::/32"] }
[container.a]
namespace = "n1"
[container.b]
namespace = "n2"
"#;

#[test]
fn a_plan_carried_out_leaves_nothing_to_change() {
    let mut changes = 0;
    for first in FILES {
        for second in FILES {
            let one = carried_out(&planned(first, None, true).unwrap(), None);
            assert_eq!(planned(first, Some(&one), true).unwrap().changes, [], "{first}");
            let plan = planned(second, Some(&one), true).unwrap();
            let two = carried_out(&plan, Some(&one));
            assert_eq!(planned(second, Some(&two), true).unwrap().changes, [], "{first}\nthen{second}\nby\n{plan}");
            changes += plan.changes.len();
            // And what is written of it is the same.
            let text = crate::config::write(&two).unwrap();
            let written = parse("-", text.as_bytes()).unwrap();
            assert_eq!(plan_of(&written, &two), "nothing to change\n", "{text}");
        }
    }
    assert!(changes > 100, "{changes}");
}

fn plan_of(config: &Config, running: &Running) -> String {
    plan(config, Some(running), &found(config), true).unwrap().to_string()
}

#[test]
fn the_diff_has_a_line_for_each_change() {
    let plan = planned(THREE, None, false).unwrap();
    assert_eq!(
        plan.to_string(),
        "+ switch: start, ageing=60\n+ b: namespace n2, ip 10.88.0.2\n+ a: namespace n1, vlan=10\n\
         + c: namespace /n3, type veth, trunk=10,20, guard=off, ip-guard=off\n"
    );
    let running = carried_out(&plan, None);
    let show = |text: &str, prune| planned(text, Some(&running), prune).unwrap().to_string();
    assert_eq!(show(THREE, true), "nothing to change\n");
    assert_eq!(show(&THREE.replace("vlan = 10\n", "vlan = 20\n"), true), "~ a: vlan=10 -> vlan=20\n");
    assert_eq!(show(&THREE.replace("vlan = 10\n", ""), true), "~ a: vlan=10 -> vlan=1\n", "not written is default");
    assert_eq!(show(&THREE.replace("ageing = 60", ""), true), "nothing to change\n", "but of the switch");
    assert_eq!(
        show(&THREE.replace("ageing = 60", "ageing = 61\ngroup-forward = \"2\""), true),
        "~ switch: ageing=60 group-forward=off -> ageing=61 group-forward=2\n"
    );
    assert_eq!(
        show(&THREE.replace("vlan = 10\n", "trunk = \"5\"\nnative = 6\n"), true),
        "~ a: vlan=10 guard=on ip-guard=on -> trunk=5 native=6 guard=off ip-guard=off\n"
    );
    assert_eq!(
        show(&THREE.replace("ip = \"10.88.0.2\"", "ip = \"10.88.0.9\""), true),
        "- b: ip 10.88.0.2 -> 10.88.0.9\n+ b: namespace n2, ip 10.88.0.9\n"
    );
    assert_eq!(
        show(&THREE.replace("type = \"veth\"", "mtu = 9000"), true),
        "- c: type veth -> tap, mtu 1500 -> 9000\n\
         + c: namespace /n3, ip 10.88.0.4, mac 02:58:0a:58:00:04, mtu 9000, trunk=10,20, guard=off, ip-guard=off\n",
        "it keeps its addresses"
    );
    assert_eq!(show("", false), "nothing to change\n");
    assert_eq!(show("", true), "- a: not in the file\n- b: not in the file\n- c: not in the file\n");
    // An address that the file gives to another is left to it.
    let taken = format!("{THREE}ip = \"10.88.0.3\"\n");
    assert_eq!(
        show(&taken, true),
        "- a: ip 10.88.0.3 is for c\n- c: ip 10.88.0.4 -> 10.88.0.3\n\
         + c: namespace /n3, type veth, ip 10.88.0.3, trunk=10,20, guard=off, ip-guard=off\n+ a: namespace n1, vlan=10\n"
    );
    // The same name, made anew.
    let mut other = running.clone();
    other.containers.iter_mut().find(|container| container.name == "b").unwrap().netns = 77;
    let plan = planned(THREE, Some(&other), true).unwrap().to_string();
    assert!(plan.starts_with("- b: namespace n2 as it was -> as it is now\n+ b: "), "{plan}");
}

#[test]
fn the_uplink_and_published_ports_have_a_line_for_each_change() {
    let plan = planned(OUTSIDE, None, false).unwrap();
    assert_eq!(
        plan.to_string(),
        "+ switch: start\n+ a: namespace n1\n+ b: namespace n2\n\
         ~ uplink: none -> packet eth0, ip 198.51.100.2/24, ip 2001:db8::2/64, gateway 198.51.100.1\n\
         + publish 53:53/udp: to a, b, from 192.0.2.0/24, from 2001:db8::/32\n+ publish 8080:80/tcp: to a\n"
    );
    let running = carried_out(&plan, None);
    let show = |text: &str, prune| planned(text, Some(&running), prune).unwrap().to_string();
    assert_eq!(show(OUTSIDE, true), "nothing to change\n");
    let other_order = OUTSIDE.replace("[\"b\", \"a\"]", "[\"a\", \"b\"]").replace("8080:80", "8080:80/tcp");
    assert_eq!(show(&other_order, true), "nothing to change\n");
    let without = OUTSIDE.replace("\"8080:80\" = \"a\"\n", "");
    assert_eq!(show(&without, false), "nothing to change\n", "it stays");
    assert_eq!(show(&without, true), "- publish 8080:80/tcp: not in the file\n");
    assert_eq!(
        show(&OUTSIDE.replace("\"8080:80\" = \"a\"", "\"8080:81\" = \"b\""), false),
        "- publish 8080:80/tcp: other in the file\n+ publish 8080:81/tcp: to b\n"
    );
    assert_eq!(show("[uplink]\ntype = \"none\"", false).lines().last().unwrap().split(" -> ").last(), Some("none"));
    let moved = show(&OUTSIDE.replace("gateway = \"198.51.100.1\"", "gateway = \"198.51.100.9\""), false);
    assert!(moved.starts_with("~ uplink: packet eth0, ip") && moved.ends_with("2001:db8::2/64, gateway 198.51.100.9\n"), "{moved}");
    // Whose container is attached again is published again, in the file or not.
    let again = "[container.a]\nnamespace = \"n1\"\nmtu = 9000";
    let plan = planned(again, Some(&running), false).unwrap();
    let shown = plan.to_string();
    assert!(
        shown.starts_with("- publish 53:53/udp: until all is attached\n- publish 8080:80/tcp: until all is attached\n- a: "),
        "{shown}"
    );
    let mut left = carried_out(&plan, Some(&running)).published;
    left.sort_by(|one, other| one.spec.cmp(&other.spec));
    assert_eq!(left, running.published);
}

#[test]
fn reserved_addresses_have_a_line_for_each_change() {
    let plan = planned(RESERVED, None, false).unwrap();
    let reserve = "+ reserve 10.88.0.2: for a\n+ reserve 10.88.0.7: for b\n+ reserve 10.88.0.8: for 52:54:00:00:00:01\n\
                   + reserve 10.88.0.9: for nobody\n";
    assert_eq!(plan.to_string(), format!("+ switch: start\n{reserve}+ a: namespace n1\n+ b: namespace n2\n"));
    let running = carried_out(&plan, None);
    let addresses: Vec<_> = running.containers.iter().map(|container| container.ip.to_string()).collect();
    assert_eq!(addresses, ["10.88.0.2", "10.88.0.7"], "reserved first, then attached");
    let show = |text: &str, prune| planned(text, Some(&running), prune).unwrap().to_string();
    assert_eq!(show(RESERVED, true), "nothing to change\n");
    let without = RESERVED.replace("\"10.88.0.9\" = \"nobody\"\n", "");
    assert_eq!(show(&without, false), "nothing to change\n", "it stays");
    assert_eq!(show(&without, true), "- reserve 10.88.0.9: not in the file\n");
    assert_eq!(show("", false), "nothing to change\n");
    // Another holder; and the holder elsewhere, which has one only.
    assert_eq!(
        show("[reservations]\n\"10.88.0.9\" = \"52:54:00:00:00:01\"", false),
        "- reserve 10.88.0.8: 52:54:00:00:00:01 has 10.88.0.9 in the file\n- reserve 10.88.0.9: other in the file\n\
         + reserve 10.88.0.9: for 52:54:00:00:00:01\n"
    );
    // Who may have another address leaves the one that is for somebody else, and gets its own.
    assert_eq!(
        show(&RESERVED.replace("\"a\"", "\"x\"").replace("\"b\"", "\"a\""), false),
        "- reserve 10.88.0.2: other in the file\n- reserve 10.88.0.7: other in the file\n- a: ip 10.88.0.2 is for x\n\
         - b: ip 10.88.0.7 is for a\n+ reserve 10.88.0.2: for x\n+ reserve 10.88.0.7: for a\n+ a: namespace n1\n+ b: namespace n2\n"
    );
    // For the hardware address of who has it, it may stay there.
    assert_eq!(
        show("[reservations]\n\"10.88.0.2\" = \"02:58:0a:58:00:02\"\n[container.a]\nnamespace = \"n1\"", false),
        "- reserve 10.88.0.2: other in the file\n+ reserve 10.88.0.2: for 02:58:0a:58:00:02\n"
    );
}

#[test]
fn what_has_no_namespace_is_let_be() {
    let running = carried_out(&planned(THREE, None, false).unwrap(), None);
    let config = config(&THREE.replace("vlan = 10\n", "vlan = 20\n"));
    let plan = plan(&config, Some(&running), &BTreeMap::new(), true).unwrap();
    assert_eq!(plan.to_string(), "nothing to change\n");
}

#[test]
fn what_cannot_be_is_an_error_at_its_place() {
    let running = carried_out(&planned(THREE, None, false).unwrap(), None);
    for (text, start, part) in [
        (
            "[network]\nsubnet = \"10.89.0.0/20\"",
            "3:10: ",
            "subnet is 10.88.0.0/20 and cannot change while the switch runs: \"vswitch down\" first",
        ),
        ("[network]\ngateway = \"10.88.0.9\"", "3:11: ", "gateway is 10.88.0.1 and cannot"),
        ("[network]\nfdb-limit = 16", "3:13: ", "fdb-limit is 65536 and cannot"),
        ("[network]\nworkers = 2", "3:11: ", "workers is 1 and cannot"),
        (
            "[container.x]\nnamespace = \"n9\"\nip = \"10.89.0.1\"",
            "4:6: ",
            "ip 10.89.0.1 is outside network default (10.88.0.0/20): choose",
        ),
        ("[container.x]\nnamespace = \"n9\"\nip = \"10.88.0.1\"", "4:6: ", "is the gateway's"),
        ("[container.x]\nnamespace = \"/n1\"", "3:13: ", "this namespace is attached as a already: \"vswitch detach a\" first"),
        ("[container.x]\nnamespace = \"n9\"\nip = \"10.88.0.2\"", "4:6: ", "this ip is attached as b already"),
        ("[container.x]\nnamespace = \"n9\"\nmac = \"02:58:0a:58:00:02\"", "4:7: ", "this mac is attached as b already"),
        (
            "[container.x]\nnamespace = \"n9\"\n[container.y]\nnamespace = \"/n9\"",
            "5:13: ",
            "this is the namespace of container x too",
        ),
    ] {
        let error = planned(text, Some(&running), false).unwrap_err().to_string();
        assert!(error.starts_with(&format!("net.toml:{start}")) && error.contains(part), "{text}\n{error}");
    }
    let running = carried_out(&planned(OUTSIDE, None, false).unwrap(), None);
    for (text, start, part) in [
        ("[publish]\n\"9090:80\" = \"c\"", "3:13: ", "there is no container \"c\" in the file or attached: "),
        ("[publish]\n\"8079-8080:80-81\" = \"a\"", "3:1: ", "port 8080 is published to a already"),
        (
            "[uplink]\ntype = \"packet\"\ninterface = \"eth0\"\nip = \"10.88.0.9/24\"",
            "5:6: ",
            "10.88.0.9 is in the containers' network default (10.88.0.0/20): ",
        ),
        (
            "[uplink]\ntype = \"packet\"\ninterface = \"eth0\"\nip = \"198.51.100.2/24\"\ngateway = \"203.0.113.1\"",
            "6:11: ",
            "gateway 203.0.113.1 is on no link of --ip: ",
        ),
    ] {
        let error = planned(text, Some(&running), false).unwrap_err().to_string();
        assert!(error.starts_with(&format!("net.toml:{start}")) && error.contains(part), "{text}\n{error}");
    }
    let mut running = carried_out(&planned(RESERVED, None, false).unwrap(), None);
    let (address, mac) = (Ipv4Addr::new(10, 88, 0, 20), "52:54:00:00:00:02".to_owned());
    running.leased.push(crate::api::leases::Leased { address, mac, container: "b".into(), seconds: 9 });
    for (text, start, part) in [
        ("[reservations]\n\"10.89.0.1\" = \"x\"", "3:1: ", "ip 10.89.0.1 is outside network default (10.88.0.0/20): choose"),
        ("[reservations]\n\"10.88.0.1\" = \"x\"", "3:1: ", "is the gateway's"),
        ("[reservations]\n\"10.88.0.2\" = \"x\"", "3:1: ", "this address is attached as a already: \"vswitch detach a\" first"),
        ("[reservations]\n\"10.88.0.20\" = \"x\"", "3:1: ", "10.88.0.20 is taken by 52:54:00:00:00:02: "),
        ("[container.x]\nnamespace = \"n9\"\nip = \"10.88.0.9\"", "4:6: ", "ip 10.88.0.9 is reserved for nobody: choose another"),
    ] {
        let error = planned(text, Some(&running), false).unwrap_err().to_string();
        assert!(error.starts_with(&format!("net.toml:{start}")) && error.contains(part), "{text}\n{error}");
    }
    assert!(planned("[reservations]\n\"10.88.0.20\" = \"52:54:00:00:00:02\"", Some(&running), false).is_ok(), "its own");
    running.reserved = (0..4_096).map(|bits| (Ipv4Addr::from_bits(0x0a58_0100 + bits), format!("h{bits}"))).collect();
    let error = planned("[reservations]\n\"10.88.0.20\" = \"x\"", Some(&running), false).unwrap_err().to_string();
    assert!(error.starts_with("net.toml:3:1: there are 4096 reservations already: "), "{error}");
    // Nothing runs, but the file says the subnet.
    let text = "[network]\nsubnet = \"10.9.0.0/24\"\n[container.x]\nnamespace = \"n9\"\nip = \"10.89.0.1\"";
    assert!(planned(text, None, false).unwrap_err().to_string().starts_with("net.toml:6:6: ip 10.89.0.1 is outside"));
    assert_eq!(Kind::Tap, config(text).containers[0].wanted.kind);
}
