//! Another client changes the bucket between operations: nobody's bytes are mixed or overwritten in silence,
//! and who loses is told and keeps its bytes.
//!
//! Every version of an object that the other client puts is one word again and again, and so is every write
//! through the mount. A file may hold words of one version of the other client's at most.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libc::{EEXIST, ENOENT, ESTALE};
use pailfs::fs::types::{Fh, Ino, OpenFlags, RenameFlags, SetAttr, WriteFlags};
use pailfs::store::object_store::ObjectStore;
use pailfs::store::types::Condition;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::harness::{
    CALLER, Mount, Shape, WRITE, config, find, keys, mount, number, object, path, put, read_all, run,
};

const NAMES: [&str; 3] = ["a", "b", "c"];
const WORD: usize = 8;
/// Set in words of the other client.
const THEIRS: u64 = 1 << 63;

#[derive(Clone, Debug)]
enum Op {
    Put { name: usize, words: usize },
    Delete { name: usize },
    Create { name: usize },
    Open { name: usize, write: bool, truncate: bool },
    Read { handle: usize },
    Write { handle: usize, at: usize, words: usize },
    Resize { handle: usize, words: usize },
    Flush { handle: usize },
    Release { handle: usize },
    Unlink { name: usize },
    Rename { from: usize, to: usize },
    Chmod { name: usize },
    Copy { from: usize, to: usize },
    Look { name: usize },
    List,
}

fn op() -> impl Strategy<Value = Op> {
    let name = || 0..NAMES.len();
    let handle = || 0usize..4;
    let words = || prop_oneof![4 => 0usize..12, 1 => 0usize..40_000];
    prop_oneof![
        // Never empty: what is put has an ETag of its own.
        4 => (name(), words()).prop_map(|(name, words)| Op::Put { name, words: words.max(1) }),
        1 => name().prop_map(|name| Op::Delete { name }),
        3 => name().prop_map(|name| Op::Create { name }),
        4 => (name(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(name, write, truncate)| Op::Open { name, write, truncate }),
        4 => handle().prop_map(|handle| Op::Read { handle }),
        6 => (handle(), 0usize..12, 1usize..8).prop_map(|(handle, at, words)| Op::Write { handle, at, words }),
        1 => (handle(), words()).prop_map(|(handle, words)| Op::Resize { handle, words }),
        4 => handle().prop_map(|handle| Op::Flush { handle }),
        3 => handle().prop_map(|handle| Op::Release { handle }),
        1 => name().prop_map(|name| Op::Unlink { name }),
        2 => (name(), name()).prop_map(|(from, to)| Op::Rename { from, to }),
        1 => name().prop_map(|name| Op::Chmod { name }),
        1 => (handle(), handle()).prop_map(|(from, to)| Op::Copy { from, to }),
        2 => name().prop_map(|name| Op::Look { name }),
        1 => Just(Op::List),
    ]
}

struct Handle {
    fh: Fh,
    ino: Ino,
    write: bool,
}

/// What happened to the file behind an inode.
#[derive(Default)]
struct File {
    /// Where its name leads in S3, as long as the mount says so.
    name: Option<usize>,
    /// The ETag it is based on; `None` is a file that is not in S3.
    base: Option<String>,
    /// Words written since then.
    words: BTreeSet<u64>,
    /// It failed: its bytes are in a conflict file.
    failed: bool,
    /// Removed through the mount: nobody wants its bytes.
    removed: bool,
    /// Made of another file that may be gone before it is committed.
    copied: bool,
    /// It was renamed: what the mount knew of the new name may have been wrong by then.
    unsure: bool,
}

struct Game {
    mount: Mount,
    store: Arc<dyn ObjectStore>,
    handles: Vec<Handle>,
    files: BTreeMap<Ino, File>,
    next: u64,
    /// Nothing that was learnt is believed.
    doubts: bool,
}

fn words_of(bytes: &[u8]) -> BTreeSet<u64> {
    let full = bytes.chunks_exact(WORD).map(|w| u64::from_le_bytes(w.try_into().unwrap()));
    full.filter(|w| *w != 0).collect()
}

fn unmixed(bytes: &[u8], what: &str) {
    let theirs: Vec<_> = words_of(bytes).into_iter().filter(|w| w & THEIRS != 0).collect();
    assert!(theirs.len() <= 1, "{what} holds bytes of {} versions", theirs.len());
}

impl Game {
    fn bytes(&mut self, theirs: bool, words: usize) -> (u64, Vec<u8>) {
        self.next += 1;
        let word = self.next | if theirs { THEIRS } else { 0 };
        (word, word.to_le_bytes().repeat(words))
    }

    async fn etag(&self, name: usize) -> Option<String> {
        let info = self.store.head(&path(NAMES[name])).await.ok()?;
        Some(info.version.etag.0.to_string())
    }

    fn handle(&self, number: usize) -> Option<(Ino, Fh, bool)> {
        let count = self.handles.len();
        (count > 0).then(|| &self.handles[number % count]).map(|h| (h.ino, h.fh, h.write))
    }

    /// Whether somebody else changed what the file is based on.
    async fn lost(&self, ino: Ino) -> bool {
        let file = &self.files[&ino];
        match file.name {
            Some(name) => self.etag(name).await != file.base,
            None => !file.removed,
        }
    }

    async fn open(&mut self, name: usize, flags: OpenFlags) {
        let Ok(Some(ino)) = find(&self.mount.fs, NAMES[name]).await else { return };
        match self.mount.fs.open(CALLER, ino, flags).await {
            Ok(opened) => {
                self.handles.push(Handle { fh: opened.fh, ino, write: flags.write });
                if !self.files.contains_key(&ino) {
                    let base = self.etag(name).await;
                    // What is believed may be older than what is there.
                    let unsure = !self.doubts;
                    self.files.insert(ino, File { name: Some(name), base, unsure, ..File::default() });
                }
                if flags.truncate {
                    self.files.get_mut(&ino).unwrap().words = BTreeSet::from([0]);
                }
            }
            Err(e) => assert!([ESTALE, ENOENT].contains(&number::<()>(&Err(e)))),
        }
    }

    /// A close or a release: the loser is told.
    async fn flush(&mut self, ino: Ino, fh: Fh) {
        let lost = self.lost(ino).await;
        let before = self.state().await;
        let done = self.mount.fs.flush(ino, fh).await;
        let after = self.state().await;
        let name = self.files[&ino].name;
        let file = &self.files[&ino];
        let dirty = !file.words.is_empty();
        if file.failed {
            assert_eq!(number(&done), ESTALE, "a failed file stays failed");
            assert_eq!(before, after);
        } else if file.unsure {
            assert!([0, ESTALE].contains(&number(&done)), "{done:?}");
            self.files.get_mut(&ino).unwrap().failed = done.is_err() && dirty;
        } else if lost && dirty {
            assert_eq!(number(&done), ESTALE, "the loser is told");
            assert_eq!(before, after, "the other's object is as it was");
            // The time of an empty file that was truncated is all there was to write.
            let bytes = file.words.iter().any(|w| *w != 0);
            let kept = !self.mount.conflict_files().is_empty();
            assert!(kept || !bytes, "its bytes are kept: {done:?}");
            let all: BTreeSet<u64> =
                self.mount.conflict_files().iter().flat_map(|bytes| words_of(bytes)).collect();
            for word in file.words.iter().filter(|w| **w != 0) {
                assert!(all.contains(word), "a write is missing in the conflict files");
            }
            self.files.get_mut(&ino).unwrap().failed = true;
        } else if file.copied && done.is_err() {
            // The source changed before the copy was made.
            assert_eq!(number(&done), ESTALE);
            self.files.get_mut(&ino).unwrap().failed = true;
        } else if !lost {
            assert_eq!(number(&done), 0, "{done:?}");
            if let Some(name) = name {
                let base = self.etag(name).await;
                let file = self.files.get_mut(&ino).unwrap();
                file.base = base;
                file.words.clear();
                file.copied = false;
            }
        } else {
            // Nothing but attributes, if anything.
            assert!([0, ESTALE].contains(&number(&done)), "{done:?}");
            assert_eq!(before, after);
        }
    }

    /// ETags of everything there is.
    async fn state(&self) -> Vec<Option<String>> {
        let mut all = Vec::new();
        for name in 0..NAMES.len() {
            all.push(self.etag(name).await);
        }
        all
    }

    async fn apply(&mut self, op: &Op) {
        match *op {
            Op::Put { name, words } => {
                let (_, bytes) = self.bytes(true, words);
                put(&*self.store, NAMES[name], &bytes).await;
            }
            Op::Delete { name } => {
                self.store.delete(&path(NAMES[name]), Condition::None).await.unwrap();
            }
            Op::Create { name } => {
                if let Ok(None) = find(&self.mount.fs, NAMES[name]).await {
                    let made =
                        self.mount.fs.create(CALLER, Ino::ROOT, NAMES[name].as_ref(), 0o644, 0, WRITE).await;
                    let made = made.unwrap();
                    let ino = made.entry.attr.unwrap().ino;
                    self.handles.push(Handle { fh: made.opened.fh, ino, write: true });
                    let words = BTreeSet::from([0]);
                    self.files.insert(ino, File { name: Some(name), words, ..File::default() });
                }
            }
            Op::Open { name, write, truncate } => {
                let flags = OpenFlags { read: true, write, truncate: truncate && write, ..WRITE };
                self.open(name, flags).await;
            }
            Op::Read { handle } => {
                if let Some((ino, fh, _)) = self.handle(handle) {
                    match read_all(&self.mount.fs, ino, fh).await {
                        Ok(bytes) => unmixed(&bytes, "a read"),
                        Err(e) => assert_eq!(number::<()>(&Err(e)), ESTALE),
                    }
                }
            }
            Op::Write { handle, at, words } => {
                if let Some((ino, fh, true)) = self.handle(handle) {
                    let (word, bytes) = self.bytes(false, words);
                    let at = (at * WORD) as u64;
                    let data = Bytes::from(bytes);
                    let done = self.mount.fs.write(ino, fh, at, data, WriteFlags::default()).await;
                    match done {
                        Ok(_) => {
                            // A word that is written over is not missed.
                            let file = self.files.get_mut(&ino).unwrap();
                            file.words = BTreeSet::from([word]);
                        }
                        Err(e) => assert_eq!(number::<()>(&Err(e)), ESTALE),
                    }
                }
            }
            Op::Resize { handle, words } => {
                if let Some((ino, fh, true)) = self.handle(handle) {
                    let size = Some((words * WORD) as u64);
                    let changes = SetAttr { size, fh: Some(fh), ..SetAttr::default() };
                    match self.mount.fs.setattr(CALLER, ino, changes).await {
                        Ok(_) => self.files.get_mut(&ino).unwrap().words = BTreeSet::from([0]),
                        Err(e) => assert!([ESTALE, ENOENT].contains(&number::<()>(&Err(e)))),
                    }
                }
            }
            Op::Flush { handle } => {
                if let Some((ino, fh, true)) = self.handle(handle) {
                    self.flush(ino, fh).await;
                }
            }
            Op::Release { handle } => {
                if let Some((ino, fh, write)) = self.handle(handle) {
                    if write {
                        self.flush(ino, fh).await;
                    }
                    self.mount.fs.release(ino, fh).await.unwrap();
                    self.handles.retain(|h| h.fh != fh);
                    if self.handles.iter().all(|h| h.ino != ino) {
                        self.files.remove(&ino);
                    }
                }
            }
            Op::Unlink { name } => {
                let _ = find(&self.mount.fs, NAMES[name]).await;
                let done = self.mount.fs.unlink(Ino::ROOT, NAMES[name].as_ref()).await;
                assert!([0, ENOENT, ESTALE].contains(&number(&done)), "{done:?}");
                if done.is_ok() {
                    self.leaves(name);
                }
            }
            Op::Rename { from, to } => {
                let found = find(&self.mount.fs, NAMES[from]).await;
                let _ = find(&self.mount.fs, NAMES[to]).await;
                let (old, new) = (NAMES[from].as_ref(), NAMES[to].as_ref());
                let done = self.mount.fs.rename(Ino::ROOT, old, Ino::ROOT, new, RenameFlags::default()).await;
                assert!([0, ENOENT, ESTALE, EEXIST].contains(&number(&done)), "{done:?}");
                // A rename that fails may have committed the file before.
                if let Ok(Some(ino)) = &found
                    && let Some(file) = self.files.get_mut(ino)
                {
                    file.unsure = true;
                }
                if done.is_ok() && from != to {
                    self.leaves(to);
                    let base = self.etag(to).await;
                    if let Some(file) = found.ok().flatten().and_then(|ino| self.files.get_mut(&ino)) {
                        file.name = Some(to);
                        file.base = base;
                        // What was believed of the new name may be wrong.
                        file.unsure = true;
                    }
                }
            }
            Op::Chmod { name } => {
                if let Ok(Some(ino)) = find(&self.mount.fs, NAMES[name]).await
                    && !self.files.contains_key(&ino)
                {
                    let changes = SetAttr { mode: Some(0o600), ..SetAttr::default() };
                    let done = self.mount.fs.setattr(CALLER, ino, changes).await;
                    assert!([0, ENOENT, ESTALE].contains(&number(&done.map(|_| ()))));
                    // A change of attributes that is not in S3 yet holds on to its version.
                    let done = self.mount.fs.fsyncdir(Ino::ROOT, Fh(0)).await;
                    assert!([0, ESTALE].contains(&number(&done)), "{done:?}");
                }
            }
            Op::Copy { from, to } => {
                if let (Some((from, from_fh, _)), Some((to, to_fh, true))) =
                    (self.handle(from), self.handle(to))
                {
                    let copied =
                        self.mount.fs.copy_file_range(from, from_fh, 0, to, to_fh, 0, u64::MAX).await;
                    if copied.is_ok_and(|n| n > 0) {
                        let file = self.files.get_mut(&to).unwrap();
                        file.copied = true;
                        file.words.insert(0);
                    }
                }
            }
            Op::Look { name } => {
                let _ = find(&self.mount.fs, NAMES[name]).await;
            }
            Op::List => {
                let fh = self.mount.fs.opendir(Ino::ROOT).await.unwrap().fh;
                let found = self.mount.fs.readdirplus(Ino::ROOT, fh, 0).await.unwrap();
                self.mount.fs.releasedir(Ino::ROOT, fh).await.unwrap();
                let names: BTreeSet<_> =
                    found.iter().map(|e| e.entry.name.to_str().unwrap().to_owned()).collect();
                for key in keys(&*self.store).await.into_iter().filter(|_| self.doubts) {
                    assert!(names.contains(&key), "{key} is in S3 and not listed");
                }
            }
        }
        for key in keys(&*self.store).await {
            let (_, bytes) = object(&*self.store, &key).await.unwrap();
            unmixed(&bytes, "an object");
        }
    }

    /// The mount removed or replaced the name.
    fn leaves(&mut self, name: usize) {
        for file in self.files.values_mut().filter(|f| f.name == Some(name)) {
            file.name = None;
            file.removed = true;
            // Or it was lost before, and that is what a close says.
            file.unsure = true;
        }
    }
}

async fn play(ops: &[Op], ttl: Duration) {
    let store: Arc<dyn ObjectStore> = crate::harness::memory();
    let mount = mount(&store, Shape { ttl, ..Shape::default() });
    let mut game =
        Game { mount, store, handles: Vec::new(), files: BTreeMap::new(), next: 0, doubts: ttl.is_zero() };
    for op in ops {
        game.apply(op).await;
    }
    while !game.handles.is_empty() {
        game.apply(&Op::Release { handle: 0 }).await;
    }
    game.mount.fs.drain().await;
    let pending = game.mount.fs.pending();
    assert!(pending.is_empty(), "{pending:?}");
    assert_eq!(game.mount.staged().await, Vec::<String>::new());
}

proptest! {
    #![proptest_config(config(200, 11))]
    #[test]
    fn nothing_is_mixed_or_lost(ops in vec(op(), 1..40)) {
        run(play(&ops, Duration::ZERO));
    }
}

proptest! {
    #![proptest_config(config(100, 12))]
    #[test]
    fn also_when_names_are_believed(ops in vec(op(), 1..40)) {
        run(play(&ops, Duration::from_secs(60)));
    }
}
