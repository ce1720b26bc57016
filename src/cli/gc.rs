//! `imgbuild gc`.

use super::setup::Setup;
use super::{Exit, render};
use crate::store::FileLock;

/// Arguments of `gc`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only say what would be removed
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs the command.
pub fn run(arguments: &super::Arguments, own: &Arguments) -> Exit {
    let setup = match Setup::open(arguments) {
        Ok(setup) => setup,
        Err(exit) => return exit,
    };
    let store = &setup.store;
    let failed = |error: crate::store::StoreError| {
        let exit = Exit::from(&error);
        render::say(&render::error(error));
        exit
    };
    let held = match FileLock::try_take(&store.use_lock()) {
        Ok(Some(held)) => held,
        Ok(None) => {
            render::say("a build uses the store: run gc again when it is done");
            return Exit::Machine;
        }
        Err(error) => return failed(error),
    };
    // Nobody uses the store now: what is left of others is of killed ones.
    let left = store.leftovers();
    let gone = match store.unreachable() {
        Ok(gone) => gone,
        Err(error) => return failed(error),
    };
    let count = gone.inside.len() + gone.outside.len();
    if own.dry_run {
        for path in gone.inside.iter().chain(&gone.outside) {
            render::print(&format!("{path}\n"));
        }
        render::say(&format!("{count} entries would be removed"));
        return Exit::Done;
    }
    if let Err(error) = setup.namespace.call::<_, usize>("remove", &gone.inside, &mut |_| {}) {
        let exit = Exit::from(&error);
        render::say(&render::error(error));
        return exit;
    }
    for path in &gone.outside {
        let path = store.directory().join(path);
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        if let Err(source) = removed {
            return failed(crate::store::StoreError::io("remove", &path, source));
        }
    }
    if !left.is_empty() && setup.namespace.call::<_, usize>("remove", &left.inside, &mut |_| {}).is_ok() {
        left.remove();
    }
    drop(held);
    render::say(&format!("{count} entries removed"));
    Exit::Done
}
