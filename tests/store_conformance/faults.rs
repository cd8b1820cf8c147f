//! What the client makes of a store that fails: only over HTTP.

use std::time::{Duration, Instant};

use pailfs::store::error::ErrorKind;
use pailfs::store::object_store::{GetRequest, ObjectStore};
use pailfs::store::s3::{ChecksumAlgorithm, Checksums, RetryMode, S3Config, S3Store};
use pailfs::store::types::{
    Body, Condition, CopyProperties, CopyRequest, ListRequest, ObjectPath, Properties,
};
use pailfs_s3_server::{Fault, FaultKind, ServerConfig};

use crate::subject::{BUCKET, at, drain, kind, none, path, pattern, s3, start};

fn status(code: u16, s3_code: &str) -> FaultKind {
    FaultKind::Status { code, s3_code: s3_code.to_owned() }
}

#[tokio::test]
async fn what_passes_is_tried_three_times() {
    let remote = s3(S3Config::default()).await;
    let s = &remote.subject;
    for fault in [FaultKind::SlowDown, FaultKind::InternalError, FaultKind::Reset, status(429, "Other")] {
        remote.calm();
        remote.fault(Fault::new(fault.clone()).on("PutObject").times(2));
        remote.fault(Fault::new(fault.clone()).on("GetObject").times(2));
        remote.fault(Fault::new(fault.clone()).on("ListObjectsV2").times(2));
        s.put("k", "hello").await;
        assert_eq!(s.read("k").await.unwrap(), b"hello");
        assert_eq!(s.keys("").await, ["k"]);
        for operation in ["PutObject", "GetObject", "ListObjectsV2"] {
            assert_eq!(remote.requests(operation), 3, "{operation} {fault:?}");
        }
    }
}

#[tokio::test]
async fn the_adaptive_mode_tries_again_too() {
    // Not with SlowDown: once throttled, this mode goes on at a request every few seconds.
    let remote = s3(S3Config { retry_mode: RetryMode::Adaptive, ..S3Config::default() }).await;
    remote.fault(Fault::new(FaultKind::InternalError).on("PutObject").times(2));
    remote.subject.put("k", "hello").await;
    assert_eq!(remote.requests("PutObject"), 3);
}

#[tokio::test]
async fn requests_share_one_pool_and_its_bound() {
    let remote = s3(S3Config { max_connections: 4, ..S3Config::default() }).await;
    let s = &remote.subject;
    remote.server.knobs().set_latency(Duration::from_millis(20));
    let work = |i: usize| async move {
        let key = format!("k{i}");
        s.put(&key, pattern(100_000)).await;
        s.read(&key).await.unwrap();
        let id = s.store.create_upload(&path(&key), &Properties::default(), &none()).await.unwrap();
        s.store.abort_upload(&path(&key), &id).await.unwrap();
        let to = path(&format!("copy{i}"));
        let properties = CopyProperties::Keep(None);
        let from = path(&key);
        let copy = CopyRequest { from, from_etag: None, to, condition: Condition::None, properties };
        s.store.copy(copy).await.unwrap();
    };
    futures_util::future::join_all((0..20).map(work)).await;
    let counters = remote.server.counters();
    assert_eq!(counters.in_flight_max, 4);
    // A request that finds no idle connection opens one and takes whichever is ready first, so there may be some
    // more than four; there is not one per request.
    assert!(counters.connections < 60, "{} connections", counters.connections);
    assert_eq!(counters.total(), 6 * 20);
}

#[tokio::test]
async fn what_lasts_is_told_after_three_attempts() {
    let remote = s3(S3Config::default()).await;
    let s = &remote.subject;
    let lasting = [
        (FaultKind::SlowDown, ErrorKind::Throttled, Some("SlowDown")),
        (FaultKind::InternalError, ErrorKind::ServerFault, Some("InternalError")),
        (FaultKind::Reset, ErrorKind::Unreachable, None),
    ];
    for (fault, expected, code) in lasting {
        remote.calm();
        remote.fault(Fault::new(fault));
        let error = s.put_if("k", "x", Condition::None).await.unwrap_err();
        assert_eq!((error.kind, error.code.as_deref(), error.attempts), (expected, code, 3), "{error}");
        assert_eq!(remote.requests("PutObject"), 3);
        assert_eq!(kind(s.store.head(&path("k")).await), expected);
    }
}

#[tokio::test]
async fn what_will_not_pass_is_asked_once() {
    let remote = s3(S3Config::default()).await;
    let s = &remote.subject;
    let lasting = [
        (403, "AccessDenied", ErrorKind::AccessDenied),
        (404, "NoSuchBucket", ErrorKind::NoSuchBucket),
        (400, "InvalidBucketName", ErrorKind::InvalidBucketName),
        (403, "SignatureDoesNotMatch", ErrorKind::Credentials),
        (400, "ExpiredToken", ErrorKind::Credentials),
        (409, "ConditionalRequestConflict", ErrorKind::Conflict),
        (412, "PreconditionFailed", ErrorKind::Precondition),
        (400, "EntityTooLarge", ErrorKind::TooLarge),
        (507, "XMinioStorageFull", ErrorKind::QuotaExceeded),
        (403, "InvalidObjectState", ErrorKind::Archived),
        (501, "NotImplemented", ErrorKind::Unsupported),
        (418, "SomethingNew", ErrorKind::Protocol),
    ];
    for (code, s3_code, expected) in lasting {
        remote.calm();
        remote.fault(Fault::new(status(code, s3_code)));
        let error = s.put_if("k", "x", Condition::None).await.unwrap_err();
        assert_eq!((error.kind, error.code.as_deref()), (expected, Some(s3_code)), "{error}");
        assert_eq!(kind(s.read("k").await), expected);
        let request = ListRequest { bucket: BUCKET.to_owned(), ..ListRequest::default() };
        assert_eq!(kind(s.store.list(request).await), expected);
        for operation in ["PutObject", "GetObject", "ListObjectsV2"] {
            assert_eq!(remote.requests(operation), 1, "{operation} {s3_code}");
        }
    }
    // The real ones.
    remote.calm();
    let missing = ObjectPath::new("no-such-bucket", "k");
    assert_eq!(kind(s.store.get(&missing, GetRequest::default()).await), ErrorKind::NoSuchBucket);
    assert_eq!(remote.requests("GetObject"), 1);
    let invalid = s.store.head_bucket("A_").await;
    assert!(matches!(kind(invalid), ErrorKind::InvalidBucketName | ErrorKind::NoSuchBucket));
}

#[tokio::test]
async fn a_head_refused_for_a_reason_unknown_asks_for_it() {
    let remote = s3(S3Config::default()).await;
    remote.fault(Fault::new(status(403, "")).on("HeadBucket"));
    // May not HEAD, but may list: good enough to mount.
    remote.subject.store.head_bucket(BUCKET).await.unwrap();
    remote.fault(Fault::new(status(403, "AllAccessDisabled")).on("ListObjectsV2"));
    let error = remote.subject.store.head_bucket(BUCKET).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_deref()), (ErrorKind::AccessDenied, Some("AllAccessDisabled")));
}

#[tokio::test]
async fn a_truncated_body_is_an_error_or_resumed() {
    let server = start(ServerConfig::default()).await;
    let config = at(&server, S3Config::default());
    let bare = S3Store::connect(config.clone()).await.unwrap();
    let body = pattern(1 << 20);
    let put = Body(body.clone());
    bare.put(&path("k"), put, &Properties::default(), &none(), Condition::None).await.unwrap();
    server.knobs().add_fault(Fault::new(FaultKind::TruncatedBody).on("GetObject").times(1));
    let got = bare.get(&path("k"), GetRequest::default()).await.unwrap();
    let error = drain(got).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Corrupt | ErrorKind::Unreachable), "{error}");

    let store = pailfs::store::open(&config).await.unwrap();
    for request in
        [GetRequest::default(), GetRequest { range: Some((1_000, 900_000)), ..GetRequest::default() }]
    {
        server.knobs().add_fault(Fault::new(FaultKind::TruncatedBody).on("GetObject").times(2));
        server.reset_counters();
        let got = store.get(&path("k"), request.clone()).await.unwrap();
        let (first, len) = request.range.unwrap_or((0, body.len() as u64));
        assert!(drain(got).await.unwrap() == body[first as usize..(first + len) as usize]);
        assert_eq!(server.counters().operations["GetObject"], 3);
    }
}

#[tokio::test]
async fn a_resumed_body_never_mixes_versions() {
    let remote = s3(S3Config::default()).await;
    let s = &remote.subject;
    s.put("k", vec![1; 1 << 20]).await;
    remote.fault(Fault::new(FaultKind::TruncatedBody).on("GetObject").times(1));
    let got = s.store.get(&path("k"), GetRequest::default()).await.unwrap();
    s.put("k", vec![2; 1 << 20]).await;
    assert_eq!(drain(got).await.unwrap_err().kind, ErrorKind::Precondition);
}

#[tokio::test]
async fn a_corrupt_body_is_noticed_where_a_checksum_exists() {
    use ChecksumAlgorithm::{Crc32, Crc32C, Crc64Nvme, Sha256};
    for algorithm in [Crc64Nvme, Crc32C, Crc32, Sha256] {
        let checksums = Checksums::Always(algorithm);
        let remote = s3(S3Config { checksums, ..S3Config::default() }).await;
        let s = &remote.subject;
        let body = pattern(300_000);
        s.put("k", body.clone()).await;
        assert!(s.read("k").await.unwrap() == body);
        remote.calm();
        remote.fault(Fault::new(FaultKind::CorruptBody).on("GetObject"));
        let read =
            s.read("k").await.map(|body| assert!(body == pattern(300_000), "{algorithm:?}: damage passed"));
        assert_eq!(kind(read), ErrorKind::Corrupt, "{algorithm:?}");
        assert_eq!(remote.requests("GetObject"), 1);
    }
}

#[tokio::test]
async fn silence_ends_by_timeout() {
    let config = S3Config {
        read_timeout: Duration::from_millis(200),
        transfer_timeout: Duration::from_millis(200),
        max_attempts: 2,
        ..S3Config::default()
    };
    let remote = s3(config).await;
    let s = &remote.subject;
    s.put("k", "x").await;
    remote.calm();
    remote.fault(Fault::new(FaultKind::Stall));
    let begun = Instant::now();
    assert_eq!(kind(s.store.head(&path("k")).await), ErrorKind::Timeout);
    assert_eq!(kind(s.read("k").await), ErrorKind::Timeout);
    assert_eq!(kind(s.put_if("k", "y", Condition::None).await), ErrorKind::Timeout);
    assert!(begun.elapsed() >= Duration::from_millis(1_200));
    for operation in ["HeadObject", "GetObject", "PutObject"] {
        assert_eq!(remote.requests(operation), 2, "{operation}");
    }
    remote.calm();
    s.read("k").await.unwrap();
}

#[tokio::test]
async fn a_body_that_takes_too_long_is_given_up() {
    let server = start(ServerConfig::default()).await;
    let config = S3Config { transfer_timeout: Duration::from_millis(300), ..S3Config::default() };
    let store = S3Store::connect(at(&server, config)).await.unwrap();
    let body = Body(pattern(1 << 20));
    store.put(&path("k"), body, &Properties::default(), &none(), Condition::None).await.unwrap();
    server.knobs().set_rate(Some(100_000));
    let got = store.get(&path("k"), GetRequest::default()).await.unwrap();
    assert_eq!(drain(got).await.unwrap_err().kind, ErrorKind::Timeout);
}

#[tokio::test]
async fn retries_end_in_an_outage_and_come_back_after_it() {
    let outage = async |retry_tokens_per_s| {
        let config = S3Config { retry_tokens: 20, retry_tokens_per_s, ..S3Config::default() };
        let remote = s3(config).await;
        remote.fault(Fault::new(FaultKind::InternalError));
        for _ in 0..50 {
            assert_eq!(kind(remote.subject.store.head(&path("k")).await), ErrorKind::ServerFault);
        }
        remote
    };
    // Whether one failure is survived now.
    let survives = async |remote: &crate::subject::Remote| {
        remote.calm();
        remote.fault(Fault::new(FaultKind::InternalError).times(1));
        kind(remote.subject.store.head(&path("k")).await) == ErrorKind::NotFound
    };
    let drained = outage(0.0).await;
    assert!(drained.requests("HeadObject") < 60, "the bucket of retries is bounded");
    assert!(!survives(&drained).await, "nothing fills it but success");
    let filled = outage(20.0).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while !survives(&filled).await {
        assert!(Instant::now() < deadline, "retries never came back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // One bucket's outage is not another's.
    filled.calm();
    filled.fault(Fault::new(FaultKind::InternalError).times(2));
    let other = ObjectPath::new("other-bucket", "k");
    let asked = filled.subject.store.get(&other, GetRequest::default()).await;
    assert_eq!(kind(asked), ErrorKind::NoSuchBucket);
    assert_eq!(filled.requests("GetObject"), 3);
}
