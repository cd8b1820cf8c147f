use pailfs::store::types::ListRequest;

use crate::subject::{BUCKET, Subject, odd_keys, path};

async fn fill(s: &Subject, keys: &[&str]) {
    for key in keys {
        s.put(key, "x").await;
    }
}

fn request(prefix: &str, delimited: bool) -> ListRequest {
    ListRequest { bucket: BUCKET.to_owned(), prefix: prefix.to_owned(), delimited, ..ListRequest::default() }
}

fn sorted(mut keys: Vec<String>) -> Vec<String> {
    keys.sort();
    keys
}

pub async fn keys_come_in_byte_order(s: &Subject) {
    // UTF-16 would put U+FFFD after U+1F600, a tree walk would put a/ before a-b.
    let keys = ["a", "a-b", "a.b", "a/", "a/b", "a/b/c", "a0", "B", "\u{e9}", "\u{fffd}", "\u{1f600}", "~"];
    fill(s, &keys).await;
    assert_eq!(s.keys("").await, sorted(keys.map(str::to_owned).into()));
    let listed = s.list("", true).await;
    let objects: Vec<_> = listed.objects.into_iter().map(|object| object.key).collect();
    assert_eq!(objects, sorted(objects.clone()));
    assert_eq!(listed.prefixes, ["a/"]);
}

pub async fn pages_join_without_gap_or_overlap(s: &Subject) {
    let keys =
        ["a", "a-b", "a/", "a/1", "a/2", "a/sub/1", "a/sub/2", "a0", "b/1", "b/2", "c", "c/", "d/x/y", "e"];
    fill(s, &keys).await;
    for delimited in [false, true] {
        for prefix in ["", "a", "a/", "a/sub/", "c"] {
            let whole = s.list(prefix, delimited).await;
            for max_keys in [1, 2, 3, 5, 100] {
                let paged = s.list_all(ListRequest { max_keys, ..request(prefix, delimited) }).await;
                assert_eq!(paged.objects, whole.objects, "{prefix:?} {delimited} {max_keys}");
                assert_eq!(paged.prefixes, whole.prefixes, "{prefix:?} {delimited} {max_keys}");
            }
        }
    }
    let paged = s.list_all(ListRequest { max_keys: 1, ..request("", true) }).await;
    assert_eq!(paged.prefixes, ["a/", "b/", "c/", "d/"]);
    let full = s.store.list(ListRequest { max_keys: 14, ..request("", false) }).await.unwrap();
    assert_eq!(full.objects.len(), 14);
    assert_eq!(full.next, None);
}

pub async fn prefixes_are_grouped(s: &Subject) {
    fill(s, &["a//b", "a//c", "a/x", "a/y/z", "//", "top"]).await;
    let listed = |page: pailfs::store::types::ListPage| {
        (page.prefixes, page.objects.into_iter().map(|object| object.key).collect::<Vec<_>>())
    };
    let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(listed(s.list("", true).await), (strings(&["/", "a/"]), strings(&["top"])));
    assert_eq!(listed(s.list("a/", true).await), (strings(&["a//", "a/y/"]), strings(&["a/x"])));
    assert_eq!(listed(s.list("a//", true).await), (vec![], strings(&["a//b", "a//c"])));
    assert_eq!(listed(s.list("/", true).await), (strings(&["//"]), vec![]));
    assert_eq!(listed(s.list("a", true).await), (strings(&["a/"]), vec![]));
}

pub async fn a_listing_starts_after_a_key(s: &Subject) {
    fill(s, &["a", "b", "b/1", "b/2", "c"]).await;
    let after = async |prefix: &str, start: &str| {
        let request = ListRequest { start_after: Some(start.to_owned()), ..request(prefix, false) };
        let page = s.list_all(ListRequest { max_keys: 1, ..request }).await;
        page.objects.into_iter().map(|object| object.key).collect::<Vec<_>>()
    };
    assert_eq!(after("", "a").await, ["b", "b/1", "b/2", "c"]);
    assert_eq!(after("", "b/").await, ["b/1", "b/2", "c"]);
    assert_eq!(after("", "b/1").await, ["b/2", "c"]);
    assert_eq!(after("", "zz").await, [""; 0]);
    assert_eq!(after("b/", "a").await, ["b/1", "b/2"]);
    assert_eq!(after("b/", "b/1").await, ["b/2"]);
    assert_eq!(after("b/", "c").await, [""; 0]);
}

pub async fn a_listing_starts_inside_a_group(s: &Subject) {
    fill(s, &["a/1", "a/2", "b/1", "c"]).await;
    let after = async |start: &str| {
        let request = ListRequest { start_after: Some(start.to_owned()), ..request("", true) };
        let page = s.list_all(request).await;
        (page.prefixes, page.objects.len())
    };
    assert_eq!(after("a/1").await, (vec!["a/".to_owned(), "b/".to_owned()], 1));
    assert_eq!(after("a/2").await, (vec!["b/".to_owned()], 1));
    assert_eq!(after("b0").await, (vec![], 1));
}

pub async fn odd_keys_are_listed(s: &Subject) {
    for key in odd_keys() {
        s.put(&key, "x").await;
    }
    assert_eq!(s.keys("").await, sorted(odd_keys()));
    for key in odd_keys() {
        assert!(s.keys(&key).await.contains(&key), "{key:?}");
    }
    let paged = s.list_all(ListRequest { max_keys: 1, ..request("", false) }).await;
    assert_eq!(paged.objects.into_iter().map(|object| object.key).collect::<Vec<_>>(), sorted(odd_keys()));
    let starts = sorted(odd_keys());
    for (at, key) in starts.iter().enumerate() {
        let after = ListRequest { start_after: Some(key.clone()), ..request("", false) };
        let page = s.list_all(after).await;
        assert_eq!(page.objects.len(), starts.len() - at - 1, "{key:?}");
    }
}

pub async fn a_listing_names_the_version_of_head(s: &Subject) {
    for i in 0..5 {
        s.put(&format!("k{i}"), format!("{i}").repeat(i)).await;
    }
    for object in s.list("", false).await.objects {
        let info = s.store.head(&path(&object.key)).await.unwrap();
        assert_eq!(object.version, info.version);
        assert_eq!(object.storage_class, None);
    }
}

pub async fn nothing_listed_is_no_error(s: &Subject) {
    let page = s.store.list(request("", true)).await.unwrap();
    assert!(page.objects.is_empty() && page.prefixes.is_empty() && page.next.is_none());
    s.put("b", "x").await;
    let page = s.store.list(request("a/", true)).await.unwrap();
    assert!(page.objects.is_empty() && page.prefixes.is_empty() && page.next.is_none());
}
