//! DESIGN: nothing allocates per frame in steady state. Proved on every load that `benches/datapath.rs` times.
#![allow(missing_docs)]
use allocation_counter::measure;
use std::hint::black_box;
use std::time::Duration;
use vswitch_tests::load::Load;

/// Rounds until every queue has its size.
const WARM_UP: usize = 4;
const ROUNDS: u64 = 32;

#[test]
fn the_counter_counts() {
    assert_eq!(measure(|| drop(black_box(vec![7u8; 7]))).count_total, 1);
}

#[test]
fn no_load_allocates_or_frees() {
    for mut load in Load::all() {
        for _ in 0..WARM_UP {
            load.feed();
            load.breathe();
        }
        for _ in 0..ROUNDS {
            // A new second, so that floods are probed again and again.
            load.wait(Duration::from_secs(1));
            load.feed();
            let before = load.sent();
            let info = measure(|| load.breathe());
            let sent = load.sent() - before;
            assert!(sent >= load.copies && sent <= load.copies + 1, "{}: {sent} frames sent", load.name);
            assert_eq!((info.count_total, info.count_current), (0, 0), "{}: allocated, freed", load.name);
        }
    }
}
