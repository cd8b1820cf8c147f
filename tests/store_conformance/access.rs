//! Who we are and where the bucket lives: only over HTTP.

use std::time::Duration;

use pailfs::store::error::ErrorKind;
use pailfs::store::s3::{Keys, S3Config};
use pailfs::store::types::{Condition, PRESIGN_EXPIRES_DEFAULT, PresignMethod};
use pailfs_s3_server::{ServerConfig, WrongRegion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::subject::{BUCKET, Subject, at, kind, path, s3, s3_over, start};

/// Sends one request to a URL as any HTTP client would, and returns status and body.
async fn http(method: &str, url: &str, body: &str) -> (u16, String) {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, target) = rest.split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).await.unwrap();
    let head = format!(
        "{method} /{target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn a_presigned_url_does_one_thing_for_whoever_has_it() {
    let remote = s3(S3Config::default()).await;
    let s = &remote.subject;
    let key = "a b//c+d%";
    let url = s.store.presign(&path(key), PresignMethod::Put, PRESIGN_EXPIRES_DEFAULT).await.unwrap();
    assert!(url.contains("X-Amz-Expires=3600"), "{url}");
    assert_eq!(http("PUT", &url, "hello").await.0, 200);
    assert_eq!(s.read(key).await.unwrap(), b"hello");
    let url = s.store.presign(&path(key), PresignMethod::Get, Duration::from_secs(60)).await.unwrap();
    assert_eq!(http("GET", &url, "").await, (200, "hello".to_owned()));
    assert_eq!(http("DELETE", &url, "").await.0, 403);
    let forged = url.replace("X-Amz-Expires=60", "X-Amz-Expires=61");
    assert_ne!(forged, url);
    assert_eq!(http("GET", &forged, "").await.0, 403);
    for expires in [Duration::ZERO, Duration::from_secs(8 * 24 * 3600)] {
        let refused = s.store.presign(&path(key), PresignMethod::Get, expires).await;
        assert_eq!(kind(refused), ErrorKind::InvalidRequest);
    }
    let memory = crate::subject::memory();
    let refused = memory.store.presign(&path(key), PresignMethod::Get, PRESIGN_EXPIRES_DEFAULT).await;
    assert_eq!(kind(refused), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_wrong_key_is_told_and_not_tried_again() {
    let good = ServerConfig::default();
    for (access_key, secret_key) in [("nobody", &*good.secret_key), (&*good.access_key, "wrong")] {
        let keys = Keys { access_key: access_key.to_owned(), secret_key: secret_key.to_owned() };
        let remote = s3(S3Config { keys: Some(keys), ..S3Config::default() }).await;
        let s = &remote.subject;
        let error = s.put_if("k", "x", Condition::None).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Credentials);
        assert!(error.code.is_some() && !error.message.is_empty(), "{error}");
        assert!(!format!("{error} {error:?}").contains(secret_key), "a secret is in the error");
        assert_eq!(remote.requests("PutObject"), 1);
        // HEAD has no body to say why, so a listing is asked.
        let error = s.store.head_bucket(BUCKET).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Credentials);
        assert_eq!((remote.requests("HeadBucket"), remote.requests("ListObjectsV2")), (1, 1));
    }
}

#[tokio::test]
async fn missing_keys_are_told() {
    let server = start(ServerConfig::default()).await;
    let config = S3Config { anonymous: true, ..at(&server, S3Config::default()) };
    let s = Subject { store: pailfs::store::open(&config).await.unwrap() };
    let error = s.put_if("k", "x", Condition::None).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::AccessDenied | ErrorKind::Credentials), "{error}");
    let refused = s.store.presign(&path("k"), PresignMethod::Get, PRESIGN_EXPIRES_DEFAULT).await;
    assert_eq!(kind(refused), ErrorKind::Credentials);
}

#[tokio::test]
async fn an_open_store_is_used_without_keys() {
    let server = ServerConfig { allow_anonymous: true, ..ServerConfig::default() };
    let remote = s3_over(server, S3Config { anonymous: true, ..S3Config::default() }).await;
    let s = &remote.subject;
    s.store.head_bucket(BUCKET).await.unwrap();
    s.put("k", "x").await;
    assert_eq!(s.read("k").await.unwrap(), b"x");
}

#[tokio::test]
async fn the_region_is_followed_unless_it_was_chosen() {
    for wrong_region in [WrongRegion::Malformed, WrongRegion::Redirect] {
        let server =
            || ServerConfig { region: Some("eu-west-1".to_owned()), wrong_region, ..ServerConfig::default() };
        let chosen = S3Config { region: Some("us-east-1".to_owned()), ..S3Config::default() };
        let remote = s3_over(server(), chosen).await;
        for error in [
            remote.subject.store.head_bucket(BUCKET).await.unwrap_err(),
            remote.subject.put_if("k", "x", Condition::None).await.unwrap_err(),
        ] {
            assert_eq!(error.kind, ErrorKind::WrongRegion, "{error}");
            assert_eq!(error.region.as_deref(), Some("eu-west-1"), "{error}");
        }
        let remote = s3_over(server(), S3Config::default()).await;
        remote.subject.store.head_bucket(BUCKET).await.unwrap();
        remote.subject.put("k", "x").await;
        assert_eq!(remote.requests("PutObject"), 1);
        let right = S3Config { region: Some("eu-west-1".to_owned()), ..S3Config::default() };
        let remote = s3_over(server(), right).await;
        remote.subject.store.head_bucket(BUCKET).await.unwrap();
        assert_eq!(remote.requests("HeadBucket"), 1);
    }
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    let server = start(ServerConfig::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = S3Config {
        endpoint_url: Some(format!("http://{address}")),
        max_attempts: 2,
        ..at(&server, S3Config::default())
    };
    let s = Subject { store: pailfs::store::open(&config).await.unwrap() };
    assert_eq!(kind(s.store.head_bucket(BUCKET).await), ErrorKind::Unreachable);
    assert_eq!(kind(s.put_if("k", "x", Condition::None).await), ErrorKind::Unreachable);
}
