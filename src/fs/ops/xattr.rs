//! Extended attributes: the file's own, kept in user metadata, and `user.s3.*`, which show the object.
//!
//! `user.s3.*` names are not listed: `cp -a` and `rsync -X` copy whatever is listed, and the key or the ETag
//! of one object means nothing on another.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::sync::Arc;

use bytes::Bytes;

use crate::fs::error::{Error, Result};
use crate::fs::filesystem::Filesystem;
use crate::fs::types::{FileKind, Ino, SetXattrFlags};
use crate::namespace::attributes::metadata_bytes;
use crate::namespace::node::Node;
use crate::store::types::{METADATA_MAX_BYTES, Properties};

/// What shows the object itself.
const OBJECT: &str = "user.s3.";
/// User metadata of other tools, by name.
const OBJECT_META: &str = "meta.";

impl Filesystem {
    /// The value of an attribute; ENODATA when there is none.
    pub async fn getxattr(&self, ino: Ino, name: &OsStr) -> Result<Bytes> {
        let Some(name) = name.to_str() else { return Err(Error::NoAttribute) };
        if let Some(field) = name.strip_prefix(OBJECT) {
            self.names.ensure_properties(ino).await?;
            let value = self.object_field(ino, field)?.ok_or(Error::NoAttribute)?;
            return Ok(Bytes::from(value));
        }
        refuse_system(name)?;
        // The kernel asks for these at every exec and write; a mount that never asks S3 for attributes does
        // not begin with it here.
        if name.starts_with("user.") {
            self.names.ensure_properties(ino).await?;
        }
        self.names
            .with(ino, |node| node.xattrs.get(name).map(|v| Bytes::copy_from_slice(v)))?
            .ok_or(Error::NoAttribute)
    }

    fn object_field(&self, ino: Ino, field: &str) -> Result<Option<String>> {
        let table = self.names.table();
        let path = table.object_path(ino);
        let node = table.get(ino).ok_or(Error::NotFound)?;
        let properties = node.properties.as_deref();
        let text = |value: Option<&String>| value.cloned();
        Ok(match field {
            "bucket" => path.map(|p| p.bucket.to_string()),
            "key" => path.map(|p| p.key.to_string()),
            "etag" => node.version.as_ref().map(|v| v.etag.unquoted().to_owned()),
            "size" => node.version.as_ref().map(|v| v.size.to_string()),
            "storage-class" => {
                properties.map(|p| p.storage_class.clone().unwrap_or_else(|| "STANDARD".to_owned()))
            }
            "content-type" => properties.and_then(|p| text(p.content_type.as_ref())),
            "cache-control" => properties.and_then(|p| text(p.cache_control.as_ref())),
            "content-disposition" => properties.and_then(|p| text(p.content_disposition.as_ref())),
            "content-encoding" => properties.and_then(|p| text(p.content_encoding.as_ref())),
            "content-language" => properties.and_then(|p| text(p.content_language.as_ref())),
            "metadata" => properties.map(|p| serde_json::json!(p.metadata).to_string()),
            "dirty" => Some(if node.dirty() { "1" } else { "0" }.to_owned()),
            _ => field
                .strip_prefix(OBJECT_META)
                .and_then(|name| properties.and_then(|p| p.metadata.get(name).cloned())),
        })
    }

    /// Names of the file's own attributes, each ended by NUL.
    pub async fn listxattr(&self, ino: Ino) -> Result<Bytes> {
        self.names.ensure_attrs(ino).await?;
        self.names.with(ino, |node| {
            let mut names = Vec::new();
            for name in node.xattrs.keys() {
                names.extend_from_slice(name.as_bytes());
                names.push(0);
            }
            Bytes::from(names)
        })
    }

    /// Sets an attribute. All user metadata of an object together have at most 2 KB.
    pub async fn setxattr(&self, ino: Ino, name: &OsStr, value: Bytes, flags: SetXattrFlags) -> Result<()> {
        let name = name.to_str().ok_or(Error::NotUtf8)?;
        self.change_xattrs(ino, name, |node| {
            if let Some(field) = name.strip_prefix(OBJECT) {
                let text = std::str::from_utf8(&value).map_err(|_| Error::Invalid("headers are text"))?;
                return set_field(node, field, Some(text));
            }
            let exists = node.xattrs.contains_key(name);
            if flags.create && exists {
                return Err(Error::Exists);
            }
            if flags.replace && !exists {
                return Err(Error::NoAttribute);
            }
            node.xattrs.insert(name.to_owned(), value.to_vec());
            Ok(())
        })
        .await
    }

    /// Removes an attribute; ENODATA when there is none.
    pub async fn removexattr(&self, ino: Ino, name: &OsStr) -> Result<()> {
        let name = name.to_str().ok_or(Error::NoAttribute)?;
        self.change_xattrs(ino, name, |node| {
            if let Some(field) = name.strip_prefix(OBJECT) {
                return set_field(node, field, None);
            }
            node.xattrs.remove(name).map(|_| ()).ok_or(Error::NoAttribute)
        })
        .await
    }

    async fn change_xattrs(
        &self,
        ino: Ino,
        name: &str,
        change: impl FnOnce(&mut Node) -> Result<()>,
    ) -> Result<()> {
        self.writable()?;
        refuse_system(name)?;
        self.names.ensure_properties(ino).await?;
        if self.names.object_path(ino).is_none() {
            return Err(Error::Unsupported("the top of a bucket has no object to keep attributes in"));
        }
        let open_new = self.names.with(ino, |node| {
            let before = (node.xattrs.clone(), node.properties.clone());
            let done = change(node).and_then(|()| {
                let fits = metadata_bytes(&node.properties_to_write().metadata) <= METADATA_MAX_BYTES;
                if fits { Ok(()) } else { Err(Error::MetadataTooLarge("S3 keeps 2 KB of it")) }
            });
            if done.is_err() {
                (node.xattrs, node.properties) = before;
                return done.map(|()| false);
            }
            node.stat.ctime = std::time::SystemTime::now();
            node.touch_meta();
            Ok(node.version.is_none() && node.opens > 0)
        })??;
        if !open_new {
            self.committer.commit_later(ino);
        }
        Ok(())
    }
}

/// Attributes that would need more than storing: ACLs and the like.
fn refuse_system(name: &str) -> Result<()> {
    if name.starts_with("system.") { Err(Error::Unsupported("system attributes")) } else { Ok(()) }
}

/// Sets or removes what a header or the metadata of others says.
fn set_field(node: &mut Node, field: &str, value: Option<&str>) -> Result<()> {
    if node.kind == FileKind::Directory && node.version.is_none() {
        return Err(Error::NoAttribute);
    }
    if value.is_some_and(|v| v.chars().any(char::is_control)) {
        return Err(Error::Invalid("headers have no control characters"));
    }
    let mut properties = node.properties.as_deref().cloned().unwrap_or_else(Properties::default);
    let value = value.map(str::to_owned);
    match field {
        "content-type" => properties.content_type = value,
        "cache-control" => properties.cache_control = value,
        "content-disposition" => properties.content_disposition = value,
        "content-encoding" => properties.content_encoding = value,
        "content-language" => properties.content_language = value,
        _ => {
            let name = field.strip_prefix(OBJECT_META).filter(|n| is_metadata_name(n));
            let name = name.ok_or(Error::NotPermitted("this shows the object and cannot be set"))?;
            set_metadata(&mut properties.metadata, name, value)?;
        }
    }
    node.properties = Some(Arc::new(properties));
    Ok(())
}

fn set_metadata(metadata: &mut BTreeMap<String, String>, name: &str, value: Option<String>) -> Result<()> {
    match value {
        Some(value) => {
            metadata.insert(name.to_owned(), value);
            Ok(())
        }
        None => metadata.remove(name).map(|_| ()).ok_or(Error::NoAttribute),
    }
}

/// Names that survive as an HTTP header. S3 lowers the case of metadata names.
fn is_metadata_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
}
