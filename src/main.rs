//! The `pailfs` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    pailfs::cli::run(std::env::args_os().collect())
}
