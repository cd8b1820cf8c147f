//! Multipart uploads.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::*;

use crate::client::*;

const MIB: usize = 1024 * 1024;

async fn create(client: &Client, key: &str) -> String {
    let created = client.create_multipart_upload().bucket(BUCKET).key(key).metadata("m", "1").send().await;
    created.unwrap().upload_id.unwrap()
}

async fn part(client: &Client, key: &str, id: &str, number: i32, body: Vec<u8>) -> CompletedPart {
    let body = ByteStream::from(body);
    let sent = client.upload_part().bucket(BUCKET).key(key).upload_id(id).part_number(number).body(body);
    CompletedPart::builder().part_number(number).e_tag(sent.send().await.unwrap().e_tag.unwrap()).build()
}

fn complete(
    client: &Client,
    key: &str,
    id: &str,
    parts: &[CompletedPart],
) -> aws_sdk_s3::operation::complete_multipart_upload::builders::CompleteMultipartUploadFluentBuilder {
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.to_vec())).build();
    client.complete_multipart_upload().bucket(BUCKET).key(key).upload_id(id).multipart_upload(parts)
}

#[tokio::test]
async fn parts_become_one_object() {
    let (server, client) = start().await;
    let id = create(&client, "k").await;
    let third = part(&client, "k", &id, 30, b"end".to_vec()).await;
    let first = part(&client, "k", &id, 1, vec![b'a'; 5 * MIB]).await;
    part(&client, "k", &id, 7, vec![b'x'; 10]).await;
    let second = part(&client, "k", &id, 7, vec![b'b'; 6 * MIB]).await;
    let unused = part(&client, "k", &id, 9, vec![b'c'; 1]).await;

    let listed =
        client.list_parts().bucket(BUCKET).key("k").upload_id(&id).max_parts(2).send().await.unwrap();
    assert_eq!(listed.parts().iter().filter_map(|p| p.part_number()).collect::<Vec<_>>(), [1, 7]);
    assert_eq!((listed.is_truncated(), listed.next_part_number_marker()), (Some(true), Some("7")));
    let listed =
        client.list_parts().bucket(BUCKET).key("k").upload_id(&id).part_number_marker("7").send().await;
    assert_eq!(listed.unwrap().parts().iter().filter_map(|p| p.size()).collect::<Vec<_>>(), [1, 3]);

    let all = [first.clone(), second.clone(), third.clone()];
    let swapped = [second.clone(), first.clone()];
    expect_failure(complete(&client, "k", &id, &swapped).send().await, 400, "InvalidPartOrder");
    let wrong = CompletedPart::builder().part_number(7).e_tag(first.e_tag().unwrap()).build();
    expect_failure(complete(&client, "k", &id, &[first.clone(), wrong]).send().await, 400, "InvalidPart");
    let missing = CompletedPart::builder().part_number(8).e_tag(first.e_tag().unwrap()).build();
    expect_failure(complete(&client, "k", &id, &[missing]).send().await, 400, "InvalidPart");
    let small = [first.clone(), second.clone(), unused, third.clone()];
    expect_failure(complete(&client, "k", &id, &small).send().await, 400, "EntityTooSmall");
    expect_failure(complete(&client, "k", &id, &[]).send().await, 400, "MalformedXML");
    expect_failure(complete(&client, "other", &id, &all).send().await, 404, "NoSuchUpload");

    let done = complete(&client, "k", &id, &all).send().await.unwrap();
    assert!(done.e_tag().unwrap().ends_with("-3\""));
    expect_failure(complete(&client, "k", &id, &all).send().await, 404, "NoSuchUpload");
    let head = client.head_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(head.content_length, Some(11 * MIB as i64 + 3));
    assert_eq!(head.e_tag(), done.e_tag());
    assert_eq!(head.metadata.as_ref().unwrap()["m"], "1");
    let body = get(&client, "k").await;
    assert!(body[..5 * MIB].iter().all(|b| *b == b'a') && body[5 * MIB..11 * MIB].iter().all(|b| *b == b'b'));
    assert_eq!(&body[11 * MIB..], b"end");
    let range = format!("bytes={}-{}", 5 * MIB - 1, 5 * MIB);
    let got = client.get_object().bucket(BUCKET).key("k").range(range).send().await.unwrap();
    assert_eq!(got.body.collect().await.unwrap().into_bytes(), &b"ab"[..]);
    let got = client.get_object().bucket(BUCKET).key("k").part_number(30).send().await.unwrap();
    assert_eq!((got.parts_count, got.content_length), (Some(3), Some(3)));

    // A copy is one body again, with the ETag of its bytes.
    let copied = client.copy_object().bucket(BUCKET).key("c").copy_source(format!("{BUCKET}/k")).send().await;
    let copied = copied.unwrap().copy_object_result.unwrap().e_tag.unwrap();
    assert_eq!(copied.len(), 34);
    assert_eq!(copied, put(&client, "same", body).await);
    assert_eq!(server.counters().count("UploadPart"), 5);
}

#[tokio::test]
async fn part_copies() {
    let (_server, client) = start().await;
    let body: Vec<u8> = (0..6 * MIB).map(|n| (n / 1000) as u8).collect();
    let etag = put(&client, "source", body.clone()).await;
    let id = create(&client, "k").await;
    let copy = |number: i32, range: &str| {
        client
            .upload_part_copy()
            .bucket(BUCKET)
            .key("k")
            .upload_id(&id)
            .part_number(number)
            .copy_source(format!("{BUCKET}/source"))
            .copy_source_range(range)
    };
    let stale = copy(1, "bytes=0-5242879").copy_source_if_match("\"0123\"").send().await;
    expect_failure(stale, 412, "PreconditionFailed");
    expect_failure(copy(1, "bytes=0-6291456").send().await, 400, "InvalidArgument");
    let first = copy(1, "bytes=1-5242880").copy_source_if_match(&etag).send().await.unwrap();
    let first = first.copy_part_result.unwrap().e_tag.unwrap();
    let whole = client
        .upload_part_copy()
        .bucket(BUCKET)
        .key("k")
        .upload_id(&id)
        .part_number(2)
        .copy_source(format!("{BUCKET}/source"))
        .send()
        .await
        .unwrap();
    let whole = whole.copy_part_result.unwrap().e_tag.unwrap();
    assert_eq!(whole, etag);
    let parts = [(1, first), (2, whole)]
        .map(|(number, etag)| CompletedPart::builder().part_number(number).e_tag(etag).build());
    complete(&client, "k", &id, &parts).send().await.unwrap();
    let expected = [&body[1..5242881], &body[..]].concat();
    assert!(get(&client, "k").await == expected);
}

#[tokio::test]
async fn conditions_of_a_completion() {
    let (_server, client) = start_with(|config| config.part_size_min_bytes = 0).await;
    let id = create(&client, "k").await;
    let parts = [part(&client, "k", &id, 1, vec![1]).await, part(&client, "k", &id, 2, vec![2]).await];
    let etag = put(&client, "k", "in between").await;
    let exclusive = complete(&client, "k", &id, &parts).if_none_match("*").send().await;
    expect_failure(exclusive, 412, "PreconditionFailed");
    expect_failure(
        complete(&client, "k", &id, &parts).if_match("\"0123\"").send().await,
        412,
        "PreconditionFailed",
    );
    // A failed condition leaves the upload as it was.
    complete(&client, "k", &id, &parts).if_match(&etag).send().await.unwrap();
    assert_eq!(get(&client, "k").await, [1, 2]);
    let id = create(&client, "new").await;
    let parts = [part(&client, "new", &id, 1, vec![1]).await];
    expect_failure(complete(&client, "new", &id, &parts).if_match(&etag).send().await, 404, "NoSuchKey");
    complete(&client, "new", &id, &parts).if_none_match("*").send().await.unwrap();
}

#[tokio::test]
async fn uploads_are_listed_and_aborted() {
    let (_server, client) = start().await;
    let mut ids = Vec::new();
    for key in ["a", "b/1", "b/2", "b/2", "c"] {
        ids.push((key, create(&client, key).await));
    }
    let (mut all, mut key_marker, mut id_marker) = (Vec::new(), None, None);
    loop {
        let listed = client
            .list_multipart_uploads()
            .bucket(BUCKET)
            .max_uploads(2)
            .set_key_marker(key_marker)
            .set_upload_id_marker(id_marker)
            .send()
            .await
            .unwrap();
        let uploads = listed.uploads().iter();
        all.extend(uploads.map(|u| (u.key().unwrap().to_owned(), u.upload_id().unwrap().to_owned())));
        (key_marker, id_marker) = (listed.next_key_marker, listed.next_upload_id_marker);
        if listed.is_truncated != Some(true) {
            break;
        }
    }
    assert_eq!(all, ids.iter().map(|(key, id)| ((*key).to_owned(), id.clone())).collect::<Vec<_>>());
    let listed = client.list_multipart_uploads().bucket(BUCKET).delimiter("/").send().await.unwrap();
    assert_eq!((listed.uploads().len(), listed.common_prefixes().len()), (2, 1));
    let listed = client.list_multipart_uploads().bucket(BUCKET).prefix("b/").send().await.unwrap();
    assert_eq!(listed.uploads().len(), 3);
    for (key, id) in &ids {
        client.abort_multipart_upload().bucket(BUCKET).key(*key).upload_id(id).send().await.unwrap();
    }
    let (key, id) = &ids[0];
    let again = client.abort_multipart_upload().bucket(BUCKET).key(*key).upload_id(id).send().await;
    expect_failure(again, 404, "NoSuchUpload");
    let late = client.upload_part().bucket(BUCKET).key(*key).upload_id(id).part_number(1);
    expect_failure(late.body(ByteStream::from_static(b"x")).send().await, 404, "NoSuchUpload");
    assert!(client.list_multipart_uploads().bucket(BUCKET).send().await.unwrap().uploads().is_empty());
    assert!(client.list_objects_v2().bucket(BUCKET).send().await.unwrap().contents().is_empty());
}

#[tokio::test]
async fn checksums_of_uploads() {
    let (_server, client) = start_with(|config| config.part_size_min_bytes = 0).await;
    for (algorithm, kind) in [
        (ChecksumAlgorithm::Crc64Nvme, ChecksumType::FullObject),
        (ChecksumAlgorithm::Crc32, ChecksumType::FullObject),
        (ChecksumAlgorithm::Sha256, ChecksumType::Composite),
    ] {
        let created = client
            .create_multipart_upload()
            .bucket(BUCKET)
            .key("k")
            .checksum_algorithm(algorithm.clone())
            .checksum_type(kind.clone())
            .send()
            .await
            .unwrap();
        let id = created.upload_id.unwrap();
        let mut parts = Vec::new();
        for (number, body) in [(1, "hello "), (2, "world")] {
            let sent = client
                .upload_part()
                .bucket(BUCKET)
                .key("k")
                .upload_id(&id)
                .part_number(number)
                .checksum_algorithm(algorithm.clone())
                .body(ByteStream::from_static(body.as_bytes()))
                .send()
                .await
                .unwrap();
            parts.push(
                CompletedPart::builder()
                    .part_number(number)
                    .e_tag(sent.e_tag.unwrap())
                    .set_checksum_crc32(sent.checksum_crc32)
                    .set_checksum_crc64_nvme(sent.checksum_crc64_nvme)
                    .set_checksum_sha256(sent.checksum_sha256)
                    .build(),
            );
        }
        complete(&client, "k", &id, &parts).send().await.unwrap();
        let head = client.head_object().bucket(BUCKET).key("k").checksum_mode(ChecksumMode::Enabled).send();
        let head = head.await.unwrap();
        assert_eq!(head.checksum_type, Some(kind));
        let value = head.checksum_crc32.or(head.checksum_crc64_nvme).or(head.checksum_sha256).unwrap();
        assert_eq!(value.ends_with("-2"), algorithm == ChecksumAlgorithm::Sha256);
        assert_eq!(get(&client, "k").await, b"hello world");
    }
}
