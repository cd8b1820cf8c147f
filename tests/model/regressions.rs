//! What the random sequences found, each in the shortest form.

use std::sync::Arc;
use std::time::Duration;

use pailfs::fs::types::{Fh, FileKind, Ino, OpenFlags, RenameFlags, SetAttr, WriteFlags};
use pailfs::store::around::Operation;
use pailfs::store::error::ErrorKind;
use pailfs::store::fault::{Fault, Faulty};
use pailfs::store::object_store::ObjectStore;
use pailfs::store::types::Condition;

use crate::harness::{
    CALLER, Mount, Shape, WRITE, cat, find, keys, memory, mount, number, object, path, put, run,
};

fn forgetful() -> Shape {
    Shape { ttl: Duration::ZERO, ..Shape::default() }
}

async fn create(mount: &Mount, dir: Ino, name: &str, bytes: &'static [u8]) -> (Ino, Fh) {
    let created = mount.fs.create(CALLER, dir, name.as_ref(), 0o644, 0, WRITE).await.unwrap();
    let (ino, fh) = (created.entry.attr.unwrap().ino, created.opened.fh);
    if !bytes.is_empty() {
        mount.fs.write(ino, fh, 0, bytes.into(), WriteFlags::default()).await.unwrap();
    }
    (ino, fh)
}

/// A file that is in S3 and closed.
async fn file(mount: &Mount, dir: Ino, name: &str, bytes: &'static [u8]) -> Ino {
    let (ino, fh) = create(mount, dir, name, bytes).await;
    close(mount, ino, fh).await;
    ino
}

async fn close(mount: &Mount, ino: Ino, fh: Fh) {
    mount.fs.flush(ino, fh).await.unwrap();
    mount.fs.release(ino, fh).await.unwrap();
}

async fn rename(mount: &Mount, from: &str, to: &str) {
    let flags = RenameFlags::default();
    mount.fs.rename(Ino::ROOT, from.as_ref(), Ino::ROOT, to.as_ref(), flags).await.unwrap();
}

#[test]
fn a_directory_is_forgotten_with_its_last_file() {
    run(async {
        let store: Arc<dyn ObjectStore> = memory();
        put(&*store, "d/f", b"bytes").await;
        let mount = mount(&store, forgetful());
        let (dir, ino) = (find(&mount.fs, "d").await.unwrap().unwrap(), find(&mount.fs, "d/f").await);
        let ino = ino.unwrap().unwrap();
        let changes = SetAttr { mode: Some(0o600), ..SetAttr::default() };
        mount.fs.setattr(CALLER, ino, changes).await.unwrap();
        mount.fs.forget(dir, 2);
        mount.fs.forget(ino, 1);
        assert_eq!(mount.fs.counts(), (3, 0), "a pending change keeps both");
        assert!(mount.fs.drain().await.failed.is_empty());
        assert_eq!(mount.fs.counts(), (1, 0));
    });
}

#[test]
fn truncating_an_empty_file_changes_its_time_in_s3() {
    run(async {
        let store: Arc<dyn ObjectStore> = memory();
        let mount = mount(&store, Shape::default());
        let ino = file(&mount, Ino::ROOT, "f", b"").await;
        let flags = OpenFlags { truncate: true, ..WRITE };
        let fh = mount.fs.open(CALLER, ino, flags).await.unwrap().fh;
        close(&mount, ino, fh).await;
        let mtime = mount.fs.getattr(ino, None).await.unwrap().attr.mtime;
        let (info, _) = object(&*store, "f").await.unwrap();
        assert_eq!(pailfs::namespace::attributes::decode(&info.properties.metadata).mtime, Some(mtime));
    });
}

#[test]
fn attributes_of_the_file_before_are_not_those_of_the_next() {
    run(async {
        let store: Arc<dyn ObjectStore> = memory();
        put(&*store, "f", b"").await;
        let mount = mount(&store, Shape::default());
        let ino = find(&mount.fs, "f").await.unwrap().unwrap();
        rename(&mount, "f", "g").await;
        mount.fs.forget(ino, 1);
        // The same bytes in the same second: the same version, as far as S3 tells.
        let created = mount.fs.create(CALLER, Ino::ROOT, "f".as_ref(), 0o600, 0, WRITE).await.unwrap();
        let ino = created.entry.attr.unwrap().ino;
        close(&mount, ino, created.opened.fh).await;
        mount.fs.forget(ino, 1);
        let found = mount.fs.lookup(Ino::ROOT, "f".as_ref()).await.unwrap();
        assert_eq!(found.attr.unwrap().mode, 0o600);
    });
}

#[test]
fn what_a_rename_replaced_does_not_come_back() {
    run(async {
        let store: Arc<dyn ObjectStore> = memory();
        let mount = mount(&store, Shape::default());
        file(&mount, Ino::ROOT, "old", b"old").await;
        let (ino, fh) = create(&mount, Ino::ROOT, "new", b"new").await;
        rename(&mount, "new", "old").await;
        rename(&mount, "old", "elsewhere").await;
        assert!(find(&mount.fs, "old").await.unwrap().is_none());
        close(&mount, ino, fh).await;
        assert_eq!(keys(&*store).await, ["elsewhere"]);
        assert_eq!(cat(&mount.fs, "elsewhere").await.unwrap(), b"new");
    });
}

#[test]
fn a_write_to_a_file_that_another_client_replaced_is_told_of() {
    run(async {
        let store: Arc<dyn ObjectStore> = memory();
        put(&*store, "f", b"first").await;
        let mount = mount(&store, forgetful());
        let ino = find(&mount.fs, "f").await.unwrap().unwrap();
        let fh = mount.fs.open(CALLER, ino, WRITE).await.unwrap().fh;
        put(&*store, "f", b"theirs").await;
        assert_ne!(find(&mount.fs, "f").await.unwrap(), Some(ino), "the name is another file now");
        mount.fs.write(ino, fh, 0, (&b"ours"[..]).into(), WriteFlags::default()).await.unwrap();
        assert_eq!(number(&mount.fs.flush(ino, fh).await), libc::ESTALE);
        assert_eq!(mount.conflict_files().len(), 1);
        assert_eq!(object(&*store, "f").await.unwrap().1, b"theirs");
        mount.fs.release(ino, fh).await.unwrap();
        assert!(mount.fs.pending().is_empty());
    });
}

#[test]
fn nobody_has_lost_while_s3_cannot_be_asked() {
    run(async {
        let store: Arc<dyn ObjectStore> = memory();
        put(&*store, "f", b"first").await;
        let faults = Arc::new(Faulty::new(store.clone()));
        let faulty: Arc<dyn ObjectStore> = faults.clone();
        let mount = mount(&faulty, Shape::default());
        let ino = find(&mount.fs, "f").await.unwrap().unwrap();
        let fh = mount.fs.open(CALLER, ino, WRITE).await.unwrap().fh;
        mount.fs.write(ino, fh, 0, (&b"ours"[..]).into(), WriteFlags::default()).await.unwrap();
        put(&*store, "f", b"theirs").await;
        let kind = ErrorKind::Timeout;
        let head = Operation::HeadObject;
        faults.inject(Fault::before(kind).on(head).times(1));
        assert_eq!(number(&mount.fs.flush(ino, fh).await), libc::EIO);
        assert!(mount.conflict_files().is_empty() && mount.fs.pending().len() == 1, "still to be sent");
        assert_eq!(number(&mount.fs.flush(ino, fh).await), libc::ESTALE);
        assert_eq!(mount.conflict_files().len(), 1);
        mount.fs.release(ino, fh).await.unwrap();
    });
}

#[test]
fn a_commit_that_needs_bytes_that_are_gone_ends_in_a_conflict_file() {
    run(async {
        let store: Arc<dyn ObjectStore> = memory();
        // More than an open for editing fetches.
        const BASE: usize = 2 << 20;
        put(&*store, "f", &[b'x'; BASE]).await;
        let mount = mount(&store, Shape::default());
        let ino = find(&mount.fs, "f").await.unwrap().unwrap();
        let fh = mount.fs.open(CALLER, ino, WRITE).await.unwrap().fh;
        mount.fs.write(ino, fh, BASE as u64, (&b"ours"[..]).into(), WriteFlags::default()).await.unwrap();
        put(&*store, "f", b"theirs").await;
        assert_eq!(number(&mount.fs.flush(ino, fh).await), libc::ESTALE);
        let expected = [&[0; BASE][..], b"ours"].concat();
        assert!(mount.conflict_files() == [expected]);
        mount.fs.release(ino, fh).await.unwrap();
        assert!(mount.fs.pending().is_empty());
    });
}

#[test]
fn a_listing_shows_what_another_client_put_in_place_of_a_directory() {
    run(async {
        let store: Arc<dyn ObjectStore> = memory();
        put(&*store, "f", b"").await;
        let mount = mount(&store, forgetful());
        find(&mount.fs, "f").await.unwrap().unwrap();
        store.delete(&path("f"), Condition::None).await.unwrap();
        put(&*store, "f/below", b"").await;
        let fh = mount.fs.opendir(Ino::ROOT).await.unwrap().fh;
        let found = mount.fs.readdir(Ino::ROOT, fh, 0).await.unwrap();
        assert!(found.iter().any(|e| e.name == "f" && e.kind == FileKind::Directory));
    });
}

#[test]
fn a_directory_takes_its_attributes_along_over_an_empty_one() {
    run(async {
        let store: Arc<dyn ObjectStore> = memory();
        put(&*store, "implied/f", b"bytes").await;
        let mount = mount(&store, Shape::default());
        mount.fs.mkdir(CALLER, Ino::ROOT, "made".as_ref(), 0o700, 0).await.unwrap();
        let ino = find(&mount.fs, "implied").await.unwrap().unwrap();
        rename(&mount, "implied", "made").await;
        let mode = mount.fs.getattr(ino, None).await.unwrap().attr.mode;
        let fresh = self::mount(&store, Shape::default());
        let found = fresh.fs.lookup(Ino::ROOT, "made".as_ref()).await.unwrap();
        assert_eq!(found.attr.unwrap().mode, mode);
        mount.fs.unlink(ino, "f".as_ref()).await.unwrap();
        mount.fs.rmdir(Ino::ROOT, "made".as_ref()).await.unwrap();
        assert!(keys(&*store).await.is_empty());
    });
}

#[test]
fn a_rename_that_failed_halfway_can_be_tried_again() {
    run(async {
        let store = memory();
        let faults = Arc::new(Faulty::new(store.clone()));
        let faulty: Arc<dyn ObjectStore> = faults.clone();
        let mount = mount(&faulty, Shape::default());
        file(&mount, Ino::ROOT, "from", b"bytes").await;
        let (ino, fh) = create(&mount, Ino::ROOT, "to", b"replaced").await;
        faults.inject(Fault::before(ErrorKind::Timeout).on(Operation::DeleteObject).times(1));
        let flags = RenameFlags::default();
        let failed = mount.fs.rename(Ino::ROOT, "from".as_ref(), Ino::ROOT, "to".as_ref(), flags).await;
        failed.expect_err("the fault is told");
        rename(&mount, "from", "to").await;
        assert_eq!(keys(&*store).await, ["to"]);
        assert_eq!(cat(&mount.fs, "to").await.unwrap(), b"bytes");
        close(&mount, ino, fh).await;
        assert_eq!(object(&*store, "to").await.unwrap().1, b"bytes");
    });
}

#[test]
fn a_rename_whose_last_answer_is_lost_has_happened() {
    run(async {
        let store = memory();
        let faults = Arc::new(Faulty::new(store.clone()));
        let faulty: Arc<dyn ObjectStore> = faults.clone();
        let mount = mount(&faulty, Shape::default());
        file(&mount, Ino::ROOT, "from", b"bytes").await;
        faults.inject(Fault::after(ErrorKind::Timeout).on(Operation::DeleteObject).times(1));
        let flags = RenameFlags::default();
        let done = mount.fs.rename(Ino::ROOT, "from".as_ref(), Ino::ROOT, "to".as_ref(), flags).await;
        done.expect("it is done");
        assert!(find(&mount.fs, "from").await.unwrap().is_none());
        assert_eq!(cat(&mount.fs, "to").await.unwrap(), b"bytes");
    });
}

#[test]
fn a_write_after_a_lost_answer_is_not_a_conflict() {
    run(async {
        let store = memory();
        let faults = Arc::new(Faulty::new(store.clone()));
        let faulty: Arc<dyn ObjectStore> = faults.clone();
        let mount = mount(&faulty, Shape::default());
        let (ino, fh) = create(&mount, Ino::ROOT, "f", b"first").await;
        faults.inject(Fault::after(ErrorKind::Timeout).on(Operation::PutObject).times(1));
        mount.fs.flush(ino, fh).await.expect_err("the fault is told");
        mount.fs.write(ino, fh, 5, (&b" second"[..]).into(), WriteFlags::default()).await.unwrap();
        close(&mount, ino, fh).await;
        assert_eq!(object(&*store, "f").await.unwrap().1, b"first second");
        assert!(mount.conflict_files().is_empty());
    });
}

#[test]
fn bytes_that_no_conflict_file_can_take_stay_pending() {
    run(async {
        let store: Arc<dyn ObjectStore> = memory();
        let mount = mount(&store, Shape::default());
        let (ino, fh) = create(&mount, Ino::ROOT, "f", b"ours").await;
        put(&*store, "f", b"theirs").await;
        std::fs::remove_dir(mount.conflicts()).unwrap();
        mount.fs.flush(ino, fh).await.expect_err("the conflict is told");
        assert_eq!(mount.fs.pending().len(), 1);
        std::fs::create_dir(mount.conflicts()).unwrap();
        assert_eq!(number(&mount.fs.flush(ino, fh).await), libc::ESTALE);
        assert_eq!(mount.conflict_files(), [b"ours"]);
        mount.fs.release(ino, fh).await.unwrap();
        assert!(mount.fs.pending().is_empty());
    });
}
