//! ListObjectsV2 in memory.

use std::ops::Bound;

use super::state::State;
use crate::store::error::{ErrorKind, Result, StoreError};
use crate::store::types::{ListPage, ListRequest, ListedObject};

/// What a continuation token stands for: the last thing of the page before.
const AFTER_KEY: char = 'k';
const AFTER_PREFIX: char = 'p';

impl State {
    pub(super) fn list(&self, request: &ListRequest, page_size: usize) -> Result<ListPage> {
        const OPERATION: &str = "ListObjectsV2";
        let objects = &self.bucket(OPERATION, &request.bucket)?.objects;
        let page_size = match request.max_keys {
            0 => page_size,
            max => page_size.min(usize::try_from(max).unwrap_or(usize::MAX)),
        };
        let mut from = start(request).ok_or_else(|| {
            let message = "the continuation token is not one";
            StoreError::new(ErrorKind::InvalidRequest, OPERATION, &request.bucket, message)
                .with_code("InvalidArgument")
        })?;
        let mut page = ListPage::default();
        let mut last = None;
        loop {
            let mut rest = objects.range::<str, _>((as_str(&from), Bound::Unbounded));
            let Some((key, object)) = rest.next().filter(|(key, _)| key.starts_with(&request.prefix)) else {
                return Ok(page);
            };
            if page.objects.len() + page.prefixes.len() == page_size {
                page.next = last;
                return Ok(page);
            }
            match common_prefix(key, request) {
                Some(prefix) => {
                    last = Some(format!("{AFTER_PREFIX}{prefix}"));
                    from = Bound::Included(past_prefix(prefix));
                    page.prefixes.push(prefix.to_owned());
                }
                None => {
                    last = Some(format!("{AFTER_KEY}{key}"));
                    from = Bound::Excluded(key.clone());
                    page.objects.push(ListedObject {
                        key: key.clone(),
                        version: object.version(),
                        storage_class: object.properties.storage_class.clone(),
                    });
                }
            }
        }
    }
}

/// Where the page begins; `None` for a token that is none.
fn start(request: &ListRequest) -> Option<Bound<String>> {
    let prefix = Bound::Included(request.prefix.clone());
    let asked = match (&request.continuation, &request.start_after) {
        (Some(token), _) => match (token.strip_prefix(AFTER_KEY), token.strip_prefix(AFTER_PREFIX)) {
            (Some(key), _) => Bound::Excluded(key.to_owned()),
            (None, Some(prefix)) => Bound::Included(past_prefix(prefix)),
            (None, None) => return None,
        },
        (None, Some(after)) if *after >= request.prefix => Bound::Excluded(after.clone()),
        (None, _) => prefix,
    };
    Some(asked)
}

/// The common prefix that `key` disappears in.
fn common_prefix<'a>(key: &'a str, request: &ListRequest) -> Option<&'a str> {
    let rest = key.get(request.prefix.len()..).filter(|_| request.delimited)?;
    let end = request.prefix.len() + rest.find('/')? + 1;
    key.get(..end)
}

/// The first key that does not begin with `prefix`, which ends in a slash: a zero follows the slash in ASCII.
fn past_prefix(prefix: &str) -> String {
    format!("{}0", prefix.strip_suffix('/').unwrap_or(prefix))
}

fn as_str(bound: &Bound<String>) -> Bound<&str> {
    match bound {
        Bound::Included(key) => Bound::Included(key),
        Bound::Excluded(key) => Bound::Excluded(key),
        Bound::Unbounded => Bound::Unbounded,
    }
}
