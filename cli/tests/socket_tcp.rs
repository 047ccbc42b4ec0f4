//! TCP journeys with sockets as the uplink, as root, with the tools that users have.
mod common;

use common::outside::within;
use common::sockets::{AT_ONCE, FAR, FAR6, HOST, LIMIT, Realm, at, dial, drain, listen, nginx, pair, pattern, pour, refusal, udp};
use common::{Background, TestNs, inside, inside_ok, ip, wait_for};
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
const ANY: &str = "0.0.0.0";

#[test]
fn a_page_from_nginx_in_either_family() {
    let Some(realm) = Realm::new("stweb", &["curl", "nginx"]) else { return };
    let inmate = realm.attach("client");
    let files = tempfile::tempdir().unwrap();
    let page = pattern(MIB);
    let _server = nginx(&realm.outside, files.path(), &page);
    let got = files.path().join("got");
    for host in [FAR[0].to_owned(), format!("[{FAR6}]")] {
        let _ = std::fs::remove_file(&got);
        inside_ok(&inmate.ns, &["curl", "-sS", "-m", "10", "-o", got.to_str().unwrap(), &format!("http://{host}/page")]);
        assert!(std::fs::read(&got).unwrap() == page, "{host}");
    }
    let log = std::fs::read_to_string(files.path().join("access")).unwrap();
    for address in ["198.51.100.2", "2001:db8::2"] {
        assert!(log.lines().any(|line| line.starts_with(&format!("{address} "))), "{log}");
    }
    realm.end();
}

/// What the host's routes and the other end say is what the container's program is told, and at once.
#[test]
fn what_cannot_be_connected_to_is_told_at_once() {
    let Some(realm) = Realm::new("stref", &[]) else { return };
    let inmate = realm.attach("client");
    assert_eq!(refusal(&inmate.ns, at(FAR[0], 81)), libc::ECONNREFUSED);
    assert_eq!(refusal(&inmate.ns, at(FAR6, 81)), libc::ECONNREFUSED);
    let host = &realm.host.name;
    for (kind, v4, v6) in [("unreachable", "192.0.2.1", "2001:db8:1::1"), ("prohibit", "192.0.2.2", "2001:db8:2::1")] {
        ip(&["-n", host, "route", "add", kind, v4]);
        ip(&["-n", host, "route", "add", kind, v6]);
    }
    ip(&["-n", host, "route", "add", "blackhole", "192.0.2.3"]);
    ip(&["-n", host, "route", "add", "blackhole", "2001:db8:3::1"]);
    ip(&["-n", host, "route", "add", "throw", "192.0.2.4"]);
    // Nobody has this address: the neighbour does not answer (3 s by default, ip-sysctl).
    assert_eq!(refusal(&inmate.ns, at("192.0.2.1", 80)), libc::EHOSTUNREACH);
    assert_eq!(refusal(&inmate.ns, at("2001:db8:1::1", 80)), libc::EHOSTUNREACH);
    for address in ["192.0.2.2", "2001:db8:2::1"] {
        let errno = refusal(&inmate.ns, at(address, 80));
        assert!([libc::EHOSTUNREACH, libc::EACCES].contains(&errno), "{address}: {errno}");
    }
    for address in ["192.0.2.3", "2001:db8:3::1"] {
        let errno = refusal(&inmate.ns, at(address, 80));
        assert!([libc::EHOSTUNREACH, libc::ENETUNREACH, libc::EACCES, libc::EINVAL].contains(&errno), "{address}: {errno}");
    }
    ip(&["-n", host, "route", "del", "default"]);
    ip(&["-n", host, "-6", "route", "del", "default"]);
    assert_eq!(refusal(&inmate.ns, at("192.0.2.5", 80)), libc::ENETUNREACH);
    assert_eq!(refusal(&inmate.ns, at("2001:db8:9::1", 80)), libc::ENETUNREACH);
    realm.end();
}

/// N22: one end has said all, the other goes on for as long as it likes.
#[test]
fn a_half_closed_connection_carries_the_other_direction() {
    let Some(realm) = Realm::new("sthalf", &[]) else { return };
    let inmate = realm.attach("client");
    std::thread::scope(|scope| {
        for (port, container_first) in [(80, true), (81, false)] {
            let (inmate, realm) = (&inmate, &realm);
            scope.spawn(move || {
                let [inner, outer] = pair(&inmate.ns, at(FAR[0], port), &realm.outside, at(ANY, port));
                let (first, mut second) = if container_first { (&inner, &outer) } else { (&outer, &inner) };
                pour(first, MIB).unwrap();
                first.shutdown(Shutdown::Write).unwrap();
                drain(second, MIB);
                assert_eq!(second.read(&mut [0]).unwrap(), 0, "the end of data came");
                for _ in 0..15 {
                    pour(second, MIB).unwrap();
                    drain(first, MIB);
                    std::thread::sleep(Duration::from_millis(200));
                }
                second.shutdown(Shutdown::Write).unwrap();
                let mut first = first;
                assert_eq!(first.read(&mut [0]).unwrap(), 0);
            });
        }
    });
    wait_for("both closed", || realm.switch.json(&["flows"]).as_array().unwrap().is_empty());
    realm.end();
}

/// Closes with a RST (socket(7), SO_LINGER).
fn reset(stream: TcpStream) {
    nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
}

#[test]
fn a_reset_goes_through_both_ways() {
    let Some(realm) = Realm::new("strst", &[]) else { return };
    let inmate = realm.attach("client");
    let before = realm.fds();
    for (port, by_server) in [(80, true), (81, false)] {
        let [inner, outer] = pair(&inmate.ns, at(FAR[0], port), &realm.outside, at(ANY, port));
        let (ending, mut other) = if by_server { (outer, inner) } else { (inner, outer) };
        pour(&ending, 1_000).unwrap();
        drain(&other, 1_000);
        reset(ending);
        let start = Instant::now();
        assert_eq!(other.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset, "{port}");
        assert!(start.elapsed() < AT_ONCE);
    }
    // With data on its way in the other direction.
    let [inner, outer] = pair(&inmate.ns, at(FAR[0], 82), &realm.outside, at(ANY, 82));
    let writer = std::thread::spawn(move || pour(&inner, 100 * MIB).unwrap_err().kind());
    drain(&outer, MIB);
    reset(outer);
    assert!([ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&writer.join().unwrap()));
    realm.wait_for_fds(before);
    realm.end();
}

/// Who does not read is waited for, with a bounded amount of memory.
#[test]
fn a_reader_that_sleeps_gets_all_of_it() {
    let Some(realm) = Realm::new("stslow", &[]) else { return };
    let inmate = realm.attach("client");
    let rss = realm.rss();
    std::thread::scope(|scope| {
        for (port, outward) in [(80, true), (81, false)] {
            let (inmate, realm) = (&inmate, &realm);
            scope.spawn(move || {
                let [inner, outer] = pair(&inmate.ns, at(FAR[0], port), &realm.outside, at(ANY, port));
                let (from, into) = if outward { (inner, outer) } else { (outer, inner) };
                let writer = std::thread::spawn(move || pour(&from, 50 * MIB).map(|()| from).unwrap());
                std::thread::sleep(Duration::from_secs(3));
                assert!(!writer.is_finished(), "the writer is held back");
                drain(&into, 50 * MIB);
                drop(writer.join().unwrap());
            });
        }
        std::thread::sleep(Duration::from_secs(2));
        assert!(realm.rss() < rss + 48 * 1024, "{} KiB, {rss} before", realm.rss());
    });
    realm.end();
}

#[test]
fn four_streams_of_iperf3_each_way() {
    let Some(realm) = Realm::new("stiperf", &["iperf3"]) else { return };
    let inmate = realm.attach("client");
    let _server = Background::start(inside(&realm.outside, &["iperf3", "-s"]).stdout(Stdio::null()).stderr(Stdio::null()));
    wait_for("iperf3", || within(&realm.outside, || TcpStream::connect(("127.0.0.1", 5_201)).is_ok()));
    std::thread::sleep(Duration::from_millis(300));
    for reverse in [&[][..], &["-R"]] {
        let said = inside_ok(&inmate.ns, &[&["iperf3", "-c", FAR[0], "-t", "1", "-P", "4", "-J"], reverse].concat());
        let said: Value = serde_json::from_str(&said).unwrap();
        let streams = said["end"]["streams"].as_array().unwrap();
        assert_eq!(streams.len(), 4);
        for stream in streams {
            assert!(stream["receiver"]["bytes"].as_u64().unwrap() > MIB as u64, "{stream}");
        }
    }
    realm.end();
}

/// What is left in the host's socket after the container has it must not fill it: a large buffer counts whole while an octet of it is there.
#[test]
fn an_echo_of_a_few_mebibytes_never_stalls() {
    let Some(realm) = Realm::new("stecho", &[]) else { return };
    let inmate = realm.attach("client");
    echo_streams(listen(&realm.outside, at(ANY, 81)));
    within(&inmate.ns, || {
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..40).for_each(|_| there_and_back(4 * MIB)));
            }
        });
        // Octet by octet.
        let mut stream = TcpStream::connect(at(FAR[0], 81)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        for number in 0..3_000 {
            let mut octet = [number as u8];
            stream.write_all(&octet).unwrap();
            stream.read_exact(&mut octet).unwrap_or_else(|error| panic!("octet {number}: {error}"));
        }
    });
    realm.end();
}

/// Echoes each connection, in small pieces.
fn echo_streams(listener: TcpListener) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            std::thread::spawn(move || std::io::copy(&mut stream.try_clone()?, &mut stream));
        }
    });
}

fn there_and_back(octets: usize) {
    let stream = TcpStream::connect(at(FAR[0], 81)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| pour(&stream, octets).unwrap());
        drain(&stream, octets);
    });
}

/// Few octets that stay unread may be the end of a buffer that fills the socket: then its sender is told to wait, for good.
#[test]
fn what_the_container_has_does_not_stay_in_the_socket() {
    let Some(realm) = Realm::new("stleft", &[]) else { return };
    let inmate = realm.attach("client");
    let [mut inner, mut outer] = pair(&inmate.ns, at(FAR[0], 81), &realm.outside, at(ANY, 81));
    for octets in [1, 1_000, 7_000, 100_000] {
        outer.write_all(&pattern(octets)).unwrap();
        inner.read_exact(&mut vec![0; octets]).unwrap();
        wait_for("an empty socket", || {
            let sockets = inside_ok(&realm.host, &["ss", "-Htn", "state", "established", "dport", "=", ":81"]);
            let unread: Vec<&str> = sockets.lines().filter_map(|line| line.split_whitespace().next()).collect();
            assert_eq!(unread.len(), 1, "{sockets}");
            unread == ["0"]
        });
    }
    realm.end();
}

/// Answers each connection with what it said, and ends it first.
fn echo_once(listener: TcpListener) {
    for stream in listener.incoming() {
        let mut said = [0; 8];
        let answered = stream.and_then(|mut stream| stream.read_exact(&mut said).and_then(|()| stream.write_all(&said)));
        if let Err(error) = answered {
            common::say(&format!("server: {error}"));
        }
    }
}

#[test]
fn nine_hundred_at_once_and_ten_thousand_in_turn() {
    let Some(realm) = Realm::new("stmany", &[]) else { return };
    let inmate = realm.attach("client");
    let before = realm.fds();
    let listener = listen(&realm.outside, at(ANY, 80));
    let mut pairs = Vec::new();
    for number in 0..900_u32 {
        let mut inner = dial(&inmate.ns, at(FAR[0], 80)).unwrap_or_else(|error| panic!("connection {number}: {error}"));
        inner.write_all(&number.to_be_bytes()).unwrap();
        pairs.push((inner, listener.accept().unwrap().0));
    }
    assert_eq!(realm.switch.json(&["flows"]).as_array().unwrap().len(), 900);
    for (number, (inner, outer)) in (0_u32..).zip(&mut pairs) {
        let mut said = [0; 4];
        outer.read_exact(&mut said).unwrap();
        outer.write_all(&said).unwrap();
        inner.read_exact(&mut said).unwrap();
        assert_eq!(said, number.to_be_bytes());
    }
    drop(pairs);
    realm.wait_for_fds(before);
    const CALLERS: usize = 4;
    for _ in 0..CALLERS {
        let listener = listener.try_clone().unwrap();
        std::thread::spawn(move || echo_once(listener));
    }
    let start = Instant::now();
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let ns = &inmate.ns;
            scope.spawn(move || {
                within(ns, || {
                    for number in (caller..10_000).step_by(CALLERS) {
                        call(number).unwrap_or_else(|error| panic!("connection {number}: {error}"));
                    }
                });
            });
        }
    });
    common::say(&format!("10,000 connections in {:?}", start.elapsed()));
    realm.wait_for_fds(before);
    realm.end();
}

/// With 256 files, of which the daemon keeps 64: who comes too late is refused and told, who is there lives, and a restart changes nothing.
#[test]
fn few_files_are_shared_and_the_rest_is_refused() {
    let Some(realm) = Realm::by_way_of("stfew", &["prlimit"], &["prlimit", "--nofile=256:256"]) else { return };
    let inmates = ["stfew1", "stfew2", "stfew3"].map(|name| realm.attach(name));
    let before = realm.fds();
    let listener = listen(&realm.outside, at(ANY, 80));
    let mut held = Vec::new();
    // Three times what is free, that is three quarters of what is left; the last has what there is.
    for (inmate, wanted) in inmates.iter().zip([144, 180, 192]) {
        while let Ok(inner) = dial(&inmate.ns, at(FAR[0], 80)) {
            held.push((inner, listener.accept().unwrap().0));
        }
        assert_eq!(held.len(), wanted);
        assert_eq!(refusal(&inmate.ns, at(FAR[0], 80)), libc::EHOSTUNREACH);
    }
    assert!(realm.switch.drops("nat-quota") >= 4 && realm.switch.drops("nat-full") >= 2);
    let stats = realm.switch.ok(&["stats"]);
    assert!(stats.contains("nat-quota") && stats.contains("nat-full"), "{stats}");
    // Who comes by a published port is reset.
    let _server = listen(&inmates[0].ns, at(ANY, 80));
    realm.publish(&["8080:80", "stfew1"]);
    let refused = dial(&realm.outside, at(HOST[0], 8_080)).and_then(|mut stream| stream.read(&mut [0]));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let row = &realm.switch.json(&["published"])[0];
    assert_eq!((&row["sessions"], &row["refused"]), (&0.into(), &1.into()), "{row}");
    for round in 0..2 {
        for (number, (inner, outer)) in (0_u32..).zip(&mut held) {
            let mut said = [0; 4];
            inner.write_all(&number.to_be_bytes()).unwrap_or_else(|error| panic!("{round}: {number}: {error}"));
            outer.read_exact(&mut said).unwrap_or_else(|error| panic!("{round}: {number}: {error}"));
            outer.write_all(&said).unwrap();
            inner.read_exact(&mut said).unwrap_or_else(|error| panic!("{round}: {number}: {error}"));
            assert_eq!(said, number.to_be_bytes());
        }
        if round == 0 {
            realm.switch.ok(&["restart"]);
        }
    }
    assert_eq!(refusal(&inmates[2].ns, at(FAR[0], 80)), libc::EHOSTUNREACH);
    drop(held);
    // The published port's.
    realm.wait_for_fds(before + 1);
    for inmate in &inmates {
        for _ in 0..10 {
            let mut inner = dial(&inmate.ns, at(FAR[0], 80)).unwrap();
            listener.accept().unwrap().0.write_all(b"hello").unwrap();
            inner.read_exact(&mut [0; 5]).unwrap();
        }
    }
    dial(&realm.outside, at(HOST[0], 8_080)).unwrap();
    realm.end();
}

fn call(number: usize) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(at(FAR[0], 80))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(&number.to_be_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    assert_eq!(answer, number.to_be_bytes());
    Ok(())
}

#[test]
fn a_soak_leaves_nothing_behind() {
    soak("stsoak", Duration::from_secs(20));
}

#[test]
#[ignore = "ten minutes"]
fn a_long_soak_leaves_nothing_behind() {
    soak("stlong", Duration::from_secs(600));
}

/// One caller's traffic: short ones, long ones, cut ones, refused ones, datagrams.
fn mix(ns: &TestNs, until: Instant, calls: &AtomicUsize) {
    within(ns, || {
        let datagrams = std::net::UdpSocket::bind((ANY, 0)).unwrap();
        datagrams.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        for number in 0.. {
            if Instant::now() > until {
                return;
            }
            match number % 8 {
                0 => there_and_back(4 * MIB),
                1 => reset(TcpStream::connect(at(FAR[0], 81)).unwrap()),
                2 => assert!(TcpStream::connect(at(FAR[0], 82)).is_err()),
                3 => {
                    datagrams.send_to(&pattern(4_000), at(FAR[1], 7)).unwrap();
                    assert_eq!(datagrams.recv(&mut [0; 8_000]).unwrap(), 4_000);
                }
                _ => call(number).unwrap(),
            }
            calls.fetch_add(1, Ordering::Relaxed);
        }
    });
}

fn soak(what: &str, time: Duration) {
    let Some(realm) = Realm::new(what, &[]) else { return };
    let inmates = ["one", "two"].map(|name| realm.attach(&format!("{what}{name}")));
    let (once, back) = (listen(&realm.outside, at(ANY, 80)), listen(&realm.outside, at(ANY, 81)));
    std::thread::spawn(move || echo_once(once));
    echo_streams(back);
    common::sockets::echo(&realm.outside, at(FAR[1], 7));
    let before = realm.fds();
    let calls = AtomicUsize::new(0);
    let until = Instant::now() + time;
    let rss = std::thread::scope(|scope| {
        for inmate in &inmates {
            scope.spawn(|| mix(&inmate.ns, until, &calls));
        }
        // What is reserved once is reserved by then.
        std::thread::sleep(time / 4);
        realm.rss()
    });
    common::say(&format!("{} calls, {rss} KiB, then {} KiB", calls.load(Ordering::Relaxed), realm.rss()));
    assert!(realm.rss() < rss + 8 * 1024, "{rss} KiB at a quarter, {} KiB at the end", realm.rss());
    // A mapping of each inmate is left for its time.
    realm.wait_for_fds(before + inmates.len());
    for inmate in &inmates {
        realm.switch.ok(&["flush", "flows", &inmate.name]);
    }
    realm.wait_for_fds(before);
    realm.end();
}

#[test]
fn detach_and_flush_end_connections_in_the_midst_of_traffic() {
    let Some(realm) = Realm::new("stgone", &[]) else { return };
    let before = realm.fds();
    for (port, verb) in [(80, &["flush", "flows", "client"][..]), (81, &["detach", "client"])] {
        let inmate = realm.attach("client");
        let with = realm.fds();
        let [inner, outer] = pair(&inmate.ns, at(FAR[0], port), &realm.outside, at(ANY, port));
        let datagrams = udp(&inmate.ns, at(ANY, 0));
        datagrams.send_to(b"x", at(FAR[0], 9)).unwrap();
        let [mut reader, writer] = [outer.try_clone().unwrap(), outer];
        let ends = [
            std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()).err()),
            std::thread::spawn(move || pour(&writer, 10_000 * MIB).err()),
        ];
        let feeder = inner.try_clone().unwrap();
        std::thread::spawn(move || pour(&feeder, 10_000 * MIB));
        let mut sink = inner.try_clone().unwrap();
        std::thread::spawn(move || std::io::copy(&mut sink, &mut std::io::sink()));
        std::thread::sleep(Duration::from_millis(300));
        realm.switch.ok(verb);
        // A socket's error is told once, to whoever of the two asks first.
        let errors: Vec<_> = ends.into_iter().filter_map(|end| end.join().unwrap()).collect();
        assert!(errors.iter().any(|error| error.kind() == ErrorKind::ConnectionReset), "{verb:?}: {errors:?}");
        if verb[0] == "flush" {
            realm.wait_for_fds(with);
            // The container's end learns it with its next segment.
            let mut inner = inner;
            wait_for("a reset inside", || inner.write(&[0; 1_000]).is_err());
            dial(&inmate.ns, at(FAR[0], 1)).unwrap_err();
            realm.switch.ok(&["detach", "client"]);
        }
        realm.wait_for_fds(before);
    }
    realm.end();
}
