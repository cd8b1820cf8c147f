//! Knobs: every fault, latency, rate, counters, the control interface.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::ByteStream;
use pailfs_s3_server::{Counters, Fault, FaultKind, Server, ServerConfig};

use crate::client::*;
use crate::raw;

#[tokio::test]
async fn refusals() {
    let (server, client) = start().await;
    put(&client, "k", "x").await;
    let knobs = server.knobs();
    for (kind, status, code) in [
        (FaultKind::SlowDown, 503, "SlowDown"),
        (FaultKind::InternalError, 500, "InternalError"),
        (
            FaultKind::Status { code: 409, s3_code: "ConditionalRequestConflict".into() },
            409,
            "ConditionalRequestConflict",
        ),
    ] {
        knobs.add_fault(Fault::new(kind).on("PutObject").key("k").times(1));
        let body = ByteStream::from(vec![0; 3_000_000]);
        let refused = client.put_object().bucket(BUCKET).key("k").body(body).send().await;
        expect_failure(refused, status, code);
        assert_eq!(get(&client, "k").await, b"x");
    }
    assert_eq!(knobs.faults_hit(), 3);
    // Failed requests are counted too.
    assert_eq!(server.counters().count("PutObject"), 4);
}

#[tokio::test]
async fn done_but_answered_with_an_error() {
    let (server, client) = start().await;
    server.knobs().add_fault(Fault::new(FaultKind::DoneButError).times(1));
    let put = client.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(b"x")).send().await;
    expect_failure(put, 500, "InternalError");
    assert_eq!(get(&client, "k").await, b"x");
}

#[tokio::test]
async fn resets() {
    let (server, client) = start().await;
    put(&client, "k", "x").await;
    server.knobs().add_fault(Fault::new(FaultKind::Reset).on("GetObject").times(1));
    let reset = client.get_object().bucket(BUCKET).key("k").send().await;
    assert!(matches!(reset, Err(SdkError::DispatchFailure(_))), "{reset:?}");
    assert_eq!(get(&client, "k").await, b"x");
    server.knobs().add_fault(Fault::new(FaultKind::Reset).times(1));
    let reset =
        raw::request("GET", &format!("{}/{BUCKET}/k", server.endpoint()), &[], b"").await.unwrap_err();
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn stalls() {
    let (server, client) = start().await;
    put(&client, "k", "x").await;
    server.knobs().add_fault(Fault::new(FaultKind::Stall).on("HeadObject").times(1));
    let stalled = tokio::spawn(client.head_object().bucket(BUCKET).key("k").send());
    while server.knobs().faults_hit() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(get(&client, "k").await, b"x");
    assert!(!stalled.is_finished());
    server.knobs().clear_faults();
    stalled.await.unwrap().unwrap();
    // A stop does not wait for what is stalled.
    server.knobs().add_fault(Fault::new(FaultKind::Stall));
    let stalled = tokio::spawn(client.head_object().bucket(BUCKET).key("k").send());
    while server.knobs().faults_hit() == 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.stop().await;
    assert!(stalled.await.unwrap().is_err());
}

#[tokio::test]
async fn truncated_bodies() {
    let (server, client) = start_with(|config| config.allow_anonymous = true).await;
    for len in [1000usize, 5_000_000] {
        put(&client, "k", vec![b'x'; len]).await;
        server.knobs().add_fault(Fault::new(FaultKind::TruncatedBody).on("GetObject").times(2));
        let url = format!("{}/{BUCKET}/k", server.endpoint());
        let answer = raw::request("GET", &url, &[], b"").await.unwrap();
        assert_eq!(answer.header("content-length"), Some(len.to_string().as_str()));
        assert_eq!(answer.body.len(), len / 2);
        let got = client.get_object().bucket(BUCKET).key("k").send().await.unwrap();
        assert!(got.body.collect().await.is_err());
    }
    server.knobs().add_fault(Fault::new(FaultKind::TruncatedBody).times(1));
    let url = format!("{}/{BUCKET}/k", server.endpoint());
    let answer = raw::request("HEAD", &url, &[], b"").await.unwrap();
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("5000000")));
}

#[tokio::test]
async fn corrupted_bodies() {
    let (server, client) = start_with(|config| config.allow_anonymous = true).await;
    let body: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
    put(&client, "k", body.clone()).await;
    server.knobs().add_fault(Fault::new(FaultKind::CorruptBody).on("GetObject").times(2));
    let answer = raw::request("GET", &format!("{}/{BUCKET}/k", server.endpoint()), &[], b"").await.unwrap();
    let wrong: Vec<usize> = (0..body.len()).filter(|at| answer.body[*at] != body[*at]).collect();
    assert_eq!(wrong, [1_500_000]);
    // The stored checksum gives it away.
    let got = client.get_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert!(got.body.collect().await.is_err());
    assert!(get(&client, "k").await == body);
}

#[tokio::test]
async fn latency_and_rate() {
    let (server, client) = start().await;
    put(&client, "k", vec![1; 100_000]).await;
    server.knobs().set_latency(Duration::from_millis(150));
    let began = Instant::now();
    let heads = (0..20).map(|_| client.head_object().bucket(BUCKET).key("k").send());
    futures_util::future::try_join_all(heads).await.unwrap();
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(150), "{took:?}");
    assert!(server.counters().in_flight_max >= 10, "{:?}", server.counters());
    server.knobs().set_latency(Duration::ZERO);
    server.knobs().set_rate(Some(200_000));
    let began = Instant::now();
    get(&client, "k").await;
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    let began = Instant::now();
    put(&client, "k", vec![1; 200_000]).await;
    assert!(began.elapsed() >= Duration::from_millis(500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_control_interface() {
    let (server, client) = start().await;
    let control = format!("{}/_pailfs", server.endpoint());
    put(&client, "k", "abc").await;
    let answer = raw::request("GET", &format!("{control}/counters"), &[], b"").await.unwrap();
    let counters: Counters = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(counters, server.counters());
    assert_eq!(counters.operations.into_iter().collect::<Vec<_>>(), [("PutObject".to_owned(), 1)]);
    let send = |method: &'static str, path: &str, body: &'static str| {
        let url = format!("{control}/{path}");
        async move { raw::request(method, &url, &[], body.as_bytes()).await.unwrap().status }
    };
    assert_eq!(send("POST", "counters/reset", "").await, 204);
    assert_eq!(server.counters().total(), 0);
    assert_eq!(send("PUT", "latency?ms=7", "").await, 204);
    assert_eq!(server.knobs().latency(), Duration::from_millis(7));
    assert_eq!(send("PUT", "rate?bytes_per_s=1000000", "").await, 204);
    assert_eq!(server.knobs().rate(), Some(1_000_000));
    assert_eq!(send("PUT", "rate?bytes_per_s=", "").await, 204);
    assert_eq!(server.knobs().rate(), None);
    assert_eq!(send("PUT", "latency?ms=x", "").await, 400);
    let fault = r#"{"operation":"GetObject","kind":"SlowDown","remaining":1}"#;
    assert_eq!(send("POST", "faults", fault).await, 204);
    assert_eq!(server.knobs().faults(), [Fault::new(FaultKind::SlowDown).on("GetObject").times(1)]);
    expect_failure(client.get_object().bucket(BUCKET).key("k").send().await, 503, "SlowDown");
    assert_eq!(send("POST", "faults", r#"{"kind":"Nonsense"}"#).await, 400);
    assert_eq!(send("DELETE", "faults", "").await, 204);
    assert_eq!(send("GET", "nothing", "").await, 404);
    assert_eq!(server.counters().total(), 1);
}

#[test]
fn a_server_without_a_runtime() {
    let config = ServerConfig { buckets: vec![BUCKET.to_owned()], ..ServerConfig::default() };
    let server = Arc::new(Server::start_blocking(config).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = client_of(&server);
    runtime.block_on(async { put(&client, "k", "x").await });
    assert_eq!(server.counters().count("PutObject"), 1);
    let address = server.address();
    drop(server);
    assert!(std::net::TcpStream::connect(address).is_err());
}
