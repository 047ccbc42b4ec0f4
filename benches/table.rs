//! `AgedMap` against a plain hash of the same keys: what bounds, ages and classes cost on a lookup, a touch and an insert.
#![allow(missing_docs)]
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::hint::black_box;
use vswitch_switch::{AgedMap, Time};

/// Look-ups of one measured batch.
const LOOKUPS: usize = 65_536;
/// Classes: the ports among which the entries are spread.
const CLASSES: u32 = 16;

/// xorshift64: any spread will do.
fn random(count: u64) -> impl FnMut() -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % count
    }
}

/// Keys as the FDB makes them: VLAN 1 and an address 02:58 and four octets.
fn key(number: u64) -> u64 {
    1 << 48 | 0x0258_0000_0000 | number
}

fn filled(count: u64) -> (AgedMap<u64, u32>, HashMap<u64, u32, FixedState>) {
    let mut aged = AgedMap::new(count as u32, CLASSES, 42);
    let mut plain = HashMap::with_capacity_and_hasher(count as usize, FixedState::with_seed(42));
    for number in 0..count {
        aged.insert(key(number), number as u32, number as u32 % CLASSES, Time::ZERO).unwrap();
        plain.insert(key(number), number as u32);
    }
    (aged, plain)
}

fn lookups(c: &mut Criterion) {
    let mut group = c.benchmark_group("table");
    group.throughput(Throughput::Elements(LOOKUPS as u64));
    for count in [16, 1_024, 65_536, 1 << 20] {
        let (mut aged, plain) = filled(count);
        let mut next = random(count);
        let keys: Vec<u64> = (0..LOOKUPS).map(|_| key(next())).collect();
        group.bench_function(format!("plain lookup, {count}"), |b| {
            b.iter(|| keys.iter().filter_map(|key| plain.get(black_box(key))).fold(0u32, |sum, &value| sum ^ value));
        });
        group.bench_function(format!("AgedMap lookup, {count}"), |b| {
            b.iter(|| keys.iter().filter_map(|key| aged.get(black_box(key))).fold(0u32, |sum, (&value, _)| sum ^ value));
        });
        group.bench_function(format!("AgedMap touch, {count}"), |b| {
            b.iter(|| {
                for key in &keys {
                    if let Some((_, seen)) = aged.get_mut(black_box(key)) {
                        *seen = Time::from_secs(1);
                    }
                }
            });
        });
    }
    group.finish();
}

fn inserts(c: &mut Criterion) {
    let mut group = c.benchmark_group("table");
    for count in [1_024u64, 65_536] {
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("plain insert, {count}"), |b| {
            b.iter_batched_ref(
                || HashMap::<u64, u32, FixedState>::with_capacity_and_hasher(count as usize, FixedState::with_seed(42)),
                |plain| (0..count).filter(|&number| plain.insert(key(number), 0).is_none()).count(),
                BatchSize::LargeInput,
            );
        });
        group.bench_function(format!("AgedMap insert, {count}"), |b| {
            b.iter_batched_ref(
                || AgedMap::<u64, u32>::new(count as u32, CLASSES, 42),
                |aged| (0..count).filter(|&number| aged.insert(key(number), 0, 0, Time::ZERO).is_ok()).count(),
                BatchSize::LargeInput,
            );
        });
        // A full table under an attack of made-up addresses: every insert pushes the oldest out.
        let (mut aged, _) = filled(count);
        let mut number = count;
        group.bench_function(format!("AgedMap evict and insert, {count}"), |b| {
            b.iter(|| {
                for _ in 0..count {
                    let class = number as u32 % CLASSES;
                    if let Some((oldest, _)) = aged.oldest(class, Time::ZERO) {
                        aged.remove(&oldest);
                    }
                    aged.insert(key(number), 0, class, Time::ZERO).unwrap();
                    number += 1;
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lookups, inserts);
criterion_main!(benches);
