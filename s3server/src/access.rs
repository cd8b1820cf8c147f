//! Who may do what: one key pair, and everybody when the server is told so.

use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey, SimpleAuth};
use s3s::{S3Result, s3_error};

/// s3s' list of keys, with the error that S3 has for an unknown one.
pub(crate) struct KeyPair(SimpleAuth);

impl KeyPair {
    pub(crate) fn new(access_key: &str, secret_key: &str) -> Self {
        Self(SimpleAuth::from_single(access_key, secret_key))
    }
}

#[async_trait::async_trait]
impl S3Auth for KeyPair {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        self.0.get_secret_key(access_key).await.map_err(|_| {
            s3_error!(InvalidAccessKeyId, "The AWS Access Key Id you provided does not exist in our records.")
        })
    }
}

/// Lets unsigned requests in; signed ones must still be signed right.
pub(crate) struct Everybody;

#[async_trait::async_trait]
impl S3Access for Everybody {
    async fn check(&self, _: &mut S3AccessContext<'_>) -> S3Result<()> {
        Ok(())
    }
}
