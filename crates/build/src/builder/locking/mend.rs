//! image.lock with some packages moved: those that mend something, and what they need. Begin with [`propose`].

use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::relock::{locking, read_lock, record_ids, write_lock};
use crate::StageError;
use crate::actions::packages::accounts;
use crate::actions::packages::requests::target;
use crate::bench::report::Report;
use crate::builder::run::Builder;
use crate::lock::resolve::{Locking, Renew};
use crate::lock::state::{LockState, lock_state};
use crate::supply::Supply;
use base::source::{Finding, Severity};
use files::{Aside, Durability};
use packages::{DistroError, Fetcher};
use plan::Cause;
use recipe::Lock;

/// What became of an attempt to move packages.
#[derive(Debug)]
pub struct Proposal {
    /// The lock as it is.
    pub earlier: Lock,
    /// The lock with what could be moved; nothing is written.
    pub lock: Lock,
    /// Groups that could not be moved as a whole, each with the reason.
    pub refused: Vec<Refused>,
}

/// Packages that could not be moved together.
#[derive(Debug)]
pub struct Refused {
    /// Their names.
    pub names: Vec<String>,
    /// Why not, in one line.
    pub why: String,
}

/// Resolves the lock with these packages free to move; all others keep their versions, unless these need other ones. A group has packages
/// of one source, whose versions depend on each other. What cannot be moved with all others is tried by itself: first the group, then
/// each package of it.
/// Errors: [`StageError::Locked`] where the lock is out of date with the recipe; others where it is not the packages that are wrong.
pub fn propose(builder: &Builder<'_>, groups: &[Vec<String>]) -> Result<Proposal, StageError> {
    let Some(earlier) = read_lock(builder)? else {
        return Err(StageError::Changed { file: builder.recipe.lock_name() });
    };
    check_fresh(builder, &earlier)?;
    let fetcher = builder.fetcher()?;
    let supply = builder.supply(&fetcher);
    let attempt = |from: &Lock, names: &[String]| attempt(builder, (&fetcher, &supply), from, names);
    let lock = match attempt(&earlier, &groups.concat())? {
        Ok(lock) => return Ok(Proposal { earlier, lock, refused: Vec::new() }),
        Err(why) if groups.concat().len() < 2 => {
            let refused = vec![Refused { names: groups.concat(), why }];
            return Ok(Proposal { lock: earlier.clone(), earlier, refused });
        }
        Err(_) => earlier.clone(),
    };
    let (lock, refused) = one_by_one(lock, groups, attempt)?;
    Ok(Proposal { earlier, lock, refused })
}

/// Moves group after group, and of a group that cannot be moved each package that can.
fn one_by_one<E>(
    mut lock: Lock,
    groups: &[Vec<String>],
    mut attempt: impl FnMut(&Lock, &[String]) -> Result<Result<Lock, String>, E>,
) -> Result<(Lock, Vec<Refused>), E> {
    let mut refused = Vec::new();
    for group in groups {
        let why = match attempt(&lock, group)? {
            Ok(next) => {
                lock = next;
                continue;
            }
            Err(why) => why,
        };
        if fault::planted("mend-ends-at-the-first") {
            refused.push(Refused { names: group.clone(), why });
            return Ok((lock, refused));
        }
        let alone = if group.len() > 1 { group.as_slice() } else { &[] };
        for name in alone {
            if let Ok(next) = attempt(&lock, std::slice::from_ref(name))? {
                lock = next;
            }
        }
        refused.push(Refused { names: group.clone(), why });
    }
    Ok((lock, refused))
}

/// Errors: [`StageError::Locked`] where resolving would bring what the recipe asks for, too.
fn check_fresh(builder: &Builder<'_>, earlier: &Lock) -> Result<(), StageError> {
    let recipe = builder.recipe;
    let problem = match lock_state(recipe, Some(earlier)) {
        _ if earlier.target != target(recipe) => {
            format!("it is for {}, and the recipe for {}", earlier.target, target(recipe))
        }
        LockState::Fresh => return Ok(()),
        LockState::Stale(causes) | LockState::FilesChanged(causes) => {
            causes.iter().map(|cause| cause.message.clone()).collect::<Vec<_>>().join("; ")
        }
    };
    Err(StageError::Locked { lock: recipe.lock_name(), problem })
}

/// Resolves with some packages free to move. Within: why they cannot be moved.
fn attempt(
    builder: &Builder<'_>,
    (fetcher, supply): (&Fetcher, &Supply<'_>),
    from: &Lock,
    names: &[String],
) -> Result<Result<Lock, String>, StageError> {
    if builder.shared.is_stopped() {
        return Err(StageError::Stopped);
    }
    let quiet = Quiet { report: builder.report, errors: Mutex::default() };
    let locking = Locking { report: &quiet, ..locking(builder, fetcher, supply) };
    let outcome = locking.resolve(Some(from), &Renew::Named(names.to_vec()));
    builder.asked.store(true, Ordering::Relaxed);
    match outcome {
        Ok(lock) => Ok(Ok(lock)),
        Err(error) if is_of_packages(&error) => {
            let said = quiet.errors.into_inner().unwrap_or_else(PoisonError::into_inner);
            Ok(Err(if error.is_told() && !said.is_empty() { said.join("; ") } else { one_line(&error.to_string()) }))
        }
        Err(error) => Err(error),
    }
}

/// Whether other packages may still be moved.
fn is_of_packages(error: &StageError) -> bool {
    match error {
        StageError::Distro(error) => !matches!(error, DistroError::Sandbox(_) | DistroError::Store(_)),
        StageError::Refused { .. } | StageError::Gate { .. } => true,
        _ => false,
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Installs the packages of a proposed lock, so that it has their users too, and writes it. Gives the lock as it is written.
/// Errors: [`StageError`]; image.lock is as before then.
pub fn adopt(builder: &Builder<'_>, earlier: &Lock, mut lock: Lock) -> Result<Lock, StageError> {
    if read_lock(builder)?.as_ref() != Some(earlier) {
        return Err(StageError::Changed { file: builder.recipe.lock_name() });
    }
    let path = &builder.recipe.lock_path;
    let before =
        std::fs::read(path).map_err(|source| StageError::Input { file: path.display().to_string(), source })?;
    let installed = install(builder, &mut lock);
    if installed.is_err() && std::fs::read(path).ok().as_ref() != Some(&before) {
        // Users that kept their numbers were written on the way.
        let said = |source| StageError::Publish { intent: "write", path: path.display().to_string(), source };
        let mut aside = Aside::of(path, 0o644).map_err(said)?;
        std::io::Write::write_all(&mut aside, &before).map_err(said)?;
        aside.replace(Durability::PowerCut).map_err(said)?;
    }
    installed.map(|()| lock)
}

fn install(builder: &Builder<'_>, lock: &mut Lock) -> Result<(), StageError> {
    let fetcher = builder.fetcher()?;
    let supply = builder.supply(&fetcher);
    let work = builder.run_keeping_ids(lock, &supply, &accounts::is_of_image)?;
    record_ids(builder, lock, &work)?;
    write_lock(builder, lock)?;
    builder.remember(lock, &work, None)
}

/// News of an attempt: what is wrong is kept, because the packages may still be moved by themselves.
struct Quiet<'a> {
    report: &'a dyn Report,
    errors: Mutex<Vec<String>>,
}

impl Report for Quiet<'_> {
    fn started(&self, action: &str, causes: &[Cause]) {
        self.report.started(action, causes);
    }

    fn progress(&self, text: &str) {
        self.report.progress(text);
    }

    fn finished(&self, action: &str, took: Duration) {
        self.report.finished(action, took);
    }

    fn finding(&self, finding: &Finding) {
        if finding.severity == Severity::Error {
            self.errors.lock().unwrap_or_else(PoisonError::into_inner).push(finding.message.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(versions: &[(&str, &str)]) -> Lock {
        let mut text = "format = 1\nminor = 7\nepoch = 0\ntarget = \"debian bookworm x86_64\"\nsuite = []\n\n[[pass]]\nname = \"base\"\ninstall = []\npackages = [\n".to_owned();
        for (name, version) in versions {
            let digest = base::digest::Sha256::of(name.as_bytes());
            text += &format!(
                "    {{ name = \"{name}\", version = \"{version}\", arch = \"amd64\", size = 1, sha256 = \"{digest}\", origin = \"bookworm\", file = \"{name}.deb\" }},\n"
            );
        }
        Lock::parse_bytes("image.lock", format!("{text}]\n").into_bytes()).unwrap()
    }

    fn version<'a>(lock: &'a Lock, name: &str) -> &'a str {
        let package = lock.pass.iter().flat_map(|pass| &pass.packages).find(|package| package.name == name);
        package.map_or("", |package| package.version.as_str())
    }

    /// A solver with an archive that has version 2 of all; a package cannot be moved without those that it goes with.
    fn solver(pinned: &[&str], equal: &[&[&str]]) -> impl Fn(&Lock, &[String]) -> Result<Result<Lock, String>, ()> {
        let own = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (pinned, equal): (Vec<String>, Vec<Vec<String>>) =
            (own(pinned), equal.iter().map(|list| own(list)).collect());
        move |from, names| {
            if let Some(name) = names.iter().find(|name| pinned.contains(name)) {
                return Ok(Err(format!("{name} is pinned")));
            }
            let mut next = from.clone();
            for package in next.pass.iter_mut().flat_map(|pass| &mut pass.packages) {
                let with = equal.iter().find(|list| list.contains(&package.name));
                let goes = names.contains(&package.name)
                    || with.is_some_and(|list| list.iter().any(|name| names.contains(name)));
                if goes && pinned.contains(&package.name) {
                    return Ok(Err(format!("{} is pinned", package.name)));
                }
                if goes {
                    package.version = "2".to_owned();
                }
            }
            Ok(Ok(next))
        }
    }

    #[test]
    fn one_group_that_cannot_be_moved_does_not_stop_another() {
        let names = ["libssl3", "openssl", "bash", "perl", "perl-base"];
        let before = lock(&names.map(|name| (name, "1")));
        let group = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let groups = [group(&["libssl3", "openssl"]), group(&["perl", "perl-base"]), group(&["bash"])];
        // The program is pinned and needs no equal library; perl needs an equal perl-base, which is pinned.
        let solver = solver(&["openssl", "perl-base"], &[&["perl", "perl-base"]]);
        let (after, refused) = one_by_one(before, &groups, solver).unwrap();
        assert_eq!(names.map(|name| version(&after, name)), ["2", "1", "2", "1", "1"]);
        let refused: Vec<(&str, &str)> = refused.iter().map(|one| (one.names[0].as_str(), one.why.as_str())).collect();
        assert_eq!(refused, [("libssl3", "openssl is pinned"), ("perl", "perl-base is pinned")]);
    }

    #[test]
    fn binaries_of_one_source_with_equal_versions_move_together() {
        let before = lock(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let (after, refused) = one_by_one(before, &[vec!["a".to_owned()]], solver(&[], &[&["a", "b"]])).unwrap();
        assert_eq!(["a", "b", "c"].map(|name| version(&after, name)), ["2", "2", "1"]);
        assert!(refused.is_empty());
    }
}
