//! Conditional requests.

use aws_sdk_s3::primitives::{ByteStream, DateTime};

use crate::client::*;

#[tokio::test]
async fn reads() {
    let (_server, client) = start().await;
    let etag = put(&client, "k", "0123456789").await;
    let get = || client.get_object().bucket(BUCKET).key("k");
    let head = || client.head_object().bucket(BUCKET).key("k");
    let modified = head().send().await.unwrap().last_modified.unwrap();
    let before = DateTime::from_secs(modified.secs() - 10);
    get().if_match(&etag).range("bytes=1-2").send().await.unwrap();
    get().if_match("*").send().await.unwrap();
    get().if_match(etag.trim_matches('"')).send().await.unwrap();
    expect_failure(get().if_match("\"0123\"").send().await, 412, "PreconditionFailed");
    assert_eq!(failure(head().if_match("\"0123\"").send().await).0, 412);
    assert_eq!(failure(get().if_none_match(&etag).send().await).0, 304);
    assert_eq!(failure(head().if_none_match(&etag).send().await).0, 304);
    get().if_none_match("\"0123\"").send().await.unwrap();
    assert_eq!(failure(get().if_modified_since(modified).send().await).0, 304);
    get().if_modified_since(before).send().await.unwrap();
    assert_eq!(failure(get().if_unmodified_since(before).send().await).0, 412);
    get().if_unmodified_since(modified).send().await.unwrap();
    // A GET of what is not there says so, whatever the conditions.
    let gone = client.get_object().bucket(BUCKET).key("none").if_match(&etag).send().await;
    expect_failure(gone, 404, "NoSuchKey");
}

#[tokio::test]
async fn writes() {
    let (_server, client) = start().await;
    let write = || client.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(b"new"));
    expect_failure(write().if_match("\"0123\"").send().await, 404, "NoSuchKey");
    let first = write().if_none_match("*").send().await.unwrap().e_tag.unwrap();
    expect_failure(write().if_none_match("*").send().await, 412, "PreconditionFailed");
    expect_failure(write().if_match("\"0123\"").send().await, 412, "PreconditionFailed");
    let body = ByteStream::from_static(b"second");
    let second =
        client.put_object().bucket(BUCKET).key("k").body(body).if_match(&first).send().await.unwrap();
    assert_ne!(second.e_tag.as_ref(), Some(&first));
    // Within the same second the old version is gone all the same.
    let old = client.get_object().bucket(BUCKET).key("k").if_match(&first).send().await;
    expect_failure(old, 412, "PreconditionFailed");
    assert_eq!(get(&client, "k").await, b"second");
}

#[tokio::test]
async fn of_many_writers_one_creates() {
    let (_server, client) = start().await;
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..20 {
        let client = client.clone();
        writers.spawn(async move {
            let body = ByteStream::from(vec![n; 10_000]);
            client.put_object().bucket(BUCKET).key("k").body(body).if_none_match("*").send().await.is_ok()
        });
    }
    let won = writers.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
}

#[tokio::test]
async fn deletions() {
    let (_server, client) = start().await;
    let etag = put(&client, "k", "x").await;
    let delete = || client.delete_object().bucket(BUCKET).key("k");
    expect_failure(delete().if_match("\"0123\"").send().await, 412, "PreconditionFailed");
    delete().if_match(&etag).send().await.unwrap();
    expect_failure(delete().if_match(&etag).send().await, 404, "NoSuchKey");
    delete().send().await.unwrap();
}
