//! Objects in, out and away: bodies, ranges, metadata, tags, checksums.

use std::collections::HashMap;

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::*;

use crate::client::*;

#[tokio::test]
async fn bodies_round_trip() {
    let (server, client) = start().await;
    for len in [0usize, 1, 100, 300_000, 5_000_000] {
        let body: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
        let etag = put(&client, "k", body.clone()).await;
        let head = client.head_object().bucket(BUCKET).key("k").send().await.unwrap();
        assert_eq!(head.content_length, Some(len as i64));
        assert_eq!(head.e_tag, Some(etag.clone()));
        assert_eq!(head.content_type.as_deref(), Some("application/octet-stream"));
        assert_eq!(get(&client, "k").await, body);
    }
    assert_eq!(put(&client, "e", "").await, "\"d41d8cd98f00b204e9800998ecf8427e\"");
    let counters = server.counters();
    assert_eq!(
        (counters.count("PutObject"), counters.count("GetObject"), counters.count("HeadObject")),
        (6, 5, 5)
    );
    assert_eq!(counters.total(), 16);
    assert!(counters.bytes_in >= 5_300_101 && counters.bytes_out == 5_300_101, "{counters:?}");
    client.delete_object().bucket(BUCKET).key("k").send().await.unwrap();
    client.delete_object().bucket(BUCKET).key("k").send().await.unwrap();
    expect_failure(client.get_object().bucket(BUCKET).key("k").send().await, 404, "NoSuchKey");
    expect_failure(client.head_object().bucket(BUCKET).key("k").send().await, 404, "NotFound");
    expect_failure(client.get_object().bucket("no-such-bucket").key("k").send().await, 404, "NoSuchBucket");
    server.reset_counters();
    assert_eq!(server.counters().total(), 0);
    server.stop().await;
}

#[tokio::test]
async fn ranges() {
    let (_server, client) = start().await;
    put(&client, "k", "0123456789").await;
    put(&client, "empty", "").await;
    for (range, bytes, header) in [
        ("bytes=0-0", "0", "bytes 0-0/10"),
        ("bytes=3-5", "345", "bytes 3-5/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=8-100", "89", "bytes 8-9/10"),
        ("bytes=-4", "6789", "bytes 6-9/10"),
        ("bytes=-100", "0123456789", "bytes 0-9/10"),
    ] {
        let got = client.get_object().bucket(BUCKET).key("k").range(range).send().await.unwrap();
        assert_eq!(got.content_range.as_deref(), Some(header));
        assert_eq!(got.content_length, Some(bytes.len() as i64));
        assert_eq!(got.body.collect().await.unwrap().into_bytes(), bytes.as_bytes());
    }
    for (key, range) in [("k", "bytes=10-"), ("k", "bytes=-0"), ("empty", "bytes=0-"), ("empty", "bytes=-1")]
    {
        let got = client.get_object().bucket(BUCKET).key(key).range(range).send().await;
        expect_failure(got, 416, "InvalidRange");
    }
    let head = client.head_object().bucket(BUCKET).key("k").range("bytes=2-3").send().await.unwrap();
    assert_eq!((head.content_length, head.content_range.as_deref()), (Some(2), Some("bytes 2-3/10")));
}

#[tokio::test]
async fn attributes_come_back() {
    let (_server, client) = start().await;
    let metadata =
        HashMap::from([("mode".to_owned(), "33188".to_owned()), ("mtime".to_owned(), "1.5".to_owned())]);
    client
        .put_object()
        .bucket(BUCKET)
        .key("k")
        .body(ByteStream::from_static(b"x"))
        .set_metadata(Some(metadata.clone()))
        .content_type("text/x-test")
        .cache_control("no-cache")
        .content_disposition("attachment")
        .content_encoding("gzip")
        .content_language("de")
        .expires(DateTime::from_secs(1_900_000_000))
        .website_redirect_location("/elsewhere")
        .storage_class(StorageClass::StandardIa)
        .server_side_encryption(ServerSideEncryption::AwsKms)
        .ssekms_key_id("a-key")
        .tagging("colour=red&empty=")
        .send()
        .await
        .unwrap();
    let got = client.get_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(got.metadata, Some(metadata));
    assert_eq!(got.content_type.as_deref(), Some("text/x-test"));
    assert_eq!(got.cache_control.as_deref(), Some("no-cache"));
    assert_eq!(got.content_disposition.as_deref(), Some("attachment"));
    assert_eq!(got.content_encoding.as_deref(), Some("gzip"));
    assert_eq!(got.content_language.as_deref(), Some("de"));
    assert_eq!(got.expires_string.as_deref(), Some("Sun, 17 Mar 2030 17:46:40 GMT"));
    assert_eq!(got.website_redirect_location.as_deref(), Some("/elsewhere"));
    assert_eq!(got.storage_class, Some(StorageClass::StandardIa));
    assert_eq!(got.server_side_encryption, Some(ServerSideEncryption::AwsKms));
    assert_eq!(got.ssekms_key_id.as_deref(), Some("a-key"));
    assert_eq!(got.tag_count, Some(2));
    let listed = client.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    assert_eq!(listed.contents()[0].storage_class, Some(ObjectStorageClass::StandardIa));
    let plain = put(&client, "plain", "x").await;
    let head = client.head_object().bucket(BUCKET).key("plain").send().await.unwrap();
    assert_eq!((head.storage_class, head.e_tag), (None, Some(plain)));
    let wrong = client.put_object().bucket(BUCKET).key("k").storage_class("BRONZE".into()).send().await;
    expect_failure(wrong, 400, "InvalidStorageClass");
    let large = client.put_object().bucket(BUCKET).key("k").metadata("a", "x".repeat(2048)).send().await;
    expect_failure(large, 400, "MetadataTooLarge");
}

#[tokio::test]
async fn tags() {
    let (_server, client) = start().await;
    let etag = put(&client, "k", "x").await;
    let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build().unwrap();
    let tagging = Tagging::builder().tag_set(tag("a", "1")).tag_set(tag("b", "2")).build().unwrap();
    client.put_object_tagging().bucket(BUCKET).key("k").tagging(tagging).send().await.unwrap();
    let got = client.get_object_tagging().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(got.tag_set(), [tag("a", "1"), tag("b", "2")]);
    let object = client.get_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!((object.tag_count, object.e_tag), (Some(2), Some(etag)));
    client.delete_object_tagging().bucket(BUCKET).key("k").send().await.unwrap();
    let got = client.get_object_tagging().bucket(BUCKET).key("k").send().await.unwrap();
    assert!(got.tag_set().is_empty());
    expect_failure(client.get_object_tagging().bucket(BUCKET).key("none").send().await, 404, "NoSuchKey");
    let eleven = (0..11).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join("&");
    let put = client.put_object().bucket(BUCKET).key("k").tagging(eleven).send().await;
    expect_failure(put, 400, "InvalidTag");
}

#[tokio::test]
async fn checksums_are_verified_and_kept() {
    let (_server, client) = start().await;
    for algorithm in [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32C,
        ChecksumAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha1,
        ChecksumAlgorithm::Sha256,
    ] {
        let body = ByteStream::from_static(b"123456789");
        let put = client.put_object().bucket(BUCKET).key("k").checksum_algorithm(algorithm).body(body);
        put.send().await.unwrap();
        // The SDK verifies what comes back with the mode enabled, which is its default.
        assert_eq!(get(&client, "k").await, b"123456789");
    }
    let put = |crc: &str| {
        let body = ByteStream::from_static(b"123456789");
        client.put_object().bucket(BUCKET).key("c").body(body).checksum_crc32(crc).send()
    };
    put("y/Q5Jg==").await.unwrap();
    expect_failure(put("AAAAAA==").await, 400, "BadDigest");
    let head = client.head_object().bucket(BUCKET).key("c").checksum_mode(ChecksumMode::Enabled).send();
    let head = head.await.unwrap();
    assert_eq!(head.checksum_crc32.as_deref(), Some("y/Q5Jg=="));
    assert_eq!(head.checksum_type, Some(ChecksumType::FullObject));
    let md5 = |md5: &str| {
        let body = ByteStream::from_static(b"");
        client.put_object().bucket(BUCKET).key("m").body(body).content_md5(md5).send()
    };
    md5("1B2M2Y8AsgTpgAmY7PhCfg==").await.unwrap();
    expect_failure(md5("2B2M2Y8AsgTpgAmY7PhCfg==").await, 400, "BadDigest");
    expect_failure(md5("nonsense").await, 400, "InvalidDigest");
}

#[tokio::test]
async fn streamed_bodies_carry_their_checksum_in_a_trailer() {
    let (_server, client) = start().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("body");
    std::fs::write(&path, vec![7u8; 3_000_000]).unwrap();
    let body = ByteStream::from_path(&path).await.unwrap();
    client.put_object().bucket(BUCKET).key("k").body(body).send().await.unwrap();
    let head = client.head_object().bucket(BUCKET).key("k").checksum_mode(ChecksumMode::Enabled).send();
    let head = head.await.unwrap();
    assert!(head.checksum_crc32.is_some() || head.checksum_crc64_nvme.is_some());
    assert_eq!(head.content_encoding, None);
    assert_eq!(get(&client, "k").await, vec![7u8; 3_000_000]);
}

#[tokio::test]
async fn batches_of_deletions() {
    let (_server, client) = start().await;
    let etag = put(&client, "a", "x").await;
    put(&client, "b", "x").await;
    put(&client, "c", "x").await;
    let id = |key: &str, etag: Option<&str>| {
        ObjectIdentifier::builder().key(key).set_e_tag(etag.map(str::to_owned)).build().unwrap()
    };
    let delete = Delete::builder()
        .objects(id("a", Some(&etag)))
        .objects(id("b", Some("\"0123\"")))
        .objects(id("c", None))
        .objects(id("none", None))
        .objects(id("gone", Some("\"0123\"")))
        .build()
        .unwrap();
    let done = client.delete_objects().bucket(BUCKET).delete(delete).send().await.unwrap();
    let deleted: Vec<_> = done.deleted().iter().filter_map(|entry| entry.key()).collect();
    assert_eq!(deleted, ["a", "c", "none"]);
    let errors: Vec<_> = done.errors().iter().map(|e| (e.key().unwrap(), e.code().unwrap())).collect();
    assert_eq!(errors, [("b", "PreconditionFailed"), ("gone", "NoSuchKey")]);
    let quiet = Delete::builder().objects(id("b", None)).quiet(true).build().unwrap();
    let done = client.delete_objects().bucket(BUCKET).delete(quiet).send().await.unwrap();
    assert!(done.deleted().is_empty() && done.errors().is_empty());
    assert!(client.list_objects_v2().bucket(BUCKET).send().await.unwrap().contents().is_empty());
}

#[tokio::test]
async fn fast_etags_never_repeat() {
    let (_server, client) = start_with(|config| config.fast_etags = true).await;
    let (one, two) = (put(&client, "k", "x").await, put(&client, "k", "x").await);
    assert_ne!(one, two);
    assert_eq!(one.len(), 34);
    let old = client.get_object().bucket(BUCKET).key("k").if_match(one).send().await;
    expect_failure(old, 412, "PreconditionFailed");
}

#[tokio::test]
async fn object_attributes() {
    let (_server, client) = start().await;
    let etag = put(&client, "k", "12345").await;
    let got = client
        .get_object_attributes()
        .bucket(BUCKET)
        .key("k")
        .object_attributes(ObjectAttributes::Etag)
        .object_attributes(ObjectAttributes::ObjectSize)
        .send()
        .await
        .unwrap();
    assert_eq!((got.object_size, got.storage_class), (Some(5), None));
    assert_eq!(got.e_tag.map(|e| e.trim_matches('"').to_owned()), Some(etag.trim_matches('"').to_owned()));
}
