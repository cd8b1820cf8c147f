use std::time::{Duration, SystemTime};

use bytes::Bytes;
use pailfs::store::error::ErrorKind;
use pailfs::store::types::{Body, Condition, DeleteEntry, ListRequest, Properties};

use crate::subject::{BUCKET, Subject, kind, map, none, odd_keys, other_etag, path};

pub async fn a_put_is_what_head_and_get_tell(s: &Subject) {
    let before = SystemTime::now() - Duration::from_secs(2);
    let written = s.put("dir/file", "hello").await;
    assert_eq!(written.etag.0.as_ref(), "\"5d41402abc4b2a76b9719d911017c592\"");
    let info = s.store.head(&path("dir/file")).await.unwrap();
    assert_eq!(info.version.etag, written.etag);
    assert_eq!(info.version.size, 5);
    assert_eq!(info.tag_count, 0);
    assert!(!info.archived);
    assert!(info.version.last_modified >= before);
    let since = info.version.last_modified.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(since.subsec_nanos(), 0);
    let got = s.store.get(&path("dir/file"), Default::default()).await.unwrap();
    assert_eq!(got.info.version, info.version);
    assert_eq!((got.offset, got.len), (0, 5));
    assert_eq!(s.read("dir/file").await.unwrap(), b"hello");
    let again = s.put("dir/file", "other").await;
    assert_ne!(again.etag, written.etag);
    assert_eq!(s.read("dir/file").await.unwrap(), b"other");
    assert_eq!(kind(s.store.head(&path("dir")).await), ErrorKind::NotFound);
    assert_eq!(kind(s.store.head(&path("dir/")).await), ErrorKind::NotFound);
}

pub async fn puts_obey_their_condition(s: &Subject) {
    let first = s.put_if("k", "1", Condition::Absent).await.unwrap();
    assert_eq!(kind(s.put_if("k", "2", Condition::Absent).await), ErrorKind::Precondition);
    assert_eq!(kind(s.put_if("k", "2", Condition::Match(other_etag())).await), ErrorKind::Precondition);
    assert_eq!(s.read("k").await.unwrap(), b"1");
    let second = s.put_if("k", "2", Condition::Match(first.etag.clone())).await.unwrap();
    assert_eq!(kind(s.put_if("k", "3", Condition::Match(first.etag)).await), ErrorKind::Precondition);
    assert_eq!(s.read("k").await.unwrap(), b"2");
    s.store.delete(&path("k"), Condition::None).await.unwrap();
    assert_eq!(kind(s.put_if("k", "3", Condition::Match(second.etag)).await), ErrorKind::NotFound);
    s.put_if("k", "3", Condition::Absent).await.unwrap();
}

pub async fn deletes_obey_their_condition(s: &Subject) {
    s.store.delete(&path("missing"), Condition::None).await.unwrap();
    let missing = s.store.delete(&path("missing"), Condition::Match(other_etag())).await;
    assert_eq!(kind(missing), ErrorKind::NotFound);
    let written = s.put("k", "1").await;
    let wrong = s.store.delete(&path("k"), Condition::Match(other_etag())).await;
    assert_eq!(kind(wrong), ErrorKind::Precondition);
    let absent = s.store.delete(&path("k"), Condition::Absent).await;
    assert_eq!(kind(absent), ErrorKind::InvalidRequest);
    assert_eq!(s.read("k").await.unwrap(), b"1");
    s.store.delete(&path("k"), Condition::Match(written.etag)).await.unwrap();
    assert_eq!(kind(s.read("k").await), ErrorKind::NotFound);
    s.put("k", "1").await;
    s.store.delete(&path("k"), Condition::None).await.unwrap();
    assert_eq!(kind(s.store.head(&path("k")).await), ErrorKind::NotFound);
}

pub async fn batches_delete_what_they_can(s: &Subject) {
    let mut keys = odd_keys();
    for key in &keys {
        s.put(key, "x").await;
    }
    s.put("stays", "x").await;
    keys.push("missing".to_owned());
    let entries = keys.into_iter().map(|key| DeleteEntry { key, etag: None }).collect();
    let failures = s.store.delete_batch(BUCKET, entries).await.unwrap();
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(s.keys("").await, ["stays"]);
    assert!(s.store.delete_batch(BUCKET, Vec::new()).await.unwrap().is_empty());
    let many = (0..1_001).map(|i| DeleteEntry { key: format!("{i}"), etag: None }).collect();
    assert_eq!(kind(s.store.delete_batch(BUCKET, many).await), ErrorKind::InvalidRequest);
}

/// Every property that S3 keeps.
pub fn every_property() -> Properties {
    Properties {
        content_type: Some("text/x-test; charset=utf-8".to_owned()),
        cache_control: Some("max-age=60".to_owned()),
        content_disposition: Some("attachment; filename=\"a.txt\"".to_owned()),
        content_encoding: Some("gzip".to_owned()),
        content_language: Some("de, en".to_owned()),
        expires: Some("Wed, 21 Oct 2099 07:28:00 GMT".to_owned()),
        website_redirect: None,
        metadata: map(&[("mode", "33188"), ("mtime", "1700000000.123456789"), ("x-odd.name_1", "a b=c;d")]),
        storage_class: Some("STANDARD_IA".to_owned()),
        encryption: None,
    }
}

pub async fn properties_and_tags_survive(s: &Subject) {
    let properties = every_property();
    let tags = map(&[("colour", "dark blue"), ("a+b", "1&2=3"), ("empty", "")]);
    let body = Body(Bytes::from_static(b"body"));
    s.store.put(&path("k"), body, &properties, &tags, Condition::None).await.unwrap();
    let info = s.store.head(&path("k")).await.unwrap();
    let kept = |found: &Properties| Properties { encryption: None, ..found.clone() };
    assert_eq!(kept(&info.properties), properties);
    assert_eq!(info.tag_count, 3);
    let got = s.store.get(&path("k"), Default::default()).await.unwrap();
    assert_eq!(kept(&got.info.properties), properties);
    assert_eq!(s.store.tags(&path("k")).await.unwrap(), tags);
    let listed = s.list("", false).await;
    assert_eq!(listed.objects[0].storage_class.as_deref(), Some("STANDARD_IA"));
    // A put replaces all of it.
    s.put("k", "body").await;
    let info = s.store.head(&path("k")).await.unwrap();
    assert!(info.properties.metadata.is_empty());
    assert_eq!(info.properties.storage_class, None);
    assert_eq!(info.tag_count, 0);
}

pub async fn tags_are_replaced(s: &Subject) {
    let written = s.put("k", "x").await;
    assert!(s.store.tags(&path("k")).await.unwrap().is_empty());
    let tags = map(&[("a", "1"), ("b", "<&>")]);
    s.store.set_tags(&path("k"), &tags).await.unwrap();
    assert_eq!(s.store.tags(&path("k")).await.unwrap(), tags);
    let info = s.store.head(&path("k")).await.unwrap();
    assert_eq!(info.tag_count, 2);
    assert_eq!(info.version.etag, written.etag);
    s.store.set_tags(&path("k"), &none()).await.unwrap();
    assert!(s.store.tags(&path("k")).await.unwrap().is_empty());
    assert_eq!(kind(s.store.tags(&path("missing")).await), ErrorKind::NotFound);
    assert_eq!(kind(s.store.set_tags(&path("missing"), &tags).await), ErrorKind::NotFound);
}

pub async fn limits_are_refused(s: &Subject) {
    let long = "k".repeat(1_025);
    assert_eq!(kind(s.put_if(&long, "x", Condition::None).await), ErrorKind::InvalidRequest);
    assert_eq!(kind(s.read(&long).await), ErrorKind::InvalidRequest);
    assert_eq!(kind(s.store.head(&path("")).await), ErrorKind::InvalidRequest);
    let with = |name: &str, value: String| Properties {
        metadata: [(name.to_owned(), value)].into(),
        ..Properties::default()
    };
    let put = async |properties: Properties| {
        s.store.put(&path("k"), Body::default(), &properties, &none(), Condition::None).await
    };
    put(with("name", "v".repeat(2_044))).await.unwrap();
    assert_eq!(kind(put(with("name", "v".repeat(2_045))).await), ErrorKind::InvalidRequest);
    assert_eq!(kind(put(with("name", "caf\u{e9}".to_owned())).await), ErrorKind::InvalidRequest);
    assert_eq!(kind(put(with("name", "a\nb".to_owned())).await), ErrorKind::InvalidRequest);
    assert_eq!(kind(put(with("Name", "x".to_owned())).await), ErrorKind::InvalidRequest);
    let tags = (0..11).map(|i| (format!("t{i}"), String::new())).collect();
    assert_eq!(kind(s.store.set_tags(&path("k"), &tags).await), ErrorKind::InvalidRequest);
}

pub async fn odd_keys_are_keys(s: &Subject) {
    for key in odd_keys() {
        s.put(&key, key.clone()).await;
    }
    for key in odd_keys() {
        assert_eq!(s.read(&key).await.unwrap(), key.as_bytes(), "{key:?}");
        let info = s.store.head(&path(&key)).await.unwrap();
        assert_eq!(info.version.size, key.len() as u64);
        s.store.set_tags(&path(&key), &map(&[("a", "b")])).await.unwrap();
    }
    for key in odd_keys() {
        s.store
            .delete(&path(&key), Condition::Match(s.store.head(&path(&key)).await.unwrap().version.etag))
            .await
            .unwrap();
    }
    assert!(s.keys("").await.is_empty());
}

pub async fn a_missing_bucket_is_told(s: &Subject) {
    s.store.head_bucket(BUCKET).await.unwrap();
    let missing = pailfs::store::types::ObjectPath::new("no-such-bucket", "k");
    assert_eq!(kind(s.store.head_bucket("no-such-bucket").await), ErrorKind::NoSuchBucket);
    let request = ListRequest { bucket: "no-such-bucket".to_owned(), ..ListRequest::default() };
    assert_eq!(kind(s.store.list(request).await), ErrorKind::NoSuchBucket);
    assert_eq!(kind(s.store.get(&missing, Default::default()).await), ErrorKind::NoSuchBucket);
    let put = s.store.put(&missing, Body::default(), &Properties::default(), &none(), Condition::None).await;
    assert_eq!(kind(put), ErrorKind::NoSuchBucket);
    assert_eq!(kind(s.store.delete(&missing, Condition::None).await), ErrorKind::NoSuchBucket);
}

pub async fn buckets_are_listed(s: &Subject) {
    let buckets = s.store.list_buckets().await.unwrap();
    assert_eq!(buckets.iter().map(|bucket| bucket.name.as_str()).collect::<Vec<_>>(), [BUCKET]);
}
