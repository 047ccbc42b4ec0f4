use super::*;
use crate::args::{Args, Verb};
use crate::settings::Unregistered;
use clap::Parser;

fn parsed(text: &str) -> Result<Config> {
    parse("net.toml", text.as_bytes())
}

const ALL: &str = r#"
schema = 1

[network]
subnet = "10.10.1.0/24"
gateway = "10.10.1.254"
ageing = 60
fdb-limit = 1_000
group-forward = "2,0"

[container.web]
namespace = "ns1"
type = "veth"
ip = "10.10.1.1"
mac = "02:00:00:00:00:01"
mtu = 9000
ifname = "net0"
vlan = 10
isolated = true
storm-broadcast = false
storm-unknown = 1000

[container."db.1"]
namespace = "pid:12"
native = 5
trunk = "10,20-29"

[container.cache]
namespace = "/some/path"

[container.host]
namespace = "--host"

[uplink]
type = "packet"
interface = "eth0"
ip = "198.51.100.2/24"
dhcp = false
gateway = ["198.51.100.1", "fe80::1"]
mac = "02:00:00:00:00:05"

[publish]
"8080:80" = "web"
"53:53/udp" = { to = ["web", "db.1"], from = "192.0.2.0/24" }

[reservations]
"10.10.1.9" = "db.1"
"10.10.1.10" = "52:54:00:00:00:0A"
"#;

#[test]
fn a_whole_file() {
    let config = parsed(ALL).unwrap();
    let network = &config.network;
    assert_eq!(network.subnet.as_ref().unwrap().value, "10.10.1.0/24");
    assert_eq!(network.gateway.as_ref().unwrap().value, Ipv4Addr::new(10, 10, 1, 254));
    assert_eq!((network.ageing, network.fdb_limit.as_ref().unwrap().value), (Some(60), 1_000));
    assert_eq!(network.group_forward.as_deref(), Some("0,2"));
    let [cache, db, host, web] = config.containers.try_into().unwrap();
    assert_eq!(
        web.wanted,
        Wanted {
            name: "web".into(),
            namespace: NsSpec::Name("ns1".into()),
            kind: Kind::Veth,
            ip: Some(Ipv4Addr::new(10, 10, 1, 1)),
            mac: Some("02:00:00:00:00:01".parse().unwrap()),
            mtu: 9_000,
            ifname: "net0".into(),
            settings: ["isolated=on", "storm-broadcast=off", "storm-unknown=1000", "vlan=10"].map(Into::into).into(),
        }
    );
    assert_eq!(db.wanted.name, "db.1");
    assert_eq!(db.wanted.settings, ["trunk=10,20-29", "native=5", "guard=off", "ip-guard=off"], "in the order that set needs");
    assert_eq!(cache.wanted, Wanted::new("cache", NsSpec::Path("/some/path".into())), "the rest is default");
    assert_eq!((host.wanted.namespace, host.wanted.ifname.as_str()), (NsSpec::Host, "vswitch0"));
    let uplink = config.uplink.unwrap().wanted;
    let said = "packet eth0, ip 198.51.100.2/24, gateway 198.51.100.1, gateway fe80::1, mac 02:00:00:00:00:05";
    assert_eq!(uplink.to_string(), said);
    let published: Vec<_> = config.published.iter().map(|entry| (entry.spec.to_string(), entry.names.len(), &entry.from)).collect();
    assert_eq!(published, [("53:53/udp".into(), 2, &vec!["192.0.2.0/24".into()]), ("8080:80/tcp".into(), 1, &vec![])]);
    let reserved: Vec<_> = config.reserved.iter().map(|entry| (entry.address.to_string(), entry.holder.as_str())).collect();
    assert_eq!(reserved, [("10.10.1.10".into(), "52:54:00:00:00:0a"), ("10.10.1.9".into(), "db.1")]);
    let empty = parsed("schema = 1").unwrap();
    assert!(empty.uplink.is_none() && empty.published.is_empty() && empty.reserved.is_empty());
    assert!(empty.containers.is_empty() && empty.network.subnet.is_none());
}

#[test]
fn what_is_default_is_what_attach_has() {
    let Verb::Attach(attach) = Args::try_parse_from(["vswitch", "attach", "ns1"]).unwrap().verb else { panic!() };
    let wanted = Wanted::new("web", NsSpec::Name("ns1".into()));
    assert_eq!((attach.plug.kind, attach.plug.mtu, attach.plug.ifname), (wanted.kind, wanted.mtu, None));
}

#[test]
fn a_container_is_attached_by_a_command_line() {
    for entry in parsed(ALL).unwrap().containers {
        let (wanted, words) = (entry.wanted.clone(), entry.wanted.words());
        let args = Args::try_parse_from(["vswitch".into()].into_iter().chain(words)).unwrap();
        let Verb::Attach(attach) = args.verb else { panic!() };
        let ns = attach.ns.map_or(NsSpec::Host, |ns| NsSpec::parse(&ns).unwrap());
        assert_eq!((ns, attach.host), (wanted.namespace.clone(), wanted.namespace == NsSpec::Host));
        let again = Wanted {
            name: attach.plug.name.unwrap(),
            namespace: wanted.namespace,
            kind: attach.plug.kind,
            ip: attach.plug.ip,
            mac: attach.plug.mac,
            mtu: attach.plug.mtu,
            ifname: attach.plug.ifname.unwrap(),
            settings: attach.plug.set,
        };
        assert_eq!(again, entry.wanted);
    }
}

#[test]
fn a_relative_path_is_of_the_current_directory() {
    let config = parsed("schema = 1\n[container.a]\nnamespace = \"./ns\"\n").unwrap();
    let NsSpec::Path(path) = &config.containers[0].wanted.namespace else { panic!() };
    assert_eq!(*path, std::env::current_dir().unwrap().join("ns"));
}

#[test]
fn errors_say_where() {
    let web = |more: &str| format!("schema = 1\n[container.web]\nnamespace = \"ns1\"\n{more}\n");
    let packet = |more: &str| format!("schema = 1\n[uplink]\ntype = \"packet\"\ninterface = \"eth0\"\n{more}\n");
    let two = |one: &str, two: &str| format!("schema = 1\n[container.b]\n{one}\n[container.a]\n{two}\n");
    for (text, start, part) in [
        ("", "1:1: ", "no schema is given: write \"schema = 1\""),
        ("schema = 2\nbeyond = \"us\"", "1:10: ", "knows schema 1 only"),
        ("schema = \"1\"", "1:10: ", "knows schema 1 only"),
        ("schema = 1\nschema = 1", "2:1: ", "duplicate key"),
        ("schema = 1\n[network", "2:9: ", "write it as TOML has it"),
        (
            "schema = 1\nnetworks = 1",
            "2:1: ",
            "there is no key \"networks\" here: choose of schema, network, uplink, publish, reservations, container",
        ),
        ("schema = 1\nnetwork = 1", "2:11: ", "this is no table"),
        ("schema = 1\n[network]\nsubnets = 1", "3:1: ", "choose of subnet, gateway, ageing"),
        ("schema = 1\n[network]\nsubnet = 1", "3:10: ", "this is no string"),
        ("schema = 1\n[network]\nsubnet = \"10.0.0.1/24\"", "3:10: ", "subnet 10.0.0.1/24 has bits beyond its length: write"),
        ("schema = 1\n[network]\ngateway = \"10\"", "3:11: ", "write A.B.C.D"),
        (
            "schema = 1\n[network]\nsubnet = \"10.0.0.0/24\"\ngateway = \"10.0.1.1\"",
            "4:11: ",
            "gateway 10.0.1.1 is outside 10.0.0.0/24",
        ),
        ("schema = 1\n[network]\nageing = 1", "3:10: ", "write 10 to 1000000 s"),
        ("schema = 1\n[network]\nworkers = 0", "3:11: ", "write 1 to 16"),
        ("schema = 1\n[network]\nworkers = 17", "3:11: ", "write 1 to 16"),
        ("schema = 1\n[network]\nfdb-limit = 15", "3:13: ", "write 16 to 1048576"),
        ("schema = 1\n[network]\nfdb-limit = 99999999999999999999", "3:13: ", "this is no number"),
        ("schema = 1\n[network]\ngroup-forward = 1", "3:17: ", "PAUSE"),
        ("schema = 1\ncontainer.web = 1", "2:17: ", "this is no table"),
        ("schema = 1\n[container.\"a b\"]\nnamespace = \"x\"", "2:12: ", "\"a b\" cannot be a name"),
        ("schema = 1\n[container.web]\nvlan = 1", "2:12: ", "web has no namespace: write namespace = \"ns1\""),
        ("schema = 1\n[container.web]\nnamespace = \"pid:x\"", "3:13: ", "is no PID"),
        ("schema = 1\n[container.web]\nnamespace = 12", "3:13: ", "this is no string"),
        ("schema = 1\n[uplink]\ninterface = \"eth0\"", "2:2: ", "the uplink has no type: write"),
        ("schema = 1\nuplink = 1", "2:10: ", "this is no table"),
        ("schema = 1\n[uplink]\ntype = \"magic\"", "3:8: ", "there is no uplink \"magic\": choose of packet, none"),
        ("schema = 1\n[uplink]\ntype = \"none\"\nip = \"1.2.3.4/8\"", "4:1: ", "there is no key \"ip\" here: choose of type"),
        (&packet("ips = 1"), "5:1: ", "choose of type, interface, ip, dhcp, gateway, mac"),
        (&packet(""), "2:2: ", "the uplink has no address: write ip = \"A/LEN\" or dhcp = true"),
        ("schema = 1\n[uplink]\ntype = \"packet\"\ndhcp = true", "2:2: ", "the uplink has no interface: write"),
        (&packet("interface = \"a/b\""), "5:1: ", "duplicate key"),
        (&packet("ip = \"198.51.100.2\""), "5:6: ", "ip 198.51.100.2 is no address: write A/LEN"),
        (&packet("ip = [\"198.51.100.2/24\", \"x/24\"]"), "5:26: ", "ip x/24 is no address"),
        (&packet("ip = 5"), "5:6: ", "this is no string"),
        (&packet("dhcp = 1"), "5:8: ", "this is neither true nor false"),
        (&packet("dhcp = true\nip = \"198.51.100.2/24\""), "6:6: ", "dhcp and an IPv4 ip are two ways to set one thing"),
        (&packet("gateway = \"198.51.100.1\"\ndhcp = true"), "5:11: ", "dhcp and an IPv4 gateway are two ways"),
        (&packet("gateway = \"x\""), "5:11: ", "invalid IP address syntax: write"),
        (&packet("mac = \"01:00:5e:00:00:01\""), "5:7: ", "not one station's"),
        ("schema = 1\n[publish]\n\"80\" = \"web\"", "3:1: ", "\"80\" is no published port: write"),
        ("schema = 1\n[publish]\n\"80:80\" = 1", "3:11: ", "this is no string"),
        ("schema = 1\n[publish]\n\"80:80\" = []", "3:1: ", "has 1 to 64 containers"),
        ("schema = 1\n[publish]\n\"80:80\" = [\"a\", \"a\"]", "3:1: ", "\"a\" is named twice"),
        ("schema = 1\n[publish]\n\"80:80\" = { from = \"10.0.0.0/8\" }", "3:1: ", "this is published to nobody"),
        ("schema = 1\n[publish]\n\"80:80\" = { to = \"a\", from = \"x\" }", "3:30: ", "from x is no network"),
        ("schema = 1\n[publish]\n\"80:80\" = { to = \"a\", port = 1 }", "3:23: ", "choose of to, from"),
        ("schema = 1\n[publish]\n\"90:80\" = \"a\"\n\"80-99:80-99\" = \"b\"", "4:1: ", "port 90 is published to a already"),
        ("schema = 1\nreservations = 1", "2:16: ", "this is no table"),
        ("schema = 1\n[reservations]\n10.88.0.9 = \"web\"", "3:1: ", "\"10\" is no address: write \"A.B.C.D\" = \"web\""),
        ("schema = 1\n[reservations]\n\"fd00::1\" = \"web\"", "3:1: ", "\"fd00::1\" is no address: "),
        ("schema = 1\n[reservations]\n\"10.88.0.9\" = [\"web\"]", "3:15: ", "this is no string"),
        ("schema = 1\n[reservations]\n\"10.88.0.9\" = \"a b\"", "3:15: ", "\"a b\" cannot be a name"),
        ("schema = 1\n[reservations]\n\"10.88.0.9\" = \"gateway\"", "3:15: ", "means the gateway itself"),
        ("schema = 1\n[reservations]\n\"10.88.0.9\" = \"52:54:00\"", "3:15: ", "not a MAC address: write six"),
        ("schema = 1\n[reservations]\n\"10.88.0.9\" = \"01:00:5e:00:00:01\"", "3:15: ", "not one station's"),
        ("schema = 1\n[reservations]\n\"10.88.0.9\" = \"a\"\n\"10.88.0.9\" = \"b\"", "4:1: ", "duplicate key"),
        (
            "schema = 1\n[reservations]\n\"10.88.0.9\" = \"02:00:00:00:00:0a\"\n\"10.88.0.10\" = \"02:00:00:00:00:0A\"",
            "4:1: ",
            "02:00:00:00:00:0a has 10.88.0.9 in the file already: leave",
        ),
        (
            &web("ip = \"10.88.0.9\"\n[reservations]\n\"10.88.0.9\" = \"db\""),
            "4:6: ",
            "this ip is reserved for db in the file: choose another",
        ),
        (&web("vlna = 10"), "4:1: ", "there is no key \"vlna\" here: choose of namespace, type, ip, mac, mtu, ifname, vlan, trunk"),
        (&web("vlan = 5000"), "4:8: ", "cannot set vlan=5000: not a VLAN"),
        (&web("vlan = 1.5"), "4:8: ", "this cannot be set: write a number, a string, true or false"),
        (&web("vlan = [1]"), "4:8: ", "this cannot be set"),
        (&web("native = 5"), "4:10: ", "the port is no trunk"),
        (&web("vlan = 1\ntrunk = \"2\""), "4:1: ", "vlan and trunk are two ways to set one thing: leave one out"),
        (&web("isolated = 1"), "4:12: ", "write on or off"),
        (&web("type = \"bridge\""), "4:8: ", "choose of tap, veth"),
        (&web("ip = \"x\""), "4:6: ", "write A.B.C.D"),
        (&web("mac = \"01:00:5e:00:00:01\""), "4:7: ", "not one station's"),
        (&web("mtu = 67"), "4:7: ", "choose 68 to 65521"),
        (&web("mtu = 65536"), "4:7: ", "choose 68 to 65521"),
        ("schema = 1\n[container.h]\nnamespace = \"--host\"\ntype = \"veth\"", "4:8: ", "type veth is for containers"),
        (&web("ifname = \"a/b\""), "4:10: ", "interface name \"a/b\""),
        (&web("# \u{fc}\u{fc}\n\"\u{fc}\" = 1"), "5:1: ", "there is no key"),
        (&web("x = { a = \"\u{fc}\", b = \u{0} }"), "4:", ": "),
        (&two("namespace = \"n\"", "namespace = \"n\""), "5:13: ", "this namespace is that of container b too"),
        (
            &two("namespace = \"n\"\nip = \"10.0.0.1\"", "namespace = \"m\"\nip = \"10.0.0.1\""),
            "7:6: ",
            "this ip is that of container b too",
        ),
        (
            &two("namespace = \"n\"\nmac = \"02:00:00:00:00:0a\"", "namespace = \"m\"\nmac = \"02:00:00:00:00:0A\""),
            "7:7: ",
            "this mac is that of container b too",
        ),
    ] {
        let error = parsed(text).unwrap_err().to_string();
        assert!(error.starts_with(&format!("net.toml:{start}")), "{text}\n{error}\nnot at {start}");
        assert!(error.contains(part) && !error.contains('\n'), "{text}\n{error}\nlacks {part}");
        let (_, why) = error.split_once(": ").unwrap();
        assert!(why.contains(": "), "no remedy: {error}");
    }
    let error = parse("net.toml", b"schema = 1\n# \xff").unwrap_err().to_string();
    assert_eq!(error, "net.toml:2:3: this is not UTF-8: write TOML, which is");
}

/// Whatever is written, an error says where, in one line.
#[test]
fn damaged_files() {
    let mut errors = 0;
    let mut judge = |octets: &[u8]| {
        if let Err(error) = parse("f", octets) {
            let error = error.to_string();
            let mut parts = error.splitn(4, ':');
            let (file, line, column) = (parts.next(), parts.next().unwrap(), parts.next().unwrap());
            assert!(file == Some("f") && line.parse::<u32>().unwrap() > 0 && column.parse::<u32>().unwrap() > 0, "{error}");
            assert!(parts.next().is_some_and(|why| why.contains(": ")), "{error}");
            errors += 1;
        }
    };
    for at in 0..ALL.len() {
        judge(&ALL.as_bytes()[..at]);
        for octet in *b"\"[]=.\n\0\xff9-" {
            let mut damaged = ALL.as_bytes().to_vec();
            damaged[at] = octet;
            judge(&damaged);
        }
    }
    assert!(errors > 1_000, "{errors}");
}

#[test]
fn what_is_written_is_read() {
    let row = |name: &str, host: u8, settings: &[&str]| {
        let mac = UnicastMac::for_ipv4([10, 10, 1, host]);
        let settings: Vec<String> = settings.iter().map(|setting| (*setting).into()).collect();
        Container {
            name: name.into(),
            port: host.into(),
            r#type: Kind::Veth,
            ip: Ipv4Addr::new(10, 10, 1, host),
            prefix: 24,
            ip6: None,
            prefix6: 64,
            mac: mac.to_string(),
            ifname: "eth0".into(),
            mtu: 1_500,
            netns: 1_000 + u64::from(host),
            reach: crate::api::types::Reach::Path("/r".into()),
            namespace: format!("/run/\"odd\\{name}"),
            vlan: String::new(),
            settings: settings::describe(&port_config(mac, &settings).unwrap()),
        }
    };
    let running = Running {
        network: Network::parse("10.10.1.0/24", Some(Ipv4Addr::new(10, 10, 1, 254))).unwrap(),
        ageing: 60,
        fdb_limit: 1_000,
        group_forward: "off".into(),
        spread: Spread { suppress: false, unregistered: Unregistered::Drop },
        workers: Workers(4),
        uplink: None,
        published: Vec::new(),
        reserved: vec![("10.10.1.1".parse().unwrap(), "a".into()), ("10.10.1.2".parse().unwrap(), "02:58:0a:0a:01:02".into())],
        leased: Vec::new(),
        containers: vec![
            row("a", 1, &[]),
            row("b.c", 2, &["vlan=10", "isolated=on", "guard=off", "storm-unknown=off", "storm-broadcast=7"]),
            row("t", 3, &["trunk=10,20-29", "native=5", "tpid=802.1ad"]),
            row("u", 4, &["trunk=10", "guard=off", "learn=off", "fdb-limit=9"]),
            row("v", 5, &["reach=allow:[fd00::/8]:53/udp,deny:10.0.0.0/8,deny:all,allow:host-loopback", "max-flows=9"]),
        ],
    };
    let text = write(&running).unwrap();
    let config = parsed(&text).unwrap();
    assert_eq!(config.network.fdb_limit.as_ref().unwrap().value, 1_000);
    assert_eq!(config.network.workers.as_ref().unwrap().value, Workers(4));
    assert_eq!(config.network.group_forward.as_deref(), Some("off"));
    assert_eq!((config.network.suppress, config.network.unregistered), (Some(false), Some(Unregistered::Drop)));
    assert_eq!(config.containers.len(), running.containers.len());
    let reserved: Vec<_> = config.reserved.iter().map(|entry| (entry.address, entry.holder.clone())).collect();
    assert_eq!(reserved, running.reserved, "for who has it by the one or the other");
    for (entry, container) in config.containers.iter().zip(&running.containers) {
        let mac: UnicastMac = container.mac.parse().unwrap();
        let wanted = &entry.wanted;
        assert_eq!((&wanted.name, wanted.ip, wanted.mac), (&container.name, Some(container.ip), Some(mac)));
        assert_eq!(wanted.namespace.to_string(), container.namespace);
        assert_eq!(settings::describe(&port_config(mac, &wanted.settings).unwrap()), container.settings, "{text}");
    }
    assert!(!text.contains("hairpin"), "what is default is left out:\n{text}");
}
