//! Inputs of scripts by absolute paths: files of the site, which scripts find where they are on its management node.

use std::path::{Path, PathBuf};

use super::Reader;
use super::paths::{PathProblem, unfetched};
use base::source::Finding;

/// The root that scripts run in: mounts, links of every distribution, and the image's accounts, by which names resolve there. Nothing
/// else may stand in for these.
const TAKEN: [&str; 17] = [
    "/dev",
    "/proc",
    "/sys",
    "/run",
    "/tmp",
    "/target",
    "/recipe",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/var/run",
    "/var/lock",
    "/etc/passwd",
    "/etc/group",
];

impl Reader<'_> {
    /// Where a pattern is looked for, and how the names begin that scripts know its files by: not at all below the recipe.
    pub(super) fn start_of(&mut self, at: &str, pattern: &str) -> Option<(PathBuf, PathBuf)> {
        if !pattern.starts_with('/') {
            return Some((self.folder(at), PathBuf::new()));
        }
        let span = self.span(at);
        let start = fixed(pattern);
        let is_odd = pattern.split('/').skip(1).any(|part| part.is_empty() || part == "." || part == "..");
        let taken = TAKEN.iter().find(|taken| Path::new(start).starts_with(taken));
        if is_odd || start == "/" || taken.is_some() {
            let message = format!("`{pattern}` cannot be shown to scripts at its path");
            let label = match taken {
                Some(taken) => format!("{taken} belongs to the root that they run in"),
                None => "an absolute pattern starts with a folder, and contains no `.`, `..` or `//`".to_owned(),
            };
            let finding = Finding::error("postinstall::place", &span, message).label(label);
            self.findings.push(finding.help("copy it next to the recipe, and name that copy"));
            return None;
        }
        match self.paths.resolve(start, &self.paths.recipe.clone()) {
            Ok(real) => return Some((real, PathBuf::from(start))),
            Err(PathProblem::Missing(..)) => {
                let finding = Finding::warning("postinstall::no_input", &span, format!("`{pattern}` matches no file"))
                    .label("the script gets no file from it");
                let help = "put it there, or set where it is on this host: ‹[xcat] path_map = { \"/install\" = \"site/install\" }›";
                self.findings.push(finding.help(help));
            }
            Err(PathProblem::Unfetched(_, problem, help)) => {
                self.findings.push(unfetched(pattern, &span, &problem, help));
            }
            Err(PathProblem::Outside(_, help)) => {
                let message = format!("`{pattern}` is outside the workspace");
                self.findings.push(Finding::error("recipe::outside", &span, message).label("named here").help(help));
            }
        }
        None
    }
}

/// The part of a pattern in front of its wildcards, as a folder; the whole of one without.
fn fixed(pattern: &str) -> &str {
    match pattern.find(['*', '?', '[', '{']) {
        Some(at) => {
            pattern[..at].rsplit_once('/').map_or("", |(folder, _)| if folder.is_empty() { "/" } else { folder })
        }
        None => pattern,
    }
}
