//! What a checkout makes of a file of a commit: line ends, `$Id$` and encodings as attributes and settings say, and the
//! contents that Git LFS keeps, where the work tree has them. No filter's program runs: anyone who made the repository names it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use gix::bstr::{BStr, ByteSlice};
use gix_attributes::search::{MetadataCollection, Outcome};
use gix_attributes::{Search, Source, StateRef};
use gix_filter::eol::{AutoCrlf, Configuration, Mode};
use gix_filter::pipeline::convert::ToWorktreeOutcome;
use sha2::{Digest, Sha256};

pub(super) const ATTRIBUTES_LIMIT: u64 = 1 << 20;
/// A pointer of Git LFS is smaller. Source: git-lfs, docs/spec.md.
const POINTER_LIMIT: usize = 1024;

/// Why a file of a commit is not what a checkout of it would have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unlike {
    /// Git LFS keeps it, and the work tree has another content: there is only the pointer.
    Pointer,
    /// A filter's program would have made it: its name.
    Filter(String),
    /// A repository of its own.
    Submodule,
}

pub(super) struct Checkout {
    pipeline: gix_filter::Pipeline,
    names: MetadataCollection,
    /// Files of attributes from the least to the nearest: built in, of the machine, of each directory on the way.
    attributes: Search,
    /// `info/attributes`, which goes before all of them.
    over: Search,
    found: Outcome,
    filters: BTreeSet<String>,
}

fn small_file(path: &Path) -> Option<Vec<u8>> {
    let found = std::fs::metadata(path).ok()?;
    if !found.is_file() || found.len() > ATTRIBUTES_LIMIT {
        return None;
    }
    std::fs::read(path).ok()
}

impl Checkout {
    /// As a repository's settings and the machine's say.
    pub(crate) fn of(repository: &gix::Repository) -> Self {
        let config = repository.config_snapshot();
        let is =
            |key: &str, word: &str| config.string(key).is_some_and(|text| text.eq_ignore_ascii_case(word.as_bytes()));
        let auto_crlf = match config.boolean("core.autocrlf") {
            _ if is("core.autocrlf", "input") => AutoCrlf::Input,
            Some(true) => AutoCrlf::Enabled,
            _ => AutoCrlf::Disabled,
        };
        let eol = match () {
            () if is("core.eol", "crlf") => Some(Mode::CrLf),
            () if is("core.eol", "lf") => Some(Mode::Lf),
            () => None,
        };
        let options = gix_filter::pipeline::Options {
            drivers: Vec::new(),
            eol_config: Configuration { auto_crlf, eol },
            object_hash: repository.object_hash(),
            ..Default::default()
        };
        let mut names = MetadataCollection::default();
        // Without files it cannot fail.
        let none = std::iter::empty::<PathBuf>();
        let mut attributes = Search::new_globals(none, &mut Vec::new(), &mut names).unwrap_or_default();
        let place = |source: Source| source.storage_location(&mut |name| std::env::var_os(name));
        let own = config.trusted_path("core.attributesFile").ok().flatten();
        for path in [place(Source::System), own.or_else(|| place(Source::Git))].into_iter().flatten() {
            if let Some(text) = small_file(&path) {
                attributes.add_patterns_buffer(&text, path, None, &mut names, true);
            }
        }
        let mut over = Search::default();
        let path = repository.common_dir().join("info/attributes");
        if let Some(text) = small_file(&path) {
            over.add_patterns_buffer(&text, path, None, &mut names, true);
        }
        let mut filters = BTreeSet::new();
        for section in config.sections_by_name("filter").into_iter().flatten() {
            if section.body().contains_value_name("smudge") || section.body().contains_value_name("process") {
                filters.extend(section.header().subsection_name().map(|name| name.to_str_lossy().into_owned()));
            }
        }
        let pipeline = gix_filter::Pipeline::new(Default::default(), options);
        Self { pipeline, names, attributes, over, found: Outcome::default(), filters }
    }

    /// Goes into a directory, named from the root, with its `.gitattributes`.
    pub(crate) fn enter(&mut self, directory: &str, attributes: &[u8]) {
        let source = Path::new(directory).join(".gitattributes");
        let is_root = directory.is_empty();
        self.attributes.add_patterns_buffer(attributes, source, Some(Path::new("")), &mut self.names, is_root);
    }

    /// Leaves the directory that was entered last.
    pub(crate) fn leave(&mut self) {
        self.attributes.pop_pattern_list();
    }

    /// The content that a checkout of a blob has.
    /// Errors: Why it cannot be had.
    pub(crate) fn content<'a>(
        &mut self,
        path: &str,
        blob: &'a [u8],
    ) -> Result<Cow<'a, [u8]>, Box<gix_filter::pipeline::convert::to_worktree::Error>> {
        let Self { pipeline, names, attributes, over, .. } = self;
        let mut look = |path: &BStr, found: &mut Outcome| {
            found.initialize(names);
            search(over, attributes, path, found);
        };
        let made = pipeline.convert_to_worktree(blob, path.as_bytes().as_bstr(), &mut look, Default::default())?;
        Ok(match made {
            ToWorktreeOutcome::Buffer(bytes) => Cow::Owned(bytes.to_vec()),
            ToWorktreeOutcome::Unchanged(_) | ToWorktreeOutcome::Process(_) => Cow::Borrowed(blob),
        })
    }

    /// The filter that attributes name for a file.
    fn filter(&mut self, path: &str) -> Option<String> {
        self.found.initialize_with_selection(&self.names, ["filter"]);
        search(&self.over, &self.attributes, path.as_bytes().as_bstr(), &mut self.found);
        self.found.iter_selected().next().and_then(|one| match one.assignment.state {
            StateRef::Value(name) => Some(name.as_bstr().to_str_lossy().into_owned()),
            _ => None,
        })
    }

    /// What a filter's program would make of a blob, as far as the file of the work tree tells it: its content, or that it is
    /// not known.
    pub(crate) fn filtered(&mut self, path: &str, blob: &[u8], here: &Path) -> (Option<Vec<u8>>, Option<Unlike>) {
        let Some(name) = self.filter(path) else { return (None, None) };
        if read_sized(here, blob.len() as u64).is_some_and(|content| content == blob) {
            return (None, None);
        }
        if let Some((digest, size)) = pointer(blob) {
            let same = read_sized(here, size).filter(|content| HEXLOWER.encode(&Sha256::digest(content)) == digest);
            let unlike = if same.is_none() { Some(Unlike::Pointer) } else { None };
            return (same, unlike);
        }
        let unlike = self.filters.contains(&name) && name != "lfs";
        (None, unlike.then_some(Unlike::Filter(name)))
    }
}

fn search(over: &Search, attributes: &Search, path: &BStr, found: &mut Outcome) {
    let case = gix::glob::pattern::Case::Sensitive;
    over.pattern_matching_relative_path(path, case, Some(false), found);
    if !found.is_done() {
        attributes.pattern_matching_relative_path(path, case, Some(false), found);
    }
}

/// Digest and size of what a pointer of Git LFS stands for. Source: git-lfs, docs/spec.md.
fn pointer(blob: &[u8]) -> Option<(String, u64)> {
    if blob.len() >= POINTER_LIMIT || !blob.starts_with(b"version https://git-lfs.github.com/spec/v1\n") {
        return None;
    }
    let text = std::str::from_utf8(blob).ok()?;
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Some((value("oid")?.strip_prefix("sha256:")?.to_owned(), value("size")?.parse().ok()?))
}

/// A regular file, if it has a size, and no more than a revision may hold.
fn read_sized(path: &Path, size: u64) -> Option<Vec<u8>> {
    let found = std::fs::symlink_metadata(path).ok()?;
    if !found.is_file() || found.len() != size || size > super::BYTES_LIMIT {
        return None;
    }
    let mut content = Vec::new();
    std::fs::File::open(path).ok()?.take(size).read_to_end(&mut content).ok()?;
    Some(content)
}
