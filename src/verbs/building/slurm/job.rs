//! `imgbuild away job`: what runs on a compute node.

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Exit;
use build::{Builder, Deliver, ImageOutcome, asked_of_lock};
use cache::Cache;
use recipe::{moved, root_of_all};
use remote::away::parcel::owners_in;
use remote::slurm::order::{BEGAN, Began, ENDED, Ended, Fix, ORDER, Order, VERSION, read, step_directory, write};
use store::Run;

/// So much is kept of what imgbuild says, and of a log, its end, in bytes.
const LONGEST: usize = 4 << 20;
/// The variable that says where the build's notes go.
const NOTES: &str = "IMGBUILD_JOB_NOTES";

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Runs the step of a task of a submission, and says how it ended.
/// Errors: Why nothing can be said there.
pub(crate) fn run(round: &Path, submission: usize, task: usize) -> Result<Exit, String> {
    let order: Order =
        read(&round.join(ORDER)).ok_or_else(|| format!("`{}` cannot be read", round.join(ORDER).display()))?;
    if order.version != VERSION {
        return Err("another version of imgbuild made this order".to_owned());
    }
    let index = order.submissions.get(submission).and_then(|members| members.get(&task)).copied();
    let index =
        index.filter(|index| *index < order.steps.len()).ok_or_else(|| "the order has no such step".to_owned())?;
    let directory = step_directory(round, index);
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let job = variable("SLURM_ARRAY_JOB_ID").zip(variable("SLURM_ARRAY_TASK_ID"));
    let job = job.map_or_else(|| variable("SLURM_JOB_ID").unwrap_or_default(), |(job, task)| format!("{job}_{task}"));
    let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    let restarts = variable("SLURM_RESTART_COUNT").and_then(|count| count.parse().ok()).unwrap_or(0);
    let began = Began { job, node: variable("SLURMD_NODENAME").unwrap_or_else(host), restarts };
    write(&directory.join(BEGAN), &began)?;
    let at = directory.join(format!("said-{restarts}"));
    let notes = directory.join(format!("notes-{restarts}"));
    let outcome = build(round, &order, index, (&at, &notes));
    let (code, problem) = match outcome {
        Ok(Some(code)) => (code, String::new()),
        // It was killed, as imgbuild is that is asked to end: Slurm knows why, and may run it again.
        Ok(None) => return Ok(Exit::Interrupted),
        Err(problem) => (Exit::Machine.code(), format!("error: {problem}\n")),
    };
    let text = end_of(&std::fs::read(&at).unwrap_or_default()) + &problem;
    let noted: Noted = read(&notes).unwrap_or_default();
    let mut text = text;
    for (there, here) in places(round, &order) {
        text = text.replace(&there, &here);
    }
    let log = noted.log.filter(|_| code != 0).and_then(|path| {
        let bytes = std::fs::read(&path).ok()?;
        let name = Path::new(&path).file_name()?.to_string_lossy().into_owned();
        Some((format!("job-{}-{name}", began.job), path, end_of(&bytes)))
    });
    let runs = serde_json::to_value(noted.runs).map_err(said)?;
    write(&directory.join(ENDED), &Ended { began, code, said: text, runs, fix: noted.fix, log })?;
    Ok(Exit::of_code(code))
}

/// Paths in messages, as they are where the order comes from.
fn places(round: &Path, order: &Order) -> [(String, String); 2] {
    [
        (round.join("ws").display().to_string(), order.root.display().to_string()),
        (format!("{}/abs/", round.display()), "/".to_owned()),
    ]
}

fn end_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(bytes.len().saturating_sub(LONGEST)..).unwrap_or_default()).into_owned()
}

/// Builds; gives the exit code, none where it was killed.
fn build(round: &Path, order: &Order, index: usize, (at, notes): (&Path, &Path)) -> Result<Option<u8>, String> {
    let step = order.steps.get(index).ok_or("the order has no such step")?;
    let store = store(order)?;
    let packages = round.parent().unwrap_or(round).join("packages");
    put_packages(&store, &packages, &step.packages)?;
    let log = std::fs::File::create(at).map_err(said)?;
    let mut build = Command::new(std::env::current_exe().map_err(said)?);
    build.arg("-C").arg(round.join("ws").join(&order.start)).arg("--store").arg(&store);
    build.arg(format!("--jobs={}", step.cpus.clamp(1, 1024))).args(&order.words).arg("build").arg("--job").arg(round);
    for action in &step.actions {
        build.arg("--only").arg(action);
    }
    for name in ["IMGBUILD_CACHE", "IMGBUILD_CACHE_KEY", "IMGBUILD_CACHE_TRUST", "IMGBUILD_VENDOR", "IMGBUILD_STORE"] {
        build.env_remove(name);
    }
    for (variable, name) in &order.init {
        build.env(variable, round.join(name));
    }
    build.env("COLUMNS", "120").env("NO_COLOR", "1").env(NOTES, notes).current_dir("/");
    build.stdin(Stdio::null()).stdout(log.try_clone().map_err(said)?).stderr(log);
    // In the group of this process: what Slurm kills is all of it.
    let mut build = build.spawn().map_err(said)?;
    let process = i32::try_from(build.id()).ok().and_then(rustix::process::Pid::from_raw);
    sandbox::interrupt::wait_for_caller();
    loop {
        if let Some(status) = build.try_wait().map_err(said)? {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(code.filter(|code| !sandbox::interrupt::came() && *code < 128));
        }
        if sandbox::interrupt::came() {
            let _ = process.map(|process| rustix::process::kill_process(process, rustix::process::Signal::TERM));
            let _ = build.wait();
            return Ok(None);
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// The store of this node, which later jobs use as well.
fn store(order: &Order) -> Result<PathBuf, String> {
    let user = rustix::process::getuid().as_raw();
    let directory = order.store.clone().unwrap_or_else(|| {
        let above = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
        above.join(format!("imgbuild-{user}"))
    });
    let refused = |problem: String| {
        format!(
            "the directory `{}` of this node cannot be its store: {problem}; `store` of [executor] in imgbuild.toml names another one",
            directory.display()
        )
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(|error| refused(said(error)))?;
    // In /tmp someone else may have been earlier.
    let found = std::fs::symlink_metadata(&directory).map_err(|error| refused(said(error)))?;
    if !found.is_dir() || found.uid() != user {
        return Err(refused("it belongs to another user or is a symbolic link".to_owned()));
    }
    Ok(directory)
}

/// Has in the store the packages that actions are given.
fn put_packages(store: &Path, from: &Path, packages: &[String]) -> Result<(), String> {
    for name in packages {
        let digest =
            base::digest::Sha256::parse(name).map_err(|_| "the order has no digest of a package".to_owned())?;
        let to = store::Store::existing(store).package(&digest);
        if to.is_file() {
            continue;
        }
        let at = |error: &dyn std::fmt::Display| format!("the package `{}`: {error}", from.join(name).display());
        let folder = to.parent().ok_or("a store has no such place")?;
        // As the store makes it: what is in it is this user's.
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(|error| at(&error))?;
        let mut aside = files::sweep::file_in(folder, ".half-", 0o600).map_err(|error| at(&error))?;
        let mut source = std::fs::File::open(from.join(name)).map_err(|error| at(&error))?;
        std::io::copy(&mut source, &mut aside).map_err(|error| at(&error))?;
        let copy = aside.reopen().map_err(|error| at(&error))?;
        if store::sha256_of(copy).map_err(|error| at(&error))? != digest {
            return Err(at(&"it is damaged"));
        }
        // What runs inside reads it as another user.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        aside.as_file().set_permissions(mode).map_err(|error| at(&error))?;
        aside.persist(&to).map_err(|error| at(&error))?;
    }
    Ok(())
}

#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Noted {
    runs: Vec<(String, Vec<Run>)>,
    fix: Option<Fix>,
    log: Option<String>,
}

/// Prepares a build in a job.
/// Errors: The order cannot be read.
pub(crate) fn prepare(round: &Path) -> Result<(Cache, Deliver), String> {
    let order: Order = read(&round.join(ORDER)).ok_or_else(|| format!("`{}` cannot be read", round.display()))?;
    let outside = round.join("abs");
    let owners = owners_in(round, order.owners);
    moved::set(moved::Moved { workspace: round.join("ws"), outside, was: order.root, owners });
    root_of_all(&round.join("ws"));
    let results = round.parent().unwrap_or(round).join("results").display().to_string();
    let open = || Cache::of_directory(std::path::Path::new(&results)).map_err(said);
    Ok((open()?, Deliver { to: open()?, had: Default::default(), wanted: Default::default() }))
}

/// Notes what ran, and what the lock is to say.
pub(crate) fn note(builders: &[Builder<'_>], outcomes: &[Option<ImageOutcome>]) {
    let Some(path) = std::env::var_os(NOTES) else { return };
    let runs: Vec<(String, Vec<Run>)> =
        builders.iter().map(|one| (one.recipe.model.image.name.clone(), one.options.trace.runs())).collect();
    let failures = || outcomes.iter().flatten().filter_map(|one| one.result.as_ref().err()).flatten();
    let fix = failures().find_map(asked_of_lock).map(|asked| match asked {
        Ok(names) => Fix::Accounts(names),
        Err(pass) => Fix::AsksRelease(pass),
    });
    let log = runs.iter().flat_map(|(_, runs)| runs).find_map(|run| run.log.clone());
    let _: Result<(), String> = write(Path::new(&path), &Noted { runs, fix, log });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_come_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let (store, from) = (directory.path().join("store"), directory.path().join("packages"));
        std::fs::create_dir(&from).unwrap();
        let name = store::sha256_of("deb".as_bytes()).unwrap().to_string();
        std::fs::write(from.join(&name), "dab").unwrap();
        let error = put_packages(&store, &from, std::slice::from_ref(&name)).unwrap_err();
        assert!(error.contains("damaged"), "{error}");
        std::fs::write(from.join(&name), "deb").unwrap();
        put_packages(&store, &from, std::slice::from_ref(&name)).unwrap();
        put_packages(&store, Path::new("/nowhere"), &[name]).unwrap();
        assert!(put_packages(&store, &from, &["../x".to_owned()]).is_err());
    }
}
