//! Writes that were done while their answer was lost: the SDK sends them again, and the second refusal is of our
//! own work. Only over HTTP.

use bytes::Bytes;
use pailfs::store::error::ErrorKind;
use pailfs::store::s3::S3Config;
use pailfs::store::types::{Body, Condition, CopyProperties, CopyRequest, Placement, Properties};
use pailfs_s3_server::{Fault, FaultKind};

use crate::subject::{Remote, kind, map, none, path, s3};

fn lose(remote: &Remote, operation: &str) {
    remote.calm();
    remote.fault(Fault::new(FaultKind::DoneButError).on(operation).times(1));
}

#[tokio::test]
async fn a_put_finds_its_own_object() {
    let remote = s3(S3Config::default()).await;
    let s = &remote.subject;
    lose(&remote, "PutObject");
    let written = s.put_if("k", "mine", Condition::Absent).await.unwrap();
    assert_eq!(remote.requests("PutObject"), 2);
    assert_eq!(remote.requests("HeadObject"), 1);
    let info = s.store.head(&path("k")).await.unwrap();
    assert_eq!(written.etag, info.version.etag);
    lose(&remote, "PutObject");
    let written = s.put_if("k", "mine again", Condition::Match(written.etag)).await.unwrap();
    assert_eq!(s.read("k").await.unwrap(), b"mine again");
    // Another's object is not taken for ours.
    for properties in
        [Properties::default(), Properties { metadata: map(&[("a", "b")]), ..Properties::default() }]
    {
        remote.calm();
        remote.fault(Fault::new(FaultKind::InternalError).on("PutObject").times(1));
        let body =
            Body(Bytes::from_static(if properties.metadata.is_empty() { b"theirs" } else { b"mine again" }));
        let put = s.store.put(&path("k"), body, &properties, &none(), Condition::Absent).await;
        let error = put.unwrap_err();
        assert_eq!((error.kind, error.attempts), (ErrorKind::Precondition, 2));
    }
    assert_eq!(s.store.head(&path("k")).await.unwrap().version.etag, written.etag);
    // A refusal of the first attempt is what it is, and costs nothing more.
    remote.calm();
    assert_eq!(kind(s.put_if("k", "mine again", Condition::Absent).await), ErrorKind::Precondition);
    assert_eq!(remote.requests("HeadObject"), 0);
}

#[tokio::test]
async fn a_completion_finds_its_own_object() {
    let remote = s3(S3Config::default()).await;
    let s = &remote.subject;
    for condition in [Condition::None, Condition::Absent] {
        let key = format!("{condition:?}");
        let id = s.store.create_upload(&path(&key), &Properties::default(), &none()).await.unwrap();
        let body = Body(Bytes::from_static(b"part"));
        let parts = [s.store.upload_part(&path(&key), &id, 1, body).await.unwrap()];
        lose(&remote, "CompleteMultipartUpload");
        let written = s.store.complete_upload(&path(&key), &id, &parts, condition).await.unwrap();
        assert_eq!(written.etag, s.store.head(&path(&key)).await.unwrap().version.etag);
        assert_eq!(remote.requests("CompleteMultipartUpload"), 2);
        let again = s.store.complete_upload(&path(&key), &id, &parts, Condition::None).await;
        assert_eq!(kind(again), ErrorKind::UploadGone);
    }
}

#[tokio::test]
async fn a_delete_finds_its_object_gone() {
    let remote = s3(S3Config::default()).await;
    let s = &remote.subject;
    let etag = s.put("k", "x").await.etag;
    lose(&remote, "DeleteObject");
    s.store.delete(&path("k"), Condition::Match(etag.clone())).await.unwrap();
    assert_eq!(remote.requests("DeleteObject"), 2);
    let again = s.store.delete(&path("k"), Condition::Match(etag)).await;
    assert_eq!(kind(again), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_copy_finds_its_own_object() {
    let remote = s3(S3Config::default()).await;
    let s = &remote.subject;
    let etag = s.put("from", "x").await.etag;
    lose(&remote, "CopyObject");
    let request = CopyRequest {
        from: path("from"),
        from_etag: Some(etag.clone()),
        to: path("to"),
        condition: Condition::Absent,
        properties: CopyProperties::Keep(Some(Placement::default())),
    };
    let written = s.store.copy(request.clone()).await.unwrap();
    assert_eq!(written.etag, etag);
    assert_eq!(remote.requests("CopyObject"), 2);
    assert_eq!(kind(s.store.copy(request).await), ErrorKind::Precondition);
}
