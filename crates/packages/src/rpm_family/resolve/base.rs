//! The package database that a session begins with, where the image begins with a container image: a copy of that image's own.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ContainerPackages;
use crate::inside::common::{environment, tools_tree, write};
use crate::installed::{LONGEST_DATABASE, RPM_PLACES};
use crate::rpm_family::inside::DATABASE_LINE;
use base::digest::Digest;
use base::source::counted_as;
use sandbox::helper::News;
use sandbox::{Bind, CommandRequest, CommandResult, run_command};
use store::{Kind, LayerReader, TreeEditor, in_scratch, make_directories};

/// What of the image the solver looks at besides the database: which streams of modules are switched on.
const SEEN: [&str; 1] = ["etc/dnf/modules.d/"];

/// How many packages a message names.
const SHOWN: usize = 4;

/// Asks for a root with the database of a layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BaseRequest {
    /// Scratch directory, relative to the store's.
    pub scratch: String,
    /// Directory of the session.
    pub state: String,
    /// The layer.
    pub layer: Digest,
    /// Layers of the tools root.
    pub tools: Vec<Digest>,
    /// Seconds since 1970, for the environment.
    pub epoch: i64,
    /// Log file, relative to the store's directory.
    pub log: String,
}

/// What rpm of the tools root says of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BaseAnswer {
    /// How it ended.
    pub result: CommandResult,
    /// A line for each package.
    pub installed: String,
}

/// Copies the database, and asks rpm what is in it. Runs inside.
pub(crate) fn inside(request: BaseRequest, _: News<'_>) -> Result<BaseAnswer, String> {
    let state = format!("{}/state", request.state);
    let root = format!("{state}/root");
    make_directories(&root, &[""])?;
    copy(request.layer, &root)?;
    in_scratch(&request.scratch, || {
        let at = |name: &str| format!("{}/{name}", request.scratch);
        make_directories(&request.scratch, &["mount", "root", "root-work", "settings"])?;
        let script = format!(
            "rpm --root /imgbuild/state/root -qa --nosignature --nodigest --qf '{DATABASE_LINE}\\n' >/imgbuild/installed\n"
        );
        write(&at("settings/run"), &script)?;
        let result = run_command(&CommandRequest {
            root: tools_tree(&request.tools, at("root"), at("root-work"))?,
            binds: vec![
                Bind { source: at("settings"), target: "/imgbuild".to_owned(), writable: true },
                Bind { source: state, target: "/imgbuild/state".to_owned(), writable: true },
            ],
            arguments: ["/bin/sh", "/imgbuild/run"].map(str::to_owned).to_vec(),
            environment: environment(request.epoch),
            log: request.log.clone(),
            mount_point: at("mount"),
            ..CommandRequest::default()
        })?;
        let installed = std::fs::read_to_string(at("settings/installed")).unwrap_or_default();
        Ok(BaseAnswer { result, installed })
    })
}

fn copy(layer: Digest, root: &str) -> Result<(), String> {
    let reader = LayerReader::open(&[layer])?;
    let editor = TreeEditor::open(root)?;
    let is_wanted = |path: &str| {
        RPM_PLACES.iter().chain(&SEEN).any(|place| path.starts_with(place) || path == place.trim_end_matches('/'))
    };
    let mut left = LONGEST_DATABASE;
    for (path, found) in reader.tree.0.iter().filter(|(path, _)| is_wanted(path)) {
        if let Kind::File { size, .. } = found.entry.kind {
            left = left.checked_sub(size).ok_or("the package database has more than 2 GiB")?;
        }
        match &found.entry.kind {
            Kind::Directory => editor.make_directory(path)?,
            Kind::Symlink(target) => editor.symlink(path, target)?,
            Kind::File { .. } => editor.write(path, &reader.read(path)?.unwrap_or_default(), 0o644)?,
            _ => {}
        }
    }
    Ok(())
}

/// Why what the release's rpm says is not what the database has: a form or a place that it does not know, for instance. Resolved over
/// that, packages would be installed twice.
pub(crate) fn difference(packages: &ContainerPackages, installed: &str) -> Option<String> {
    let has: BTreeSet<String> =
        packages.iter().map(|(name, one)| format!("{name} {} {}", one.version, one.architecture)).collect();
    let is_key = |line: &&str| line.starts_with("gpg-pubkey ");
    let finds: BTreeSet<String> =
        installed.lines().filter(|line| !is_key(line)).map(|line| line.replacen(" 0:", " ", 1)).collect();
    let only: Vec<&str> = has.symmetric_difference(&finds).map(String::as_str).collect();
    let more = if only.len() > SHOWN { ", .." } else { "" };
    (!only.is_empty()).then(|| {
        let names =
            only.iter().take(SHOWN).map(|line| line.escape_default().to_string()).collect::<Vec<_>>().join(", ");
        format!(
            "it has {}, but the release's rpm finds {} of them in it; they differ in {names}{more}",
            counted_as(has.len(), "package", "packages"),
            has.intersection(&finds).count()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ContainerPackage;

    #[test]
    fn what_rpm_does_not_find_is_told() {
        let of = |version: &str| ContainerPackage {
            version: version.to_owned(),
            architecture: "noarch".to_owned(),
            ..ContainerPackage::default()
        };
        let packages: ContainerPackages = [("a".to_owned(), of("1-1")), ("b".to_owned(), of("2:1-1"))].into();
        let same = "a 0:1-1 noarch\ngpg-pubkey 1-1 (none)\nb 2:1-1 noarch\n";
        assert_eq!(difference(&packages, same), None);
        let problem = difference(&packages, "").unwrap();
        assert!(
            problem.contains("2 packages") && problem.contains("finds 0") && problem.contains("a 1-1 noarch"),
            "{problem}"
        );
        assert!(difference(&packages, &same.replace("2:1-1", "2:2-1")).unwrap().contains("finds 1"));
    }
}
