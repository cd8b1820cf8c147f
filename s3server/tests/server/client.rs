//! An SDK client for a server, and words for its answers.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use pailfs_s3_server::{Server, ServerConfig};

/// The bucket of the tests.
pub const BUCKET: &str = "test-bucket";

/// A client that does not retry and gives up after a while.
pub fn client_with(endpoint: &str, access_key: &str, secret_key: &str, region: &str) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new(region.to_owned()))
        .credentials_provider(Credentials::new(access_key, secret_key, None, None, "test"))
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().operation_timeout(Duration::from_secs(60)).build())
        .build();
    Client::from_conf(config)
}

/// A client with the right keys.
pub fn client_of(server: &Server) -> Client {
    client_with(&server.endpoint(), "pailfs-test", "pailfs-test-secret", "us-east-1")
}

/// A server with one bucket, changed by `change`, and a client of it.
pub async fn start_with(change: impl FnOnce(&mut ServerConfig)) -> (Server, Client) {
    let mut config = ServerConfig { buckets: vec![BUCKET.to_owned()], ..ServerConfig::default() };
    change(&mut config);
    let server = Server::start(config).await.unwrap();
    let client = client_of(&server);
    (server, client)
}

/// A server in memory with one bucket, and a client of it.
pub async fn start() -> (Server, Client) {
    start_with(|_| {}).await
}

/// Puts an object; gives back its ETag.
pub async fn put(client: &Client, key: &str, body: impl Into<Vec<u8>>) -> String {
    let body = ByteStream::from(body.into());
    let put = client.put_object().bucket(BUCKET).key(key).body(body).send().await.unwrap();
    put.e_tag.unwrap()
}

/// The bytes of an object.
pub async fn get(client: &Client, key: &str) -> Vec<u8> {
    let got = client.get_object().bucket(BUCKET).key(key).send().await.unwrap();
    got.body.collect().await.unwrap().into_bytes().to_vec()
}

/// Status and S3 code of a failed request; the code is empty where S3 sends none (HEAD, 304).
pub fn failure<T, E: ProvideErrorMetadata + std::error::Error + 'static>(
    outcome: Result<T, SdkError<E>>,
) -> (u16, String) {
    match outcome {
        Ok(_) => panic!("it succeeded"),
        Err(SdkError::ServiceError(error)) => {
            let status = error.raw().status().as_u16();
            (status, error.err().code().unwrap_or_default().to_owned())
        }
        Err(SdkError::ResponseError(error)) => (error.raw().status().as_u16(), String::new()),
        Err(other) => panic!("no answer: {}", aws_sdk_s3::error::DisplayErrorContext(&other)),
    }
}

/// `failure` with fewer letters.
pub fn expect_failure<T, E: ProvideErrorMetadata + std::error::Error + 'static>(
    outcome: Result<T, SdkError<E>>,
    status: u16,
    code: &str,
) {
    assert_eq!(failure(outcome), (status, code.to_owned()));
}
