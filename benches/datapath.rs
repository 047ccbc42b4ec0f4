//! The datapath on memory ports: nanoseconds a frame or copy sent, system calls not included. And no allocation, asserted.
#![allow(missing_docs)]
use criterion::{Criterion, criterion_group, criterion_main};
use std::time::{Duration, Instant};

#[path = "../tests/harness/load.rs"]
mod load;
use load::Load;

/// Rounds before the count: until every queue has its size.
const WARM_UP: usize = 4;

/// Sends at least `frames` frames; says how long that many take.
fn send(load: &mut Load, frames: u64) -> Duration {
    let rounds = frames.div_ceil(load.copies);
    let mut elapsed = Duration::ZERO;
    for _ in 0..rounds {
        load.feed();
        let start = Instant::now();
        load.breathe();
        elapsed += start.elapsed();
    }
    elapsed.mul_f64(frames as f64 / (rounds * load.copies) as f64)
}

fn datapath(c: &mut Criterion) {
    let mut group = c.benchmark_group("datapath");
    group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    for mut load in Load::all() {
        for _ in 0..WARM_UP {
            load.feed();
            load.breathe();
        }
        load.wait(Duration::from_secs(1));
        load.feed();
        let before = load.sent();
        let info = allocation_counter::measure(|| load.breathe());
        assert!(load.sent() - before >= load.copies, "{}: frames are missing", load.name);
        assert_eq!((info.count_total, info.count_current), (0, 0), "{}: allocated, freed", load.name);
        group.bench_function(load.name, |b| b.iter_custom(|frames| send(&mut load, frames)));
    }
    group.finish();
}

criterion_group!(benches, datapath);
criterion_main!(benches);
