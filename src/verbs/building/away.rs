//! `imgbuild away`: what runs on the machine that `build --on` names. See [`remote::away`].

use std::fs::{File, TryLockError};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, setsid};

use crate::output::render;
use crate::{Exit, Setup};
use base::digest::Digest;
use build::{Deliver, remove_inside};
use cache::Cache;
use recipe::{moved, root_of_all};
use remote::away::parcel::{FILES, Line, Manifest, Reply, VERSION, add, own_directory, owners_in, place, remove, take};
use store::{FileLock, Store};

/// The folder with the directories of all builds, where none was named.
const ABOVE: &str = "imgbuild-on";
/// How often it is looked whether anything happened.
const TICK: Duration = Duration::from_millis(100);
/// How long a build has to end when it is asked to.
const GRACE: Duration = Duration::from_secs(20);
/// Who follows a build asked for it not longer ago than this, in seconds.
const FOLLOWED: u64 = 10;
/// How often a build that says nothing is heard of.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Most bytes of a log that are read at once.
const CHUNK: u64 = 1 << 20;

/// Arguments of `away`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub what: What,
}

/// What is done there.
#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// Take what is to be built, and start
    Receive { directory: PathBuf },
    /// Look after a build
    Watch { directory: PathBuf },
    /// Print what a build says, from a place in its log on
    Follow { directory: PathBuf, from: u64 },
    /// Print what it made
    Results { directory: PathBuf },
    /// Do a step of a build as a job of a batch system
    Job { round: PathBuf, submission: usize, task: usize },
    /// End it and remove it, but for what the next one can use
    Leave { directory: PathBuf },
    /// End it and remove all
    End { directory: PathBuf },
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Exit {
    let done = match &own.what {
        What::Job { round, submission, task } => match super::slurm::job::run(round, *submission, *task) {
            Ok(exit) => return exit,
            Err(problem) => Err(problem),
        },
        What::Receive { directory } => receive(arguments, directory),
        What::Watch { directory } => watch(arguments, directory),
        What::Follow { directory, from } => follow(directory, *from),
        What::Results { directory } => results(directory),
        What::Leave { directory } => end(directory).and_then(|()| clear(directory)),
        What::End { directory } => end(directory).and_then(|()| remove_all(arguments, directory)),
    };
    match done {
        Ok(()) => Exit::Done,
        Err(problem) => {
            render::say(&problem);
            Exit::Machine
        }
    }
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn answer(value: &impl serde::Serialize) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, value).map_err(said)?;
    out.write_all(b"\n").and_then(|()| out.flush()).map_err(said)
}

fn read_manifest(directory: &Path) -> Result<Manifest, String> {
    let text = std::fs::read_to_string(directory.join("manifest")).map_err(said)?;
    serde_json::from_str(&text).map_err(said)
}

fn is_running(directory: &Path) -> bool {
    // Nothing is made by asking: the directory may be gone.
    let lock = File::open(directory.join("running"));
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

fn receive(arguments: &crate::Arguments, directory: &Path) -> Result<(), String> {
    let directory = &own_directory(directory)?;
    let _alone = FileLock::take(&directory.join("receiving")).map_err(said)?;
    std::fs::write(directory.join("receiving"), "").map_err(said)?;
    let mut input = BufReader::new(std::io::stdin());
    let mut text = String::new();
    input.read_line(&mut text).map_err(said)?;
    let manifest: Manifest = serde_json::from_str(&text).map_err(said)?;
    if manifest.version != VERSION {
        return Err("another version of imgbuild speaks here".to_owned());
    }
    sweep(arguments, directory, manifest.patience);
    let is_same = std::fs::read_to_string(directory.join("manifest")).is_ok_and(|earlier| earlier == text);
    let is_good = match std::fs::read_to_string(directory.join("status")) {
        Ok(status) => status == "0",
        Err(_) => is_running(directory),
    };
    if is_same && is_good {
        return answer(&Reply { is_running: true, ..Reply::default() });
    }
    if is_running(directory) && is_asked_for(directory, FOLLOWED) {
        return answer(&Reply { is_busy: true, ..Reply::default() });
    }
    end(directory)?;
    clear(directory)?;
    let files = directory.join(FILES);
    let contents: std::collections::BTreeSet<Digest> =
        manifest.contents().into_iter().filter(|one| !files.join(one.to_string()).is_file()).collect();
    let store = Store::existing(&directory.join("store"));
    let has = |key: &Digest| store.record(key).is_some_and(|record| store.has_outputs(&record.outputs));
    let keys = manifest.needed.iter().filter(|key| !has(key)).copied().collect();
    answer(&Reply { contents, keys, ..Reply::default() })?;
    take(directory, &mut input)?;
    place(directory, &manifest)?;
    for name in ["in", "out"] {
        std::fs::create_dir_all(directory.join(name)).map_err(said)?;
    }
    std::fs::write(directory.join("asked"), "").map_err(said)?;
    std::fs::write(directory.join("manifest"), &text).map_err(said)?;
    start(directory)?;
    answer(&Reply { is_running: true, ..Reply::default() })
}

/// Removes what others left that were killed before their builds began.
fn sweep(arguments: &crate::Arguments, own: &Path, patience: u64) {
    let Some(above) = own.parent().filter(|_| is_unnamed(own)) else { return };
    for entry in std::fs::read_dir(above).into_iter().flatten().flatten() {
        let directory = entry.path();
        let received = std::fs::metadata(directory.join("receiving")).and_then(|found| found.modified());
        let is_old = received.is_ok_and(|at| at.elapsed().is_ok_and(|ago| ago.as_secs() > patience));
        let is_asked_for = is_asked_for(&directory, patience);
        if directory != own && is_old && !is_asked_for && !is_running(&directory) {
            let _ = remove_all(arguments, &directory);
        }
    }
}

/// Whether a directory is one that imgbuild chose, among those of other builds.
fn is_unnamed(directory: &Path) -> bool {
    directory.parent().is_some_and(|above| above.ends_with(ABOVE))
}

/// Starts what looks after the build, away from this connection.
fn start(directory: &Path) -> Result<(), String> {
    let program = std::env::current_exe().map_err(said)?;
    let mut watch = Command::new(program);
    watch.args(["away", "watch"]).arg(directory).current_dir("/");
    watch.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    watch.spawn().map_err(said)?;
    let began = Instant::now();
    while !is_running(directory) && !directory.join("status").exists() {
        if began.elapsed() > GRACE {
            return Err("the build does not start".to_owned());
        }
        std::thread::sleep(TICK);
    }
    Ok(())
}

fn watch(arguments: &crate::Arguments, directory: &Path) -> Result<(), String> {
    // The end of the connection is not its end.
    let _ = setsid();
    let held = FileLock::take(&directory.join("running")).map_err(said)?;
    let manifest = read_manifest(directory)?;
    let log = File::options().append(true).create(true).open(directory.join("log")).map_err(said)?;
    let (variable, init) = &manifest.init;
    let mut build = Command::new(std::env::current_exe().map_err(said)?);
    build.arg("-C").arg(directory.join("ws").join(&manifest.start)).arg("--store").arg(directory.join("store"));
    build.args(&manifest.words).arg("--away").arg(directory);
    for name in ["IMGBUILD_CACHE", "IMGBUILD_CACHE_KEY", "IMGBUILD_CACHE_TRUST", "IMGBUILD_VENDOR"] {
        build.env_remove(name);
    }
    // Paths in messages become those of the machine that asked: none may be cut by a line's end.
    build.env("COLUMNS", "1000").env(variable, directory.join(FILES).join(init.to_string()));
    build.stdin(Stdio::null()).stdout(log.try_clone().map_err(said)?).stderr(log).process_group(0);
    let mut build = build.spawn().map_err(said)?;
    let group = i32::try_from(build.id()).ok().and_then(Pid::from_raw);
    let signal = |signal| {
        let _ = group.map(|group| kill_process_group(group, signal));
    };
    let mut asked_to_end: Option<Instant> = None;
    let mut is_forgotten = false;
    let status = loop {
        if let Some(status) = build.try_wait().map_err(said)? {
            break status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(Exit::Interrupted.code());
        }
        is_forgotten |= !is_asked_for(directory, manifest.patience);
        match asked_to_end {
            None if is_forgotten || directory.join("stop").exists() => {
                signal(Signal::TERM);
                asked_to_end = Some(Instant::now());
            }
            Some(since) if since.elapsed() > GRACE => signal(Signal::KILL),
            _ => {}
        }
        std::thread::sleep(TICK);
    };
    std::fs::write(directory.join("status.new"), status.to_string()).map_err(said)?;
    std::fs::rename(directory.join("status.new"), directory.join("status")).map_err(said)?;
    // Who asked for it comes back, or it is removed.
    while !directory.join("stop").exists() {
        if !is_asked_for(directory, manifest.patience) {
            // A directory that was named keeps what the next build can use.
            if !is_unnamed(directory) {
                return clear(directory);
            }
            drop(held);
            return remove_all(arguments, directory);
        }
        std::thread::sleep(TICK * 5);
    }
    Ok(())
}

/// Whether someone asked for a build not longer ago than so many seconds.
fn is_asked_for(directory: &Path, patience: u64) -> bool {
    let asked = std::fs::metadata(directory.join("asked")).and_then(|found| found.modified());
    asked.is_ok_and(|asked| asked.elapsed().map_or(true, |ago| ago.as_secs() < patience))
}

fn follow(directory: &Path, mut from: u64) -> Result<(), String> {
    let mut rest = Vec::new();
    let mut touched: Option<Instant> = None;
    let mut spoke = Instant::now();
    // Who follows holds the input open as long as it lives.
    let is_alone = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&is_alone);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        noted.store(true, Ordering::SeqCst);
    });
    while !is_alone.load(Ordering::SeqCst) {
        if spoke.elapsed() > KEEPALIVE {
            spoke = Instant::now();
            answer(&Line::Still)?;
        }
        if touched.is_none_or(|at| at.elapsed() > Duration::from_secs(2)) {
            touched = Some(Instant::now());
            let _ = std::fs::write(directory.join("asked"), "");
        }
        // Asked before the log is read: what was said before the end is then in it.
        let status = std::fs::read_to_string(directory.join("status")).ok();
        let has_gone = status.is_none() && !is_running(directory) && !directory.join("status").exists();
        let read = read_from(&directory.join("log"), from + rest.len() as u64, &mut rest);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            from += line.len() as u64;
            answer(&Line::Said(from, String::from_utf8_lossy(line.trim_ascii_end()).into_owned()))?;
        }
        if read > 0 {
            continue;
        }
        if let Some(status) = status {
            if !rest.is_empty() {
                answer(&Line::Said(from + rest.len() as u64, String::from_utf8_lossy(&rest).into_owned()))?;
            }
            return answer(&Line::Ended(status.trim().parse().unwrap_or(Exit::Stage.code())));
        }
        if has_gone {
            return answer(&Line::Gone);
        }
        std::thread::sleep(TICK);
    }
    Ok(())
}

fn read_from(path: &Path, from: u64, into: &mut Vec<u8>) -> usize {
    let read = |into: &mut Vec<u8>| -> std::io::Result<usize> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        file.take(CHUNK).read_to_end(into)
    };
    read(into).unwrap_or(0)
}

fn results(directory: &Path) -> Result<(), String> {
    let manifest = read_manifest(directory)?;
    let mut text = String::new();
    BufReader::new(std::io::stdin()).read_line(&mut text).map_err(said)?;
    let had: std::collections::BTreeSet<PathBuf> = serde_json::from_str(&text).map_err(said)?;
    let mut stream = tar::Builder::new(std::io::stdout().lock());
    let out = directory.join("out");
    for file in walkdir::WalkDir::new(&out).sort_by_file_name() {
        let file = file.map_err(said)?;
        let name = file.path().strip_prefix(&out).map_err(said)?;
        if file.file_type().is_file() && !had.contains(name) {
            add(&mut stream, name, file.path()).map_err(said)?;
        }
    }
    for (at, lock) in manifest.locks.iter().enumerate() {
        let lock = directory.join("ws").join(lock);
        if lock.is_file() {
            add(&mut stream, &Path::new("locks").join(at.to_string()), &lock).map_err(said)?;
        }
    }
    let status = std::fs::read_to_string(directory.join("status")).unwrap_or_default();
    let logs = std::fs::read_dir(directory.join("store/v1/logs"));
    for log in logs.into_iter().flatten().flatten().filter(|_| status != "0") {
        let is_said = log.metadata().is_ok_and(|found| found.is_file() && found.len() > 0);
        if is_said && !log.file_name().to_string_lossy().starts_with('.') {
            add(&mut stream, &Path::new("logs").join(log.file_name()), &log.path()).map_err(said)?;
        }
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o600);
    stream.append_data(&mut header, "end", std::io::empty()).map_err(said)?;
    stream.into_inner().and_then(|mut out| out.flush()).map_err(said)
}

fn end(directory: &Path) -> Result<(), String> {
    if !is_running(directory) {
        return Ok(());
    }
    std::fs::write(directory.join("stop"), "").map_err(said)?;
    let began = Instant::now();
    while is_running(directory) {
        if began.elapsed() > GRACE * 2 {
            return Err("a build there does not end".to_owned());
        }
        std::thread::sleep(TICK);
    }
    Ok(())
}

fn clear(directory: &Path) -> Result<(), String> {
    for name in ["ws", "abs", "in", "out"] {
        remove(&directory.join(name)).map_err(said)?;
    }
    for name in ["manifest", "log", "status", "stop", "asked"] {
        match std::fs::remove_file(directory.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(said(error)),
            _ => {}
        }
    }
    // Programs of other versions, and halves of them.
    let own = std::env::current_exe().ok().and_then(|path| path.file_name().map(std::ffi::OsStr::to_owned));
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let text = name.to_string_lossy();
        let is_program = text.starts_with("imgbuild-") || text.starts_with(".program-");
        if is_program && Some(&name) != own.as_ref() && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Removes all; trees of the store belong to other users than this one.
fn remove_all(arguments: &crate::Arguments, directory: &Path) -> Result<(), String> {
    let store = directory.join("store");
    if store.is_dir() {
        let mut arguments = arguments.for_directory(directory);
        arguments.store = Some(store);
        let setup = Setup::open(&arguments).map_err(|_| "its store cannot be opened".to_owned())?;
        let mut names = Vec::new();
        let own = rustix::process::getuid().as_raw();
        for folder in std::fs::read_dir(setup.store.directory()).into_iter().flatten().flatten() {
            let entries = std::fs::read_dir(folder.path()).into_iter().flatten().flatten();
            let of_others = entries.filter(|entry| entry.metadata().is_ok_and(|found| found.uid() != own));
            let below = |entry: std::fs::DirEntry| Path::new(&folder.file_name()).join(entry.file_name());
            names.extend(of_others.map(|entry| below(entry).display().to_string()));
        }
        remove_inside(&setup.store, &setup.namespace, names).map_err(said)?;
    }
    remove(directory).map_err(said)?;
    // The folder above it is imgbuild's own where it has no other.
    if let Some(above) = directory.parent().filter(|above| above.ends_with(ABOVE)) {
        let _ = std::fs::remove_dir(above);
    }
    Ok(())
}

/// Prepares a build of what was sent.
/// Errors: What was sent cannot be read.
pub(crate) fn prepare(directory: &Path) -> Result<(Cache, Deliver), String> {
    let manifest = read_manifest(directory)?;
    let outside = directory.join("abs");
    let owners = owners_in(directory, manifest.owners);
    moved::set(moved::Moved { workspace: directory.join("ws"), outside, was: manifest.root, owners });
    root_of_all(&directory.join("ws"));
    let to = Cache::of_directory(&directory.join("out")).map_err(said)?;
    Ok((Cache::none().with_results(&directory.join("in")), Deliver { to, had: manifest.had, wanted: manifest.wanted }))
}
