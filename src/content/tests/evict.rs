//! The bound, full disks, what must stay.

use std::os::unix::fs::FileExt;

use super::*;
use crate::fs::error::Error;

#[tokio::test(flavor = "multi_thread")]
async fn the_least_recently_used_file_goes_first() {
    let rig = Rig::new(4 * MIB);
    let files: Vec<_> = (0..4).map(|n| rig.put(&format!("{n}"), MIB)).collect();
    for file in &files {
        check(file, &Stream::default(), 0, MIB).await;
        rig.settled().await;
    }
    assert_eq!(rig.store.stats().bytes_used, 4 * MIB);
    check(&files[0], &Stream::default(), 0, 10).await;
    let another = rig.put("another", MIB);
    check(&another, &Stream::default(), 0, MIB).await;
    rig.settled().await;
    let resident: Vec<bool> = files.iter().map(|file| all(file).is_empty()).collect();
    assert_eq!(resident, [true, false, true, true]);
    assert!(all(&another).is_empty());
    assert!(rig.disk_bytes() <= 4 * MIB);
    // Evicted bytes come again.
    check(&files[1], &Stream::default(), 0, MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_larger_than_the_cache_loses_its_oldest_ranges() {
    let rig = Rig::new(4 * MIB);
    let content = rig.put("file", 32 * MIB);
    let stream = Stream::default();
    for at in 0..256 {
        check(&content, &stream, at * 128 * KIB, 128 * KIB).await;
        assert!(rig.disk_bytes() <= 4 * MIB);
        assert!(rig.store.stats().bytes_used <= 4 * MIB);
    }
    rig.settled().await;
    assert!(content.read_resident(32 * MIB - 4096, 4096).is_some());
    assert!(content.read_resident(0, 4096).is_none());
    let stats = rig.store.stats();
    // A busy machine may end transfers late, when their ranges cannot make room yet: some are fetched again.
    assert!(stats.fetched_bytes < 48 * MIB, "{stats:?}");
    assert!(stats.evicted_bytes >= 8 * MIB, "{stats:?}");
    assert_eq!(rig.store.stats().objects, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_of_no_size_still_reads() {
    let rig = Rig::new(0);
    let content = rig.put("file", 3 * MIB);
    let stream = Stream::default();
    for at in 0..24 {
        check(&content, &stream, at * 128 * KIB, 128 * KIB).await;
    }
    assert_eq!(rig.disk_bytes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn detached_content_survives_eviction_and_goes_with_its_last_reader() {
    let rig = Rig::new(3 * MIB);
    let gone = rig.put("gone", 64 * MIB);
    gone.make_resident(0..MIB).await.unwrap();
    gone.detach();
    rig.fake.delete("gone");
    rig.fake.take_gets();
    for n in 0..8 {
        let other = rig.put(&format!("{n}"), MIB);
        check(&other, &Stream::default(), 0, MIB).await;
        rig.settled().await;
    }
    check(&gone, &Stream::default(), 0, MIB).await;
    let missing = gone.read(&Stream::default(), MIB, 10).await;
    assert!(matches!(missing, Err(Error::Stale(_))), "{missing:?}");
    assert!(matches!(gone.make_resident(0..2 * MIB).await, Err(Error::Stale(_))));
    assert_eq!(rig.fake.take_gets().len(), 8);
    // A new object of the same identity is another one.
    let again = rig.store.object(&gone.path(), &gone.version());
    assert!(!Arc::ptr_eq(&again, &gone));
    assert!(again.read_resident(0, 10).is_none());
    let (before, files) = (rig.store.stats().bytes_used, rig.files());
    drop(gone);
    until("the file is removed", || rig.files() == files - 1).await;
    until("its bytes are free", || rig.store.stats().bytes_used == before - MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_content_stays_until_it_may_go() {
    let rig = Rig::new(2 * MIB);
    let kept = rig.put("kept", MIB);
    kept.keep(true);
    kept.make_resident(0..MIB).await.unwrap();
    let other = rig.put("other", 16 * MIB);
    let stream = Stream::default();
    for at in 0..16 {
        check(&other, &stream, at * MIB, MIB).await;
    }
    rig.settled().await;
    assert!(all(&kept).is_empty());
    kept.keep(false);
    other.make_resident(0..2 * MIB).await.unwrap();
    assert!(!all(&kept).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_residency_and_no_read() {
    let rig = Rig::new(256 * MIB);
    rig.store.files.full.store(true, Ordering::SeqCst);
    let small = rig.put("small", 300 * KIB);
    for at in 0..75 {
        check(&small, &Stream::default(), at * 4096, 4096).await;
    }
    let large = rig.put("large", 64 * MIB);
    let stream = Stream::default();
    for at in 0..512 {
        check(&large, &stream, at * 128 * KIB, 128 * KIB).await;
    }
    rig.settled().await;
    assert_eq!(all(&large), [0..64 * MIB]);
    assert!(matches!(small.make_resident(0..10).await, Err(Error::NoSpace)));
    assert!(rig.store.stats().fetched_bytes < 100 * MIB, "{:?}", rig.store.stats());
    assert!(rig.store.overflow.lock().bytes <= 32 * MIB);
    rig.store.files.full.store(false, Ordering::SeqCst);
    small.make_resident(0..300 * KIB).await.unwrap();
    large.make_resident(0..64 * MIB).await.unwrap();
    check(&large, &Stream::default(), 30 * MIB, 4 * MIB).await;
    assert!(rig.disk_bytes() >= 64 * MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_vanished_or_was_cut_is_fetched_again() {
    let rig = Rig::new(256 * MIB);
    let content = rig.put("file", 3 * MIB);
    for harm in [false, true] {
        content.make_resident(0..3 * MIB).await.unwrap();
        let file = walk(rig.dir.path()).pop().unwrap();
        if harm {
            std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(1000).unwrap();
        } else {
            std::fs::remove_file(&file).unwrap();
            rig.store.files.close_all();
        }
        assert!(content.read_resident(MIB, 4096).is_none());
        check(&content, &Stream::default(), 0, 3 * MIB).await;
        rig.settled().await;
        assert!(rig.disk_bytes() <= rig.store.stats().bytes_used);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_written_file_is_taken_over() {
    let rig = Rig::new(4 * MIB);
    let staging = tempfile::tempdir().unwrap();
    let stage = |key: &str, size: u64, range: std::ops::Range<u64>| {
        let (path, version) = rig.fake.put(key, key, size);
        let disk_path = staging.path().join(key);
        let file =
            std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(&disk_path).unwrap();
        file.write_all_at(&bytes_of(&version.etag, range.clone()), range.start).unwrap();
        rig.store.adopt(&path, &version, file, &disk_path, RangeSet::from_iter([range]))
    };
    let content = stage("written", 3 * MIB, 10..MIB + 5);
    assert_eq!(all(&content), [0..10, MIB + 5..3 * MIB]);
    assert_eq!(walk(staging.path()).len(), 0);
    compare(&content, &content.read_resident(10, (1 << 20) - 5).unwrap(), 10, MIB - 5);
    assert!(rig.fake.take_gets().is_empty());
    check(&content, &Stream::default(), 0, 3 * MIB).await;
    rig.settled().await;
    assert_eq!(rig.store.stats().bytes_used, 3 * MIB);
    // The same identity again, on top of what is cached.
    let again = stage("written", 3 * MIB, 0..3 * MIB);
    assert!(Arc::ptr_eq(&again, &content));
    assert_eq!((rig.store.stats().bytes_used, rig.files()), (3 * MIB, 1));
    // One larger than the cache: the bound holds soon.
    let large = stage("large", 9 * MIB, 0..9 * MIB);
    until("the bound holds", || rig.disk_bytes() <= 4 * MIB).await;
    check(&large, &Stream::default(), 0, 9 * MIB).await;
    // A path that is not there: not cached, still readable.
    let (path, version) = rig.fake.put("lost", "lost", 100);
    let file = tempfile::tempfile().unwrap();
    let lost =
        rig.store.adopt(&path, &version, file, &staging.path().join("no"), RangeSet::from_iter([0..100]));
    check(&lost, &Stream::default(), 0, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unused_objects_are_forgotten() {
    let rig = Rig::new(MIB);
    for n in 0..100 {
        let content = rig.put(&format!("{n}"), 100 * KIB);
        if n % 2 == 0 {
            check(&content, &Stream::default(), 0, 4096).await;
        }
    }
    rig.settled().await;
    until("only what has bytes is known", || {
        let stats = rig.store.stats();
        stats.objects == rig.store.known() as u64 && stats.objects <= 10
    })
    .await;
}

/// Readers with every pattern over ten times the cache, every byte compared, while the bound is watched.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn torture() {
    const BOUND: u64 = 4 * MIB;
    let rig = Arc::new(Rig::with(BOUND, 16 * MIB));
    let sizes = [24 * MIB, 9 * MIB + 77, 4 * MIB + 1, 2 * MIB, MIB, 300 * KIB + 3, 128 * KIB, 5000];
    let objects: Vec<_> = sizes
        .iter()
        .enumerate()
        .map(|(n, size)| rig.fake.put(&format!("t{n}"), &format!("t{n}"), *size))
        .collect();
    let readers: Vec<_> = (0..8u64)
        .map(|reader| {
            let (rig, objects) = (Arc::clone(&rig), objects.clone());
            tokio::spawn(async move {
                let mut seed = reader.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1;
                let mut random = move |below: u64| {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    seed % below
                };
                for _ in 0..12 {
                    let (path, version) = &objects[random(objects.len() as u64) as usize];
                    let content = &rig.store.object(path, version);
                    let size = version.size;
                    if random(4) == 0 {
                        let start = random(size);
                        let end = (start + random(MIB)).min(size);
                        content.prime(start, &bytes::Bytes::from(bytes_of(&version.etag, start..end)));
                    }
                    let stream = Stream::default();
                    let mut at = if random(2) == 0 { 0 } else { random(size) };
                    for _ in 0..40 {
                        let len = 1 + random(200 * KIB);
                        if let Some(read) = content.read_now(&stream, at, len as usize) {
                            compare(content, &read, at, len);
                        } else {
                            check(content, &stream, at, len).await;
                        }
                        at = if reader % 2 == 0 { at + len } else { random(size) };
                    }
                }
            })
        })
        .collect();
    while readers.iter().any(|reader| !reader.is_finished()) {
        assert!(rig.store.stats().bytes_used <= BOUND);
        // The filesystem may round a little: extent blocks, a file being removed between two looks.
        let disk = rig.disk_bytes();
        assert!(disk <= BOUND + 128 * KIB, "{disk}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for reader in readers {
        reader.await.unwrap();
    }
    rig.settled().await;
    until("the books agree", || rig.store.stats().bytes_used == rig.store.allocated_sum()).await;
}
