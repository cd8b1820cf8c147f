//! One page of a listing: order of the keys' bytes, prefix, delimiter, start, limit.
//!
//! Pure functions over a sorted map. The cost of a page is that of its entries: a common prefix is one step,
//! however many keys are below it.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Bound;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::EncodingType;
use s3s::{S3Result, s3_error};

/// Where a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum After {
    Start,
    /// Keys greater than this one.
    Key(String),
    /// Keys greater than all that begin with this common prefix.
    Prefix(String),
}

/// What a page is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Query<'a> {
    pub(crate) prefix: &'a str,
    /// Empty means none.
    pub(crate) delimiter: &'a str,
    pub(crate) after: After,
    /// Most keys and common prefixes together.
    pub(crate) limit: usize,
}

/// One entry of a page, borrowed from the map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry<'a, V> {
    Key(&'a str, &'a V),
    Prefix(&'a str),
}

/// A page and where the next one begins; None when this was the last.
#[derive(Debug)]
pub(crate) struct Page<'a, V> {
    pub(crate) entries: Vec<Entry<'a, V>>,
    pub(crate) next: Option<After>,
}

/// The smallest string greater than every string that begins with `prefix`; None when there is none.
fn after_prefix(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // The order of code points is the order of their UTF-8 bytes; surrogates are no code points of text.
        let successor = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            other => char::from_u32(other as u32 + 1),
        };
        if let Some(successor) = successor {
            chars.push(successor);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

/// Cuts a page out of `map`.
pub(crate) fn page<'a, K, V>(map: &'a BTreeMap<K, V>, query: &Query<'_>) -> Page<'a, V>
where
    K: Borrow<str> + Ord,
{
    let mut entries = Vec::new();
    if query.limit == 0 {
        return Page { entries, next: None };
    }
    let mut lower: Bound<String> = Bound::Included(query.prefix.to_owned());
    match &query.after {
        After::Start => {}
        After::Key(key) if key.as_str() < query.prefix => {}
        After::Key(key) => lower = Bound::Excluded(key.clone()),
        After::Prefix(prefix) => match after_prefix(prefix) {
            Some(bound) if bound.as_str() < query.prefix => {}
            Some(bound) => lower = Bound::Included(bound),
            None => return Page { entries, next: None },
        },
    }
    loop {
        let bounds = (lower.as_ref().map(String::as_str), Bound::Unbounded);
        let mut restart = None;
        for (key, value) in map.range::<str, _>(bounds) {
            let key: &'a str = key.borrow();
            let Some(rest) = key.strip_prefix(query.prefix) else {
                return Page { entries, next: None };
            };
            if entries.len() == query.limit {
                return Page { next: entries.last().map(resume_after), entries };
            }
            let cut = if query.delimiter.is_empty() { None } else { rest.find(query.delimiter) };
            let Some(position) = cut else {
                entries.push(Entry::Key(key, value));
                continue;
            };
            let common = &key[..query.prefix.len() + position + query.delimiter.len()];
            entries.push(Entry::Prefix(common));
            restart = Some(after_prefix(common));
            break;
        }
        match restart {
            Some(Some(bound)) => lower = Bound::Included(bound),
            Some(None) | None => return Page { entries, next: None },
        }
    }
}

fn resume_after<V>(entry: &Entry<'_, V>) -> After {
    match entry {
        Entry::Key(key, _) => After::Key((*key).to_owned()),
        Entry::Prefix(prefix) => After::Prefix((*prefix).to_owned()),
    }
}

/// A continuation token, opaque to clients.
pub(crate) fn token(after: &After) -> Option<String> {
    match after {
        After::Start => None,
        After::Key(key) => Some(BASE64.encode(format!("k{key}"))),
        After::Prefix(prefix) => Some(BASE64.encode(format!("p{prefix}"))),
    }
}

/// The place that a continuation token names.
///
/// # Errors
/// InvalidArgument for a token that this server did not give out.
pub(crate) fn after_token(token: &str) -> S3Result<After> {
    let invalid = || s3_error!(InvalidArgument, "The continuation token provided is incorrect");
    let text =
        BASE64.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(invalid)?;
    match text.split_at_checked(1) {
        Some(("k", key)) => Ok(After::Key(key.to_owned())),
        Some(("p", prefix)) => Ok(After::Prefix(prefix.to_owned())),
        _ => Err(invalid()),
    }
}

/// What `encoding-type=url` leaves as it is. A space becomes `+`, as S3 does it.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'*').remove(b'/');

/// A key as `encoding-type=url` writes it.
fn url_encoded(text: &str) -> String {
    utf8_percent_encode(text, KEPT).to_string().replace("%20", "+")
}

/// How keys are written in an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encoding(bool);

impl Encoding {
    /// What `encoding-type` asks for.
    ///
    /// # Errors
    /// InvalidArgument for another word than `url`.
    pub(crate) fn of(requested: Option<&EncodingType>) -> S3Result<Self> {
        match requested.map(EncodingType::as_str) {
            None => Ok(Self(false)),
            Some(EncodingType::URL) => Ok(Self(true)),
            Some(_) => Err(s3_error!(InvalidArgument, "Invalid Encoding Method specified in Request")),
        }
    }

    /// A key or prefix as it is written.
    pub(crate) fn text(self, text: &str) -> String {
        if self.0 { url_encoded(text) } else { text.to_owned() }
    }

    /// As [`Self::text`], for what may be missing.
    pub(crate) fn option(self, text: Option<&String>) -> Option<String> {
        text.map(|text| self.text(text))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn map(keys: &[&str]) -> BTreeMap<String, ()> {
        keys.iter().map(|key| ((*key).to_owned(), ())).collect()
    }

    fn names(page: &Page<'_, ()>) -> Vec<String> {
        let name = |entry: &Entry<'_, ()>| match entry {
            Entry::Key(key, ()) => (*key).to_owned(),
            Entry::Prefix(prefix) => format!("<{prefix}>"),
        };
        page.entries.iter().map(name).collect()
    }

    fn list(
        keys: &[&str],
        prefix: &str,
        delimiter: &str,
        after: After,
        limit: usize,
    ) -> (Vec<String>, Option<After>) {
        let map = map(keys);
        let page = page(&map, &Query { prefix, delimiter, after, limit });
        (names(&page), page.next)
    }

    const KEYS: &[&str] =
        &["a", "a-b", "a/b", "a/c/d", "a/c/e", "a0", "b", "b/", "b//x", "\u{e9}", "\u{10000}"];

    #[test]
    fn order_is_that_of_bytes() {
        let (all, next) = list(KEYS, "", "", After::Start, 1000);
        assert_eq!(
            all,
            ["a", "a-b", "a/b", "a/c/d", "a/c/e", "a0", "b", "b/", "b//x", "\u{e9}", "\u{10000}"]
        );
        assert_eq!(next, None);
    }

    #[test]
    fn delimiters_make_common_prefixes() {
        let (top, _) = list(KEYS, "", "/", After::Start, 1000);
        assert_eq!(top, ["a", "a-b", "<a/>", "a0", "b", "<b/>", "\u{e9}", "\u{10000}"]);
        let (below, _) = list(KEYS, "a/", "/", After::Start, 1000);
        assert_eq!(below, ["a/b", "<a/c/>"]);
        let (below, _) = list(KEYS, "b/", "/", After::Start, 1000);
        assert_eq!(below, ["b/", "<b//>"]);
        let (long, _) = list(KEYS, "", "c/", After::Start, 1000);
        assert_eq!(long, ["a", "a-b", "a/b", "<a/c/>", "a0", "b", "b/", "b//x", "\u{e9}", "\u{10000}"]);
    }

    #[test]
    fn pages_of_every_size_give_the_same_listing() {
        for delimiter in ["", "/"] {
            let (whole, _) = list(KEYS, "", delimiter, After::Start, 1000);
            for limit in 1..=KEYS.len() + 1 {
                let mut after = After::Start;
                let mut collected = Vec::new();
                loop {
                    let (names, next) = list(KEYS, "", delimiter, after, limit);
                    assert!(names.len() <= limit);
                    collected.extend(names);
                    let Some(next) = next else { break };
                    after = after_token(&token(&next).unwrap()).unwrap();
                }
                assert_eq!(collected, whole, "delimiter {delimiter:?}, limit {limit}");
            }
        }
    }

    #[test]
    fn a_full_last_page_is_not_truncated() {
        assert_eq!(list(&["a", "b"], "", "", After::Start, 2).1, None);
        assert_eq!(list(&["a/1", "a/2"], "", "/", After::Start, 1).1, None);
        assert_eq!(list(&["a", "b"], "", "", After::Start, 1).1, Some(After::Key("a".into())));
        assert_eq!(list(&["a"], "", "", After::Start, 0), (vec![], None));
    }

    #[test]
    fn start_after() {
        let after = |key: &str| After::Key(key.to_owned());
        // Before, inside and behind the prefix.
        assert_eq!(list(KEYS, "a/", "", after("0"), 9).0, ["a/b", "a/c/d", "a/c/e"]);
        assert_eq!(list(KEYS, "a/", "", after("a/b"), 9).0, ["a/c/d", "a/c/e"]);
        assert_eq!(list(KEYS, "a/", "", after("z"), 9).0, [""; 0]);
        // Inside a common prefix: what remains below it still makes one.
        assert_eq!(list(KEYS, "a/", "/", after("a/c/d"), 9).0, ["<a/c/>"]);
        assert_eq!(list(KEYS, "a/", "/", after("a/c/e"), 9).0, [""; 0]);
        assert_eq!(list(KEYS, "", "/", after("a/c/d"), 3).0, ["<a/>", "a0", "b"]);
    }

    #[test]
    fn the_end_of_a_prefix_is_found_for_every_last_character() {
        assert_eq!(after_prefix("a/"), Some("a0".to_owned()));
        assert_eq!(after_prefix("a\u{d7ff}"), Some("a\u{e000}".to_owned()));
        assert_eq!(after_prefix("a\u{10ffff}"), Some("b".to_owned()));
        assert_eq!(after_prefix("\u{10ffff}"), None);
        assert_eq!(after_prefix(""), None);
    }

    #[test]
    fn url_encoding() {
        assert_eq!(url_encoded("a b/c+d\u{1}\u{e9}~*"), "a+b/c%2Bd%01%C3%A9%7E*");
        assert!(after_token("%%").is_err());
        assert!(after_token("").is_err());
    }
}
