use super::*;
use crate::checksum::checksum;
use crate::gateway::GatewayConfig;
use crate::station::{AddressGuard, Limits, Station};
use std::vec::Vec;
use vswitch_switch::Mac;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const PORT: u16 = 1;
const XID: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
const SERVER_ID: [u8; 6] = [54, 4, 10, 0, 0, 1];
/// Mask, router, DNS, name, domain, MTU, broadcast.
const WANTS: [u8; 9] = [55, 7, 1, 3, 6, 12, 15, 26, 28];

fn mac(last: u8) -> UnicastMac {
    UnicastMac::for_ipv4([10, 0, 0, last])
}

fn at(seconds: u64) -> Time {
    Time::from_secs(seconds)
}

/// A gateway in 10.0.0.0/24, the container "web" behind its port 1.
struct World {
    gateway: Gateway,
    pool: FramePool,
}

impl World {
    fn new() -> Self {
        let config = GatewayConfig { mac: mac(1), address: GATEWAY, prefix: 24, v6: None };
        let mut gateway = Gateway::new(config, [1, 2]);
        let station =
            Station { mac: mac(2), v4: Some(OWN), v6: None, mtu: 1_400, limits: Limits::default(), guard: AddressGuard::default() };
        gateway.stations.set(PORT, station);
        gateway.stations.set_name(PORT, "web");
        Self { gateway, pool: FramePool::new(4) }
    }

    fn receive(&mut self, octets: &[u8], now: Time) -> Routed {
        let mut frame = self.pool.take().unwrap();
        assert!(frame.fill(octets));
        let head = Head::parse(frame.bytes(), None).unwrap();
        self.gateway.receive(frame, &head, PORT, now)
    }

    /// The answer to a client's message.
    fn ask(&mut self, octets: &[u8], now: Time) -> Option<Told> {
        let routed = self.receive(octets, now);
        if let Routed::Reply(Side::Inside, frame) = routed {
            let told = Told::read(frame.bytes());
            self.pool.put(frame);
            return Some(told);
        }
        let Routed::Consumed(frame) = routed else { panic!("{routed:?}") };
        self.pool.put(frame);
        None
    }
}

/// A client's message in a frame.
#[derive(Clone)]
struct Client {
    mac: UnicastMac,
    client: Ipv4Addr,
    flags: u8,
    relay: [u8; 4],
    options: Vec<u8>,
}

impl Client {
    fn says(kind: u8, options: &[&[u8]]) -> Self {
        let mut all = std::vec![53, 1, kind];
        options.iter().for_each(|option| all.extend_from_slice(option));
        all.push(255);
        Self { mac: mac(2), client: Ipv4Addr::UNSPECIFIED, flags: 0, relay: [0; 4], options: all }
    }

    fn octets(&self) -> Vec<u8> {
        let mut message = std::vec![0; 240];
        message[..4].copy_from_slice(&[1, 1, 6, 0]);
        message[4..8].copy_from_slice(&XID);
        message[10] = self.flags;
        message[12..16].copy_from_slice(&self.client.octets());
        message[24..28].copy_from_slice(&self.relay);
        message[28..34].copy_from_slice(&self.mac.mac().0);
        message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
        message.extend_from_slice(&self.options);
        let (ip_len, udp_len) = (message.len() as u16 + 28, message.len() as u16 + 8);
        let mut frame = Vec::new();
        let unicast = !self.client.is_unspecified();
        frame.extend_from_slice(&if unicast { mac(1).mac().0 } else { Mac::BROADCAST.0 });
        frame.extend_from_slice(&self.mac.mac().0);
        frame.extend_from_slice(&[8, 0, 0x45, 0]);
        frame.extend_from_slice(&ip_len.to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0]);
        frame.extend_from_slice(&self.client.octets());
        frame.extend_from_slice(&if unicast { GATEWAY.octets() } else { [255; 4] });
        let sum = checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame.extend_from_slice(&[0, 68, 0, 67]);
        frame.extend_from_slice(&udp_len.to_be_bytes());
        frame.extend_from_slice(&[0, 0]);
        frame.extend_from_slice(&message);
        frame
    }
}

/// What a client was told.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    kind: u8,
    to_mac: Mac,
    to: Ipv4Addr,
    yours: Ipv4Addr,
    options: Vec<(u8, Vec<u8>)>,
}

impl Told {
    fn read(frame: &[u8]) -> Self {
        assert_eq!(&frame[12..14], [8, 0]);
        assert_eq!(checksum(&frame[14..34]), 0, "IP header");
        assert_eq!((&frame[26..30], &frame[34..38]), (&GATEWAY.octets()[..], &[0, 67, 0, 68][..]));
        let len = usize::from(u16::from_be_bytes([frame[38], frame[39]]));
        let mut pseudo: Vec<u8> = frame[26..34].to_vec();
        pseudo.extend_from_slice(&[0, 17, frame[38], frame[39]]);
        pseudo.extend_from_slice(&frame[34..34 + len]);
        assert_eq!(checksum(&pseudo), 0, "UDP");
        let message = &frame[42..34 + len];
        assert!(message.len() >= 300 && frame.len() == 34 + len);
        assert_eq!((&message[..4], &message[4..8]), (&[2, 1, 6, 0][..], &XID[..]));
        let mut options = Vec::new();
        let mut rest = &message[240..];
        while rest[0] != 255 {
            let end = 2 + usize::from(rest[1]);
            options.push((rest[0], rest[2..end].to_vec()));
            rest = &rest[end..];
        }
        let kind = options.iter().find(|(option, _)| *option == 53).unwrap().1[0];
        let to_mac = Mac(frame[..6].try_into().unwrap());
        let address = |at: usize, octets: &[u8]| Ipv4Addr::from(<[u8; 4]>::try_from(&octets[at..at + 4]).unwrap());
        Self { kind, to_mac, to: address(30, frame), yours: address(16, message), options }
    }

    fn option(&self, option: u8) -> Option<&[u8]> {
        self.options.iter().find(|(other, _)| *other == option).map(|(_, data)| &data[..])
    }
}

#[test]
fn rfc2131_4_3_1_discover_is_offered_its_address_with_all_it_wants() {
    let mut world = World::new();
    let told = world.ask(&Client::says(1, &[&WANTS, &[61, 3, 0, 7, 7]]).octets(), at(1)).unwrap();
    assert_eq!((told.kind, told.to_mac, told.to, told.yours), (2, mac(2).mac(), OWN, OWN));
    let wanted: [(u8, &[u8]); 12] = [
        (1, &[255, 255, 255, 0]),
        (3, &[10, 0, 0, 1]),
        (6, &[10, 0, 0, 1]),
        (12, b"web"),
        (15, b"vswitch.internal"),
        (26, &[0x05, 0x78]),
        (28, &[10, 0, 0, 255]),
        (51, &[0, 0, 0x0e, 0x10]),
        (54, &[10, 0, 0, 1]),
        (58, &[0, 0, 0x07, 0x08]),
        (59, &[0, 0, 0x0c, 0x4e]),
        // RFC 6842 3.
        (61, &[0, 7, 7]),
    ];
    for (option, data) in wanted {
        assert_eq!(told.option(option), Some(data), "{option}");
    }
    assert_eq!(told.options.len(), wanted.len() + 1);
    assert_eq!(world.gateway.dhcp.granted(PORT), None, "an offer is no lease");
}

/// RFC 2132 9.8: what is not asked for is not told; RFC 2131 4.3.1: but for how long, and by whom.
#[test]
fn rfc2131_4_3_1_only_what_is_wanted() {
    let mut world = World::new();
    let told = world.ask(&Client::says(1, &[&[55, 1, 3]]).octets(), at(1)).unwrap();
    let mut options: Vec<u8> = told.options.iter().map(|(option, _)| *option).collect();
    options.sort_unstable();
    assert_eq!(options, [3, 51, 53, 54, 58, 59]);
}

#[test]
fn rfc2131_4_3_2_selecting() {
    let mut world = World::new();
    let asks = |address: [u8; 4], server: &[u8]| Client::says(3, &[&[&[50, 4], &address[..]].concat(), server]).octets();
    let told = world.ask(&asks([10, 0, 0, 2], &SERVER_ID), at(1)).unwrap();
    assert_eq!((told.kind, told.yours, told.to), (5, OWN, OWN));
    assert_eq!(world.gateway.dhcp.granted(PORT), Some(at(3_601)));
    let told = world.ask(&asks([10, 0, 0, 3], &SERVER_ID), at(1)).unwrap();
    assert_eq!((told.kind, told.yours, told.to, told.option(51)), (6, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, None));
    assert_eq!(world.ask(&asks([10, 0, 0, 2], &[54, 4, 10, 0, 0, 7]), at(1)), None, "another server's");
}

#[test]
fn rfc2131_4_3_2_init_reboot() {
    let mut world = World::new();
    let asks = |address: [u8; 4]| Client::says(3, &[&[&[50, 4], &address[..]].concat()]).octets();
    assert_eq!(world.ask(&asks([10, 0, 0, 2]), at(1)).unwrap().kind, 5);
    for wrong in [[10, 0, 0, 3], [192, 168, 1, 7]] {
        assert_eq!(world.ask(&asks(wrong), at(1)).unwrap().kind, 6, "{wrong:?}");
    }
}

#[test]
fn rfc2131_4_3_2_renewing_and_rebinding() {
    let mut world = World::new();
    let mut client = Client::says(3, &[&WANTS]);
    client.client = OWN;
    let told = world.ask(&client.octets(), at(100)).unwrap();
    assert_eq!((told.kind, told.yours, told.to, told.to_mac), (5, OWN, OWN, mac(2).mac()));
    assert_eq!(world.gateway.dhcp.granted(PORT), Some(at(3_700)));
    client.client = OTHER;
    let told = world.ask(&client.octets(), at(100)).unwrap();
    assert_eq!((told.kind, told.to), (6, Ipv4Addr::BROADCAST), "it has one that is not its own");
    client.client = Ipv4Addr::UNSPECIFIED;
    assert_eq!(world.ask(&client.octets(), at(100)), None, "asks for nothing");
}

#[test]
fn rfc2131_4_3_5_inform() {
    let mut world = World::new();
    let mut client = Client::says(8, &[&WANTS]);
    client.client = OTHER;
    let told = world.ask(&client.octets(), at(1)).unwrap();
    assert_eq!((told.kind, told.yours, told.to), (5, Ipv4Addr::UNSPECIFIED, OTHER));
    assert_eq!((told.option(51), told.option(58), told.option(3)), (None, None, Some(&[10, 0, 0, 1][..])));
    client.client = Ipv4Addr::new(192, 168, 1, 7);
    let mut frame = client.octets();
    frame[..6].copy_from_slice(&Mac::BROADCAST.0);
    assert_eq!(world.ask(&frame, at(1)), None, "nowhere to answer");
}

#[test]
fn rfc2131_4_1_broadcast_for_who_takes_nothing_else() {
    let mut world = World::new();
    let mut client = Client::says(1, &[]);
    client.flags = 0x80;
    let told = world.ask(&client.octets(), at(1)).unwrap();
    assert_eq!((told.to, told.to_mac), (Ipv4Addr::BROADCAST, mac(2).mac()), "but it floods nothing");
}

#[test]
fn rfc2131_4_3_4_release_and_4_3_3_decline_of_a_containers_own() {
    let mut world = World::new();
    let mut client = Client::says(3, &[&WANTS]);
    client.client = OWN;
    world.ask(&client.octets(), at(1)).unwrap();
    let mut release = Client::says(7, &[&SERVER_ID]);
    release.client = OWN;
    assert_eq!(world.ask(&release.octets(), at(2)), None);
    assert_eq!(world.gateway.dhcp.granted(PORT), None);
    assert_eq!(world.gateway.dhcp.news(), None, "it stays the container's");
    assert_eq!(world.ask(&Client::says(4, &[&SERVER_ID, &[50, 4, 10, 0, 0, 2]]).octets(), at(3)), None);
    assert_eq!(world.gateway.dhcp.news(), Some(LeaseNews::Declined { port: PORT, mac: mac(2), address: OWN }));
    assert_eq!(world.ask(&Client::says(1, &[]).octets(), at(4)).unwrap().yours, OWN);
}

#[test]
fn a_further_station_waits_for_its_address() {
    let mut world = World::new();
    let mut client = Client::says(1, &[&[50, 4, 10, 0, 0, 9]]);
    client.mac = mac(77);
    assert_eq!(world.ask(&client.octets(), at(1)), None);
    assert_eq!(world.ask(&client.octets(), at(4)), None, "it asks again");
    let wanted = LeaseNews::Wanted { port: PORT, mac: mac(77), requested: Some(OTHER) };
    assert_eq!((world.gateway.dhcp.news(), world.gateway.dhcp.news()), (Some(wanted), None));
    assert!(world.gateway.dhcp.bind(PORT, mac(77), OTHER, at(60)));
    assert_eq!(world.gateway.deadline(), Some(Time::ZERO));
    let Some(Routed::Generated(Side::Inside, frame)) = world.gateway.poll_output(&mut world.pool, at(5)) else { panic!() };
    let told = Told::read(frame.bytes());
    assert_eq!((told.kind, told.yours, told.to_mac, told.option(12)), (2, OTHER, mac(77).mac(), None));
    world.pool.put(frame);
    assert!(world.gateway.poll_output(&mut world.pool, at(5)).is_none());
    // Given, renewed, and given back.
    client.options = Client::says(3, &[&SERVER_ID, &[50, 4, 10, 0, 0, 9]]).options;
    assert_eq!(world.ask(&client.octets(), at(6)).unwrap().kind, 5);
    assert_eq!(world.gateway.dhcp.news(), Some(LeaseNews::Renewed { address: OTHER, until: at(3_606) }));
    assert_eq!(world.gateway.dhcp.bindings().collect::<Vec<_>>(), [(PORT, mac(77), OTHER, at(3_606))]);
    let mut release = Client::says(7, &[&SERVER_ID]);
    (release.mac, release.client) = (mac(77), OTHER);
    assert_eq!(world.ask(&release.octets(), at(7)), None);
    assert_eq!(world.gateway.dhcp.news(), Some(LeaseNews::Released { address: OTHER }));
    assert_eq!(world.gateway.dhcp.bindings().count(), 0);
}

#[test]
fn a_lease_that_is_over_is_nobodys() {
    let mut world = World::new();
    assert!(world.gateway.dhcp.bind(PORT, mac(77), OTHER, at(60)));
    let mut client = Client::says(3, &[&[50, 4, 10, 0, 0, 9]]);
    client.mac = mac(77);
    assert_eq!(world.ask(&client.octets(), at(59)).unwrap().kind, 5);
    assert_eq!(world.ask(&client.octets(), at(59 + 3_600)).unwrap().kind, 6);
}

#[test]
fn one_port_cannot_have_all_addresses() {
    let mut world = World::new();
    for number in 0..PER_PORT as u8 {
        assert!(world.gateway.dhcp.bind(PORT, UnicastMac::for_ipv4([1, 0, 0, number]), OTHER, at(60)));
    }
    assert!(!world.gateway.dhcp.bind(PORT, mac(77), OTHER, at(60)));
    let mut client = Client::says(1, &[]);
    client.mac = mac(77);
    assert_eq!(world.ask(&client.octets(), at(1)), None);
    assert_eq!(world.gateway.dhcp.news(), None);
    world.gateway.forget(PORT);
    assert_eq!(world.gateway.dhcp.bindings().count(), 0);
}

#[test]
fn what_is_no_message_is_dropped_and_what_is_for_others_goes_on() {
    let good = Client::says(1, &[]).octets();
    let reason = |octets: &[u8]| {
        let Routed::Drop(_, reason) = World::new().receive(octets, at(1)) else { return None };
        Some(reason)
    };
    let changed = |at: usize, octet: u8| {
        let mut octets = good.clone();
        octets[at] = octet;
        reason(&octets)
    };
    const MALFORMED: Option<DropReason> = Some(DropReason::GatewayMalformed);
    assert_eq!(changed(24, 0xee), MALFORMED, "IP checksum");
    assert_eq!(changed(41, 1), MALFORMED, "UDP checksum");
    assert_eq!(changed(42, 2), MALFORMED, "a server's");
    assert_eq!(changed(43, 6), MALFORMED, "hardware type");
    assert_eq!(changed(44, 7), MALFORMED, "hardware length");
    assert_eq!(changed(75, 3), MALFORMED, "another one's hardware address");
    assert_eq!(changed(278, 0), MALFORMED, "magic");
    assert_eq!(changed(284, 9), MALFORMED, "message type");
    assert_eq!(changed(283, 200), MALFORMED, "an option that is longer than the message");
    let mut relayed = Client::says(1, &[]);
    relayed.relay = [10, 0, 0, 7];
    assert_eq!(reason(&relayed.octets()), Some(DropReason::DhcpRelayed));
    for len in 0..good.len() {
        let cut = good[..len].to_vec();
        if len >= 14 {
            let _ = reason(&cut);
        }
    }
    // To a server elsewhere: routed as any other packet.
    let mut away = Client::says(1, &[]);
    away.client = OWN;
    let mut away = away.octets();
    away[30..34].copy_from_slice(&[192, 0, 2, 7]);
    assert_ne!(reason(&away), None);
    assert_ne!(reason(&away), MALFORMED);
}

fn asks(last: u8, kind: u8, options: &[&[u8]]) -> Vec<u8> {
    Client { mac: mac(last), ..Client::says(kind, options) }.octets()
}

/// RFC 2132 3.3: "the subnet mask option MUST be first".
#[test]
fn rfc2132_3_3_the_mask_before_the_router() {
    for wants in [&[][..], &[55, 2, 3, 1]] {
        let told = World::new().ask(&Client::says(1, &[wants]).octets(), at(1)).unwrap();
        let place = |kind| told.options.iter().position(|(option, _)| *option == kind).unwrap();
        assert!(place(1) < place(3), "{:?}", told.options);
    }
}

/// RFC 2131 2: 548 octets are what every client takes. The longest identifier leaves out what it can do without, not the answer.
#[test]
fn rfc6842_the_longest_client_identifier_is_answered() {
    let id = [&[61, 255][..], &[7; 255]].concat();
    let told = World::new().ask(&Client::says(1, &[&id]).octets(), at(1)).unwrap();
    assert_eq!(told.option(61), Some(&[7; 255][..]));
    assert!([1, 3, 51, 54, 58, 59].iter().all(|option| told.option(*option).is_some()), "{:?}", told.options);
}

#[test]
fn options_that_are_cut_or_have_a_wrong_length() {
    let message = |options: &[u8]| Client { options: options.to_vec(), ..Client::says(1, &[]) }.octets();
    let mut world = World::new();
    for options in [
        &[53][..],
        &[53, 1],
        &[53, 0, 255],
        &[53, 2, 1, 1, 255],
        &[53, 1, 1, 12],
        &[53, 1, 1, 12, 200, b'x'],
        &[53, 1, 1, 50, 3, 10, 0, 0, 255],
        &[53, 1, 1, 50, 5, 10, 0, 0, 2, 1, 255],
        &[53, 1, 3, 54, 0, 50, 4, 10, 0, 0, 2, 255],
        &[53, 1, 1, 52, 2, 1, 1, 255],
        &[53, 1, 1, 52, 1, 4, 255],
        &[255],
        &[],
    ] {
        let Routed::Drop(frame, DropReason::GatewayMalformed) = world.receive(&message(options), at(1)) else {
            panic!("{options:?}")
        };
        world.pool.put(frame);
    }
    // Pads, and no end, are as BOOTP had them.
    assert_eq!(world.ask(&message(&[0, 0, 53, 1, 1, 0]), at(1)).unwrap().kind, 2);
}

/// RFC 2132 9.3.
#[test]
fn rfc2132_9_3_options_in_file_and_sname() {
    let overloaded = |how: u8, field: usize, option: &[u8]| {
        let mut octets = Client { options: std::vec![52, 1, how, 255], ..Client::says(1, &[]) }.octets();
        octets[42 + field..42 + field + option.len()].copy_from_slice(option);
        octets
    };
    let mut world = World::new();
    for (how, field) in [(1, 108), (2, 44), (3, 108), (3, 44)] {
        assert_eq!(world.ask(&overloaded(how, field, &[53, 1, 1, 255]), at(1)).unwrap().kind, 2);
    }
    for (how, field, option) in [(1, 44, &[53, 1, 1][..]), (1, 108, &[53, 1, 1, 12, 200]), (2, 44, &[53, 1, 1, 12, 60])] {
        assert!(matches!(world.receive(&overloaded(how, field, option), at(1)), Routed::Drop(..)), "{how} {field}");
        world = World::new();
    }
}

#[test]
fn who_is_never_given_an_address_is_in_nobodys_way() {
    let mut world = World::new();
    for last in 0..WAITING as u8 {
        world.ask(&asks(100 + last, 1, &[]), at(1));
    }
    while world.gateway.dhcp.news().is_some() {}
    // The daemon has none for them. While they are patient there is no room, then there is.
    world.ask(&asks(50, 1, &[]), at(2));
    assert_eq!(world.gateway.dhcp.news(), None);
    world.ask(&asks(50, 1, &[]), at(11));
    assert_eq!(world.gateway.dhcp.news(), Some(LeaseNews::Wanted { port: PORT, mac: mac(50), requested: None }));
}

#[test]
fn nothing_is_acknowledged_that_the_daemon_is_not_told() {
    let mut world = World::new();
    assert!(world.gateway.dhcp.bind(PORT, mac(77), OTHER, at(600)));
    assert!(world.gateway.dhcp.bind(PORT, mac(78), Ipv4Addr::new(10, 0, 0, 10), at(600)));
    let request = |last: u8, address: u8| asks(last, 3, &[&[50, 4, 10, 0, 0, address]]);
    // Who asks all the time makes one piece of news.
    for seconds in 1..200 {
        assert_eq!(world.ask(&request(78, 10), at(seconds)).unwrap().kind, 5);
    }
    for last in 0..WAITING as u8 {
        world.ask(&asks(100 + last, 1, &[]), at(200));
    }
    assert_eq!(world.ask(&request(77, 9), at(200)), None);
    assert_eq!(world.gateway.dhcp.bindings().find(|(_, of, ..)| *of == mac(77)).unwrap().3, at(600));
    let news = world.gateway.dhcp.news();
    assert_eq!(news, Some(LeaseNews::Renewed { address: Ipv4Addr::new(10, 0, 0, 10), until: at(199 + 3_600) }));
    assert_eq!(world.ask(&request(77, 9), at(201)).unwrap().kind, 5);
}

#[test]
fn a_station_that_moves_has_its_address_at_one_port() {
    let mut world = World::new();
    let station =
        Station { mac: mac(3), v4: None, v6: None, mtu: 1_500, limits: Limits::default(), guard: AddressGuard::default() };
    world.gateway.stations.set(2, station);
    assert!(world.gateway.dhcp.bind(PORT, mac(77), OTHER, at(60)));
    assert!(world.gateway.dhcp.bind(2, mac(77), OTHER, at(60)));
    assert_eq!(world.gateway.dhcp.bindings().map(|(port, ..)| port).collect::<Vec<_>>(), [2]);
}
