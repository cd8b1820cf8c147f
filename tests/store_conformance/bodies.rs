use futures_util::StreamExt;
use pailfs::store::error::ErrorKind;
use pailfs::store::object_store::GetRequest;

use crate::subject::{Subject, drain, kind, other_etag, path, pattern};

pub async fn ranges_are_cut_at_the_end(s: &Subject) {
    s.put("k", "0123456789").await;
    assert_eq!(s.read_range("k", 0, 1).await.unwrap(), b"0");
    assert_eq!(s.read_range("k", 3, 4).await.unwrap(), b"3456");
    assert_eq!(s.read_range("k", 9, 1).await.unwrap(), b"9");
    assert_eq!(s.read_range("k", 8, 100).await.unwrap(), b"89");
    assert_eq!(s.read_range("k", 0, u64::MAX).await.unwrap(), b"0123456789");
    assert_eq!(kind(s.read_range("k", 10, 1).await), ErrorKind::InvalidRange);
    assert_eq!(kind(s.read_range("k", u64::MAX / 2, 1).await), ErrorKind::InvalidRange);
    assert_eq!(kind(s.read_range("k", 0, 0).await), ErrorKind::InvalidRequest);
    let request = GetRequest { range: Some((2, 3)), ..GetRequest::default() };
    let got = s.store.get(&path("k"), request).await.unwrap();
    assert_eq!((got.offset, got.len, got.info.version.size), (2, 3, 10));
}

pub async fn gets_obey_their_condition(s: &Subject) {
    let etag = s.put("k", "0123456789").await.etag;
    let get = async |request| s.store.get(&path("k"), request).await;
    let pinned = |etag| GetRequest { range: Some((1, 2)), if_match: Some(etag), ..GetRequest::default() };
    assert_eq!(drain(get(pinned(etag.clone())).await.unwrap()).await.unwrap(), b"12");
    assert_eq!(kind(get(pinned(other_etag())).await), ErrorKind::Precondition);
    let changed = |etag| GetRequest { if_none_match: Some(etag), ..GetRequest::default() };
    assert_eq!(kind(get(changed(etag.clone())).await), ErrorKind::NotModified);
    assert_eq!(drain(get(changed(other_etag())).await.unwrap()).await.unwrap(), b"0123456789");
    assert_eq!(kind(s.store.get(&path("missing"), pinned(etag.clone())).await), ErrorKind::NotFound);
    assert_eq!(kind(s.store.get(&path("missing"), changed(etag)).await), ErrorKind::NotFound);
}

pub async fn large_bodies_arrive_whole(s: &Subject) {
    let body = pattern((3 << 20) + 17);
    s.put("k", body.clone()).await;
    assert!(s.read("k").await.unwrap() == body);
    let (first, len) = (1_000_003, 1_500_001);
    assert!(s.read_range("k", first, len).await.unwrap() == body[first as usize..(first + len) as usize]);
    // A body that nobody reads to its end leaves the store usable.
    for _ in 0..5 {
        let mut got = s.store.get(&path("k"), GetRequest::default()).await.unwrap();
        got.body.next().await.unwrap().unwrap();
    }
    assert!(s.read("k").await.unwrap() == body);
}

pub async fn empty_objects_have_no_range(s: &Subject) {
    s.put("k", "").await;
    assert_eq!(s.read("k").await.unwrap(), b"");
    assert_eq!(s.store.head(&path("k")).await.unwrap().version.size, 0);
    assert_eq!(kind(s.read_range("k", 0, 10).await), ErrorKind::InvalidRange);
}
