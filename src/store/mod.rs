//! S3 as a trait, and what implements or wraps it.
//!
//! Owns: the vocabulary of S3 ([`types`]), the errors ([`error`]), the boundary ([`object_store`]); two stores,
//! [`s3`] and its twin in [`memory`]; and what goes around a store ([`around`]): [`limit`], [`metered`],
//! [`resume`], and for tests [`fault`].
//! Deliberately does not: know files, inodes or paths; retry what the SDK retries already.

pub mod around;
pub mod error;
pub mod fault;
pub mod limit;
pub mod memory;
pub mod metered;
pub mod object_store;
pub mod resume;
pub mod s3;
pub mod types;
pub mod validate;

use std::sync::Arc;

use self::error::Result;
use self::limit::Limited;
use self::metered::{Metered, Metrics};
use self::object_store::ObjectStore;
use self::resume::Resuming;
use self::s3::{S3Config, S3Store};

/// The S3 store of a configuration with everything around it. See [`open_metered`].
///
/// # Errors
/// As [`S3Store::connect`].
pub async fn open(config: &S3Config) -> Result<Arc<dyn ObjectStore>> {
    open_metered(config).await.map(|(store, _)| store)
}

/// The same, with the counts of what goes through it.
///
/// From the outside in: broken bodies are resumed, each resumption being a request of its own; requests wait for
/// one of `max_connections` places; what is then sent is counted, timed and logged.
///
/// # Errors
/// As [`S3Store::connect`].
pub async fn open_metered(config: &S3Config) -> Result<(Arc<dyn ObjectStore>, Arc<Metrics>)> {
    let s3 = S3Store::connect(config.clone()).await?;
    Ok(wrap(Arc::new(s3), config.max_connections))
}

/// What [`open_metered`] puts around a store, around any store.
pub fn wrap(store: Arc<dyn ObjectStore>, max_in_flight: usize) -> (Arc<dyn ObjectStore>, Arc<Metrics>) {
    let metered = Metered::new(store);
    let metrics = metered.metrics();
    let limited = Limited::new(Arc::new(metered), max_in_flight);
    (Arc::new(Resuming::new(Arc::new(limited))), metrics)
}
