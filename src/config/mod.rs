//! Configuration: as given ([`raw`]), then resolved and validated ([`resolve`]).
//!
//! A flag wins over `-o`, `-o` over the environment, the environment over the default. The names of all
//! settings are in one table ([`settings`]).
//!
//! Deliberately does not: know clap, open files, talk to anyone.

pub mod machine;
pub mod quantity;
pub mod raw;
pub mod resolve;
pub mod settings;
pub mod target;
