//! From settings to the layers below: each one's own configuration, the store first.

use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use super::mount_dir::MountDir;
use super::preflight;
use super::stop::{Drains, Pending};
use crate::config::resolve::{Connection, Settings};
use crate::config::target::Target;
use crate::content::{ContentConfig, ContentStore};
use crate::failure::{Exit, Failure};
use crate::fs::filesystem::{AttrsMode, Filesystem, FsConfig, MountTarget, OnConflict};
use crate::fuse::{self, MountError, MountOptions, Mounted, QueuedNotifier, SessionConfig};
use crate::runtime::budget::Budget;
use crate::store;
use crate::store::metered::Metrics;
use crate::store::object_store::ObjectStore;
use crate::store::s3::{RetryMode, S3Config};

/// Most bytes fetched ahead of one sequential reader.
const WINDOW_MAX_BYTES: u64 = 64 << 20;

/// The store of `settings`, known to answer and to hold what is to be mounted.
///
/// # Errors
/// The screen that says why it does not.
pub async fn open_store(settings: &Settings) -> Result<(Arc<dyn ObjectStore>, Arc<Metrics>), Failure> {
    let connection = &settings.connection;
    let (store, metrics) = store::open_metered(&s3_config(connection))
        .await
        .map_err(|error| preflight::explain(&error, &settings.target, connection))?;
    preflight::check(&*store, &settings.target, connection).await?;
    Ok((store, metrics))
}

fn s3_config(connection: &Connection) -> S3Config {
    S3Config {
        endpoint_url: connection.endpoint_url.clone(),
        region: connection.region.clone(),
        profile: connection.profile.clone(),
        anonymous: connection.anonymous,
        force_path_style: connection.force_path_style,
        max_connections: connection.max_connections,
        max_attempts: connection.max_attempts,
        retry_mode: if connection.retry_adaptive { RetryMode::Adaptive } else { RetryMode::Standard },
        transfer_timeout: connection.transfer_timeout,
        connect_timeout: connection.connect_timeout,
        read_timeout: connection.read_timeout,
        ..S3Config::default()
    }
}

/// The filesystem of `settings` over `store`.
///
/// # Errors
/// When the cache directory cannot be used.
pub fn filesystem(
    settings: &Settings,
    dir: &MountDir,
    store: Arc<dyn ObjectStore>,
    notifier: Arc<QueuedNotifier>,
) -> Result<Arc<Filesystem>, Failure> {
    let budget = Arc::new(Budget::new(settings.local.memory_limit_bytes));
    let content_config = ContentConfig {
        dir: dir.content(),
        cache_size_bytes: settings.local.cache_size_bytes,
        window_max_bytes: WINDOW_MAX_BYTES.min(settings.local.memory_limit_bytes / 4),
        budget: budget.clone(),
    };
    let content = ContentStore::open(content_config, store.clone(), Handle::current()).map_err(|error| {
        let what = format!("the cache directory {} cannot be used", dir.content().display());
        Failure::new(Exit::CannotCreate, what).detail(error.to_string())
    })?;
    Filesystem::new(fs_config(settings, dir, budget), store, content, notifier).map_err(|error| {
        Failure::new(Exit::Internal, "the filesystem cannot be set up").detail(error.to_string())
    })
}

fn fs_config(settings: &Settings, dir: &MountDir, budget: Arc<Budget>) -> FsConfig {
    let (access, writing) = (&settings.access, &settings.writing);
    FsConfig {
        target: match &settings.target {
            Target::Bucket { bucket, prefix } => {
                MountTarget::Bucket { bucket: bucket.clone(), prefix: prefix.clone() }
            }
            Target::AllBuckets => MountTarget::AllBuckets,
        },
        ttl: settings.ttl,
        open_window: settings.open_window,
        attrs: if settings.attrs_posix { AttrsMode::Posix } else { AttrsMode::List },
        read_only: access.read_only,
        uid: access.uid,
        gid: access.gid,
        file_mode: access.file_mode,
        dir_mode: access.dir_mode,
        part_size_bytes: writing.part_size_bytes,
        multipart_threshold_bytes: writing.multipart_threshold_bytes,
        upload_concurrency: writing.upload_concurrency,
        staging_dir: dir.staging(),
        conflicts_dir: dir.conflicts(),
        on_conflict: if writing.overwrite_on_conflict { OnConflict::Overwrite } else { OnConflict::Fail },
        storage_class: writing.storage_class.clone(),
        budget,
    }
}

/// Mounts `filesystem`. Blocks for as long as the kernel or `fusermount3` takes.
///
/// # Errors
/// The screen that says why it could not be mounted.
pub fn mount(
    settings: &Settings,
    mountpoint: &Path,
    filesystem: Arc<Filesystem>,
    notifier: Arc<QueuedNotifier>,
    runtime: Handle,
) -> Result<Mounted, Failure> {
    let kernel = settings.access.kernel;
    let defaults = MountOptions::default();
    let options = MountOptions {
        source: settings.target.to_string(),
        allow_other: settings.access.allow_other,
        read_only: settings.access.read_only,
        dev: kernel.dev.unwrap_or(defaults.dev),
        suid: kernel.suid.unwrap_or(defaults.suid),
        exec: kernel.exec.unwrap_or(defaults.exec),
        noatime: kernel.atime.map_or(defaults.noatime, |atime| !atime),
    };
    fuse::mount(mountpoint, &options, &SessionConfig::default(), filesystem, notifier, runtime)
        .map_err(|error| refused(&error))
}

/// The daemon has looked at the mountpoint before: what is left is rare and told in the adapter's words.
fn refused(error: &MountError) -> Failure {
    let failure = |exit| Failure::new(exit, error.to_string());
    match error {
        MountError::NoDevice | MountError::Device(_) => failure(Exit::System)
            .advise("on a machine of its own: load the module as root with 'modprobe fuse'")
            .advise("in a container: start it with --device /dev/fuse --cap-add SYS_ADMIN"),
        MountError::NoHelper(_) => failure(Exit::System).advise("install it as root: apt-get install fuse3"),
        MountError::Missing(_) | MountError::NotDirectory(_) => failure(Exit::NoInput),
        MountError::Stale(_) | MountError::Busy(_) => failure(Exit::Busy),
        MountError::AllowOther(_) => {
            failure(Exit::Denied).advise("as root, add the line 'user_allow_other' to /etc/fuse.conf")
        }
        MountError::NotPermitted(_) => failure(Exit::Denied)
            .advise("in a container: start it with --device /dev/fuse --cap-add SYS_ADMIN")
            .advise("as a user: mount on a directory of your own"),
        MountError::Failed { .. } => failure(Exit::System),
    }
}

impl Drains for Filesystem {
    fn pending(&self) -> Vec<Pending> {
        let files = Filesystem::pending(self);
        files.into_iter().map(|file| Pending { path: file.path, bytes: file.bytes }).collect()
    }

    fn drain(&self) -> BoxFuture<'_, Vec<(String, String)>> {
        Box::pin(async move {
            let report = Filesystem::drain(self).await;
            report.failed.into_iter().map(|(path, error)| (path, error.to_string())).collect()
        })
    }
}
