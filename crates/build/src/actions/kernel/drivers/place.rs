//! Puts drivers into the kernel's tree, says by which order depmod chooses, and compares them with the kernel. Runs inside.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::abi::{Kernel, Misfit, Release, describe, misfits, module_facts};
use super::found::{Content, DriverFile, Place};
use super::gather::Refusal;
use super::kernel_abi::{Files, Provided, facts};
use crate::actions::kernel::modules::decompress_module;
use recipe::normal_name;
use store::TreeEditor;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub source: String,
    pub path: String,
    /// The release in whose folder its package has it, where that is another one.
    pub other_release: Option<String>,
}

/// What there is to say of drivers that were put into the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remarks {
    /// Names of modules that drivers brought, and that depmod chooses.
    pub names: Vec<String>,
    pub notes: Vec<String>,
    pub warnings: Vec<String>,
}

/// depmod's order where the release has none of its own: what someone added goes before what the kernel brought.
const SEARCH: &str = "search updates extra weak-updates built-in\n";

fn folder(release: &str) -> String {
    format!("usr/lib/modules/{release}")
}

/// How well a module of another release fits, as far as it can be said before it is in the tree.
fn fits(file: &DriverFile, rest: &str, kernel: &Kernel) -> bool {
    let Content::File(bytes) = &file.content else { return false };
    let facts = decompress_module(rest, bytes.clone()).map_err(|error| error.to_string());
    facts.and_then(|bytes| module_facts(&bytes)).is_ok_and(|facts| {
        // Symbols of other modules are looked at when all modules are there.
        misfits(&facts, kernel, Release::Other, &mut |_| Some(None)).is_empty()
    })
}

/// A module for another release: its file, that release, and its path below the release's folder.
type Candidate<'f> = (&'f DriverFile, &'f str, &'f str);

/// Which of a source's modules are taken: those for the release, and of each other module the newest that fits.
fn choose<'f>(
    files: &'f [DriverFile],
    kernel: &Kernel,
    newest: &dyn Fn(&str, &str) -> std::cmp::Ordering,
) -> Vec<(&'f DriverFile, String, Option<String>)> {
    let mut taken = Vec::new();
    let mut others: BTreeMap<(&str, String), Vec<Candidate<'_>>> = BTreeMap::new();
    let mut own: BTreeSet<(&str, String)> = BTreeSet::new();
    for file in files {
        let Place::Module(release, rest) = &file.place else { continue };
        let known = (file.source.as_str(), normal_name(rest));
        match release {
            Some(release) if *release != kernel.release => {
                others.entry(known).or_default().push((file, release, rest));
            }
            _ => {
                own.insert(known);
                taken.push((file, rest.clone(), None));
            }
        }
    }
    for (known, mut candidates) in others {
        if own.contains(&known) {
            continue;
        }
        candidates.sort_by(|a, b| newest(b.1, a.1));
        let fitting = candidates.iter().find(|(file, _, rest)| fits(file, rest, kernel));
        // One that does not fit is refused later, with the reason; but a package with modules for this very kernel has
        // what it means to have for it.
        let is_for_us = own.iter().any(|(source, _)| *source == known.0);
        let best = fitting.or(if is_for_us { None } else { candidates.first() });
        if let Some((file, release, rest)) = best {
            // As weak-modules names its links: without the first folder, which is mostly `extra`.
            let below = rest.split_once('/').map_or(*rest, |(_, below)| below);
            taken.push((file, format!("weak-updates/{below}"), Some((*release).to_owned())));
        }
    }
    taken
}

/// Writes drivers into the tree.
/// Errors: A text for a tree that cannot be written, or a refusal where two sources bring different things for one path.
pub(super) fn place(
    editor: &TreeEditor,
    files: &[DriverFile],
    kernel: &Kernel,
    newest: &dyn Fn(&str, &str) -> std::cmp::Ordering,
) -> Result<Result<Vec<Placed>, Refusal>, String> {
    let mut written: BTreeMap<String, &DriverFile> = BTreeMap::new();
    let mut placed = Vec::new();
    let chosen = choose(files, kernel, newest);
    let modules = chosen.iter().map(|(file, rest, _)| (*file, format!("{}/{rest}", folder(&kernel.release))));
    let rest = files.iter().filter_map(|file| match &file.place {
        Place::Other(path) => Some((file, path.clone())),
        Place::Module(..) => None,
    });
    for (file, path) in modules.chain(rest) {
        if let Some(earlier) = written.get(&path) {
            if earlier.content != file.content && !fault::planted("drivers-agree") {
                return Ok(Err(Refusal::new(
                    format!(
                        "`{}` and `{}` of ‹[kernel]› provide different files for `{path}`",
                        earlier.source, file.source
                    ),
                    "keep one of the two",
                )));
            }
            continue;
        }
        match &file.content {
            Content::File(bytes) => editor.write(&path, bytes, 0o644)?,
            Content::Symlink(target) => editor.symlink(&path, target)?,
        }
        written.insert(path, file);
    }
    for (file, path, other_release) in chosen {
        placed.push(Placed { source: file.source.clone(), path, other_release });
    }
    Ok(Ok(placed))
}

/// The text of depmod's configuration: the release's own and the drivers' files, and the order where they have none.
pub(super) fn depmod_configuration(of_tools: &[String], editor: &TreeEditor) -> String {
    let mut text = of_tools.concat();
    for directory in ["usr/lib/depmod.d", "etc/depmod.d"] {
        for name in editor.names(directory).iter().filter(|name| name.ends_with(".conf")) {
            if let Some(mut file) = editor.open_file(&format!("{directory}/{name}")) {
                let mut one = String::new();
                let _ = std::io::Read::read_to_string(&mut file, &mut one);
                text.push_str(one.trim_end());
                text.push('\n');
            }
        }
    }
    if !text.lines().any(|line| line.trim_start().starts_with("search")) {
        text.push_str(SEARCH);
    }
    text
}

/// Compares modules with the kernel; depmod's files are there.
/// Errors: A text for files that cannot be read. What does not fit is a refusal.
pub(super) fn check(files: &dyn Files, kernel: &Kernel, placed: &[Placed]) -> Result<Result<(), Refusal>, String> {
    let mut provided = Provided::new(files, &kernel.release)?;
    let mut problems = Vec::new();
    for one in placed {
        let path = format!("{}/{}", folder(&kernel.release), one.path);
        let bytes = files.read(&path)?.ok_or_else(|| format!("{path} is missing"))?;
        let release = if one.other_release.is_some() { Release::Other } else { Release::Own };
        let facts = decompress_module(&path, bytes).map_err(|error| format!("it is damaged: {error}"));
        let (vermagic, found) = match facts.and_then(|bytes| module_facts(&bytes)) {
            Ok(facts) => {
                let found = misfits(&facts, kernel, release, &mut |name| provided.find(name));
                (facts.vermagic, found)
            }
            Err(problem) => (String::new(), vec![Misfit::Unreadable(problem)]),
        };
        if found.is_empty() {
            continue;
        }
        let shown: Vec<String> =
            found.iter().take(3).map(|misfit| describe(misfit, &vermagic, &kernel.release)).collect();
        let more = if found.len() > 3 { format!("; and {} more symbols", found.len() - 3) } else { String::new() };
        problems.push(format!("`{}` of `{}`: {}{more}", one.path, one.source, shown.join("; ")));
    }
    if problems.is_empty() {
        return Ok(Ok(()));
    }
    let count = problems.len();
    problems.truncate(6);
    if count > problems.len() {
        problems.push(format!("and {} more modules", count - problems.len()));
    }
    let wanted = kernel.vermagic.clone().unwrap_or_else(|| kernel.release.clone());
    Ok(Err(Refusal::new(
        format!("modules are incompatible with the kernel {}:\n{}", kernel.release, problems.join("\n")),
        format!(
            "the kernel expects `{wanted}`: use the driver that was built for it, choose the driver's kernel (‹[kernel]› package, version or dir), or build the driver from its source (‹[[kernel.build]]›)"
        ),
    )))
}

/// Says which of several modules with one name depmod chose.
pub(super) fn remarks(files: &dyn Files, release: &str, placed: &[Placed]) -> Result<Remarks, String> {
    let folder = folder(release);
    let dep = files.text(&format!("{folder}/modules.dep"))?;
    let winners: BTreeMap<String, &str> =
        dep.lines().filter_map(|line| line.split_once(':')).map(|(path, _)| (normal_name(path), path)).collect();
    let all = files.modules(&folder);
    let mut remarks = Remarks::default();
    for one in placed {
        let name = normal_name(&one.path);
        let winner = winners.get(&name).copied().unwrap_or_default();
        if winner != one.path {
            remarks.warnings.push(format!(
                "`{}` of `{}` is not used: `{winner}` comes first in depmod's search order",
                one.path, one.source
            ));
            continue;
        }
        let replaced: Vec<&str> =
            all.iter().filter(|path| **path != one.path && normal_name(path) == name).map(String::as_str).collect();
        if !replaced.is_empty() {
            remarks.notes.push(format!(
                "`{}` of `{}` is used instead of `{}`",
                one.path,
                one.source,
                replaced.join("`, `")
            ));
            let exports =
                |path: &str| Ok::<_, String>(facts(files, &format!("{folder}/{path}"))?.unwrap_or_default().exports);
            let now = exports(&one.path)?;
            let mut lost = Vec::new();
            for path in &replaced {
                let differs = |(name, crc): &(String, Option<u32>)| now.get(name) != Some(crc);
                lost.extend(exports(path)?.into_iter().filter(differs).map(|(name, _)| name));
            }
            if !lost.is_empty() {
                lost.truncate(5);
                remarks.warnings.push(format!(
                    "`{}` of `{}` lacks symbols that the kernel's own modules may need, or has other versions of them: {}",
                    one.path,
                    one.source,
                    lost.join(", ")
                ));
            }
        }
        if let Some(other) = &one.other_release {
            remarks.notes.push(format!(
                "`{}` of `{}` was built for {other}; all that it needs is the same in {release}",
                one.path, one.source
            ));
        }
        remarks.names.push(name);
    }
    remarks.names.sort();
    remarks.names.dedup();
    Ok(remarks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(source: &str, release: Option<&str>, rest: &str) -> DriverFile {
        DriverFile {
            source: source.into(),
            place: Place::Module(release.map(str::to_owned), rest.into()),
            content: Content::File(rest.as_bytes().to_vec()),
        }
    }

    fn kernel() -> Kernel {
        Kernel { release: "6.1.0-2".into(), cpu: None, vermagic: None, exports: Err("none".into()) }
    }

    #[test]
    fn of_a_package_for_several_kernels_the_images_own_is_taken_and_else_one() {
        let files = [
            file("p", Some("6.1.0-1"), "extra/a.ko"),
            file("p", Some("6.1.0-2"), "extra/a.ko"),
            file("p", Some("6.1.0-1"), "extra/only-for-others.ko"),
            file("q", Some("6.1.0-1"), "extra/sub/b.ko"),
            file("q", Some("6.1.0-10"), "extra/sub/b.ko"),
            file("l", None, "updates/c.ko"),
        ];
        let taken = choose(&files, &kernel(), &|a, b| a.len().cmp(&b.len()));
        let shown: Vec<(&str, Option<&str>)> =
            taken.iter().map(|(_, path, other)| (path.as_str(), other.as_deref())).collect();
        assert_eq!(shown, [("extra/a.ko", None), ("updates/c.ko", None), ("weak-updates/sub/b.ko", Some("6.1.0-10"))]);
    }

    #[test]
    fn two_sources_for_one_file_are_refused_unless_they_agree() {
        let tree = tempfile::tempdir().unwrap();
        let editor = TreeEditor::open(tree.path().to_str().unwrap()).unwrap();
        let mut files = vec![file("p", None, "updates/a.ko"), file("q", None, "updates/a.ko")];
        assert!(place(&editor, &files, &kernel(), &|a, b| a.cmp(b)).unwrap().is_ok());
        files[1].content = Content::File(b"other".to_vec());
        let refusal = place(&editor, &files, &kernel(), &|a, b| a.cmp(b)).unwrap().unwrap_err();
        assert!(refusal.problem.contains("`p` and `q`"), "{refusal:?}");
    }

    #[test]
    fn the_order_of_depmod_is_the_releases_or_a_drivers_or_updates_first() {
        let tree = tempfile::tempdir().unwrap();
        let editor = TreeEditor::open(tree.path().to_str().unwrap()).unwrap();
        assert_eq!(depmod_configuration(&[], &editor), SEARCH);
        let own = "search extra built-in\n".to_owned();
        assert_eq!(depmod_configuration(std::slice::from_ref(&own), &editor), own);
        editor.write("etc/depmod.d/x.conf", b"override a * extra", 0o644).unwrap();
        assert_eq!(depmod_configuration(&[], &editor), format!("override a * extra\n{SEARCH}"));
    }
}
