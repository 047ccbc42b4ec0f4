//! The verbs, one file each.
pub mod attach;
pub mod demo;
pub mod detach;
pub mod down;
mod engine;
mod enter;
pub mod exec;
pub mod fdb;
pub mod generate;
pub mod mirror;
pub mod ports;
mod program;
pub mod restart;
pub mod run;
pub mod set;
pub mod show;
pub mod stats;
pub mod up;
