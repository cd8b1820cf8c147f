//! One client alone: every answer is the reference's.

use std::sync::Arc;
use std::time::Duration;

use pailfs::store::object_store::ObjectStore;
use proptest::prelude::*;

use crate::compare::finish;
use crate::harness::{CALLER, DIR_MODE, FILE_MODE, Shape, config, memory, object, put, run};
use crate::operations::{Op, sequence};
use crate::reference::{Kind, Node, ROOT, Tree};
use crate::runner::Runner;

const OWNER: (u32, u32) = (CALLER.uid, CALLER.gid);

/// An empty bucket.
fn empty() -> Tree {
    Tree::new(Node::new(Kind::Dir, ROOT, DIR_MODE, OWNER))
}

/// Objects of another tool: no attributes, no objects for directories.
async fn foreign(store: &Arc<dyn ObjectStore>) -> Tree {
    let mut tree = empty();
    let implied = |parent| Node { own_object: false, ..Node::new(Kind::Dir, parent, DIR_MODE, OWNER) };
    let a = tree.add(ROOT, "a", implied(ROOT));
    let b = tree.add(a, "b", implied(a));
    let files = [(b, "c.txt", "a/b/c.txt", 10), (a, "d", "a/d", 300_000), (ROOT, "c.txt", "c.txt", 0)];
    for (dir, name, key, len) in files {
        let bytes = crate::harness::pattern(len as u32, len);
        put(&**store, key, &bytes).await;
        let modified = object(&**store, key).await.unwrap().0.version.last_modified;
        let node = Node {
            data: bytes,
            mtime: Some(modified),
            foreign: true,
            ..Node::new(Kind::File, dir, FILE_MODE, OWNER)
        };
        tree.add(dir, name, node);
    }
    tree
}

pub async fn play(ops: &[Op], shape: Shape, with_foreign: bool) {
    let store: Arc<dyn ObjectStore> = memory();
    let tree = if with_foreign { foreign(&store).await } else { empty() };
    let mut runner = Runner::new(store, shape, tree);
    for op in ops {
        runner.apply(op).await;
    }
    finish(runner, shape).await;
}

proptest! {
    #![proptest_config(config(150, 1))]
    #[test]
    fn an_empty_bucket(ops in sequence(60)) {
        run(play(&ops, Shape::default(), false));
    }
}

proptest! {
    #![proptest_config(config(150, 2))]
    #[test]
    fn objects_of_another_tool(ops in sequence(60)) {
        run(play(&ops, Shape::default(), true));
    }
}

proptest! {
    #![proptest_config(config(150, 3))]
    #[test]
    fn nothing_is_believed(ops in sequence(60), with_foreign: bool) {
        let shape = Shape { ttl: Duration::ZERO, ..Shape::default() };
        run(play(&ops, shape, with_foreign));
    }
}

proptest! {
    #![proptest_config(config(60, 4))]
    #[test]
    fn a_cache_that_holds_nothing(ops in sequence(60), with_foreign: bool) {
        let shape = Shape { cache_size_bytes: 64 << 10, ..Shape::default() };
        run(play(&ops, shape, with_foreign));
    }
}
