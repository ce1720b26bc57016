//! Plan memos: one recipe directory's cached plan, with the reads it depends on.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::output::masked::masked;
use base::digest::{Digest, FieldHasher};
use base::source::{Finding, Severity, SourceFile, Span};
use build::Target;
use files::{self, Durability};
use recipe::Workspace;
use witness::{Sealed, Witness};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub name: String,
    pub has_work: bool,
    /// The plan in words; empty where nothing of it is shown.
    pub texts: Texts,
    pub findings: Vec<Finding>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Texts {
    pub short: String,
    /// For people who want all of it (`-v`).
    pub long: String,
    /// For programs: its entry in the JSON document, indented.
    pub json: String,
    /// What a build has to do, as JSON; empty where that is nothing.
    pub work: String,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Planned {
    pub names: Vec<String>,
    pub images: Vec<Shown>,
}

pub(crate) struct Of<'a> {
    pub store: &'a Path,
    pub out: Option<&'a Path>,
    /// Layouts that a build would publish in, too.
    pub publish: &'a [Target],
    pub workspace: Option<&'a Workspace>,
}

/// Where a folder's memo is. The texts lie in a file beside it, which is read only where they are shown: for a thousand
/// images, most have nothing to do.
pub(crate) struct Memo {
    /// The folder, absolute.
    pub folder: PathBuf,
    path: PathBuf,
    key: Digest,
}

impl Memo {
    /// None where there is no store that belongs to the user who asks: a memo is trusted as far as its owner is.
    pub(crate) fn of(folder: &Path, of: &Of<'_>) -> Option<Self> {
        let store = of.store;
        let folder = std::path::absolute(folder).ok()?;
        let mut hasher = FieldHasher::new("imgbuild plan memo v1");
        hasher.field(folder.as_os_str().as_bytes()).field(store.as_os_str().as_bytes());
        match of.out {
            Some(out) => hasher.text("out").field(std::path::absolute(out).ok()?.as_os_str().as_bytes()),
            None => hasher.text("beside"),
        };
        for Target::Xcat(directory) in of.publish {
            hasher.text("xcat").field(std::path::absolute(directory).ok()?.as_os_str().as_bytes());
        }
        // Read at each run, before any memo is asked.
        if let Some(workspace) = of.workspace {
            hasher.text("workspace").field(workspace.root.as_os_str().as_bytes()).text(&workspace.file.text);
        }
        let key = hasher.finish();
        let hex = key.to_string();
        Some(Self { path: store.join("memos").join(&hex[..2]).join(&hex), folder, key })
    }

    /// What was remembered, if it was by this program and for the same.
    pub(crate) fn read(&self) -> Option<Sealed> {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::open(&self.path).ok()?;
        let metadata = file.metadata().ok()?;
        if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            return None;
        }
        // Written aside and renamed, so it is whole, and has the length that it says.
        let mut bytes = vec![0; usize::try_from(metadata.len()).ok()?];
        file.read_exact_at(&mut bytes, 0).ok()?;
        Sealed::decode(&bytes, &self.key).ok()
    }

    /// The plans that a payload tells; none where it or the texts are not whole.
    pub(crate) fn planned(&self, payload: &[u8], shows_all: bool) -> Option<Planned> {
        let (mut planned, texts) = heads_from(payload)?;
        if shows_all || planned.images.iter().any(|image| image.has_work) {
            let bytes = std::fs::read(self.texts_path()).ok()?;
            if Digest::of(&bytes) != texts {
                return None;
            }
            let mut from = Fields(&bytes);
            for image in &mut planned.images {
                image.texts = Texts { short: from.text()?, long: from.text()?, json: from.text()?, work: from.text()? };
            }
        }
        Some(planned)
    }

    /// Remembers plans with what they were made of.
    pub(crate) fn keep(&self, witness: Witness, planned: &Planned) {
        if witness.torn {
            return;
        }
        let mut texts = Vec::new();
        for image in &planned.images {
            let Texts { short, long, json, work } = &image.texts;
            for text in [short, long, json, work] {
                put(&mut texts, masked(text).as_bytes());
            }
        }
        if self.try_write(&self.texts_path(), &texts).is_ok() {
            self.write(&Sealed { witness, payload: heads_of(planned, &Digest::of(&texts)) });
        }
    }

    fn texts_path(&self) -> PathBuf {
        self.path.with_extension("texts")
    }

    /// Writes it aside and renames it; where that cannot be, there is no memo.
    pub(crate) fn write(&self, sealed: &Sealed) {
        let Some(bytes) = sealed.encode(&self.key) else { return };
        let _ = self.try_write(&self.path, &bytes);
    }

    fn try_write(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let folder = self.path.parent().unwrap_or(&self.path);
        let store = folder.parent().and_then(Path::parent).unwrap_or(folder);
        // Planning makes no store, and writes into no other user's.
        if std::fs::metadata(store)?.uid() != rustix::process::geteuid().as_raw() {
            return Ok(());
        }
        files::replace(path, bytes, 0o600, Durability::Kill)
    }
}

#[derive(Serialize, Deserialize)]
struct KeptFinding {
    severity: u8,
    code: String,
    message: String,
    label: String,
    help: Option<String>,
    span: Option<(String, PathBuf, String, usize, usize)>,
}

impl KeptFinding {
    fn of(finding: &Finding) -> Self {
        Self {
            severity: match finding.severity {
                Severity::Note => 0,
                Severity::Warning => 1,
                Severity::Error => 2,
            },
            code: finding.code.to_owned(),
            message: masked(&finding.message).into_owned(),
            label: masked(&finding.label).into_owned(),
            help: finding.help.as_deref().map(|help| masked(help).into_owned()),
            span: finding.span.as_ref().map(|span| {
                let file = &span.file;
                (file.name.clone(), file.path.clone(), masked(&file.text).into_owned(), span.start, span.end)
            }),
        }
    }

    fn finding(self) -> Finding {
        Finding {
            severity: match self.severity {
                0 => Severity::Note,
                1 => Severity::Warning,
                _ => Severity::Error,
            },
            // Codes are names in the program's text; the few of a run may stay for its length.
            code: self.code.leak(),
            message: self.message,
            label: self.label,
            help: self.help,
            span: self.span.map(|(name, path, text, start, end)| {
                let file = SourceFile::new(name, path, text);
                Span { file, start, end }
            }),
        }
    }
}

fn put(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    to.extend_from_slice(bytes);
}

/// The digest of the texts, and of each image: whether it has work, its name, its findings.
fn heads_of(planned: &Planned, texts: &Digest) -> Vec<u8> {
    let mut to = texts.0.to_vec();
    for image in &planned.images {
        let findings: Vec<KeptFinding> = image.findings.iter().map(KeptFinding::of).collect();
        put(&mut to, if image.has_work { b"work" } else { b"" });
        put(&mut to, image.name.as_bytes());
        put(&mut to, &if findings.is_empty() { Vec::new() } else { serde_json::to_vec(&findings).unwrap_or_default() });
    }
    to
}

/// All images of a folder: a memo has no other. Without their texts, whose digest is the second.
fn heads_from(payload: &[u8]) -> Option<(Planned, Digest)> {
    let (texts, rest) = payload.split_first_chunk()?;
    let mut from = Fields(rest);
    let mut planned = Planned::default();
    while !from.0.is_empty() {
        let (work, name, findings) = (from.text()?, from.text()?, from.text()?);
        let findings: Vec<KeptFinding> =
            if findings.is_empty() { Vec::new() } else { serde_json::from_str(&findings).ok()? };
        let findings = findings.into_iter().map(KeptFinding::finding).collect();
        planned.names.push(name.clone());
        planned.images.push(Shown { name, has_work: !work.is_empty(), texts: Texts::default(), findings });
    }
    Some((planned, Digest(*texts)))
}

/// Texts one after the other, each after its length.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn text(&mut self) -> Option<String> {
        let (length, rest) = self.0.split_first_chunk()?;
        let (field, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        self.0 = rest;
        String::from_utf8(field.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str, has_work: bool) -> Shown {
        Shown { name: name.to_owned(), has_work, texts: Texts::default(), findings: Vec::new() }
    }

    #[test]
    fn what_is_planned_reads_back_with_its_findings() {
        let file = SourceFile::new("image.toml", "/r/image.toml", "[image]\nname = 1\n");
        let finding = Finding::warning("room::problem", &Span::new(&file, 8..12), "`name` is odd").help("another");
        let mut image = shown("a", true);
        image.findings.push(finding);
        let planned = Planned { names: vec!["a".into(), "b".into()], images: vec![image, shown("b", false)] };
        let texts = Digest::of(b"texts");
        let bytes = heads_of(&planned, &texts);
        let (read, found) = heads_from(&bytes).unwrap();
        assert_eq!((read.names, read.images, found), (planned.names.clone(), planned.images.clone(), texts));
        for cut in 0..bytes.len() {
            let _ = heads_from(&bytes[..cut]);
        }
    }

    #[test]
    fn texts_are_read_where_they_are_shown_and_only_whole() {
        let directory = tempfile::tempdir().unwrap();
        let of = Of { store: directory.path(), out: None, publish: &[], workspace: None };
        let memo = Memo::of(Path::new("/r"), &of).unwrap();
        let mut image = shown("a", false);
        image.texts = Texts { short: "s".into(), long: "l".into(), json: "{}".into(), work: "w".into() };
        let idle = Planned { names: vec!["a".into()], images: vec![image.clone()] };
        memo.keep(Witness::default(), &idle);
        let payload = memo.read().unwrap().payload;
        assert_eq!(memo.planned(&payload, false).unwrap().images[0].texts, Texts::default());
        assert_eq!(memo.planned(&payload, true).unwrap().images, [image.clone()]);
        image.has_work = true;
        let busy = Planned { names: vec!["a".into()], images: vec![image.clone()] };
        memo.keep(Witness::default(), &busy);
        let busy = memo.read().unwrap().payload;
        assert_eq!(memo.planned(&busy, false).unwrap().images, [image]);
        std::fs::write(memo.texts_path(), "others").unwrap();
        assert!(memo.planned(&busy, false).is_none());
        assert!(memo.planned(&payload, false).is_some(), "no one asks for the texts");
    }
}
