//! ListMultipartUploads.
//!
//! Uploads are few: a page looks at all of them. Their order is that of the keys, then that of creation.

use std::cmp::Ordering;

use s3s::dto::*;
use s3s::{S3Request, S3Result};

use crate::api::Api;
use crate::listing::Encoding;
use crate::storage::{Bucket as Stored, Upload};

/// What a page is asked for.
struct Query<'a> {
    prefix: &'a str,
    /// Empty means none.
    delimiter: &'a str,
    key_marker: &'a str,
    id_marker: &'a str,
    limit: usize,
}

#[derive(Default)]
struct Page {
    uploads: Vec<MultipartUpload>,
    prefixes: Vec<String>,
    /// Key or common prefix of the last entry, and the upload's id; None when this was the last page.
    next: Option<(String, Option<String>)>,
}

/// The common prefix under which a key is listed, if it is.
fn common_prefix<'a>(key: &'a str, query: &Query<'_>) -> Option<&'a str> {
    if query.delimiter.is_empty() {
        return None;
    }
    let position = key[query.prefix.len()..].find(query.delimiter)?;
    Some(&key[..query.prefix.len() + position + query.delimiter.len()])
}

fn page(bucket: &Stored, query: &Query<'_>, encoding: Encoding) -> Page {
    let marked = bucket.uploads.get(query.id_marker).map(|upload| upload.sequence);
    let behind = |upload: &Upload| match upload.key.as_str().cmp(query.key_marker) {
        Ordering::Less => false,
        Ordering::Equal => marked.is_some_and(|marked| upload.sequence > marked),
        Ordering::Greater => true,
    };
    let matching = bucket.uploads.iter().filter(|(_, upload)| upload.key.starts_with(query.prefix));
    let mut found: Vec<(&String, &Upload)> = matching.filter(|(_, upload)| behind(upload)).collect();
    found.sort_by(|(_, a), (_, b)| (&a.key, a.sequence).cmp(&(&b.key, b.sequence)));
    let mut page = Page::default();
    let mut last = None;
    for (id, upload) in found {
        let common = common_prefix(&upload.key, query);
        let known = |common: &str| {
            page.prefixes.last().is_some_and(|prefix| prefix == common) || common == query.key_marker
        };
        if common.is_some_and(known) {
            continue;
        }
        if page.uploads.len() + page.prefixes.len() >= query.limit {
            page.next = last;
            return page;
        }
        match common {
            Some(common) => {
                last = Some((common.to_owned(), None));
                page.prefixes.push(common.to_owned());
            }
            None => {
                last = Some((upload.key.clone(), Some(id.clone())));
                page.uploads.push(entry(id, upload, encoding));
            }
        }
    }
    page
}

fn entry(id: &str, upload: &Upload, encoding: Encoding) -> MultipartUpload {
    let class = upload.attributes.storage_class.as_deref().unwrap_or(StorageClass::STANDARD);
    let algorithm = upload.checksum.map(|(algorithm, _)| algorithm.name());
    MultipartUpload {
        key: Some(encoding.text(&upload.key)),
        upload_id: Some(id.to_owned()),
        initiated: Some(upload.initiated.into()),
        storage_class: Some(StorageClass::from(class.to_owned())),
        checksum_algorithm: algorithm.map(ChecksumAlgorithm::from_static),
        checksum_type: upload.checksum.map(|(_, kind)| kind.dto()),
        ..MultipartUpload::default()
    }
}

impl Api {
    pub(crate) async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<ListMultipartUploadsOutput> {
        let input = request.input;
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let query = Query {
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref().unwrap_or_default(),
            key_marker: input.key_marker.as_deref().unwrap_or_default(),
            id_marker: input.upload_id_marker.as_deref().unwrap_or_default(),
            limit: self.limit(input.max_uploads)?,
        };
        let page = self.storage.look(&input.bucket, |bucket| page(bucket, &query, encoding))?;
        let common = |prefix: &String| CommonPrefix { prefix: Some(encoding.text(prefix)) };
        Ok(ListMultipartUploadsOutput {
            is_truncated: Some(page.next.is_some()),
            next_key_marker: page.next.as_ref().map(|(key, _)| encoding.text(key)),
            next_upload_id_marker: page.next.and_then(|(_, id)| id),
            uploads: Some(page.uploads),
            common_prefixes: Some(page.prefixes.iter().map(common).collect()),
            max_uploads: Some(query.limit as i32),
            prefix: encoding.option(input.prefix.as_ref()),
            delimiter: encoding.option(input.delimiter.as_ref()),
            key_marker: encoding.option(input.key_marker.as_ref()),
            upload_id_marker: input.upload_id_marker.clone(),
            encoding_type: input.encoding_type.clone(),
            bucket: Some(input.bucket.clone()),
            ..ListMultipartUploadsOutput::default()
        })
    }
}
