//! From settings to the layers below: each one's own configuration, the store first.

use std::sync::Arc;

use super::preflight;
use crate::config::resolve::{Connection, Settings};
use crate::failure::Failure;
use crate::store;
use crate::store::metered::Metrics;
use crate::store::object_store::ObjectStore;
use crate::store::s3::{RetryMode, S3Config};

/// The store of `settings`, known to answer and to hold what is to be mounted.
///
/// # Errors
/// The screen that says why it does not.
pub async fn open_store(settings: &Settings) -> Result<(Arc<dyn ObjectStore>, Arc<Metrics>), Failure> {
    let connection = &settings.connection;
    let (store, metrics) = store::open_metered(&s3_config(connection))
        .await
        .map_err(|error| preflight::explain(&error, &settings.target, connection))?;
    preflight::check(&*store, &settings.target, connection).await?;
    Ok((store, metrics))
}

fn s3_config(connection: &Connection) -> S3Config {
    S3Config {
        endpoint_url: connection.endpoint_url.clone(),
        region: connection.region.clone(),
        profile: connection.profile.clone(),
        anonymous: connection.anonymous,
        force_path_style: connection.force_path_style,
        max_connections: connection.max_connections,
        max_attempts: connection.max_attempts,
        retry_mode: if connection.retry_adaptive { RetryMode::Adaptive } else { RetryMode::Standard },
        transfer_timeout: connection.transfer_timeout,
        connect_timeout: connection.connect_timeout,
        read_timeout: connection.read_timeout,
        ..S3Config::default()
    }
}
