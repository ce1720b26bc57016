//! The bench's part of drivers: inputs of keys, requests, answers.

use std::collections::BTreeMap;

use super::build::{BuildAnswer, BuildRequest};
use super::{CheckRequest, Extra, Refusal, Remarks, UpdateSource};
use crate::distro::manager;
use crate::plan::{Action, Input, Origin};
use crate::recipe::{DriverUpdate, Lock, PassRole, Recipe, UpdateForm};
use crate::source::{Finding, Severity};
use crate::stage::StageError;
use crate::stage::actions::Context;
use crate::stage::actions::packages::requests::PackageRequest;
use crate::stage::actions::reader::globs::in_directory;
use crate::stage::bench::Bench;
use crate::stage::bench::ids;
use crate::stage::bench::results::{Done, file, layer_outputs, missing};
use crate::stage::bench::taken::{Taken, take};
use crate::store::Outputs;

/// Stands in that transaction for the package with the headers of the image's kernel, which is known when that is.
pub const HEADERS: &str = "?headers";

/// What is asked for to build drivers: the headers of the image's kernel, which bring its compiler, make, and what kbuild's scripts run.
pub fn package_request(recipe: &Recipe) -> Option<PackageRequest> {
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

pub fn headers_release(recipe: &Recipe, lock: &Lock) -> Option<String> {
    let manager = manager(recipe);
    let pass = lock.pass(PassRole::DRIVER_TOOLS)?;
    let named = || pass.packages.iter().find_map(|package| manager.headers_release(package));
    pass.kernel_releases.first().cloned().or_else(named)
}

/// Inputs of the kernel stage that updates are.
/// Errors: [`StageError::Input`] for a file that vanished.
pub fn update_inputs(recipe: &Recipe) -> Result<Vec<Input>, StageError> {
    let mut inputs = Vec::new();
    for update in &recipe.kernel_files.updates {
        let form = match update.form {
            None => "by content",
            Some(UpdateForm::Package) => "package",
            Some(UpdateForm::Disk) => "disk",
        };
        let by = |input: Input| input.asked(&recipe.spans, Some(&update.span));
        inputs.push(by(Input::new(format!("update {}", update.name), form)));
        for (path, below) in &update.files {
            let input = by(file(&shown(update, below), path, None)?);
            let pattern = format!("{}/", update.name);
            let glob = Origin::Glob { field: "kernel.updates".to_owned(), pattern };
            inputs.push(if update.is_directory { input.of(glob) } else { input });
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    inputs.retain(|input| seen.insert((input.name.clone(), input.value.clone())));
    Ok(inputs)
}

fn shown(update: &DriverUpdate, below: &str) -> String {
    if update.is_directory { format!("{}/{below}", update.name) } else { update.name.clone() }
}

/// Inputs of the action that builds the driver of one table, besides its tools.
/// Errors: [`StageError::Input`] for a file that vanished.
pub fn build_inputs(recipe: &Recipe, lock: &Lock, index: usize) -> Result<Vec<Input>, StageError> {
    let Some(build) = recipe.kernel_files.builds.get(index) else { return Ok(Vec::new()) };
    let spans = &recipe.spans;
    let source = format!("{}.source", build.at);
    // The release follows from the packages that the lock has.
    let release = Input::parameter("release", headers_release(recipe, lock).unwrap_or_default());
    let mut inputs = vec![release.of(Origin::Lock)];
    for (number, word) in build.make.iter().enumerate() {
        let input = Input::parameter(&format!("make {}", number + 1), word);
        inputs.push(input.field(spans, &format!("{}.make[{number}]", build.at)));
    }
    for (path, below) in &build.files {
        let name = if build.is_directory { format!("{}/{below}", build.name) } else { build.name.clone() };
        let input = file(&name, path, None)?;
        let directory = format!("{}/", build.name);
        inputs.push(if build.is_directory {
            in_directory(input, spans, &source, &directory)
        } else {
            input.field(spans, &source)
        });
    }
    Ok(inputs)
}

/// What the kernel stage adds to the kernel.
/// Errors: [`StageError`] of a file that changed or cannot be read.
pub fn extra(bench: &Bench<'_>, action: &Action, done: &Done) -> Result<Extra, StageError> {
    let mut extra = Extra { arch: bench.recipe.model.image.arch, ..Extra::default() };
    for update in &bench.recipe.kernel_files.updates {
        let mut files = Vec::new();
        for (path, below) in &update.files {
            files.push((below.clone(), take(bench, action, &shown(update, below), path)?.blob));
        }
        let (name, form, is_directory) = (update.name.clone(), update.form, update.is_directory);
        extra.updates.push(UpdateSource { name, form, is_directory, files });
    }
    for (index, build) in bench.recipe.kernel_files.builds.iter().enumerate() {
        extra.builds.push((build.name.clone(), done.layer(&build_action(index))?));
    }
    Ok(extra)
}

/// Tells what came of drivers, and gives what the initrd has to know of them.
pub fn say_remarks(bench: &Bench<'_>, remarks: &Remarks) -> BTreeMap<String, String> {
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

pub fn run(bench: &Bench<'_>, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
    let builds = &bench.recipe.kernel_files.builds;
    let found = (0..builds.len()).find(|index| build_action(*index) == action.id);
    let Some(build) = found.and_then(|index| builds.get(index)) else { return Err(missing(&action.id)) };
    let release = headers_release(bench.recipe, context.lock).ok_or_else(|| missing(&action.id))?;
    let mut files = Vec::new();
    for (path, below) in &build.files {
        let name = if build.is_directory { format!("{}/{below}", build.name) } else { build.name.clone() };
        let Taken { blob, mode } = take(bench, action, &name, path)?;
        files.push((below.clone(), blob, mode));
    }
    let scratch = bench.store.scratch()?;
    let log = bench.log_name(action);
    let request = BuildRequest {
        scratch: scratch.name.clone(),
        tools: vec![context.done.layer(ids::DRIVER_TOOLS)?],
        files,
        is_directory: build.is_directory,
        release,
        machine: bench.recipe.model.image.arch.machine().to_owned(),
        make: build.make.clone(),
        log: log.clone(),
    };
    let answer: BuildAnswer =
        bench.namespace.call("driver-build", &request, &mut |text| bench.report.progress(text))?;
    let log = bench.store.directory().join(log).display().to_string();
    match answer {
        BuildAnswer::Made(layer) => Ok(layer_outputs(&layer)),
        BuildAnswer::Failed(result) => Err(StageError::Script {
            what: format!("the build of the driver `{}`", build.name),
            status: result.status,
            lines: result.last_lines.join("\n"),
            remedy: String::new(),
            log,
        }),
        BuildAnswer::Refused(problem) => Err(StageError::Gate {
            problem: format!("the driver `{}` cannot be built: {problem}", build.name),
            help: format!("correct the source, or ‹[[kernel.build]]› make; the log, where there is one, is {log}"),
        }),
    }
}

/// Modules of the image that the kernel stage did not bring fit its kernel.
pub fn check_foreign_modules(
    bench: &Bench<'_>,
    layers: &[crate::digest::Digest],
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
pub fn build_action(index: usize) -> String {
    format!("kernel/build-{}", index + 1)
}
