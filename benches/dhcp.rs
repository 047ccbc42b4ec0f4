//! A DHCP client's message and its answer at the gateway, nanoseconds each, with as many containers as there are ports.
#![allow(missing_docs)]
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::net::Ipv4Addr;
use vswitch_nat::checksum;
use vswitch_nat::gateway::{Gateway, GatewayConfig, Routed, Side};
use vswitch_nat::station::{AddressGuard, Limits, Station};
use vswitch_switch::{FramePool, Head, Time, UnicastMac};

const GATEWAY: [u8; 4] = [10, 88, 0, 1];
const PORTS: u16 = 4_095;
/// What udhcpc asks for.
const WANTS: [u8; 9] = [55, 7, 1, 3, 6, 12, 15, 28, 42];

fn address(port: u16) -> [u8; 4] {
    let [high, low] = (port + 1).to_be_bytes();
    [10, 88, high, low]
}

/// From the container of a port that has no address yet.
fn message(port: u16, kind: u8, options: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..8].copy_from_slice(&[1, 1, 6, 0, 1, 2, 3, 4]);
    message[28..34].copy_from_slice(&UnicastMac::for_ipv4(address(port)).mac().0);
    message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    message.extend([53, 1, kind]);
    message.extend(options);
    message.extend(WANTS);
    message.push(255);
    message.resize(300, 0);
    let mut ip = [0x45, 0, 1, 72, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255];
    let sum = checksum::checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut udp = [&[0, 68, 0, 67, 1, 52, 0, 0][..], &message].concat();
    let sum = !checksum::add(checksum::pseudo_v4([0; 4], [255; 4], 17, 308), checksum::sum(&udp));
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    [&[0xff; 6][..], &UnicastMac::for_ipv4(address(port)).mac().0, &[8, 0], &ip, &udp].concat()
}

fn answers(c: &mut Criterion) {
    let config = GatewayConfig { mac: UnicastMac::for_ipv4(GATEWAY), address: Ipv4Addr::from(GATEWAY), prefix: 16, v6: None };
    let mut gateway = Gateway::new(config, [1, 2]);
    for port in 1..=PORTS {
        let (v4, mac) = (Some(address(port).into()), UnicastMac::for_ipv4(address(port)));
        gateway
            .stations
            .set(port, Station { mac, v4, v6: None, mtu: 1_500, limits: Limits::default(), guard: AddressGuard::default() });
        gateway.stations.set_name(port, "container");
    }
    let mut pool = FramePool::new(1);
    let port = PORTS / 2;
    let requested = [&[50, 4][..], &address(port), &[54, 4], &GATEWAY].concat();
    for (name, octets) in [("discover", message(port, 1, &[])), ("request", message(port, 3, &requested))] {
        let head = Head::parse(&octets, None).expect("a frame");
        c.bench_function(&format!("dhcp/{name}"), |b| {
            b.iter(|| {
                let mut frame = pool.take().expect("a buffer");
                assert!(frame.fill(&octets));
                let Routed::Reply(Side::Inside, frame) = gateway.receive(frame, &head, port, black_box(Time::from_secs(1))) else {
                    panic!("no answer")
                };
                pool.put(frame);
            });
        });
    }
}

criterion_group!(benches, answers);
criterion_main!(benches);
