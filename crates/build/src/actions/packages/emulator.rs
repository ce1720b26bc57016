//! What runs programs of an image whose CPU is not the host's.
//!
//! Tools (the package manager, kmod) are the host's CPU's own and run as they are; what packages and recipes bring is emulated.
//! The emulator is one of the tools where the distribution has one, and so locked like them; else it is the host's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use crate::StageError;
use crate::actions::Context;
use crate::actions::packages::inputs::root;
use crate::actions::packages::requests::target;
use crate::actions::packages::tools::{Before, tools_run_here};
use crate::bench::Bench;
use crate::bench::results::Done;
use base::digest::Digest;
use packages::manager;
use plan::{Action, ActionKind, key_and_trace};
use recipe::{Lock, PassRole, Recipe};
use sandbox::Namespace;
use sandbox::emulator;
use store::Store;

/// Variable with the path of a static emulator, QEMU's for one user, in place of any other.
pub(crate) const VARIABLE: &str = "IMGBUILD_EMULATOR_PROGRAM";

pub fn namespace_for(namespace: &Namespace, recipe: &Recipe) -> Namespace {
    namespace.for_machine(recipe.model.image.arch.machine())
}

/// Has an emulator for what runs next, where one is needed: `tools` gives the layer of the tools root.
/// Errors: [`StageError::NoEmulator`] where neither the tools nor the host have one; what `tools` says.
pub(crate) fn ensure(
    namespace: &Namespace,
    store: &Store,
    tools: impl FnOnce() -> Result<Option<Digest>, StageError>,
) -> Result<(), StageError> {
    let Some(machine) = namespace.lacks_emulator() else { return Ok(()) };
    if let Some(program) = std::env::var_os(VARIABLE).map(PathBuf::from) {
        return match std::path::absolute(&program).ok().filter(|path| is_static(path)) {
            Some(path) => {
                namespace.emulated_by(path);
                Ok(())
            }
            None => Err(no_emulator(
                machine,
                format!("{VARIABLE} names `{}`, which is no static program", program.display()),
            )),
        };
    }
    if let Some(layer) = tools()? {
        let root = store.directory();
        let program = emulator::in_root(&root.join(Store::tree_name(&layer)), machine).filter(|path| is_static(path));
        // Operations start in the store's directory, and may not be allowed to come to it from above.
        if let Some(below) = program.as_deref().and_then(|path| path.strip_prefix(root).ok()) {
            namespace.emulated_by(below.to_owned());
            return Ok(());
        }
    }
    let found = emulator::in_root(Path::new("/"), machine).filter(|path| is_static(path));
    let missing = || no_emulator(machine, "neither the tools root nor this host has a static one".to_owned());
    namespace.emulated_by(found.ok_or_else(missing)?);
    Ok(())
}

/// The same for an action of a build, by the tools root of its lock, which is made where it is missing. Tools themselves are only
/// unpacked.
/// Errors: As [`ensure`]; what making the tools root says.
pub(crate) fn of_action(
    bench: &Bench<'_>,
    just_made: &Mutex<BTreeMap<Digest, Duration>>,
    action: &Action,
    context: &Context<'_>,
) -> Result<(), StageError> {
    if matches!(action.kind, ActionKind::Unpack | ActionKind::Container) {
        return Ok(());
    }
    ensure(bench.namespace, bench.store, || {
        let Some(pass) = context.lock.pass(PassRole::TOOLS) else { return Ok(None) };
        if !tools_run_here(manager(bench.recipe), &pass.packages) {
            return Ok(None);
        }
        let before = Before { bench: *bench, supply: context.given.supply, made: just_made };
        before.root(PassRole::TOOLS, pass.packages.clone()).map(Some)
    })
}

/// The same for an image that is built, by the tools root of its lock, where this store has it.
/// Errors: As [`ensure`].
pub fn emulator_of_lock(
    namespace: &Namespace,
    store: &Store,
    recipe: &Recipe,
    lock: Option<&Lock>,
) -> Result<(), StageError> {
    ensure(namespace, store, || {
        let Some(pass) = lock.and_then(|lock| lock.pass(PassRole::TOOLS)) else { return Ok(None) };
        let (action, _) = root(manager(recipe), PassRole::TOOLS, pass.packages.clone(), &target(recipe));
        let (key, _) = key_and_trace(&action, &Done(BTreeMap::new()));
        let record = key.and_then(|key| store.record(&key)).filter(|record| store.has_outputs(&record.outputs));
        Ok(record.and_then(|record| record.outputs.layer))
    })
}

fn no_emulator(machine: &str, problem: String) -> StageError {
    StageError::NoEmulator { machine: machine.to_owned(), name: emulator::name_of(machine), problem }
}

/// Whether a file is a program that needs no loader: it has no PT_INTERP. Source: elf(5).
fn is_static(path: &Path) -> bool {
    use std::io::Read;
    let mut head = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(4096).read_to_end(&mut head));
    if read.is_err() || !head.starts_with(b"\x7fELF\x02\x01") {
        return false;
    }
    let number = |at: usize, size: usize| -> Option<u64> {
        let bytes = head.get(at..at + size)?;
        Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let (Some(offset), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2)) else { return false };
    (0..count).all(|at| {
        let place = offset.checked_add(at * size).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| number(place, 4)).is_some_and(|kind| kind != 3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_without_a_loader_serve() {
        assert!(!is_static(Path::new("/bin/sh")) && !is_static(Path::new("/etc/passwd")));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("static");
        std::fs::write(&path, embedded::INIT).unwrap();
        assert!(is_static(&path));
    }
}
