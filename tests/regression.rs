//! Replays the fuzz targets' corpora on stable: every input that once broke something, and the seeds.
#![allow(missing_docs)]
use std::path::Path;
use vswitch_tests::fuzz;

/// Runs a target on each file of its corpus; at least `least` of them must be there.
fn replay(corpus: &str, least: usize, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(corpus);
    let mut inputs: Vec<_> = std::fs::read_dir(&folder).expect("a corpus").map(|entry| entry.expect("an entry").path()).collect();
    inputs.sort();
    assert!(inputs.len() >= least, "{} has only {} inputs", folder.display(), inputs.len());
    for input in inputs {
        // The harness prints this when the target panics.
        println!("{}", input.display());
        target(&std::fs::read(&input).expect("an input"));
    }
}

#[test]
fn head() {
    replay("head", 11, fuzz::head::run);
}

#[test]
fn switch() {
    replay("switch", 6, fuzz::switch::run);
}

#[test]
fn datapath() {
    replay("datapath", 30, fuzz::datapath::run);
}

#[test]
fn inspect() {
    replay("inspect", 10, fuzz::inspect::run);
}

#[test]
fn nat() {
    replay("nat", 28, fuzz::nat::run);
}

#[test]
fn slirp_tcp() {
    replay("slirp_tcp", 17, fuzz::slirp_tcp::run);
}

#[test]
fn ipv6_services() {
    replay("ipv6-services", 14, fuzz::ipv6_services::run);
}

#[test]
fn dhcp() {
    replay("dhcp", 12, fuzz::dhcp::run);
}

#[test]
fn dns() {
    replay("dns", 30, fuzz::dns::run);
}

/// Eight buffers, a gateway with a prefix of 20, sixteen addresses.
const LIMITS: [u8; 3] = [7, 20, 15];
/// VLAN 1, seven addresses, no storm limit, no guard.
const OPEN: [u8; 5] = [0, 0, 0xe0, 0, 0];
/// A trunk of the first four VLANs with no native one.
const TRUNK: [u8; 5] = [2, 0x0f, 0xe0, 0, 0];
const BROADCAST: u8 = 0;
/// Stations 1 (the gateway) to 15 are octets 64 to 79.
const STATION: u8 = 64;

fn plug(settings: [u8; 5], mask: u8, mtu: u8) -> Vec<u8> {
    [&[0][..], &settings, &[mask, mtu]].concat()
}

fn made(port: u8, times: u8, dst: u8, src: u8, shape: [u8; 4]) -> Vec<u8> {
    [&[192, port, times, dst, src][..], &shape, &[0; 5]].concat()
}

fn raw(port: u8, tag: [u8; 3], frame: &[u8]) -> Vec<u8> {
    [&[128, port, u8::try_from(frame.len()).expect("a small frame")][..], &tag, frame].concat()
}

fn breath(millis: u8) -> Vec<u8> {
    vec![72, millis]
}

/// Two ports and stations 2 and 3 behind them, the second one heard.
fn pair(mask: u8, mtu: u8) -> Vec<u8> {
    [plug(OPEN, 0x67, 0), plug(OPEN, mask, mtu), made(2, 0, STATION + 2, STATION + 3, [0; 4]), breath(1)].concat()
}

/// The seeds, from the formats that `fuzz/datapath.rs` and `fuzz/made.rs` read.
fn datapath_seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = vec![];
    let mut seed = |name: String, parts: Vec<Vec<u8>>| seeds.push((name, [LIMITS.to_vec(), parts.concat()].concat()));
    // Each kind of frame, to a port that takes it and to one that takes nothing; to the gateway; to everybody.
    let kinds = ["local", "arp", "ping", "udp", "tso4", "tso4-complete", "tso6", "uso4", "uso6-complete"];
    for (kind, name) in (0u8..).zip(kinds) {
        let shape = [kind, 3, 6, 0];
        for (mask, how) in [(0x67, "taken"), (0, "not-taken")] {
            seed(
                format!("{name}-{how}"),
                vec![
                    pair(mask, 0),
                    made(1, 0, STATION + 3, STATION + 2, shape),
                    breath(1),
                    made(1, 0, BROADCAST, STATION + 2, shape),
                    made(1, 0, STATION + 1, STATION + 2, shape),
                    breath(1),
                ],
            );
        }
    }
    seed("over-mtu".into(), vec![pair(0, 3), made(1, 0, STATION + 3, STATION + 2, [0, 0, 1, 0]), breath(1)]);
    seed("runt".into(), vec![pair(0x67, 0), raw(1, [0; 3], &[0; 23]), breath(1)]);
    let tagged = [&[0; 10][..], &[0xff; 6], &[2, 0x58, 10, 88, 0, 2], &[0x81, 0, 0x60, 2, 0x88, 0xb6], &[7; 46]].concat();
    for (name, how) in [("octets", 0), ("beside", 6), ("foreign-beside", 7)] {
        seed(
            format!("trunk-{name}"),
            vec![plug(TRUNK, 0x67, 0), plug(TRUNK, 0, 0), plug([0, 1, 0xe0, 0, 0], 0, 0), raw(1, [how, 0, 2], &tagged), breath(1)],
        );
    }
    let ports = |count: usize| plug(OPEN, 0x67, 0).repeat(count);
    let flood = made(1, 63, BROADCAST, STATION + 2, [0, 0, 0, 50]);
    seed("flood-resumes".into(), vec![ports(11), flood.clone(), breath(1), breath(1)]);
    seed("flood-loses-ports".into(), vec![ports(11), flood.clone(), breath(1), vec![48, 11, 48, 1], breath(1)]);
    seed("flood-gains-a-port".into(), vec![ports(10), flood.clone(), breath(1), plug(OPEN, 0, 0), breath(1)]);
    seed("flood-changes-group".into(), vec![ports(11), flood.clone(), breath(1), vec![32, 8, 0, 0xe0, 0, 0, 1, 0], breath(1)]);
    seed("storm".into(), vec![ports(3), plug([0, 0, 0xe0, 9, 0], 0, 0), made(4, 63, BROADCAST, 68, [0, 0, 0, 50]), breath(1)]);
    seed("cable-loops".into(), vec![ports(3), vec![64, 2, 3], flood.clone(), breath(1), breath(1), breath(255), flood, breath(1)]);
    let guarded = plug([0xc0, 0, 0xe0, 0, 2], 0x67, 0);
    seed("guarded-spoof".into(), vec![guarded, ports(1), made(1, 0, 0, 66, [0; 4]), made(1, 0, 0, 67, [0; 4]), breath(1)]);
    seed(
        "by-hand".into(),
        vec![ports(2), vec![59, 0, 5, 2], made(1, 0, 69, 66, [0; 4]), breath(1), vec![58, 0, 5, 0], breath(200)],
    );
    let bpdu = made(1, 0, 32, STATION + 2, [0; 4]);
    seed("reserved-group".into(), vec![ports(2), bpdu.clone(), breath(1), vec![56, 0, 1, 0], bpdu, breath(1)]);
    seeds.push(("one-buffer".into(), [&[0, 20, 15][..], &ports(11), &made(1, 63, 0, 66, [1, 0, 0, 0]), &breath(1)].concat()));
    seeds.push(("no-gateway".into(), [&[7, 255, 15][..], &ports(2), &made(1, 0, 65, 66, [2, 0, 0, 9]), &breath(1)].concat()));
    seeds
}

#[test]
#[ignore = "writes tests/corpus/datapath anew, when the commands' format has changed"]
fn write_datapath_seeds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/datapath");
    std::fs::create_dir_all(&folder).expect("a folder");
    for (name, octets) in datapath_seeds() {
        std::fs::write(folder.join(name), octets).expect("a file");
    }
}

/// The seeds, from the format that `fuzz/nat.rs` reads.
fn nat_seeds() -> Vec<(&'static str, Vec<u8>)> {
    // Sixteen buffers, ports that take offloads, 1500 octets; 32 sessions.
    const SETUP: [u8; 3] = [15, 0, 31];
    const X: u8 = 0x1b;
    let breath = [0, 10];
    // Ports 5000 to 53; what has a payload of 800 octets has bit 5 of the command.
    let out = |kind: u8, ports: u8, flags: u8| [66, kind, 0, X, ports, flags, 20, 255, 0];
    let large = |kind: u8, flags: u8| [99, kind, 0, X, 0x43, flags, 250, 255, 0];
    let back = |kind: u8, ports: u8, flags: u8| [65, kind, X, 0, ports, flags, 20, 255, 0];
    let answer = [192, 255, 0];
    let there_and_back = |kind: u8, flags: u8| [&out(kind, 0x43, flags)[..], &breath, &breath, &answer, &breath].concat();
    let seed = |name, parts: &[&[u8]]| (name, [&SETUP[..], &parts.concat()].concat());
    let publish = |family: u8, octet: u8| [232, family, 0, octet];
    vec![
        seed("udp", &[&there_and_back(0, 0)]),
        seed("udp6", &[&there_and_back(0x10, 0)]),
        seed("tcp", &[&there_and_back(4, 2), &out(4, 0x43, 0x10), &breath, &there_and_back(4, 0x11), &out(4, 0x43, 4), &breath]),
        seed("tcp6", &[&there_and_back(0x14, 2), &out(0x14, 0x43, 0x10), &breath]),
        seed("echo", &[&there_and_back(8, 0)]),
        seed("echo6", &[&there_and_back(0x18, 0)]),
        seed("partial", &[&there_and_back(0x81, 0), &there_and_back(0x85, 2)]),
        seed("tso", &[&large(0x85, 0x10), &breath, &breath]),
        seed("tso6", &[&large(0x95, 0x10), &breath, &breath]),
        seed("uso", &[&large(0x81, 0), &breath, &breath]),
        seed("cut", &[&large(0, 0), &breath, &breath]),
        seed("too-big", &[&large(0, 0x20), &breath, &large(0x10, 0), &breath]),
        seed("no-hops", &[&[82], &out(0, 0x43, 0)[1..], &breath, &[81], &back(0, 0x34, 0)[1..], &breath]),
        seed("fragments", &[&out(0x20, 0x43, 0), &large(0x40, 0), &breath, &breath]),
        seed("fragments-later-first", &[&large(0x40, 0), &breath, &large(0x20, 0), &breath, &breath]),
        seed("fragments6", &[&large(0x50, 0), &breath, &large(0x30, 0), &breath, &breath]),
        seed("no-first", &[&large(0x40, 0), &[0, 255], &large(0x40, 0)]),
        seed("error-in", &[&there_and_back(0, 0), &back(10, 0x34, 3), &breath]),
        seed("error-out", &[&there_and_back(0, 0), &out(10, 0x43, 3), &breath]),
        seed("published", &[&publish(3, 1), &back(0, 0x13, 0), &breath, &out(0, 0x30, 0), &breath, &breath]),
        seed("published6", &[&publish(4, 9), &back(0x14, 0x13, 2), &breath, &out(0x14, 0x30, 0x12), &breath, &breath]),
        seed("hairpin", &[&publish(3, 1), &[67, 0, 0, 3, 0x13, 0, 20, 255, 0], &breath, &breath]),
        seed("gone", &[&there_and_back(0, 0), &[232, 0, 0, 0], &answer, &breath, &[232, 1, 0, 0], &out(0, 0x43, 0), &breath]),
        seed("renumbered", &[&there_and_back(0, 0), &[232, 6, 0, 1], &answer, &out(0, 0x43, 0), &breath, &answer, &breath]),
        seed("aged", &[&there_and_back(0, 0), &[47, 255], &answer, &breath]),
        ("no-router", [&[0x4f, 0, 31][..], &out(0, 0x43, 0), &breath, &[0, 100]].concat()),
        ("small", [&[0, 3, 0][..], &large(0, 0), &breath, &large(4, 0x10), &breath, &breath].concat()),
    ]
}

#[test]
#[ignore = "writes tests/corpus/nat anew, when the commands' format has changed"]
fn write_nat_seeds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/nat");
    std::fs::create_dir_all(&folder).expect("a folder");
    for (name, octets) in nat_seeds() {
        std::fs::write(folder.join(name), octets).expect("a file");
    }
}

/// The seeds, from the commands that `fuzz/slirp_tcp.rs` reads.
fn slirp_tcp_seeds() -> Vec<(&'static str, Vec<u8>)> {
    // A SYN from the first port, window 65,535, segments of 1,460 octets, windows scaled by 0; and one with windows that do not scale.
    let syn = |window: u8| [0, 0, 0x40, 0, window, 0xff, 0, 0];
    let (unscaled, connected, accepted) = ([0, 0, 0, 9, 0xff, 0xff, 2, 1], [24, 0, 0, 0, 0, 0, 0, 0], [16, 0, 0, 0, 0, 0, 0, 0]);
    // The first connection's: an acknowledgement of all that came, with a window of zero, with five times `len` octets, with a FIN.
    let ack = [144, 0, 0, 0x40, 0, 0, 0, 0];
    let (zero, reset, answer) = ([144, 0, 0, 0x40, 0, 0, 2, 0], [216, 0, 0, 0x40, 0, 0, 0, 0], [224, 0, 0, 0xc0, 0, 0, 0, 0]);
    let data = |len: u8| [144, 0, 0x80, 0x40, 0, 0, 1, len];
    let last = |len: u8| [145, 0, 0x80, 0x40, 0, 0, 1, len];
    let ahead = |by: u8| [144, 0, 0x83, 0x40, by, 0, 1, 100];
    let before = |by: u8| [144, 0, 0x84, 0x40, by, 0, 1, 100];
    // The host's: octets arrive, all have, the socket has room, what may go does.
    let arrive = |count: u8| [45, 0, count, 0, 0, 0, 0, 0];
    let (eof, room, pump) = ([61, 0, 0, 0, 0, 0, 0, 0], [69, 0, 0xff, 0xff, 7, 0, 0, 0], [86, 0, 0, 0, 15, 0, 0, 0]);
    let (broken, told, restored, full) = ([40, 0, 0, 0, 0, 0, 0, 0], [42, 0, 0, 0, 0, 0, 0, 0], [43; 8], [85, 0, 0, 0, 0, 0, 0, 0]);
    let (millisecond, hours, due) = ([112, 1, 0, 0, 0, 0, 0, 0], [112, 7, 0, 0, 0, 0, 0, 0], [136, 0, 0, 0, 0, 0, 0, 0]);
    let open = [syn(0xff), connected, ack].concat();
    let beyond = [144, 0, 0x87, 0x40, 100, 0, 2, 0];
    // The first two octets are where the container's numbers begin where it is asked, and the seed of ours.
    let seed = |name, parts: &[&[[u8; 8]]]| (name, [&[0x80, 0][..], &parts.concat().concat()].concat());
    let with = |name, parts: &[&[[u8; 8]]]| (name, [&[0x7f, 0xff][..], &open, &parts.concat().concat()].concat());
    vec![
        with("both-ways", &[&[room, data(200), arrive(9), ack, data(200), pump, ack, last(7), eof, ack]]),
        with("half-closed", &[&[last(9), room, arrive(40), ack, hours, due, arrive(40), pump, ack, eof, ack]]),
        with("host-ends-first", &[&[arrive(3), eof, ack, data(200), room, data(200), due, last(1)]]),
        with("spilled", &[&[data(255); 60], &[room, data(255), full, data(255), last(1)]]),
        with("sent-again", &[&[arrive(200), pump, due, pump, ack, ack, ack, ack, pump, due, restored, pump, ack, eof]]),
        with("no-window", &[&[arrive(9), zero, arrive(90), due, zero, due, zero, due, pump, eof, due, ack, pump, ack]]),
        with("out-of-order", &[&[ahead(100), data(100), before(50), ahead(1), data(100), before(255), last(100), last(100)]]),
        with("reset", &[&[data(9), arrive(9), reset, syn(0xff), connected, ack, broken, hours]]),
        with("beyond-the-window", &[&[arrive(200), pump, beyond, ack, pump, beyond]]),
        with("silent", &[&[arrive(9)], &[due; 14]]),
        with("never-answers", &[&[hours], &[due; 12]]),
        seed("published", &[&[accepted, answer, ack, arrive(9), ack, accepted, data(50), room, eof, last(3), ack, millisecond]]),
        seed("published-refused", &[&[accepted, ack, answer, reset, accepted], &[due; 7]]),
        seed("restored-in-handshake", &[&[syn(0xff), connected, restored, arrive(9), pump, ack, pump, ack, eof]]),
        seed("refused", &[&[syn(9), broken, syn(9), told, syn(9), reset, syn(9), hours, connected], &[due; 7]]),
        seed("unscaled", &[&[unscaled, unscaled, connected, connected, ack, data(255), arrive(255), pump, ack, room, data(9)]]),
    ]
}

#[test]
#[ignore = "writes tests/corpus/slirp_tcp anew, when the commands' format has changed"]
fn write_slirp_tcp_seeds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/slirp_tcp");
    std::fs::create_dir_all(&folder).expect("a folder");
    for (name, octets) in slirp_tcp_seeds() {
        std::fs::write(folder.join(name), octets).expect("a file");
    }
}

/// The seeds, from the format that `fuzz/ipv6_services.rs` reads.
fn ipv6_seeds() -> Vec<(&'static str, Vec<u8>)> {
    // Sockets, a way out, IPv6; a message whose checksum is made right, from a link-local address, from here.
    const SETUP: u8 = 3;
    const GOOD: u8 = 0b11_000;
    const NO_ADDRESS: u8 = 0b100;
    let icmp = |how: u8, message: &[u8]| [&[32, how, message.len() as u8][..], message].concat();
    let dhcp = |how: u8, message: &[u8]| [&[128, how, message.len() as u8][..], message].concat();
    let seed = |name, parts: &[Vec<u8>]| (name, [&[SETUP][..], &parts.concat(), &[0, 20, 0, 255]].concat());
    let source = [1, 1, 2, 0x58, 10, 88, 0, 2];
    let asking = |options: &[u8]| [&[133, 0, 0, 0, 0, 0, 0, 0][..], options].concat();
    let target = [&[135, 0, 0, 0, 0, 0, 0, 0, 0xfd, 0x58, 0, 1, 0, 2][..], &[0; 9], &[1]].concat();
    let client = [0, 1, 0, 10, 0, 3, 0, 1, 2, 0x58, 10, 88, 0, 2];
    let server = [0, 2, 0, 10, 0, 3, 0, 1, 2, 0x58, 10, 88, 0, 1];
    let all =
        [0, 3, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 0, 12, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 4, 0, 0, 0, 3];
    let message = |kind: u8, parts: &[&[u8]]| [&[kind, 1, 2, 3][..], &parts.concat()].concat();
    let address = [&[0, 3, 0, 40, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 24, 0xfd, 0x58][..], &[0; 22]].concat();
    let router = [&[134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0][..], &source].concat();
    vec![
        seed("rs", &[icmp(GOOD, &asking(&source))]),
        seed("rs-no-address", &[icmp(GOOD | NO_ADDRESS, &asking(&[]))]),
        seed("rs-no-address-but-source", &[icmp(GOOD | NO_ADDRESS, &asking(&source))]),
        seed("rs-option-of-zero", &[icmp(GOOD, &asking(&[1, 0, 2, 0x58, 10, 88, 0, 2]))]),
        seed("rs-option-too-long", &[icmp(GOOD, &asking(&[1, 9, 2, 0x58, 10, 88, 0, 2]))]),
        seed("rs-wrong-sum", &[icmp(0b10_000, &asking(&source)), icmp(0b01_000, &asking(&source))]),
        seed("rs-flood", &vec![icmp(GOOD, &asking(&source)); 80]),
        seed("ns", &[icmp(GOOD | 1, &[&target[..], &source].concat())]),
        seed("ns-of-one-without-address", &[icmp(GOOD | NO_ADDRESS | 1, &target)]),
        seed("ra-of-another", &[icmp(GOOD | 2, &router)]),
        seed("information", &[dhcp(GOOD, &message(11, &[&client, &[0, 6, 0, 4, 0, 23, 0, 24]]))]),
        seed("solicit", &[dhcp(GOOD, &message(1, &[&client, &all]))]),
        seed("request", &[dhcp(GOOD, &message(3, &[&client, &server, &all]))]),
        seed("renew-release-decline", &[5, 8, 9].map(|kind| dhcp(GOOD, &message(kind, &[&client, &server, &all])))),
        seed("confirm-rebind", &[4, 6].map(|kind| dhcp(GOOD, &message(kind, &[&client, &address])))),
        seed("dhcp-option-too-long", &[dhcp(GOOD, &message(11, &[&client[..9]]))]),
        seed("dhcp-wrong-sum", &[dhcp(0b10_000, &message(11, &[&client]))]),
        ("without-ipv6", [&[7][..], &icmp(GOOD, &asking(&source)), &dhcp(GOOD, &message(11, &[&client]))].concat()),
        ("raw", [&[3, 192, 12][..], &[0x60, 0, 0, 0, 0, 0, 58, 255, 0xfe, 0x80, 0, 0]].concat()),
    ]
}

#[test]
#[ignore = "writes tests/corpus/ipv6-services anew, when the commands' format has changed"]
fn write_ipv6_seeds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/ipv6-services");
    std::fs::create_dir_all(&folder).expect("a folder");
    for (name, octets) in ipv6_seeds() {
        std::fs::write(folder.join(name), octets).expect("a file");
    }
}

/// The seeds, from the commands that `fuzz/dhcp.rs` reads.
fn dhcp_seeds() -> Vec<(&'static str, Vec<u8>)> {
    const NONE: u8 = 0xff;
    const GATEWAY: u8 = 1;
    // Who: the container of port 1, two stations behind it; one of these behind port 2.
    let (web, vm, other, moved) = (0, 3, 4, 11);
    let discover = |who| [0, who, NONE, NONE, 0, 0];
    let (selects, reboots) = (|who, address| [1, who, NONE, address, GATEWAY, 1], |who, address| [2, who, NONE, address, 0, 0]);
    let renews = |who, address| [3, who, address, NONE, 0, 0];
    let (declines, releases) =
        (|who, address| [4, who, NONE, address, GATEWAY, 0], |who, address| [5, who, address, NONE, GATEWAY, 0]);
    let informs = |who, address| [6, who, address, NONE, 0, 1];
    let (daemon, minutes, hour) = ([0xe2, 0], [0xcd, 0], [0xcf, 0]);
    let leased = [&discover(vm)[..], &daemon, &selects(vm, 5)].concat();
    let seed = |name, parts: &[&[u8]]| (name, parts.concat());
    vec![
        seed("selecting", &[&discover(web), &selects(web, 2), &selects(web, 9), &[1, web, NONE, 2, 2, 0]]),
        seed("init-reboot", &[&reboots(web, 2), &reboots(web, 9), &reboots(vm, 9), &daemon, &reboots(vm, 5)]),
        seed("renewing", &[&renews(web, 2), &renews(web, 9), &hour, &renews(web, 2)]),
        seed("further", &[&leased, &daemon, &renews(vm, 5), &hour, &renews(vm, 5), &daemon]),
        seed("release", &[&leased, &releases(vm, 5), &daemon, &discover(other), &daemon, &selects(other, 6), &releases(web, 2)]),
        seed("decline", &[&leased, &declines(vm, 5), &daemon, &discover(vm), &daemon, &selects(vm, 6), &declines(web, 2)]),
        seed("inform", &[&informs(web, 2), &informs(web, 0)]),
        seed("relayed", &[&[24, web, NONE, NONE, 0, 0]]),
        seed("moved", &[&leased, &discover(moved), &daemon, &selects(moved, 5), &[0xe0, 0], &daemon, &renews(moved, 5)]),
        seed("offer-ends", &[&discover(vm), &daemon, &minutes, &selects(vm, 5), &daemon]),
        seed("gone", &[&leased, &[0xe0, 0], &renews(vm, 5), &[0xe1, 0], &renews(web, 2), &discover(vm), &daemon]),
        seed("cut-option", &[&[0x60, web, 53, 1, 1, 50, 3, 10, 88], &[0x60, web, 53, 1, 1, 12, 200, 1, 1], &[0x61, web, 53]]),
        seed("broadcast", &[&[0, web, NONE, NONE, 0, 0x80]]),
    ]
}

#[test]
#[ignore = "writes tests/corpus/dhcp anew, when the commands' format has changed"]
fn write_dhcp_seeds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/dhcp");
    std::fs::create_dir_all(&folder).expect("a folder");
    for (name, octets) in dhcp_seeds() {
        std::fs::write(folder.join(name), octets).expect("a file");
    }
}

/// The seeds, from the commands that `fuzz/dns.rs` reads.
fn dns_seeds() -> Vec<(&'static str, Vec<u8>)> {
    // Without a way out, or with one.
    const ALONE: u8 = 0;
    const OUT: u8 = 1;
    // Names of the list there: of a container, of nobody, addresses back, of the world, of one label.
    let (web, nobody, pointer, world, single) = (0, 4, 7, 18, 21);
    // Desires recursion; nothing, or OPT records: of 4,096 octets, with DO, with a subnet, with a version.
    let (plain, edns, dnssec, subnet, version) = (0, 0x0b, 0x8b, 0x2b, 0x1b);
    let wish = |id: u8, name: u8, kind: u8, edns: u8, odd: u8| [id, name, 0, kind, 1, edns, odd];
    // Who is the second port; IPv6 is its bit 2.
    let by_udp = |wish: [u8; 7]| [&[2, 1][..], &wish].concat();
    let by_udp_v6 = |wish: [u8; 7]| [&[2, 5][..], &wish].concat();
    let of_another = |wish: [u8; 7]| [&[2, 2][..], &wish].concat();
    let several = |wish: [u8; 7]| [&[0x37, 1][..], &wish].concat();
    let pieces = |cut: u8, wish: [u8; 7]| [&[0x20, 1, cut][..], &wish].concat();
    let (turn, quick) = (vec![0xc0, 0], |what: u8| vec![0xd0 | what, 0]);
    let says = |shape: [u8; 4]| [&[0xa0, 0][..], &shape].concat();
    let octets = |said: &[u8]| [&[0xab, 0][..], said, &vec![0; 127 - said.len()]].concat();
    let silent = vec![0xac, 0];
    let (syn, say) = (vec![0x60, 1], |wish: [u8; 7]| [&[0x70, 1][..], &wish].concat());
    let send = |how: u8, len: u8| vec![0x80, 1, how, 128, len, 0xff];
    let (takes, resets) = (vec![0x90, 1, 0, 0, 0xff], vec![0x90, 1, 12, 0, 0xff]);
    let open = [syn.clone(), turn.clone(), takes.clone()].concat();
    let connected = open.clone();
    let bulk = |what: u8, from: u8, more: u8| vec![0xf0 | what, 0, from, more];
    let station = |what: u8| vec![0xe0 | what, 1];
    let seed = |name, way: u8, parts: &[Vec<u8>]| (name, [vec![way], parts.concat()].concat());
    let good = [0, 0, 3, 0];
    vec![
        seed(
            "internal",
            ALONE,
            &[by_udp(wish(1, web, 0, plain, 0)), by_udp_v6(wish(2, web, 1, dnssec, 0)), by_udp(wish(3, nobody, 0, edns, 0))],
        ),
        seed(
            "pointer",
            OUT,
            &[by_udp(wish(1, pointer, 2, plain, 0)), by_udp(wish(2, 14, 2, edns, 0)), by_udp(wish(3, 8, 2, plain, 0))],
        ),
        seed(
            "refused",
            ALONE,
            &[
                by_udp(wish(1, world, 0, plain, 0)),
                by_udp(wish(2, single, 0, version, 0)),
                several(wish(3, world, 0, edns, 0)),
                turn.clone(),
            ],
        ),
        seed(
            "asked",
            OUT,
            &[
                by_udp(wish(1, world, 0, plain, 0)),
                turn.clone(),
                says(good),
                by_udp_v6(wish(2, 19 | 0x40, 0, edns, 0)),
                quick(3),
                by_udp(wish(3, world, 0, dnssec, 0)),
                turn.clone(),
                says([16, 0, 2, 0]),
            ],
        ),
        seed(
            "joined",
            OUT,
            &[
                by_udp(wish(1, world, 0, plain, 0)),
                of_another(wish(0x5a, world | 0x40, 0, edns, 0)),
                turn.clone(),
                by_udp_v6(wish(3, world, 0, subnet, 0)),
                turn.clone(),
                says([24, 0, 3, 2]),
                says(good),
            ],
        ),
        seed(
            "denied",
            OUT,
            &[
                by_udp(wish(1, world, 0, plain, 0)),
                turn.clone(),
                says([12, 0, 3, 0]),
                by_udp(wish(2, world, 0, edns, 0)),
                quick(6),
                by_udp(wish(3, world, 0, plain, 0)),
            ],
        ),
        seed(
            "fails",
            OUT,
            &[
                by_udp(wish(1, world, 0, plain, 0)),
                turn.clone(),
                says([5, 0, 3, 0]),
                says([7, 0, 3, 0]),
                by_udp(wish(2, world, 0, plain, 0)),
                turn.clone(),
                silent,
                quick(3),
                quick(3),
                quick(3),
            ],
        ),
        seed(
            "forged",
            OUT,
            &[
                by_udp(wish(1, world, 0, plain, 0)),
                turn.clone(),
                says([0, 1, 3, 0]),
                says([0, 2, 3, 0]),
                says([0, 4, 3, 0]),
                octets(&[1, 2, 3]),
                says([0, 3, 3, 0]),
                says([0, 3, 3, 0]),
                says([0, 3, 3, 0]),
                says([0, 3, 3, 0]),
            ],
        ),
        seed(
            "malformed-answer",
            OUT,
            &[
                by_udp(wish(1, world, 0, plain, 0)),
                turn.clone(),
                says([0, 5, 3, 0]),
                says([32, 0x40, 3, 0]),
                says([0, 6, 7, 2]),
                says(good),
            ],
        ),
        seed(
            "long-answer",
            OUT,
            &[
                by_udp(wish(1, world, 0, plain, 0)),
                of_another(wish(2, world, 0, edns, 0)),
                turn.clone(),
                says([0, 0, 3, 4]),
                by_udp(wish(3, world, 0, plain, 0)),
                by_udp(wish(4, world, 0, edns, 0)),
            ],
        ),
        seed(
            "truncated",
            OUT,
            &[by_udp(wish(1, world, 0, plain, 0)), turn.clone(), says([0, 7, 3, 0]), by_udp(wish(2, world, 0, plain, 0))],
        ),
        seed(
            "several",
            OUT,
            &[
                several(wish(1, web, 0, plain, 0)),
                several(wish(2, world, 0, edns, 0)),
                turn.clone(),
                says(good),
                says(good),
                several(wish(3, world, 0, plain, 6 << 3)),
                quick(3),
            ],
        ),
        seed(
            "pieces",
            OUT,
            &[pieces(16, wish(1, web, 0, plain, 0)), pieces(24, wish(2, world, 0, edns, 0)), turn.clone(), says(good)],
        ),
        seed("odd", OUT, &(1..9).map(|odd| by_udp(wish(odd, world, 0, edns, odd << 3))).collect::<Vec<_>>()),
        seed("classes", OUT, &(0..8).map(|odd| by_udp(wish(odd, web, 3, edns, odd))).collect::<Vec<_>>()),
        seed(
            "every-name",
            OUT,
            &(0..32).map(|name| by_udp(wish(name, name, 0, plain, 0))).chain([turn.clone(), quick(3)]).collect::<Vec<_>>(),
        ),
        seed("every-kind", OUT, &(0..8).map(|kind| by_udp(wish(kind, web, kind, plain, 0))).collect::<Vec<_>>()),
        seed(
            "wrong-sum",
            ALONE,
            &[[&[3, 1][..], &wish(1, web, 0, plain, 0)].concat(), [&[1, 5][..], &wish(1, web, 0, plain, 0)].concat()],
        ),
        seed(
            "tcp",
            OUT,
            &[
                open.clone(),
                say(wish(1, web, 0, plain, 0)),
                say(wish(2, world, 0, edns, 0)),
                send(0, 20),
                send(0, 255),
                turn.clone(),
                takes.clone(),
                says([0, 0, 3, 7]),
                turn.clone(),
                takes.clone(),
                turn.clone(),
                takes.clone(),
                send(4, 9),
                turn.clone(),
                takes.clone(),
            ],
        ),
        seed(
            "tcp-half-closed",
            OUT,
            &[open.clone(), say(wish(1, world, 0, plain, 0)), send(4, 255), turn.clone(), says(good), turn.clone(), takes.clone()],
        ),
        seed(
            "tcp-out-of-order",
            OUT,
            &[
                open.clone(),
                say(wish(1, web, 0, plain, 0)),
                vec![0x80, 1, 2, 140, 9, 0xff],
                vec![0x80, 1, 2, 107, 200, 0xff],
                send(16, 3),
                turn.clone(),
                takes.clone(),
            ],
        ),
        seed(
            "tcp-reset",
            OUT,
            &[
                open.clone(),
                say(wish(1, world, 0, plain, 0)),
                send(0, 255),
                turn.clone(),
                resets,
                says(good),
                turn.clone(),
                open.clone(),
            ],
        ),
        seed(
            "tcp-senseless",
            OUT,
            &[
                open.clone(),
                [&[0x7b, 1][..], &[0xff; 127]].concat(),
                send(0, 255),
                turn.clone(),
                syn,
                turn.clone(),
                vec![0x77, 255, 1, 18, 0, 0, 1, 0, 0],
            ],
        ),
        seed(
            "tcp-malformed",
            OUT,
            &[open.clone(), say(wish(1, world, 0, plain, 3 << 3)), say(wish(2, world, 0, plain, 0)), send(0, 255), turn.clone()],
        ),
        seed("tcp-idle", OUT, &[open.clone(), quick(5), takes.clone(), quick(5)]),
        seed(
            "tcp-no-window",
            OUT,
            &[
                open,
                say(wish(1, web, 0, plain, 0)),
                vec![0x80, 1, 0, 0, 255, 0],
                turn.clone(),
                vec![0x90, 1, 32, 0, 0],
                quick(2),
                takes.clone(),
                turn.clone(),
                takes,
            ],
        ),
        seed("quota", OUT, &[bulk(0, 1, 0), bulk(1, 2, 0), turn.clone(), bulk(3, 0, 3), bulk(0, 1, 0)]),
        seed(
            "all-ask",
            OUT,
            &(0..10)
                .map(|port| bulk(0, port, port))
                .chain([turn.clone(), bulk(3, 0, 7 | 4 << 3), bulk(0, 0, 0)])
                .collect::<Vec<_>>(),
        ),
        seed(
            "all-connect",
            OUT,
            &(0..18).map(|port| bulk(2, port, port)).chain([turn.clone(), bulk(2, 18, 1)]).collect::<Vec<_>>(),
        ),
        seed(
            "much-kept",
            OUT,
            &[
                bulk(0, 1, 0),
                bulk(0, 2, 1),
                turn.clone(),
                bulk(3, 0, 4 | 7 << 3),
                bulk(0, 1, 2),
                bulk(0, 3, 3),
                turn.clone(),
                bulk(3, 0, 4 | 7 << 3),
            ],
        ),
        seed(
            "stations",
            OUT,
            &[
                by_udp(wish(1, world, 0, plain, 0)),
                of_another(wish(2, world, 0, plain, 0)),
                turn.clone(),
                station(0),
                by_udp(wish(3, 3, 0, plain, 0)),
                station(1),
                station(3),
                by_udp(wish(4, 2, 0, plain, 0)),
                station(5),
                says(good),
                station(6),
                station(7),
                by_udp(wish(5, 3, 0, plain, 0)),
            ],
        ),
        seed(
            "many-kept",
            OUT,
            &(0..33)
                .flat_map(|bulks| {
                    [bulk(0, bulks % 8, bulks), turn.clone(), bulk(3, 0, 4)].into_iter().take(if bulks % 8 == 7 || bulks == 32 {
                        3
                    } else {
                        1
                    })
                })
                .collect::<Vec<_>>(),
        ),
        seed(
            "opt-not-last",
            OUT,
            &[by_udp(wish(1, world, 0, plain, 0)), of_another(wish(2, world, 0, edns, 0)), turn.clone(), says([48, 0, 3, 3])],
        ),
        seed("gone-while-asked", OUT, &[by_udp(wish(1, world, 0, plain, 0)), turn.clone(), station(0), turn.clone()]),
        seed(
            "tcp-gone",
            OUT,
            &[
                connected.clone(),
                say(wish(1, web, 0, plain, 0)),
                say(wish(2, world, 0, plain, 0)),
                send(0, 255),
                station(0),
                turn.clone(),
                connected.clone(),
                say(wish(3, world, 0, plain, 0)),
                send(0, 255),
                turn.clone(),
                station(7),
                turn.clone(),
            ],
        ),
        seed(
            "resolvers",
            OUT,
            &[
                by_udp(wish(1, world, 0, plain, 0)),
                turn.clone(),
                vec![0xf4, 0],
                says([5, 0, 3, 0]),
                by_udp(wish(2, 19, 0, plain, 0)),
                turn.clone(),
                vec![0xf4, 3],
                by_udp(wish(3, 19, 0, plain, 0)),
                vec![0xc8, 0x55],
                turn.clone(),
                says(good),
                vec![0xf6, 0],
                by_udp(wish(4, 19, 0, plain, 0)),
            ],
        ),
    ]
}

#[test]
#[ignore = "writes tests/corpus/dns anew, when the commands' format has changed"]
fn write_dns_seeds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/dns");
    std::fs::create_dir_all(&folder).expect("a folder");
    for (name, octets) in dns_seeds() {
        std::fs::write(folder.join(name), octets).expect("a file");
    }
}
