//! `pailfs-s3 serve [DIR]`: the server as a command, for the demo and for scripts.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use pailfs_s3_server::{Backing, Server, ServerConfig};
use tokio::signal::unix::{SignalKind, signal};

/// An S3 server for tests and demos.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve objects from a directory, or from memory when none is given, until SIGTERM or SIGINT.
    Serve(Serve),
}

#[derive(Args)]
struct Serve {
    /// Directory that keeps the objects; created when missing.
    dir: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    #[arg(long, default_value = "pailfs-test", env = "PAILFS_S3_ACCESS_KEY")]
    access_key: String,
    #[arg(long, default_value = "pailfs-test-secret", env = "PAILFS_S3_SECRET_KEY", hide_env_values = true)]
    secret_key: String,
    /// A bucket that exists from the start; can be repeated.
    #[arg(long = "bucket", value_name = "NAME")]
    buckets: Vec<String>,
    /// Refuse requests signed for another region.
    #[arg(long)]
    region: Option<String>,
    /// Serve unsigned requests too.
    #[arg(long)]
    anonymous: bool,
    /// ETags from a counter instead of MD5, for measurements.
    #[arg(long)]
    fast_etags: bool,
    /// Smallest part before the last one of an upload, in bytes; 0 allows any.
    #[arg(long, default_value_t = 5 * 1024 * 1024)]
    part_size_min: u64,
    /// Most entries in a page of a listing.
    #[arg(long, default_value_t = 1000)]
    page_size: usize,
}

impl Serve {
    fn config(self) -> ServerConfig {
        ServerConfig {
            listen: self.listen,
            access_key: self.access_key,
            secret_key: self.secret_key,
            backing: self.dir.map_or(Backing::Memory, Backing::Directory),
            buckets: self.buckets,
            region: self.region,
            allow_anonymous: self.anonymous,
            fast_etags: self.fast_etags,
            part_size_min_bytes: self.part_size_min,
            page_size: self.page_size,
            ..ServerConfig::default()
        }
    }
}

async fn serve(config: ServerConfig) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = Server::start(config).await?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", server.endpoint())?;
    out.flush()?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    server.stop().await;
    Ok(())
}

fn main() -> ExitCode {
    let Command::Serve(options) = Cli::parse().command;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(serve(options.config()))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pailfs-s3: {error}");
            ExitCode::FAILURE
        }
    }
}
