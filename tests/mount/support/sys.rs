//! System calls in the form the tests want: errno as numbers, no surprise from the standard library.

use std::ffi::{CString, OsStr};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The errno of a call that has to fail.
#[track_caller]
pub fn errno<T>(result: io::Result<T>) -> i32 {
    match result {
        Ok(_) => panic!("the call succeeded"),
        Err(error) => error.raw_os_error().unwrap_or_else(|| panic!("no errno: {error}")),
    }
}

pub fn read_write(path: impl AsRef<Path>) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

pub fn create(path: impl AsRef<Path>) -> File {
    OpenOptions::new().read(true).write(true).create_new(true).open(path).unwrap()
}

/// Waits until what was changed about `path` is in the bucket.
pub fn sync(path: impl AsRef<Path>) {
    File::open(path).unwrap().sync_all().unwrap();
}

fn c(path: impl AsRef<OsStr>) -> CString {
    CString::new(path.as_ref().as_bytes()).unwrap()
}

fn check(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

pub fn set_xattr(path: &Path, name: &str, value: &[u8], flags: i32) -> io::Result<()> {
    let (path, name) = (c(path), c(name));
    // SAFETY: two C strings and a buffer of the length given.
    let result =
        unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags) };
    check(result as isize).map(drop)
}

pub fn get_xattr(path: &Path, name: &str) -> io::Result<Vec<u8>> {
    let (path, name) = (c(path), c(name));
    let mut value = vec![0_u8; 65_536];
    // SAFETY: two C strings and a buffer of the length given.
    let len = check(unsafe {
        libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
    })?;
    value.truncate(len);
    Ok(value)
}

pub fn list_xattrs(path: &Path) -> io::Result<Vec<String>> {
    let path = c(path);
    let mut names = vec![0_u8; 65_536];
    // SAFETY: a C string and a buffer of the length given.
    let len = check(unsafe { libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) })?;
    names.truncate(len);
    let names = names.split(|b| *b == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

pub fn remove_xattr(path: &Path, name: &str) -> io::Result<()> {
    let (path, name) = (c(path), c(name));
    // SAFETY: two C strings.
    check(unsafe { libc::lremovexattr(path.as_ptr(), name.as_ptr()) } as isize).map(drop)
}

/// renameat2(2) with flags.
pub fn rename_with(from: &Path, to: &Path, flags: u32) -> io::Result<()> {
    let (from, to) = (c(from), c(to));
    // SAFETY: two C strings.
    let result =
        unsafe { libc::renameat2(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags) };
    check(result as isize).map(drop)
}

pub fn fallocate(file: &File, mode: i32, offset: i64, len: i64) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, len) } as isize).map(drop)
}

pub fn seek(file: &File, offset: i64, whence: i32) -> io::Result<i64> {
    // SAFETY: no pointers.
    let at = unsafe { libc::lseek(file.as_raw_fd(), offset, whence) };
    if at < 0 { Err(io::Error::last_os_error()) } else { Ok(at) }
}

pub fn mknod(path: &Path, mode: u32, device: u64) -> io::Result<()> {
    let path = c(path);
    // SAFETY: a C string.
    check(unsafe { libc::mknod(path.as_ptr(), mode, device) } as isize).map(drop)
}

/// Sets both times, in seconds and nanoseconds; links are not followed.
pub fn set_times(path: &Path, atime: (i64, i64), mtime: (i64, i64)) -> io::Result<()> {
    let path = c(path);
    let spec = |(tv_sec, tv_nsec)| libc::timespec { tv_sec, tv_nsec };
    let times = [spec(atime), spec(mtime)];
    // SAFETY: a C string and two timespecs.
    let result =
        unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) };
    check(result as isize).map(drop)
}

/// A shared, writable map of a file.
pub struct SharedMap {
    at: *mut u8,
    len: usize,
}

impl SharedMap {
    pub fn new(file: &File, len: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh map of a file; nobody else knows its address.
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self { at: at.cast(), len }) }
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the map is `len` bytes long and lives as long as `self`; the tests never shrink the file.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.len) }
    }

    pub fn flush(&self) -> io::Result<()> {
        // SAFETY: exactly the map.
        check(unsafe { libc::msync(self.at.cast(), self.len, libc::MS_SYNC) } as isize).map(drop)
    }
}

impl Drop for SharedMap {
    fn drop(&mut self) {
        // SAFETY: exactly the map, once.
        unsafe { libc::munmap(self.at.cast(), self.len) };
    }
}
