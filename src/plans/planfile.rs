//! Plan files: `plan -o FILE` and `build --plan FILE`.

use std::path::{Path, PathBuf};

use miette::Diagnostic;
use thiserror::Error;

use super::planned::stage_failed;
use crate::output::render;
use crate::setup::lock;
use crate::{Arguments, Exit};
use build::{ExactPlan, PlanToKeep, StageError, Target, forms_for, fresh_lock, picture};
use plan::{FileImage, PLAN_FILE_FORMAT, PlanFile};
use recipe::{Lock, Recipe};
use store::Store;

#[derive(Debug, Error, Diagnostic)]
enum PlanFileError {
    #[error("cannot make an exact plan for `{image}`: {lock} is missing or out of date with the recipe{why}")]
    #[diagnostic(
        code(plan::not_locked),
        help(
            "packages have to be resolved first: update {lock} with `imgbuild build` or `imgbuild update`, then plan"
        )
    )]
    NotLocked { image: String, lock: String, why: String },
    #[error("cannot {intent} the plan `{file}`: {source}")]
    #[diagnostic(code(plan::file))]
    File { intent: &'static str, file: String, source: std::io::Error },
    #[error("cannot read the plan `{file}`: it {problem}")]
    #[diagnostic(code(plan::file), help("pass a file written by `imgbuild plan -o FILE`"))]
    NoFile { file: String, problem: &'static str },
    #[error("cannot write the plan `{file}`: there is no directory `{folder}`")]
    #[diagnostic(code(plan::file), help("create it first: mkdir -p {folder}"))]
    NoFolder { file: String, folder: String },
    #[error("`{file}` is not a plan: {problem}")]
    #[diagnostic(code(plan::format), help("write one: imgbuild plan -o {file}"))]
    Format { file: String, problem: String },
    #[error("`{file}` has format {found}, but this imgbuild supports {PLAN_FILE_FORMAT}")]
    #[diagnostic(code(plan::version), help("use the imgbuild that made it, or plan again: imgbuild plan -o {file}"))]
    Version { file: String, found: String },
    #[error("the plan in {file} was made by imgbuild {found}, but this is imgbuild {}", env!("CARGO_PKG_VERSION"))]
    #[diagnostic(
        code(plan::moved),
        help("nothing was built; use that imgbuild, or plan again: imgbuild plan -o {file}")
    )]
    OtherImgbuild { file: String, found: String },
    #[error("the plan in {file} is for other images: {problem}")]
    #[diagnostic(code(plan::moved), help("nothing was built; plan again: imgbuild plan -o {file}"))]
    OtherImages { file: String, problem: String },
}

fn refused(error: PlanFileError) -> Exit {
    let exit = if matches!(error, PlanFileError::File { intent: "write", .. }) { Exit::Machine } else { Exit::Input };
    render::refused(exit, error)
}

/// Directory of a recipe as a plan names it: relative to the directory that imgbuild was started for, so that a plan holds in
/// another checkout too.
fn place_of(arguments: &Arguments, recipe: &Recipe) -> String {
    let here = arguments.directory.canonicalize().unwrap_or_else(|_| arguments.directory.clone());
    let below = recipe.directory.strip_prefix(&here).unwrap_or(&recipe.directory);
    if below.as_os_str().is_empty() { ".".to_owned() } else { below.display().to_string() }
}

/// The lock of a recipe, which has to be up to date.
pub(crate) fn locked(recipe: &Recipe) -> Result<Lock, Exit> {
    fresh_lock(recipe, lock(recipe)?).map_err(|causes| {
        let why = causes.first().map(|cause| format!(": {}", cause.message)).unwrap_or_default();
        let (image, lock) = (recipe.model.image.name.clone(), recipe.lock_name());
        refused(PlanFileError::NotLocked { image, lock, why })
    })
}

/// All that the plan of an image rests on, as it is now.
fn picture_of(
    arguments: &Arguments,
    recipe: &Recipe,
    store: &Store,
    out: &Path,
    publish: &[Target],
) -> Result<FileImage, Exit> {
    let lock = locked(recipe)?;
    let plan = ExactPlan::of(recipe, &lock, store, forms_for(publish)).map_err(stage_failed)?;
    Ok(picture(recipe, place_of(arguments, recipe), &lock, &plan, &plan.drift(recipe, out)))
}

/// Where artefacts of an image are.
fn out_of(recipe: &Recipe, out: Option<&Path>) -> PathBuf {
    let out = out.map_or_else(|| recipe.out.clone(), Path::to_owned);
    std::path::absolute(&out).unwrap_or(out)
}

/// Writes a plan that a build can be held to.
/// Errors: The exit code, after the reason was printed; the file is as before then. `-` is the standard output.
pub(crate) fn write(
    arguments: &Arguments,
    recipes: &[Recipe],
    store: &Store,
    (out, publish): (Option<&Path>, &[Target]),
    file: &Path,
) -> Result<(), Exit> {
    let mut images = Vec::new();
    for recipe in recipes {
        images.push(picture_of(arguments, recipe, store, &out_of(recipe, out), publish)?);
    }
    let plan = PlanFile {
        format_version: PLAN_FILE_FORMAT.to_owned(),
        imgbuild: env!("CARGO_PKG_VERSION").to_owned(),
        out: out.map(|out| std::path::absolute(out).unwrap_or_else(|_| out.to_owned()).display().to_string()),
        publish: publish.iter().map(|Target::Xcat(directory)| format!("xcat:{}", directory.display())).collect(),
        images,
    };
    let mut text = serde_json::to_vec_pretty(&plan).unwrap_or_default();
    text.push(b'\n');
    write_text(file, &text)
}

/// Writes what was planned: aside and then in place, or to the standard output where the file is `-`.
pub(crate) fn write_text(file: &Path, text: &[u8]) -> Result<(), Exit> {
    if file == Path::new("-") {
        render::print_whole(&String::from_utf8_lossy(text));
        return Ok(());
    }
    let said = |source| refused(PlanFileError::File { intent: "write", file: file.display().to_string(), source });
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(refused(PlanFileError::NoFolder {
            file: file.display().to_string(),
            folder: folder.display().to_string(),
        }));
    }
    let path = std::path::absolute(file).map_err(said)?;
    files::replace(&path, text, 0o644, files::Durability::PowerCut).map_err(said)
}

/// A plan that builds are held to.
pub(crate) struct Held {
    file: PathBuf,
    plan: PlanFile,
}

impl Held {
    pub(crate) fn read(file: &Path) -> Result<Self, Exit> {
        let name = file.display().to_string();
        if let Some(problem) = witness::not_a_file(file) {
            return Err(refused(PlanFileError::NoFile { file: name, problem }));
        }
        let bytes = std::fs::read(file)
            .map_err(|source| refused(PlanFileError::File { intent: "read", file: name.clone(), source }))?;
        let wrong = |error: serde_json::Error| {
            refused(PlanFileError::Format { file: name.clone(), problem: error.to_string() })
        };
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(wrong)?;
        let found = value["format_version"].as_str().unwrap_or("none").to_owned();
        let major = |version: &str| version.split('.').next().unwrap_or_default().to_owned();
        if value["format_version"].is_string() && major(&found) != major(PLAN_FILE_FORMAT) {
            return Err(refused(PlanFileError::Version { file: name, found }));
        }
        let plan: PlanFile = serde_json::from_value(value).map_err(wrong)?;
        if plan.imgbuild != env!("CARGO_PKG_VERSION") {
            return Err(refused(PlanFileError::OtherImgbuild { file: name, found: plan.imgbuild }));
        }
        Ok(Self { file: file.to_owned(), plan })
    }

    pub(crate) fn out(&self) -> Option<PathBuf> {
        self.plan.out.as_ref().map(PathBuf::from)
    }

    /// Where else they go.
    pub(crate) fn publish(&self) -> Result<Vec<Target>, Exit> {
        let parsed: Result<Vec<Target>, String> = self.plan.publish.iter().map(|text| text.parse()).collect();
        parsed.map_err(|problem| refused(PlanFileError::Format { file: self.file.display().to_string(), problem }))
    }

    fn image(&self, arguments: &Arguments, recipe: &Recipe) -> Option<&FileImage> {
        let place = place_of(arguments, recipe);
        let name = &recipe.model.image.name;
        self.plan.images.iter().find(|image| image.name == *name && image.recipe == place)
    }

    pub(crate) fn planned(&self, arguments: &Arguments, mut recipes: Vec<Recipe>) -> Vec<Recipe> {
        recipes.retain(|recipe| self.image(arguments, recipe).is_some());
        recipes
    }

    pub(crate) fn of_image(&self, arguments: &Arguments, recipe: &Recipe) -> Option<PlanToKeep> {
        Some(PlanToKeep {
            file: self.file.display().to_string().into(),
            out: out_of(recipe, self.out().as_deref()).into(),
            image: self.image(arguments, recipe)?.clone().into(),
        })
    }

    /// Whether all images are as they were when the plan was made; reported before anything is built.
    /// Errors: The exit code, after all that moved was printed.
    pub(crate) fn check(&self, arguments: &Arguments, recipes: &[Recipe], store: &Store) -> Result<(), Exit> {
        let file = self.file.display().to_string();
        let is_here = |image: &FileImage| {
            let fits =
                |recipe: &Recipe| image.name == recipe.model.image.name && image.recipe == place_of(arguments, recipe);
            recipes.iter().any(fits)
        };
        let gone = self.plan.images.iter().filter(|image| !is_here(image));
        let gone: Vec<String> = gone.map(|image| format!("`{}` in {} is missing", image.name, image.recipe)).collect();
        if self.plan.images.is_empty() || !gone.is_empty() {
            let problem = if gone.is_empty() { "it has none".to_owned() } else { gone.join(", ") };
            return Err(refused(PlanFileError::OtherImages { file, problem }));
        }
        let publish = self.publish()?;
        let mut lines = Vec::new();
        for recipe in recipes {
            let Some(planned) = self.image(arguments, recipe) else { continue };
            let out = out_of(recipe, self.out().as_deref());
            let now = picture_of(arguments, recipe, store, &out, &publish)?;
            lines.extend(plan::moved(planned, &now, &recipe.lock_name()).iter().map(ToString::to_string));
        }
        if lines.is_empty() {
            return Ok(());
        }
        Err(stage_failed(StageError::PlanMoved {
            file,
            count: lines.len(),
            lines: lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"),
        }))
    }
}
