//! UDP and ICMP journeys with sockets as the uplink, as root, with the tools that users have; and what containers may not reach.
mod common;

use common::outside::within;
use common::sockets::{AT_ONCE, FAR, FAR6, GATEWAY, HOST, HOST6, PATIENCE, Realm, at, dial, echo, listen, pattern, sysctl, udp};
use common::{Background, TestNs, inside, inside_ok, ip, wait_for};
use std::io::Read;
use std::net::UdpSocket;
use std::process::Stdio;
use std::time::{Duration, Instant};

const ANY: &str = "0.0.0.0";
/// Behind the router.
const TARGET: &str = "203.0.113.10";
const TARGET6: &str = "2001:db8:2::10";

#[test]
fn datagrams_of_every_length_come_back() {
    let Some(realm) = Realm::new("suecho", &[]) else { return };
    let inmate = realm.attach("client");
    for (own, far) in [(ANY, FAR[0]), ("::", FAR6)] {
        echo(&realm.outside, at(far, 7));
        let client = udp(&inmate.ns, at(own, 0));
        let mut came = vec![0; 65_536];
        for len in [0, 1, 1_452, 1_453, 1_472, 1_473, 8_000, 60_000, 0, 65_507 - 20] {
            client.send_to(&pattern(len), at(far, 7)).unwrap();
            let (got, from) = client.recv_from(&mut came).unwrap_or_else(|error| panic!("{far}: {len}: {error}"));
            assert!((got, from) == (len, at(far, 7)) && came[..got] == pattern(len), "{far}: {len}");
        }
        // Many in a row: they may come as one.
        for len in [100, 1_400, 3_000] {
            (0..20).for_each(|_| assert_eq!(client.send_to(&pattern(len), at(far, 7)).unwrap(), len));
            for number in 0..20 {
                let got = client.recv(&mut came).unwrap_or_else(|error| panic!("{far}: {len}, {number}: {error}"));
                assert!(got == len && came[..got] == pattern(len), "{far}: {got} of {len}");
            }
        }
    }
    realm.end();
}

#[test]
fn a_closed_port_is_told_at_once() {
    let Some(realm) = Realm::new("suref", &[]) else { return };
    let inmate = realm.attach("client");
    for (own, far) in [(ANY, FAR[0]), ("::", FAR6)] {
        echo(&realm.outside, at(far, 7));
        let client = udp(&inmate.ns, at(own, 0));
        let is_answered = || {
            client.connect(at(far, 7)).unwrap();
            client.send(b"hello").unwrap();
            assert_eq!(client.recv(&mut [0; 9]).unwrap(), 5, "{far}");
        };
        is_answered();
        client.connect(at(far, 9)).unwrap();
        let start = Instant::now();
        client.send(b"hello").unwrap();
        assert_eq!(client.recv(&mut [0; 9]).unwrap_err().raw_os_error(), Some(libc::ECONNREFUSED), "{far}");
        assert!(start.elapsed() < AT_ONCE, "{far}: {:?}", start.elapsed());
        // One that was refused says nothing of another through the same mapping.
        is_answered();
    }
    // Routes of the host, as an error queue tells it (IP_RECVERR 11): not all of it is told without.
    for kind in ["unreachable", "prohibit"] {
        ip(&["-n", &realm.host.name, "route", "add", kind, "192.0.2.1"]);
        let script = "import socket\n\
                      s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
                      s.settimeout(0.9)\n\
                      s.setsockopt(socket.IPPROTO_IP, 11, 1)\n\
                      s.connect(('192.0.2.1', 9))\n\
                      s.send(b'hello')\n\
                      try: s.recv(9)\n\
                      except OSError as error: print(error.errno)\n";
        assert_eq!(inside_ok(&inmate.ns, &["python3", "-c", script]), format!("{}\n", libc::EHOSTUNREACH), "{kind}");
        ip(&["-n", &realm.host.name, "route", "del", "192.0.2.1"]);
    }
    realm.end();
}

/// RFC 4787 REQ-1 and REQ-8: one port for all that is talked to, and nobody else comes in there.
#[test]
fn one_port_for_all_and_no_third_party() {
    let Some(realm) = Realm::new("sumap", &[]) else { return };
    let inmate = realm.attach("client");
    let client = udp(&inmate.ns, at(ANY, 5_000));
    let remotes = [udp(&realm.outside, at(FAR[0], 7)), udp(&realm.outside, at(FAR[1], 8))];
    let mut seen = Vec::new();
    for remote in &remotes {
        client.send_to(b"hello", remote.local_addr().unwrap()).unwrap();
        seen.push(remote.recv_from(&mut [0; 9]).unwrap().1);
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].ip().to_string(), HOST[0]);
    // Another address, and another port of a known address.
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    for stranger in [at(FAR[2], 7), at(FAR[0], 8)] {
        udp(&realm.outside, stranger).send_to(b"let me in", seen[0]).unwrap();
        assert!(client.recv(&mut [0; 99]).is_err(), "{stranger}");
    }
    remotes[0].send_to(b"known", seen[0]).unwrap();
    assert_eq!(client.recv_from(&mut [0; 9]).unwrap(), (5, at(FAR[0], 7)));
    // Another container, the same port.
    let other = realm.attach("other");
    udp(&other.ns, at(ANY, 5_000)).send_to(b"hello", at(FAR[0], 7)).unwrap();
    assert_ne!(remotes[0].recv_from(&mut [0; 9]).unwrap().1, seen[0]);
    realm.end();
}

#[test]
fn ping_where_it_is_allowed_and_where_it_is_forbidden() {
    let Some(realm) = Realm::new("suping", &["ping"]) else { return };
    let inmate = realm.attach("client");
    for address in [FAR[0], FAR6, GATEWAY] {
        common::ping(&inmate.ns, address);
    }
    for address in [FAR[0], FAR6] {
        inside_ok(&inmate.ns, &["ping", "-c", "1", "-W", "2", "-s", "8000", address]);
    }
    realm.switch.ok(&["flush", "flows", "client"]);
    sysctl(&realm.host, "net.ipv4.ping_group_range=1 0");
    for _ in 0..2 {
        let start = Instant::now();
        let output = inside(&inmate.ns, &["ping", "-c", "1", "-W", "3", FAR[0]]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && said.contains(&format!("From {GATEWAY}")), "{said}");
        assert!(start.elapsed() < Duration::from_secs(3), "{said}");
    }
    wait_for("the log", || realm.logged("ping_group_range") == 1);
    std::thread::sleep(Duration::from_millis(1_200));
    assert_eq!(realm.logged("ping_group_range"), 1, "said once");
    realm.end();
}

/// A target behind a router, which is `realm.outside`.
fn beyond(realm: &Realm, what: &str) -> TestNs {
    let target = TestNs::new(what);
    ip(&["-n", &realm.outside.name, "link", "add", "far1", "type", "veth", "peer", "name", "eth0", "netns", &target.name]);
    for (ns, iface, addresses) in [
        (&realm.outside, "far1", ["203.0.113.1/24", "2001:db8:2::1/64"]),
        (&target, "eth0", ["203.0.113.10/24", "2001:db8:2::10/64"]),
    ] {
        for address in addresses {
            let v6: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
            ip(&[&["-n", &ns.name, "address", "add", address, "dev", iface], v6].concat());
        }
        ip(&["-n", &ns.name, "link", "set", iface, "up"]);
    }
    ip(&["-n", &target.name, "route", "add", "default", "via", "203.0.113.1"]);
    ip(&["-n", &target.name, "route", "add", "default", "via", "2001:db8:2::1"]);
    sysctl(&realm.outside, "net.ipv4.ip_forward=1");
    sysctl(&realm.outside, "net.ipv6.conf.all.forwarding=1");
    // One error a second to each destination by default (icmp(7)).
    for ns in [&realm.outside, &target] {
        sysctl(ns, "net.ipv4.icmp_ratelimit=0");
        sysctl(ns, "net.ipv6.icmp.ratelimit=0");
    }
    target
}

#[test]
fn traceroute_shows_gateway_router_and_target() {
    let Some(realm) = Realm::new("sutrace", &["traceroute"]) else { return };
    let inmate = realm.attach("client");
    let target = beyond(&realm, "sutrace-t");
    let _listener = listen(&target, at(ANY, 80));
    for kind in [&[][..], &["-I"], &["-T", "-p", "80"]] {
        let said = inside_ok(&inmate.ns, &[&["traceroute", "-n", "-q", "1", "-w", "2", "-m", "5"], kind, &[TARGET]].concat());
        let hops: Vec<&str> = said.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!(hops, [GATEWAY, FAR[0], TARGET], "{kind:?}: {said}");
    }
    realm.end();
}

/// Takes one connection, and of that nothing that has less than 60 hops left (IP_MINTTL 21, IPV6_MINHOPCOUNT 73).
const FAR_SERVER: &str = "\
import socket, sys
v6 = ':' in sys.argv[1]
l = socket.create_server((sys.argv[1], 81), family=socket.AF_INET6 if v6 else socket.AF_INET)
print('ready', flush=True)
s, _ = l.accept()
s.settimeout(3)
s.setsockopt(*((41, 73) if v6 else (0, 21)), 60)
s.send(b'hello')
print(s.recv(9).decode())
";

/// Connects with two hops, and with three (IP_TTL 2, IPV6_UNICAST_HOPS 16).
const FEW_HOPS: &str = "\
import socket, sys
v6 = ':' in sys.argv[1]
for hops in 2, 3:
    s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET)
    s.settimeout(5)
    s.setsockopt(*((41, 16) if v6 else (0, 2)), hops)
    try:
        s.connect((sys.argv[1], 81))
        print(s.recv(9).decode())
        s.send(b'hi')
    except OSError as error: print(error.errno)
";

/// What a router says of a SYN is the container's to hear, and what a SYN has few hops of goes on with all of them once it is connected.
#[test]
fn a_connection_has_the_containers_hops() {
    let Some(realm) = Realm::new("suhops", &["traceroute"]) else { return };
    let inmate = realm.attach("client");
    let target = beyond(&realm, "suhops-t");
    let _listener = listen(&target, at("::", 80));
    let said = inside_ok(&inmate.ns, &["traceroute", "-6", "-n", "-q", "1", "-w", "2", "-m", "5", "-T", "-p", "80", TARGET6]);
    let hops: Vec<&str> = said.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(hops[1..], [FAR6, TARGET6], "{said}");
    for (own, to) in [(ANY, TARGET), ("::", TARGET6)] {
        let mut server = Background::start(inside(&target, &["python3", "-c", FAR_SERVER, own]).stdout(Stdio::piped()));
        let mut said = server.0.stdout.take().unwrap();
        said.read_exact(&mut [0; 6]).unwrap();
        // 2 is not far enough, 3 is; the error is that of no way (RFC 1122 3.2.2.4).
        assert_eq!(inside_ok(&inmate.ns, &["python3", "-c", FEW_HOPS, to]), format!("{}\nhello\n", libc::EHOSTUNREACH), "{to}");
        let mut came = String::new();
        said.read_to_string(&mut came).unwrap();
        assert_eq!(came, "hi\n", "{to}");
    }
    realm.end();
}

/// Answers each datagram with one of as many octets as it says, with DF or without (IP_MTU_DISCOVER 10: IP_PMTUDISC_DO 2, _DONT 0), and as many
/// hops (IP_TTL 2, IPV6_UNICAST_HOPS 16).
const ANSWER: &str = "\
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s6.setsockopt(41, 26, 1)
s.bind(('', 53))
s6.bind(('', 53))
import select
print('ready', flush=True)
while True:
    for ready in select.select([s, s6], [], [])[0]:
        for attempt in range(3):
            try:
                asked, peer = ready.recvfrom(99)
                break
            except OSError: pass
        length, df, hops = map(int, asked.split())
        ready.setsockopt(*((0, 2) if ready is s else (41, 16)), hops)
        if ready is s: ready.setsockopt(0, 10, df)
        try: ready.sendto(b'x' * length, peer)
        except OSError as error: s.sendto(b'e' * error.errno, peer)
";

/// Asks with `length df hops`, twice where it is lost, and says the answer's length, its TTL (IP_RECVTTL 12, IPV6_RECVHOPLIMIT 51).
const ASK: &str = "\
import socket, struct, sys
v6 = ':' in sys.argv[1]
s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
s.setsockopt(*((41, 51) if v6 else (0, 12)), 1)
for words in sys.argv[2:]:
    s.sendto(words.encode(), (sys.argv[1], 5353))
    try:
        data, cmsg, *_ = s.recvmsg(2000, 99)
        print(data[:1].decode(), len(data), struct.unpack('i', cmsg[0][2])[0])
    except OSError as error: print(error)
";

/// A published socket of both families sends as the container's server did, in either: TTL, and DF.
#[test]
fn answers_of_a_published_port_keep_hops_and_df() {
    let Some(realm) = Realm::new("supub", &["python3"]) else { return };
    let web = realm.attach("web");
    let target = beyond(&realm, "supub-t");
    ip(&["-n", &realm.outside.name, "link", "set", "far1", "mtu", "1280"]);
    realm.publish(&["5353:53/udp", "web"]);
    let mut server = Background::start(inside(&web.ns, &["python3", "-c", ANSWER]).stdout(Stdio::piped()));
    server.0.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    let ask = |from: &TestNs, to: &str, words: &[&str]| inside_ok(from, &[&["python3", "-c", ASK, to], words].concat());
    // The gateway is a router on the way.
    assert_eq!(ask(&realm.outside, HOST[0], &["9 0 20", "9 0 7", "9 0 200"]), "x 9 19\nx 9 6\nx 9 199\n");
    assert_eq!(ask(&realm.outside, HOST6, &["9 0 30", "9 0 5"]), "x 9 29\nx 9 4\n");
    assert_eq!(ask(&realm.outside, HOST[0], &["9 0 21"]), "x 9 20\n");
    // Without DF it goes in pieces; with it, the server is told, and that by its own kernel from then on.
    let said = ask(&target, HOST[0], &["1400 0 64", "1400 2 64", "1400 2 64", "1252 2 64"]);
    assert_eq!(said, format!("x 1400 62\ntimed out\ne {} 62\nx 1252 62\n", libc::EMSGSIZE));
    realm.end();
}

/// What comes of datagrams with DF (IP_MTU_DISCOVER 10, IP_PMTUDISC_DO 2), and of one without: a length or an errno each.
const PROBE: &str = "\
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
s.connect((sys.argv[1], 7))
for df, length in (2, 1400), (2, 1400), (2, 1252), (0, 1400):
    s.setsockopt(socket.IPPROTO_IP, 10, df)
    try:
        s.send(b'x' * length)
        print(len(s.recv(2000)))
    except OSError as error:
        print(error.errno)
";

/// RFC 4787 REQ-13 (N17): what is too long for a link on the way, its sender is told, with the MTU.
#[test]
fn a_narrow_link_on_the_way_is_told() {
    let Some(realm) = Realm::new("sumtu", &[]) else { return };
    let inmate = realm.attach("client");
    let target = beyond(&realm, "sumtu-t");
    ip(&["-n", &realm.outside.name, "link", "set", "far1", "mtu", "1280"]);
    ip(&["-n", &target.name, "link", "set", "eth0", "mtu", "1280"]);
    echo(&target, at(TARGET, 7));
    // Its own kernel knows after the first; without DF it goes in pieces.
    let said = inside_ok(&inmate.ns, &["python3", "-c", PROBE, TARGET]);
    assert_eq!(said, format!("{0}\n{0}\n1252\n1400\n", libc::EMSGSIZE));
    assert!(inside_ok(&inmate.ns, &["ip", "route", "get", TARGET]).contains("mtu 1280"));
    // TCP finds its own way.
    let [inner, outer] = common::sockets::pair(&inmate.ns, at(TARGET, 80), &target, at(ANY, 80));
    std::thread::scope(|scope| {
        scope.spawn(|| common::sockets::pour(&inner, 1 << 20).unwrap());
        common::sockets::drain(&outer, 1 << 20);
    });
    realm.end();
}

/// RFC 5780 by coturn, a program that we did not write.
#[test]
fn nat_discovery_finds_endpoint_independent_mapping() {
    let Some(realm) = Realm::new("sustun", &["turnserver", "turnutils_natdiscovery"]) else { return };
    let inmate = realm.attach("client");
    let files = tempfile::tempdir().unwrap();
    let [pid, database] = ["pid", "database"].map(|name| files.path().join(name).to_str().unwrap().to_owned());
    let mut server =
        vec!["turnserver", "-n", "-S", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp", "-l", "stdout", "--simple-log"];
    server.extend(["--pidfile", &pid, "-b", &database, "-L", FAR[0], "-L", FAR[1]]);
    let _server = Background::start(inside(&realm.outside, &server).stdout(Stdio::null()).stderr(Stdio::null()));
    let stun = within(&realm.outside, || UdpSocket::bind((FAR[2], 0)).unwrap());
    stun.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    // A binding request (RFC 5389 6): type, length, cookie, transaction.
    let request = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    wait_for("the STUN server", || stun.send_to(&request, (FAR[1], 3_479)).is_ok() && stun.recv(&mut [0; 512]).is_ok());
    for (flag, wanted) in
        [("-m", "NAT with Endpoint Independent Mapping!"), ("-f", "NAT with Address and Port Dependent Filtering!")]
    {
        let said = inside_ok(&inmate.ns, &["timeout", "20", "turnutils_natdiscovery", flag, FAR[0]]);
        assert!(said.contains(&format!("UDP reflexive addr: {}:", HOST[0])) && said.contains(wanted), "{said}");
    }
    realm.end();
}

/// UDP datagrams and SYNs to addresses that no kernel would send to, behind the gateway's hardware address.
const FORGE: &str = "\
import socket, struct, sys
own4, own6 = sys.argv[1:]
mac = open('/sys/class/net/eth0/address').read().strip()
link = bytes.fromhex('02580a4d0001') + bytes.fromhex(mac.replace(':', ''))
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(('eth0', 0))
def summed(octets):
    octets += b'\\0' * (len(octets) % 2)
    total = sum(struct.unpack('!%dH' % (len(octets) // 2), octets))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
def send(to, port):
    v6 = ':' in to
    family = socket.AF_INET6 if v6 else socket.AF_INET
    ends = socket.inet_pton(family, own6 if v6 else own4) + socket.inet_pton(family, to)
    for number in 6, 17:
        if number == 6:
            l4, at = struct.pack('!HHIIBBHHH', 40000, port, 1, 0, 0x50, 2, 65535, 0, 0), 16
        else:
            l4, at = struct.pack('!HHHH', 40000, port, 13, 0) + b'hello', 6
        check = summed(ends + struct.pack('!II', len(l4), number) + l4)
        l4 = l4[:at] + struct.pack('!H', check) + l4[at + 2:]
        if v6:
            ip = struct.pack('!IHBB', 0x60000000, len(l4), number, 64) + ends
        else:
            ip = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(l4), 1, 0, 64, number, 0) + ends
            ip = ip[:10] + struct.pack('!H', summed(ip)) + ip[12:]
        raw.send(link + (b'\\x86\\xdd' if v6 else b'\\x08\\0') + ip + l4)
for to in '127.0.0.1', '127.1.2.3', '0.0.0.0', '169.254.1.1', '224.0.0.1', '::1', '::', '::ffff:127.0.0.1', '::127.0.0.1', 'fe80::1', 'ff02::1':
    for port in 80, 53, 81:
        send(to, port)
send('198.51.100.2', 83)
";

/// What is the host's own is not reached, however it is spelt, nor who is on its link only.
#[test]
fn the_hosts_own_and_its_links_are_out_of_reach() {
    let Some(realm) = Realm::new("sureach", &[]) else { return };
    let inmate = realm.attach("client");
    // Listeners of the host that must see nothing.
    let tcp = [listen(&realm.host, at("127.0.0.1", 80)), listen(&realm.host, at("::1", 80))];
    let datagrams = [udp(&realm.host, at("127.0.0.1", 53)), udp(&realm.host, at("::1", 53)), udp(&realm.host, at("::", 81))];
    // The container routes it all to the gateway, and lets it leave.
    for setting in ["net.ipv4.conf.eth0.route_localnet=1", "net.ipv4.conf.all.route_localnet=1"] {
        sysctl(&inmate.ns, setting);
    }
    ip(&["-n", &inmate.ns.name, "link", "set", "lo", "down"]);
    for route in ["127.1.2.3/32", "169.254.0.0/16", "0.0.0.1/32", "240.0.0.1/32"] {
        let _ = inside(&inmate.ns, &["ip", "route", "add", route, "via", GATEWAY]).output();
    }
    for to in ["127.0.0.1", "127.1.2.3", "0.0.0.0", "::", "::1", "::ffff:127.0.0.1", "169.254.169.254", "0.0.0.1", "240.0.0.1"] {
        assert!(within(&inmate.ns, || std::net::TcpStream::connect_timeout(&at(to, 80), PATIENCE)).is_err(), "{to}");
        let own = if to.contains(':') { "::" } else { ANY };
        let socket = udp(&inmate.ns, at(own, 0));
        for port in [53, 81] {
            let _ = socket.send_to(b"hello", at(to, port));
        }
    }
    let socket = udp(&inmate.ns, at(ANY, 0));
    socket.set_broadcast(true).unwrap();
    for to in ["224.0.0.1", "239.1.2.3", "255.255.255.255", "198.51.100.255"] {
        let _ = socket.send_to(b"hello", at(to, 81));
    }
    // Frames that no kernel would send: 127.0.0.1, mapped and compatible addresses.
    let witness = udp(&realm.host, at(HOST[0], 83));
    let own6 = inside_ok(&inmate.ns, &["sh", "-c", "ip -6 -o addr show dev eth0 scope global | awk '{print $4}' | cut -d/ -f1"]);
    inside_ok(&inmate.ns, &["python3", "-c", FORGE, &inmate.ip.to_string(), own6.trim()]);
    assert_eq!(witness.recv(&mut [0; 9]).unwrap(), 5, "what is forged well gets through");
    // The gateway's own address stands for nothing that was not asked for.
    for port in [80, 81] {
        assert_eq!(common::sockets::refusal(&inmate.ns, at(GATEWAY, port)), libc::ECONNREFUSED);
    }
    std::thread::sleep(PATIENCE);
    for listener in &tcp {
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "{listener:?} was reached");
    }
    for datagram in &datagrams {
        datagram.set_nonblocking(true).unwrap();
        assert!(datagram.recv(&mut [0; 9]).is_err(), "{datagram:?} was reached");
    }
    // The host's address on its link is another matter: what listens there listens for all.
    let _open = listen(&realm.host, at(HOST[0], 82));
    assert!(dial(&inmate.ns, at(HOST[0], 82)).is_ok());
    realm.end();
}
