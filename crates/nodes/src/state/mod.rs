//! What is known of nodes besides their file: what `nodeset` gave them, and what they reported. One directory:
//!
//! | path | content | written by |
//! |---|---|---|
//! | `assigned.json` | what each node boots, all nodes in one file, so that a range moves at once | `nodeset` |
//! | `assigned.next.json` | the same while `nodeset` runs | `nodeset` |
//! | `reports/NODE.json` | a node's last report | `serve` |
//! | `asked/NODE.json` | when its boot script was asked for last, and from where | `serve` |
//! | `scripts/NODE.json` | what became of the scripts that a node ran | `serve` |
//! | `keys/NODE.json` | the ssh host keys that a node reported | `serve` |
//! | `secret` | what the tokens of nodes are made from, mode 0600 | anyone who comes first |
//! | `rollout.json` | a canary under way | `nodeset --canary` |
//! | `last.nodes.toml` | the nodes' file without an error, for the next start | `serve` |
//! | `roll.json` | how far a roll is, and what nodes were synced to by rolls | `roll` |

pub mod asked;
pub mod host_keys;
mod last;
mod owner;
mod per_node;
pub mod presence;
pub mod reports;
pub mod roll;
pub mod rollout;
pub mod scripts;
pub mod synced;
pub mod tokens;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::set::natural;
use base::format::{Newer, Version, version_of};
use files::Durability;
use files::shared::Shared;

pub(super) const STATE_FORMAT: Version = Version::new(1, 0);

/// Where the state lies, from the root of the workspace, unless another directory is named.
pub const STATE_DIRECTORY: &str = ".imgbuild/nodes";

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum StateError {
    #[error("cannot {intent} `{}`: {source}", path.display())]
    #[diagnostic(code(nodes::io))]
    Io { intent: &'static str, path: PathBuf, source: std::io::Error },
    #[error("no space left while imgbuild tried to {intent} `{}`", path.display())]
    #[diagnostic(
        code(nodes::full),
        help("free some space on that file system and run the command again; nothing was changed")
    )]
    Full { intent: &'static str, path: PathBuf },
    #[error("cannot {intent} `{}`: permission denied", path.display())]
    #[diagnostic(
        code(nodes::denied),
        help(
            "what nodes boot and report belongs to the account that `imgbuild serve` runs as: run the command as root or as that account; give an account the directory with `chown -R ACCOUNT DIRECTORY`, or name another one for all commands in imgbuild.toml: ‹[nodes] state = \"...\"›"
        )
    )]
    Denied { intent: &'static str, path: PathBuf },
    /// A file is not what imgbuild wrote.
    #[error("`{}` {problem}", path.display())]
    #[diagnostic(
        code(nodes::damaged),
        help("restore it from a backup, or remove it and run `imgbuild nodeset` for all nodes")
    )]
    Damaged { path: PathBuf, problem: String },
    /// Root is to give away a directory of which others decide what it is.
    #[error("the nodes' state `{}` is not given to the server's account: {problem}", path.display())]
    #[diagnostic(
        code(nodes::not_given),
        help(
            "name a directory of root's for it in imgbuild.toml, below directories that root alone can write to: ‹[nodes] state = \"/var/lib/imgbuild/nodes\"›; or give it to the account yourself, which `serve` leaves as it is then: `chown -R ACCOUNT DIRECTORY`"
        )
    )]
    NotGiven { path: PathBuf, problem: std::io::Error },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Newer(#[from] Newer),
}

impl StateError {
    pub fn of(intent: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full { intent, path },
            ErrorKind::PermissionDenied => Self::Denied { intent, path },
            // Something else has its name.
            ErrorKind::InvalidInput => Self::Damaged { path, problem: format!("is not used: {source}") },
            _ => Self::Io { intent, path, source },
        }
    }
}

/// What a node boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "boots", rename_all = "lowercase")]
pub enum Boots {
    /// A build of an image.
    Image {
        /// The image.
        image: String,
        /// Name of the build: the digest of its build.json, as its directory is called.
        build: String,
        /// The directory of the build.
        directory: PathBuf,
    },
    /// Its own disk.
    Disk,
    /// Nothing: no loader's file is there.
    Nothing,
}

/// What `nodeset` gave a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Assigned {
    /// What it boots.
    #[serde(flatten)]
    pub boots: Boots,
    /// The loader whose files were written.
    pub loader: String,
    /// The directory that they were written to.
    pub out: PathBuf,
    /// Where the images are for the node.
    pub url: String,
    /// When, in milliseconds since 1970.
    pub time: u64,
    /// What it was before: where `--rollback` goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Box<Assigned>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignments {
    pub format_version: String,
    pub nodes: BTreeMap<String, Assigned>,
}

impl Assignments {
    /// The builds that nodes are pinned to, those before among them: image, name and directory of each, sorted.
    pub fn builds(&self) -> Vec<(String, String, PathBuf)> {
        let mut found = Vec::new();
        for one in self.nodes.values() {
            for boots in std::iter::once(&one.boots).chain(one.previous.as_deref().map(|before| &before.boots)) {
                if let Boots::Image { image, build, directory } = boots {
                    found.push((image.clone(), build.clone(), directory.clone()));
                }
            }
        }
        found.sort_by(|a, b| natural(&a.0, &b.0).then_with(|| a.cmp(b)));
        found.dedup();
        found
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Next {
    format_version: String,
    link: PathBuf,
    generation: String,
    nodes: BTreeMap<String, Assigned>,
}

impl Next {
    fn counts(&self) -> bool {
        std::fs::read_link(&self.link).is_ok_and(|to| to == Path::new(&self.generation))
    }
}

const ASSIGNED: &str = "assigned.json";
const NEXT: &str = "assigned.next.json";

/// Longest file of the state that is read, in bytes.
const LONGEST: u64 = 256 << 20;
/// Mode of its folders, as for open(2).
const FOLDERS: u32 = 0o777;

#[derive(Debug, Clone)]
pub struct State {
    directory: PathBuf,
}

impl State {
    /// The state in a directory; nothing is made yet.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The state of a workspace, or of the directory that is named instead, from its root.
    pub fn of(root: &Path, named: Option<&Path>) -> Self {
        Self::at(root.join(named.unwrap_or(Path::new(STATE_DIRECTORY))))
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What nodes boot; nothing where `nodeset` was never run.
    /// Errors: The file cannot be read, is damaged, or a later imgbuild's.
    pub fn assignments(&self) -> Result<Assignments, StateError> {
        match self.read::<Next>(NEXT)? {
            // Loaders' files are the new ones already: anyone who wrote them was killed before it could say so.
            Some(next) if next.counts() => Ok(Assignments { format_version: next.format_version, nodes: next.nodes }),
            _ => self.read(ASSIGNED).map(Option::unwrap_or_default),
        }
    }

    /// When what nodes boot was written, and when what they will boot was announced, which may count at any moment from then on.
    pub fn assignments_written(&self) -> (Option<SystemTime>, Option<SystemTime>) {
        let modified =
            |name: &str| std::fs::metadata(self.directory.join(name)).and_then(|found| found.modified()).ok();
        (modified(ASSIGNED), modified(NEXT))
    }

    /// Notes what nodes will boot once a link leads to `generation`; until then the old counts, and from then on this, whatever is
    /// killed in between.
    /// Errors: It cannot be written; nothing has changed then.
    pub fn announce(&self, next: &Assignments, (link, generation): (PathBuf, String)) -> Result<(), StateError> {
        let format_version = STATE_FORMAT.to_string();
        self.write(NEXT, &Next { format_version, link, generation, nodes: next.nodes.clone() })?;
        fault::point("nodeset.announced");
        Ok(())
    }

    /// Makes what was announced the state, if its time has come; else forgets it. For who has the turn.
    /// Errors: The files cannot be written.
    pub fn settle(&self) -> Result<(), StateError> {
        let (next, now) = (self.directory.join(NEXT), self.directory.join(ASSIGNED));
        match self.read::<Next>(NEXT)? {
            Some(announced) if announced.counts() => {
                std::fs::rename(&next, &now).map_err(StateError::of("write", &now))
            }
            Some(_) => std::fs::remove_file(&next).map_err(StateError::of("remove", &next)),
            None => Ok(()),
        }
    }

    /// Makes something the state at once, where no link of a loader turns with it. For who has the turn.
    /// Errors: It cannot be written; nothing has changed then.
    pub fn set_assignments(&self, assigned: &Assignments) -> Result<(), StateError> {
        self.write(ASSIGNED, &Assignments { format_version: STATE_FORMAT.to_string(), nodes: assigned.nodes.clone() })
    }

    /// Takes the turn of those who change the state; it lasts until the file is dropped.
    /// Errors: The directory cannot be made or locked.
    pub fn turn(&self) -> Result<File, StateError> {
        self.make()?;
        let path = self.directory.join(".lock");
        let file = self.shared().and_then(|shared| shared.lock_file(".lock"));
        let file = file.map_err(StateError::of("open", &path))?;
        file.lock().map_err(StateError::of("lock", &path))?;
        Ok(file)
    }

    fn make(&self) -> Result<(), StateError> {
        std::fs::create_dir_all(&self.directory).map_err(StateError::of("make", &self.directory))
    }

    /// The directory as what others may write to: its account's server, and root's commands.
    fn shared(&self) -> std::io::Result<Shared> {
        Shared::of_owner(&self.directory)
    }

    fn read_bytes(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, StateError> {
        match self.shared().and_then(|shared| shared.read(name, most)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            read => read.map_err(StateError::of("read", &self.directory.join(name))),
        }
    }

    /// Writes a file in the place of the one before, which then belongs to the owner of the state.
    fn replace(&self, name: &str, bytes: &[u8], mode: u32, durability: Durability) -> Result<(), StateError> {
        self.replace_after(name, (bytes, mode), durability, &mut || Ok(()))
    }

    /// The same; what goes with it is changed when the file is written, and not yet in its place.
    /// Errors: Also those of that change; what was there stays then.
    fn replace_after(
        &self,
        name: &str,
        (bytes, mode): (&[u8], u32),
        durability: Durability,
        change: &mut dyn FnMut() -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        self.make()?;
        let mut failure = None;
        let mut fill = |file: &mut File| {
            file.write_all(bytes)?;
            change().map_err(|error| {
                let text = std::io::Error::other(error.to_string());
                failure = Some(error);
                text
            })
        };
        let written = self.shared().and_then(|shared| shared.write(name, (FOLDERS, mode), durability, &mut fill));
        match failure {
            Some(failure) => Err(failure),
            None => written.map_err(StateError::of("write", &self.directory.join(name))),
        }
    }

    fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        let path = self.directory.join(name);
        let Some(bytes) = self.read_bytes(name, LONGEST)? else { return Ok(None) };
        let damaged = |problem: String| StateError::Damaged { path: path.clone(), problem };
        match serde_json::from_slice(&bytes) {
            Ok(value) => {
                // Anyone who writes a later form may have kept what this one knows.
                newer(&path, &bytes)?;
                Ok(Some(value))
            }
            Err(error) => {
                newer(&path, &bytes)?;
                Err(damaged(format!("is not what imgbuild wrote: {error}")))
            }
        }
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StateError> {
        let unwritable = |error: serde_json::Error| StateError::Damaged {
            path: self.directory.join(name),
            problem: format!("cannot be written: {error}"),
        };
        let mut text = serde_json::to_vec_pretty(value).map_err(unwritable)?;
        text.push(b'\n');
        self.replace(name, &text, 0o644, Durability::PowerCut)
    }
}

fn newer(path: &Path, bytes: &[u8]) -> Result<(), Newer> {
    // The version stands first: of a large file no more is read for it.
    let head = bytes.get(..bytes.len().min(200)).unwrap_or_default();
    let head = String::from_utf8_lossy(head);
    let Some((_, rest)) = head.split_once("\"format_version\"") else { return Ok(()) };
    let version = rest.split('"').nth(1).unwrap_or_default();
    let document = serde_json::json!({"format_version": version});
    match version_of(&document) {
        Some((found, needs)) => STATE_FORMAT.reads(&format!("`{}`", path.display()), found, needs),
        None => Ok(()),
    }
}

/// How long ago, in one unit.
pub fn age(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Now, in milliseconds since 1970.
pub fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
