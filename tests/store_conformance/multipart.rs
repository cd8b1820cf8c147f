use bytes::Bytes;
use pailfs::store::error::ErrorKind;
use pailfs::store::types::{Body, Condition, ETag, Part, Properties, UploadId};

use crate::objects::every_property;
use crate::subject::{BUCKET, Subject, kind, map, none, odd_keys, other_etag, path, pattern};

const PART: usize = 5 << 20;

async fn begin(s: &Subject, key: &str) -> UploadId {
    s.store.create_upload(&path(key), &Properties::default(), &none()).await.unwrap()
}

async fn part(s: &Subject, key: &str, id: &UploadId, number: u32, body: Bytes) -> Part {
    let size = body.len() as u64;
    let part = s.store.upload_part(&path(key), id, number, Body(body)).await.unwrap();
    assert_eq!((part.number, part.size), (number, size));
    part
}

pub async fn parts_become_an_object(s: &Subject) {
    let body = pattern(PART + 1_000);
    let id = begin(s, "k").await;
    // Numbers need not be dense, and parts may arrive in any order.
    let last = part(s, "k", &id, 7, body.slice(PART..)).await;
    let first = part(s, "k", &id, 2, body.slice(..PART)).await;
    assert_eq!(kind(s.store.head(&path("k")).await), ErrorKind::NotFound);
    let listed = s.store.list_parts(&path("k"), &id).await.unwrap();
    let seen: Vec<_> = listed.iter().map(|part| (part.number, part.size, part.etag.clone())).collect();
    assert_eq!(seen, [(2, PART as u64, first.etag.clone()), (7, 1_000, last.etag.clone())]);
    let parts = [first, last];
    let written = s.store.complete_upload(&path("k"), &id, &parts, Condition::None).await.unwrap();
    assert!(written.etag.unquoted().ends_with("-2"));
    let info = s.store.head(&path("k")).await.unwrap();
    assert_eq!((info.version.etag, info.version.size), (written.etag, body.len() as u64));
    assert!(s.read("k").await.unwrap() == body);
    assert!(s.read_range("k", PART as u64 - 10, 20).await.unwrap() == body[PART - 10..PART + 10]);
    assert!(s.store.list_uploads(BUCKET, "").await.unwrap().is_empty());
}

pub async fn a_part_is_replaced_by_its_number(s: &Subject) {
    let id = begin(s, "k").await;
    let old = part(s, "k", &id, 1, Bytes::from_static(b"old")).await;
    let new = part(s, "k", &id, 1, Bytes::from_static(b"newer")).await;
    assert_ne!(old.etag, new.etag);
    assert_eq!(s.store.list_parts(&path("k"), &id).await.unwrap().len(), 1);
    let wrong = s.store.complete_upload(&path("k"), &id, &[old], Condition::None).await;
    assert_eq!(kind(wrong), ErrorKind::InvalidRequest);
    s.store.complete_upload(&path("k"), &id, &[new], Condition::None).await.unwrap();
    assert_eq!(s.read("k").await.unwrap(), b"newer");
}

pub async fn completions_obey_their_condition(s: &Subject) {
    let etag = s.put("k", "old").await.etag;
    let id = begin(s, "k").await;
    let parts = [part(s, "k", &id, 1, Bytes::from_static(b"new")).await];
    let complete = async |condition| s.store.complete_upload(&path("k"), &id, &parts, condition).await;
    assert_eq!(kind(complete(Condition::Absent).await), ErrorKind::Precondition);
    assert_eq!(kind(complete(Condition::Match(other_etag())).await), ErrorKind::Precondition);
    assert_eq!(s.read("k").await.unwrap(), b"old");
    // The refusal does not use the upload up.
    complete(Condition::Match(etag)).await.unwrap();
    assert_eq!(s.read("k").await.unwrap(), b"new");
    let id = begin(s, "absent").await;
    let parts = [part(s, "absent", &id, 1, Bytes::from_static(b"new")).await];
    let complete = async |condition| s.store.complete_upload(&path("absent"), &id, &parts, condition).await;
    assert_eq!(kind(complete(Condition::Match(other_etag())).await), ErrorKind::NotFound);
    complete(Condition::Absent).await.unwrap();
}

pub async fn an_unknown_upload_is_gone(s: &Subject) {
    let id = begin(s, "k").await;
    let known = part(s, "k", &id, 1, Bytes::from_static(b"x")).await;
    s.store.abort_upload(&path("k"), &id).await.unwrap();
    s.store.abort_upload(&path("k"), &id).await.unwrap();
    let body = Body(Bytes::from_static(b"x"));
    assert_eq!(kind(s.store.upload_part(&path("k"), &id, 1, body).await), ErrorKind::UploadGone);
    let completed = s.store.complete_upload(&path("k"), &id, &[known], Condition::None).await;
    assert_eq!(kind(completed), ErrorKind::UploadGone);
    assert_eq!(kind(s.store.list_parts(&path("k"), &id).await), ErrorKind::UploadGone);
    let etag = s.put("from", "x").await.etag;
    let copied = s.store.copy_part(&path("k"), &id, 1, &path("from"), &etag, (0, 1)).await;
    assert_eq!(kind(copied), ErrorKind::UploadGone);
}

pub async fn uploads_are_listed_until_aborted(s: &Subject) {
    let mut begun = Vec::new();
    for key in odd_keys() {
        begun.push((key.clone(), begin(s, &key).await));
    }
    let mut keys: Vec<String> = s
        .store
        .list_uploads(BUCKET, "")
        .await
        .unwrap()
        .into_iter()
        .map(|upload| upload.path.key.to_string())
        .collect();
    keys.sort();
    let mut expected = odd_keys();
    expected.sort();
    assert_eq!(keys, expected);
    let below = s.store.list_uploads(BUCKET, "a//").await.unwrap();
    assert_eq!(below.len(), odd_keys().iter().filter(|key| key.starts_with("a//")).count());
    for (key, id) in &begun {
        s.store.abort_upload(&path(key), id).await.unwrap();
    }
    assert!(s.store.list_uploads(BUCKET, "").await.unwrap().is_empty());
}

pub async fn ranges_of_objects_become_parts(s: &Subject) {
    let body = pattern(PART + 100);
    let etag = s.put("a//from +%", body.clone()).await.etag;
    let from = path("a//from +%");
    let id = begin(s, "k").await;
    let copy = async |number, etag: &ETag, range| {
        s.store.copy_part(&path("k"), &id, number, &from, etag, range).await
    };
    let first = copy(1, &etag, (50, PART as u64)).await.unwrap();
    assert_eq!(first.size, PART as u64);
    assert_eq!(kind(copy(2, &other_etag(), (0, 10)).await), ErrorKind::Precondition);
    let past_the_end = kind(copy(2, &etag, (0, PART as u64 + 101)).await);
    assert!(matches!(past_the_end, ErrorKind::InvalidRequest | ErrorKind::InvalidRange), "{past_the_end:?}");
    assert_eq!(kind(copy(2, &etag, (0, 0)).await), ErrorKind::InvalidRequest);
    let missing = s.store.copy_part(&path("k"), &id, 2, &path("missing"), &etag, (0, 1)).await;
    assert_eq!(kind(missing), ErrorKind::NotFound);
    let last = part(s, "k", &id, 2, Bytes::from_static(b"tail")).await;
    s.store.complete_upload(&path("k"), &id, &[first, last], Condition::None).await.unwrap();
    assert!(s.read("k").await.unwrap() == [&body[50..PART + 50], b"tail"].concat());
}

pub async fn wrong_parts_are_refused(s: &Subject) {
    let id = begin(s, "k").await;
    let first = part(s, "k", &id, 1, Bytes::from_static(b"small")).await;
    let second = part(s, "k", &id, 2, Bytes::from_static(b"small too")).await;
    let complete = async |parts: &[Part]| {
        s.store.complete_upload(&path("k"), &id, parts, Condition::None).await.map(drop)
    };
    let refused = [
        vec![],
        vec![second.clone(), first.clone()],
        vec![first.clone(), second.clone()],
        vec![Part { etag: other_etag(), ..first.clone() }],
        vec![Part { number: 3, ..first.clone() }],
    ];
    for parts in refused {
        assert_eq!(kind(complete(&parts).await), ErrorKind::InvalidRequest, "{parts:?}");
    }
    for number in [0, 10_001] {
        let body = Body(Bytes::from_static(b"x"));
        let refused = s.store.upload_part(&path("k"), &id, number, body).await;
        assert_eq!(kind(refused), ErrorKind::InvalidRequest);
    }
    part(s, "k", &id, 10_000, Bytes::from_static(b"x")).await;
    complete(&[first]).await.unwrap();
    assert_eq!(s.read("k").await.unwrap(), b"small");
}

pub async fn properties_and_tags_come_from_the_beginning(s: &Subject) {
    let tags = map(&[("a", "b c")]);
    let id = s.store.create_upload(&path("k"), &every_property(), &tags).await.unwrap();
    let parts = [part(s, "k", &id, 1, Bytes::from_static(b"x")).await];
    s.store.complete_upload(&path("k"), &id, &parts, Condition::Absent).await.unwrap();
    let info = s.store.head(&path("k")).await.unwrap();
    assert_eq!(Properties { encryption: None, ..info.properties }, every_property());
    assert_eq!(s.store.tags(&path("k")).await.unwrap(), tags);
}
