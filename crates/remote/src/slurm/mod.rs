//! Slurm: jobs are submitted with sbatch, looked after with squeue, and ended with scancel.
//!
//! What a job is to do, and what became of it, stands in files of a directory that compute nodes share:
//!
//! ```text
//! runs-UID/                 a user's
//!   imgbuild-DIGEST         the program
//!   NAME/, NAME.held        one build: held by who submitted, with the ids of its jobs in `submitted`
//!     results/              a cache (docs/cache.md): what jobs need, and what they made
//!     packages/             packages by their SHA-256, which jobs would have to download
//!     1/, 2/, ..            a round: its order, the workspace, a script for each submission, and steps/N of each step
//! ```
//!
//! Slurm says where a job is; how it ended is said by the job itself, in `steps/N/ended`: Slurm forgets.

pub mod command;
pub mod order;
pub mod queue;
pub mod submit;

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum SlurmError {
    #[error("`{program}` cannot be started: {problem}")]
    #[diagnostic(
        code(slurm::no_command),
        help(
            "install Slurm's commands on this machine, of the cluster's version (Debian: slurm-client), or build here: --executor local"
        )
    )]
    NoCommand { program: String, problem: String },
    #[error("sbatch rejected the job {name}: {said}")]
    #[diagnostic(code(slurm::refused), help("{}", remedy(said)))]
    Refused { name: String, said: String },
    #[error("the shared directory `{directory}` cannot be used: {problem}")]
    #[diagnostic(
        code(slurm::directory),
        help(
            "set `shared` of [executor] in imgbuild.toml to a directory that this machine and all compute nodes mount"
        )
    )]
    Directory { directory: String, problem: String },
    #[error(
        "job {job} ended{} before imgbuild began there: `{directory}` of this machine does not exist there or is not writable{}",
        on(node),
        quoted(said)
    )]
    #[diagnostic(
        code(slurm::not_shared),
        help(
            "set `shared` of [executor] in imgbuild.toml to a directory that this machine and all compute nodes mount"
        )
    )]
    NotShared { job: String, node: String, directory: String, said: String },
    #[error("{step} failed in job {job}{}", on(node))]
    #[diagnostic(
        code(slurm::failed),
        help("see its output above; nothing was published, results of other jobs are kept")
    )]
    Failed { step: String, job: String, node: String },
    #[error("{step}: job {job}{} {what}", on(node))]
    #[diagnostic(code(slurm::ended), help("{remedy}"))]
    Ended { step: String, job: String, node: String, what: &'static str, remedy: &'static str },
    /// Something that a recipe names cannot be given to jobs.
    #[error("{problem}")]
    #[diagnostic(code(slurm::unsent), help("{remedy}"))]
    Unsent { problem: String, remedy: &'static str },
}

fn on(node: &str) -> String {
    if node.is_empty() { String::new() } else { format!(" on {node}") }
}

fn quoted(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(" ({said})") }
}

/// What to do where sbatch said no.
fn remedy(said: &str) -> &'static str {
    let said = said.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&["munge", "authentication"]) {
        return "start munged on this machine with the cluster's key: systemctl status munge";
    }
    if has(&["partition", "account", "qos", "feature"]) {
        return "sinfo lists partitions and features, `sacctmgr show assoc user=$USER` accounts: correct `options` of [executor] in imgbuild.toml";
    }
    if has(&["node configuration", "memory", "cpu count"]) {
        return "lower `cpus` or `memory` of [executor] in imgbuild.toml, or set another --partition in `options`: no node has as much";
    }
    if has(&["time limit"]) {
        return "lower `minutes` of [executor] in imgbuild.toml, or set another --partition in `options`: none allows as long";
    }
    if has(&["contact slurm controller", "connection refused", "configuration source", "timed out"]) {
        return "run `scontrol ping`: slurmctld does not answer this machine";
    }
    "check `options` of [executor] in imgbuild.toml, which are passed to sbatch (docs/slurm.md)"
}
