//! CopyObject.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::*;

use crate::client::*;

#[tokio::test]
async fn copies_carry_what_s3_carries() {
    let (_server, client) = start().await;
    client
        .put_object()
        .bucket(BUCKET)
        .key("dir/a b")
        .body(ByteStream::from_static(b"content"))
        .metadata("mode", "33188")
        .content_type("text/plain")
        .tagging("a=1")
        .storage_class(StorageClass::StandardIa)
        .send()
        .await
        .unwrap();
    let copy =
        |to: &str| client.copy_object().bucket(BUCKET).key(to).copy_source(format!("{BUCKET}/dir/a%20b"));
    let copied = copy("b").send().await.unwrap().copy_object_result.unwrap();
    let head = client.head_object().bucket(BUCKET).key("b").send().await.unwrap();
    assert_eq!(copied.e_tag, head.e_tag);
    assert_eq!(head.metadata.as_ref().unwrap()["mode"], "33188");
    assert_eq!(head.content_type.as_deref(), Some("text/plain"));
    assert_eq!(head.storage_class, None);
    assert_eq!(get(&client, "b").await, b"content");
    let tags = client.get_object_tagging().bucket(BUCKET).key("b").send().await.unwrap();
    assert_eq!(tags.tag_set().len(), 1);

    copy("c")
        .metadata_directive(MetadataDirective::Replace)
        .metadata("mode", "1")
        .tagging_directive(TaggingDirective::Replace)
        .storage_class(StorageClass::GlacierIr)
        .send()
        .await
        .unwrap();
    let head = client.head_object().bucket(BUCKET).key("c").send().await.unwrap();
    assert_eq!(head.metadata.as_ref().unwrap()["mode"], "1");
    assert_eq!(head.content_type.as_deref(), Some("binary/octet-stream"));
    assert_eq!(head.storage_class, Some(StorageClass::GlacierIr));
    let tags = client.get_object_tagging().bucket(BUCKET).key("c").send().await.unwrap();
    assert!(tags.tag_set().is_empty());
}

#[tokio::test]
async fn conditions_on_source_and_destination() {
    let (_server, client) = start().await;
    let etag = put(&client, "a", "a").await;
    let other = put(&client, "b", "b").await;
    let copy = |to: &str| client.copy_object().bucket(BUCKET).key(to).copy_source(format!("{BUCKET}/a"));
    expect_failure(copy("c").copy_source_if_match(&other).send().await, 412, "PreconditionFailed");
    expect_failure(copy("c").copy_source_if_none_match(&etag).send().await, 412, "PreconditionFailed");
    copy("c").copy_source_if_match(&etag).if_none_match("*").send().await.unwrap();
    expect_failure(copy("c").if_none_match("*").send().await, 412, "PreconditionFailed");
    expect_failure(copy("b").if_match(&etag).send().await, 412, "PreconditionFailed");
    expect_failure(copy("none").if_match(&etag).send().await, 404, "NoSuchKey");
    copy("b").if_match(&other).send().await.unwrap();
    assert_eq!(get(&client, "b").await, b"a");
    let missing =
        client.copy_object().bucket(BUCKET).key("x").copy_source(format!("{BUCKET}/none")).send().await;
    expect_failure(missing, 404, "NoSuchKey");
}

#[tokio::test]
async fn copies_to_itself() {
    let (_server, client) = start().await;
    let etag = put(&client, "a", "a").await;
    let before = client.head_object().bucket(BUCKET).key("a").send().await.unwrap();
    let copy = || client.copy_object().bucket(BUCKET).key("a").copy_source(format!("{BUCKET}/a"));
    expect_failure(copy().send().await, 400, "InvalidRequest");
    copy().storage_class(StorageClass::StandardIa).send().await.unwrap();
    // LastModified has whole seconds: wait for the next one.
    loop {
        copy().metadata_directive(MetadataDirective::Replace).metadata("m", "1").send().await.unwrap();
        let head = client.head_object().bucket(BUCKET).key("a").send().await.unwrap();
        assert_eq!(head.e_tag.as_ref(), Some(&etag));
        assert_eq!(head.metadata.as_ref().unwrap()["m"], "1");
        if head.last_modified > before.last_modified {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
