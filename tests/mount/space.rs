//! Holes, sizes and space.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::support::{World, assert_same, bytes, create, errno, fallocate, place, read_write, seek};

#[test]
fn writes_behind_the_end_leave_zeros() {
    let place = place();
    let file = create(place.path("sparse"));
    file.write_all_at(b"end", 5_000_000).unwrap();
    file.write_all_at(b"start", 0).unwrap();
    drop(file);
    let mut expected = vec![0; 5_000_003];
    expected[..5].copy_from_slice(b"start");
    expected[5_000_000..].copy_from_slice(b"end");
    assert_same(&fs::read(place.path("sparse")).unwrap(), &expected, "sparse file");
}

#[test]
fn truncating_and_extending() {
    let place = place();
    let path = place.path("file");
    let data = bytes(1, 200_000);
    fs::write(&path, &data).unwrap();
    let file = read_write(&path);
    file.set_len(100_000).unwrap();
    file.set_len(150_000).unwrap();
    drop(file);
    let mut expected = data[..100_000].to_vec();
    expected.resize(150_000, 0);
    assert_same(&fs::read(&path).unwrap(), &expected, "shrunk and extended");
    // truncate(2) of a closed file keeps what is before the new end.
    read_write(&path).set_len(10).unwrap();
    assert_same(&fs::read(&path).unwrap(), &expected[..10], "truncated after close");
}

#[test]
fn truncating_a_large_object_from_outside() {
    let world = World::new();
    let data = bytes(2, 30 << 20);
    world.bucket().put("file", data.clone());
    let mount = world.mount(&[]);
    let file = read_write(mount.path("file"));
    file.set_len(20 << 20).unwrap();
    file.write_all_at(b"X", 25 << 20).unwrap();
    drop(file);
    let mut expected = data[..20 << 20].to_vec();
    expected.resize(25 << 20, 0);
    expected.push(b'X');
    assert_same(&world.bucket().get("file"), &expected, "object");
    assert_same(&fs::read(mount.path("file")).unwrap(), &expected, "file");
}

#[test]
fn seeking_data_and_holes() {
    let place = place();
    let file = create(place.path("file"));
    file.set_len(16 << 20).unwrap();
    file.write_all_at(&[1; 4096], 8 << 20).unwrap();
    let end = 16 << 20;
    // A filesystem may call everything data; what it says has to hold.
    let data = seek(&file, 0, libc::SEEK_DATA).unwrap();
    assert!((0..=8 << 20).contains(&data), "first data at {data}");
    let hole = seek(&file, 8 << 20, libc::SEEK_HOLE).unwrap();
    assert!(((8 << 20) + 4096..=end).contains(&hole), "hole at {hole}");
    assert_eq!(seek(&file, 0, libc::SEEK_END).unwrap(), end);
    assert_eq!(errno(seek(&file, end, libc::SEEK_DATA)), libc::ENXIO);
    assert_eq!(errno(seek(&file, end + 1, libc::SEEK_HOLE)), libc::ENXIO);
}

#[test]
fn allocating() {
    let place = place();
    let path = place.path("file");
    let file = create(&path);
    file.write_all_at(b"0123456789", 0).unwrap();
    fallocate(&file, 0, 0, 5).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 10, "within the file nothing changes");
    fallocate(&file, 0, 5, 1000).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 1005);
    fallocate(&file, libc::FALLOC_FL_KEEP_SIZE, 0, 5000).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 1005);
    fallocate(&file, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, 2, 3).unwrap();
    fallocate(&file, libc::FALLOC_FL_ZERO_RANGE, 7, 2000).unwrap();
    let mut expected = b"01\x00\x00\x0056\x00".to_vec();
    expected.truncate(7);
    expected.resize(2007, 0);
    drop(file);
    assert_same(&fs::read(&path).unwrap(), &expected, "after fallocate");
}

#[test]
fn statfs_tells_room() {
    let place = place();
    let stat = rustix::fs::statvfs(place.dir()).unwrap();
    assert!(stat.f_blocks > 0 && stat.f_bavail > 0 && stat.f_bsize >= 512);
    assert_eq!(stat.f_namemax, 255);
    fs::write(place.path("file"), vec![1; 10_000]).unwrap();
    let file = fs::metadata(place.path("file")).unwrap();
    assert!(file.blocks() * 512 >= 10_000, "du would not see the file: {} blocks", file.blocks());
}
