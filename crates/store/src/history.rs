//! What was built when: one file for each image, one JSON object a line, only ever appended to (D17).
//!
//! gc leaves it alone, so that estimates outlive the records of actions. A line that a killed process left half written is
//! skipped by readers and ended by the next writer. Two processes take turns by a lock on the file itself.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{FileLock, Store, StoreError};
use base::digest::Digest;

/// A longer file loses its oldest builds, in bytes.
const LONGEST: u64 = 1 << 20;
/// What is left of it then, in bytes.
const KEPT: usize = 1 << 19;
/// How much of another image's history an estimate reads, in bytes.
const TAIL: usize = 1 << 16;
/// How long the history of a recipe that is gone is kept.
const KEPT_WITHOUT_RECIPE: std::time::Duration = std::time::Duration::from_secs(90 * 24 * 3600);

/// How an action ran. Readers ignore fields that they do not know; those that an earlier imgbuild did not write are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Run {
    /// Which action, for instance `rootfs/sync`; `publish` for the artefacts and `rootfs/lock` for resolving packages.
    pub action: String,
    /// What kind of work it is.
    pub kind: String,
    /// Its key; none for what has none.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub key: Option<Digest>,
    /// How long it took, in milliseconds, without waiting for packages.
    pub milliseconds: u64,
    /// How long it waited for packages, in milliseconds.
    #[serde(default)]
    pub waited_milliseconds: u64,
    /// Bytes of the packages that it was given.
    #[serde(default)]
    pub package_bytes: u64,
    /// Bytes that it wrote: files of its layer, blobs, frames that were not there.
    #[serde(default)]
    pub written_bytes: u64,
    /// How it compressed what it wrote: `zstd 3`. None for what does not, and where an earlier imgbuild noted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<String>,
    /// Why it failed; none where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// Path of what its commands printed, where it failed and they did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// The job in which it ran, where a batch system ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The node of that job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Milliseconds since 1970.
    pub at: u64,
    /// Why it failed; none where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<PathBuf>,
    #[serde(default)]
    pub keys: BTreeMap<String, Digest>,
    /// Bytes of packages that were fetched.
    #[serde(default)]
    pub downloaded_bytes: u64,
    /// How long fetching them took, in milliseconds.
    #[serde(default)]
    pub download_milliseconds: u64,
    /// What was estimated, as the stages write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<serde_json::Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Began {
    /// Milliseconds since 1970.
    pub at: u64,
    pub image: String,
    pub recipe: PathBuf,
    /// Distribution, release and architecture.
    pub target: String,
    pub version: String,
    /// Process id and when it started, in clock ticks since boot.
    pub process: (u32, u64),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Began(u64, Began),
    Ran(u64, Run),
    Ended(u64, End),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastBuild {
    /// Its number: counts up for each image.
    pub number: u64,
    pub began: Began,
    pub runs: Vec<Run>,
    /// How it ended; none while it runs, and where the process was killed.
    pub end: Option<End>,
}

impl PastBuild {
    pub fn is_running(&self) -> bool {
        let (pid, started) = self.began.process;
        self.end.is_none() && started_at(pid) == Some(started)
    }
}

/// When a process started, in clock ticks since boot. Source: proc_pid_stat(5).
fn started_at(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(19)?.parse().ok()
}

/// Milliseconds since 1970.
pub fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |time| time.as_millis() as u64)
}

#[derive(Debug, Clone)]
pub struct BuildTrace {
    path: PathBuf,
    number: u64,
}

impl BuildTrace {
    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn ran(&self, run: Run) -> Result<(), StoreError> {
        let _held = FileLock::take(&self.path)?;
        append(&self.path, &Line::Ran(self.number, run))
    }

    pub fn ended(&self, end: End) -> Result<(), StoreError> {
        let _held = FileLock::take(&self.path)?;
        append(&self.path, &Line::Ended(self.number, end))
    }
}

/// Adds a line; one that someone left half written is ended first. The caller holds the file's lock.
fn append(path: &Path, line: &Line) -> Result<(), StoreError> {
    let said = |source: std::io::Error| StoreError::io("write", path, source);
    let mut file = std::fs::File::options().read(true).append(true).create(true).open(path).map_err(said)?;
    let mut text = Vec::new();
    if file.seek(SeekFrom::End(-1)).is_ok() {
        let mut last = [0u8; 1];
        file.read_exact(&mut last).map_err(said)?;
        if last[0] != b'\n' {
            text.push(b'\n');
        }
    }
    serde_json::to_writer(&mut text, line).map_err(|error| said(std::io::Error::other(error)))?;
    text.push(b'\n');
    file.write_all(&text).map_err(said)
}

fn parse(text: &str) -> Vec<PastBuild> {
    let mut builds: BTreeMap<u64, PastBuild> = BTreeMap::new();
    for line in text.lines() {
        match serde_json::from_str(line) {
            Ok(Line::Began(number, began)) => {
                builds.insert(number, PastBuild { number, began, runs: Vec::new(), end: None });
            }
            Ok(Line::Ran(number, run)) => {
                if let Some(build) = builds.get_mut(&number) {
                    build.runs.push(run);
                }
            }
            Ok(Line::Ended(number, end)) => {
                if let Some(build) = builds.get_mut(&number) {
                    build.end = Some(end);
                }
            }
            Err(_) => {}
        }
    }
    builds.into_values().collect()
}

/// The newest builds whose lines have together no more than so many bytes; at least one.
fn newest(text: &str, bytes: usize) -> String {
    let number = |line: &str| -> Option<u64> {
        Some(match serde_json::from_str(line).ok()? {
            Line::Began(number, _) | Line::Ran(number, _) | Line::Ended(number, _) => number,
        })
    };
    let lines: Vec<(u64, &str)> = text.lines().filter_map(|line| Some((number(line)?, line))).collect();
    let mut sizes: BTreeMap<u64, usize> = BTreeMap::new();
    for (number, line) in &lines {
        *sizes.entry(*number).or_default() += line.len() + 1;
    }
    let mut total = 0;
    let mut oldest = u64::MAX;
    for (number, size) in sizes.iter().rev() {
        total += size;
        if total > bytes && oldest != u64::MAX {
            break;
        }
        oldest = *number;
    }
    lines.iter().filter(|(number, _)| *number >= oldest).map(|(_, line)| format!("{line}\n")).collect()
}

fn tail(path: &Path) -> std::io::Result<String> {
    let bytes = witness::read(path)?;
    let from = bytes.len().saturating_sub(TAIL);
    Ok(String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned())
}

impl Store {
    fn history_directory(&self) -> PathBuf {
        self.directory().join("history")
    }

    fn history_path(&self, recipe: &Path, image: &str) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        let id = base::digest::FieldHasher::new("imgbuild store history v1")
            .field(recipe.as_os_str().as_bytes())
            .text(image)
            .finish();
        self.history_directory().join(format!("{}.jsonl", id.short()))
    }

    /// Notes that a build begins; gives what the rest of it is noted with.
    pub fn begin_build(&self, image: &str, recipe: &Path, target: &str) -> Result<BuildTrace, StoreError> {
        let path = self.history_path(recipe, image);
        if !path.exists() {
            self.forget_histories();
        }
        let held = FileLock::take(&path)?;
        let mut text = std::fs::read_to_string(&path).unwrap_or_default();
        let number = parse(&text).last().map_or(1, |build| build.number + 1);
        let pid = std::process::id();
        let began = Began {
            at: now(),
            image: image.to_owned(),
            recipe: recipe.to_owned(),
            target: target.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: (pid, started_at(pid).unwrap_or(0)),
        };
        append(&path, &Line::Began(number, began))?;
        if text.len() as u64 > LONGEST {
            // Anyone who waits for the lock finds that the file is another one, and opens that.
            text = std::fs::read_to_string(&path).map_err(|source| StoreError::io("read", &path, source))?;
            self.write_file(&path, newest(&text, KEPT).as_bytes())?;
        }
        drop(held);
        Ok(BuildTrace { path, number })
    }

    pub fn builds(&self, recipe: &Path, image: &str) -> Vec<PastBuild> {
        parse(&witness::read_to_string(&self.history_path(recipe, image)).unwrap_or_default())
    }

    /// The newest builds of the images that were built last, at most so many images; cheap however long the histories are.
    pub fn recent_builds(&self, most: usize) -> Vec<PastBuild> {
        let tails = self.histories().into_iter().take(most).map(|path| tail(&path).unwrap_or_default());
        tails.flat_map(|text| parse(&text)).collect()
    }

    /// Builds of all images; the last built image first.
    pub fn builds_of_all(&self) -> Vec<Vec<PastBuild>> {
        let read = |path: &PathBuf| parse(&witness::read_to_string(path).unwrap_or_default());
        self.histories().iter().map(read).filter(|builds| !builds.is_empty()).collect()
    }

    /// Files of all images; the last built image first.
    fn histories(&self) -> Vec<PathBuf> {
        // Their times only order them: anyone who remembers the answer remembers what was in those that were read.
        let directory = self.history_directory();
        let mut files: Vec<(std::time::SystemTime, PathBuf)> = witness::list(&directory)
            .unwrap_or_default()
            .into_iter()
            .map(|(name, _)| directory.join(name))
            .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
            .filter_map(|path| Some((std::fs::metadata(&path).ok()?.modified().ok()?, path)))
            .collect();
        files.sort_by(|a, b| b.cmp(a));
        files.into_iter().map(|(_, path)| path).collect()
    }

    /// Removes old histories of recipes that are gone.
    fn forget_histories(&self) {
        let Ok(entries) = std::fs::read_dir(self.history_directory()) else { return };
        for entry in entries.flatten() {
            let age = entry.metadata().and_then(|found| found.modified()).ok().and_then(|time| time.elapsed().ok());
            if age.is_none_or(|age| age < KEPT_WITHOUT_RECIPE) {
                continue;
            }
            let builds = parse(&std::fs::read_to_string(entry.path()).unwrap_or_default());
            if builds.last().is_none_or(|build| !build.began.recipe.is_dir()) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(directory: &Path) -> Store {
        Store::existing(directory)
    }

    fn run(action: &str) -> Run {
        Run { action: action.to_owned(), milliseconds: 7, ..Run::default() }
    }

    #[test]
    fn what_a_build_notes_is_read_back_by_number() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        for number in 1..=2 {
            let trace = store.begin_build("a", Path::new("/r"), "t").unwrap();
            assert_eq!(trace.number(), number);
            trace.ran(run("rootfs/base")).unwrap();
            trace.ended(End { at: 9, ..End::default() }).unwrap();
        }
        let builds = store.builds(Path::new("/r"), "a");
        assert_eq!(builds.iter().map(|build| build.number).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((builds[1].runs.len(), builds[1].end.as_ref().unwrap().at), (1, 9));
        assert!(store.builds(Path::new("/r"), "b").is_empty());
        assert_eq!((store.builds_of_all().len(), store.recent_builds(9).len()), (1, 2));
    }

    #[test]
    fn a_half_written_line_loses_only_itself() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let trace = store.begin_build("a", Path::new("/r"), "t").unwrap();
        let path = store.history_path(Path::new("/r"), "a");
        let mut text = std::fs::read(&path).unwrap();
        text.extend(b"{\"ran\":[1,{\"action\":\"rootfs/ba");
        std::fs::write(&path, text).unwrap();
        trace.ran(run("rootfs/sync")).unwrap();
        let builds = store.builds(Path::new("/r"), "a");
        assert_eq!(builds[0].runs, [run("rootfs/sync")]);
        assert!(builds[0].end.is_none() && builds[0].is_running());
    }

    #[test]
    fn many_writers_at_once_lose_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let trace = store.begin_build("a", Path::new("/r"), "t").unwrap();
                    for _ in 0..20 {
                        trace.ran(run("rootfs/sync")).unwrap();
                    }
                    trace.ended(End::default()).unwrap();
                });
            }
        });
        let builds = store.builds(Path::new("/r"), "a");
        assert_eq!(builds.len(), 8);
        assert!(builds.iter().all(|build| build.runs.len() == 20 && build.end.is_some()));
    }

    #[test]
    fn a_long_history_loses_its_oldest_builds() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let long = Run { failed: Some("x".repeat(100_000)), ..run("rootfs/sync") };
        for _ in 0..30 {
            let trace = store.begin_build("a", Path::new("/r"), "t").unwrap();
            trace.ran(long.clone()).unwrap();
        }
        let builds = store.builds(Path::new("/r"), "a");
        assert_eq!(builds.last().unwrap().number, 30);
        assert!(builds[0].number > 15, "{}", builds[0].number);
        assert!(std::fs::metadata(store.history_path(Path::new("/r"), "a")).unwrap().len() < LONGEST + 200_000);
    }

    #[test]
    fn the_newest_build_stays_however_long_it_is() {
        let line = |number| format!("{}\n", serde_json::to_string(&Line::Ran(number, run("a"))).unwrap());
        let text = format!("{}{}", line(1), line(2));
        assert_eq!(newest(&text, 1), line(2));
    }
}
