//! IPv6 as containers see it, as root, with the tools that users have: configured by the kernel from router advertisements, on either uplink.
mod common;

use common::outside::{OURS, ROUTER, World};
use common::sockets::{AT_ONCE, FAR, FAR6, HOST, HOST6, Realm, at, nginx, refusal, sysctl};
use common::{Switch, TestNs, has, inside, inside_ok, ip, iperf, ping, privileged, wait_for};
use serde_json::Value;
use std::net::Ipv6Addr;
use std::path::Path;
use std::time::Instant;

/// A router behind the packet uplink, our address there, and a host behind it.
const ROUTER6: &str = "2001:db8::1";
const OURS6: &str = "2001:db8::2";
const FURTHER6: &str = "2001:db8:9::1";

/// Leaves an interface that attach configured to its kernel, as one that is not configured would be.
fn let_configure_itself(ns: &TestNs) {
    ip(&["-n", &ns.name, "address", "flush", "dev", "eth0"]);
    // The neighbour that attach entered would hide that the router is found.
    ip(&["-n", &ns.name, "-6", "neighbour", "flush", "dev", "eth0", "nud", "permanent"]);
    for setting in ["accept_ra=1", "accept_dad=0"] {
        sysctl(ns, &format!("net.ipv6.conf.eth0.{setting}"));
    }
    ip(&["-n", &ns.name, "link", "set", "eth0", "down"]);
    ip(&["-n", &ns.name, "link", "set", "eth0", "up"]);
}

/// Its global addresses, and its default routes.
fn global(ns: &TestNs) -> (Vec<Ipv6Addr>, Vec<String>) {
    let links: Value =
        serde_json::from_str(&ip(&["-n", &ns.name, "-6", "-j", "address", "show", "dev", "eth0", "scope", "global"])).unwrap();
    let rows = links.as_array().unwrap().iter().filter_map(|link| link["addr_info"].as_array()).flatten();
    let addresses = rows.filter_map(|row| row["local"].as_str()?.parse().ok()).collect();
    let routes = ip(&["-n", &ns.name, "-6", "route", "show", "default"]);
    (addresses, routes.lines().map(Into::into).collect())
}

fn wait_for_route(ns: &TestNs, there: bool) {
    wait_for("the default route", || global(ns).1.is_empty() != there);
}

fn gateway6(switch: &Switch) -> Ipv6Addr {
    switch.json(&["show"])["gateway6"].as_str().unwrap().split_once('/').unwrap().0.parse().unwrap()
}

fn network_of(address: Ipv6Addr) -> u128 {
    address.to_bits() >> 64
}

/// How curl -6 fails, which must be at once.
fn curl_fails(ns: &TestNs, url: &str) -> String {
    let start = Instant::now();
    let output = inside(ns, &["curl", "-6", "-sv", "-m", "10", url]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && start.elapsed() < AT_ONCE, "{:?}: {said}", start.elapsed());
    said
}

#[test]
fn a_kernel_configures_itself_by_advertisements() {
    let Some(realm) = Realm::new("6auto", &["curl", "nginx", "iperf3", "traceroute"]) else { return };
    let Some(()) = has(&["rdisc6"]) else { return };
    let (auto, fixed) = (realm.attach("auto"), realm.attach("fixed"));
    let gateway = gateway6(&realm.switch);
    let_configure_itself(&auto.ns);
    wait_for_route(&auto.ns, true);
    let (addresses, routes) = global(&auto.ns);
    assert_eq!((addresses.len(), routes.len()), (1, 1), "{addresses:?} {routes:?}");
    assert_eq!(network_of(addresses[0]), network_of(gateway));
    // RFC 4861 4.2: the router is known by its link-local address.
    assert!(routes[0].contains("via fe80::") && routes[0].contains("proto ra"), "{routes:?}");
    // What attach configured has heard the same, and is as it was.
    let row = realm.switch.json(&["inspect", "fixed"]);
    let (addresses, routes) = global(&fixed.ns);
    assert_eq!(addresses, [row["ip6"].as_str().unwrap().parse::<Ipv6Addr>().unwrap()]);
    assert!(routes.len() == 1 && routes[0].contains(&format!("via {gateway}")), "{routes:?}");

    let said = inside_ok(&auto.ns, &["rdisc6", "-1", "eth0"]);
    let part = |words: &str| said.split_whitespace().collect::<Vec<_>>().join(" ").contains(words);
    for words in [
        "Stateful address conf. : No",
        "Stateful other conf. : Yes",
        "Router lifetime : 1800",
        "On-link : Yes",
        "Autonomous address conf.: Yes",
        "MTU : 1500 bytes",
        &format!("Recursive DNS server : {gateway}"),
        "DNS search list : vswitch.internal",
        "Source link-layer address: 02:58:0A:4D:00:01",
    ] {
        assert!(part(words), "{words}: {said}");
    }

    ping(&auto.ns, &gateway.to_string());
    ping(&auto.ns, FAR6);
    ping(&auto.ns, row["ip6"].as_str().unwrap());
    let files = tempfile::tempdir().unwrap();
    let _server = nginx(&realm.outside, files.path(), b"hello");
    assert_eq!(inside_ok(&auto.ns, &["curl", "-6", "-sS", "-m", "10", &format!("http://[{FAR6}]/page")]), "hello");
    let octets = iperf(&auto.ns, &realm.outside, FAR6);
    assert!(octets.iter().all(|octets| *octets > 10_000_000), "{octets:?}");
    let hops = inside_ok(&auto.ns, &["traceroute", "-6", "-n", "-q", "1", "-w", "2", "-m", "4", FAR6]);
    let hops: Vec<&str> = hops.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(hops, [gateway.to_string().as_str(), FAR6]);
    realm.end();
}

/// RFC 8415 18.3.6: by the client that Debian's ifupdown runs.
#[test]
fn a_dhcpv6_client_gets_its_information() {
    let Some(realm) = Realm::new("6info", &[]) else { return };
    let Some(()) = has(&["dhclient"]) else { return };
    let auto = realm.attach("auto");
    let_configure_itself(&auto.ns);
    wait_for_route(&auto.ns, true);
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let script = file("script");
    std::fs::write(&script, format!("#!/bin/sh\nenv >> {}\n", file("said"))).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (pid, leases) = (file("pid"), file("leases"));
    let args =
        ["timeout", "20", "dhclient", "-6", "-S", "-1", "-sf", &script, "-pf", &pid, "-lf", &leases, "-cf", "/dev/null", "eth0"];
    inside_ok(&auto.ns, &args);
    let said = || std::fs::read_to_string(file("said")).unwrap_or_default();
    wait_for("information", || said().contains("new_dhcp6_name_servers"));
    let gateway = gateway6(&realm.switch);
    assert!(said().contains(&format!("new_dhcp6_name_servers={gateway}\n")), "{}", said());
    assert!(said().contains("new_dhcp6_domain_search=vswitch.internal."), "{}", said());
    // It stays to ask again; it is this test's, by its file.
    let running = std::fs::read_to_string(&pid).unwrap();
    inside_ok(&auto.ns, &["kill", running.trim()]);
    realm.end();
}

/// A host whose IPv6 goes, and comes back.
#[test]
fn without_a_way_containers_are_refused_at_once() {
    let Some(realm) = Realm::new("6none", &["curl"]) else { return };
    let (auto, fixed) = (realm.attach("auto"), realm.attach("fixed"));
    let_configure_itself(&auto.ns);
    wait_for_route(&auto.ns, true);
    let url = format!("http://[{FURTHER6}]/");
    ip(&["-n", &realm.host.name, "-6", "route", "del", "default"]);
    wait_for_route(&auto.ns, false);
    for ns in [&auto.ns, &fixed.ns] {
        let said = curl_fails(ns, &url);
        assert!(said.contains("unreachable"), "{said}");
        assert_eq!(refusal(ns, at(FURTHER6, 80)), libc::ENETUNREACH);
    }
    assert_eq!(realm.logged("IPv6 leads nowhere"), 1);
    // What is on the host's link is reached nevertheless, by the way that attach set.
    ping(&fixed.ns, FAR6);
    ip(&["-n", &realm.host.name, "-6", "route", "add", "default", "via", FAR6]);
    wait_for_route(&auto.ns, true);
    ping(&auto.ns, FAR6);
    // None at all.
    sysctl(&realm.host, "net.ipv6.conf.all.disable_ipv6=1");
    wait_for_route(&auto.ns, false);
    for ns in [&auto.ns, &fixed.ns] {
        let said = curl_fails(ns, &url);
        assert!(said.contains("unreachable"), "{said}");
    }
    realm.end();
}

/// Fetches the page from a published port, and says who asked for it by the server's log.
fn asked_by(client: &TestNs, url: &str, files: &Path) -> String {
    let log = files.join("access");
    std::fs::write(&log, "").unwrap();
    assert_eq!(inside_ok(client, &["curl", "-sS", "-m", "10", url]), "hello");
    let line = || std::fs::read_to_string(&log).unwrap();
    wait_for("the log", || line().ends_with('\n'));
    line().split_whitespace().next().unwrap().into()
}

#[test]
fn published_ports_of_sockets_in_either_family() {
    let Some(realm) = Realm::new("6pub", &["curl", "nginx"]) else { return };
    let web = realm.attach("web");
    let files = tempfile::tempdir().unwrap();
    let _server = nginx(&web.ns, files.path(), b"hello");
    realm.publish(&["8080:80", "web"]);
    realm.publish(&[&format!("[{HOST6}]:8081:80"), "web"]);
    for (port, host, client) in
        [(8080, HOST[0].to_owned(), FAR[0]), (8080, format!("[{HOST6}]"), FAR6), (8081, format!("[{HOST6}]"), FAR6)]
    {
        assert_eq!(asked_by(&realm.outside, &format!("http://{host}:{port}/page"), files.path()), client);
    }
    assert_eq!(refusal(&realm.outside, at(HOST[0], 8081)), libc::ECONNREFUSED);
    realm.end();
}

#[test]
fn nat66_of_a_packet_uplink() {
    let Some(world) = World::new("6nat", &["curl", "nginx", "iperf3", "traceroute"]) else { return };
    let out = &world.outside;
    ip(&["-n", &out.name, "address", "add", &format!("{ROUTER6}/64"), "dev", "eth0", "nodad"]);
    ip(&["-n", &out.name, "address", "add", &format!("{FURTHER6}/128"), "dev", "lo"]);
    let auto = world.attach("auto");
    let_configure_itself(&auto.ns);
    // The uplink has no IPv6 yet.
    wait_for("an address", || !global(&auto.ns).0.is_empty());
    assert_eq!(global(&auto.ns).1, Vec::<String>::new());
    let set = ["uplink", "set", "packet", world.iface(), "--ip", &format!("{OURS}/24"), "--gateway", ROUTER];
    world.switch.ok(&[&set[..], &["--ip", &format!("{OURS6}/64"), "--gateway", ROUTER6]].concat());
    wait_for_route(&auto.ns, true);
    let gateway = gateway6(&world.switch).to_string();
    wait_for("IPv6 outside", || inside(&auto.ns, &["ping", "-c", "1", "-W", "1", FURTHER6]).output().unwrap().status.success());
    ping(&auto.ns, FURTHER6);
    let hops = inside_ok(&auto.ns, &["traceroute", "-6", "-n", "-q", "1", "-w", "2", "-m", "4", FURTHER6]);
    let hops: Vec<&str> = hops.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(hops, [gateway.as_str(), FURTHER6]);
    let octets = iperf(&auto.ns, out, FURTHER6);
    assert!(octets.iter().all(|octets| *octets > 10_000_000), "{octets:?}");
    let files = tempfile::tempdir().unwrap();
    let server = nginx(out, files.path(), b"hello");
    assert_eq!(asked_by(&auto.ns, &format!("http://[{FURTHER6}]/page"), files.path()), OURS6);
    drop(server);
    // In: what is published leads to the address that attach gives, on all addresses and on one.
    let web = world.attach("web");
    let files = tempfile::tempdir().unwrap();
    let _server = nginx(&web.ns, files.path(), b"hello");
    world.publish(&["8080:80", "web"]);
    world.publish(&[&format!("[{OURS6}]:8081:80"), "web"]);
    for (port, host, client) in
        [(8080, OURS.into(), ROUTER), (8080, format!("[{OURS6}]"), ROUTER6), (8081, format!("[{OURS6}]"), ROUTER6)]
    {
        assert_eq!(asked_by(out, &format!("http://{host}:{port}/page"), files.path()), client);
    }
    world.end();
}

#[test]
fn a_network_without_ipv6() {
    let Some(()) = privileged() else { return };
    let switch = Switch::new();
    switch.ok(&["up", "--subnet", "10.77.0.0/24", "--no-ipv6"]);
    let ns = TestNs::new("6off");
    switch.attach(&[&ns.name, "--name", "web"]);
    let nothing = |ns: &TestNs| {
        assert_eq!(ip(&["-n", &ns.name, "-6", "address", "show", "dev", "eth0"]), "");
        assert_eq!(ip(&["-n", &ns.name, "-6", "route", "show", "dev", "eth0"]), "");
        assert_eq!(refusal(ns, at(FURTHER6, 80)), libc::ENETUNREACH);
    };
    nothing(&ns);
    let show = switch.json(&["show"]);
    assert_eq!((&show["gateway6"], &show["attached"][0]["ip6"]), (&Value::Null, &Value::Null), "{show}");
    assert!(switch.ok(&["show"]).contains("no IPv6"));
    // Who speaks it nevertheless gets no answer, and is counted.
    sysctl(&ns, "net.ipv6.conf.eth0.disable_ipv6=0");
    sysctl(&ns, "net.ipv6.conf.eth0.accept_ra=1");
    sysctl(&ns, "net.ipv6.conf.eth0.accept_dad=0");
    ip(&["-n", &ns.name, "link", "set", "eth0", "down"]);
    ip(&["-n", &ns.name, "link", "set", "eth0", "up"]);
    wait_for("solicitations counted", || switch.drops("gateway-unserved") > 0);
    assert_eq!(global(&ns), (vec![], vec![]));
    let error = switch.fails(1, &["publish", "[::1]:8080:80", "web"]);
    assert!(error.contains("has no IPv6"), "{error}");
    // It is the network's: after a restart, in a file, and after the daemon was killed.
    switch.ok(&["restart"]);
    assert_eq!(switch.json(&["show"])["gateway6"], Value::Null);
    assert!(switch.ok(&["show", "--config"]).contains("\nipv6 = \"off\"\n"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("net.toml");
    std::fs::write(&file, "schema = 1\n[network]\nipv6 = \"local\"\n").unwrap();
    let error = switch.fails(1, &["apply", file.to_str().unwrap()]);
    assert!(error.contains("ipv6") && error.contains("off"), "{error}");
    let old = switch.pid().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(old), nix::sys::signal::Signal::SIGKILL).unwrap();
    wait_for("its end", || !Path::new(&format!("/proc/{old}")).exists());
    switch.ok(&["restore"]);
    assert_eq!(switch.json(&["show"])["gateway6"], Value::Null);
    nothing(&ns);
    switch.assert_balanced();
}

#[test]
fn a_network_of_a_routed_prefix() {
    let Some(()) = privileged() else { return };
    let switch = Switch::new();
    for (prefix, part) in [
        ("x/64", "no IPv6 prefix"),
        ("2001:db8:77::/48", "64 bits"),
        ("2001:db8:77::1/64", "write 2001:db8:77::/64"),
        ("fe80::/64", "no unicast prefix"),
    ] {
        let error = switch.fails(1, &["up", "--prefix6", prefix]);
        assert!(error.contains(part) && error.contains(prefix), "{error}");
    }
    assert_eq!(switch.output(&["up", "--prefix6", "2001:db8:77::/64", "--no-ipv6"]).status.code(), Some(2));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("net.toml");
    std::fs::write(&file, "schema = 1\n[network]\nsubnet = \"10.77.0.0/24\"\nipv6 = \"2001:db8:77::/64\"\n").unwrap();
    switch.ok(&["apply", file.to_str().unwrap()]);
    assert_eq!(switch.ok(&["apply", file.to_str().unwrap()]), "nothing to change\n");
    assert_eq!(gateway6(&switch).to_string(), "2001:db8:77::1");
    let (fixed, auto) = (TestNs::new("6fix"), TestNs::new("6aut"));
    switch.attach(&[&fixed.name, "--name", "fixed"]);
    switch.attach(&[&auto.name, "--name", "auto"]);
    assert_eq!(global(&fixed).0, ["2001:db8:77::a4d:2".parse::<Ipv6Addr>().unwrap()]);
    let_configure_itself(&auto);
    wait_for("an address", || !global(&auto).0.is_empty());
    assert_eq!(network_of(global(&auto).0[0]), network_of(gateway6(&switch)));
    ping(&auto, "2001:db8:77::a4d:2");
    switch.ok(&["restart"]);
    assert_eq!(gateway6(&switch).to_string(), "2001:db8:77::1");
    ping(&auto, "2001:db8:77::a4d:2");
    switch.assert_balanced();
}
