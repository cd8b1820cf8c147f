//! Calls to S3 fail, before or after S3 has done them. A failed call is an error of the operation that needed
//! it, never a lost byte: what was written stays pending, and when S3 is back all of it gets there.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use pailfs::fs::types::{Fh, Ino, RenameFlags, SetAttr, WriteFlags};
use pailfs::store::around::Operation;
use pailfs::store::error::ErrorKind;
use pailfs::store::fault::{Fault, Faulty};
use pailfs::store::object_store::ObjectStore;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::harness::{
    CALLER, Mount, Shape, WRITE, cat, config, find, keys, memory, mount, object, pattern, read_all, run,
};
use crate::runner::same_bytes;

const NAMES: [&str; 3] = ["a", "b", "c"];
const OPERATIONS: [Operation; 10] = [
    Operation::PutObject,
    Operation::PutObject,
    Operation::CopyObject,
    Operation::DeleteObject,
    Operation::HeadObject,
    Operation::GetObject,
    Operation::CreateMultipartUpload,
    Operation::UploadPart,
    Operation::CompleteMultipartUpload,
    Operation::AbortMultipartUpload,
];
const KINDS: [ErrorKind; 3] = [ErrorKind::Timeout, ErrorKind::ServerFault, ErrorKind::Unreachable];
/// Tries of a change of names after S3 is back.
const TRIES: usize = 4;

#[derive(Clone, Debug)]
enum Op {
    Inject { operation: usize, kind: usize, after: bool, times: u64 },
    Create { name: usize },
    Open { name: usize },
    Write { handle: usize, offset: usize, len: usize, seed: u32 },
    Resize { handle: usize, size: usize },
    Read { handle: usize },
    Copy { from: usize, to: usize },
    Flush { handle: usize },
    Release { handle: usize, flush: bool },
    Chmod { name: usize, mode: u32 },
    Rename { from: usize, to: usize },
    Unlink { name: usize },
    Clear,
}

fn op() -> impl Strategy<Value = Op> {
    let name = || 0..NAMES.len();
    let handle = || 0usize..4;
    // Above 3,000 bytes a file goes up in parts.
    let offset = || prop_oneof![4 => 0usize..60, 1 => 0usize..5_000];
    prop_oneof![
        6 => (0..OPERATIONS.len(), 0..KINDS.len(), any::<bool>(), 1u64..3)
            .prop_map(|(operation, kind, after, times)| Op::Inject { operation, kind, after, times }),
        4 => name().prop_map(|name| Op::Create { name }),
        3 => name().prop_map(|name| Op::Open { name }),
        8 => (handle(), offset(), 1usize..50, any::<u32>())
            .prop_map(|(handle, offset, len, seed)| Op::Write { handle, offset, len, seed }),
        2 => (handle(), offset()).prop_map(|(handle, size)| Op::Resize { handle, size }),
        2 => handle().prop_map(|handle| Op::Read { handle }),
        1 => (handle(), handle()).prop_map(|(from, to)| Op::Copy { from, to }),
        8 => handle().prop_map(|handle| Op::Flush { handle }),
        3 => (handle(), any::<bool>()).prop_map(|(handle, flush)| Op::Release { handle, flush }),
        1 => (name(), 0u32..0o1000).prop_map(|(name, mode)| Op::Chmod { name, mode }),
        3 => (name(), name()).prop_map(|(from, to)| Op::Rename { from, to }),
        2 => name().prop_map(|name| Op::Unlink { name }),
        2 => Just(Op::Clear),
    ]
}

struct Handle {
    fh: Fh,
    ino: Ino,
    file: usize,
}

#[derive(Default)]
struct File {
    data: Vec<u8>,
    /// Removed or replaced: what a close of it says is nobody's concern.
    gone: bool,
}

struct Game {
    mount: Mount,
    store: Arc<dyn ObjectStore>,
    faults: Arc<Faulty>,
    names: BTreeMap<usize, usize>,
    files: Vec<File>,
    handles: Vec<Handle>,
}

impl Game {
    fn handle(&self, number: usize) -> Option<(Ino, Fh, usize)> {
        let count = self.handles.len();
        (count > 0).then(|| &self.handles[number % count]).map(|h| (h.ino, h.fh, h.file))
    }

    /// The inode of a name. An injected fault may be in the way.
    async fn ino(&self, name: usize) -> Option<Ino> {
        let hits = self.faults.hits();
        match find(&self.mount.fs, NAMES[name]).await {
            Ok(found) => {
                assert_eq!(found.is_some(), self.names.contains_key(&name), "whether {name} exists");
                found
            }
            Err(error) => {
                assert!(self.faults.hits() > hits, "{error:?} without a fault");
                None
            }
        }
    }

    async fn flush(&self, ino: Ino, fh: Fh, file: usize) {
        let hits = self.faults.hits();
        let done = self.mount.fs.flush(ino, fh).await;
        if self.files[file].gone {
            return;
        }
        if let Err(error) = done {
            assert!(self.faults.hits() > hits, "{error:?} without a fault");
            assert!(!self.mount.fs.pending().is_empty(), "what was not committed is pending");
        }
    }

    async fn apply(&mut self, op: &Op) {
        let fs = self.mount.fs.clone();
        match *op {
            Op::Inject { operation, kind, after, times } => {
                let fault = if after { Fault::after } else { Fault::before };
                self.faults.inject(fault(KINDS[kind]).on(OPERATIONS[operation]).times(times));
            }
            Op::Clear => self.faults.clear(),
            Op::Create { name } => {
                let hits = self.faults.hits();
                if self.names.contains_key(&name) || self.ino(name).await.is_some() {
                    return;
                }
                if self.faults.hits() > hits {
                    return;
                }
                let made = fs.create(CALLER, Ino::ROOT, NAMES[name].as_ref(), 0o644, 0, WRITE).await.unwrap();
                let file = self.files.len();
                self.files.push(File::default());
                self.names.insert(name, file);
                self.handles.push(Handle { fh: made.opened.fh, ino: made.entry.attr.unwrap().ino, file });
            }
            Op::Open { name } => {
                let Some(ino) = self.ino(name).await else { return };
                let hits = self.faults.hits();
                match fs.open(CALLER, ino, WRITE).await {
                    Ok(opened) => self.handles.push(Handle { fh: opened.fh, ino, file: self.names[&name] }),
                    Err(error) => assert!(self.faults.hits() > hits, "{error:?} without a fault"),
                }
            }
            Op::Write { handle, offset, len, seed } => {
                let Some((ino, fh, file)) = self.handle(handle) else { return };
                let bytes = pattern(seed, len);
                let data = Bytes::from(bytes.clone());
                let done = fs.write(ino, fh, offset as u64, data, WriteFlags::default()).await;
                if self.files[file].gone && done.is_err() {
                    return;
                }
                done.unwrap();
                let data = &mut self.files[file].data;
                data.resize(data.len().max(offset + len), 0);
                data[offset..offset + len].copy_from_slice(&bytes);
            }
            Op::Resize { handle, size } => {
                let Some((ino, fh, file)) = self.handle(handle) else { return };
                let changes = SetAttr { size: Some(size as u64), fh: Some(fh), ..SetAttr::default() };
                let hits = self.faults.hits();
                match fs.setattr(CALLER, ino, changes).await {
                    Ok(_) => self.files[file].data.resize(size, 0),
                    Err(_) if self.files[file].gone => {}
                    Err(error) => {
                        assert!(self.faults.hits() > hits, "{error:?} without a fault");
                        let now = fs.getattr(ino, Some(fh)).await.unwrap().attr.size;
                        assert!(now == size as u64 || now == self.files[file].data.len() as u64);
                        self.files[file].data.resize(now as usize, 0);
                    }
                }
            }
            Op::Read { handle } => {
                let Some((ino, fh, file)) = self.handle(handle) else { return };
                let hits = self.faults.hits();
                match read_all(&fs, ino, fh).await {
                    Ok(bytes) => same_bytes(&bytes, &self.files[file].data, "a read"),
                    Err(_) if self.files[file].gone => {}
                    Err(error) => assert!(self.faults.hits() > hits, "{error:?} without a fault"),
                }
            }
            Op::Copy { from, to } => {
                let (Some((from, from_fh, source)), Some((to, to_fh, target))) =
                    (self.handle(from), self.handle(to))
                else {
                    return;
                };
                if let Ok(n) = fs.copy_file_range(from, from_fh, 0, to, to_fh, 0, 1 << 40).await
                    && n > 0
                {
                    assert_eq!(n as usize, self.files[source].data.len());
                    self.files[target].data = self.files[source].data.clone();
                }
            }
            Op::Flush { handle } => {
                if let Some((ino, fh, file)) = self.handle(handle) {
                    self.flush(ino, fh, file).await;
                }
            }
            Op::Release { handle, flush } => {
                let Some((ino, fh, file)) = self.handle(handle) else { return };
                if flush {
                    self.flush(ino, fh, file).await;
                }
                fs.release(ino, fh).await.unwrap();
                self.handles.retain(|h| h.fh != fh);
            }
            Op::Chmod { name, mode } => {
                let Some(ino) = self.ino(name).await else { return };
                let hits = self.faults.hits();
                let changes = SetAttr { mode: Some(mode), ..SetAttr::default() };
                if let Err(error) = fs.setattr(CALLER, ino, changes).await {
                    assert!(self.faults.hits() > hits, "{error:?} without a fault");
                }
            }
            Op::Rename { from, to } => self.rename(from, to).await,
            Op::Unlink { name } => self.unlink(name).await,
        }
    }

    async fn rename(&mut self, from: usize, to: usize) {
        if from == to || !self.names.contains_key(&from) {
            return;
        }
        let hits = self.faults.hits();
        for attempt in 0..TRIES {
            let (old, new) = (NAMES[from].as_ref(), NAMES[to].as_ref());
            let flags = RenameFlags::default();
            let done = self.mount.fs.rename(Ino::ROOT, old, Ino::ROOT, new, flags).await;
            let Err(error) = done else { break };
            assert!(self.faults.hits() > hits, "{error:?} without a fault");
            assert!(attempt + 1 < TRIES, "{error:?} again and again");
            self.faults.clear();
            let there = find(&self.mount.fs, NAMES[from]).await.unwrap().is_some();
            let arrived = find(&self.mount.fs, NAMES[to]).await.unwrap().is_some();
            assert!(there || arrived, "a rename lost the file");
            if !there {
                break;
            }
        }
        let moved = self.names.remove(&from).unwrap();
        if let Some(replaced) = self.names.insert(to, moved) {
            self.files[replaced].gone = true;
        }
    }

    async fn unlink(&mut self, name: usize) {
        if !self.names.contains_key(&name) {
            return;
        }
        let hits = self.faults.hits();
        for attempt in 0..TRIES {
            let done = self.mount.fs.unlink(Ino::ROOT, NAMES[name].as_ref()).await;
            let Err(error) = done else { break };
            assert!(self.faults.hits() > hits, "{error:?} without a fault");
            assert!(attempt + 1 < TRIES, "{error:?} again and again");
            self.faults.clear();
            if find(&self.mount.fs, NAMES[name]).await.unwrap().is_none() {
                break;
            }
        }
        let file = self.names.remove(&name).unwrap();
        self.files[file].gone = true;
    }

    async fn finish(&mut self) {
        self.faults.clear();
        for handle in std::mem::take(&mut self.handles) {
            let done = self.mount.fs.flush(handle.ino, handle.fh).await;
            assert!(done.is_ok() || self.files[handle.file].gone, "{done:?} after all faults are gone");
            self.mount.fs.release(handle.ino, handle.fh).await.unwrap();
        }
        let report = self.mount.fs.drain().await;
        let pending = self.mount.fs.pending();
        let wanted = |path: &str| self.names.keys().any(|name| NAMES[*name] == path);
        assert!(report.failed.iter().all(|(path, _)| !wanted(path)), "{report:?}");
        assert!(pending.is_empty(), "{pending:?}");
        assert_eq!(self.mount.staged().await, Vec::<String>::new());
        let there: Vec<_> = self.names.keys().map(|name| NAMES[*name]).collect();
        assert_eq!(keys(&*self.store).await, there);
        let fresh = mount(&self.store, Shape::default());
        for (name, file) in &self.names {
            let expected = &self.files[*file].data;
            same_bytes(&object(&*self.store, NAMES[*name]).await.unwrap().1, expected, "an object");
            same_bytes(&cat(&self.mount.fs, NAMES[*name]).await.unwrap(), expected, "a file");
            same_bytes(&cat(&fresh.fs, NAMES[*name]).await.unwrap(), expected, "a file, mounted again");
        }
    }
}

async fn play(ops: &[Op]) {
    let store: Arc<dyn ObjectStore> = memory();
    let faults = Arc::new(Faulty::new(store.clone()));
    let faulty: Arc<dyn ObjectStore> = faults.clone();
    let shape = Shape { multipart_threshold_bytes: 3_000, ..Shape::default() };
    let mount = mount(&faulty, shape);
    let mut game =
        Game { mount, store, faults, names: BTreeMap::new(), files: Vec::new(), handles: Vec::new() };
    for op in ops {
        game.apply(op).await;
    }
    game.finish().await;
}

proptest! {
    #![proptest_config(config(250, 21))]
    #[test]
    fn failed_calls_lose_nothing(ops in vec(op(), 1..40)) {
        run(play(&ops));
    }
}
