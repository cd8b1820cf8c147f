//! Operations on buckets, and the listings of their keys.

use s3s::dto::*;
use s3s::{S3Request, S3Result, s3_error};

use crate::api::Api;
use crate::listing::{self, After, Encoding, Entry, Query};
use crate::storage::Object as Stored;

/// The region of a server that has none configured.
const DEFAULT_REGION: &str = "us-east-1";

/// A page of keys before it becomes the output of one of the two list operations.
struct KeyPage {
    contents: Vec<Object>,
    prefixes: Vec<CommonPrefix>,
    next: Option<After>,
    limit: usize,
}

fn entry_of(key: &str, object: &Stored, encoding: Encoding) -> Object {
    let class = object.attributes.storage_class.as_deref().unwrap_or(ObjectStorageClass::STANDARD);
    let checksum = object.checksum.as_ref();
    Object {
        key: Some(encoding.text(key)),
        e_tag: Some(ETag::Strong(object.etag.clone())),
        size: Some(object.content.len() as i64),
        last_modified: Some(object.modified.into()),
        storage_class: Some(ObjectStorageClass::from(class.to_owned())),
        checksum_algorithm: checksum
            .map(|checksum| vec![ChecksumAlgorithm::from_static(checksum.algorithm.name())]),
        checksum_type: checksum.map(|checksum| checksum.kind.dto()),
        ..Object::default()
    }
}

impl Api {
    /// The number of entries that a client may have, from what it asked for.
    ///
    /// # Errors
    /// InvalidArgument for a negative number.
    pub(crate) fn limit(&self, requested: Option<i32>) -> S3Result<usize> {
        match requested {
            None => Ok(self.page_size),
            Some(asked) => usize::try_from(asked)
                .map(|asked| asked.min(self.page_size))
                .map_err(|_| s3_error!(InvalidArgument, "a limit cannot be negative")),
        }
    }

    fn region_name(&self) -> &str {
        self.region.as_deref().unwrap_or(DEFAULT_REGION)
    }

    pub(crate) async fn list_buckets(
        &self,
        request: S3Request<ListBucketsInput>,
    ) -> S3Result<ListBucketsOutput> {
        let input = request.input;
        let limit = input.max_buckets.and_then(|max| usize::try_from(max).ok()).unwrap_or(10_000);
        let prefix = input.prefix.clone().unwrap_or_default();
        let after = input.continuation_token.unwrap_or_default();
        let all = self.storage.buckets();
        let matching: Vec<_> =
            all.into_iter().filter(|(name, _)| name.starts_with(&prefix) && *name > after).collect();
        let truncated = matching.len() > limit;
        let names: Vec<_> = matching.into_iter().take(limit).collect();
        Ok(ListBucketsOutput {
            continuation_token: names.last().filter(|_| truncated).map(|(name, _)| name.clone()),
            buckets: Some(
                names
                    .into_iter()
                    .map(|(name, created)| Bucket {
                        name: Some(name),
                        creation_date: Some(created.into()),
                        bucket_region: self.region.clone(),
                    })
                    .collect(),
            ),
            owner: Some(Owner { id: Some("pailfs".to_owned()), display_name: None }),
            prefix: input.prefix,
        })
    }

    pub(crate) async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<CreateBucketOutput> {
        let bucket = request.input.bucket;
        let location = Some(format!("/{bucket}"));
        self.storage.run(move |storage| storage.create_bucket(&bucket)).await?;
        Ok(CreateBucketOutput { location })
    }

    pub(crate) async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<HeadBucketOutput> {
        self.storage.look(&request.input.bucket, |_| ())?;
        Ok(HeadBucketOutput {
            bucket_region: Some(self.region_name().to_owned()),
            ..HeadBucketOutput::default()
        })
    }

    pub(crate) async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<DeleteBucketOutput> {
        let bucket = request.input.bucket;
        self.storage.run(move |storage| storage.delete_bucket(&bucket)).await?;
        Ok(DeleteBucketOutput::default())
    }

    pub(crate) async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<GetBucketLocationOutput> {
        self.storage.look(&request.input.bucket, |_| ())?;
        // us-east-1 is told by an empty constraint.
        let constraint = self.region.clone().filter(|region| region != DEFAULT_REGION);
        Ok(GetBucketLocationOutput { location_constraint: constraint.map(BucketLocationConstraint::from) })
    }

    pub(crate) async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<GetBucketVersioningOutput> {
        self.storage.look(&request.input.bucket, |_| ())?;
        Ok(GetBucketVersioningOutput::default())
    }

    fn key_page(&self, bucket: &str, query: &Query<'_>, encoding: Encoding) -> S3Result<KeyPage> {
        self.storage.look(bucket, |bucket| {
            let page = listing::page(&bucket.objects, query);
            let (mut contents, mut prefixes) = (Vec::new(), Vec::new());
            for entry in page.entries {
                match entry {
                    Entry::Key(key, object) => contents.push(entry_of(key, object, encoding)),
                    Entry::Prefix(prefix) => {
                        prefixes.push(CommonPrefix { prefix: Some(encoding.text(prefix)) });
                    }
                }
            }
            KeyPage { contents, prefixes, next: page.next, limit: query.limit }
        })
    }

    pub(crate) async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<ListObjectsV2Output> {
        let input = request.input;
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let after = match (&input.continuation_token, &input.start_after) {
            (Some(token), _) => listing::after_token(token)?,
            (None, Some(key)) if !key.is_empty() => After::Key(key.clone()),
            (None, _) => After::Start,
        };
        let query = Query {
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref().unwrap_or_default(),
            after,
            limit: self.limit(input.max_keys)?,
        };
        let page = self.key_page(&input.bucket, &query, encoding)?;
        Ok(ListObjectsV2Output {
            key_count: Some((page.contents.len() + page.prefixes.len()) as i32),
            max_keys: Some(page.limit as i32),
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.as_ref().and_then(listing::token),
            contents: Some(page.contents),
            common_prefixes: Some(page.prefixes),
            prefix: Some(encoding.text(query.prefix)),
            delimiter: encoding.option(input.delimiter.as_ref()),
            start_after: encoding.option(input.start_after.as_ref()),
            continuation_token: input.continuation_token,
            encoding_type: input.encoding_type,
            name: Some(input.bucket),
            ..ListObjectsV2Output::default()
        })
    }

    pub(crate) async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<ListObjectsOutput> {
        let input = request.input;
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let prefix = input.prefix.as_deref().unwrap_or_default();
        let delimiter = input.delimiter.as_deref().unwrap_or_default();
        let after = match input.marker.as_deref().filter(|marker| !marker.is_empty()) {
            None => After::Start,
            // NextMarker may have been a common prefix: what is below it is done.
            Some(marker) if !delimiter.is_empty() && marker.ends_with(delimiter) => {
                After::Prefix(marker.to_owned())
            }
            Some(marker) => After::Key(marker.to_owned()),
        };
        let query = Query { prefix, delimiter, after, limit: self.limit(input.max_keys)? };
        let page = self.key_page(&input.bucket, &query, encoding)?;
        let next_marker = match (&page.next, delimiter.is_empty()) {
            (Some(After::Key(last) | After::Prefix(last)), false) => Some(encoding.text(last)),
            _ => None,
        };
        Ok(ListObjectsOutput {
            max_keys: Some(page.limit as i32),
            is_truncated: Some(page.next.is_some()),
            next_marker,
            contents: Some(page.contents),
            common_prefixes: Some(page.prefixes),
            prefix: Some(encoding.text(prefix)),
            delimiter: encoding.option(input.delimiter.as_ref()),
            marker: Some(encoding.text(input.marker.as_deref().unwrap_or_default())),
            encoding_type: input.encoding_type.clone(),
            name: Some(input.bucket.clone()),
            ..ListObjectsOutput::default()
        })
    }
}
