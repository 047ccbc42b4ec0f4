//! Replays the fuzz targets' corpora on stable: every input that once broke something, and the seeds.
#![allow(missing_docs)]
use std::path::Path;
use vswitch_tests::fuzz;

/// Runs a target on each file of its corpus; at least `least` of them must be there.
fn replay(corpus: &str, least: usize, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(corpus);
    let mut inputs: Vec<_> = std::fs::read_dir(&folder).expect("a corpus").map(|entry| entry.expect("an entry").path()).collect();
    inputs.sort();
    assert!(inputs.len() >= least, "{} has only {} inputs", folder.display(), inputs.len());
    for input in inputs {
        // The harness prints this when the target panics.
        println!("{}", input.display());
        target(&std::fs::read(&input).expect("an input"));
    }
}

#[test]
fn head() {
    replay("head", 11, fuzz::head::run);
}

#[test]
fn switch() {
    replay("switch", 6, fuzz::switch::run);
}
