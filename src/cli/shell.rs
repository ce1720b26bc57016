//! `imgbuild shell`.

use super::Exit;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {}

/// Runs the command.
pub fn run(_: &super::Arguments, _: &Arguments) -> Exit {
    Exit::Done
}
