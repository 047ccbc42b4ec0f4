//! What tests, benches and fuzz targets share.
pub mod fuzz;
pub mod load;
pub mod netns;
