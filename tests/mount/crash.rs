//! kill -9 at any moment: S3 holds the old object or the new one, whole, and the next daemon goes on.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Mount, World, bytes, is_mounted};

/// A moment within `longest`, another one each time, the same ones in every run.
fn moment(round: u64, longest: Duration) -> Duration {
    let random = bytes(round.wrapping_mul(7919), 8);
    let fraction = f64::from(u32::from_le_bytes(random[..4].try_into().unwrap())) / f64::from(u32::MAX);
    longest.mul_f64(fraction)
}

/// Runs `change` in a thread and kills the daemon at a moment of it. Whether the change succeeded first.
fn kill_during(mount: Mount, after: Duration, change: impl FnOnce() -> bool + Send + 'static) -> bool {
    let worker = thread::spawn(change);
    let begin = Instant::now();
    while begin.elapsed() < after && !worker.is_finished() {
        thread::sleep(Duration::from_micros(200));
    }
    mount.kill();
    worker.join().unwrap()
}

fn write(path: &Path, data: &[u8]) -> bool {
    let write = || -> std::io::Result<()> {
        let mut file = File::create(path)?;
        for piece in data.chunks(1 << 20) {
            file.write_all(piece)?;
        }
        file.sync_all()
    };
    write().is_ok()
}

/// One round of overwriting: `len` bytes by other bytes of another length.
fn overwrite(world: &World, round: u64, len: usize, longest: Duration) -> &'static str {
    let old = bytes(round + 1, len);
    let new = bytes(round + 1_000_000, len + 4097);
    world.bucket().put("victim", old.clone());
    let mount = world.mount(&["--part-size", "5MiB", "--multipart-threshold", "6MiB"]);
    let (path, data) = (mount.path("victim"), new.clone());
    let done = kill_during(mount, moment(round, longest), move || write(&path, &data));
    let now = world.bucket().get("victim");
    if now == new {
        return "new";
    }
    assert!(now == old, "round {round}: {} bytes that are neither the old {len} nor the new", now.len());
    assert!(!done, "round {round}: fsync said done and S3 has the old object");
    "old"
}

#[test]
fn an_overwrite_is_all_or_nothing() {
    let world = World::new();
    world.server.knobs().set_latency(Duration::from_millis(5));
    let mut seen = Vec::new();
    for round in 0..24 {
        let (len, longest) = if round % 2 == 0 {
            (300_000, Duration::from_millis(120))
        } else {
            (17 << 20, Duration::from_millis(1500))
        };
        seen.push(overwrite(&world, round, len, longest));
    }
    println!("what 24 rounds left: {seen:?}");
}

#[test]
fn a_new_file_is_whole_or_absent() {
    let world = World::new();
    world.server.knobs().set_latency(Duration::from_millis(5));
    for round in 0..10 {
        let len = if round % 2 == 0 { 100_000 } else { 13 << 20 };
        let data = bytes(round + 50, len);
        let mount = world.mount(&["--part-size", "5MiB", "--multipart-threshold", "6MiB"]);
        let name = format!("new{round}");
        let (path, copy) = (mount.path(&name), data.clone());
        let done =
            kill_during(mount, moment(round + 99, Duration::from_millis(800)), move || write(&path, &copy));
        match world.bucket().try_get(&name) {
            Some(now) => assert!(now == data, "round {round}: {} bytes of {len}", now.len()),
            None => assert!(!done, "round {round}: fsync said done and there is no object"),
        }
    }
}

#[test]
fn a_rename_leaves_the_bytes_under_one_name_at_least() {
    let world = World::new();
    world.server.knobs().set_latency(Duration::from_millis(10));
    for round in 0..10 {
        let data = bytes(round + 7, 50_000);
        let (from, to) = (format!("from{round}"), format!("to{round}"));
        world.bucket().put(&from, data.clone());
        world.bucket().put(&to, "what was there");
        let mount = world.mount(&[]);
        let (old, new) = (mount.path(&from), mount.path(&to));
        let done = kill_during(mount, moment(round + 3, Duration::from_millis(80)), move || {
            fs::rename(&old, &new).is_ok() && File::open(&new).and_then(|f| f.sync_all()).is_ok()
        });
        let now = (world.bucket().try_get(&from), world.bucket().get(&to));
        match now {
            (Some(kept), other) => {
                assert!(kept == data && !done, "round {round}: the source");
                assert!(other == data || other == b"what was there", "round {round}: the target");
            }
            (None, moved) => {
                assert!(moved == data, "round {round}: the source is gone, the target is not it")
            }
        }
    }
}

/// A crash leaves a dead mount: the next daemon takes its place, with the same cache directory.
#[test]
fn the_next_daemon_takes_over() {
    let world = World::new();
    let mount = world.mount(&[]);
    fs::write(mount.path("kept"), "bytes").unwrap();
    let mut unfinished = File::create(mount.path("unfinished")).unwrap();
    unfinished.write_all(b"never closed").unwrap();
    let cache = mount.cache().to_owned();
    let dir = mount.crash();
    drop(unfinished);
    assert!(is_mounted(&dir), "the dead mount stays until somebody clears it");
    assert_eq!(fs::read_dir(&dir).unwrap_err().raw_os_error(), Some(libc::ENOTCONN));
    let mount = world.mounter().cache(&cache).dir(&dir).start();
    assert_eq!(fs::read(mount.path("kept")).unwrap(), b"bytes");
    fs::write(mount.path("kept"), "others").unwrap();
    assert_eq!(world.bucket().get("kept"), b"others");
    mount.stop();
}

/// Opening for overwriting, and closing a duplicate of the descriptor as every shell redirection does, is not the
/// end of the writing: S3 keeps the old object until there is a new one.
#[test]
fn opening_to_overwrite_leaves_the_old_object() {
    let world = World::new();
    world.bucket().put("victim", "old bytes");
    let mount = world.mount(&[]);
    let file = File::create(mount.path("victim")).unwrap();
    drop(file.try_clone().unwrap());
    world.settle();
    assert_eq!(world.bucket().get("victim"), b"old bytes", "while it is open");
    mount.kill();
    drop(file);
    assert_eq!(world.bucket().get("victim"), b"old bytes", "after the crash");
}
