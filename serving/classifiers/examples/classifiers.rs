//! `ml-inference classifiers` by itself, which is built in a moment.

#![allow(clippy::print_stderr)]

use std::process::ExitCode;

use clap::Parser;
use classifiers::Classifiers;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Classifiers,
}

fn main() -> ExitCode {
    match Cli::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("classifiers: {error}");
            ExitCode::FAILURE
        }
    }
}
