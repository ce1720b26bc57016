//! A directory with a recipe, and the program run in it.

pub mod cluster;
pub mod server;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Says that a test, or a part of one, cannot be run here, and why: past the test harness, which would keep it to itself.
/// `tests/gate/run.py` counts and lists it; with `CI` set it fails the run, unless tests/gate/tiers.toml names the test.
pub fn skip(reason: &str) {
    use std::io::Write as _;
    let thread = std::thread::current();
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = format!("\n*** SKIPPED {}: {reason}\n", thread.name().unwrap_or("a test"));
    std::io::stderr().write_all(line.as_bytes()).expect("stderr can be written");
}

/// A file or directory that `tests/run` installs, or that lies beside the checkout; where it is missing, the test is skipped.
pub fn needed(path: PathBuf, remedy: &str) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    skip(&format!("there is no {}; {remedy}", path.display()));
    None
}

/// What was collected of others, beside the checkout: `../shared` and the path below it.
pub fn collected(below: &str) -> Option<PathBuf> {
    needed(project().join("../shared").join(below), "the collected files lie beside the checkout")
}

/// The program under test. The terminal is so wide that no message is wrapped: where it would be depends on the length of paths.
pub fn imgbuild() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgbuild"));
    command.env("NO_COLOR", "1").env("COLUMNS", "1000").env_remove("IMGBUILD_MIRROR");
    command
}

/// What a run printed and how it ended.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let ran =
            Self { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) };
        // The marks of lines for a recipe are for the program alone: `convert/snippet.rs`.
        for said in [&ran.out, &ran.err] {
            assert!(!said.contains(['‹', '›']), "a mark was printed:\n{said}");
        }
        ran
    }
}

impl Ran {
    /// Fails the test unless the run succeeded.
    #[track_caller]
    pub fn good(self) -> Self {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }
}

enum Place {
    /// Removed with it.
    Scratch(tempfile::TempDir),
    /// Somebody else's.
    #[allow(dead_code, reason = "the end-to-end tests use it")]
    Kept(PathBuf),
}

/// A directory of its own with a recipe in it.
pub struct Space {
    directory: Place,
    store: Option<PathBuf>,
}

impl Space {
    pub fn new() -> Self {
        Self { directory: Place::Scratch(tempfile::tempdir().unwrap()), store: None }
    }

    /// An empty one in a directory, for instance on another file system.
    #[allow(dead_code, reason = "the end-to-end tests use it")]
    pub fn below(directory: &Path) -> Self {
        Self { directory: Place::Scratch(tempfile::tempdir_in(directory).unwrap()), store: None }
    }

    /// A directory that is there, and stays.
    #[allow(dead_code, reason = "the end-to-end tests use it")]
    pub fn kept(directory: &Path) -> Self {
        Self { directory: Place::Kept(directory.to_owned()), store: None }
    }

    pub fn example(name: &str) -> Self {
        let space = Self::new();
        copy_tree(&project().join("examples").join(name), space.path());
        space
    }

    /// Uses a store that outlives the space.
    #[allow(dead_code, reason = "the end-to-end tests use it")]
    pub fn with_store(mut self, store: &Path) -> Self {
        self.store = Some(store.to_owned());
        self
    }

    pub fn path(&self) -> &Path {
        match &self.directory {
            Place::Scratch(directory) => directory.path(),
            Place::Kept(directory) => directory,
        }
    }

    pub fn store(&self) -> PathBuf {
        self.store.clone().unwrap_or_else(|| self.path().join(".store"))
    }

    pub fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// Replaces a text in a file; it must be there.
    #[track_caller]
    pub fn edit(&self, name: &str, from: &str, to: &str) -> &Self {
        let text = std::fs::read_to_string(self.path().join(name)).unwrap();
        assert!(text.contains(from), "`{from}` is not in {name}");
        self.write(name, &text.replacen(from, to, 1))
    }

    /// Runs the program with the recipe's directory and the store given.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = imgbuild();
        command.arg("-C").arg(self.path()).arg("--store").arg(self.store()).args(arguments);
        command.output().unwrap().into()
    }

    /// The same with variables.
    #[allow(dead_code, reason = "the end-to-end tests use it")]
    pub fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
        let mut command = imgbuild();
        command.arg("-C").arg(self.path()).arg("--store").arg(self.store()).args(arguments);
        command.envs(variables.iter().copied()).output().unwrap().into()
    }

    /// Path of a published artefact.
    #[allow(dead_code, reason = "the end-to-end tests use it")]
    pub fn artefact(&self, image: &str, name: &str) -> PathBuf {
        self.path().join("out").join(image).join(name)
    }

    pub fn plan(&self) -> serde_json::Value {
        serde_json::from_str(&self.run(&["plan", "--json"]).good().out).unwrap()
    }

    /// Stages and layers that the plan does not keep: `stage/layer action`.
    #[allow(dead_code, reason = "the end-to-end tests use it")]
    pub fn to_do(&self) -> Vec<String> {
        let plan = self.plan();
        let stages = plan["images"][0]["stages"].as_array().unwrap().clone();
        stages
            .iter()
            .flat_map(|stage| {
                stage["layers"].as_array().unwrap().iter().filter(|layer| layer["action"] != "keep").map(move |layer| {
                    format!(
                        "{}/{} {}",
                        stage["stage"].as_str().unwrap(),
                        layer["layer"].as_str().unwrap(),
                        layer["action"].as_str().unwrap()
                    )
                })
            })
            .collect()
    }
}

/// A recipe's directory with its lock, which [`copy_tree`] leaves out.
pub fn copy_locked(from: &Path, to: &Path) {
    copy_tree(from, to);
    std::fs::copy(from.join("image.lock"), to.join("image.lock")).unwrap();
}

/// Content of the files of a directory, by name.
pub fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .flatten()
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    found.sort();
    found
}

/// Copies a directory, modes and all, without what builds leave.
pub fn copy_tree(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from)
        .into_iter()
        .filter_entry(|entry| !(entry.depth() == 1 && matches!(entry.file_name().to_str(), Some("out" | "image.lock"))))
    {
        let entry = entry.unwrap();
        let place = to.join(entry.path().strip_prefix(from).unwrap());
        if entry.file_type().is_dir() {
            std::fs::create_dir_all(&place).unwrap();
        } else {
            std::fs::copy(entry.path(), &place).unwrap();
        }
    }
}

/// A message without the paths of this run.
pub fn without_paths(text: &str, space: &Space) -> String {
    let real = space.path().canonicalize().unwrap();
    text.replace(real.to_str().unwrap(), "[DIR]").replace(space.path().to_str().unwrap(), "[DIR]")
}

/// A plan without its estimate, which is another one each time.
#[allow(dead_code, reason = "the end-to-end tests use it")]
pub fn without_estimate(plan: &str) -> String {
    plan.lines().filter(|line| !line.starts_with("  estimate: ")).map(|line| format!("{line}\n")).collect()
}
