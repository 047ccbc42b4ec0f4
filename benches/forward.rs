//! `Head::parse` and `Switch::forward` on known unicast, at 16, 1k and 64k addresses, in random order.
#![allow(missing_docs)]
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use vswitch_switch::{FdbLimits, Forward, Head, PortConfig, PortId, Switch, SwitchConfig, Time, UnicastMac};

/// Frames of one measured batch: as many as the largest table has addresses, so that nearly all of them are touched.
const FRAMES: usize = 65_536;

fn mac(number: u32) -> UnicastMac {
    UnicastMac::for_ipv4(number.to_be_bytes())
}

/// A switch of 16 ports, its table as large as by default, that knows `count` addresses, and frames between random pairs of them.
fn prepared(count: u32) -> (Switch, Vec<(PortId, [u8; 14])>) {
    let mut switch = Switch::new(SwitchConfig {
        mac: mac(u32::MAX),
        fdb: FdbLimits::default(),
        group_forward: 0,
        flood_unregistered: true,
        seed: 42,
    });
    let config = PortConfig { fdb_limit: 1 << 16, ..PortConfig::default() };
    let ports: Vec<PortId> = (0..16).map(|_| switch.add_port(config.clone()).unwrap()).collect();
    let frame = |src: u32, dst: u32| {
        let mut octets = [0x08; 14];
        octets[..6].copy_from_slice(&mac(dst).mac().0);
        octets[6..12].copy_from_slice(&mac(src).mac().0);
        octets
    };
    for number in 0..count {
        let head = Head::parse(&frame(number, number ^ 1), None).unwrap();
        let _ = switch.forward(ports[number as usize % 16], &head, Time::ZERO);
    }
    // xorshift64*: any spread will do.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u32 % count
    };
    let frames = (0..FRAMES).map(|_| {
        let src = random();
        let dst = loop {
            let dst = random();
            if dst % 16 != src % 16 {
                break dst;
            }
        };
        (ports[src as usize % 16], frame(src, dst))
    });
    (switch, frames.collect())
}

fn forward(c: &mut Criterion) {
    let mut group = c.benchmark_group("switch");
    group.throughput(Throughput::Elements(FRAMES as u64));
    let (_, frames) = prepared(1_024);
    group.bench_function("Head::parse", |b| {
        b.iter(|| frames.iter().filter(|(_, octets)| Head::parse(black_box(octets), None).is_ok()).count());
    });
    for count in [16, 1_024, 65_536] {
        let (mut switch, frames) = prepared(count);
        let heads: Vec<(PortId, Head)> = frames.iter().map(|(port, octets)| (*port, Head::parse(octets, None).unwrap())).collect();
        group.bench_function(format!("forward, {count} addresses"), |b| {
            b.iter_batched(
                || (),
                |()| {
                    for (port, head) in &heads {
                        let verdict = switch.forward(*port, black_box(head), Time::from_secs(1));
                        assert!(matches!(verdict, Forward::To(_)));
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, forward);
criterion_main!(benches);
