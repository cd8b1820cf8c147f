//! An S3 server for tests and demos: the protocol by `s3s`, storage in memory or a directory, exact request
//! counters, and knobs for latency, rate and faults that can be turned while it runs.
//!
//! The way of a request: [`server`] accepts the connection, [`service`] names, counts and perhaps spoils it, s3s
//! checks the signature and parses it, [`api`] hands it to [`buckets`], [`reads`], [`writes`] or [`multipart`],
//! which work on [`storage`]; bodies come in through [`intake`] and are kept as [`content`].
//!
//! Not here on purpose: versions, ACLs, policies, TLS, virtual-hosted addressing.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use pailfs_s3_server::{Fault, FaultKind, Server, ServerConfig};
//! let server = Server::start(ServerConfig::default()).await?;
//! server.knobs().add_fault(Fault::new(FaultKind::SlowDown).on("PutObject").times(2));
//! println!("{} {:?}", server.endpoint(), server.counters());
//! server.stop().await;
//! # Ok(())
//! # }
//! ```

mod access;
mod api;
mod attributes;
mod buckets;
mod checksums;
mod classify;
mod conditions;
mod config;
mod content;
mod control;
mod counters;
mod directory;
mod intake;
mod knobs;
mod listing;
mod multipart;
mod reads;
mod server;
mod service;
mod storage;
mod uploads;
mod wire;
mod writes;

pub use config::{Backing, ServerConfig, WrongRegion};
pub use counters::Counters;
pub use knobs::{Fault, FaultKind, Knobs};
pub use server::Server;
