//! The requests that change attributes without sending content: copies on the server, and directories' own objects.

use super::{Committer, Job};
use crate::fs::error::Result;
use crate::namespace::node::Marker;
use crate::store::types::{
    Body, Condition, CopyProperties, CopyRequest, ObjectPath, Properties, Version, Written,
};

impl Committer {
    /// A directory's own object: without bytes, so that a put replaces its attributes. One with bytes is
    /// somebody's, and is copied onto itself.
    pub(super) async fn send_marker(&self, job: &Job) -> Result<()> {
        if job.version.as_ref().is_some_and(|v| v.size > 0) {
            return self.send_attributes(job).await;
        }
        let tags = self.tags(job).await?;
        let written =
            self.store.put(&job.path, Body::default(), &job.properties, &tags, Condition::None).await?;
        self.committed(job, &written, 0);
        self.names.table().set_marker(job.ino, Marker::Present);
        Ok(())
    }

    /// Attributes alone: one copy of the object onto itself.
    pub(super) async fn send_attributes(&self, job: &Job) -> Result<()> {
        let Some(version) = &job.version else {
            // Never committed and not dirty: a file that is open and was not flushed yet.
            return Ok(());
        };
        // The source's version is checked by the copy itself; parts are copied one by one, so the end asks again.
        let large = version.size > crate::store::types::COPY_MAX_BYTES;
        let condition = if large { job.condition.clone() } else { Condition::None };
        let written = self.copy(&job.path, version, &job.path, condition, &job.properties).await?;
        self.sent_attributes(job, &written);
        Ok(())
    }

    /// The object is a copy of itself now: the same bytes are another version.
    pub(crate) fn sent_attributes(&self, job: &Job, written: &Written) {
        let Some(version) = &job.version else { return };
        let new = self.committed(job, written, version.size);
        if let Some(file) = &job.file {
            file.relocate(&job.path, &job.path, &new);
        } else {
            self.content.object(&job.path, version).relocate(job.path.clone(), new);
        }
    }

    /// Copies a version on the server, in ranges when it is too large for one call.
    pub(crate) async fn copy(
        &self,
        from: &ObjectPath,
        version: &Version,
        to: &ObjectPath,
        condition: Condition,
        properties: &Properties,
    ) -> Result<Written> {
        if version.size > crate::store::types::COPY_MAX_BYTES {
            return self.copy_in_parts(from, version, to, condition, properties).await;
        }
        let request = CopyRequest {
            from: from.clone(),
            from_etag: Some(version.etag.clone()),
            to: to.clone(),
            condition,
            properties: CopyProperties::Replace(Box::new(properties.clone())),
        };
        Ok(self.store.copy(request).await?)
    }
}
