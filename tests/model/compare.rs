//! What is left when everything is closed: in S3, for a mount that starts afresh, and locally.

use std::sync::Arc;

use pailfs::namespace::attributes;
use pailfs::store::object_store::ObjectStore;

use crate::harness::{BUCKET, Shape, keys, object};
use crate::reference::{Kind, Tree};
use crate::runner::{Runner, kind_of, same_bytes};

/// Closes everything and compares S3, a fresh mount and the local directories with the reference.
pub async fn finish(mut runner: Runner, shape: Shape) {
    runner.check().await;
    while !runner.handles.is_empty() {
        runner.release(0, true).await;
    }
    runner.forget();
    let report = runner.mount.fs.drain().await;
    assert!(report.failed.is_empty(), "{report:?}");
    let pending = runner.mount.fs.pending();
    assert!(pending.is_empty(), "pending at the end: {pending:?}");
    assert_eq!(runner.mount.staged().await, Vec::<String>::new(), "the staging directory is empty");
    assert!(runner.mount.conflict_files().is_empty(), "nobody was there to conflict with");
    assert!(runner.store.list_uploads(BUCKET, "").await.unwrap().is_empty(), "no upload is left");
    assert_eq!(runner.mount.counts().await, (1, 0), "inodes and handles that nobody refers to");

    compare_store(&runner.store, &runner.tree).await;
    runner.check().await;
    let Runner { store, tree, .. } = runner;
    let mut fresh = Runner::new(store, shape, tree);
    fresh.check().await;
}

/// The bucket holds exactly the reference's files and directories.
pub async fn compare_store(store: &Arc<dyn ObjectStore>, tree: &Tree) {
    let all = keys(&**store).await;
    let mut left = all.clone();
    for (path, id) in tree.walk().into_iter().skip(1) {
        let node = &tree.nodes[id];
        let key = if node.kind == Kind::Dir { format!("{path}/") } else { path };
        left.retain(|k| *k != key);
        let Some((info, bytes)) = object(&**store, &key).await else {
            let below = all.iter().any(|k| k.starts_with(&key));
            let implied = node.kind == Kind::Dir && !node.own_object && below;
            assert!(implied, "{key} is not in S3");
            continue;
        };
        let attrs = attributes::decode(&info.properties.metadata);
        if node.kind != Kind::Dir {
            same_bytes(&bytes, &node.data, &key);
        }
        if info.properties.metadata.is_empty() {
            // Somebody else's and never changed.
            continue;
        }
        assert_eq!(attrs.kind.map(kind_of), Some(node.kind), "kind of {key}");
        assert_eq!(attrs.mode, Some(node.mode), "mode of {key}");
        assert_eq!((attrs.uid, attrs.gid), (Some(node.uid), Some(node.gid)), "owner of {key}");
        assert_eq!(attrs.xattrs, node.xattrs, "extended attributes of {key}");
        if node.mtime.is_some() {
            assert_eq!(attrs.mtime, node.mtime, "mtime of {key}");
        }
    }
    assert_eq!(left, Vec::<String>::new(), "keys that nobody made");
}
