//! A running server: listener, connections, and its end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::access::{Everybody, KeyPair};
use crate::api::Api;
use crate::config::ServerConfig;
use crate::counters::{Counters, Tally};
use crate::knobs::Knobs;
use crate::service::Shared;
use crate::storage::Storage;
use crate::wire::{Connection, Hangup};

/// How long the end of [`Server::start_blocking`] waits for work on the blocking pool.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);
/// Pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// A running server. Dropping it ends it; requests in progress are cut off.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    knobs: Arc<Knobs>,
    tally: Arc<Tally>,
    /// Closed by the drop, which ends the accept loop and with it every connection.
    stop: Option<watch::Sender<()>>,
    task: Option<tokio::task::JoinHandle<()>>,
    /// Closed when the storage is gone, with the last write in progress.
    gone: watch::Receiver<()>,
    /// Of [`Server::start_blocking`].
    thread: Option<JoinHandle<()>>,
}

fn service(config: &ServerConfig, storage: Arc<Storage>) -> S3Service {
    let mut builder = S3ServiceBuilder::new(Api {
        storage,
        page_size: config.page_size.max(1),
        part_size_min_bytes: config.part_size_min_bytes,
        fast_etags: config.fast_etags,
        region: config.region.clone(),
    });
    builder.set_auth(KeyPair::new(&config.access_key, &config.secret_key));
    if config.allow_anonymous {
        builder.set_access(Everybody);
    }
    builder.build()
}

fn open_storage(config: &ServerConfig) -> io::Result<Storage> {
    let storage = Storage::open(&config.backing)?;
    let existing = storage.buckets();
    for name in &config.buckets {
        if existing.iter().any(|(known, _)| known == name) {
            continue;
        }
        if !s3s::path::check_bucket_name(name) {
            let message = format!("{name:?} is not a bucket name");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        storage.create_bucket(name).map_err(io::Error::other)?;
    }
    Ok(storage)
}

impl Server {
    /// Starts a server on the current Tokio runtime. It serves when this returns.
    ///
    /// # Errors
    /// What binding the address or opening the directory answers; `InvalidInput` for a bucket name that is none.
    pub async fn start(config: ServerConfig) -> io::Result<Server> {
        let (storage, config) =
            tokio::task::spawn_blocking(move || open_storage(&config).map(|s| (s, config)))
                .await
                .map_err(io::Error::other)??;
        let listener = TcpListener::bind(config.listen).await?;
        let address = listener.local_addr()?;
        let gone = storage.watch_gone();
        let (knobs, tally) = (Arc::new(Knobs::default()), Arc::new(Tally::default()));
        let shared = Arc::new(Shared {
            s3: service(&config, Arc::new(storage)),
            knobs: Arc::clone(&knobs),
            tally: Arc::clone(&tally),
            region: config.region.map(|region| (region, config.wrong_region)),
            request_ids: AtomicU64::new(1),
        });
        let (stop, stopped) = watch::channel(());
        let task = tokio::spawn(accept(listener, shared, stopped));
        Ok(Server { address, knobs, tally, stop: Some(stop), task: Some(task), gone, thread: None })
    }

    /// Starts a server with a runtime and thread of its own, for callers without one.
    ///
    /// # Errors
    /// As [`Server::start`], and what making the runtime answers.
    pub fn start_blocking(config: ServerConfig) -> io::Result<Server> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.worker_threads.max(1))
            .thread_name("pailfs-s3")
            .enable_all()
            .build()?;
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        // The runtime lives and dies on its own thread, so the caller may be inside another one.
        let run = move || {
            let task = match runtime.block_on(Server::start(config)) {
                Ok(mut server) => {
                    let task = server.task.take();
                    let _ = tell.send(Ok(server));
                    task
                }
                Err(error) => {
                    let _ = tell.send(Err(error));
                    None
                }
            };
            if let Some(task) = task {
                // An error would be a panic of the accept loop, which has been reported.
                let _ = runtime.block_on(task);
            }
            runtime.shutdown_timeout(SHUTDOWN_MAX);
        };
        let thread = std::thread::Builder::new().name("pailfs-s3-main".to_owned()).spawn(run)?;
        let mut server = told.recv().map_err(io::Error::other)??;
        server.thread = Some(thread);
        Ok(server)
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL for clients, `http://127.0.0.1:PORT`; buckets are in the path.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Latency, rate and faults.
    pub fn knobs(&self) -> &Knobs {
        &self.knobs
    }

    /// What was asked since the start or the last reset.
    pub fn counters(&self) -> Counters {
        self.tally.snapshot()
    }

    /// Sets all counts to zero.
    pub fn reset_counters(&self) {
        self.tally.reset();
    }

    /// Ends the server and waits until its port and directory are free.
    pub async fn stop(mut self) {
        self.stop = None;
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
        // Nothing is ever sent: this returns when the other end is dropped.
        let _ = self.gone.changed().await;
        if let Some(thread) = self.thread.take() {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Accepts connections until `stopped` is closed, then drops them all.
async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stopped.changed() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    shared.tally.connections.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(serve_connection(stream, Arc::clone(&shared)));
                }
                // Out of descriptors, mostly: what is served now gives some back.
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    connections.shutdown().await;
}

async fn serve_connection(stream: TcpStream, shared: Arc<Shared>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let hangup = Arc::new(Hangup::default());
    let io = TokioIo::new(Connection::new(stream, Arc::clone(&hangup)));
    let of_requests = Arc::clone(&hangup);
    let serve = service_fn(move |request| Arc::clone(&shared).serve(Arc::clone(&of_requests), request));
    let connection = http1::Builder::new().serve_connection(io, serve);
    tokio::select! {
        ended = connection => if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        },
        () = hangup.demanded() => {}
    }
}
