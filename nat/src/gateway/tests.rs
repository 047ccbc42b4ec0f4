use super::*;
use crate::checksum;
use alloc::vec::Vec;
use proptest::prelude::*;
use vswitch_switch::FramePool;

const GATEWAY: [u8; 4] = [10, 88, 0, 1];
const GUEST: [u8; 4] = [10, 88, 0, 2];

fn gateway() -> Gateway {
    Gateway::new(GatewayConfig { mac: UnicastMac::for_ipv4(GATEWAY), address: GATEWAY.into(), prefix: 20 })
}

fn receive(octets: &[u8]) -> Routed {
    let mut frame = FramePool::new(1).take().unwrap();
    assert!(frame.fill(octets));
    let head = Head::parse(octets, None).unwrap();
    gateway().receive(frame, &head)
}

fn ethernet(ethertype: [u8; 2], payload: &[u8]) -> Vec<u8> {
    [&UnicastMac::for_ipv4(GATEWAY).mac().0[..], &UnicastMac::for_ipv4(GUEST).mac().0, &ethertype, payload].concat()
}

fn ipv4(source: [u8; 4], destination: [u8; 4], protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = [0x45, 0, 0, 0, 0, 7, 0, 0, 9, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    header[6..8].copy_from_slice(&fragment.to_be_bytes());
    header[12..16].copy_from_slice(&source);
    header[16..].copy_from_slice(&destination);
    let sum = checksum::of(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    ethernet([8, 0], &[&header[..], payload].concat())
}

fn echo(data: usize) -> Vec<u8> {
    let mut message = [&[8, 0, 0, 0, 0x12, 0x34, 0, 1][..], &alloc::vec![0xab; data]].concat();
    let sum = checksum::of(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

fn reply(routed: Routed) -> Vec<u8> {
    match routed {
        Routed::Reply(frame) => frame.bytes().to_vec(),
        other => panic!("no reply: {other:?}"),
    }
}

#[test]
fn echo_is_answered_at_every_size() {
    for size in 0..200 {
        let answer = reply(receive(&ipv4(GUEST, GATEWAY, 1, 0, &echo(size))));
        assert_eq!(answer[..6], UnicastMac::for_ipv4(GUEST).mac().0);
        assert_eq!((answer[22], answer[34]), (64, 0));
        assert_eq!((&answer[26..30], &answer[30..34]), (&GATEWAY[..], &GUEST[..]));
        assert_eq!((checksum::of(&answer[14..34]), checksum::of(&answer[34..])), (0, 0));
    }
}

#[test]
fn fragments_of_an_echo_are_mirrored() {
    let message = echo(3_000);
    let first = reply(receive(&ipv4(GUEST, GATEWAY, 1, 0x2000, &message[..1_480])));
    let second = reply(receive(&ipv4(GUEST, GATEWAY, 1, 185, &message[1_480..])));
    assert_eq!(checksum::of(&[&first[34..], &second[34..]].concat()), 0);
    assert_eq!(second[20..22], [0, 185]);
}

#[test]
fn arp_for_others_is_consumed_and_a_probe_is_answered() {
    let arp = |sender: [u8; 4], target: [u8; 4]| {
        ethernet([8, 6], &[&[0, 1, 8, 0, 6, 4, 0, 1, 2, 0x58, 10, 88, 0, 2][..], &sender, &[0; 6], &target].concat())
    };
    assert!(matches!(receive(&arp(GUEST, [10, 88, 0, 9])), Routed::Consumed(_)));
    assert_eq!(reply(receive(&arp([0; 4], GATEWAY)))[20..22], [0, 2]);
}

#[test]
fn nobody_else_is_answered() {
    let unserved = |octets: &[u8]| matches!(receive(octets), Routed::Drop(_, DropReason::GatewayUnserved));
    let malformed = |octets: &[u8]| matches!(receive(octets), Routed::Drop(_, DropReason::GatewayMalformed));
    assert!(unserved(&ipv4(GUEST, [198, 51, 100, 1], 1, 0, &echo(8))));
    assert!(unserved(&ipv4(GUEST, GATEWAY, 17, 0, &[0; 8])));
    assert!(malformed(&ipv4([224, 0, 0, 1], GATEWAY, 1, 0, &echo(8))));
    assert!(malformed(&ipv4([10, 88, 15, 255], GATEWAY, 1, 0, &echo(8))));
    assert!(malformed(&ipv4(GATEWAY, GATEWAY, 1, 0, &echo(8))));
    let mut bad = echo(8);
    bad[3] ^= 1;
    assert!(malformed(&ipv4(GUEST, GATEWAY, 1, 0, &bad)));
    let mut broadcast = ipv4(GUEST, [10, 88, 15, 255], 1, 0, &echo(8));
    broadcast[..6].copy_from_slice(&[0xff; 6]);
    assert!(matches!(receive(&broadcast), Routed::Consumed(_)));
}

#[test]
fn truncated_at_every_length_is_no_panic() {
    for whole in [ipv4(GUEST, GATEWAY, 1, 0, &echo(40)), ethernet([8, 6], &[0, 1, 8, 0, 6, 4, 0, 1])] {
        for len in 14..whole.len() {
            assert!(!matches!(receive(&whole[..len]), Routed::Reply(_)), "{len}");
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_octets_are_no_panic(arp in any::<bool>(), payload in proptest::collection::vec(any::<u8>(), 0..120)) {
        let _ = receive(&ethernet(if arp { [8, 6] } else { [8, 0] }, &payload));
    }
}
