//! Keys, signatures, presigned URLs, regions, anonymity.

use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use pailfs_s3_server::WrongRegion;

use crate::client::*;
use crate::raw;

#[tokio::test]
async fn wrong_keys_are_refused() {
    let (server, client) = start().await;
    put(&client, "k", "x").await;
    let unknown = client_with(&server.endpoint(), "nobody", "pailfs-test-secret", "us-east-1");
    expect_failure(unknown.get_object().bucket(BUCKET).key("k").send().await, 403, "InvalidAccessKeyId");
    let wrong = client_with(&server.endpoint(), "pailfs-test", "guessed", "us-east-1");
    expect_failure(wrong.get_object().bucket(BUCKET).key("k").send().await, 403, "SignatureDoesNotMatch");
    let body = ByteStream::from(vec![0; 3_000_000]);
    let refused = wrong.put_object().bucket(BUCKET).key("k").body(body).send().await;
    expect_failure(refused, 403, "SignatureDoesNotMatch");
    assert_eq!(get(&client, "k").await, b"x");
}

#[tokio::test]
async fn nobody_is_refused_unless_allowed() {
    let (server, client) = start().await;
    put(&client, "k", "x").await;
    let answer = raw::request("GET", &format!("{}/{BUCKET}/k", server.endpoint()), &[], b"").await.unwrap();
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("<Code>AccessDenied</Code>"), "{}", answer.text());
    let (server, client) = start_with(|config| config.allow_anonymous = true).await;
    put(&client, "k", "x").await;
    let answer = raw::request("GET", &format!("{}/{BUCKET}/k", server.endpoint()), &[], b"").await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, "x".to_owned()));
}

#[tokio::test]
async fn presigned_urls() {
    let (_server, client) = start().await;
    let soon = PresigningConfig::expires_in(Duration::from_secs(300)).unwrap();
    for key in ["k", "dir/a b+c/\u{e9}"] {
        let put = client.put_object().bucket(BUCKET).key(key).presigned(soon.clone()).await.unwrap();
        let answer = raw::request("PUT", put.uri(), &[], b"presigned").await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let get = client.get_object().bucket(BUCKET).key(key).presigned(soon.clone()).await.unwrap();
        let answer = raw::request("GET", get.uri(), &[("Range", "bytes=0-2")], b"").await.unwrap();
        assert_eq!((answer.status, answer.text()), (206, "pre".to_owned()));
        let forged = get.uri().replace("X-Amz-Expires=300", "X-Amz-Expires=301");
        let answer = raw::request("GET", &forged, &[], b"").await.unwrap();
        assert_eq!(answer.status, 403);
    }
}

#[tokio::test]
async fn other_regions() {
    let (server, client) = start_with(|config| config.region = Some("eu-central-1".to_owned())).await;
    expect_failure(client.list_objects_v2().bucket(BUCKET).send().await, 400, "AuthorizationHeaderMalformed");
    assert_eq!(failure(client.head_bucket().bucket(BUCKET).send().await).0, 400);
    let right = client_with(&server.endpoint(), "pailfs-test", "pailfs-test-secret", "eu-central-1");
    let head = right.head_bucket().bucket(BUCKET).send().await.unwrap();
    assert_eq!(head.bucket_region(), Some("eu-central-1"));
    let location = right.get_bucket_location().bucket(BUCKET).send().await.unwrap();
    assert_eq!(location.location_constraint().map(|l| l.as_str()), Some("eu-central-1"));
    let (_server, client) = start_with(|config| {
        config.region = Some("eu-central-1".to_owned());
        config.wrong_region = WrongRegion::Redirect;
    })
    .await;
    let moved = client.list_objects_v2().bucket(BUCKET).send().await;
    assert_eq!(failure(moved).0, 301);
}
