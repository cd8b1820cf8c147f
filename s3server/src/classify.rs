//! Which S3 operation a request is, from method, path, query and headers alone.
//!
//! Counters and faults need the name before anybody has looked at the signature or the body, and of requests that
//! fail there too. The order of the rules is that of s3s' own routing.

use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Classified {
    /// The name of the API page, or `Unknown`.
    pub(crate) operation: &'static str,
    /// The key as text, with what is not UTF-8 replaced; None for operations on buckets and the service.
    pub(crate) key: Option<String>,
}

/// What the path names.
enum Target {
    Service,
    Bucket,
    Object(String),
}

fn target(path: &str) -> Target {
    let path = percent_decode_str(path).decode_utf8_lossy();
    match path.strip_prefix('/').unwrap_or(&path).split_once('/') {
        Some((_, key)) if !key.is_empty() => Target::Object(key.to_owned()),
        None if path == "/" || path.is_empty() => Target::Service,
        _ => Target::Bucket,
    }
}

/// The names in a query string, and what `list-type` is.
struct Parameters<'a>(&'a str);

impl Parameters<'_> {
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.0.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    fn has(&self, name: &str) -> bool {
        self.pairs().any(|(known, _)| known == name)
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.pairs().any(|pair| pair == (name, value))
    }
}

/// Names the operation of a request.
pub(crate) fn classify(method: &Method, path: &str, query: Option<&str>, headers: &HeaderMap) -> Classified {
    let parameters = Parameters(query.unwrap_or_default());
    let (operation, key) = match target(path) {
        Target::Service => (on_service(method), None),
        Target::Bucket => (on_bucket(method, &parameters), None),
        Target::Object(key) => {
            let copies = headers.contains_key("x-amz-copy-source");
            (on_object(method, &parameters, copies), Some(key))
        }
    };
    Classified { operation, key }
}

const UNKNOWN: &str = "Unknown";

fn on_service(method: &Method) -> &'static str {
    if method == Method::GET { "ListBuckets" } else { UNKNOWN }
}

fn on_bucket(method: &Method, parameters: &Parameters<'_>) -> &'static str {
    match *method {
        Method::HEAD => "HeadBucket",
        Method::GET if parameters.has("location") => "GetBucketLocation",
        Method::GET if parameters.has("versioning") => "GetBucketVersioning",
        Method::GET if parameters.has("acl") => "GetBucketAcl",
        Method::GET if parameters.has("tagging") => "GetBucketTagging",
        Method::GET if parameters.has("policy") => "GetBucketPolicy",
        Method::GET if parameters.has("uploads") => "ListMultipartUploads",
        Method::GET if parameters.has("versions") => "ListObjectVersions",
        Method::GET if parameters.is("list-type", "2") => "ListObjectsV2",
        Method::GET => "ListObjects",
        Method::PUT if parameters.has("versioning") => "PutBucketVersioning",
        Method::PUT if parameters.has("acl") => "PutBucketAcl",
        Method::PUT if parameters.has("tagging") => "PutBucketTagging",
        Method::PUT if parameters.has("policy") => "PutBucketPolicy",
        Method::PUT => "CreateBucket",
        Method::DELETE if parameters.has("tagging") => "DeleteBucketTagging",
        Method::DELETE if parameters.has("policy") => "DeleteBucketPolicy",
        Method::DELETE => "DeleteBucket",
        Method::POST if parameters.has("delete") => "DeleteObjects",
        _ => UNKNOWN,
    }
}

fn on_object(method: &Method, parameters: &Parameters<'_>, copies: bool) -> &'static str {
    let part = parameters.has("partNumber") && parameters.has("uploadId");
    match *method {
        Method::HEAD => "HeadObject",
        Method::GET if parameters.has("attributes") => "GetObjectAttributes",
        Method::GET if parameters.has("acl") => "GetObjectAcl",
        Method::GET if parameters.has("tagging") => "GetObjectTagging",
        Method::GET if parameters.has("uploadId") => "ListParts",
        Method::GET => "GetObject",
        Method::POST if parameters.has("uploads") => "CreateMultipartUpload",
        Method::POST if parameters.has("restore") => "RestoreObject",
        Method::POST if parameters.has("uploadId") => "CompleteMultipartUpload",
        Method::PUT if parameters.has("acl") => "PutObjectAcl",
        Method::PUT if parameters.has("tagging") => "PutObjectTagging",
        Method::PUT if part && copies => "UploadPartCopy",
        Method::PUT if part => "UploadPart",
        Method::PUT if copies => "CopyObject",
        Method::PUT => "PutObject",
        Method::DELETE if parameters.has("tagging") => "DeleteObjectTagging",
        Method::DELETE if parameters.has("uploadId") => "AbortMultipartUpload",
        Method::DELETE => "DeleteObject",
        _ => UNKNOWN,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn name(method: Method, uri: &str, copies: bool) -> (&'static str, Option<String>) {
        let mut headers = HeaderMap::new();
        if copies {
            headers.insert("x-amz-copy-source", "a/b".parse().unwrap());
        }
        let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
        let found = classify(&method, path, query, &headers);
        (found.operation, found.key)
    }

    #[test]
    fn operations_are_named() {
        let key = |key: &str| Some(key.to_owned());
        assert_eq!(name(Method::GET, "/", false), ("ListBuckets", None));
        assert_eq!(name(Method::GET, "/b?list-type=2&prefix=a%2F", false), ("ListObjectsV2", None));
        assert_eq!(name(Method::GET, "/b/?list-type=1", false), ("ListObjects", None));
        assert_eq!(name(Method::GET, "/b?uploads", false), ("ListMultipartUploads", None));
        assert_eq!(name(Method::POST, "/b?delete", false), ("DeleteObjects", None));
        assert_eq!(name(Method::HEAD, "/b", false), ("HeadBucket", None));
        assert_eq!(name(Method::GET, "/b/k?x-id=GetObject", false), ("GetObject", key("k")));
        assert_eq!(name(Method::PUT, "/b/a//c/", false), ("PutObject", key("a//c/")));
        assert_eq!(name(Method::PUT, "/b//", false), ("PutObject", key("/")));
        assert_eq!(name(Method::PUT, "/b/k%20%C3%A9", true), ("CopyObject", key("k \u{e9}")));
        assert_eq!(name(Method::PUT, "/b/k?partNumber=1&uploadId=x", false), ("UploadPart", key("k")));
        assert_eq!(name(Method::PUT, "/b/k?partNumber=1&uploadId=x", true), ("UploadPartCopy", key("k")));
        assert_eq!(name(Method::POST, "/b/k?uploads=", false), ("CreateMultipartUpload", key("k")));
        assert_eq!(name(Method::POST, "/b/k?uploadId=x", false), ("CompleteMultipartUpload", key("k")));
        assert_eq!(name(Method::DELETE, "/b/k?uploadId=x", false), ("AbortMultipartUpload", key("k")));
        assert_eq!(name(Method::PATCH, "/b/k", false), ("Unknown", key("k")));
    }
}
