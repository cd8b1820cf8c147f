//! From settings to clients: one connection pool, one set of credentials, and per bucket three views of them
//! that differ in their times.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::{RetryConfig, RetryPartition, TokenBucket};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime::client::retries::classifiers::HttpStatusCodeClassifier;
use parking_lot::RwLock;

use super::config::{ChecksumAlgorithm, Checksums, RetryMode, S3Config, is_aws, needs_path_style};
use crate::store::error::{ErrorKind, Result, StoreError};

/// Region when nobody names one. AWS answers there where a bucket really is.
const REGION_DEFAULT: &str = "us-east-1";
/// S3 closes idle connections itself after about 20 seconds; a request on one that is being closed is lost.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// The SDK's client in the three settings that requests need. All share pool, credentials and retry tokens;
/// only times differ, and not those that the pool is keyed by.
pub(super) struct Views {
    /// Without a body to send: answered soon or not at all.
    pub(super) quick: Client,
    /// With a body to send.
    pub(super) upload: Client,
    /// The store works for a while before it answers, sending blanks: a copy or a completion. Stalled-stream
    /// protection would take that for a stall.
    pub(super) at_work: Client,
}

/// Makes the views of each bucket once.
pub(super) struct Clients {
    base: Builder,
    config: S3Config,
    /// Whether the store may correct the region.
    follows_region: bool,
    is_aws: bool,
    service: Arc<Views>,
    buckets: RwLock<HashMap<String, Arc<Views>>>,
}

impl Clients {
    /// Resolves region, endpoint and credentials; sends no request of its own, but the credentials of some
    /// environments come from a service.
    pub(super) async fn connect(config: S3Config) -> Result<Self> {
        if config.max_connections == 0 || config.max_attempts == 0 {
            let message = "at least one connection and one attempt are needed";
            return Err(StoreError::new(ErrorKind::InvalidRequest, "Connect", "s3", message));
        }
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(config.max_connections)
            .build_https();
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(http)
            .region(region_chain(&config))
            .retry_config(RetryConfig::standard())
            .timeout_config(TimeoutConfig::builder().connect_timeout(config.connect_timeout).build());
        if let Some(profile) = &config.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(endpoint) = &config.endpoint_url {
            loader = loader.endpoint_url(endpoint);
        }
        if config.anonymous {
            loader = loader.no_credentials();
        } else if let Some(keys) = &config.keys {
            let keys = Credentials::new(&keys.access_key, &keys.secret_key, None, None, "given");
            loader = loader.credentials_provider(keys);
        }
        let shared = loader.load().await;
        let endpoint = config
            .endpoint_url
            .clone()
            .or_else(|| std::env::var("AWS_ENDPOINT_URL_S3").ok().filter(|url| !url.is_empty()))
            .or_else(|| shared.endpoint_url().map(str::to_owned));
        let path_style =
            config.force_path_style.unwrap_or_else(|| endpoint.as_deref().is_some_and(needs_path_style));
        let mut base = aws_sdk_s3::config::Builder::from(&shared)
            .force_path_style(path_style)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .retry_classifier(HttpStatusCodeClassifier::new_from_codes(vec![429]))
            .retry_config(retry_config(&config));
        if config.anonymous {
            base = base.allow_no_auth();
        }
        let is_aws = is_aws(endpoint.as_deref());
        let follows_region = config.region.is_none() && is_aws;
        let service = Arc::new(views(&base, &config, "service", None));
        Ok(Self { base, config, follows_region, is_aws, service, buckets: RwLock::default() })
    }

    pub(super) fn config(&self) -> &S3Config {
        &self.config
    }

    /// For requests that belong to no bucket.
    pub(super) fn service(&self) -> Arc<Views> {
        self.service.clone()
    }

    /// For requests to a bucket, with retry tokens of its own.
    pub(super) fn bucket(&self, bucket: &str) -> Arc<Views> {
        if let Some(views) = self.buckets.read().get(bucket) {
            return views.clone();
        }
        let mut buckets = self.buckets.write();
        let views = buckets
            .entry(bucket.to_owned())
            .or_insert_with(|| Arc::new(views(&self.base, &self.config, bucket, None)));
        views.clone()
    }

    /// Sends later requests for the bucket to the region that the store named for it. False when the user
    /// chose the region or the endpoint, which is not ours to change.
    pub(super) fn follow(&self, bucket: &str, region: &str) -> bool {
        if !self.follows_region {
            return false;
        }
        let views = views(&self.base, &self.config, bucket, Some(region));
        self.buckets.write().insert(bucket.to_owned(), Arc::new(views));
        true
    }

    pub(super) fn is_aws(&self) -> bool {
        self.is_aws
    }

    /// Algorithm of upload checksums.
    pub(super) fn checksum(&self) -> Option<ChecksumAlgorithm> {
        match self.config.checksums {
            Checksums::Auto => self.is_aws.then_some(ChecksumAlgorithm::Crc64Nvme),
            Checksums::Off => None,
            Checksums::Always(algorithm) => Some(algorithm),
        }
    }
}

/// Given, environment, profile, default. Not the instance metadata service: without one the question takes
/// seconds, and a bucket's region need not be the machine's.
fn region_chain(config: &S3Config) -> RegionProviderChain {
    let profile = match &config.profile {
        Some(profile) => ProfileFileRegionProvider::builder().profile_name(profile).build(),
        None => ProfileFileRegionProvider::new(),
    };
    RegionProviderChain::first_try(config.region.clone().map(Region::new))
        .or_else(aws_config::environment::EnvironmentVariableRegionProvider::new())
        .or_else(profile)
        .or_else(Region::new(REGION_DEFAULT))
}

fn retry_config(config: &S3Config) -> RetryConfig {
    let retry = match config.retry_mode {
        RetryMode::Standard => RetryConfig::standard(),
        RetryMode::Adaptive => RetryConfig::adaptive(),
    };
    retry
        .with_max_attempts(config.max_attempts)
        .with_initial_backoff(config.retry_initial_backoff)
        .with_max_backoff(config.retry_max_backoff)
}

fn views(base: &Builder, config: &S3Config, name: &str, region: Option<&str>) -> Views {
    let tokens =
        TokenBucket::builder().capacity(config.retry_tokens).refill_rate(config.retry_tokens_per_s).build();
    let partition = RetryPartition::custom(format!("s3-{name}")).token_bucket(tokens).build();
    let mut base = base.clone().retry_partition(partition);
    if let Some(region) = region {
        base = base.region(Region::new(region.to_owned()));
    }
    // Only the time of an attempt differs: the read time is part of the key of the SDK's connection pools, so
    // that another one would mean another pool.
    let times = |attempt: Duration| {
        TimeoutConfig::builder()
            .connect_timeout(config.connect_timeout)
            .operation_attempt_timeout(attempt)
            .build()
    };
    let guarded = StalledStreamProtectionConfig::enabled().grace_period(config.stall_grace).build();
    let client = |times: TimeoutConfig, stalls: StalledStreamProtectionConfig| {
        Client::from_conf(base.clone().timeout_config(times).stalled_stream_protection(stalls).build())
    };
    Views {
        quick: client(times(config.read_timeout), guarded.clone()),
        upload: client(times(config.transfer_timeout), guarded),
        at_work: client(times(config.transfer_timeout), StalledStreamProtectionConfig::disabled()),
    }
}
