//! Files in directories of packages, and those that are not packages: an error where the recipe asks for one, left out where it does not.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{DistroError, Gathering, manager};
use base::digest::Sha256;
use base::source::{Finding, Severity, Span};
use recipe::{Recipe, is_meant};

/// A file whose name says that it is a package, and whose content says otherwise.
#[derive(Debug, Clone)]
pub struct DamagedFile {
    /// Where it is.
    pub path: PathBuf,
    /// Path below the directory.
    pub place: String,
    /// Why it is not a package.
    pub problem: String,
    /// Its content as it was read; none where it cannot be.
    pub sha256: Option<Sha256>,
}

/// How deep below a directory package files may lie.
const DEPTH_LIMIT: usize = 8;

/// All files below a directory whose names are those of packages, links to files too, sorted.
/// Errors: [`DistroError::Format`] for a directory that cannot be read.
pub(crate) fn files_below(directory: &Path, is_package: &dyn Fn(&str) -> bool) -> Result<Vec<PathBuf>, DistroError> {
    let mut files = Vec::new();
    for entry in witness::walk().following().at_most(DEPTH_LIMIT).through(directory) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(problem) if problem.is_of_link(directory) => continue,
            Err(problem) => {
                let file = directory.display().to_string();
                return Err(DistroError::Format { file, problem: problem.to_string() });
            }
        };
        // A name that is not UTF-8 is a package's, too: who reads the file says what is wrong with it.
        let name = entry.path.file_name().unwrap_or_default().to_string_lossy();
        if is_package(&name) && witness::is_file(&entry.path) {
            files.push(entry.path);
        }
    }
    Ok(files)
}

impl DamagedFile {
    pub fn new(directory: &Path, path: &Path, problem: String) -> Self {
        let place = path.strip_prefix(directory).unwrap_or(path).display().to_string();
        let mut start = Vec::new();
        let opened = std::fs::File::open(path).map(|file| file.take(512));
        let _ = opened.and_then(|mut file| file.read_to_end(&mut start));
        let text = String::from_utf8_lossy(&start).to_ascii_lowercase();
        let is_page = ["<!doctype", "<html", "<?xml", "<head"].iter().any(|word| text.trim_start().starts_with(word));
        let problem = match is_page {
            true => "it is a web page, which a server sent instead of the package".to_owned(),
            false if start.is_empty() => "it is empty, or cannot be read".to_owned(),
            false => problem,
        };
        Self { path: path.to_owned(), place, problem, sha256: witness::sha256(path).ok() }
    }

    /// Folder of the directory and name of the package, as its name has them: `NAME_VERSION_ARCH.deb`, `NAME-VERSION-RELEASE.ARCH.rpm`.
    fn named(&self) -> (&str, &str) {
        let (folder, file) = self.place.rsplit_once('/').unwrap_or((".", &self.place));
        let package = match file.strip_suffix(".rpm") {
            Some(stem) => {
                let stem = stem.rsplit_once('.').map_or(stem, |(stem, _)| stem);
                stem.rsplitn(3, '-').nth(2).unwrap_or(stem)
            }
            None => file.trim_end_matches(".deb").split('_').next().unwrap_or(file),
        };
        (folder, package)
    }
}

/// Whether a word of a list asks for a package, in whatever way it says the version or the CPU.
fn asks(word: &str, package: &str) -> bool {
    let plain = word.split(['=', ':']).next().unwrap_or(word);
    if is_meant(plain, package) {
        return true;
    }
    // `name.x86_64`, `name-1.0`.
    let rest = plain.strip_prefix(package).unwrap_or_default();
    rest.starts_with('.') || rest.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Where the recipe asks for the package of a file.
fn asked_at(recipe: &Recipe, file: &DamagedFile) -> Option<Span> {
    let (folder, package) = file.named();
    let model = &recipe.model;
    let passes = recipe.packages.passes.iter().chain(&recipe.otherpkgs.passes);
    let mut items = passes.flat_map(|pass| &pass.install);
    let is_it = |of: &Option<String>, name: &str| of.as_ref().is_none_or(|of| of == folder) && asks(name, package);
    let listed = items.find(|item| is_it(&item.subdirectory, &item.name)).map(|item| item.span.clone());
    let fields = [
        ("kernel.firmware_packages", &model.kernel.firmware_packages[..]),
        ("initrd.dracut_packages", &model.initrd.dracut_packages[..]),
        ("postinstall.tools", model.postinstall.as_ref().map_or(&[][..], |table| &table.tools)),
    ];
    let mut fields = fields.into_iter().flat_map(|(field, names)| {
        names.iter().enumerate().map(move |(index, name)| (format!("{field}[{index}]"), name))
    });
    let in_fields =
        || fields.find(|(_, name)| asks(name, package)).and_then(|(field, _)| recipe.spans.get(&field).cloned());
    listed.or_else(in_fields).or_else(|| {
        let span = recipe.kernel_in_list.as_ref().map(|(_, span)| span);
        let name = model.kernel.package.as_ref().or(recipe.kernel_in_list.as_ref().map(|(name, _)| name));
        let is_kernel = match (name, recipe.kernel_files.kernels.as_ref()) {
            (Some(name), _) => asks(name, package),
            // The newest of the directory is taken.
            (None, Some(directory)) => file.path.starts_with(directory) && manager(recipe).is_kernel(package),
            (None, None) => false,
        };
        let place = recipe.spans.get("kernel.package").or(span).or(recipe.spans.get("kernel.dir"));
        is_kernel.then(|| place.cloned()).flatten()
    })
}

/// Reports files of a directory that are not packages, each where the recipe asks for it, the others at the field that names the
/// directory.
/// Errors: [`DistroError::PackageFiles`] for those that the recipe asks for, which is reported then.
pub(crate) fn report(gathering: &Gathering<'_>, field: &str, files: &[DamagedFile]) -> Result<(), DistroError> {
    let recipe = gathering.recipe;
    let mut wanted = Vec::new();
    for file in files {
        let (shown, problem) = (file.path.display().to_string(), &file.problem);
        let help = "copy it again, or remove it from the directory; `file` shows what it is";
        match asked_at(recipe, file).filter(|_| !fault::planted("damaged-package-passed-over")) {
            Some(span) => {
                let text = format!("`{shown}` is not a package: {problem}");
                let finding = Finding::error("distro::package_file", &span, text);
                gathering.news.finding(&finding.label("requested here").help(help));
                wanted.push(format!("`{shown}`"));
            }
            None => {
                let text = format!("`{shown}` is not a package and is left out: {problem}");
                let finding = Finding::nowhere(Severity::Warning, "distro::package_file", text).help(help);
                let span = recipe.spans.nearest(field).cloned();
                gathering.news.finding(&Finding { span, ..finding });
            }
        }
    }
    match wanted.is_empty() {
        true => Ok(()),
        false => Err(DistroError::PackageFiles { names: wanted.join(", ") }),
    }
}

/// The content of such files by their path below the directory, as [`super::PackageArchive::scanned`] has that of packages.
pub(crate) fn scanned(files: &[(&str, DamagedFile)], start: &str) -> BTreeMap<String, Sha256> {
    let own = files.iter().filter(|(origin, _)| *origin == start);
    own.filter_map(|(_, file)| Some((file.place.clone(), file.sha256?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_asked_for_by_the_name_that_it_has() {
        let file = |place: &str| DamagedFile {
            path: place.into(),
            place: place.to_owned(),
            problem: String::new(),
            sha256: None,
        };
        for (place, folder, package) in [
            ("site_1.0-1_amd64.deb", ".", "site"),
            ("a/b/site-tools_1.0_all.deb", "a/b", "site-tools"),
            ("a/site-tools-1.0-1.el9.x86_64.rpm", "a", "site-tools"),
            ("download.rpm", ".", "download"),
            ("download.deb", ".", "download"),
        ] {
            assert_eq!(file(place).named(), (folder, package));
        }
        for word in ["site", "site=1.0", "site:amd64", "site.x86_64", "site-1.0-1", "si*"] {
            assert!(asks(word, "site"), "{word}");
        }
        for word in ["site-tools", "sit", "other", "@site", "site-"] {
            assert!(!asks(word, "site"), "{word}");
        }
    }

    #[test]
    fn linked_directories_are_gone_through_and_links_that_lead_nowhere_do_no_harm() {
        let root = tempfile::tempdir().unwrap();
        let (start, other) = (root.path().join("start"), root.path().join("other/folder"));
        std::fs::create_dir_all(start.join("own")).unwrap();
        std::fs::create_dir_all(&other).unwrap();
        for file in [start.join("own/a.deb"), start.join("own/a.txt"), other.join("b.deb")] {
            std::fs::write(file, "").unwrap();
        }
        for (name, target) in [("linked", other.as_path()), ("own/loop", &start), ("gone.deb", Path::new("nowhere"))] {
            std::os::unix::fs::symlink(target, start.join(name)).unwrap();
        }
        let found = |place: &Path| files_below(place, &|name| name.ends_with(".deb"));
        assert_eq!(found(&start).unwrap(), [start.join("linked/b.deb"), start.join("own/a.deb")]);
        assert!(found(&root.path().join("none")).is_err());
    }

    #[test]
    fn a_page_that_a_server_sent_is_called_one() {
        let place = tempfile::tempdir().unwrap();
        let problem = |text: &str| {
            let path = place.path().join("a_1_all.deb");
            std::fs::write(&path, text).unwrap();
            DamagedFile::new(place.path(), &path, "by the reader".to_owned()).problem
        };
        assert!(problem("\n<!DOCTYPE html>\n<title>404</title>").contains("a web page"));
        assert!(problem("").contains("it is empty"));
        assert_eq!(problem("!<arch>\nhalf"), "by the reader");
    }
}
