//! A directory of 100,000 objects.

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::World;

const FILES: usize = 100_000;
/// What the daemon may have in memory at most, in KiB, for 100,000 names that the kernel knows too.
const MEMORY_MAX_KIB: u64 = 400 << 10;

/// PUTs of empty objects, unsigned, many in one write: signing each in this process would take minutes.
fn fill(world: &World, from: usize, to: usize) {
    let mut connection = TcpStream::connect(world.server.address()).unwrap();
    let mut reader = connection.try_clone().unwrap();
    for batch in (from..to).step_by(100) {
        let last = (batch + 100).min(to);
        let requests: String = (batch..last)
            .map(|i| format!("PUT /data/many/file-{i:06} HTTP/1.1\r\nHost: s3\r\nContent-Length: 0\r\n\r\n"))
            .collect();
        connection.write_all(requests.as_bytes()).unwrap();
        let mut answers = Vec::new();
        let mut buffer = [0_u8; 65_536];
        while answers.windows(4).filter(|end| end == b"\r\n\r\n").count() < last - batch {
            let n = reader.read(&mut buffer).unwrap();
            assert!(n > 0, "the server hung up: {}", String::from_utf8_lossy(&answers));
            answers.extend_from_slice(&buffer[..n]);
        }
        let text = String::from_utf8_lossy(&answers);
        assert_eq!(text.matches("HTTP/1.1 200").count(), last - batch, "{text}");
    }
}

#[test]
fn a_hundred_thousand_objects() {
    let world = World::with(|config| {
        config.allow_anonymous = true;
        config.fast_etags = true;
    });
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let world = &world;
            scope.spawn(move || fill(world, worker * FILES / 4, (worker + 1) * FILES / 4));
        }
    });
    let mount = world.mount(&["--attrs", "list", "--ttl", "1h"]);
    let before = mount.memory_kib("VmRSS");
    let counted = world.count(|| {
        let names: HashSet<String> = fs::read_dir(mount.path("many"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names.len(), FILES);
        assert!(names.contains("file-000000") && names.contains("file-099999"));
    });
    let listed = mount.memory_kib("VmHWM");
    let with_attributes = fs::read_dir(mount.path("many")).unwrap().map(|e| e.unwrap().metadata().unwrap());
    assert_eq!(with_attributes.filter(|m| m.is_file()).count(), FILES);
    let after = mount.memory_kib("VmHWM");
    println!(
        "100,000 objects: {:?}; daemon {before} KiB before, {listed} KiB at most after ls, {after} KiB after ls -l",
        counted.operations
    );
    assert_eq!(counted.count("HeadObject"), 0);
    assert!(counted.count("ListObjectsV2") <= 103, "{:?}", counted.operations);
    assert!(after < MEMORY_MAX_KIB, "{after} KiB");
    // A name in the middle is found and can be changed.
    fs::write(mount.path("many/file-050000"), "changed").unwrap();
    assert_eq!(world.bucket().get("many/file-050000"), b"changed");
    mount.stop();
}
