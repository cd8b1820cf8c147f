//! The server on a directory.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use pailfs_s3_server::{Backing, Server, ServerConfig};

use crate::client::*;

fn config(dir: &std::path::Path) -> ServerConfig {
    ServerConfig {
        backing: Backing::Directory(dir.to_owned()),
        buckets: vec![BUCKET.to_owned()],
        part_size_min_bytes: 0,
        ..ServerConfig::default()
    }
}

fn bodies(dir: &std::path::Path) -> usize {
    std::fs::read_dir(dir.join("bodies")).unwrap().count()
}

#[tokio::test]
async fn objects_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path())).await.unwrap();
    let client = client_of(&server);
    assert!(Server::start(config(dir.path())).await.is_err());
    let large: Vec<u8> = (0..3_000_000u32).map(|n| (n % 253) as u8).collect();
    put(&client, "large", large.clone()).await;
    put(&client, "empty", "").await;
    put(&client, "a//../b/", "odd").await;
    put(&client, "gone", "x").await;
    client.delete_object().bucket(BUCKET).key("gone").send().await.unwrap();
    client
        .copy_object()
        .bucket(BUCKET)
        .key("copy")
        .copy_source(format!("{BUCKET}/large"))
        .send()
        .await
        .unwrap();
    client.delete_object().bucket(BUCKET).key("large").send().await.unwrap();
    let created =
        client.create_multipart_upload().bucket(BUCKET).key("parts").content_type("x/y").send().await;
    let id = created.unwrap().upload_id.unwrap();
    let mut parts = CompletedMultipartUpload::builder();
    for number in 1..=3 {
        let body = ByteStream::from(vec![number as u8; 1_100_000]);
        let part =
            client.upload_part().bucket(BUCKET).key("parts").upload_id(&id).part_number(number).body(body);
        let etag = part.send().await.unwrap().e_tag.unwrap();
        parts = parts.parts(CompletedPart::builder().part_number(number).e_tag(etag).build());
    }
    let completed = client
        .complete_multipart_upload()
        .bucket(BUCKET)
        .key("parts")
        .upload_id(&id)
        .multipart_upload(parts.build())
        .send()
        .await
        .unwrap();
    let before = client.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    server.stop().await;
    std::fs::write(dir.path().join("bodies/00000000ffffffff"), b"orphan").unwrap();

    let server = Server::start(config(dir.path())).await.unwrap();
    let client = client_of(&server);
    let after = client.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    assert_eq!(after.contents(), before.contents());
    assert_eq!(after.contents().len(), 4);
    assert!(get(&client, "copy").await == large);
    assert_eq!(get(&client, "a//../b/").await, b"odd");
    assert!(get(&client, "empty").await.is_empty());
    let got = client.get_object().bucket(BUCKET).key("parts").part_number(2).send().await.unwrap();
    assert_eq!((got.e_tag(), got.content_type()), (completed.e_tag(), Some("x/y")));
    assert!(got.body.collect().await.unwrap().to_vec() == vec![2u8; 1_100_000]);
    let range =
        client.get_object().bucket(BUCKET).key("copy").range("bytes=1048570-1048580").send().await.unwrap();
    assert_eq!(range.body.collect().await.unwrap().to_vec(), &large[1_048_570..=1_048_580]);
    for key in ["copy", "a//../b/", "empty", "parts"] {
        client.delete_object().bucket(BUCKET).key(key).send().await.unwrap();
    }
    client.delete_bucket().bucket(BUCKET).send().await.unwrap();
    server.stop().await;
    // The next start has removed what nothing refers to.
    let server = Server::start(config(dir.path())).await.unwrap();
    server.stop().await;
    assert_eq!(bodies(dir.path()), 0);
}

#[tokio::test]
async fn a_foreign_directory_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("precious"), b"x").unwrap();
    assert!(Server::start(config(dir.path())).await.is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_broken_upload_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path())).await.unwrap();
    let client = client_of(&server);
    let body = ByteStream::from(vec![1; 3_000_000]);
    let wrong =
        client.put_object().bucket(BUCKET).key("k").body(body).checksum_crc32("AAAAAA==").send().await;
    expect_failure(wrong, 400, "BadDigest");
    expect_failure(client.head_object().bucket(BUCKET).key("k").send().await, 404, "NotFound");
    server.stop().await;
    let server = Server::start(config(dir.path())).await.unwrap();
    server.stop().await;
    assert_eq!(bodies(dir.path()), 0);
}
