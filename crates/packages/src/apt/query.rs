//! Asking apt about the repositories, from inside. What apt makes of their indices is kept in the store: reading them takes
//! longer than most questions, and a lock asks one for each transaction.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::inside::environment;
use crate::inside::common::{tools_tree, write};
use base::digest::{Digest, FieldHasher};
use sandbox::helper::News;
use sandbox::{Bind, CommandRequest, CommandResult, run_command};
use store::{in_scratch, make_directories};

/// Asks apt something about the repositories, without a target.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct QueryRequest {
    pub scratch: String,
    /// What apt keeps of the indices, relative to the store's directory; named by what it is made of.
    pub known: String,
    /// Makes it where it is not there; without this a missing one is only said.
    pub prepare: Option<Prepare>,
    /// Whether it is read and compared with its digests first.
    pub check: bool,
    pub tools: Vec<Digest>,
    /// apt.conf, sources.list and other files, by path below /imgbuild.
    pub files: Vec<(String, String)>,
    pub script: String,
    /// Seconds since 1970, for the environment.
    pub epoch: i64,
    /// Log file, relative to the store's directory; takes the standard output.
    pub log: String,
}

impl QueryRequest {
    /// All that apt is shown and asked.
    pub(super) fn digest(&self) -> Digest {
        let mut hasher = FieldHasher::new("imgbuild apt answer v1");
        hasher.text(&self.known).text(&self.script).text(&self.epoch.to_string());
        for digest in &self.tools {
            hasher.field(&digest.0);
        }
        for (path, text) in &self.files {
            hasher.text(path).text(text);
        }
        hasher.finish()
    }
}

/// What is read when nothing is known of the indices yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Prepare {
    /// Directory shown at /repo, relative to the store's.
    pub links: String,
    /// Shell script that fills /imgbuild/known.
    pub script: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum QueryAnswer {
    Ran(CommandResult),
    /// What is kept of the indices is not there, or is damaged: the question has to say how it is made.
    Unknown,
}

/// File with the digests of what is kept: one line each, as b3sum writes them.
const SUMS: &str = "sums";

/// Digests of all files below a directory but [`SUMS`], in a fixed order.
fn sums(directory: &str) -> Result<String, String> {
    let said = |error: &dyn std::fmt::Display| format!("{directory}: {error}");
    let mut text = String::new();
    for entry in walkdir::WalkDir::new(directory).sort_by_file_name() {
        let entry = entry.map_err(|error| said(&error))?;
        let path = entry.path().strip_prefix(directory).unwrap_or(entry.path());
        if !entry.file_type().is_file() || path == Path::new(SUMS) {
            continue;
        }
        let mut hasher = blake3::Hasher::new();
        std::fs::File::open(entry.path())
            .and_then(|file| hasher.update_reader(file).map(|_| ()))
            .map_err(|error| said(&error))?;
        text.push_str(&format!("{}  {}\n", hasher.finalize(), path.display()));
    }
    Ok(text)
}

/// Whether what is kept of the indices is what it was when it was made.
fn is_whole(known: &str) -> bool {
    std::fs::read_to_string(format!("{known}/{SUMS}")).is_ok_and(|noted| sums(known).is_ok_and(|found| found == noted))
}

/// Makes what is kept of the indices, and puts it into its place when all of it is there.
fn prepare(request: &QueryRequest, how: &Prepare, apt: &Bind) -> Result<CommandResult, String> {
    let made = format!("{}/known", request.scratch);
    make_directories(&made, &["lists/partial"])?;
    let repositories = Bind { source: how.links.clone(), target: "/repo".to_owned(), writable: false };
    let known = Bind { source: made.clone(), target: "/imgbuild/known".to_owned(), writable: true };
    write(&format!("{}/apt/prepare", request.scratch), &how.script)?;
    let result = run(request, "prepare", vec![apt.clone(), repositories, known])?;
    if result.status != 0 {
        return Ok(result);
    }
    let text = sums(&made)?;
    let said = |error: std::io::Error| format!("{made}: {error}");
    let mut file = std::fs::File::create(format!("{made}/{SUMS}")).map_err(said)?;
    file.write_all(text.as_bytes()).map_err(said)?;
    // Another command that asks the same may have been faster, and reads its own now: that one is as good. One looks and
    // renames at a time, so that no one takes away what someone else has just found to be whole.
    let (parent, _) = request.known.rsplit_once('/').unwrap_or((".", ""));
    let turn = std::fs::File::open(parent).map_err(said)?;
    rustix::fs::flock(&turn, rustix::fs::FlockOperation::LockExclusive).map_err(|error| said(error.into()))?;
    if !is_whole(&request.known) {
        // A damaged one goes with the scratch directory.
        let _ = std::fs::rename(&request.known, format!("{}/damaged", request.scratch));
        match std::fs::rename(&made, &request.known) {
            Err(_) if is_whole(&request.known) => {}
            other => other.map_err(said)?,
        }
    }
    Ok(result)
}

fn run(request: &QueryRequest, script: &str, binds: Vec<Bind>) -> Result<CommandResult, String> {
    let at = |name: &str| format!("{}/{script}-{name}", request.scratch);
    for name in ["mount", "root", "root-work"] {
        make_directories(&at(name), &[""])?;
    }
    let mut variables = environment(request.epoch);
    variables.push(("APT_CONFIG".to_owned(), "/imgbuild/apt.conf".to_owned()));
    run_command(&CommandRequest {
        root: tools_tree(&request.tools, at("root"), at("root-work"))?,
        binds,
        arguments: ["/bin/sh".to_owned(), format!("/imgbuild/{script}")].to_vec(),
        environment: variables,
        log: request.log.clone(),
        mount_point: at("mount"),
        ..CommandRequest::default()
    })
}

pub(super) fn query(request: QueryRequest, _: News<'_>) -> Result<QueryAnswer, String> {
    in_scratch(&request.scratch, || {
        let at = |name: &str| format!("{}/{name}", request.scratch);
        make_directories(&request.scratch, &["apt/known"])?;
        for (path, text) in &request.files {
            let path = at(&format!("apt/{path}"));
            if let Some((parent, _)) = path.rsplit_once('/') {
                make_directories(parent, &[""])?;
            }
            write(&path, text)?;
        }
        write(&at("apt/run"), &request.script)?;
        let apt = Bind { source: at("apt"), target: "/imgbuild".to_owned(), writable: true };
        let whole = match request.check {
            true => is_whole(&request.known),
            false => Path::new(&request.known).join(SUMS).is_file(),
        };
        match &request.prepare {
            _ if whole => {}
            None => return Ok(QueryAnswer::Unknown),
            Some(how) => {
                let result = prepare(&request, how, &apt)?;
                if result.status != 0 {
                    return Ok(QueryAnswer::Ran(result));
                }
            }
        }
        let known = Bind { source: request.known.clone(), target: "/imgbuild/known".to_owned(), writable: false };
        Ok(QueryAnswer::Ran(run(&request, "run", vec![apt, known])?))
    })
}
