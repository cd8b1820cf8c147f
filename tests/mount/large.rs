//! A file larger than every buffer on its way.

use std::fs::{self, File};
use std::io::{Read, Write};

use sha2::{Digest, Sha256};

use crate::support::{World, bytes};

const PIECE: usize = 4 << 20;
const PIECES: u64 = 256;

/// 1 GiB is written, the daemon stopped, and read by another one that has nothing in its cache.
#[test]
fn a_gibibyte_survives_a_remount_with_an_empty_cache() {
    let world = World::with(|config| config.fast_etags = true);
    let mount = world.mount(&[]);
    let mut written = Sha256::new();
    let mut file = File::create(mount.path("large.bin")).unwrap();
    for piece in 0..PIECES {
        let data = bytes(piece + 1, PIECE);
        written.update(&data);
        file.write_all(&data).unwrap();
    }
    drop(file);
    let size = PIECES * PIECE as u64;
    assert_eq!(world.bucket().head("large.bin").version.size, size, "size in S3 after close");
    mount.stop();
    assert_eq!(world.bucket().uploads(), [], "uploads left behind");

    let mount = world.mount(&[]);
    assert_eq!(fs::metadata(mount.path("large.bin")).unwrap().len(), size);
    let mut read = Sha256::new();
    let mut file = File::open(mount.path("large.bin")).unwrap();
    let mut buffer = vec![0; PIECE];
    let mut total = 0;
    loop {
        let n = file.read(&mut buffer).unwrap();
        if n == 0 {
            break;
        }
        total += n as u64;
        read.update(&buffer[..n]);
    }
    assert_eq!(total, size);
    assert_eq!(read.finalize(), written.finalize(), "checksum");
    println!("memory of the daemon after 1 GiB read: {} MiB at most", mount.memory_kib("VmHWM") / 1024);
    mount.stop();
}
