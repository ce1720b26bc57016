//! `imgbuild store`.

use super::Exit;

mod carry;

/// Subcommands of `store`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Write what the last builds need into one file
    Save(carry::SaveArguments),
    /// Take in what such a file has
    Load(carry::LoadArguments),
}

/// Runs the command.
pub fn run(arguments: &super::Arguments, command: &Command) -> Exit {
    match command {
        Command::Save(own) => carry::save(arguments, own),
        Command::Load(own) => carry::load(arguments, own),
    }
}
