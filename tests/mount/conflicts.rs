//! Two writers of one object: one wins, the other is told and its bytes are kept.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;

use crate::support::{World, bytes, create};

/// Files below a directory called `conflicts` in the cache directory that hold exactly `data`.
fn kept(cache: &Path, data: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![cache.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap().map(|e| e.unwrap()) {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.components().any(|c| c.as_os_str() == "conflicts")
                && fs::read(&path).is_ok_and(|bytes| bytes == data)
            {
                found.push(path);
            }
        }
    }
    found
}

/// fsync, then close; the first error.
fn finish(file: File) -> std::io::Result<()> {
    file.sync_all()
}

#[test]
fn two_mounts_create_one_name() {
    let world = World::new();
    let (a, b) = (world.mount(&[]), world.mount(&[]));
    for round in 0..8 {
        let name = format!("new{round}");
        let data = [bytes(round + 1, 5000), bytes(round + 100, 7000)];
        let barrier = Barrier::new(2);
        let results: Vec<std::io::Result<()>> = thread::scope(|scope| {
            let workers: Vec<_> = [&a, &b]
                .into_iter()
                .zip(&data)
                .map(|(mount, data)| {
                    let (name, barrier) = (&name, &barrier);
                    scope.spawn(move || {
                        let mut file = create(mount.path(name));
                        file.write_all(data).unwrap();
                        barrier.wait();
                        finish(file)
                    })
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect()
        });
        let winners: Vec<usize> = (0..2).filter(|i| results[*i].is_ok()).collect();
        assert_eq!(winners.len(), 1, "round {round}: {results:?}");
        let loser = 1 - winners[0];
        let error = results[loser].as_ref().unwrap_err().raw_os_error();
        assert!(matches!(error, Some(libc::ESTALE | libc::EEXIST)), "round {round}: {results:?}");
        assert!(world.bucket().get(&name) == data[winners[0]], "round {round}: S3 has the winner's bytes");
        let cache = [&a, &b][loser].cache();
        assert_eq!(kept(cache, &data[loser]).len(), 1, "round {round}: the loser's bytes are kept once");
    }
}

#[test]
fn an_edit_on_an_old_version_does_not_overwrite_the_new_one() {
    let world = World::new();
    world.bucket().put("file", "first");
    let mount = world.mount(&["--ttl", "1h"]);
    assert_eq!(fs::read(mount.path("file")).unwrap(), b"first");
    let mut file = OpenOptions::new().append(true).open(mount.path("file")).unwrap();
    file.write_all(b" and mine").unwrap();
    world.bucket().put("file", "theirs");
    assert_eq!(finish(file).unwrap_err().raw_os_error(), Some(libc::ESTALE));
    assert_eq!(world.bucket().get("file"), b"theirs");
    assert_eq!(kept(mount.cache(), b"first and mine").len(), 1);
    // The mount goes on with what is there now.
    let other = world.mount(&[]);
    assert_eq!(fs::read(other.path("file")).unwrap(), b"theirs");
    OpenOptions::new().append(true).open(other.path("file")).unwrap().write_all(b"!").unwrap();
    assert_eq!(world.bucket().get("file"), b"theirs!");
}

/// The version it was based on is gone and was never read: what was written is kept, with a hole before it.
#[test]
fn an_edit_on_bytes_that_are_gone_is_kept_as_far_as_it_is_known() {
    let world = World::new();
    // A small file is fetched when it is opened for editing; of a large one only what was edited is here.
    world.bucket().put("file", vec![b'x'; 2 << 20]);
    let mount = world.mount(&["--ttl", "1h"]);
    let mut file = OpenOptions::new().append(true).open(mount.path("file")).unwrap();
    file.write_all(b" and mine").unwrap();
    world.bucket().put("file", "theirs");
    assert_eq!(finish(file).unwrap_err().raw_os_error(), Some(libc::ESTALE));
    assert_eq!(world.bucket().get("file"), b"theirs");
    let mut expected = vec![0; 2 << 20];
    expected.extend_from_slice(b" and mine");
    assert_eq!(kept(mount.cache(), &expected).len(), 1);
}

#[test]
fn the_close_says_it_too() {
    let world = World::new();
    world.bucket().put("file", "first");
    let mount = world.mount(&["--ttl", "1h"]);
    let mut file = OpenOptions::new().write(true).truncate(true).open(mount.path("file")).unwrap();
    file.write_all(b"mine").unwrap();
    world.bucket().put("file", "theirs");
    assert_eq!(close(file), Some(libc::ESTALE));
    assert_eq!(world.bucket().get("file"), b"theirs");
    assert_eq!(kept(mount.cache(), b"mine").len(), 1);
}

/// close(2) with its answer, which the standard library drops.
fn close(file: File) -> Option<i32> {
    use std::os::fd::IntoRawFd;
    // SAFETY: the descriptor is ours alone and is closed once.
    let result = unsafe { libc::close(file.into_raw_fd()) };
    if result == 0 { None } else { std::io::Error::last_os_error().raw_os_error() }
}

#[test]
fn overwriting_can_be_chosen() {
    let world = World::new();
    world.bucket().put("file", "first");
    let mount = world.mount(&["--ttl", "1h", "--on-conflict", "overwrite"]);
    let mut file = OpenOptions::new().write(true).truncate(true).open(mount.path("file")).unwrap();
    file.write_all(b"mine").unwrap();
    world.bucket().put("file", "theirs");
    finish(file).unwrap();
    assert_eq!(world.bucket().get("file"), b"mine");
}

/// unlink(2) names no version: the kernel answers the first refusal with a fresh look and asks again. So the
/// newer version goes, but knowingly: the delete that was based on the old one was refused.
#[test]
fn a_delete_is_based_on_what_is_there() {
    let world = World::new();
    world.bucket().put("file", "first");
    let mount = world.mount(&["--ttl", "1h"]);
    assert_eq!(fs::read(mount.path("file")).unwrap(), b"first");
    world.bucket().put("file", "theirs");
    let counted = world.count(|| {
        // Refused for good would be right as well.
        let _ = fs::remove_file(mount.path("file"));
    });
    let looked = counted.count("HeadObject") + counted.count("ListObjectsV2");
    assert!(looked > 0, "deleted without a look at the newer version: {:?}", counted.operations);
    assert_eq!(world.bucket().exists("file"), mount.path("file").exists());
}
