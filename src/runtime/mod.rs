//! What every layer may use and that uses none of them.

pub mod disk;
