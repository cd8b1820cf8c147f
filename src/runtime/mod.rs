//! What every layer runs on: the memory budget and the way to local disk.
//!
//! Deliberately does not: know any other layer.

pub mod budget;
pub mod disk;
pub mod flight;
