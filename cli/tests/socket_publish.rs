//! Published ports with sockets as the uplink: they are the host's own sockets, so what the host says of them goes for them.
mod common;

use common::outside::within;
use common::sockets::{
    AT_ONCE, FAR, GATEWAY, HOST, HOST6, PATIENCE, Realm, answered, asked, at, dial, listen, nginx, pattern, refusal, serve_lines,
    udp,
};
use common::{Switch, TestNs, holder, inside, inside_ok, privileged, wait_for};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::{TcpListener, UdpSocket};
use std::time::Instant;

const ANY: &str = "0.0.0.0";

/// N62: the client's address is not ours to change.
#[test]
fn n62_a_published_server_sees_its_client() {
    let Some(realm) = Realm::new("spsee", &["curl", "nginx"]) else { return };
    let web = realm.attach("web");
    let files = tempfile::tempdir().unwrap();
    let page = pattern(1 << 20);
    let _server = nginx(&web.ns, files.path(), &page);
    realm.publish(&["80:80", "web"]);
    let got = files.path().join("got");
    for (host, client) in [(HOST[0].to_owned(), FAR[1]), (format!("[{HOST6}]"), "2001:db8::10")] {
        let url = format!("http://{host}/page");
        inside_ok(&realm.outside, &["curl", "-sS", "-m", "10", "--interface", client, "-o", got.to_str().unwrap(), &url]);
        assert!(std::fs::read(&got).unwrap() == page, "{host}");
        std::fs::remove_file(&got).unwrap();
        let log = std::fs::read_to_string(files.path().join("access")).unwrap();
        assert!(log.lines().last().unwrap().starts_with(&format!("{client} ")), "{log}");
    }
    // Nobody listens behind it: it is closed, as far as a listener can tell (accepted, then reset).
    realm.publish(&["81:81", "web"]);
    let error = dial(&realm.outside, at(HOST[0], 81)).and_then(|mut stream| std::io::Read::read(&mut stream, &mut [0]));
    assert!(error.is_err(), "{error:?}");
    realm.end();
}

#[test]
fn n63_a_loopback_port_is_for_the_host_only() {
    let Some(realm) = Realm::new("sploop", &[]) else { return };
    let web = realm.attach("web");
    serve_lines(&web.ns, "web", at(ANY, 80));
    realm.publish(&["127.0.0.1:8080:80", "web"]);
    // To the container, who has no such address as 127.0.0.1 on its link, it is the gateway.
    assert_eq!(asked(&realm.host, at("127.0.0.1", 8_080)), ("web".into(), GATEWAY.into()));
    for host in [HOST[0], HOST[1], HOST6] {
        assert_eq!(refusal(&realm.outside, at(host, 8_080)), libc::ECONNREFUSED);
        assert_eq!(refusal(&realm.host, at(host, 8_080)), libc::ECONNREFUSED);
    }
    realm.end();
}

#[test]
fn n65_one_port_on_two_addresses_leads_to_two_containers() {
    let Some(realm) = Realm::new("sptwo", &[]) else { return };
    let _inmates = [("one", HOST[0]), ("two", HOST[1])].map(|(name, address)| {
        let inmate = realm.attach(name);
        serve_lines(&inmate.ns, name, at(ANY, 80));
        realm.publish(&[&format!("{address}:8080:80"), name]);
        inmate
    });
    for (name, address) in [("one", HOST[0]), ("two", HOST[1])] {
        for from in [&realm.host, &realm.outside] {
            assert_eq!(asked(from, at(address, 8_080)).0, name);
        }
    }
    realm.end();
}

#[test]
fn n67_an_answer_leaves_from_the_address_that_was_asked() {
    let Some(realm) = Realm::new("spudp", &[]) else { return };
    let web = realm.attach("web");
    common::sockets::echo(&web.ns, at("::", 53));
    realm.publish(&["5353:53/udp", "web"]);
    for (own, addresses) in [(ANY, &HOST[..]), ("::", &[HOST6])] {
        let client = udp(&realm.outside, at(own, 6_000));
        for address in addresses.iter().chain(addresses) {
            for len in [0, 1, 1_472, 8_000] {
                client.send_to(&pattern(len), at(address, 5_353)).unwrap();
                let mut came = vec![0; 10_000];
                let (got, from) = client.recv_from(&mut came).unwrap_or_else(|error| panic!("{address}: {len}: {error}"));
                assert!((got, from) == (len, at(address, 5_353)) && came[..got] == pattern(len), "{address}: {len}: {from}");
            }
        }
    }
    realm.end();
}

/// What the network says of an answer is told to the server that sent it.
#[test]
fn a_client_that_is_gone_is_told_to_the_container() {
    let Some(realm) = Realm::new("sptold", &[]) else { return };
    let web = realm.attach("web");
    realm.publish(&["5353-5354:53-54/udp", "web"]);
    for (own, host, port) in [(ANY, HOST[0], 53), ("::", HOST6, 54)] {
        let server = udp(&web.ns, at(own, port));
        let client = udp(&realm.outside, at(own, 0));
        client.send_to(b"hello", at(host, 5_300 + port)).unwrap();
        let (_, peer) = server.recv_from(&mut [0; 9]).unwrap();
        server.connect(peer).unwrap();
        drop(client);
        server.send(b"too late").unwrap();
        let told = server.recv(&mut [0; 9]).unwrap_err();
        assert_eq!(told.raw_os_error(), Some(libc::ECONNREFUSED), "{host}");
    }
    realm.end();
}

/// Whether a port of the host is free.
fn is_free(ns: &TestNs, port: u16) -> bool {
    within(ns, || TcpListener::bind((ANY, port)).is_ok() && UdpSocket::bind((ANY, port)).is_ok())
}

#[test]
fn n68_a_port_that_is_held_publishes_nothing() {
    let Some(realm) = Realm::new("spheld", &[]) else { return };
    let _web = realm.attach("web");
    let held = listen(&realm.host, at(ANY, 8_082));
    let refused = realm.switch.fails(1, &["publish", "8082:80", "web"]);
    assert!(refused.starts_with("0.0.0.0:8082/tcp is held by ") && refused.contains("nothing was published"), "{refused}");
    let refused = realm.switch.fails(1, &["publish", "8080-8084:80-84", "web"]);
    assert!(refused.starts_with("0.0.0.0:8082/tcp is held by "), "{refused}");
    let datagrams = udp(&realm.host, at(HOST[0], 9_001));
    let refused = realm.switch.fails(1, &["publish", "9000-9002:53/udp", "web"]);
    assert!(!refused.is_empty());
    let refused = realm.switch.fails(1, &["publish", "192.0.2.77:8080:80", "web"]);
    assert!(refused.contains("192.0.2.77 is no address of this host"), "{refused}");
    assert_eq!(realm.switch.json(&["published"]), json!([]));
    for port in [8_080, 8_081, 8_083, 8_084, 9_000, 9_002] {
        wait_for("a free port", || is_free(&realm.host, port));
    }
    drop((held, datagrams));
    // Of two containers the first has it.
    let _other = realm.attach("other");
    realm.publish(&["8080-8084:80-84", "web"]);
    let refused = realm.switch.fails(1, &["publish", "8084:80", "other"]);
    assert!(refused.contains("web"), "{refused}");
    realm.end();
}

/// N12 and N30: by the host's address and by the gateway's, from another container and from its own.
#[test]
fn hairpin() {
    let Some(realm) = Realm::new("sphair", &[]) else { return };
    let (web, client) = (realm.attach("web"), realm.attach("client"));
    serve_lines(&web.ns, "web", at(ANY, 80));
    realm.publish(&["8080:80", "web"]);
    for from in [&client.ns, &web.ns] {
        for to in [HOST[0], HOST[1], GATEWAY] {
            assert_eq!(asked(from, at(to, 8_080)).0, "web", "{to}");
        }
    }
    common::sockets::echo(&web.ns, at(ANY, 53));
    realm.publish(&["5353:53/udp", "web"]);
    realm.publish(&[&format!("{}:5354:53/udp", HOST[1]), "web"]);
    for from in [&client.ns, &web.ns] {
        for (host, port) in [(HOST[0], 5_353), (HOST[1], 5_353), (GATEWAY, 5_353), (HOST[1], 5_354), (GATEWAY, 5_354)] {
            let caller = udp(from, at(ANY, 0));
            caller.send_to(b"hello", at(host, port)).unwrap();
            let answer = caller.recv_from(&mut [0; 9]).unwrap_or_else(|error| panic!("{host}:{port}: {error}"));
            assert_eq!(answer, (5, at(host, port)));
        }
    }
    // Between containers nothing is in the way.
    assert_eq!(asked(&client.ns, at(&web.ip.to_string(), 80)), ("web".into(), client.ip.to_string()));
    realm.end();
}

#[test]
fn a_group_shares_and_from_admits() {
    let Some(realm) = Realm::new("spgrp", &[]) else { return };
    let inmates = ["one", "two"].map(|name| (realm.attach(name), name));
    for (inmate, name) in &inmates {
        serve_lines(&inmate.ns, name, at(ANY, 80));
    }
    realm.publish(&["8080:80", "one,two"]);
    let seen: BTreeSet<String> = (0..40).map(|_| asked(&realm.outside, at(HOST[0], 8_080)).0).collect();
    assert_eq!(seen, ["one", "two"].map(String::from).into());
    realm.switch.ok(&["unpublish", "8080", "one"]);
    for _ in 0..20 {
        assert_eq!(asked(&realm.outside, at(HOST[0], 8_080)).0, "two");
    }
    // Of the others a connection is reset before anything is said.
    realm.publish(&["8081:80", "one", "--from", "198.51.100.11/32"]);
    let from = |address: &str| {
        let script = "import socket, sys\n\
                      s = socket.create_connection((sys.argv[1], 8081), 5, (sys.argv[2], 0))\n\
                      s.sendall(b'hello\\n')\n\
                      print(s.recv(99).decode())\n";
        let output = inside(&realm.outside, &["python3", "-c", script, HOST[0], address]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(from(FAR[1]).starts_with("one "));
    assert_eq!(from(FAR[0]), "");
    let rows = realm.switch.json(&["published"]);
    let row = rows.as_array().unwrap().iter().find(|row| row["first"] == 8_081).unwrap();
    assert_eq!(row["refused"], 1, "{row}");
    realm.end();
}

#[test]
fn unpublish_closes_at_once_and_connections_go_on() {
    let Some(realm) = Realm::new("spun", &[]) else { return };
    let web = realm.attach("web");
    serve_lines(&web.ns, "web", at(ANY, 80));
    common::sockets::echo(&web.ns, at(ANY, 53));
    let before = realm.fds();
    realm.publish(&["8080:80", "web"]);
    realm.publish(&["5353:53/udp", "web"]);
    let call = dial(&realm.outside, at(HOST[0], 8_080)).unwrap();
    assert_eq!(answered(&call).0, "web");
    let client = udp(&realm.outside, at(ANY, 0));
    client.connect(at(HOST[0], 5_353)).unwrap();
    client.send(b"hello").unwrap();
    assert_eq!(client.recv(&mut [0; 9]).unwrap(), 5);
    views(&realm);
    realm.switch.ok(&["unpublish", "8080"]);
    realm.switch.ok(&["unpublish", "5353/udp"]);
    assert_eq!(refusal(&realm.outside, at(HOST[0], 8_080)), libc::ECONNREFUSED);
    client.send(b"hello").unwrap();
    assert_eq!(client.recv(&mut [0; 9]).unwrap_err().raw_os_error(), Some(libc::ECONNREFUSED));
    for _ in 0..3 {
        assert_eq!(answered(&call), ("web".into(), FAR[0].into()));
    }
    drop(call);
    realm.wait_for_fds(before);
    assert_eq!(realm.switch.json(&["published"]), json!([]));
    // What is detached is published no longer.
    realm.publish(&["8080:80", "web"]);
    realm.switch.ok(&["detach", "web"]);
    assert_eq!(refusal(&realm.outside, at(HOST[0], 8_080)), libc::ECONNREFUSED);
    realm.end();
}

/// What is shown of a call to 8080/tcp and of one to 5353/udp.
fn views(realm: &Realm) {
    let rows = realm.switch.json(&["published"]);
    for (protocol, first, to) in [("tcp", 8_080, 80), ("udp", 5_353, 53)] {
        let row = rows.as_array().unwrap().iter().find(|row| row["protocol"] == protocol).unwrap();
        assert_eq!((&row["first"], &row["to"], &row["names"]), (&json!(first), &json!(to), &json!(["web"])), "{row}");
        assert_eq!(row["sessions"], 1, "{row}");
        assert!(row["packets"].as_u64() > Some(1) && row["bytes"].as_u64() > Some(40), "{row}");
    }
    let text = realm.switch.ok(&["published"]);
    assert!(text.contains("8080") && text.contains("5353") && text.contains("web"), "{text}");
    let flows = realm.switch.json(&["flows", "web"]);
    assert_eq!(flows.as_array().unwrap().len(), 2, "{flows}");
    let text = realm.switch.ok(&["flows", "web"]);
    assert!(text.contains("established") && text.contains("answered") && text.contains(FAR[0]), "{text}");
    let nat = realm.switch.json(&["nat"]);
    assert!(nat.as_array().is_some_and(|rows| !rows.is_empty()), "{nat}");
    assert!(realm.switch.ok(&["nat"]).lines().count() >= 2);
}

#[test]
fn counters_outlive_a_restart() {
    let Some(realm) = Realm::new("spcnt", &[]) else { return };
    let web = realm.attach("web");
    serve_lines(&web.ns, "web", at(ANY, 80));
    common::sockets::echo(&web.ns, at(ANY, 53));
    for words in [&["8080:80", "web"][..], &["8081:80", "web"], &["8082:80", "web", "--from", "203.0.113.0/24"]] {
        realm.publish(words);
    }
    realm.publish(&["5353:53/udp", "web"]);
    // One that is over, one that is refused, and two that go on.
    asked(&realm.outside, at(HOST[0], 8_080));
    let _ = dial(&realm.outside, at(HOST[0], 8_082)).and_then(|mut stream| std::io::Read::read(&mut stream, &mut [0]));
    let call = dial(&realm.outside, at(HOST[0], 8_081)).unwrap();
    answered(&call);
    let client = udp(&realm.outside, at(ANY, 0));
    let ask = || {
        client.send_to(b"hello", at(HOST[0], 5_353)).unwrap();
        assert_eq!(client.recv(&mut [0; 9]).unwrap(), 5);
    };
    ask();
    wait_for("one TCP flow, one of UDP", || realm.switch.json(&["flows"]).as_array().unwrap().len() == 2);
    std::thread::sleep(PATIENCE);
    let counted = || {
        let rows = realm.switch.json(&["published"]);
        let row = |first: u16| rows.as_array().unwrap().iter().find(|row| row["first"] == first).unwrap().clone();
        [8_080, 8_081, 8_082, 5_353]
            .map(|first| ["sessions", "packets", "bytes", "refused"].map(|key| row(first)[key].as_u64().unwrap()))
    };
    let before = counted();
    assert!(before[0][1] > 4 && before[1][1] > 4 && before[3][..2] == [1, 2] && before[2] == [0, 0, 0, 1], "{before:?}");
    realm.switch.ok(&["restart"]);
    let after = counted();
    assert_eq!((after[0], after[2], after[3]), (before[0], before[2], before[3]));
    // What was not acknowledged yet is once more.
    assert!(after[1][0] == 1 && (0..3).contains(&(after[1][1] - before[1][1])), "{before:?}, then {after:?}");
    answered(&call);
    asked(&realm.outside, at(HOST[0], 8_080));
    ask();
    let later = counted();
    assert_eq!((later[0][0], later[3][1]), (2, 4), "{later:?}");
    assert!(later[0][1] > after[0][1] + 4 && later[1][1] > after[1][1], "{after:?}, then {later:?}");
    realm.end();
}

#[test]
fn two_thousand_ports() {
    let Some(realm) = Realm::new("sprange", &[]) else { return };
    let web = realm.attach("web");
    for port in [30_000, 30_777, 31_999] {
        serve_lines(&web.ns, "web", at(ANY, port));
    }
    let (before, start) = (realm.fds(), Instant::now());
    realm.publish(&["20000-21999:30000-31999", "web"]);
    common::say(&format!("2,000 ports in {:?}", start.elapsed()));
    // Connections to the control socket, which come and go, count too.
    assert!(realm.fds().abs_diff(before + 2_000) <= 3, "{} files, {before} before", realm.fds());
    for port in [20_000, 20_777, 21_999] {
        assert_eq!(asked(&realm.outside, at(HOST[0], port)), ("web".into(), FAR[0].into()));
    }
    realm.switch.ok(&["unpublish", "20000"]);
    assert_eq!(refusal(&realm.outside, at(HOST[0], 21_999)), libc::ECONNREFUSED);
    realm.wait_for_fds(before);
    realm.end();
}

/// nobody.
const NOBODY: u32 = 65_534;

#[test]
fn a_user_is_told_of_privileged_ports() {
    let Some(()) = privileged() else { return };
    let host = TestNs::new("spuser");
    inside_ok(&host, &["ip", "link", "set", "lo", "up"]);
    let switch = Switch::ordinary(NOBODY).by_way_of(&["ip", "netns", "exec", &host.name].map(String::from));
    switch.ok(&["up", "--subnet", "10.77.0.0/24"]);
    let holder = holder(&switch);
    // Which needs no /dev/net/tun.
    switch.attach(&[&holder.pid(), "--name", "web", "--type", "veth"]);
    let start = Instant::now();
    let refused = switch.fails(1, &["publish", "80:80", "web"]);
    assert!(refused.contains("80") && refused.contains("ip_unprivileged_port_start"), "{refused}");
    assert!(start.elapsed() < AT_ONCE);
    assert_eq!(switch.json(&["published"]), json!([]));
    switch.ok(&["publish", "8080:80", "web"]);
    assert!(!is_free(&host, 8_080));
    // Nobody listens inside: the connection ends, and at once.
    let ended = dial(&host, at("127.0.0.1", 8_080)).and_then(|mut call| {
        call.set_read_timeout(Some(PATIENCE * 10))?;
        std::io::Read::read(&mut call, &mut [0])
    });
    assert!(matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset), "{ended:?}");
    switch.assert_balanced();
}

/// What a service manager listens on for us (sd_listen_fds(3)) is taken in place of a socket of our own: its port is taken by it already.
#[test]
fn a_listener_that_was_passed_is_published() {
    let Some(realm) = Realm::new("spfd", &["python3"]) else { return };
    let web = realm.attach("web");
    serve_lines(&web.ns, "web", at(ANY, 80));
    let pass = "import os, socket, sys\n\
                s = socket.socket(); s.bind(('0.0.0.0', 8090)); s.listen()\n\
                os.dup2(s.fileno(), 3); os.set_inheritable(3, True)\n\
                os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n\
                os.execv(sys.argv[1], [sys.argv[1], 'publish', '8090:80', 'web'])";
    let program = realm.switch.program_path().to_string();
    let output = realm.switch.program("python3", &["-c", pass, &program]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(asked(&realm.outside, at(HOST[0], 8_090)).0.starts_with("web"));
    realm.end();
}
