//! Files that go up in parts, with parts copied from the version before.

use std::sync::Arc;

use bytes::Bytes;
use pailfs::fs::types::{Ino, SetAttr, WriteFlags};
use pailfs::store::around::Operation;
use pailfs::store::error::ErrorKind;
use pailfs::store::fault::{Fault, Faulty};
use pailfs::store::object_store::ObjectStore;

use crate::harness::{
    BUCKET, CALLER, READ, Shape, WRITE, cat, find, memory, mount, object, pattern, read_all, run,
};
use crate::runner::same_bytes;

const MIB: usize = 1 << 20;

fn shape() -> Shape {
    Shape {
        part_size_bytes: 5 << 20,
        multipart_threshold_bytes: 8 << 20,
        cache_size_bytes: 256 << 20,
        ..Shape::default()
    }
}

/// New, changed at both ends and in the middle, cut, extended: the bytes in S3 are the reference's each time.
#[test]
fn parts_are_the_file() {
    run(async {
        let store = memory();
        let faults = Arc::new(Faulty::new(store.clone()));
        let store: Arc<dyn ObjectStore> = faults.clone();
        let mount = mount(&store, shape());
        let fs = &mount.fs;
        let made = fs.create(CALLER, Ino::ROOT, "f".as_ref(), 0o644, 0, WRITE).await.unwrap();
        let (ino, fh) = (made.entry.attr.unwrap().ino, made.opened.fh);
        let mut data = pattern(1, 43 * MIB + 7);
        for (at, piece) in data.chunks(MIB).enumerate() {
            let piece = Bytes::copy_from_slice(piece);
            fs.write(ino, fh, (at * MIB) as u64, piece, WriteFlags::default()).await.unwrap();
        }
        fs.flush(ino, fh).await.unwrap();
        same_bytes(&object(&*store, "f").await.unwrap().1, &data, "a new file");

        for (offset, len) in [(0, 1), (20 * MIB, 3), (data.len() - 1, 1), (data.len() + MIB, 10)] {
            let bytes = pattern(offset as u32, len);
            let piece = Bytes::from(bytes.clone());
            fs.write(ino, fh, offset as u64, piece, WriteFlags::default()).await.unwrap();
            data.resize(data.len().max(offset + len), 0);
            data[offset..offset + len].copy_from_slice(&bytes);
            fs.flush(ino, fh).await.unwrap();
            same_bytes(&object(&*store, "f").await.unwrap().1, &data, "a changed file");
        }
        assert!(faults.calls(Operation::UploadPartCopy) > 0, "unchanged bytes are copied on the server");

        for size in [40 * MIB, 45 * MIB] {
            let changes = SetAttr { size: Some(size as u64), fh: Some(fh), ..SetAttr::default() };
            fs.setattr(CALLER, ino, changes).await.unwrap();
            data.resize(size, 0);
            fs.flush(ino, fh).await.unwrap();
            same_bytes(&object(&*store, "f").await.unwrap().1, &data, "a resized file");
        }
        fs.release(ino, fh).await.unwrap();
        assert!(fs.pending().is_empty());
        assert!(mount.staged().await.is_empty());
        let fresh = self::mount(&store, shape());
        same_bytes(&cat(&fresh.fs, "f").await.unwrap(), &data, "mounted again");
    });
}

/// Any call of an upload in parts fails, before or after it is done: an error, then all of it. And a copy of
/// the file within the mount is a copy in S3.
#[test]
fn parts_that_fail() {
    run(async {
        let store: Arc<dyn ObjectStore> = memory();
        let faults = Arc::new(Faulty::new(store.clone()));
        let faulty: Arc<dyn ObjectStore> = faults.clone();
        let mut data = pattern(2, 34 * MIB);
        crate::harness::put(&*store, "f", &data).await;
        let mount = mount(&faulty, shape());
        let fs = &mount.fs;
        let ino = find(fs, "f").await.unwrap().unwrap();
        let fh = fs.open(CALLER, ino, WRITE).await.unwrap().fh;
        let operations = [
            Operation::CreateMultipartUpload,
            Operation::UploadPart,
            Operation::UploadPartCopy,
            Operation::CompleteMultipartUpload,
        ];
        for (round, operation) in operations.into_iter().flat_map(|o| [o, o]).enumerate() {
            let fault = if round % 2 == 0 { Fault::before } else { Fault::after };
            faults.inject(fault(ErrorKind::Timeout).on(operation).times(1));
            let (at, byte) = (round * 100, round as u8 + 100);
            fs.write(ino, fh, at as u64, Bytes::from(vec![byte; 10]), WriteFlags::default()).await.unwrap();
            data[at..at + 10].fill(byte);
            fs.flush(ino, fh).await.expect_err("the fault is told");
            assert_eq!(fs.pending().len(), 1);
            same_bytes(&read_all(fs, ino, fh).await.unwrap(), &data, "what is pending");
            // And one more change before it is tried again.
            let at = at + 20 * MIB;
            fs.write(ino, fh, at as u64, Bytes::from(vec![byte; 10]), WriteFlags::default()).await.unwrap();
            data[at..at + 10].fill(byte);
            fs.flush(ino, fh).await.expect("the fault is over");
            same_bytes(&object(&*store, "f").await.unwrap().1, &data, "tried again");
        }
        let made = fs.create(CALLER, Ino::ROOT, "copy".as_ref(), 0o644, 0, WRITE).await.unwrap();
        let (copy, copy_fh) = (made.entry.attr.unwrap().ino, made.opened.fh);
        let from = fs.open(CALLER, ino, READ).await.unwrap().fh;
        let puts = faults.calls(Operation::PutObject) + faults.calls(Operation::UploadPart);
        let copied = fs.copy_file_range(ino, from, 0, copy, copy_fh, 0, data.len() as u64).await;
        assert_eq!(copied.unwrap() as usize, data.len());
        // The source changes before the copy is in S3.
        fs.write(ino, fh, 0, Bytes::from_static(b"changed"), WriteFlags::default()).await.unwrap();
        fs.fsync(ino, fh, false).await.unwrap();
        assert!(faults.calls(Operation::PutObject) + faults.calls(Operation::UploadPart) <= puts + 2);
        same_bytes(&object(&*store, "copy").await.unwrap().1, &data, "the copy");
        for (ino, fh) in [(ino, fh), (ino, from), (copy, copy_fh)] {
            fs.flush(ino, fh).await.unwrap();
            fs.release(ino, fh).await.unwrap();
        }
        assert!(fs.drain().await.failed.is_empty());
        // Nobody here knows the number of an upload whose creation was not answered.
        assert!(store.list_uploads(BUCKET, "").await.unwrap().len() <= 1);
        assert!(mount.conflict_files().is_empty() && mount.staged().await.is_empty());
    });
}
