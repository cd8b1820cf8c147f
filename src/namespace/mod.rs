//! Names and attributes: how keys and metadata of a bucket become names and attributes of files.
//!
//! Owns: the codecs between user metadata and POSIX attributes ([`attributes`]), between key components and
//! file names ([`escape`]), and from a name to a Content-Type ([`content_type`]). These three are pure: no
//! state, no lock, no request, and no input makes them panic.

pub mod attributes;
pub mod content_type;
pub mod escape;
