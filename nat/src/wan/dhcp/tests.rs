//! Also makes the messages of a server for other tests.
use super::own::{DECLINED, MAX_CONFLICTS, RATE_LIMIT};
use super::*;
use crate::checksum;
use pnet_packet::Packet;
use pnet_packet::dhcp::DhcpPacket as Bootp;
use pnet_packet::ethernet::EthernetPacket;
use pnet_packet::ipv4::{self, Ipv4Packet as Ip};
use pnet_packet::udp::{self, UdpPacket as Udp};
use proptest::prelude::*;
use vswitch_switch::FramePool;

pub(crate) const OWN: [u8; 6] = [0x02, 0x58, 0, 0, 0, 9];
pub(crate) const SERVER_MAC: [u8; 6] = [0x02, 0x11, 0, 0, 0, 1];
const SERVER: [u8; 4] = [192, 0, 2, 1];
pub(crate) const GIVEN: [u8; 4] = [192, 0, 2, 50];
pub(crate) const DISCOVER: u8 = 1;
pub(crate) const OFFER: u8 = 2;
pub(crate) const REQUEST: u8 = 3;
pub(crate) const ACK: u8 = 5;
pub(crate) const NAK: u8 = 6;
pub(crate) const DECLINE: u8 = 4;
/// RFC 2132: mask, two routers, four DNS servers, lease 1000 s, server identifier.
const OPTIONS: &[&[u8]] = &[
    &[1, 4, 255, 255, 255, 0],
    &[3, 8, 192, 0, 2, 1, 192, 0, 2, 2],
    &[6, 16, 192, 0, 2, 3, 192, 0, 2, 4, 192, 0, 2, 5, 192, 0, 2, 6],
    &[51, 4, 0, 0, 3, 232],
    &[54, 4, 192, 0, 2, 1],
];

/// What a client's message says, read with pnet.
#[derive(Debug, PartialEq)]
pub(crate) struct Asked {
    pub kind: u8,
    pub xid: u32,
    to: ([u8; 6], [u8; 4]),
    from: [u8; 4],
    options: Vec<u8>,
}

impl Asked {
    pub fn read(frame: &[u8]) -> Self {
        let ethernet = EthernetPacket::new(frame).unwrap();
        assert_eq!((ethernet.get_source().octets(), ethernet.get_ethertype().0), (OWN, 0x0800));
        let ip = Ip::new(ethernet.payload()).unwrap();
        assert_eq!((ip.get_checksum(), ip.get_header_length()), (ipv4::checksum(&ip), 5));
        let datagram = Udp::new(ip.payload()).unwrap();
        assert_eq!(datagram.get_checksum(), udp::ipv4_checksum(&datagram, &ip.get_source(), &ip.get_destination()));
        assert_eq!((datagram.get_source(), datagram.get_destination()), (68, 67));
        let message = Bootp::new(datagram.payload()).unwrap();
        assert_eq!((message.get_op().0, message.get_chaddr().octets()), (1, OWN));
        // RFC 2131 3: the magic cookie.
        let options = datagram.payload()[240..].to_vec();
        assert_eq!(datagram.payload()[236..240], [99, 130, 83, 99]);
        assert_eq!(options[..2], [53, 1]);
        let to = (ethernet.get_destination().octets(), ip.get_destination().octets());
        Self { kind: options[2], xid: message.get_xid(), to, from: ip.get_source().octets(), options }
    }

    fn has(&self, option: &[u8]) -> bool {
        self.options.windows(option.len()).any(|window| window == option)
    }
}

/// A server's message; every octet by hand.
struct Message<'a> {
    kind: u8,
    xid: u32,
    given: [u8; 4],
    source: [u8; 4],
    options: &'a [&'a [u8]],
}

impl Message<'_> {
    fn frame(&self) -> Vec<u8> {
        let mut message = vec![2, 1, 6, 0];
        message.extend(self.xid.to_be_bytes());
        message.extend([0; 8]);
        message.extend(self.given);
        message.extend([0; 8]);
        message.extend(OWN);
        message.resize(236, 0);
        message.extend([99, 130, 83, 99, 53, 1, self.kind]);
        message.extend(self.options.concat());
        message.push(255);
        let len = (message.len() + 8) as u16;
        let mut udp = [67u16, 68, len, 0].map(u16::to_be_bytes).concat();
        udp.extend(message);
        let sum = checksum::fold(u32::from(checksum::pseudo_v4(self.source, [255; 4], 17, len)) + u32::from(checksum::sum(&udp)));
        udp[6..8].copy_from_slice(&checksum::non_zero(!sum).to_be_bytes());
        let total = (len + 20).to_be_bytes();
        let mut ip = vec![0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, 17, 0, 0];
        ip.extend(self.source);
        ip.extend([255; 4]);
        let sum = checksum::checksum(&ip).to_be_bytes();
        ip[10..12].copy_from_slice(&sum);
        [&[0xff; 6][..], &SERVER_MAC, &[8, 0], &ip, &udp].concat()
    }
}

fn message(kind: u8, xid: u32) -> Message<'static> {
    Message { kind, xid, given: if kind == NAK { [0; 4] } else { GIVEN }, source: SERVER, options: OPTIONS }
}

pub(crate) fn answer(kind: u8, xid: u32) -> Vec<u8> {
    message(kind, xid).frame()
}

fn client() -> DhcpClient {
    DhcpClient::new(UnicastMac::new(Mac(OWN)).unwrap(), 7)
}

fn at(secs: u64) -> Time {
    Time::from_secs(1_000 + secs)
}

fn sent(client: &mut DhcpClient) -> Vec<Asked> {
    let mut pool = FramePool::new(1);
    let mut frame = pool.take().unwrap();
    let mut all = vec![];
    while client.next_frame(&mut frame) {
        all.push(Asked::read(frame.bytes()));
    }
    all
}

fn one(client: &mut DhcpClient) -> Asked {
    let mut all = sent(client);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// A client that got its lease at second 0, and the transaction.
fn leased() -> DhcpClient {
    let mut client = client();
    client.poll(at(0));
    let xid = one(&mut client).xid;
    client.receive(&answer(OFFER, xid), at(0));
    let xid = one(&mut client).xid;
    client.receive(&answer(ACK, xid), at(0));
    assert!(matches!(client.event(), Some(DhcpEvent::Leased(_))));
    client
}

#[test]
fn four_messages_make_a_lease() {
    let mut client = client();
    assert_eq!(client.event(), None);
    client.poll(at(0));
    let discover = one(&mut client);
    // RFC 2131 4.1: from nobody to everybody. RFC 2132 9.8: mask, routers, DNS servers are asked for.
    assert_eq!((discover.kind, discover.to, discover.from), (DISCOVER, ([0xff; 6], [0xff; 4]), [0; 4]));
    assert!(discover.has(&[55, 3, 1, 3, 6]));
    client.receive(&answer(OFFER, discover.xid), at(1));
    let request = one(&mut client);
    // RFC 2131 4.3.2: the server's identifier and the address offered, still from nobody.
    assert_eq!((request.kind, request.to, request.from), (REQUEST, ([0xff; 6], [0xff; 4]), [0; 4]));
    assert!(request.has(&[54, 4, 192, 0, 2, 1]) && request.has(&[50, 4, 192, 0, 2, 50]));
    assert_eq!((request.xid, client.event()), (discover.xid, None));
    client.receive(&answer(ACK, request.xid), at(1));
    let lease = Lease {
        address: GIVEN.into(),
        prefix: 24,
        gateway: Some(SERVER.into()),
        dns: [3, 4, 5].map(|last| Some(Ipv4Addr::new(192, 0, 2, last))),
        seconds: 1_000,
    };
    assert_eq!(client.event(), Some(DhcpEvent::Leased(lease)));
    assert_eq!((client.event(), client.lease()), (None, Some(&lease)));
    // RFC 2131 4.4.5: T1 is half of it.
    assert_eq!(client.deadline(at(1)), Some(at(501)));
}

#[test]
fn a_lease_is_renewed_by_unicast_without_asking_for_the_server() {
    let mut client = leased();
    client.poll(at(499));
    assert!(sent(&mut client).is_empty());
    client.poll(at(500));
    let renewal = one(&mut client);
    // RFC 2131 4.3.2, RENEWING: unicast, from the address that is renewed, neither identifier nor requested address.
    assert_eq!((renewal.kind, renewal.to, renewal.from), (REQUEST, (SERVER_MAC, SERVER), GIVEN));
    assert!(!renewal.has(&[54, 4, 192, 0, 2, 1]) && !renewal.has(&[50, 4]));
    client.receive(&answer(ACK, renewal.xid), at(501));
    assert_eq!(client.event(), None, "nothing changed");
    assert_eq!(client.deadline(at(501)), Some(at(1_001)));
    // The next one, with another router.
    client.poll(at(1_001));
    let renewal = one(&mut client);
    let options = [OPTIONS[0], &[3, 4, 192, 0, 2, 7], OPTIONS[3], OPTIONS[4]];
    client.receive(&Message { options: &options, ..message(ACK, renewal.xid) }.frame(), at(1_002));
    let Some(DhcpEvent::Leased(lease)) = client.event() else { panic!("another router is news") };
    assert_eq!((lease.gateway, lease.dns), (Some(Ipv4Addr::new(192, 0, 2, 7)), [None; DNS]));
}

#[test]
fn a_server_that_is_silent_is_followed_by_everybody_and_then_by_the_end() {
    let mut client = leased();
    let (mut unicast, mut broadcast, mut lost) = (0, 0, None);
    for second in 1..1_000 {
        client.poll(at(second));
        for asked in sent(&mut client) {
            assert_eq!((asked.kind, asked.from), (REQUEST, GIVEN));
            // RFC 2131 4.4.5: T2 is seven eighths.
            if second < 875 {
                assert_eq!(asked.to, (SERVER_MAC, SERVER));
                unicast += 1;
            } else {
                assert_eq!(asked.to, ([0xff; 6], [0xff; 4]));
                broadcast += 1;
            }
        }
        assert_eq!(client.event(), None, "{second}");
    }
    assert!((2..=6).contains(&unicast) && (2..=3).contains(&broadcast), "{unicast} {broadcast}");
    for second in 1_000..1_002 {
        client.poll(at(second));
        lost = lost.or(client.event());
    }
    assert_eq!((lost, client.lease()), (Some(DhcpEvent::Lost), None));
    assert_eq!(one(&mut client).kind, DISCOVER, "and again from the start");
}

#[test]
fn another_server_may_rebind() {
    let mut client = leased();
    for second in 1..=875 {
        client.poll(at(second));
    }
    let rebinding = sent(&mut client).pop().unwrap();
    assert_eq!(rebinding.to.1, [0xff; 4]);
    client.receive(&answer(ACK, rebinding.xid), at(876));
    assert_eq!((client.event(), client.deadline(at(876))), (None, Some(at(1_376))));
}

#[test]
fn a_nak_takes_the_lease_back() {
    let mut client = leased();
    client.poll(at(500));
    let xid = one(&mut client).xid;
    client.receive(&answer(NAK, xid), at(500));
    assert_eq!((client.event(), client.lease()), (Some(DhcpEvent::Lost), None));
    client.poll(at(500));
    assert_eq!(one(&mut client).kind, DISCOVER);
}

#[test]
fn nobody_answers_and_nothing_grows() {
    let mut client = client();
    let mut count = 0;
    for second in 0..3_600 {
        client.poll(at(second));
        count += sent(&mut client).iter().filter(|asked| asked.kind == DISCOVER).count();
    }
    assert_eq!(count, 360, "every ten seconds");
    for second in 3_600..7_200 {
        client.poll(at(second));
    }
    assert_eq!(sent(&mut client).len(), QUEUE, "the latest, where nobody takes them");
}

/// RFC 2131 leaves it to the client not to be driven round in circles.
#[test]
fn a_server_cannot_make_it_talk_without_end() {
    for (kind, options) in [(NAK, OPTIONS), (ACK, &[OPTIONS[0], &[51, 4, 0, 0, 0, 0], OPTIONS[4]][..])] {
        let mut client = client();
        let mut count = 0;
        for tick in 0..60_000u64 {
            let now = Time::from_nanos(1_000_000_000_000 + tick * 1_000_000);
            client.poll(now);
            for asked in sent(&mut client) {
                count += 1;
                let answer = Message { options, ..message(if asked.kind == DISCOVER { OFFER } else { kind }, asked.xid) };
                client.receive(&answer.frame(), now);
            }
            if client.wire.credit == 0 {
                assert!(client.deadline(now).unwrap() > now, "no waking before it may speak");
            }
        }
        assert!(count <= BURST + 60 / REFILL.as_secs() as u32, "{count} messages in a minute");
    }
}

#[test]
fn what_is_no_answer_to_us_is_ignored() {
    let mut client = client();
    client.receive(&answer(OFFER, 0), at(0));
    client.poll(at(0));
    let xid = one(&mut client).xid;
    let good = answer(OFFER, xid);
    let mut bad = vec![answer(OFFER, xid ^ 1), answer(DISCOVER, xid), answer(4, xid), answer(0, xid)];
    // Not of this client (chaddr), nor BOOTREPLY, nor Ethernet, nor to our MAC, nor with right checksums, nor DHCP at all (magic cookie).
    for at in [14 + 20 + 8 + 28, 14 + 20 + 8, 14 + 20 + 8 + 1, 0, 14 + 10, 14 + 20 + 6, 14 + 20 + 8 + 236] {
        let mut octets = good.clone();
        octets[at] ^= if at == 0 { 0xfd } else { 0x55 };
        bad.push(octets);
    }
    // Addresses that cannot be ours, and a subnet that would be everybody.
    for given in [[0; 4], [127, 0, 0, 1], [169, 254, 1, 1], [224, 0, 0, 1], [255; 4]] {
        bad.push(Message { given, ..message(OFFER, xid) }.frame());
    }
    bad.push(Message { options: &[&[1, 4, 0, 0, 0, 0], OPTIONS[4]], ..message(OFFER, xid) }.frame());
    // RFC 2131 table 3: an offer names its server.
    bad.push(Message { options: &OPTIONS[..4], ..message(OFFER, xid) }.frame());
    // RFC 1122 3.2.1.3; of the first, a renewal would be sent to nobody.
    for source in [[0; 4], [255; 4], [224, 0, 0, 1], [127, 0, 0, 1]] {
        bad.push(Message { source, ..message(OFFER, xid) }.frame());
    }
    bad.extend((0..good.len()).map(|len| good[..len].to_vec()));
    // An option that reaches past the end hides those behind it.
    bad.push(Message { options: &[&[1, 200, 255, 255]], ..message(OFFER, xid) }.frame());
    for octets in bad {
        client.receive(&octets, at(1));
        assert!(sent(&mut client).is_empty(), "{octets:?}");
    }
    client.receive(&good, at(1));
    assert_eq!(one(&mut client).kind, REQUEST, "it was listening");
}

#[test]
fn what_is_for_it() {
    let good = answer(OFFER, 1);
    assert!(is_for_dhcp(&good));
    // Fragments, ports, TCP, another EtherType.
    for (at, octet) in [(20, 0x20), (21, 1), (35, 53), (37, 67), (23, 6), (13, 6)] {
        let mut octets = good.clone();
        octets[at] = octet;
        assert!(!is_for_dhcp(&octets), "{at}");
    }
}

/// RFC 2131 4.3.2, INIT-REBOOT.
fn assert_comes_back(asked: &Asked) {
    assert_eq!((asked.kind, asked.to, asked.from), (REQUEST, ([0xff; 6], [0xff; 4]), [0; 4]));
    assert!(asked.has(&[50, 4, 192, 0, 2, 50]) && !asked.has(&[54, 4]) && asked.has(&[55, 3, 1, 3, 6]));
    // RFC 2131 2: the identifier of the other messages.
    assert!(asked.has(&[&[61, 7, 1][..], &OWN].concat()));
}

#[test]
fn one_that_comes_back_asks_for_its_address_at_once() {
    let mut client = leased();
    client.reconfirm(at(100));
    assert_eq!(client.deadline(at(100)), Some(at(100)));
    client.poll(at(100));
    let asked = one(&mut client);
    assert_comes_back(&asked);
    client.receive(&answer(ACK, asked.xid), at(101));
    assert_eq!((client.event(), client.deadline(at(101))), (None, Some(at(601))), "the lease begins anew");
    for second in 101..600 {
        client.poll(at(second));
    }
    assert!(sent(&mut client).is_empty(), "asked no more");
    // RFC 2131 3.2 (3): on another network it is told so.
    client.reconfirm(at(600));
    client.poll(at(600));
    let xid = one(&mut client).xid;
    client.receive(&answer(NAK, xid), at(600));
    assert_eq!((client.event(), client.lease()), (Some(DhcpEvent::Lost), None));
    client.poll(at(600));
    assert_eq!(one(&mut client).kind, DISCOVER);
}

/// RFC 2131 3.2 (4): where nobody answers the lease goes on.
#[test]
fn one_that_comes_back_and_gets_no_answer_goes_on() {
    let mut client = leased();
    client.reconfirm(at(100));
    let mut asked = vec![];
    for second in 100..500 {
        client.poll(at(second));
        for question in sent(&mut client) {
            assert_comes_back(&question);
            asked.push(second);
        }
    }
    assert_eq!(asked, [100, 104, 112, 128], "twice as long each time");
    assert_eq!((client.event(), client.deadline(at(499))), (None, Some(at(500))));
    client.poll(at(500));
    assert_eq!(one(&mut client).to, (SERVER_MAC, SERVER), "and is renewed in its time");
}

#[test]
fn one_that_comes_back_without_a_lease_looks_for_one_at_once() {
    let mut client = client();
    client.poll(at(0));
    assert_eq!(one(&mut client).kind, DISCOVER);
    client.poll(at(3));
    assert!(sent(&mut client).is_empty());
    client.reconfirm(at(3));
    client.poll(at(3));
    assert_eq!(one(&mut client).kind, DISCOVER);
}

/// RFC 2131 3.1 (5), 4.4.4 and table 5; RFC 5227 2.1.1.
#[test]
fn an_address_that_somebody_else_has_is_declined() {
    let mut client = client();
    let mut now = 0;
    for round in 1..=MAX_CONFLICTS + 1 {
        client.poll(at(now));
        let xid = one(&mut client).xid;
        client.receive(&answer(OFFER, xid), at(now));
        let xid = one(&mut client).xid;
        client.receive(&answer(ACK, xid), at(now));
        assert!(matches!(client.event(), Some(DhcpEvent::Leased(_))));
        client.decline(at(now));
        let declined = one(&mut client);
        assert_eq!((declined.kind, declined.to, declined.from), (DECLINE, ([0xff; 6], [0xff; 4]), [0; 4]));
        assert!(declined.has(&[50, 4, 192, 0, 2, 50]) && declined.has(&[54, 4, 192, 0, 2, 1]));
        // RFC 2131 table 5: not in a DECLINE.
        assert!(!declined.has(&[55, 3]) && !declined.has(&[57, 2]));
        assert_eq!((client.event(), client.lease()), (None, None));
        let wait = if round < MAX_CONFLICTS { DECLINED } else { RATE_LIMIT }.as_secs();
        assert_eq!(client.deadline(at(now)), Some(at(now + wait)), "{round}");
        client.receive(&answer(OFFER, xid), at(now + 1));
        client.reconfirm(at(now + 1));
        client.poll(at(now + wait - 1));
        assert!(sent(&mut client).is_empty());
        now += wait;
    }
    client.decline(at(now));
    assert!(sent(&mut client).is_empty(), "without a lease there is nothing to decline");
}

fn state() -> impl Strategy<Value = u8> {
    0..4u8
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// No octets, at no point of a lease, make it panic or keep it from going on.
    #[test]
    fn any_octets(state in state(), changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..12),
        tail in proptest::collection::vec(any::<u8>(), 0..300), secs in 0u64..5_000_000_000) {
        let mut client = if state < 2 { client() } else { leased() };
        client.poll(at(if state == 3 { 500 } else { 0 }));
        let xid = client.wire.xid.unwrap();
        for kind in [OFFER, ACK, NAK] {
            let mut options = OPTIONS.to_vec();
            options.push(&tail);
            let mut octets = Message { options: &options, ..message(kind, xid) }.frame();
            for (place, octet) in &changes {
                let place = usize::from(*place) % octets.len();
                octets[place] = *octet;
            }
            client.receive(&octets, at(500));
            client.receive(&tail, at(500));
        }
        for later in [0, 1, secs / 2, secs] {
            client.poll(at(501 + later));
            prop_assert!(client.wire.outbox.len() <= QUEUE);
            prop_assert!(client.deadline(at(501 + later)).is_some());
        }
    }
}
