//! Many tasks at once on many threads: nothing deadlocks, every write is somewhere, readers see whole versions
//! of what this mount wrote, and in the end S3 has what was last written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use libc::{ENOENT, ESTALE};
use pailfs::fs::types::{Ino, OpenFlags, RenameFlags, SetAttr, WriteFlags};
use pailfs::namespace::attributes;
use pailfs::store::object_store::ObjectStore;
use tokio::task::JoinSet;

use crate::harness::{
    CALLER, Mount, READ, Shape, WRITE, cat, find, keys, memory, mount, number, object, read_all, run_parallel,
};

const ROUNDS: usize = 60;

/// A number that is different for every task and the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

async fn settled(mount: &Mount) {
    let report = mount.fs.drain().await;
    assert!(report.failed.is_empty(), "{report:?}");
    assert!(mount.fs.pending().is_empty(), "{:?}", mount.fs.pending());
    assert_eq!(mount.staged().await, Vec::<String>::new());
    assert!(mount.conflict_files().is_empty(), "nobody else was there");
}

async fn all(mut tasks: JoinSet<()>) {
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

/// Each task writes slots of its own in files that all have open, at the same time as others flush, read and
/// close them: every slot that was written is in S3.
#[test]
fn writers_of_the_same_files() {
    const TASKS: usize = 8;
    const FILES: usize = 3;
    const SLOT: usize = 64;
    run_parallel(async {
        let store: Arc<dyn ObjectStore> = memory();
        let mount = Arc::new(mount(&store, Shape::default()));
        for file in 0..FILES {
            let name = format!("f{file}");
            let made = mount.fs.create(CALLER, Ino::ROOT, name.as_ref(), 0o644, 0, WRITE).await.unwrap();
            let ino = made.entry.attr.unwrap().ino;
            mount.fs.flush(ino, made.opened.fh).await.unwrap();
            mount.fs.release(ino, made.opened.fh).await.unwrap();
        }
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let mount = mount.clone();
            tasks.spawn(async move {
                let mut dice = Dice(task as u64);
                let mut last = [0u8; FILES];
                for round in 1..=ROUNDS {
                    let file = dice.roll(FILES as u64) as usize;
                    let ino = find(&mount.fs, &format!("f{file}")).await.unwrap().unwrap();
                    let fh = mount.fs.open(CALLER, ino, WRITE).await.unwrap().fh;
                    let data = Bytes::from(vec![round as u8; SLOT]);
                    let at = (task * SLOT) as u64;
                    mount.fs.write(ino, fh, at, data, WriteFlags::default()).await.unwrap();
                    last[file] = round as u8;
                    if dice.roll(3) == 0 {
                        mount.fs.fsync(ino, fh, false).await.unwrap();
                    }
                    let mine = mount.fs.read(ino, fh, at, SLOT as u32).await.unwrap();
                    assert_eq!(mine, vec![round as u8; SLOT], "task {task} reads what it wrote");
                    mount.fs.flush(ino, fh).await.unwrap();
                    mount.fs.release(ino, fh).await.unwrap();
                    mount.fs.forget(ino, 1);
                }
                for (file, last) in last.iter().enumerate().filter(|(_, last)| **last > 0) {
                    let bytes = cat(&mount.fs, &format!("f{file}")).await.unwrap();
                    assert_eq!(bytes[task * SLOT..][..SLOT], [*last; SLOT], "what task {task} wrote last");
                }
            });
        }
        all(tasks).await;
        settled(&mount).await;
        for file in 0..FILES {
            let name = format!("f{file}");
            let (info, bytes) = object(&*store, &name).await.unwrap();
            assert_eq!(bytes, cat(&mount.fs, &name).await.unwrap());
            let attr = mount.fs.lookup(Ino::ROOT, name.as_ref()).await.unwrap().attr.unwrap();
            let stored = attributes::decode(&info.properties.metadata);
            assert_eq!(stored.mtime, Some(attr.mtime), "the time of the last write");
        }
    });
}

/// Readers of a large file that a writer changes again and again never see an error: the version they read
/// from is replaced by this mount alone.
#[test]
fn readers_beside_a_writer() {
    const SIZE: usize = 600_000;
    run_parallel(async {
        let store: Arc<dyn ObjectStore> = memory();
        crate::harness::put(&*store, "f", &vec![1; SIZE]).await;
        // Nothing stays cached, so that readers have to ask S3.
        let shape = Shape { cache_size_bytes: 0, ..Shape::default() };
        let mount = Arc::new(mount(&store, shape));
        let ino = find(&mount.fs, "f").await.unwrap().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for task in 0..4u64 {
            let (mount, over) = (mount.clone(), over.clone());
            tasks.spawn(async move {
                let mut dice = Dice(task);
                let fh = mount.fs.open(CALLER, ino, READ).await.unwrap().fh;
                while !over.load(Ordering::Relaxed) {
                    let at = dice.roll(SIZE as u64 - 1_000);
                    let bytes = mount.fs.read(ino, fh, at, 1_000).await.expect("a read");
                    assert!(bytes.iter().all(|b| *b != 0), "bytes of nowhere");
                    tokio::task::yield_now().await;
                }
                mount.fs.release(ino, fh).await.unwrap();
            });
        }
        let mut dice = Dice(99);
        let fh = mount.fs.open(CALLER, ino, WRITE).await.unwrap().fh;
        for round in 0..ROUNDS {
            let data = Bytes::from(vec![round as u8 + 2; 5_000]);
            let at = dice.roll(SIZE as u64 - 5_000);
            mount.fs.write(ino, fh, at, data, WriteFlags::default()).await.unwrap();
            mount.fs.flush(ino, fh).await.unwrap();
            if round % 10 == 9 {
                let changes = SetAttr { mode: Some(0o600 + round as u32 % 8), ..SetAttr::default() };
                mount.fs.setattr(CALLER, ino, changes).await.unwrap();
                mount.fs.fsync(ino, fh, false).await.unwrap();
            }
            tokio::task::yield_now().await;
        }
        over.store(true, Ordering::Relaxed);
        all(tasks).await;
        mount.fs.release(ino, fh).await.unwrap();
        settled(&mount).await;
    });
}

/// A file is renamed to and fro, and so is the directory it is in, while others read and write it.
#[test]
fn readers_beside_renames() {
    const SIZE: usize = 300_000;
    run_parallel(async {
        let store: Arc<dyn ObjectStore> = memory();
        crate::harness::put(&*store, "d/f0", &vec![1; SIZE]).await;
        let shape = Shape { cache_size_bytes: 0, ..Shape::default() };
        let mount = Arc::new(mount(&store, shape));
        let mut dir = find(&mount.fs, "d").await.unwrap().unwrap();
        let ino = find(&mount.fs, "d/f0").await.unwrap().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for task in 0..4u64 {
            let (mount, over) = (mount.clone(), over.clone());
            tasks.spawn(async move {
                let mut dice = Dice(task);
                let fh = mount.fs.open(CALLER, ino, WRITE).await.unwrap().fh;
                while !over.load(Ordering::Relaxed) {
                    let at = dice.roll(SIZE as u64 - 1_000);
                    let bytes = mount.fs.read(ino, fh, at, 1_000).await.expect("a read");
                    assert!(bytes.iter().all(|b| *b != 0), "bytes of nowhere");
                    tokio::task::yield_now().await;
                    if dice.roll(10) == 0 {
                        let data = Bytes::from(vec![2; 10]);
                        mount.fs.write(ino, fh, at, data, WriteFlags::default()).await.unwrap();
                        mount.fs.flush(ino, fh).await.expect("a flush");
                    }
                }
                mount.fs.flush(ino, fh).await.expect("a flush");
                mount.fs.release(ino, fh).await.unwrap();
            });
        }
        let flags = RenameFlags::default();
        for round in 0..ROUNDS {
            let names = [format!("f{}", round % 2), format!("f{}", (round + 1) % 2)];
            let (old, new) = (names[0].as_ref(), names[1].as_ref());
            mount.fs.rename(dir, old, dir, new, flags).await.expect("a rename");
            if round % 5 == 4 {
                let names = [["d", "e"], ["e", "d"]][round / 5 % 2];
                let (old, new) = (names[0].as_ref(), names[1].as_ref());
                mount.fs.rename(Ino::ROOT, old, Ino::ROOT, new, flags).await.expect("a rename");
                dir = mount.fs.lookup(Ino::ROOT, new).await.unwrap().attr.unwrap().ino;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        over.store(true, Ordering::Relaxed);
        all(tasks).await;
        settled(&mount).await;
    });
}

/// Everything at once on a few names; answers are checked for sense, the end for agreement.
#[test]
fn a_crowd() {
    const TASKS: u64 = 12;
    const NAMES: [&str; 6] = ["a", "b", "c", "d/a", "d/b", "e/a"];
    run_parallel(async {
        let store: Arc<dyn ObjectStore> = memory();
        let mount = Arc::new(mount(&store, Shape::default()));
        for dir in ["d", "e"] {
            mount.fs.mkdir(CALLER, Ino::ROOT, dir.as_ref(), 0o755, 0).await.unwrap();
        }
        let writes = Arc::new(AtomicU64::new(0));
        // The kernel holds a lock on a directory over a change of names in it.
        let kernel = Arc::new(tokio::sync::Mutex::new(()));
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let (mount, writes, kernel) = (mount.clone(), writes.clone(), kernel.clone());
            tasks.spawn(async move {
                let mut dice = Dice(task);
                for _ in 0..ROUNDS {
                    let name = NAMES[dice.roll(NAMES.len() as u64) as usize];
                    let other = NAMES[dice.roll(NAMES.len() as u64) as usize];
                    match dice.roll(8) {
                        0..3 => edit(&mount, &kernel, name, &mut dice, &writes).await,
                        3 => {
                            let (dir, last) = place(&mount, name).await;
                            let _lock = kernel.lock().await;
                            let done = mount.fs.unlink(dir, last.as_ref()).await;
                            assert!([0, ENOENT].contains(&number(&done)), "{done:?}");
                        }
                        4 => {
                            let (from, to) = (place(&mount, name).await, place(&mount, other).await);
                            let _lock = kernel.lock().await;
                            let flags = RenameFlags::default();
                            let done = mount.fs.rename(from.0, from.1.as_ref(), to.0, to.1.as_ref(), flags);
                            let done = done.await;
                            assert!([0, ENOENT].contains(&number(&done)), "{done:?}");
                        }
                        5 => {
                            let fh = mount.fs.opendir(Ino::ROOT).await.unwrap().fh;
                            mount.fs.readdirplus(Ino::ROOT, fh, 0).await.unwrap();
                            mount.fs.releasedir(Ino::ROOT, fh).await.unwrap();
                        }
                        6 => {
                            if let Some(ino) = find(&mount.fs, name).await.unwrap() {
                                let mode = Some(0o600 + dice.roll(8) as u32);
                                let changes = SetAttr { mode, ..SetAttr::default() };
                                let done = mount.fs.setattr(CALLER, ino, changes).await;
                                assert!([0, ENOENT].contains(&number(&done.map(|_| ()))));
                            }
                        }
                        _ => {
                            let report = mount.fs.drain().await;
                            assert!(report.failed.is_empty(), "{report:?}");
                        }
                    }
                }
            });
        }
        all(tasks).await;
        assert!(writes.load(Ordering::Relaxed) > 0);
        settled(&mount).await;
        for name in NAMES {
            match find(&mount.fs, name).await.unwrap() {
                Some(_) => {
                    let (_, bytes) = object(&*store, name).await.unwrap();
                    assert_eq!(bytes, cat(&mount.fs, name).await.unwrap());
                }
                None => assert!(!keys(&*store).await.contains(&name.to_owned())),
            }
        }
    });
}

/// The directory and the last part of a path. The directories stay.
async fn place<'a>(mount: &Mount, path: &'a str) -> (Ino, &'a str) {
    match path.split_once('/') {
        Some((dir, last)) => (find(&mount.fs, dir).await.unwrap().unwrap(), last),
        None => (Ino::ROOT, path),
    }
}

/// Creates or opens, writes, reads back, closes.
async fn edit(
    mount: &Mount,
    kernel: &tokio::sync::Mutex<()>,
    name: &str,
    dice: &mut Dice,
    writes: &AtomicU64,
) {
    let (dir, last) = place(mount, name).await;
    let (ino, fh) = {
        let _lock = kernel.lock().await;
        match find(&mount.fs, name).await.unwrap() {
            Some(ino) => {
                let flags = OpenFlags { truncate: dice.roll(3) == 0, ..WRITE };
                match mount.fs.open(CALLER, ino, flags).await {
                    Ok(opened) => (ino, opened.fh),
                    Err(e) => {
                        assert!([ENOENT, ESTALE].contains(&number::<()>(&Err(e.clone()))), "{e:?}");
                        return;
                    }
                }
            }
            None => {
                let made = mount.fs.create(CALLER, dir, last.as_ref(), 0o644, 0, WRITE).await.unwrap();
                (made.entry.attr.unwrap().ino, made.opened.fh)
            }
        }
    };
    let data = Bytes::from(vec![dice.roll(255) as u8 + 1; 100]);
    mount.fs.write(ino, fh, dice.roll(400), data, WriteFlags::default()).await.unwrap();
    writes.fetch_add(1, Ordering::Relaxed);
    read_all(&mount.fs, ino, fh).await.expect("a read");
    mount.fs.flush(ino, fh).await.expect("a flush");
    mount.fs.release(ino, fh).await.unwrap();
}
