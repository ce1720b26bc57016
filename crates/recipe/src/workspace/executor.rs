//! `[executor]` of a workspace: where the actions of its images run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Node, Spans};
use base::source::Finding;

/// Where the actions of a build run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ExecutorKind {
    /// On this machine.
    #[default]
    Local,
    /// As jobs of Slurm.
    Slurm,
}

/// Where actions run, and what jobs are given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceExecutor {
    /// `local` or `slurm`; `build --executor` goes before it.
    #[serde(default)]
    pub name: ExecutorKind,
    /// A directory, from here, that this machine and the compute nodes share. None: the first cache that is a directory, or else
    /// `.imgbuild-slurm` in the workspace.
    #[serde(default)]
    pub shared: Option<String>,
    /// Where compute nodes keep their stores: an absolute path of each node's own disk. None: below $TMPDIR, or /tmp.
    #[serde(default)]
    pub store: Option<String>,
    /// Options that sbatch gets for each job, after imgbuild's own: `--partition=build`, `--account=ops`, `--constraint=avx2`.
    #[serde(default)]
    pub options: Vec<String>,
    /// Most CPUs that a job asks for.
    #[serde(default = "four")]
    #[schemars(range(min = 1, max = 1024))]
    pub cpus: u16,
    /// Least memory that a job asks for, in MiB, where the estimate is smaller.
    #[serde(default)]
    pub memory: Option<u64>,
    /// Least time limit of a job, in minutes, where the estimate is smaller or missing. None: the partition's, where the
    /// estimate is missing.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub minutes: Option<u64>,
}

fn four() -> u16 {
    4
}

impl Default for WorkspaceExecutor {
    fn default() -> Self {
        Self {
            name: ExecutorKind::Local,
            shared: None,
            store: None,
            options: Vec::new(),
            cpus: four(),
            memory: None,
            minutes: None,
        }
    }
}

impl WorkspaceExecutor {
    /// What is wrong with it, by the tree of the workspace's file.
    pub(super) fn problems(&self, document: &Node) -> Vec<Finding> {
        let spans = Spans::of(document);
        let at = |field: &str| spans.nearest(field).unwrap_or(&document.span).clone();
        let mut errors = Vec::new();
        for (index, word) in self.options.iter().enumerate() {
            if let Some(problem) = option_problem(word) {
                let span = at(&format!("executor.options[{index}]"));
                errors.push(
                    Finding::error(
                        "workspace::option",
                        &span,
                        format!("`{word}` cannot be given to sbatch: {problem}"),
                    )
                    .label("here")
                    .help("write options as sbatch(1) has them, each in one text: \"--partition=build\""),
                );
            }
        }
        if let Some(store) = self.store.as_deref().filter(|store| !store.starts_with('/')) {
            errors.push(
                Finding::error("workspace::store", &at("executor.store"), format!("`{store}` is not an absolute path"))
                    .label("a directory of each compute node")
                    .help("write its path from the root: \"/scratch/imgbuild\""),
            );
        }
        errors
    }
}

/// Options of sbatch that decide what imgbuild relies on.
const TAKEN_OPTIONS: [&str; 16] = [
    "array",
    "dependency",
    "output",
    "error",
    "open-mode",
    "parsable",
    "wrap",
    "wait",
    "test-only",
    "export",
    "no-requeue",
    "ntasks",
    "nodes",
    "comment",
    "clusters",
    "kill-on-invalid-dep",
];

/// What makes a word unusable as an option of sbatch.
fn option_problem(word: &str) -> Option<String> {
    if word.chars().any(char::is_control) {
        return Some("it has a control character".to_owned());
    }
    let Some(long) = word.strip_prefix("--") else {
        let short = word.strip_prefix('-').and_then(|rest| rest.chars().next());
        return match short {
            None => Some("not an option of sbatch".to_owned()),
            Some(letter) if "adoeWnNM".contains(letter) => Some("it is set by imgbuild".to_owned()),
            Some(_) => None,
        };
    };
    let name = long.split('=').next().unwrap_or_default();
    // sbatch takes shortened names.
    let is_taken = !name.is_empty() && TAKEN_OPTIONS.iter().any(|taken| taken.starts_with(name));
    match is_taken {
        true => Some("it is set by imgbuild".to_owned()),
        false if name.is_empty() => Some("not an option of sbatch".to_owned()),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::option_problem;

    #[test]
    fn options_that_imgbuild_relies_on_are_its_own() {
        for good in ["--partition=build", "--account=ops", "-p", "--constraint=avx2&ib", "--gres=a b", "--nice"] {
            assert_eq!(option_problem(good), None, "{good}");
        }
        for bad in [
            "",
            "build",
            "-",
            "--",
            "--array=0-3",
            "-d",
            "--wrap=x",
            "--output",
            "--arr=0-9",
            "--dep=1",
            "--clusters=a",
            "-M",
            "--comment=x",
            "--partition=a\nb",
            "-o/x",
        ] {
            assert!(option_problem(bad).is_some(), "{bad}");
        }
    }
}
