//! The datapath on memory ports: the same code as the daemon's, on literal frames.
#![allow(missing_docs, clippy::unwrap_used)]
use std::time::Duration;
use vswitch_io::datapath::{COPIES_PER_BREATH, Datapath, FLOODS_WAITING, FLOODS_WAITING_PER_PORT, Inhaled};
use vswitch_io::port::{MemoryPort, Port};
use vswitch_nat::gateway::{Gateway, GatewayConfig, GatewayV6};
use vswitch_nat::station::{AddressGuard, Limits, Station};
use vswitch_switch::port::Guard;
use vswitch_switch::storm::StormLimits;
use vswitch_switch::{DropReason, FdbLimits, Mac, PortConfig, PortId, Switch, SwitchConfig, Time, UnicastMac, VlanMode};

const GATEWAY: [u8; 4] = [10, 88, 0, 1];

fn mac(number: u16) -> UnicastMac {
    let [high, low] = number.to_be_bytes();
    UnicastMac::for_ipv4([10, 88, high, low])
}

fn datapath() -> Datapath {
    let address = UnicastMac::for_ipv4(GATEWAY);
    let config = SwitchConfig {
        mac: address,
        fdb: FdbLimits { ageing: Duration::from_secs(300), entries: 8_192 },
        group_forward: 0,
        flood_unregistered: true,
        seed: 1,
    };
    let gateway = Gateway::new(GatewayConfig { mac: address, address: GATEWAY.into(), prefix: 20, v6: None }, [1, 2]);
    Datapath::new(Switch::new(config), Some(gateway))
}

fn plug(datapath: &mut Datapath, mask: u32, config: PortConfig) -> PortId {
    datapath.add_port(Port::Memory(MemoryPort::new(mask, true)), config, 1_500).map_err(|(_, error)| error).unwrap()
}

/// virtio_net_hdr of zeroes, addresses, local experimental EtherType, payload.
fn frame(dst: Mac, src: UnicastMac, payload: usize) -> Vec<u8> {
    [&[0; 10][..], &dst.0, &src.mac().0, &[0x88, 0xb6], &vec![7; payload]].concat()
}

fn run(datapath: &mut Datapath, port: PortId, frames: Vec<Vec<u8>>) {
    for frame in frames {
        assert!(datapath.memory(port).unwrap().feed(frame));
    }
    for second in 1..200 {
        let now = Time::from_secs(second);
        datapath.begin(now);
        let end = datapath.inhale(port, now);
        datapath.exhale();
        assert!(datapath.accounts().balanced(), "the law: {:?}", datapath.accounts());
        if end == Inhaled::Idle && !datapath.is_flooding() {
            break;
        }
    }
    assert_eq!(datapath.outstanding(), 0, "a buffer is lost");
}

fn output(datapath: &mut Datapath, port: PortId) -> Vec<Vec<u8>> {
    datapath.memory(port).unwrap().take_output()
}

fn drops(datapath: &mut Datapath, reason: DropReason) -> u64 {
    datapath.stats().drops.get(reason)
}

#[test]
fn l05_l06_floods_then_forwards_what_it_learned() {
    let mut datapath = datapath();
    let ports: Vec<PortId> = (0..3).map(|_| plug(&mut datapath, 0x67, PortConfig::default())).collect();
    let (a, b) = (mac(2), mac(3));
    run(&mut datapath, ports[0], vec![frame(Mac::BROADCAST, a, 50)]);
    assert_eq!(output(&mut datapath, ports[1]), [frame(Mac::BROADCAST, a, 50)]);
    assert_eq!(output(&mut datapath, ports[2]).len(), 1);
    // The unguarded port that floods gets a loop probe, nothing else.
    assert_eq!(output(&mut datapath, ports[0]).len(), 1);
    run(&mut datapath, ports[1], vec![frame(a.mac(), b, 46)]);
    assert_eq!(output(&mut datapath, ports[0]), [frame(a.mac(), b, 46)]);
    assert!(output(&mut datapath, ports[2]).is_empty());
}

#[test]
fn gateway_answers_arp() {
    let mut datapath = datapath();
    let port = plug(&mut datapath, 0x67, PortConfig { guard: Guard::Bound(mac(2)), ..PortConfig::default() });
    let request = [
        &[0; 10][..],
        &[0xff; 6],
        &mac(2).mac().0,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
        &mac(2).mac().0,
        &[10, 88, 0, 2],
        &[0; 6],
        &GATEWAY,
    ]
    .concat();
    run(&mut datapath, port, vec![request]);
    let gateway = UnicastMac::for_ipv4(GATEWAY).mac().0;
    let reply =
        [&mac(2).mac().0[..], &gateway, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &gateway, &GATEWAY, &mac(2).mac().0, &[10, 88, 0, 2]]
            .concat();
    let sent = output(&mut datapath, port);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0][10..52], reply);
}

/// A GSO frame of IPv4 TCP: 3,000 octets of payload to be cut at 1,448.
fn gso_frame() -> Vec<u8> {
    let mut vnet = [0u8; 10];
    vnet[0] = 1;
    vnet[1] = 1;
    vnet[2..4].copy_from_slice(&54u16.to_ne_bytes());
    vnet[4..6].copy_from_slice(&1448u16.to_ne_bytes());
    vnet[6..8].copy_from_slice(&34u16.to_ne_bytes());
    vnet[8..10].copy_from_slice(&16u16.to_ne_bytes());
    let total = (20u16 + 20 + 3_000).to_be_bytes();
    let ip = [0x45, 0, total[0], total[1], 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 88, 0, 2, 10, 88, 0, 3];
    let tcp = [0x10, 0, 0x20, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0];
    [&vnet[..], &mac(3).mac().0, &mac(2).mac().0, &[8, 0], &ip, &tcp, &vec![9; 3_000]].concat()
}

#[test]
fn gso_passes_untouched_where_it_can_and_is_segmented_where_it_cannot() {
    for (mask, segments) in [(0x67, 1), (0x07, 1), (0x01, 3), (0, 3)] {
        let mut datapath = datapath();
        let from = plug(&mut datapath, 0x67, PortConfig::default());
        let to = plug(&mut datapath, mask, PortConfig::default());
        run(&mut datapath, to, vec![frame(Mac::BROADCAST, mac(3), 46)]);
        let _ = output(&mut datapath, to);
        run(&mut datapath, from, vec![gso_frame()]);
        let sent = output(&mut datapath, to);
        assert_eq!(sent.len(), segments, "mask {mask:#x}");
        if segments == 1 {
            assert_eq!(sent[0][10..], gso_frame()[10..]);
        } else {
            assert!(sent.iter().all(|segment| segment[..10] == [0; 10] && segment.len() <= 10 + 1_514));
            assert_eq!(sent.iter().map(|segment| segment.len() - 64).sum::<usize>(), 3_000);
        }
    }
}

#[test]
fn l13_over_mtu_is_dropped_and_counted() {
    let mut datapath = datapath();
    let from = plug(&mut datapath, 0x67, PortConfig::default());
    let to = plug(&mut datapath, 0x67, PortConfig::default());
    run(&mut datapath, from, vec![frame(Mac::BROADCAST, mac(2), 1_500), frame(Mac::BROADCAST, mac(2), 1_501)]);
    assert_eq!(output(&mut datapath, to).len(), 1);
    assert_eq!(drops(&mut datapath, DropReason::Mtu), 1);
}

#[test]
fn bad_frames_are_counted_drops() {
    let mut datapath = datapath();
    let port = plug(&mut datapath, 0x67, PortConfig::default());
    let _other = plug(&mut datapath, 0x67, PortConfig::default());
    let mut bad_offload = frame(Mac::BROADCAST, mac(2), 50);
    bad_offload[0] = 1;
    bad_offload[6..8].copy_from_slice(&60_000u16.to_ne_bytes());
    let group_source = [&[0; 10][..], &[0xff; 6], &[1, 0, 0, 0, 0, 1], &[8, 0], &[0; 46]].concat();
    let tagged = [&[0; 10][..], &[0xff; 6], &mac(2).mac().0, &[0x81, 0, 0x0f, 0xff, 8, 0], &[0; 46]].concat();
    run(&mut datapath, port, vec![vec![0; 12], vec![0; 23], vec![0; 70_000], bad_offload, group_source, tagged]);
    for (reason, count) in [
        (DropReason::Runt, 2),
        (DropReason::Giant, 1),
        (DropReason::BadOffload, 1),
        (DropReason::SourceInvalid, 1),
        (DropReason::Vlan, 1),
    ] {
        assert_eq!(drops(&mut datapath, reason), count, "{}", reason.name());
    }
}

#[test]
fn l11_tags_are_pushed_and_popped() {
    let mut datapath = datapath();
    let trunk = VlanMode::Trunk { allowed: "10,20".parse().unwrap(), native: None };
    let from = plug(&mut datapath, 0x67, PortConfig { vlan: trunk, ..PortConfig::default() });
    let access = PortConfig { vlan: VlanMode::Access("10".parse().unwrap()), ..PortConfig::default() };
    let to = plug(&mut datapath, 0x67, access);
    let tagged = [&[0; 10][..], &[0xff; 6], &mac(2).mac().0, &[0x81, 0, 0x60, 10, 0x88, 0xb6], &[7; 46]].concat();
    run(&mut datapath, from, vec![tagged.clone()]);
    assert_eq!(output(&mut datapath, to), [frame(Mac::BROADCAST, mac(2), 46)]);
    let _ = output(&mut datapath, from);
    run(&mut datapath, to, vec![frame(mac(2).mac(), mac(3), 46)]);
    assert_eq!(output(&mut datapath, from)[0][22..26], [0x81, 0, 0, 10]);
}

#[test]
fn l14_l18_a_flood_to_1100_ports_resumes_in_order() {
    let mut datapath = datapath();
    let ports: Vec<PortId> = (0..1_100).map(|_| plug(&mut datapath, 0x67, PortConfig::default())).collect();
    let frames: Vec<_> = (1..=3).map(|length| frame(Mac::BROADCAST, mac(2), 46 + length)).collect();
    for frame in frames.clone() {
        assert!(datapath.memory(ports[0]).unwrap().feed(frame));
    }
    let now = Time::from_secs(1);
    datapath.begin(now);
    assert_eq!(datapath.inhale(ports[0], now), Inhaled::Idle);
    let sent = |datapath: &Datapath| datapath.accounts().tx;
    assert!(sent(&datapath) <= u64::from(COPIES_PER_BREATH) + 1, "a breath's copies are bounded");
    assert!(datapath.accounts().balanced());
    run(&mut datapath, ports[0], vec![]);
    for port in &ports[1..] {
        assert_eq!(output(&mut datapath, *port), frames);
    }
}

#[test]
fn a_port_removed_under_a_flood_keeps_the_law() {
    let mut datapath = datapath();
    let ports: Vec<PortId> = (0..1_000).map(|_| plug(&mut datapath, 0x67, PortConfig::default())).collect();
    assert!(datapath.memory(ports[0]).unwrap().feed(frame(Mac::BROADCAST, mac(2), 46)));
    datapath.begin(Time::from_secs(1));
    assert_eq!(datapath.inhale(ports[0], Time::from_secs(1)), Inhaled::Idle);
    assert!(datapath.is_flooding());
    for port in [999, 998, 0] {
        assert!(datapath.remove_port(ports[port]).is_some());
        assert!(datapath.accounts().balanced(), "{:?}", datapath.accounts());
    }
    datapath.begin(Time::from_secs(2));
    assert!(datapath.accounts().balanced() && datapath.accounts().held == 0);
    assert_eq!(datapath.outstanding(), 0);
}

#[test]
fn ports_added_under_a_flood_keep_the_law() {
    let mut datapath = datapath();
    let add = |datapath: &mut Datapath, count| -> Vec<PortId> {
        (0..count).map(|_| plug(datapath, 0x67, PortConfig::default())).collect()
    };
    let first = add(&mut datapath, 600);
    assert!(datapath.memory(first[0]).unwrap().feed(frame(Mac::BROADCAST, mac(2), 46)));
    datapath.begin(Time::from_secs(1));
    assert_eq!(datapath.inhale(first[0], Time::from_secs(1)), Inhaled::Idle);
    let late = add(&mut datapath, 600);
    // More copies by now than were foreseen, and it is not through.
    datapath.begin(Time::from_secs(2));
    assert!(datapath.is_flooding() && datapath.accounts().balanced(), "{:?}", datapath.accounts());
    run(&mut datapath, first[0], vec![]);
    assert!(late.iter().all(|&port| output(&mut datapath, port).len() == 1));
}

/// A datapath of 1,000 ports without storm control, and whether frames were sent on them.
fn crowded() -> (Datapath, Vec<PortId>) {
    let mut datapath = datapath();
    let storm = StormLimits { broadcast: None, multicast: None, unknown: None };
    let config = PortConfig { storm, ..PortConfig::default() };
    let ports = (0..1_000).map(|_| plug(&mut datapath, 0x67, config.clone())).collect();
    (datapath, ports)
}

/// DESIGN section 6: a flood may not hold up a frame whose way is known, not even one from the same port.
#[test]
fn known_unicast_passes_a_flood_that_waits() {
    let (mut datapath, ports) = crowded();
    let now = Time::from_secs(1);
    // Port 1's station is known.
    run(&mut datapath, ports[1], vec![frame(mac(9).mac(), mac(3), 46)]);
    for port in &ports {
        output(&mut datapath, *port);
    }
    assert!(datapath.memory(ports[0]).unwrap().feed(frame(Mac::BROADCAST, mac(2), 46)));
    assert!(datapath.memory(ports[0]).unwrap().feed(frame(mac(3).mac(), mac(2), 47)));
    datapath.begin(now);
    assert_eq!(datapath.inhale(ports[0], now), Inhaled::Idle);
    assert!(datapath.is_flooding());
    assert!(output(&mut datapath, ports[1]).contains(&frame(mac(3).mac(), mac(2), 47)));
    assert!(datapath.accounts().balanced());
}

/// DESIGN section 6: floods resume where they stopped, in the order in which they came.
#[test]
fn floods_wait_in_order_and_only_so_many() {
    let (mut datapath, ports) = crowded();
    let now = Time::from_secs(1);
    let frames: Vec<Vec<u8>> = (0..20).map(|number| frame(Mac::BROADCAST, mac(2), 46 + number)).collect();
    for frame in &frames {
        assert!(datapath.memory(ports[0]).unwrap().feed(frame.clone()));
    }
    datapath.begin(now);
    assert_eq!(datapath.inhale(ports[0], now), Inhaled::Idle);
    let dropped = datapath.stats().drops.get(DropReason::FloodBacklog);
    // One under way and those behind it; the budget of a port, though the switch had room for more.
    assert_eq!(dropped, 20 - u64::from(FLOODS_WAITING_PER_PORT));
    run(&mut datapath, ports[0], vec![]);
    for port in &ports[1..] {
        assert_eq!(output(&mut datapath, *port), frames[..usize::from(FLOODS_WAITING_PER_PORT)]);
    }
    // And of all ports together, so that buffers are left for those who flood nothing.
    for port in &ports {
        for frame in &frames[..4] {
            assert!(datapath.memory(*port).unwrap().feed(frame.clone()));
        }
    }
    datapath.begin(now);
    for port in &ports {
        datapath.inhale(*port, now);
    }
    assert!(datapath.outstanding() <= FLOODS_WAITING && datapath.accounts().balanced(), "{}", datapath.outstanding());
}

/// A flood of unknown unicast that waits holds its port: the way may be known for the next frame, which would overtake.
#[test]
fn unknown_unicast_is_not_overtaken() {
    let (mut datapath, ports) = crowded();
    let now = Time::from_secs(1);
    for number in 0..2 {
        assert!(datapath.memory(ports[0]).unwrap().feed(frame(mac(3).mac(), mac(2), 46 + number)));
    }
    datapath.begin(now);
    assert_eq!(datapath.inhale(ports[0], now), Inhaled::More);
    // The station makes itself known meanwhile, behind the last port that is flooded to.
    assert!(datapath.memory(ports[999]).unwrap().feed(frame(mac(2).mac(), mac(3), 46)));
    datapath.inhale(ports[999], now);
    run(&mut datapath, ports[0], vec![]);
    let got = output(&mut datapath, ports[999]);
    assert_eq!(got, [frame(mac(3).mac(), mac(2), 46), frame(mac(3).mac(), mac(2), 47)]);
}

/// RFC 4861 6.2.5: also where one breath's copies do not suffice.
#[test]
fn the_last_advertisement_reaches_every_port() {
    let mut datapath = datapath();
    let address = UnicastMac::for_ipv4(GATEWAY);
    let v6 = GatewayV6 { address: "fd00::1".parse().unwrap(), prefix: 64, link_local: "fe80::1".parse().unwrap() };
    let config = GatewayConfig { mac: address, address: GATEWAY.into(), prefix: 20, v6: Some(v6) };
    datapath.gateway = Some(Gateway::new(config, [1, 2]));
    let ports: Vec<PortId> = (0..300).map(|_| plug(&mut datapath, 0, PortConfig::default())).collect();
    let gateway = datapath.gateway.as_mut().unwrap();
    let station =
        Station { mac: mac(2), v4: None, v6: None, mtu: 1_500, limits: Limits::default(), guard: AddressGuard::default() };
    gateway.stations.set(1, station);
    gateway.advertise(true, Time::from_secs(1));
    datapath.cease(Time::from_secs(1));
    for port in ports {
        let frames = output(&mut datapath, port);
        assert_eq!(frames.len(), 1);
        // Behind the virtio_net_hdr and 14 + 40 octets: an advertisement with a lifetime of 0.
        assert_eq!((frames[0][64], &frames[0][70..72]), (134, &[0, 0][..]));
    }
    assert!(datapath.accounts().balanced() && datapath.outstanding() == 0);
}
