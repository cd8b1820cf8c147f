//! Listings as clients see them.

use aws_sdk_s3::Client;
use aws_sdk_s3::types::EncodingType;

use crate::client::*;
use crate::raw;

const KEYS: [&str; 9] = ["a", "a-b", "a/b", "a/c/d", "a/c/e", "a0", "b", "b/", "z/1"];

async fn fill(client: &Client) {
    for key in KEYS {
        put(client, key, key).await;
    }
}

/// All entries of a listing, page by page; common prefixes in angle brackets, merged in by order.
async fn walk(client: &Client, prefix: &str, delimiter: Option<&str>, page: i32) -> (Vec<String>, usize) {
    let (mut all, mut token, mut pages) = (Vec::new(), None, 0);
    loop {
        let listed = client
            .list_objects_v2()
            .bucket(BUCKET)
            .prefix(prefix)
            .set_delimiter(delimiter.map(str::to_owned))
            .max_keys(page)
            .set_continuation_token(token)
            .send()
            .await
            .unwrap();
        pages += 1;
        let entries = listed.contents().len() + listed.common_prefixes().len();
        assert_eq!(listed.key_count(), Some(entries as i32));
        assert!(entries <= page as usize);
        let mut names: Vec<(String, String)> = Vec::new();
        names.extend(listed.contents().iter().map(|o| (o.key().unwrap().into(), o.key().unwrap().into())));
        let prefixes = listed.common_prefixes().iter().map(|p| p.prefix().unwrap());
        names.extend(prefixes.map(|prefix| (prefix.to_owned(), format!("<{prefix}>"))));
        names.sort();
        all.extend(names.into_iter().map(|(_, name)| name));
        token = listed.next_continuation_token().map(str::to_owned);
        assert_eq!(listed.is_truncated(), Some(token.is_some()));
        if token.is_none() {
            return (all, pages);
        }
    }
}

#[tokio::test]
async fn pages_with_and_without_delimiter() {
    let (server, client) = start().await;
    fill(&client).await;
    for page in [1, 2, 3, 4, 1000] {
        assert_eq!(walk(&client, "", None, page).await.0, KEYS);
        let top = walk(&client, "", Some("/"), page).await.0;
        assert_eq!(top, ["a", "a-b", "<a/>", "a0", "b", "<b/>", "<z/>"]);
        assert_eq!(walk(&client, "a/", Some("/"), page).await.0, ["a/b", "<a/c/>"]);
        assert_eq!(walk(&client, "a", Some("/"), page).await.0, ["a", "a-b", "<a/>", "a0"]);
        assert!(walk(&client, "none", Some("/"), page).await.0.is_empty());
    }
    server.reset_counters();
    assert_eq!(walk(&client, "", None, 3).await.1, 3);
    assert_eq!(server.counters().count("ListObjectsV2"), 3);
}

#[tokio::test]
async fn start_after_and_what_an_entry_says() {
    let (_server, client) = start().await;
    fill(&client).await;
    let after = |prefix: &'static str, start: &'static str| {
        let client = client.clone();
        async move {
            let listed = client.list_objects_v2().bucket(BUCKET).prefix(prefix).start_after(start);
            let listed = listed.send().await.unwrap();
            assert_eq!(listed.start_after(), Some(start));
            listed.contents().iter().map(|o| o.key().unwrap().to_owned()).collect::<Vec<_>>()
        }
    };
    assert_eq!(after("a/", "a/b").await, ["a/c/d", "a/c/e"]);
    assert_eq!(after("a/", "a/c/").await, ["a/c/d", "a/c/e"]);
    assert_eq!(after("a/", "A").await, ["a/b", "a/c/d", "a/c/e"]);
    assert!(after("a/", "b").await.is_empty());
    let listed = client.list_objects_v2().bucket(BUCKET).prefix("a/b").send().await.unwrap();
    let head = client.head_object().bucket(BUCKET).key("a/b").send().await.unwrap();
    let entry = &listed.contents()[0];
    assert_eq!((entry.size(), entry.e_tag()), (Some(3), head.e_tag()));
    assert_eq!(entry.last_modified(), head.last_modified());
    assert_eq!(entry.last_modified().unwrap().subsec_nanos(), 0);
}

#[tokio::test]
async fn limits_and_refusals() {
    let (_server, client) = start_with(|config| config.page_size = 2).await;
    fill(&client).await;
    let listed = client.list_objects_v2().bucket(BUCKET).max_keys(1000).send().await.unwrap();
    assert_eq!((listed.contents().len(), listed.max_keys()), (2, Some(2)));
    let none = client.list_objects_v2().bucket(BUCKET).max_keys(0).send().await.unwrap();
    assert_eq!((none.key_count(), none.is_truncated()), (Some(0), Some(false)));
    let negative = client.list_objects_v2().bucket(BUCKET).max_keys(-1).send().await;
    expect_failure(negative, 400, "InvalidArgument");
    let token = client.list_objects_v2().bucket(BUCKET).continuation_token("nonsense").send().await;
    expect_failure(token, 400, "InvalidArgument");
    expect_failure(client.list_objects_v2().bucket("no-such-bucket").send().await, 404, "NoSuchBucket");
}

#[tokio::test]
async fn url_encoding() {
    let (_server, client) = start().await;
    put(&client, "d r/a+b%\u{1}\u{e9}", "x").await;
    let listed = client.list_objects_v2().bucket(BUCKET).prefix("d r/").encoding_type(EncodingType::Url);
    let listed = listed.send().await.unwrap();
    assert_eq!(listed.contents()[0].key(), Some("d+r/a%2Bb%25%01%C3%A9"));
    assert_eq!(listed.prefix(), Some("d+r/"));
    let listed = client.list_objects_v2().bucket(BUCKET).delimiter("/").encoding_type(EncodingType::Url);
    assert_eq!(listed.send().await.unwrap().common_prefixes()[0].prefix(), Some("d+r/"));
}

#[tokio::test]
async fn the_old_list_operation_and_buckets() {
    let (_server, client) = start_with(|config| config.allow_anonymous = true).await;
    fill(&client).await;
    let (mut all, mut marker) = (Vec::new(), None);
    loop {
        let listed = client.list_objects().bucket(BUCKET).delimiter("/").max_keys(2).set_marker(marker);
        let listed = listed.send().await.unwrap();
        all.extend(listed.contents().iter().map(|o| o.key().unwrap().to_owned()));
        all.extend(listed.common_prefixes().iter().map(|p| p.prefix().unwrap().to_owned()));
        marker = listed.next_marker().map(str::to_owned);
        if listed.is_truncated() != Some(true) {
            break;
        }
    }
    all.sort();
    assert_eq!(all, ["a", "a-b", "a/", "a0", "b", "b/", "z/"]);

    client.create_bucket().bucket("another").send().await.unwrap();
    expect_failure(client.create_bucket().bucket("another").send().await, 409, "BucketAlreadyOwnedByYou");
    let listed = client.list_buckets().send().await.unwrap();
    assert_eq!(listed.buckets().iter().filter_map(|b| b.name()).collect::<Vec<_>>(), ["another", BUCKET]);
    client.head_bucket().bucket("another").send().await.unwrap();
    client.delete_bucket().bucket("another").send().await.unwrap();
    expect_failure(client.head_bucket().bucket("another").send().await, 404, "NotFound");
    expect_failure(client.delete_bucket().bucket(BUCKET).send().await, 409, "BucketNotEmpty");
    expect_failure(client.delete_bucket().bucket("another").send().await, 404, "NoSuchBucket");
    let location = client.get_bucket_location().bucket(BUCKET).send().await.unwrap();
    assert_eq!(location.location_constraint().map(|l| l.as_str()).unwrap_or_default(), "");
    let answer =
        raw::request("GET", &format!("{}/{BUCKET}/?list-type=2", _server.endpoint()), &[], b"").await;
    assert!(answer.unwrap().text().contains("<KeyCount>9</KeyCount>"));
}
