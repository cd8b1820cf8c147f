//! Requests, single flight, failures.

use std::collections::VecDeque;

use super::*;
use crate::fs::error::Error;
use crate::store::error::ErrorKind;

#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_is_one_get() {
    let rig = Rig::new(256 * MIB);
    for size in [1, 4096, 100 * KIB + 7, 300 * KIB, MIB] {
        let content = rig.put(&format!("small-{size}"), size);
        let stream = Stream::default();
        let mut at = 0;
        while at < size {
            check(&content, &stream, at, 4096).await;
            at += 4096;
        }
        assert_eq!(rig.fake.take_gets(), [0..size]);
    }
    rig.settled().await;
    assert_eq!(rig.store.stats().objects, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_read_of_an_empty_file_or_past_the_end() {
    let rig = Rig::new(256 * MIB);
    let empty = rig.put("empty", 0);
    let stream = Stream::default();
    check(&empty, &stream, 0, 4096).await;
    let content = rig.put("short", 10);
    check(&content, &stream, 10, 4096).await;
    check(&content, &stream, u64::MAX, 4096).await;
    assert_eq!(content.read_resident(u64::MAX, usize::MAX).unwrap().len(), 0);
    assert!(rig.fake.take_gets().is_empty());
    check(&content, &stream, 4, u64::from(u32::MAX)).await;
    assert_eq!(rig.fake.take_gets(), [0..10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_is_resident_and_aligned() {
    let rig = Rig::new(256 * MIB);
    let content = rig.put("file", 3 * MIB);
    let stream = Stream::default();
    assert!(content.read_resident(0, 1).is_none());
    for at in 0..24 {
        check(&content, &stream, at * 128 * KIB, 128 * KIB).await;
    }
    rig.settled().await;
    until("all is resident", || all(&content).is_empty()).await;
    let read = content.read_resident(5000, 300_000).unwrap();
    assert_eq!(read.as_ptr().addr() % 4096, 0);
    compare(&content, &read, 5000, 300_000);
    let stats = rig.store.stats();
    assert_eq!((stats.fetched_bytes, stats.bytes_used, stats.objects), (3 * MIB, 3 * MIB, 1));
    assert!(stats.hits > 0 && stats.misses > 0);
    assert_eq!(rig.disk_bytes(), 3 * MIB);
    // Found again by identity, also when nobody had it open.
    let again = rig.store.object(&content.path(), &content.version());
    assert!(Arc::ptr_eq(&again, &content));
    let (path, version) = (content.path(), content.version());
    drop((content, again));
    assert!(rig.store.object(&path, &version).read_resident(0, 4096).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_one_block_share_one_get() {
    let rig = Rig::new(256 * MIB);
    let content = rig.put("file", 64 * MIB);
    rig.fake.chunks.send_replace(0);
    let readers: Vec<_> = (0..32)
        .map(|n| {
            let content = Arc::clone(&content);
            tokio::spawn(async move { check(&content, &Stream::default(), 40 * MIB + n * 4096, 4096).await })
        })
        .collect();
    until("the GET is sent", || rig.fake.in_flight.load(Ordering::SeqCst) == 1).await;
    rig.fake.chunks.send_replace(usize::MAX);
    for reader in readers {
        reader.await.unwrap();
    }
    assert_eq!(rig.fake.take_gets(), [40 * MIB..40 * MIB + 128 * KIB]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_needs_only_its_own_bytes_to_have_arrived() {
    let rig = Rig::new(256 * MIB);
    let content = rig.put("file", 64 * MIB);
    rig.fake.chunks.send_replace(2);
    let stream = Stream::default();
    check(&content, &stream, 0, 70_000).await;
    assert_eq!(rig.fake.in_flight.load(Ordering::SeqCst), 1);
    let read = content.read_resident(3, 60_000).expect("what has arrived is readable");
    compare(&content, &read, 3, 60_000);
    assert!(content.read_resident(0, 75_000).is_none());
    assert_eq!(rig.fake.take_gets(), [0..MIB]);
    rig.fake.chunks.send_replace(usize::MAX);
    rig.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequential_read_fetches_every_byte_once_and_in_parallel() {
    let rig = Rig::new(1 << 30);
    let size = 64 * MIB + 4321;
    let content = rig.put("file", size);
    let stream = Stream::default();
    let mut at = 0;
    while at < size {
        if at == 8 * MIB {
            // What is ahead is held back: several requests must be under way for it.
            rig.settled().await;
            rig.fake.chunks.send_replace(0);
            for step in 0..64 {
                if content.read_now(&stream, at + step * 128 * KIB, 128 << 10).is_none() {
                    break;
                }
            }
            until("GETs in parallel", || rig.fake.in_flight.load(Ordering::SeqCst) >= 3).await;
            rig.fake.chunks.send_replace(usize::MAX);
        }
        check(&content, &stream, at, 128 * KIB).await;
        at += 128 * KIB;
    }
    rig.settled().await;
    let mut gets = rig.fake.take_gets();
    gets.sort_by_key(|range| range.start);
    assert_eq!(gets.iter().map(|range| range.end - range.start).sum::<u64>(), size);
    assert!(gets.windows(2).all(|pair| pair[0].end == pair[1].start), "{gets:?}");
    assert!(gets.len() < 30, "{} requests", gets.len());
    assert_eq!(rig.store.stats().fetched_bytes, size);
}

#[tokio::test(flavor = "multi_thread")]
async fn random_reads_fetch_their_block_only() {
    let rig = Rig::new(1 << 30);
    let content = rig.put("file", 256 * MIB);
    let stream = Stream::default();
    for n in 1..100u64 {
        let at = (n * 1_299_709 * 4096) % (256 * MIB - 4096) / 4096 * 4096;
        check(&content, &stream, at, 4096).await;
        let block = at / (128 * KIB) * 128 * KIB;
        assert_eq!(rig.fake.take_gets(), [block..block + 128 * KIB]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_or_deleted_object_is_stale() {
    let rig = Rig::new(256 * MIB);
    let stream = Stream::default();
    let content = rig.put("changed", 64 * MIB);
    check(&content, &stream, 0, 4096).await;
    rig.settled().await;
    rig.fake.put("changed", "other", 64 * MIB);
    let failed = content.read(&stream, 32 * MIB, 4096).await.unwrap_err();
    assert!(matches!(&failed, Error::Stale(path) if path == "s3://bucket/changed"), "{failed}");
    // What was read of the version stays readable.
    check(&content, &stream, 0, 4096).await;
    let content = rig.put("deleted", 10);
    rig.fake.delete("deleted");
    assert!(matches!(content.read(&stream, 0, 10).await, Err(Error::Stale(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_reaches_all_who_wait_and_the_next_read_tries_again() {
    let rig = Rig::new(256 * MIB);
    let content = rig.put("file", 64 * MIB);
    *rig.fake.failures.lock() = VecDeque::from([(ErrorKind::ServerFault, None)]);
    let failed = content.read(&Stream::default(), 0, 4096).await.unwrap_err();
    assert!(matches!(&failed, Error::Store(error) if error.kind == ErrorKind::ServerFault), "{failed}");
    assert!(rig.fake.take_gets().is_empty());
    check(&content, &Stream::default(), 0, 4096).await;

    // In the middle of a body: who has its bytes keeps them, who waits for the rest is told.
    let content = rig.put("broken", MIB);
    rig.fake.take_gets();
    *rig.fake.failures.lock() = VecDeque::from([(ErrorKind::Corrupt, Some(4))]);
    rig.fake.chunks.send_replace(0);
    let reader = |offset: u64| {
        let content = Arc::clone(&content);
        tokio::spawn(async move { content.read(&Stream::default(), offset, 4096).await })
    };
    let (first, last, also) = (reader(0), reader(900 * KIB), reader(600 * KIB));
    until("three wait", || Arc::strong_count(&content) == 4).await;
    rig.settled_or_waiting(1).await;
    rig.fake.chunks.send_replace(usize::MAX);
    compare(&content, &first.await.unwrap().unwrap(), 0, 4096);
    for failed in [last, also] {
        match failed.await.unwrap() {
            Err(Error::Store(error)) => assert_eq!(error.kind, ErrorKind::Corrupt),
            // Came after the failure and fetched the rest itself.
            Ok(_) => {}
            Err(other) => panic!("{other}"),
        }
    }
    check(&content, &Stream::default(), 0, MIB).await;
    rig.settled().await;
    // What had arrived was kept: nothing was fetched twice.
    let whole = rig.fake.take_gets();
    assert_eq!(whole, [0..MIB, 4 * 37_000..MIB]);
}

impl Rig {
    async fn settled_or_waiting(&self, gets: usize) {
        until("GETs wait", || self.fake.in_flight.load(Ordering::SeqCst) >= gets).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_stream_stops_what_is_fetched_ahead() {
    let rig = Rig::new(1 << 30);
    let content = rig.put("file", 512 * MIB);
    let stream = Stream::default();
    for at in 0..256 {
        check(&content, &stream, at * 128 * KIB, 128 * KIB).await;
    }
    rig.settled().await;
    rig.fake.chunks.send_replace(0);
    let mut at = 32 * MIB;
    while content.read_now(&stream, at, 128 << 10).is_some() {
        at += 128 * KIB;
    }
    until("GETs wait", || rig.fake.in_flight.load(Ordering::SeqCst) > 2).await;
    let asked: u64 = rig.fake.take_gets().iter().map(|range| range.end - range.start).sum();
    drop(stream);
    rig.fake.chunks.send_replace(usize::MAX);
    rig.settled().await;
    let stats = rig.store.stats();
    assert!(stats.fetched_bytes + 8 * MIB < asked, "{} of {asked}", stats.fetched_bytes);
    check(&content, &Stream::default(), at, 128 * KIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_budget_reads_go_on_in_blocks() {
    let rig = Rig::with(256 * MIB, MIB);
    let held = rig.budget.acquire(MIB).await;
    let content = rig.put("file", 16 * MIB);
    let stream = Stream::default();
    for at in 0..128 {
        check(&content, &stream, at * 128 * KIB, 128 * KIB).await;
    }
    assert!(rig.fake.take_gets().iter().all(|range| range.end - range.start == 128 * KIB));
    content.make_resident(0..u64::MAX).await.unwrap();
    drop(held);
    rig.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn primed_bytes_are_readable_at_once_and_not_fetched() {
    let rig = Rig::new(256 * MIB);
    let content = rig.put("file", 4 * MIB);
    let known = bytes::Bytes::from(bytes_of(&content.version().etag, 5000..2 * MIB));
    content.prime(5000, &known);
    let read = content.read_resident(5000, 4096).unwrap();
    compare(&content, &read, 5000, 4096);
    assert_eq!(content.missing(0..u64::MAX), [0..5000, 2 * MIB..4 * MIB]);
    rig.settled().await;
    assert_eq!(all(&content), [0..5000, 2 * MIB..4 * MIB]);
    check(&content, &Stream::default(), 0, 2 * MIB).await;
    let gets = rig.fake.take_gets();
    assert_eq!(gets.first(), Some(&(0..5000)), "{gets:?}");
    let whole = rig.put("whole", 100);
    whole.prime(0, &bytes::Bytes::from(bytes_of(&whole.version().etag, 0..100)));
    check(&whole, &Stream::default(), 0, 100).await;
    assert!(rig.fake.take_gets().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_object_keeps_its_bytes_and_is_fetched_from_its_new_place() {
    let rig = Rig::new(256 * MIB);
    let content = rig.put("old", 64 * MIB);
    let stream = Stream::default();
    check(&content, &stream, 0, 4096).await;
    let old = (content.path(), content.version());
    // The copy keeps the bytes, and here the ETag with them.
    let (new_path, mut version) = rig.fake.put("new", "old", 64 * MIB);
    version.last_modified += Duration::from_secs(5);
    // Somebody saw the copy in a listing and nobody has it open: it makes way.
    drop(rig.store.object(&new_path, &version));
    content.relocate(new_path.clone(), version.clone());
    rig.fake.delete("old");
    check(&content, &stream, 40 * MIB, 4096).await;
    assert!(Arc::ptr_eq(&rig.store.object(&new_path, &version), &content));
    assert!(!Arc::ptr_eq(&rig.store.object(&old.0, &old.1), &content));
    rig.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flight_follows_a_rename() {
    let rig = Rig::new(256 * MIB);
    let content = rig.put("old", 64 * MIB);
    let (new_path, version) = rig.fake.put("new", "old", 64 * MIB);
    *rig.fake.failures.lock() = VecDeque::from([(ErrorKind::NotFound, Some(1))]);
    rig.fake.chunks.send_replace(0);
    let reader = {
        let content = Arc::clone(&content);
        tokio::spawn(async move { check(&content, &Stream::default(), 0, MIB).await })
    };
    rig.settled_or_waiting(1).await;
    content.relocate(new_path, version);
    rig.fake.delete("old");
    rig.fake.chunks.send_replace(usize::MAX);
    reader.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn make_resident_fills_the_gaps() {
    let rig = Rig::new(256 * MIB);
    let content = rig.put("file", 40 * MIB);
    check(&content, &Stream::default(), 20 * MIB, 4096).await;
    rig.settled().await;
    content.make_resident(10 * MIB..u64::MAX).await.unwrap();
    assert_eq!(all(&content), [0..10 * MIB]);
    assert_eq!(rig.store.stats().fetched_bytes, 30 * MIB);
    let small = Rig::new(MIB);
    let content = small.put("file", 40 * MIB);
    assert!(matches!(content.make_resident(0..40 * MIB).await, Err(Error::NoSpace)));
}
