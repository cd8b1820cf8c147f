//! What calls cost in requests, and that lists come whole however small the store's pages: only over HTTP.

use pailfs::store::s3::S3Config;
use pailfs::store::types::{
    Condition, CopyProperties, CopyRequest, DeleteEntry, PRESIGN_EXPIRES_DEFAULT, Placement, PresignMethod,
    Properties,
};
use pailfs_s3_server::ServerConfig;

use crate::subject::{BUCKET, none, path, s3, s3_over};

#[tokio::test]
async fn a_call_is_a_request() {
    let remote = s3(S3Config::default()).await;
    let s = &remote.subject;
    let etag = s.put("k", "x").await.etag;
    s.read("k").await.unwrap();
    s.store.head(&path("k")).await.unwrap();
    s.list("", false).await;
    s.store.list_buckets().await.unwrap();
    s.store.head_bucket(BUCKET).await.unwrap();
    s.store.presign(&path("k"), PresignMethod::Get, PRESIGN_EXPIRES_DEFAULT).await.unwrap();
    assert_eq!(remote.server.counters().total(), 6);
    let copy = |properties| CopyRequest {
        from: path("k"),
        from_etag: Some(etag.clone()),
        to: path("to"),
        condition: Condition::None,
        properties,
    };
    for (properties, requests) in [
        (CopyProperties::Keep(Some(Placement::default())), 1),
        (CopyProperties::Replace(Box::default()), 1),
        (CopyProperties::Keep(None), 2),
    ] {
        remote.calm();
        s.store.copy(copy(properties)).await.unwrap();
        assert_eq!(remote.server.counters().total(), requests);
    }
    remote.calm();
    let entry = |key: &str| DeleteEntry { key: key.to_owned(), etag: None };
    s.store.delete_batch(BUCKET, vec![entry("k"), entry("to"), entry("missing")]).await.unwrap();
    assert_eq!(remote.server.counters().total(), 1);
    // XML cannot name a key with control characters, so it is deleted on its own.
    remote.calm();
    s.store.delete_batch(BUCKET, vec![entry("a"), entry("b\u{1}")]).await.unwrap();
    assert_eq!((remote.requests("DeleteObjects"), remote.requests("DeleteObject")), (1, 1));
}

#[tokio::test]
async fn lists_come_whole_from_small_pages() {
    let server = || ServerConfig { page_size: 3, part_size_min_bytes: 0, ..ServerConfig::default() };
    crate::listings::odd_keys_are_listed(&s3_over(server(), S3Config::default()).await.subject).await;
    crate::listings::prefixes_are_grouped(&s3_over(server(), S3Config::default()).await.subject).await;
    let remote = s3_over(server(), S3Config::default()).await;
    let s = &remote.subject;
    crate::multipart::uploads_are_listed_until_aborted(s).await;
    // Several uploads of one key, and several pages of parts.
    for _ in 0..4 {
        s.store.create_upload(&path("k"), &Properties::default(), &none()).await.unwrap();
    }
    let uploads = s.store.list_uploads(BUCKET, "").await.unwrap();
    assert_eq!(uploads.len(), 4);
    for number in 1..=8 {
        let body = crate::subject::body(vec![0; number as usize]);
        s.store.upload_part(&path("k"), &uploads[0].id, number, body).await.unwrap();
    }
    let parts = s.store.list_parts(&path("k"), &uploads[0].id).await.unwrap();
    assert_eq!(parts.iter().map(|part| part.size).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 8]);
}
