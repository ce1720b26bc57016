//! The bench's part of drivers: inputs of keys, requests, answers.

use std::collections::BTreeMap;

use super::build::{BuildAnswer, BuildRequest};
use super::{CheckRequest, Extra, Refusal, Remarks, UpdateSource};
use crate::StageError;
use crate::actions::kernel::inputs::{Driver, Kernel, Update};
use crate::actions::packages::requests::PackageRequest;
use crate::actions::reader::globs::in_directory;
use crate::actions::reader::work::{Above, Desk, Place, Work};
use crate::bench::Bench;
use crate::bench::ids;
use crate::bench::keyed::{InputFile, Key, Keyed};
use crate::bench::results::{layer_outputs, missing};
use base::source::{Finding, Severity};
use packages::manager;
use plan::{Input, Origin};
use recipe::{Arch, DriverBuild, Lock, PassRole, Recipe, UpdateForm};
use store::Outputs;

/// Stands in that transaction for the package with the headers of the image's kernel, which is known when that is.
pub(crate) const HEADERS: &str = "?headers";

/// What is asked for to build drivers: the headers of the image's kernel, which bring its compiler, make, and what kbuild's scripts run.
pub(crate) fn package_request(recipe: &Recipe) -> Option<PackageRequest> {
    if recipe.kernel_files.builds.is_empty() {
        return None;
    }
    let mut package_request = PackageRequest { name: PassRole::DRIVER_TOOLS.to_owned(), ..PackageRequest::default() };
    package_request.pass.aside = true;
    package_request.pass.install = vec![HEADERS.to_owned()];
    package_request.pass.install.extend(manager(recipe).names(recipe).driver_tools);
    if let Some(span) = recipe.spans.nearest("kernel.build[0].source") {
        package_request.spans.insert(HEADERS.to_owned(), span.clone());
    }
    for (table, build) in recipe.model.kernel.build.iter().enumerate() {
        for (index, name) in build.tools.iter().enumerate() {
            if let Some(span) = recipe.spans.get(&format!("kernel.build[{table}].tools[{index}]")) {
                package_request.spans.insert(name.clone(), span.clone());
            }
            if !package_request.pass.install.contains(name) {
                package_request.pass.install.push(name.clone());
            }
        }
    }
    Some(package_request)
}

pub(crate) fn headers_release(recipe: &Recipe, lock: &Lock) -> Option<String> {
    let manager = manager(recipe);
    let pass = lock.pass(PassRole::DRIVER_TOOLS)?;
    let named = || pass.packages.iter().find_map(|package| manager.headers_release(package));
    pass.kernel_releases.first().cloned().or_else(named)
}

/// Describes updates.
///
/// # Errors
/// [`StageError::Input`] for a file that vanished.
pub(crate) fn describe_updates(recipe: &Recipe, key: &mut Key) -> Result<Vec<Update>, StageError> {
    let mut updates = Vec::new();
    for update in &recipe.kernel_files.updates {
        let by = |input: Input| input.asked(&recipe.spans, Some(&update.span));
        let form = key.keep(update.form, |form| {
            let form = match form {
                None => "by content",
                Some(UpdateForm::Package) => "package",
                Some(UpdateForm::Disk) => "disk",
            };
            by(Input::new(format!("update {}", update.name), form))
        });
        let name = form.follows(update.name.clone());
        let mut files = Vec::new();
        for (path, below) in &update.files {
            let shown = if update.is_directory { format!("{}/{below}", update.name) } else { update.name.clone() };
            let glob = Origin::Glob { field: "kernel.updates".to_owned(), pattern: format!("{}/", update.name) };
            let said = |input: Input| if update.is_directory { by(input).of(glob) } else { by(input) };
            files.push((below.clone(), key.file(&shown, path, said)?));
        }
        updates.push(Update { name, form, is_directory: update.is_directory, files });
    }
    Ok(updates)
}

/// Describes the build of the driver of one table, besides its tools.
///
/// # Errors
/// [`StageError::Input`] for a file that vanished.
pub(crate) fn describe_build(
    recipe: &Recipe,
    lock: &Lock,
    build: &DriverBuild,
    arch: Keyed<Arch>,
    key: &mut Key,
) -> Result<Driver, StageError> {
    let spans = &recipe.spans;
    let source = format!("{}.source", build.at);
    // The release follows from the packages that the lock has.
    let release = key.keep(headers_release(recipe, lock).unwrap_or_default(), |release| {
        Input::parameter("release", release).of(Origin::Lock)
    });
    let make = key.keep_each(build.make.iter().cloned(), |number, word| {
        let input = Input::parameter(&format!("make {}", number + 1), word);
        input.field(spans, &format!("{}.make[{number}]", build.at))
    });
    let directory = format!("{}/", build.name);
    let mut files = Vec::new();
    for (path, below) in &build.files {
        let name = if build.is_directory { format!("{}/{below}", build.name) } else { build.name.clone() };
        let said = |input: Input| match build.is_directory {
            true => in_directory(input, spans, &source, &directory),
            false => input.field(spans, &source),
        };
        files.push((below.clone(), key.file(&name, path, said)?));
    }
    Ok(Driver { arch, release, make, name: build.name.clone(), is_directory: build.is_directory, files })
}

impl Kernel {
    /// What is added to the kernel.
    ///
    /// # Errors
    /// [`StageError`] of a file that changed or cannot be read.
    pub fn extra(&self, above: &Above<'_>) -> Result<Extra, StageError> {
        let mut extra = Extra { arch: *self.arch, ..Extra::default() };
        for update in &self.updates {
            let content = |(below, file): &(String, Keyed<_>)| Ok((below.clone(), above.content(file)?));
            extra.updates.push(UpdateSource {
                name: update.name.clone(),
                form: *update.form,
                is_directory: update.is_directory,
                files: update.files.iter().map(content).collect::<Result<_, StageError>>()?,
            });
        }
        for (index, name) in self.builds.iter().enumerate() {
            extra.builds.push((name.0.clone(), above.layer(&build_action(index))?));
        }
        Ok(extra)
    }
}

/// Tells what came of drivers, and gives what the initrd has to know of them.
pub(crate) fn say_remarks(bench: &Bench<'_>, remarks: &Remarks) -> BTreeMap<String, String> {
    let span = bench.recipe.spans.nearest("kernel.updates");
    for text in &remarks.warnings {
        let mut finding = Finding::nowhere(Severity::Warning, "kernel::updates", text.clone());
        finding.span = span.cloned();
        bench.report.finding(&finding);
    }
    for text in &remarks.notes {
        bench.report.finding(&Finding::nowhere(Severity::Note, "kernel::updates", text.clone()));
    }
    BTreeMap::from([("drivers".to_owned(), remarks.names.join(" "))])
}

impl Work for Driver {
    const OPERATION: &'static str = "driver-build";
    type Request = BuildRequest;
    type Answer = BuildAnswer;

    fn request(&self, above: &Above<'_>, place: &Place) -> Result<BuildRequest, StageError> {
        if self.release.is_empty() {
            return Err(missing(above.id()));
        }
        let content = |(below, file): &(String, Keyed<InputFile>)| Ok((below.clone(), above.content(file)?, file.mode));
        Ok(BuildRequest {
            scratch: place.scratch.clone(),
            tools: vec![above.layer(ids::DRIVER_TOOLS)?],
            files: self.files.iter().map(content).collect::<Result<_, StageError>>()?,
            is_directory: self.is_directory,
            release: self.release.clone(),
            machine: self.arch.machine().to_owned(),
            make: self.make.iter().map(|word| (**word).clone()).collect(),
            log: place.log.clone(),
        })
    }

    fn finish(&self, desk: &Desk<'_>, answer: BuildAnswer) -> Result<Outputs, StageError> {
        match answer {
            BuildAnswer::Made(layer) => Ok(layer_outputs(&layer)),
            BuildAnswer::Failed(result) => {
                Err(desk.failed(&format!("the build of the driver `{}`", self.name), &result))
            }
            BuildAnswer::Refused(problem) => Err(StageError::Gate {
                problem: format!("the driver `{}` cannot be built: {problem}", self.name),
                help: format!(
                    "correct the source, or ‹[[kernel.build]]› make; the log, where there is one, is {}",
                    desk.log().display()
                ),
            }),
        }
    }
}

/// Modules of the image that the kernel stage did not bring fit its kernel.
pub(crate) fn check_foreign_modules(
    bench: &Bench<'_>,
    layers: &[base::digest::Digest],
    release: &str,
    modules: Vec<String>,
) -> Result<(), StageError> {
    if modules.is_empty() {
        return Ok(());
    }
    let request = CheckRequest { layers: layers.to_vec(), release: release.to_owned(), modules };
    let refusal: Option<Refusal> = bench.namespace.call("check-drivers", &request, &mut |_| {})?;
    refusal.map_or(Ok(()), |refusal| Err(refusal.into()))
}

impl From<Refusal> for StageError {
    fn from(refusal: Refusal) -> Self {
        Self::Gate { problem: refusal.problem, help: refusal.help }
    }
}

/// The action that builds the driver of a table, counted from 0.
pub(crate) fn build_action(index: usize) -> String {
    format!("kernel/build-{}", index + 1)
}
