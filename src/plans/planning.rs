//! Plans of many images: what an earlier plan remembered, where nothing that it looked at moved, and a new plan for the
//! rest.

use build::workers;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::formats::text::of_image as text_of;
use super::memo::{Memo, Of, Planned, Shown, Texts};
use super::planned::{PlannedImage, plan_of};
use crate::Exit;
use crate::output::estimate;
use crate::output::render::counted;
use crate::setup::{chosen, name_from, print_findings};
use base::source::Finding;
use build::{CachedActions, Drift, Target, Total, Workload};
use recipe::{Overlay, Recipe, Workspace, folders, load_draft, once, relatives};
use store::Store;
use witness::{Answer, Known, Looks, Sealed, recording};

enum Trouble {
    /// It was said, and the command ends with this.
    Said(Exit),
    /// The recipes are to be read the long way, which says what is wrong.
    Unsaid,
}

pub(crate) struct Planning<'a> {
    pub store: Store,
    pub out: Option<&'a Path>,
    pub publish: &'a [Target],
    pub verbose: u8,
    /// Whether plans of images that have no work are shown, too.
    pub shows_all: bool,
    /// Whether earlier plans may answer.
    pub with_memos: bool,
    /// What else is found of an image; only without memos.
    pub more: &'a (dyn Fn(&Recipe) -> Result<Vec<Drift>, Exit> + Sync),
}

impl Planning<'_> {
    /// Plans the images that a command is for, several at once, and prints what is to be said of their recipes.
    pub(crate) fn images(&self, arguments: &crate::Arguments, patterns: &[String]) -> Result<Vec<Shown>, Exit> {
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
        Ok(shown(&image, findings))
    }

    /// The same with what earlier plans remembered. It gives and says what the long way would.
    fn remembered(&self, arguments: &crate::Arguments, patterns: &[String]) -> Result<Vec<Shown>, Trouble> {
        let (workspace, folders) = folders(&arguments.directory, !patterns.is_empty()).map_err(|_| Trouble::Unsaid)?;
        let workspace = workspace.as_deref();
        let wanted = Wanted::of(patterns).ok_or(Trouble::Unsaid)?;
        let looks = Looks::default();
        let shows_all = self.shows_all || !patterns.is_empty() || folders.len() == 1;
        let one = |folder: &PathBuf| self.folder(folder, workspace, &wanted, shows_all, &looks);
        let all: Vec<Result<Planned, Trouble>> = folders.par_iter().map(one).collect();
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
        shows_all: bool,
        looks: &Looks,
    ) -> Result<Planned, Trouble> {
        let of = Of { store: self.store.directory(), out: self.out, publish: self.publish, workspace };
        let Some(memo) = Memo::of(folder, &of) else { return self.plan_from_scratch(folder, workspace, wanted) };
        let began = witness::now();
        let earlier = memo.read();
        if let Some(sealed) = &earlier
            && let Some(planned) = memo.planned(&sealed.payload, shows_all)
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
        let (outcome, witness) = recording(known, || self.plan_from_scratch(folder, workspace, wanted));
        if let Ok(planned) = &outcome
            && planned.images.len() == planned.names.len()
        {
            memo.keep(witness, planned);
        }
        outcome
    }

    fn plan_from_scratch(
        &self,
        folder: &Path,
        workspace: Option<&Workspace>,
        wanted: &Wanted,
    ) -> Result<Planned, Trouble> {
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
            if recipe.lock().is_err() {
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

    fn all_match(&self, names: &[&str]) -> bool {
        self.0.iter().all(|(text, matcher)| names.iter().any(|name| text == name || matcher.is_match(name)))
    }
}

fn shown(image: &PlannedImage, findings: Vec<Finding>) -> Shown {
    // As it stands in the list of the document: four blanks in front of each line.
    let json = serde_json::to_string_pretty(image).unwrap_or_default();
    let json: Vec<String> = json.lines().map(|line| format!("    {line}")).collect();
    let work = image.work.as_ref().and_then(|work| serde_json::to_string(work).ok()).unwrap_or_default();
    let texts = Texts { short: text_of(image, 0), long: text_of(image, 1), json: json.join("\n"), work };
    Shown { name: image.name.clone(), has_work: image.has_work(), texts, findings }
}

/// What a build of all images is expected to take, where several have work.
fn total(images: &[Shown]) -> Option<Total> {
    let work = |image: &Shown| Some((image.name.clone(), serde_json::from_str::<Workload>(&image.texts.work).ok()?));
    let works: Vec<(String, Workload)> = images.iter().filter_map(work).collect();
    let works: Vec<(&str, &Workload)> = works.iter().map(|(name, work)| (name.as_str(), work)).collect();
    Total::of(&works, workers())
}

/// The JSON document of `plan --json`; [`super::planned::PlanDocument`] is its schema.
pub(crate) fn json_of(images: &[Shown], cached: &[CachedActions]) -> String {
    if images.is_empty() {
        return "{\n  \"format_version\": \"1.0\",\n  \"images\": []\n}\n".to_owned();
    }
    let entries: Vec<&str> = images.iter().map(|image| image.texts.json.as_str()).collect();
    let estimate = total(images).and_then(|total| serde_json::to_string_pretty(&total).ok());
    let estimate =
        estimate.map_or_else(String::new, |text| format!(",\n  \"estimate\": {}", text.replace('\n', "\n  ")));
    let cached = match serde_json::to_string_pretty(cached) {
        Ok(text) if !cached.is_empty() => format!(",\n  \"cached\": {}", text.replace('\n', "\n  ")),
        _ => String::new(),
    };
    format!("{{\n  \"format_version\": \"1.0\",\n  \"images\": [\n{}\n  ]{estimate}{cached}\n}}\n", entries.join(",\n"))
}

/// The plan for people: of several images only those that have work, unless all is asked for.
pub(crate) fn folded(images: &[Shown], verbose: u8) -> String {
    let together = total(images).map(|total| format!("{}\n", estimate::together(&total)));
    if verbose > 0 || images.len() == 1 {
        let texts = images.iter().map(|image| &image.texts);
        let texts = texts.map(|texts| if verbose > 0 { texts.long.as_str() } else { texts.short.as_str() });
        return texts.chain(together.as_deref()).collect::<Vec<_>>().join("\n");
    }
    let mut texts: Vec<String> =
        images.iter().filter(|image| image.has_work).map(|image| image.texts.short.clone()).collect();
    let rest = images.len() - texts.len();
    if rest > 0 {
        let (more, ending) = (if texts.is_empty() { "" } else { "other " }, if rest == 1 { "" } else { "s" });
        texts.push(format!("{} {more}image{ending}: nothing to do\n", counted(rest)));
    }
    texts.extend(together);
    texts.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, has_work: bool) -> Shown {
        let text = |form: &str| format!("{name} {form}\n");
        let json = "    {}".to_owned();
        let texts = Texts { short: text("short"), long: text("long"), json, work: String::new() };
        Shown { name: name.to_owned(), has_work, texts, findings: Vec::new() }
    }

    #[test]
    fn a_thousand_images_without_work_are_one_line() {
        let mut images: Vec<Shown> = (0..1000).map(|number| entry(&number.to_string(), false)).collect();
        assert_eq!(folded(&images, 0), "1,000 images: nothing to do\n");
        images[7].has_work = true;
        assert_eq!(folded(&images, 0), "7 short\n\n999 other images: nothing to do\n");
        assert_eq!(folded(&images, 1).lines().filter(|line| line.ends_with("long")).count(), 1000);
    }

    #[test]
    fn the_document_of_kept_entries_is_the_one_that_serde_writes() {
        let image = PlannedImage::of("a\nb".to_owned());
        let cached =
            || vec![CachedActions { image: "c".to_owned(), actions: vec!["rootfs/base".to_owned()], bytes: 7 }];
        let document = super::super::planned::PlanDocument {
            format_version: "1.0".to_owned(),
            against: None,
            images: vec![PlannedImage::of("a\nb".to_owned()), PlannedImage::of("c".to_owned())],
            estimate: None,
            cached: cached(),
        };
        let other = PlannedImage::of("c".to_owned());
        let text = json_of(&[shown(&image, Vec::new()), shown(&other, Vec::new())], &cached());
        assert_eq!(text, format!("{}\n", serde_json::to_string_pretty(&document).unwrap()));
    }
}
