//! A published range: nanoseconds to publish it and to take it away, and its memory, whatever its length.
#![allow(missing_docs)]
use criterion::{Criterion, criterion_group, criterion_main};
use std::net::Ipv4Addr;
use vswitch_nat::flow::protocol;
use vswitch_nat::forward::{Backend, Rule, RuleId};
use vswitch_nat::nat::{Nat, NatConfig};

fn range(id: u32, first: u16, last: u16) -> Rule<Ipv4Addr> {
    let backends = vec![Backend { owner: 1, address: Ipv4Addr::new(10, 88, 0, 2), port: first, draining: false }];
    Rule { id: RuleId(id), protocol: protocol::TCP, address: None, first, last, from: Vec::new(), backends }
}

fn publish(c: &mut Criterion) {
    let mut nat = Nat::new(NatConfig::default(), [1, 2]);
    let mut publish =
        |id, first, last| allocation_counter::measure(|| assert_eq!(nat.publish(range(id, first, last)), Ok(()))).bytes_current;
    // The first makes the tables.
    publish(1, 1, 1);
    let (one, many) = (publish(2, 10_000, 10_000), publish(3, 20_000, 29_999));
    println!("nat: memory of a published port: {one} octets; of 10,000 in one range: {many}\n");
    assert!(many <= one, "a range takes as much as a port");
    c.benchmark_group("nat").bench_function("publish and unpublish 10,000 ports", |b| {
        b.iter(|| {
            assert_eq!(nat.publish(range(4, 30_000, 39_999)), Ok(()));
            assert!(nat.unpublish::<Ipv4Addr>(RuleId(4)));
        });
    });
}

criterion_group!(benches, publish);
criterion_main!(benches);
