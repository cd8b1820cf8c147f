//! The command line: the only place that knows clap.

mod argv;
mod command;
mod mount;
mod umount;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::ArgMatches;

use crate::failure::{Exit, Failure};

/// Runs the command that `argv` (the program's name first) asks for and returns its exit code.
pub fn run(argv: Vec<OsString>) -> ExitCode {
    let argv = argv::normalised(argv);
    let matches = match command::command().try_get_matches_from(&argv) {
        Ok(matches) => matches,
        Err(error) => {
            // Nothing can be done about a closed terminal.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.code().into() } else { ExitCode::SUCCESS };
        }
    };
    match dispatch(&argv, &matches) {
        Ok(code) => code.into(),
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit.code().into()
        }
    }
}

fn dispatch(argv: &[OsString], matches: &ArgMatches) -> Result<u8, Failure> {
    match matches.subcommand() {
        Some(("mount", matches)) => mount::run(argv, matches),
        Some(("umount", matches)) => umount::run(matches),
        _ => Err(Failure::new(Exit::Usage, "no command; 'pailfs --help' lists them")),
    }
}
