//! Operations of the filesystem, one family per file. Each is a method of `Filesystem`.

mod attr;
mod copy;
mod create;
mod dir;
mod lookup;
mod open;
mod read;
mod remove;
mod rename;
mod statfs;
mod write;
mod xattr;
