//! The verbs, one file each.
pub mod attach;
pub mod demo;
pub mod detach;
pub mod down;
pub mod fdb;
pub mod generate;
pub mod mirror;
pub mod ports;
pub mod restart;
pub mod set;
pub mod show;
pub mod stats;
pub mod up;
