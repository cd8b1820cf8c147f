use bytes::Bytes;
use pailfs::store::error::ErrorKind;
use pailfs::store::types::{
    Body, Condition, CopyProperties, CopyRequest, Encryption, ObjectPath, Placement, Properties,
};

use crate::objects::every_property;
use crate::subject::{BUCKET, Subject, kind, map, none, odd_keys, other_etag, path};

fn copy(from: &str, to: &str) -> CopyRequest {
    CopyRequest {
        from: path(from),
        from_etag: None,
        to: path(to),
        condition: Condition::None,
        properties: CopyProperties::Keep(None),
    }
}

fn unencrypted(properties: Properties) -> Properties {
    Properties { encryption: None, ..properties }
}

pub async fn a_kept_copy_has_everything(s: &Subject) {
    let tags = map(&[("a", "1")]);
    let body = Body(Bytes::from_static(b"body"));
    let put = s.store.put(&path("from"), body, &every_property(), &tags, Condition::None).await.unwrap();
    let written = s.store.copy(copy("from", "to")).await.unwrap();
    assert_eq!(written.etag, put.etag);
    let info = s.store.head(&path("to")).await.unwrap();
    assert_eq!(unencrypted(info.properties), every_property());
    assert_eq!(written.last_modified, Some(info.version.last_modified));
    assert_eq!(s.store.tags(&path("to")).await.unwrap(), tags);
    assert_eq!(s.read("to").await.unwrap(), b"body");
    // With what the caller knows of the source.
    let placement = Placement { storage_class: Some("ONEZONE_IA".to_owned()), encryption: None };
    let properties = CopyProperties::Keep(Some(placement));
    s.store.copy(CopyRequest { properties, ..copy("from", "other") }).await.unwrap();
    let info = s.store.head(&path("other")).await.unwrap();
    assert_eq!(info.properties.storage_class.as_deref(), Some("ONEZONE_IA"));
    assert_eq!(info.properties.metadata, every_property().metadata);
}

pub async fn a_replaced_copy_keeps_its_tags(s: &Subject) {
    let tags = map(&[("a", "1"), ("b", "2")]);
    let body = Body(Bytes::from_static(b"body"));
    s.store.put(&path("from"), body, &every_property(), &tags, Condition::None).await.unwrap();
    let mut properties = every_property();
    properties.metadata = map(&[("mode", "33261")]);
    properties.content_type = Some("text/plain".to_owned());
    properties.cache_control = None;
    let replace = CopyProperties::Replace(Box::new(properties.clone()));
    s.store.copy(CopyRequest { properties: replace, ..copy("from", "to") }).await.unwrap();
    let info = s.store.head(&path("to")).await.unwrap();
    assert_eq!(unencrypted(info.properties), properties);
    assert_eq!(info.tag_count, 2);
    assert_eq!(s.store.tags(&path("to")).await.unwrap(), tags);
}

pub async fn copies_obey_their_conditions(s: &Subject) {
    let from = s.put("from", "1").await.etag;
    let to = s.put("to", "2").await.etag;
    let with = |from_etag, condition| CopyRequest { from_etag, condition, ..copy("from", "to") };
    let run = async |request| s.store.copy(request).await;
    assert_eq!(kind(run(with(Some(other_etag()), Condition::None)).await), ErrorKind::Precondition);
    assert_eq!(kind(run(with(None, Condition::Absent)).await), ErrorKind::Precondition);
    assert_eq!(kind(run(with(None, Condition::Match(other_etag()))).await), ErrorKind::Precondition);
    assert_eq!(s.read("to").await.unwrap(), b"2");
    run(with(Some(from.clone()), Condition::Match(to))).await.unwrap();
    assert_eq!(s.read("to").await.unwrap(), b"1");
    run(CopyRequest { condition: Condition::Absent, ..copy("from", "new") }).await.unwrap();
    assert_eq!(kind(run(copy("missing", "to")).await), ErrorKind::NotFound);
    let match_missing = CopyRequest { condition: Condition::Match(from), ..copy("from", "missing") };
    assert_eq!(kind(run(match_missing).await), ErrorKind::NotFound);
    let elsewhere = CopyRequest { to: ObjectPath::new("no-such-bucket", "k"), ..copy("from", "to") };
    assert_eq!(kind(run(elsewhere).await), ErrorKind::NoSuchBucket);
}

pub async fn an_object_is_copied_onto_itself(s: &Subject) {
    let etag = s.put("k", "body").await.etag;
    let properties = Properties {
        metadata: map(&[("mode", "33188")]),
        ..s.store.head(&path("k")).await.unwrap().properties
    };
    let request = CopyRequest {
        from_etag: Some(etag.clone()),
        condition: Condition::Match(etag.clone()),
        properties: CopyProperties::Replace(Box::new(properties)),
        ..copy("k", "k")
    };
    let written = s.store.copy(request).await.unwrap();
    assert_eq!(written.etag, etag);
    assert_eq!(s.store.head(&path("k")).await.unwrap().properties.metadata, map(&[("mode", "33188")]));
    assert_eq!(s.read("k").await.unwrap(), b"body");
}

pub async fn odd_keys_are_copied(s: &Subject) {
    for key in odd_keys() {
        s.put(&key, key.clone()).await;
        let to = ObjectPath::new(BUCKET, "copy");
        let properties = CopyProperties::Keep(Some(Placement::default()));
        s.store.copy(CopyRequest { to, properties, ..copy(&key, "") }).await.unwrap();
        assert_eq!(s.read("copy").await.unwrap(), key.as_bytes(), "{key:?}");
        let properties = CopyProperties::Keep(Some(Placement::default()));
        s.store.delete(&path(&key), Condition::None).await.unwrap();
        s.store.copy(CopyRequest { properties, ..copy("copy", &key) }).await.unwrap();
        assert_eq!(s.read(&key).await.unwrap(), key.as_bytes(), "{key:?}");
    }
}

pub async fn class_and_encryption_survive_a_copy(s: &Subject) {
    let kms = |dual: bool| Encryption::Kms { key_id: Some("key-1".to_owned()), bucket_key: !dual, dual };
    for encryption in [Encryption::S3, kms(false), kms(true)] {
        let properties = Properties {
            storage_class: Some("STANDARD_IA".to_owned()),
            encryption: Some(encryption),
            ..Properties::default()
        };
        let body = Body(Bytes::from_static(b"body"));
        s.store.put(&path("from"), body, &properties, &none(), Condition::None).await.unwrap();
        let found = s.store.head(&path("from")).await.unwrap().properties;
        assert_eq!(found.placement(), properties.placement());
        for kept in [None, Some(found.placement())] {
            let request = CopyRequest { properties: CopyProperties::Keep(kept), ..copy("from", "to") };
            s.store.copy(request).await.unwrap();
            let copied = s.store.head(&path("to")).await.unwrap().properties;
            assert_eq!(copied.placement(), properties.placement());
        }
        let changed = Properties { metadata: map(&[("a", "b")]), ..found };
        let replace = CopyProperties::Replace(Box::new(changed.clone()));
        s.store.copy(CopyRequest { properties: replace, ..copy("from", "to") }).await.unwrap();
        assert_eq!(s.store.head(&path("to")).await.unwrap().properties, changed);
    }
}

/// In memory only: the embedded server has storage classes by name alone.
#[tokio::test]
async fn an_archived_object_cannot_be_read() {
    let s = crate::subject::memory();
    let properties = Properties { storage_class: Some("GLACIER".to_owned()), ..Properties::default() };
    let body = Body(Bytes::from_static(b"body"));
    let etag = s.store.put(&path("k"), body, &properties, &none(), Condition::None).await.unwrap().etag;
    assert!(s.store.head(&path("k")).await.unwrap().archived);
    assert_eq!(s.list("", false).await.objects[0].storage_class.as_deref(), Some("GLACIER"));
    assert_eq!(kind(s.read("k").await), ErrorKind::Archived);
    let placement = Some(Placement::default());
    let request = CopyRequest { properties: CopyProperties::Keep(placement), ..copy("k", "to") };
    assert_eq!(kind(s.store.copy(request).await), ErrorKind::Archived);
    s.store.delete(&path("k"), Condition::Match(etag)).await.unwrap();
}
