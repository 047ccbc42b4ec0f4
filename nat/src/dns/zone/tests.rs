use super::*;
use crate::gateway::GatewayV6;
use crate::station::{AddressGuard, Limits, Station};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;
use vswitch_switch::UnicastMac;

const V6: &str = "fd00:88::2";
/// What is behind `\x03web` of `web.vswitch.internal`.
const BELOW: &[u8] = b"\x07vswitch\x08internal\x00";
/// The SOA record of a denial, from its type on.
const SOA: &[u8] =
    b"\x00\x06\x00\x01\x00\x00\x00\x05\x00\x47\x07gateway\x07vswitch\x08internal\x00\x06nobody\x07vswitch\x08internal\x00\
                     \x00\x00\x00\x01\x00\x00\x0e\x10\x00\x00\x02\x58\x00\x01\x51\x80\x00\x00\x00\x05";

fn config() -> GatewayConfig {
    GatewayConfig {
        mac: UnicastMac::for_ipv4([10, 88, 0, 1]),
        address: Ipv4Addr::new(10, 88, 0, 1),
        prefix: 20,
        v6: Some(GatewayV6 { address: "fd00:88::1".parse().unwrap(), prefix: 64, link_local: "fe80::1".parse().unwrap() }),
    }
}

fn station(last: u8) -> Station {
    let v4 = Ipv4Addr::new(10, 88, 0, last);
    let mac = UnicastMac::for_ipv4(v4.octets());
    Station { mac, v4: Some(v4), v6: None, mtu: 1_500, limits: Limits::default(), guard: AddressGuard::default() }
}

fn stations() -> Stations {
    let mut stations = Stations::new(1);
    let v6 = Some(V6.parse().unwrap());
    stations.set(3, Station { v6, ..station(2) });
    stations.set_name(3, "Web");
    stations.set_aliases(3, &["www", "api.example"]);
    stations.set(4, station(3));
    stations.set_name(4, "db");
    stations
}

fn query(name: &str, kind: u16) -> Vec<u8> {
    let mut message = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&IN.to_be_bytes());
    message
}

fn answered(message: &[u8]) -> Option<Vec<u8>> {
    let (stations, question) = (stations(), Question::of_query(message).unwrap());
    let answer = answer(&stations, &config(), &question)?;
    let mut room = vec![0xee; 1_500];
    room[..question.end].copy_from_slice(&message[..question.end]);
    let len = write(&mut room, &question, &answer);
    room.truncate(len);
    Some(room)
}

fn said(name: &str, kind: u16) -> String {
    let (stations, message) = (stations(), query(name, kind));
    match answer(&stations, &config(), &Question::of_query(&message).unwrap()) {
        None => "elsewhere".into(),
        Some(Answer::Address(address)) => std::format!("{address}"),
        Some(Answer::Pointer(name)) => name.into(),
        Some(other) => std::format!("{other:?}"),
    }
}

#[test]
fn rfc1035_4_1_3_an_address_in_octets() {
    let asked = query("WEB.vswitch.internal", kind::A);
    let mut expected = asked.clone();
    expected[2..12].copy_from_slice(b"\x85\x80\x00\x01\x00\x01\x00\x00\x00\x00");
    expected.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x0a\x58\x00\x02");
    assert_eq!(answered(&asked), Some(expected), "the case is as it was asked");
}

#[test]
fn rfc2308_3_a_denial_has_the_soa_record() {
    let asked = query("nobody.vswitch.internal", kind::A);
    let mut expected = asked.clone();
    expected[2..12].copy_from_slice(b"\x85\x83\x00\x01\x00\x00\x00\x01\x00\x00");
    expected.extend_from_slice(&[b"\xc0\x13", SOA].concat());
    assert_eq!(answered(&asked), Some(expected));
    assert_eq!(&asked[0x13..0x13 + BELOW.len()], BELOW);
    // NODATA.
    let asked = query("db.vswitch.internal", kind::AAAA);
    let mut expected = asked.clone();
    expected[2..12].copy_from_slice(b"\x85\x80\x00\x01\x00\x00\x00\x01\x00\x00");
    expected.extend_from_slice(&[b"\xc0\x0f", SOA].concat());
    assert_eq!(answered(&asked), Some(expected));
}

#[test]
fn rfc6891_6_1_1_who_asks_with_edns_is_answered_with_it() {
    let with = |opt: &[u8]| {
        let mut asked = query("web", kind::A);
        asked[11] = 1;
        asked.extend_from_slice(opt);
        answered(&asked).unwrap()
    };
    let answer = with(b"\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x00");
    assert!(answer.ends_with(b"\x0a\x58\x00\x02\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00"), "RFC 3225 3: DO as asked");
    assert_eq!(answer[..12], *b"\x12\x34\x85\x80\x00\x01\x00\x01\x00\x00\x00\x01");
    let answer = with(b"\x00\x00\x29\x10\x00\x00\x01\x00\x00\x00\x00");
    assert!(answer.ends_with(b"\x00\x00\x29\x04\xd0\x01\x00\x00\x00\x00\x00"), "6.1.3: BADVERS, in two parts");
    assert_eq!(answer[..12], *b"\x12\x34\x81\x80\x00\x01\x00\x00\x00\x00\x00\x01");
    let answer = with(b"\x00\x00\x29\x10\x00");
    assert_eq!(answer[..12], *b"\x12\x34\x81\x81\x00\x01\x00\x00\x00\x00\x00\x00", "7: FORMERR");
}

#[test]
fn rfc2181_9_what_does_not_fit_is_truncated() {
    let (stations, asked) = (stations(), query("web", kind::A));
    let question = Question::of_query(&asked).unwrap();
    let answer = answer(&stations, &config(), &question).unwrap();
    let mut room = asked.clone();
    room.extend_from_slice(&[0; 15]);
    assert_eq!(write(&mut room, &question, &answer), asked.len());
    assert_eq!(room[2..12], *b"\x83\x80\x00\x01\x00\x00\x00\x00\x00\x00");
}

#[test]
fn rfc8482_4_2_any_is_answered_with_one_record() {
    let answer = answered(&query("web", kind::ANY)).unwrap();
    assert!(answer.ends_with(b"\xc0\x0c\x00\x0d\x00\x01\x00\x00\x00\x05\x00\x09\x07RFC8482\x00"));
}

#[test]
fn names_of_containers() {
    for name in ["web", "WEB", "web.vswitch.internal", "www", "www.vswitch.internal", "api.example", "api.example.vswitch.internal"]
    {
        assert_eq!((said(name, kind::A), said(name, kind::AAAA)), ("10.88.0.2".into(), V6.into()), "{name}");
        assert_eq!(
            said(name, kind::PTR),
            std::format!("NoData({})", name.trim_end_matches(".vswitch.internal").split('.').count())
        );
    }
    assert_eq!((said("gateway", kind::A), said("gateway.vswitch.internal", kind::AAAA)), ("10.88.0.1".into(), "fd00:88::1".into()));
    assert_eq!(said("localhost", kind::A), "127.0.0.1");
    assert_eq!(said("a.localhost", kind::AAAA), "::1");
    assert_eq!((said("vswitch.internal", kind::SOA), said("vswitch.internal", kind::NS)), ("Authority".into(), "Server".into()));
    assert_eq!(said("vswitch.internal", kind::A), "NoData(0)");
    // RFC 8552: what would tell what a container is called.
    for (name, labels) in [("_443._tcp.web", 3), ("_8080._https.api.example", 4), ("_dmarc.db", 2), ("_x.gateway", 2)] {
        assert_eq!(said(name, kind::A), std::format!("NoName({labels})"), "{name}");
    }
    for name in ["_443._tcp.www.example", "_dmarc.com", "_tcp", "x._tcp.web"] {
        assert_eq!(said(name, kind::NS), "elsewhere", "{name}");
    }
}

#[test]
fn what_is_ours_stays_here_and_nothing_else() {
    for (name, kind) in [
        ("x.vswitch.internal", kind::A),
        ("x.web.vswitch.internal", kind::NS),
        ("a b.vswitch.internal", kind::A),
        ("nobody", kind::A),
        ("nobody", kind::AAAA),
        ("nobody", kind::ANY),
        ("nobody", kind::PTR),
        ("nobody", 65),
        ("9.0.88.10.in-addr.arpa", kind::PTR),
        ("_dns-sd.2.0.88.10.in-addr.arpa", kind::PTR),
        ("1.2.0.88.10.in-addr.arpa", kind::PTR),
        ("0.15.88.10.in-addr.arpa", kind::PTR),
        ("3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.8.0.0.0.0.d.f.ip6.arpa", kind::PTR),
    ] {
        assert!(said(name, kind).starts_with("NoName("), "{name}: {}", said(name, kind));
    }
    for (name, kind) in [
        ("", kind::NS),
        ("com", kind::NS),
        ("nobody", kind::SOA),
        ("nobody", kind::DS),
        ("com", kind::DNSKEY),
        ("www.example", kind::A),
        ("vswitch.internal.example", kind::A),
        ("internal", kind::NS),
        ("other.internal", kind::A),
        ("xvswitch.internal", kind::A),
        ("1.16.88.10.in-addr.arpa", kind::PTR),
        ("88.10.in-addr.arpa", kind::PTR),
        ("02.0.88.10.in-addr.arpa.example", kind::PTR),
        ("8.8.0.0.0.0.d.f.ip6.arpa", kind::PTR),
    ] {
        assert_eq!(said(name, kind), "elsewhere", "{name}");
    }
}

#[test]
fn rfc1035_3_5_an_address_leads_back_to_its_first_name() {
    assert_eq!(said("2.0.88.10.in-addr.arpa", kind::PTR), "Web");
    assert_eq!(said("1.0.88.10.in-addr.arpa", kind::PTR), "gateway");
    assert_eq!(said("2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.8.0.0.0.0.d.f.IP6.arpa", kind::PTR), "Web");
    assert_eq!(said("2.0.88.10.in-addr.arpa", kind::A), "NoData(1)");
    assert_eq!(said("0.88.10.in-addr.arpa", kind::PTR), "NoData(0)");
    let asked = query("2.0.88.10.in-addr.arpa", kind::PTR);
    let answer = answered(&asked).unwrap();
    assert_eq!(answer[asked.len()..], *b"\xc0\x0c\x00\x0c\x00\x01\x00\x00\x00\x05\x00\x16\x03Web\x07vswitch\x08internal\x00");
}

#[test]
fn rfc2136_and_other_classes_are_not_for_us() {
    let with = |place: usize, octet: u8| {
        let mut asked = query("web", kind::A);
        asked[place] = octet;
        answered(&asked).unwrap()[2..4].to_vec()
    };
    assert_eq!(with(2, 0x28), [0xa8, 0x84], "an update: NOTIMP");
    assert_eq!(with(20, 3), [0x81, 0x85], "CHAOS: REFUSED");
    assert_eq!(with(20, 255), [0x85, 0x80], "any class");
}

proptest! {
    #[test]
    fn whatever_is_asked_fits(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..10), kind: u16, flags: [u8; 2]) {
        let mut asked = vec![0, 7, flags[0] & !0x80, flags[1], 0, 1, 0, 0, 0, 0, 0, 0];
        for label in &labels {
            asked.push(label.len() as u8);
            asked.extend_from_slice(label);
        }
        asked.extend_from_slice(BELOW);
        asked.extend_from_slice(&kind.to_be_bytes());
        asked.extend_from_slice(&[0, 1]);
        let answer = answered(&asked).unwrap();
        prop_assert!(answer.len() <= 512);
        let question = Question::read(&answer).unwrap();
        prop_assert!(super::super::message::Records::new(&answer, question.end).all(|record| record.is_ok()));
    }
}
