//! A bucket as another client sees it: blocking calls that have to succeed.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use pailfs::store::error::ErrorKind;
use pailfs::store::object_store::{GetRequest, ObjectStore};
use pailfs::store::types::{
    Body, Condition, ETag, ListRequest, ObjectInfo, ObjectPath, PendingUpload, Properties,
};
use tokio::runtime::Runtime;

/// See the module head.
#[derive(Clone)]
pub struct Bucket {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) runtime: Arc<Runtime>,
    pub(super) name: String,
}

/// What an object is to be made with.
#[derive(Clone, Default)]
pub struct Object {
    pub properties: Properties,
    pub tags: BTreeMap<String, String>,
}

impl Object {
    pub fn with(change: impl FnOnce(&mut Properties)) -> Self {
        let mut object = Self::default();
        change(&mut object.properties);
        object
    }

    /// An object with this user metadata.
    pub fn meta(pairs: &[(&str, &str)]) -> Self {
        Self::with(|p| p.metadata = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }
}

impl Bucket {
    fn path(&self, key: &str) -> ObjectPath {
        ObjectPath::new(self.name.as_str(), key)
    }

    pub fn put(&self, key: &str, body: impl Into<Bytes>) -> ETag {
        self.put_object(key, body, &Object::default())
    }

    pub fn put_object(&self, key: &str, body: impl Into<Bytes>, object: &Object) -> ETag {
        let path = self.path(key);
        let put = self.store.put(&path, Body(body.into()), &object.properties, &object.tags, Condition::None);
        self.runtime.block_on(put).unwrap_or_else(|e| panic!("PUT {key:?}: {e}")).etag
    }

    pub fn get(&self, key: &str) -> Vec<u8> {
        self.try_get(key).unwrap_or_else(|| panic!("there is no object {key:?}: {:?}", self.keys("")))
    }

    /// The bytes of an object; `None` when there is none.
    pub fn try_get(&self, key: &str) -> Option<Vec<u8>> {
        let path = self.path(key);
        let get = async {
            let response = self.store.get(&path, GetRequest::default()).await?;
            let chunks: Vec<Bytes> = response.body.try_collect().await?;
            Ok(chunks.concat())
        };
        match self.runtime.block_on(get) {
            Ok(bytes) => Some(bytes),
            Err::<_, pailfs::store::error::StoreError>(e) if e.kind == ErrorKind::NotFound => None,
            Err(e) => panic!("GET {key:?}: {e}"),
        }
    }

    pub fn head(&self, key: &str) -> ObjectInfo {
        let path = self.path(key);
        self.runtime.block_on(self.store.head(&path)).unwrap_or_else(|e| panic!("HEAD {key:?}: {e}"))
    }

    pub fn exists(&self, key: &str) -> bool {
        let path = self.path(key);
        match self.runtime.block_on(self.store.head(&path)) {
            Ok(_) => true,
            Err(e) if e.kind == ErrorKind::NotFound => false,
            Err(e) => panic!("HEAD {key:?}: {e}"),
        }
    }

    pub fn delete(&self, key: &str) {
        let path = self.path(key);
        self.runtime.block_on(self.store.delete(&path, Condition::None)).unwrap();
    }

    pub fn tags(&self, key: &str) -> BTreeMap<String, String> {
        let path = self.path(key);
        self.runtime.block_on(self.store.tags(&path)).unwrap()
    }

    /// Every key below `prefix`.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let mut keys = Vec::new();
        let mut request =
            ListRequest { bucket: self.name.clone(), prefix: prefix.to_owned(), ..ListRequest::default() };
        loop {
            let page = self.runtime.block_on(self.store.list(request.clone())).unwrap();
            keys.extend(page.objects.into_iter().map(|o| o.key));
            match page.next {
                Some(next) => request.continuation = Some(next),
                None => return keys,
            }
        }
    }

    /// Multipart uploads that are neither completed nor given up.
    pub fn uploads(&self) -> Vec<PendingUpload> {
        self.runtime.block_on(self.store.list_uploads(&self.name, "")).unwrap()
    }
}
