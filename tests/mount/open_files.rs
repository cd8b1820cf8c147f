//! Files that are open while something happens to them or their names.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::thread;

use crate::support::{SharedMap, World, assert_same, bytes, create, errno, place, read_write, rename_with};

#[test]
fn unlinked_while_open() {
    let place = place();
    let path = place.path("file");
    let data = bytes(1, 3 << 20);
    fs::write(&path, &data).unwrap();
    let mut file = read_write(&path);
    fs::remove_file(&path).unwrap();
    assert_eq!(errno(File::open(&path)), libc::ENOENT);
    let mut read = Vec::new();
    file.read_to_end(&mut read).unwrap();
    assert_same(&read, &data, "bytes after unlink");
    file.write_all_at(b"still writable", 10).unwrap();
    file.set_len(24).unwrap();
    file.rewind().unwrap();
    read.clear();
    file.read_to_end(&mut read).unwrap();
    assert_eq!(&read[10..], b"still writable");
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    file.sync_all().unwrap();
    // Another file of that name is another file.
    fs::write(&path, "new").unwrap();
    drop(file);
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

#[test]
fn never_named_again_after_unlink() {
    let world = World::new();
    let mount = world.mount(&[]);
    let mut file = create(mount.path("file"));
    file.write_all(b"bytes").unwrap();
    fs::remove_file(mount.path("file")).unwrap();
    file.write_all(b"more").unwrap();
    drop(file);
    mount.stop();
    assert_eq!(world.bucket().keys(""), [""; 0], "an unlinked file was uploaded");
}

#[test]
fn renamed_over_while_open() {
    let place = place();
    let data = bytes(2, 1 << 20);
    fs::write(place.path("old"), &data).unwrap();
    fs::write(place.path("new"), "new").unwrap();
    let mut file = File::open(place.path("old")).unwrap();
    fs::rename(place.path("new"), place.path("old")).unwrap();
    let mut read = Vec::new();
    file.read_to_end(&mut read).unwrap();
    assert_same(&read, &data, "bytes of the replaced file");
    assert_eq!(fs::read(place.path("old")).unwrap(), b"new");
    assert_eq!(errno(File::open(place.path("new"))), libc::ENOENT);
}

#[test]
fn renamed_while_being_written() {
    let world = World::new();
    let mount = world.mount(&[]);
    let mut file = create(mount.path("before"));
    file.write_all(b"one ").unwrap();
    fs::rename(mount.path("before"), mount.path("after")).unwrap();
    file.write_all(b"two").unwrap();
    assert_eq!(fs::metadata(mount.path("after")).unwrap().len(), 7);
    drop(file);
    assert_eq!(world.bucket().get("after"), b"one two");
    assert!(!world.bucket().exists("before"));

    fs::create_dir(mount.path("dir")).unwrap();
    let mut file = create(mount.path("dir/file"));
    file.write_all(b"one ").unwrap();
    fs::rename(mount.path("dir"), mount.path("moved")).unwrap();
    file.write_all(b"two").unwrap();
    drop(file);
    assert_eq!(fs::read(mount.path("moved/file")).unwrap(), b"one two");
    assert_eq!(world.bucket().get("moved/file"), b"one two");
    assert_eq!(world.bucket().keys("dir"), [""; 0]);
}

/// What is not uploaded yet is a file like any other for calls by path.
#[test]
fn a_new_file_is_there_for_everybody_before_close() {
    let place = place();
    let path = place.path("file");
    let mut file = create(&path);
    file.write_all(b"bytes").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 5);
    assert_eq!(fs::read(&path).unwrap(), b"bytes");
    assert_eq!(errno(fs::create_dir(&path)), libc::EEXIST);
    assert_eq!(errno(OpenOptions::new().write(true).create_new(true).open(&path)), libc::EEXIST);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(place.dir()).unwrap().count(), 1);
    fs::rename(&path, place.path("other")).unwrap();
    file.write_all(b" more").unwrap();
    drop(file);
    assert_eq!(fs::read(place.path("other")).unwrap(), b"bytes more");
}

#[test]
fn appending_through_two_handles() {
    let place = place();
    let path = place.path("log");
    let open = || OpenOptions::new().append(true).create(true).open(&path).unwrap();
    let (mut a, mut b) = (open(), open());
    for i in 0..50 {
        a.write_all(format!("a{i:03}\n").as_bytes()).unwrap();
        b.write_all(format!("b{i:03}\n").as_bytes()).unwrap();
    }
    drop(a);
    b.write_all(b"last\n").unwrap();
    drop(b);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.len(), 50 * 10 + 5);
    assert!(text.starts_with("a000\nb000\na001\n") && text.ends_with("b049\nlast\n"), "{text}");

    thread::scope(|scope| {
        for worker in 0..4 {
            let open = &open;
            scope.spawn(move || {
                let mut file = open();
                for i in 0..50 {
                    file.write_all(format!("worker {worker} line {i:02}\n").as_bytes()).unwrap();
                }
            });
        }
    });
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("worker")).count(), 200);
}

#[test]
fn two_handles_see_each_other() {
    let place = place();
    let path = place.path("file");
    let (mut writer, reader) = (create(&path), File::open(&path).unwrap());
    writer.write_all(b"hello").unwrap();
    let mut buffer = [0; 5];
    reader.read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"hello");
    writer.set_len(2).unwrap();
    assert_eq!(reader.read_at(&mut buffer, 0).unwrap(), 2);
    drop(writer);
    assert_eq!(reader.metadata().unwrap().len(), 2);
    // Truncated by path while it is open.
    OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
    assert_eq!(reader.read_at(&mut buffer, 0).unwrap(), 0);
}

#[test]
fn memory_maps_are_written_back() {
    let world = World::new();
    let mount = world.mount(&[]);
    let path = mount.path("map");
    fs::write(&path, vec![b'.'; 100_000]).unwrap();
    let before = fs::metadata(&path).unwrap();
    let file = read_write(&path);
    let mut map = SharedMap::new(&file, 100_000).unwrap();
    map.bytes()[50_000..50_005].copy_from_slice(b"hello");
    map.flush().unwrap();
    let mut buffer = [0; 5];
    File::open(&path).unwrap().read_exact_at(&mut buffer, 50_000).unwrap();
    assert_eq!(&buffer, b"hello");
    map.bytes()[99_999] = b'!';
    drop(map);
    file.sync_all().unwrap();
    drop(file);
    let mut expected = vec![b'.'; 100_000];
    expected[50_000..50_005].copy_from_slice(b"hello");
    expected[99_999] = b'!';
    assert_same(&world.bucket().get("map"), &expected, "object after the map was written");
    let after = fs::metadata(&path).unwrap();
    let time = |m: &fs::Metadata| (m.mtime(), m.mtime_nsec());
    assert!(time(&after) > time(&before), "stores through a map move mtime");
}

#[test]
fn a_reader_has_one_version() {
    let world = World::new();
    let bucket = world.bucket();
    let (old, new) = (bytes(1, 24 << 20), bytes(2, 24 << 20));
    bucket.put("file", old.clone());
    let mount = world.mount(&[]);
    let mut file = File::open(mount.path("file")).unwrap();
    let mut head = vec![0; 100_000];
    file.read_exact(&mut head).unwrap();
    assert_same(&head, &old[..100_000], "the beginning");
    bucket.put("file", new.clone());
    // What was not fetched yet is of the old version or an error, never of the new one.
    let mut at = 100_000;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                assert_same(&buffer[..n], &old[at..at + n], "bytes behind the change");
                at += n;
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::ESTALE));
                break;
            }
        }
    }
    file.seek(SeekFrom::Start(0)).unwrap();
    drop(file);
    // A fresh mount reads the new one.
    let other = world.mount(&[]);
    assert_same(&fs::read(other.path("file")).unwrap(), &new, "a fresh mount");
}

#[test]
fn deleted_by_another_client_while_open() {
    let world = World::new();
    let data = bytes(3, 24 << 20);
    world.bucket().put("file", data.clone());
    let mount = world.mount(&[]);
    let file = File::open(mount.path("file")).unwrap();
    let mut buffer = vec![0; 4096];
    file.read_exact_at(&mut buffer, 0).unwrap();
    world.bucket().delete("file");
    let mut at = 0_u64;
    while at < data.len() as u64 {
        match file.read_at(&mut buffer, at) {
            Ok(n) => {
                assert_same(&buffer[..n], &data[at as usize..at as usize + n], "bytes of the deleted object")
            }
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "at {at}"),
        }
        at += 1 << 20;
    }
}

#[test]
fn rename_flags() {
    let place = place();
    let (a, b) = (place.path("a"), place.path("b"));
    fs::write(&a, "1").unwrap();
    fs::write(&b, "2").unwrap();
    assert_eq!(errno(rename_with(&a, &b, libc::RENAME_NOREPLACE)), libc::EEXIST);
    assert_eq!((fs::read(&a).unwrap(), fs::read(&b).unwrap()), (b"1".to_vec(), b"2".to_vec()));
    rename_with(&a, &place.path("c"), libc::RENAME_NOREPLACE).unwrap();
    assert_eq!(fs::read(place.path("c")).unwrap(), b"1");
    // Exchange is done or refused, never half of it.
    match rename_with(&place.path("c"), &b, libc::RENAME_EXCHANGE) {
        Ok(()) => assert_eq!(
            (fs::read(place.path("c")).unwrap(), fs::read(&b).unwrap()),
            (b"2".to_vec(), b"1".to_vec())
        ),
        Err(error) => {
            assert!(matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTSUP)), "{error}");
            assert_eq!(
                (fs::read(place.path("c")).unwrap(), fs::read(&b).unwrap()),
                (b"1".to_vec(), b"2".to_vec())
            );
        }
    }
}

#[test]
fn hard_links_are_refused() {
    let place = place();
    fs::write(place.path("a"), "1").unwrap();
    let linked = fs::hard_link(place.path("a"), place.path("b"));
    if place.is_mount() {
        let got = errno(linked);
        assert!(matches!(got, libc::ENOTSUP | libc::EPERM), "{got}");
        assert_eq!(errno(fs::metadata(place.path("b"))), libc::ENOENT);
    }
}
