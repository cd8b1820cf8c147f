//! Keys that are no tidy paths.

use aws_sdk_s3::types::{Delete, EncodingType, ObjectIdentifier};

use crate::client::*;

const KEYS: [&str; 20] = [
    "a//b",
    ".",
    "..",
    "../x",
    "a/../b",
    "a/./b",
    "dir/",
    "/",
    "//",
    "/lead",
    "sp ace",
    "pl+us",
    "per%20cent",
    "a%2Fb",
    "\u{1}\u{1f}\u{7f}",
    "tab\there",
    "\u{e9}\u{1f600}",
    "q?x=y&z#f",
    "<&>\"'",
    "~!@$^*()_-=[]{}|;:,`\\",
];

#[tokio::test]
async fn every_key_round_trips() {
    let (_server, client) = start().await;
    for key in KEYS {
        put(&client, key, key).await;
    }
    for key in KEYS {
        assert_eq!(get(&client, key).await, key.as_bytes(), "{key:?}");
        let head = client.head_object().bucket(BUCKET).key(key).send().await.unwrap();
        assert_eq!(head.content_length, Some(key.len() as i64));
    }
    let listed =
        client.list_objects_v2().bucket(BUCKET).encoding_type(EncodingType::Url).send().await.unwrap();
    let decode = |key: &str| {
        let key = key.replace('+', " ");
        percent_encoding::percent_decode_str(&key).decode_utf8().unwrap().into_owned()
    };
    let names: Vec<String> = listed.contents().iter().map(|o| decode(o.key().unwrap())).collect();
    let mut expected = KEYS.map(str::to_owned);
    expected.sort();
    assert_eq!(names, expected);
    for key in KEYS {
        let encoded = percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC);
        let copy = client.copy_object().bucket(BUCKET).key("copy").copy_source(format!("{BUCKET}/{encoded}"));
        copy.send().await.unwrap();
        assert_eq!(get(&client, "copy").await, key.as_bytes(), "{key:?}");
        client.delete_object().bucket(BUCKET).key(key).send().await.unwrap();
    }
    assert_eq!(client.list_objects_v2().bucket(BUCKET).send().await.unwrap().key_count(), Some(1));
}

#[tokio::test]
async fn long_keys() {
    let (_server, client) = start().await;
    let longest = "\u{e9}".repeat(512);
    put(&client, &longest, "x").await;
    assert_eq!(get(&client, &longest).await, b"x");
    let too_long = client.put_object().bucket(BUCKET).key(format!("{longest}x")).send().await;
    expect_failure(too_long, 400, "KeyTooLongError");
}

#[tokio::test]
async fn batches_delete_odd_keys() {
    let (_server, client) = start().await;
    let odd: Vec<&str> = KEYS.into_iter().filter(|key| !key.contains(['\u{1}', '\u{1f}'])).collect();
    let mut delete = Delete::builder();
    for key in &odd {
        put(&client, key, "x").await;
        delete = delete.objects(ObjectIdentifier::builder().key(*key).build().unwrap());
    }
    let done = client.delete_objects().bucket(BUCKET).delete(delete.build().unwrap()).send().await.unwrap();
    assert_eq!(done.deleted().len(), odd.len());
    assert_eq!(client.list_objects_v2().bucket(BUCKET).send().await.unwrap().key_count(), Some(0));
}
