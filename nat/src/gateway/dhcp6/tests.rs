use super::*;
use crate::gateway::{GatewayConfig, Routed, Side};
use crate::ndp;
use core::net::Ipv4Addr;
use pnet_packet::udp::{UdpPacket, ipv6_checksum};
use std::vec;
use std::vec::Vec;
use vswitch_switch::{FramePool, Head};

const MAC: UnicastMac = UnicastMac::for_ipv4([10, 88, 0, 1]);
const CLIENT: UnicastMac = UnicastMac::for_ipv4([10, 88, 0, 2]);
const ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd58, 1, 2, 0, 0, 0, 0, 1);
const CLIENT_ADDRESS: Ipv6Addr = ndp::link_local(CLIENT);
const OWN_DUID: [u8; 10] = [0, 3, 0, 1, 0x02, 0x58, 0x0a, 0x58, 0, 1];
const THEIRS: [u8; 10] = [0, 3, 0, 1, 0x02, 0x58, 0x0a, 0x58, 0, 2];
/// IAID 1, T1 and T2 zero.
const NA: [u8; 16] = [0, 3, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
const PD: [u8; 16] = [0, 25, 0, 12, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0];
const TA: [u8; 8] = [0, 4, 0, 4, 0, 0, 0, 3];

fn gateway() -> Gateway {
    let v6 = GatewayV6 { address: ADDRESS, prefix: 64, link_local: ndp::link_local(MAC) };
    let mut gateway =
        Gateway::new(GatewayConfig { mac: MAC, address: Ipv4Addr::new(10, 88, 0, 1), prefix: 20, v6: Some(v6) }, [1, 2]);
    gateway.set_exchange(true);
    gateway
}

fn option(code: u16, data: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data].concat()
}

/// An association with an address in it.
fn with_address(address: &str) -> Vec<u8> {
    let inner = option(5, &[&address.parse::<Ipv6Addr>().unwrap().octets()[..], &[0; 8]].concat());
    option(3, &[&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0][..], &inner].concat())
}

fn message(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    [&[kind, 0xaa, 0xbb, 0xcc][..], &parts.concat()].concat()
}

fn framed(message: &[u8]) -> Vec<u8> {
    let len = (message.len() + 8) as u16;
    let [l0, l1] = len.to_be_bytes();
    let mut datagram = [&[2, 34, 2, 35, l0, l1, 0, 0][..], message].concat();
    let sum = ipv6_checksum(&UdpPacket::new(&datagram).unwrap(), &CLIENT_ADDRESS, &SERVERS);
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [&[0x33, 0x33, 0, 1, 0, 2][..], &CLIENT.mac().0].concat();
    frame.resize(54, 0);
    write_header(&mut frame, (CLIENT_ADDRESS, SERVERS), 17, 1, len);
    frame.extend(datagram);
    frame
}

#[derive(Debug, PartialEq)]
enum Fate {
    /// The answer's message, its headers checked.
    Reply(Vec<u8>),
    Consumed,
    Drop(DropReason),
}

fn receive(gateway: &mut Gateway, octets: &[u8]) -> Fate {
    let mut frame = FramePool::new(1).take().unwrap();
    assert!(frame.fill(octets));
    let head = Head::parse(frame.bytes(), None).unwrap();
    match gateway.receive(frame, &head, 1, Time::ZERO) {
        Routed::Reply(Side::Inside, frame) => {
            let octets = frame.bytes();
            assert_eq!(octets[..14], [&CLIENT.mac().0[..], &MAC.mac().0, &[0x86, 0xdd]].concat());
            let own = ndp::link_local(MAC);
            assert_eq!((Ipv6Addr::read(&octets[22..38]), Ipv6Addr::read(&octets[38..54])), (Some(own), Some(CLIENT_ADDRESS)));
            assert_eq!(octets[54..58], [2, 35, 2, 34], "from port 547 to port 546");
            let udp = UdpPacket::new(&octets[54..]).unwrap();
            assert_eq!(usize::from(udp.get_length()), octets.len() - 54);
            assert_eq!(udp.get_checksum(), ipv6_checksum(&udp, &own, &CLIENT_ADDRESS));
            Fate::Reply(octets[62..].to_vec())
        }
        Routed::Consumed(_) => Fate::Consumed,
        Routed::Drop(_, reason) => Fate::Drop(reason),
        other @ (Routed::Reply(..)
        | Routed::Refuse(..)
        | Routed::Forward(..)
        | Routed::Socket(_)
        | Routed::Generated(..)
        | Routed::Held) => panic!("{other:?}"),
    }
}

fn ask(message: &[u8]) -> Fate {
    receive(&mut gateway(), &framed(message))
}

fn answer(kind: u8, parts: &[&[u8]]) -> Fate {
    Fate::Reply(message(kind, &[&[&option(1, &THEIRS)[..], &option(2, &OWN_DUID)], parts].concat()))
}

fn dns() -> Vec<u8> {
    [option(23, &ADDRESS.octets()), option(24, b"\x07vswitch\x08internal\x00")].concat()
}

fn without_addresses(code: u16, id: u8, status: u8) -> Vec<u8> {
    let times: &[u8] = if code == 4 { &[] } else { &[0; 8] };
    option(code, &[&[0, 0, 0, id], times, &[0, 13, 0, 2, 0, status]].concat())
}

#[test]
fn rfc8415_18_3_6_information_is_given() {
    let client = option(1, &THEIRS);
    // Octet for octet; RFC 3646 3 and 4, RFC 8415 21.23.
    let all = [&dns()[..], &[0, 32, 0, 4, 0, 0, 7, 8]].concat();
    assert_eq!(ask(&message(11, &[&client])), answer(7, &[&all]));
    // What is asked for and nothing else.
    assert_eq!(ask(&message(11, &[&client, &option(6, &[0, 23, 0, 31])])), answer(7, &[&dns()[..20]]));
    assert_eq!(ask(&message(11, &[&client, &option(6, &[0, 24, 0, 32])])), answer(7, &[&all[20..]]));
    // 18.2.6: it may be asked without an identifier.
    let anonymous = message(7, &[&option(2, &OWN_DUID), &all]);
    assert_eq!(ask(&message(11, &[])), Fate::Reply(anonymous));
}

#[test]
fn nobody_is_named_who_answers_no_names() {
    let mut gateway = gateway();
    gateway.set_exchange(false);
    let asked = framed(&message(11, &[&option(1, &THEIRS), &option(6, &[0, 23, 0, 24])]));
    assert_eq!(receive(&mut gateway, &asked), answer(7, &[]));
}

#[test]
fn rfc8415_18_3_who_wants_an_address_is_told_that_there_is_none() {
    let (client, own, other) = (option(1, &THEIRS), option(2, &OWN_DUID), option(2, &THEIRS));
    let all = [&without_addresses(3, 1, 2)[..], &without_addresses(25, 2, 6), &without_addresses(4, 3, 2), &dns()].concat();
    // 18.3.9: NoAddrsAvail (2), NoPrefixAvail (6), in each association.
    assert_eq!(ask(&message(1, &[&client, &NA, &PD, &TA])), answer(2, &[&all]));
    // 18.3.2.
    assert_eq!(ask(&message(3, &[&client, &own, &NA])), answer(7, &[&without_addresses(3, 1, 2), &dns()]));
    // 18.3.4, 18.3.5: NoBinding (3).
    assert_eq!(ask(&message(5, &[&client, &own, &NA])), answer(7, &[&without_addresses(3, 1, 3), &dns()]));
    assert_eq!(ask(&message(6, &[&client, &NA])), answer(7, &[&without_addresses(3, 1, 3), &dns()]));
    // 18.3.7, 18.3.8: and Success (0) for the message.
    for kind in [8, 9] {
        let status = option(13, &[0, 0]);
        assert_eq!(ask(&message(kind, &[&client, &own, &NA])), answer(7, &[&status, &without_addresses(3, 1, 3), &dns()]));
    }
    // 16.4, 16.6, 16.8, 16.9: another server is asked.
    for kind in [3, 5, 8, 9] {
        assert_eq!(ask(&message(kind, &[&client, &other, &NA])), Fate::Consumed);
        assert_eq!(ask(&message(kind, &[&client, &NA])), Fate::Consumed, "without a server");
        assert_eq!(ask(&message(kind, &[&own, &NA])), Fate::Consumed, "without a client");
    }
    // 16.2, 16.7: with a server, or without a client.
    for kind in [1, 6] {
        assert_eq!(ask(&message(kind, &[&client, &own, &NA])), Fate::Consumed);
        assert_eq!(ask(&message(kind, &[&NA])), Fate::Consumed);
    }
}

#[test]
fn rfc8415_18_3_3_addresses_of_elsewhere_are_not_on_this_link() {
    let client = option(1, &THEIRS);
    let confirm = |address: &str| ask(&message(4, &[&client, &with_address(address)]));
    assert_eq!(confirm("fd58:1:2::9"), answer(7, &[&option(13, &[0, 0]), &dns()]));
    assert_eq!(confirm("fd58:1:3::9"), answer(7, &[&option(13, &[0, 4]), &dns()]));
    assert_eq!(ask(&message(4, &[&client, &NA])), Fate::Consumed, "nothing to confirm");
    assert_eq!(ask(&message(4, &[&with_address("fd58:1:2::9")])), Fate::Consumed, "16.5");
}

#[test]
fn rfc8415_16_what_no_server_answers() {
    let (client, own) = (option(1, &THEIRS), option(2, &OWN_DUID));
    // Advertise, reply, reconfigure, relays, unknown ones.
    for kind in [0, 2, 7, 10, 12, 13, 14, 255] {
        assert_eq!(ask(&message(kind, &[&client, &own])), Fate::Consumed, "{kind}");
    }
    // 16.12.
    assert_eq!(ask(&message(11, &[&client, &NA])), Fate::Consumed);
    assert_eq!(ask(&message(11, &[&client, &option(2, &THEIRS)])), Fate::Consumed);
}

#[test]
fn what_contradicts_itself_is_malformed() {
    const MALFORMED: Fate = Fate::Drop(DropReason::GatewayMalformed);
    let client = option(1, &THEIRS);
    for (what, options) in [
        ("an option beyond the end", vec![0, 1, 0, 11, 0, 3]),
        ("half an option", vec![0, 1, 0]),
        ("two clients", [&client[..], &client].concat()),
        ("an identifier of two octets", option(1, &[0, 3])),
        ("an identifier of 131", option(1, &[0; 131])),
        ("an association without T1", option(3, &[0; 4])),
        ("half a code", option(6, &[0, 23, 0])),
        ("an address of 23 octets", option(3, &[&[0; 12][..], &option(5, &[0; 23])].concat())),
        ("more options than there are", option(99, &[]).repeat(65)),
    ] {
        assert_eq!(ask(&message(11, &[&options])), MALFORMED, "{what}");
    }
    let good = framed(&message(11, &[&client]));
    let broken = |at: usize, octet: u8| {
        let mut frame = good.clone();
        frame[at] = octet;
        receive(&mut gateway(), &frame)
    };
    assert_eq!(broken(60, !good[60]), MALFORMED, "checksum");
    assert_eq!(broken(59, good[59] + 1), MALFORMED, "UDP's length");
    assert_eq!(broken(19, good[19] + 1), MALFORMED, "IPv6's length");
    assert_eq!(broken(55, 35), MALFORMED, "RFC 8415 7.2: not from a client's port");
    let mut unsummed = good.clone();
    unsummed[60..62].copy_from_slice(&[0, 0]);
    assert_eq!(receive(&mut gateway(), &unsummed), MALFORMED, "RFC 8200 8.1: no checksum");
    for len in 58..good.len() {
        assert!(!matches!(receive(&mut gateway(), &good[..len]), Fate::Reply(_)), "cut to {len}");
    }
}

#[test]
fn the_longest_answer_fits() {
    let client = option(1, &[7; 130]);
    let Fate::Reply(answer) = ask(&message(1, &[&client, &NA.repeat(40)])) else { panic!("no answer") };
    assert_eq!(answer.windows(8).filter(|octets| octets[..4] == [0, 3, 0, 18]).count(), ASSOCIATIONS);
    assert!(answer.ends_with(&dns()));
}

#[test]
fn a_flood_is_limited_and_counted() {
    let mut gateway = gateway();
    let frame = framed(&message(11, &[]));
    let limited = (0..200).filter(|_| receive(&mut gateway, &frame) == Fate::Drop(DropReason::ServiceLimit)).count();
    assert_eq!(limited, 150);
}
