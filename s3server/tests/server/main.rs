//! The server over HTTP, with the client that the file system uses and with bare requests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod access;
mod client;
mod command;
mod conditions;
mod copies;
mod directory;
mod faults;
mod keys;
mod listing;
mod multipart;
mod objects;
mod raw;
