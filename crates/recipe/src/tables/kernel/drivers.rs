//! What [kernel] takes from the build host: a directory of kernels, driver updates, sources of drivers.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Model;
use crate::load::paths::{PathProblem, Paths, unfetched};
use base::source::{Finding, Span};

/// What an update is said to be, in xCAT's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateForm {
    /// `rpm:`, a driver package.
    Package,
    /// `dud:`, a driver update disk.
    Disk,
}

#[derive(Debug, Clone)]
pub struct DriverUpdate {
    pub name: String,
    pub form: Option<UpdateForm>,
    pub is_directory: bool,
    /// Its files: where, and the path below the directory or the file's own name. Sorted.
    pub files: Vec<(PathBuf, String)>,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub struct DriverBuild {
    /// How messages and keys call the source.
    pub name: String,
    /// Whether the source is a directory; else it is a tar archive.
    pub is_directory: bool,
    pub files: Vec<(PathBuf, String)>,
    pub make: Vec<String>,
    /// Path of the table in the model.
    pub at: String,
}

#[derive(Debug, Clone, Default)]
pub struct Drivers {
    pub kernels: Option<PathBuf>,
    /// Driver updates, in order.
    pub updates: Vec<DriverUpdate>,
    pub builds: Vec<DriverBuild>,
}

/// Splits an item of xCAT's `driverupdatesrc`: a list with commas, each item with `dud:` or `rpm:` in front, or nothing.
fn update_items(text: &str) -> Vec<(Option<UpdateForm>, &str)> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    items
        .map(|item| {
            let (prefix, rest) = item.split_once(':').unwrap_or(("", item));
            match prefix.to_ascii_lowercase().as_str() {
                "dud" => (Some(UpdateForm::Disk), rest),
                "rpm" => (Some(UpdateForm::Package), rest),
                _ => (None, item),
            }
        })
        .collect()
}

struct Reader<'a> {
    paths: &'a Paths,
    findings: &'a mut Vec<Finding>,
}

/// How deep a directory of drivers is read.
const DEPTH_LIMIT: usize = 32;

impl Reader<'_> {
    fn resolve(&mut self, name: &str, span: &Span) -> Option<PathBuf> {
        let finding = match self.paths.resolve(name, &self.paths.recipe.clone()) {
            Ok(path) => return Some(path),
            Err(PathProblem::Missing(_, problem)) => {
                Finding::error("recipe::no_file", span, format!("`{name}` cannot be read: {problem}"))
                    .help("create it, or correct the path; paths are relative to the recipe's directory")
            }
            Err(PathProblem::Unfetched(_, problem, help)) => unfetched(name, span, &problem, help),
            Err(PathProblem::Outside(_, help)) => {
                Finding::error("recipe::outside", span, format!("`{name}` is outside the workspace")).help(help)
            }
        };
        self.findings.push(finding.label("named here"));
        None
    }

    /// All files of a directory, or the file itself. Links lead where the recipe may read, or are refused.
    fn files(&mut self, path: &Path, span: &Span) -> Vec<(PathBuf, String)> {
        if !witness::is_dir(path) {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            return vec![(path.to_owned(), name)];
        }
        let mut found = Vec::new();
        let enter = |_: usize, name: &std::ffi::OsStr| name != ".git";
        let walk = witness::walk().at_most(DEPTH_LIMIT).only(&enter).through(path);
        for entry in walk.into_iter().flatten() {
            if entry.kind != witness::Kind::File && !(entry.is_link && witness::is_file(&entry.path)) {
                continue;
            }
            let Some(below) = entry.path.strip_prefix(path).ok().and_then(Path::to_str) else {
                let text = format!("`{}` has a name that is not UTF-8", entry.path.display());
                self.findings.push(Finding::error("recipe::no_file", span, text));
                continue;
            };
            let below = below.to_owned();
            if !entry.is_link {
                found.push((entry.path, below));
            } else if let Some(real) = self.resolve(&entry.path.display().to_string(), span) {
                found.push((real, below));
            }
        }
        found
    }

    fn build(&mut self, table: &crate::KernelBuild, at: String, span: &Span) -> Option<DriverBuild> {
        let source = self.resolve(&table.source, span)?;
        let is_directory = witness::is_dir(&source);
        let files = self.files(&source, span);
        let has = |wanted: &str| files.iter().any(|(_, name)| name == wanted);
        let can_build = ["Makefile", "Kbuild", "dkms.conf"].iter().any(|name| has(name)) || !table.make.is_empty();
        let problem = if is_directory && !can_build {
            Some(format!("`{}` has no Makefile, Kbuild or dkms.conf", table.source))
        } else if !is_directory && !is_archive(&table.source) {
            Some(format!("`{}` is neither a directory nor a tar archive", table.source))
        } else {
            None
        };
        if let Some(problem) = problem {
            self.findings.push(
                Finding::error("kernel::source", span, problem)
                    .label("named here")
                    .help("name a directory with the driver's Makefile, or a .tar, .tar.gz, .tar.xz or .tar.zst of it; set `make` to build others"),
            );
            return None;
        }
        let name = self.paths.name(&source);
        Some(DriverBuild { name, is_directory, files, make: table.make.clone(), at })
    }
}

fn is_archive(name: &str) -> bool {
    [".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.zst"].iter().any(|ending| name.ends_with(ending))
}

pub(crate) fn read_drivers(
    model: &Model,
    place: &dyn Fn(&str) -> Span,
    paths: &Paths,
    findings: &mut Vec<Finding>,
) -> Drivers {
    let mut reader = Reader { paths, findings };
    let mut drivers = Drivers::default();
    if let Some(name) = &model.kernel.dir {
        let span = place("kernel.dir");
        drivers.kernels = reader.resolve(name, &span);
        if drivers.kernels.as_ref().is_some_and(|path| !witness::is_dir(path)) {
            reader.findings.push(
                Finding::error("kernel::dir", &span, format!("`{name}` is not a directory"))
                    .label("named here")
                    .help("name the directory with the kernel's packages (xCAT: kerneldir)"),
            );
        }
    }
    for (index, text) in model.kernel.updates.iter().enumerate() {
        let span = place(&format!("kernel.updates[{index}]"));
        let items = update_items(text);
        if items.is_empty() {
            reader.findings.push(Finding::error("kernel::updates", &span, "this is empty"));
        }
        for (form, name) in items {
            let Some(path) = reader.resolve(name, &span) else { continue };
            let files = reader.files(&path, &span);
            let name = reader.paths.name(&path);
            drivers.updates.push(DriverUpdate {
                name,
                form,
                is_directory: witness::is_dir(&path),
                files,
                span: span.clone(),
            });
        }
    }
    for (index, table) in model.kernel.build.iter().enumerate() {
        let at = format!("kernel.build[{index}]");
        let span = place(&format!("{at}.source"));
        drivers.builds.extend(reader.build(table, at, &span));
    }
    drivers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xcats_forms_of_a_driver_source_are_understood() {
        use UpdateForm::{Disk, Package};
        assert_eq!(
            update_items("dud:/a.img,RPM:/b.rpm,/c.rpm"),
            [(Some(Disk), "/a.img"), (Some(Package), "/b.rpm"), (None, "/c.rpm")]
        );
        assert_eq!(update_items("Dud:a b.iso , x:y.rpm"), [(Some(Disk), "a b.iso"), (None, "x:y.rpm")]);
        assert!(update_items(" , ").is_empty());
    }
}
