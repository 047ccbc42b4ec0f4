//! What tests, benches and fuzz targets share.
pub mod load;
pub mod netns;
