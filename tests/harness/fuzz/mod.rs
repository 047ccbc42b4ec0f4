//! What the fuzz targets run, one function a target: on stable too, where `tests/regression.rs` replays the corpora.
pub mod datapath;
pub mod head;
pub mod made;
pub mod nat;
pub mod switch;
