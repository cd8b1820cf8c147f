//! What every layer runs on: the memory budget, the way to local disk, single flight.
//!
//! Deliberately does not: know any other layer.

pub mod budget;
pub mod disk;
pub mod flight;
