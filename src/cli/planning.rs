//! Plans of many images: what an earlier plan remembered, where nothing that it looked at moved, and a new plan for the
//! rest.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Exit;
use super::formats::text::of_image as text_of;
use super::planned::{PlannedImage, plan_of};
use super::setup::{chosen, name_from, print_findings};
use crate::digest::{Digest, FieldHasher};
use crate::recipe::{Lock, Overlay, Recipe, Workspace, folders, load_draft, once, relatives};
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
    /// What is to be said of its recipe.
    pub findings: Vec<Finding>,
}

/// What a folder with a recipe gives.
#[derive(Debug, Clone, Default)]
struct Planned {
    /// Names of all its images.
    names: Vec<String>,
    /// The plans of those that were asked for.
    images: Vec<Shown>,
}

/// Why a folder gave no plan.
enum Trouble {
    /// It was said, and the command ends with this.
    Said(Exit),
    /// The recipes are to be read the long way, which says what is wrong.
    Unsaid,
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
    /// Plans the images that a command is for, several at once, and prints what is to be said of their recipes.
    ///
    /// # Errors
    /// The exit code, after the reason was printed.
    pub fn images(&self, arguments: &super::Arguments, patterns: &[String]) -> Result<Vec<Shown>, Exit> {
        if self.with_memos {
            match self.remembered(arguments, patterns) {
                Ok(images) => return Ok(images),
                Err(Trouble::Said(exit)) => return Err(exit),
                Err(Trouble::Unsaid) => {}
            }
        }
        let recipes = chosen(arguments, patterns)?;
        let all: Vec<Result<Shown, Exit>> = recipes.par_iter().map(|recipe| self.one(recipe, Vec::new())).collect();
        all.into_iter().collect()
    }

    fn one(&self, recipe: &Recipe, findings: Vec<Finding>) -> Result<Shown, Exit> {
        let out = self.out.unwrap_or(&recipe.out);
        let mut image = plan_of(recipe, &self.store, out, self.publish)?;
        image.drift.extend((self.more)(recipe)?);
        Ok(Shown { findings, ..Shown::of(&image) })
    }

    /// The same with what earlier plans remembered. It gives and says what the long way would.
    fn remembered(&self, arguments: &super::Arguments, patterns: &[String]) -> Result<Vec<Shown>, Trouble> {
        let (workspace, folders) = folders(&arguments.directory, !patterns.is_empty()).map_err(|_| Trouble::Unsaid)?;
        let workspace = workspace.as_deref();
        let wanted = Wanted::of(patterns).ok_or(Trouble::Unsaid)?;
        let looks = Looks::default();
        let all: Vec<Result<Planned, Trouble>> =
            folders.par_iter().map(|folder| self.folder(folder, workspace, &wanted, &looks)).collect();
        let all: Vec<Planned> = all.into_iter().collect::<Result<_, Trouble>>()?;
        let mut names: Vec<&str> = all.iter().flat_map(|planned| &planned.names).map(String::as_str).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) || !wanted.all_match(&names) {
            return Err(Trouble::Unsaid);
        }
        let mut images: Vec<Shown> = all.into_iter().flat_map(|planned| planned.images).collect();
        images.retain(|image| wanted.has(&image.name));
        images.sort_by(|a, b| a.name.cmp(&b.name));
        let mut findings = Vec::new();
        if let Some(workspace) = workspace
            && !workspace.images.is_empty()
            && (!patterns.is_empty() || folders.len() > 1)
        {
            findings.extend(workspace.findings.iter().cloned());
        }
        findings.extend(images.iter_mut().flat_map(|image| std::mem::take(&mut image.findings)));
        once(&mut findings);
        if let Some(workspace) = workspace.filter(|_| images.len() > 1) {
            name_from(&workspace.root, &mut findings);
        }
        print_findings(&findings, self.verbose);
        Ok(images)
    }

    fn folder(
        &self,
        folder: &Path,
        workspace: Option<&Workspace>,
        wanted: &Wanted,
        looks: &Looks,
    ) -> Result<Planned, Trouble> {
        let Some(memo) = Memo::of(self, folder, workspace) else { return self.anew(folder, workspace, wanted) };
        let began = crate::witness::now();
        let earlier = memo.read();
        if let Some(sealed) = &earlier
            && let Some(planned) = Planned::from_bytes(&sealed.payload)
        {
            match sealed.witness.ask(&memo.folder, looks) {
                Answer::Same => return Ok(planned),
                Answer::SameMoved => {
                    if let Some(witness) = sealed.witness.renewed(began) {
                        memo.write(&Sealed { witness, payload: sealed.payload.clone() });
                    }
                    return Ok(planned);
                }
                Answer::Other => {}
            }
        }
        let known = earlier.map(|sealed| Known::from_witness(&sealed.witness)).unwrap_or_default();
        let (outcome, witness) = recording(known, || self.anew(folder, workspace, wanted));
        if let Ok(planned) = &outcome
            && planned.images.len() == planned.names.len()
        {
            memo.keep(witness, planned);
        }
        outcome
    }

    fn anew(&self, folder: &Path, workspace: Option<&Workspace>, wanted: &Wanted) -> Result<Planned, Trouble> {
        let drafts = relatives(folder, workspace, &Overlay::new()).map_err(|_| Trouble::Unsaid)?.images();
        let mut planned = Planned::default();
        for draft in &drafts {
            let (name, _) = draft.name().ok_or(Trouble::Unsaid)?;
            planned.names.push(name.to_owned());
            if !wanted.has(name) {
                continue;
            }
            let loaded = load_draft(draft, workspace);
            let recipe = loaded.recipe.ok_or(Trouble::Unsaid)?;
            // Said after what is to be said of the recipes.
            let lock = crate::witness::read_to_string(&recipe.lock_path);
            if lock.is_ok_and(|text| Lock::parse(&text).is_err()) {
                return Err(Trouble::Unsaid);
            }
            planned.images.push(self.one(&recipe, loaded.findings).map_err(Trouble::Said)?);
        }
        Ok(planned)
    }
}

/// The images that patterns mean; all without patterns.
struct Wanted(Vec<(String, globset::GlobMatcher)>);

impl Wanted {
    /// None for what is no pattern.
    fn of(patterns: &[String]) -> Option<Self> {
        let compiled =
            patterns.iter().map(|text| Some((text.clone(), globset::Glob::new(text).ok()?.compile_matcher())));
        compiled.collect::<Option<_>>().map(Self)
    }

    fn has(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|(text, matcher)| text == name || matcher.is_match(name))
    }

    /// Whether each pattern means at least one.
    fn all_match(&self, names: &[&str]) -> bool {
        self.0.iter().all(|(text, matcher)| names.iter().any(|name| text == name || matcher.is_match(name)))
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
            findings: Vec::new(),
        }
    }
}

/// The JSON document of `plan --json`; [`super::planned::PlanDocument`] is its schema.
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
    fn of(planning: &Planning<'_>, folder: &Path, workspace: Option<&Workspace>) -> Option<Self> {
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
        // Read at each run, before any memo is asked.
        if let Some(workspace) = workspace {
            hasher.text("workspace").field(workspace.root.as_os_str().as_bytes()).text(&workspace.file.text);
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
        for image in &self.images {
            let findings: Vec<KeptFinding> = image.findings.iter().map(KeptFinding::of).collect();
            put(if image.has_work { b"work" } else { b"" });
            for text in [&image.name, &image.short, &image.long, &image.json] {
                put(text.as_bytes());
            }
            put(&if findings.is_empty() { Vec::new() } else { serde_json::to_vec(&findings).unwrap_or_default() });
        }
        to
    }

    /// Of all images of a folder: a memo has no other.
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
        let mut planned = Self::default();
        while let Some(work) = take()? {
            let (name, short, long, json, findings) = (take()??, take()??, take()??, take()??, take()??);
            let findings: Vec<KeptFinding> =
                if findings.is_empty() { Vec::new() } else { serde_json::from_str(&findings).ok()? };
            let findings = findings.into_iter().map(KeptFinding::finding).collect();
            planned.names.push(name.clone());
            planned.images.push(Shown { name, has_work: !work.is_empty(), short, long, json, findings });
        }
        Some(planned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str, has_work: bool) -> Shown {
        let text = |form: &str| format!("{name} {form}\n");
        let json = "    {}".to_owned();
        let (short, long) = (text("short"), text("long"));
        Shown { name: name.to_owned(), has_work, short, long, json, findings: Vec::new() }
    }

    #[test]
    fn what_is_planned_reads_back_with_its_findings() {
        let file = SourceFile::new("image.toml", "/r/image.toml", "[image]\nname = 1\n");
        let finding = Finding::warning("room::problem", &Span::new(&file, 8..12), "`name` is odd").help("another");
        let mut image = shown("a", true);
        image.findings.push(finding);
        let planned = Planned { names: vec!["a".into(), "b".into()], images: vec![image, shown("b", false)] };
        let read = Planned::from_bytes(&planned.to_bytes()).unwrap();
        assert_eq!((read.names, read.images), (planned.names.clone(), planned.images.clone()));
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
        let image = PlannedImage::of("a\nb".to_owned());
        let document = super::super::planned::PlanDocument {
            format_version: "1.0".to_owned(),
            against: None,
            images: vec![PlannedImage::of("a\nb".to_owned()), PlannedImage::of("c".to_owned())],
        };
        let other = PlannedImage::of("c".to_owned());
        let text = json_of(&[Shown::of(&image), Shown::of(&other)]);
        assert_eq!(text, format!("{}\n", serde_json::to_string_pretty(&document).unwrap()));
    }
}
