//! Plans of many images: what an earlier plan remembered, where nothing that it looked at moved, and a new plan for the
//! rest.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Exit;
use super::plan::{PlannedImage, plan_of, text_of};
use super::setup::print_findings;
use crate::digest::{Digest, FieldHasher};
use crate::recipe::{Recipe, load};
use crate::source::{Finding, Severity, SourceFile, Span};
use crate::stage::{Drift, Target};
use crate::store::Store;
use crate::witness::{Answer, Known, Looks, Sealed, Witness, recording};

/// What is shown of an image's plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The image's name.
    pub name: String,
    /// Whether a build would do anything.
    pub has_work: bool,
    /// For people.
    pub short: String,
    /// For people who want all of it (`-v`).
    pub long: String,
    /// For programs: its entry in the JSON document, indented.
    pub json: String,
}

/// What a folder with a recipe gives.
#[derive(Debug, Clone, Default)]
struct Planned {
    images: Vec<Shown>,
    findings: Vec<Finding>,
}

/// How images are planned.
pub struct Planning<'a> {
    /// The store; it need not exist.
    pub store: Store,
    /// Where artefacts are; none for `out` beside each recipe.
    pub out: Option<&'a Path>,
    /// Layouts that a build would publish in, too.
    pub publish: &'a [Target],
    /// How much is said.
    pub verbose: u8,
    /// Whether earlier plans may answer.
    pub with_memos: bool,
    /// What else is found of an image; only without memos.
    pub more: &'a (dyn Fn(&Recipe) -> Result<Vec<Drift>, Exit> + Sync),
}

impl Planning<'_> {
    /// Plans the images of folders, several at once, and prints what is to be said of their recipes, in their order.
    ///
    /// # Errors
    /// The exit code of the first folder that cannot be planned, after the reason was printed.
    pub fn images(&self, folders: &[PathBuf]) -> Result<Vec<Shown>, Exit> {
        let looks = Looks::default();
        let all: Vec<(Planned, Result<(), Exit>)> =
            folders.par_iter().map(|folder| self.folder(folder, &looks)).collect();
        let mut images = Vec::new();
        for (planned, outcome) in all {
            print_findings(&planned.findings, self.verbose);
            outcome?;
            images.extend(planned.images);
        }
        Ok(images)
    }

    fn folder(&self, folder: &Path, looks: &Looks) -> (Planned, Result<(), Exit>) {
        let memo = self.with_memos.then(|| Memo::of(self, folder)).flatten();
        let Some(memo) = memo else { return self.anew(folder) };
        let began = crate::witness::now();
        let earlier = memo.read();
        if let Some(sealed) = &earlier
            && let Some(planned) = Planned::from_bytes(&sealed.payload)
        {
            match sealed.witness.ask(&memo.folder, looks) {
                Answer::Same => return (planned, Ok(())),
                Answer::SameMoved => {
                    if let Some(witness) = sealed.witness.renewed(began) {
                        memo.write(&Sealed { witness, payload: sealed.payload.clone() });
                    }
                    return (planned, Ok(()));
                }
                Answer::Other => {}
            }
        }
        let known = earlier.map(|sealed| Known::from_witness(&sealed.witness)).unwrap_or_default();
        let ((planned, outcome), witness) = recording(known, || self.anew(folder));
        if outcome.is_ok() {
            memo.keep(witness, &planned);
        }
        (planned, outcome)
    }

    fn anew(&self, folder: &Path) -> (Planned, Result<(), Exit>) {
        let loaded = load(folder);
        let mut planned = Planned { images: Vec::new(), findings: loaded.findings };
        let Some(recipe) = loaded.recipe else { return (planned, Err(Exit::Input)) };
        let out = self.out.map_or_else(|| recipe.directory.join("out"), Path::to_owned);
        let image = plan_of(&recipe, &self.store, &out, self.publish).and_then(|mut image| {
            image.drift.extend((self.more)(&recipe)?);
            Ok(image)
        });
        match image {
            Ok(image) => {
                planned.images.push(Shown::of(&image));
                (planned, Ok(()))
            }
            Err(exit) => (planned, Err(exit)),
        }
    }
}

impl Shown {
    fn of(image: &PlannedImage) -> Self {
        // As it stands in the list of the document: four blanks in front of each line.
        let json = serde_json::to_string_pretty(image).unwrap_or_default();
        let json: Vec<String> = json.lines().map(|line| format!("    {line}")).collect();
        Self {
            name: image.name.clone(),
            has_work: image.has_work(),
            short: text_of(image, 0),
            long: text_of(image, 1),
            json: json.join("\n"),
        }
    }
}

/// The JSON document of `plan --json`; [`super::plan::PlanDocument`] is its schema.
pub fn json_of(images: &[Shown]) -> String {
    if images.is_empty() {
        return "{\n  \"format_version\": \"1.0\",\n  \"images\": []\n}\n".to_owned();
    }
    let entries: Vec<&str> = images.iter().map(|image| image.json.as_str()).collect();
    format!("{{\n  \"format_version\": \"1.0\",\n  \"images\": [\n{}\n  ]\n}}\n", entries.join(",\n"))
}

/// The plan for people: of several images only those that have work, unless all is asked for.
pub fn folded(images: &[Shown], verbose: u8) -> String {
    if verbose > 0 || images.len() == 1 {
        let texts: Vec<&str> =
            images.iter().map(|image| if verbose > 0 { image.long.as_str() } else { image.short.as_str() }).collect();
        return texts.join("\n");
    }
    let mut texts: Vec<String> =
        images.iter().filter(|image| image.has_work).map(|image| image.short.clone()).collect();
    let rest = images.len() - texts.len();
    if rest > 0 {
        let (more, ending) = (if texts.is_empty() { "" } else { "other " }, if rest == 1 { "" } else { "s" });
        texts.push(format!("{} {more}image{ending}: nothing to do\n", counted(rest)));
    }
    texts.join("\n")
}

/// How many entries.
pub fn entries(number: usize) -> String {
    format!("{} {}", counted(number), if number == 1 { "entry" } else { "entries" })
}

/// A number with commas between its thousands.
pub fn counted(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Where a folder's memo is.
struct Memo {
    folder: PathBuf,
    path: PathBuf,
    key: Digest,
}

impl Memo {
    /// None where there is no store that belongs to whoever asks: a memo is trusted as far as its owner is.
    fn of(planning: &Planning<'_>, folder: &Path) -> Option<Self> {
        let store = planning.store.directory();
        let folder = std::path::absolute(folder).ok()?;
        let mut hasher = FieldHasher::new("imgbuild plan memo v1");
        hasher.field(folder.as_os_str().as_bytes()).field(store.as_os_str().as_bytes());
        match planning.out {
            Some(out) => hasher.text("out").field(std::path::absolute(out).ok()?.as_os_str().as_bytes()),
            None => hasher.text("beside"),
        };
        for Target::Xcat(directory) in planning.publish {
            hasher.text("xcat").field(std::path::absolute(directory).ok()?.as_os_str().as_bytes());
        }
        let key = hasher.finish();
        let hex = key.to_string();
        Some(Self { path: store.join("memos").join(&hex[..2]).join(&hex), folder, key })
    }

    fn read(&self) -> Option<Sealed> {
        use std::io::Read;
        let mut file = std::fs::File::open(&self.path).ok()?;
        let metadata = file.metadata().ok()?;
        if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            return None;
        }
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).ok()? + 1);
        file.read_to_end(&mut bytes).ok()?;
        Sealed::decode(&bytes, &self.key).ok()
    }

    fn keep(&self, witness: Witness, planned: &Planned) {
        if !witness.torn {
            self.write(&Sealed { witness, payload: planned.to_bytes() });
        }
    }

    /// Writes it aside and renames it; where that cannot be, there is no memo.
    fn write(&self, sealed: &Sealed) {
        let Some(bytes) = sealed.encode(&self.key) else { return };
        let _ = self.try_write(&bytes);
    }

    fn try_write(&self, bytes: &[u8]) -> std::io::Result<()> {
        use std::io::Write;
        let folder = self.path.parent().unwrap_or(&self.path);
        let store = folder.parent().and_then(Path::parent).unwrap_or(folder);
        // Planning makes no store, and writes into no other user's.
        if std::fs::metadata(store)?.uid() != rustix::process::geteuid().as_raw() {
            return Ok(());
        }
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.persist(&self.path)?;
        Ok(())
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
            message: finding.message.clone(),
            label: finding.label.clone(),
            help: finding.help.clone(),
            span: finding.span.as_ref().map(|span| {
                let file = &span.file;
                (file.name.clone(), file.path.clone(), file.text.clone(), span.start, span.end)
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

impl Planned {
    fn to_bytes(&self) -> Vec<u8> {
        let mut to = Vec::new();
        let mut put = |bytes: &[u8]| {
            to.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            to.extend_from_slice(bytes);
        };
        let findings: Vec<KeptFinding> = self.findings.iter().map(KeptFinding::of).collect();
        put(&if findings.is_empty() { Vec::new() } else { serde_json::to_vec(&findings).unwrap_or_default() });
        for image in &self.images {
            put(if image.has_work { b"work" } else { b"" });
            for text in [&image.name, &image.short, &image.long, &image.json] {
                put(text.as_bytes());
            }
        }
        to
    }

    fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let mut take = || -> Option<Option<String>> {
            if bytes.is_empty() {
                return Some(None);
            }
            let (length, rest) = bytes.split_at_checked(8)?;
            let length = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
            let (field, rest) = rest.split_at_checked(length)?;
            bytes = rest;
            Some(Some(String::from_utf8(field.to_vec()).ok()?))
        };
        let findings = take()??;
        let findings: Vec<KeptFinding> =
            if findings.is_empty() { Vec::new() } else { serde_json::from_str(&findings).ok()? };
        let mut planned =
            Self { images: Vec::new(), findings: findings.into_iter().map(KeptFinding::finding).collect() };
        while let Some(work) = take()? {
            let (name, short, long, json) = (take()??, take()??, take()??, take()??);
            planned.images.push(Shown { name, has_work: !work.is_empty(), short, long, json });
        }
        Some(planned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str, has_work: bool) -> Shown {
        let text = |form: &str| format!("{name} {form}\n");
        Shown { name: name.to_owned(), has_work, short: text("short"), long: text("long"), json: "    {}".to_owned() }
    }

    #[test]
    fn what_is_planned_reads_back_with_its_findings() {
        let file = SourceFile::new("image.toml", "/r/image.toml", "[image]\nname = 1\n");
        let finding = Finding::warning("room::problem", &Span::new(&file, 8..12), "`name` is odd").help("another");
        let planned = Planned { images: vec![shown("a", true), shown("b", false)], findings: vec![finding.clone()] };
        let read = Planned::from_bytes(&planned.to_bytes()).unwrap();
        assert_eq!(read.images, planned.images);
        assert_eq!(read.findings, [finding]);
        for cut in 1..planned.to_bytes().len() {
            let _ = Planned::from_bytes(&planned.to_bytes()[..cut]);
        }
    }

    #[test]
    fn a_thousand_images_without_work_are_one_line() {
        let mut images: Vec<Shown> = (0..1000).map(|number| shown(&number.to_string(), false)).collect();
        assert_eq!(folded(&images, 0), "1,000 images: nothing to do\n");
        images[7].has_work = true;
        assert_eq!(folded(&images, 0), "7 short\n\n999 other images: nothing to do\n");
        assert_eq!(folded(&images, 1).lines().filter(|line| line.ends_with("long")).count(), 1000);
    }

    #[test]
    fn the_document_of_kept_entries_is_the_one_that_serde_writes() {
        let image = PlannedImage { name: "a\nb".to_owned(), stages: Vec::new(), drift: Vec::new() };
        let document = super::super::plan::PlanDocument {
            format_version: "1.0".to_owned(),
            images: vec![
                PlannedImage { name: "a\nb".to_owned(), stages: Vec::new(), drift: Vec::new() },
                PlannedImage { name: "c".to_owned(), stages: Vec::new(), drift: Vec::new() },
            ],
        };
        let other = PlannedImage { name: "c".to_owned(), stages: Vec::new(), drift: Vec::new() };
        let text = json_of(&[Shown::of(&image), Shown::of(&other)]);
        assert_eq!(text, format!("{}\n", serde_json::to_string_pretty(&document).unwrap()));
    }
}
