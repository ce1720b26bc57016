//! Host side of the `postinstall` action: builds the request, stores the answer.

use std::path::Path;

use crate::plan::Action;
use crate::recipe::{InputKind, Recipe, Script, package_of};
use crate::source::{Finding, Severity};
use crate::stage::StageError;
use crate::stage::actions::Context;
use crate::stage::actions::postinstall::complaints::{self, Complaint};
use crate::stage::actions::postinstall::recipe_tree::{Shown, ShownAs};
use crate::stage::actions::postinstall::remedy::{remedy, thrown_away_finding};
use crate::stage::actions::postinstall::script as postinstall;
use crate::stage::bench::Bench;
use crate::stage::bench::ids;
use crate::stage::bench::report::refuse;
use crate::stage::bench::results::{below, layer_outputs, missing};
use crate::stage::bench::taken::{Taken, take, take_bytes};
use crate::store::{Outputs, Scratch};

/// From this size on a file goes through the store, and not through memory.
const LARGE: u64 = 8 << 20;

/// Runs the scripts; gives what the action's record names.
pub fn run(bench: &Bench<'_>, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
    let (lock, done) = (context.lock, context.done);
    let (Some(scripts), Some(table)) = (&bench.recipe.postinstall, &bench.recipe.model.postinstall) else {
        return Err(missing(&action.id));
    };
    let scratch = bench.store.scratch()?;
    let mut shown = Vec::new();
    let bring = |shown: &mut Vec<Shown>, path: &Path, name: &str, place: String| -> Result<(), StageError> {
        let what = file(bench, action, (path, name), (&scratch, shown.len()))?;
        shown.push(Shown { place, what });
        Ok(())
    };
    for input in &scripts.inputs {
        let place = input.name.clone();
        match &input.kind {
            InputKind::File => bring(&mut shown, &input.path, &input.name, place)?,
            InputKind::Link(target) => shown.push(Shown { place, what: ShownAs::Link(target.clone()) }),
            InputKind::Directory(mode) => shown.push(Shown { place, what: ShownAs::Directory(*mode) }),
            InputKind::Pipe(mode) => shown.push(Shown { place, what: ShownAs::Pipe(*mode) }),
        }
    }
    let machine = bench.recipe.model.image.arch.machine();
    let mut commands = Vec::new();
    for (number, script) in scripts.scripts.iter().enumerate() {
        let place = postinstall::place_of(&script.name, number);
        // A script that is an input, too, is shown once.
        shown.retain(|other| other.place != place);
        bring(&mut shown, &script.path, &script.name, place.clone())?;
        let mut words = vec![
            format!("{}/{place}", postinstall::RECIPE_DIRECTORY),
            "/target".to_owned(),
            postinstall::osvers(bench.recipe),
            machine.to_owned(),
            postinstall::profile(bench.recipe),
        ];
        words.extend(script.arguments.iter().cloned());
        commands.push(words);
    }
    let mut packages = Vec::new();
    if table.packages.is_some() {
        for package in crate::stage::actions::image_packages(lock) {
            bench.store.check_package(&package.sha256)?;
            let path = bench.store.package(&package.sha256);
            let path = path.strip_prefix(bench.store.directory()).unwrap_or(&path).display().to_string();
            packages.push((path, package.file_name()));
        }
    }
    let release = done.value(ids::PAYLOAD, "release")?;
    let variables = postinstall::variables(bench.recipe, &release);
    let mut tools = vec![done.layer(ids::BASE)?];
    tools.extend(done.layer(ids::POSTINSTALL_TOOLS));
    let request = postinstall::PostinstallRequest {
        scratch: scratch.name.clone(),
        shown,
        packages,
        offers_packages: table.packages.is_some(),
        tools,
        base: below(action, done)?,
        commands,
        variables,
        uname: (release, machine.to_owned()),
        epoch: lock.epoch,
        log: bench.log_name(action),
    };
    let answer: postinstall::PostinstallAnswer =
        bench.namespace.call("postinstall", &request, &mut |text| bench.report.progress(text))?;
    let log = bench.store.directory().join(bench.log_name(action));
    let script = |number: usize| scripts.scripts.get(number).ok_or_else(|| missing(&action.id));
    match answer {
        postinstall::PostinstallAnswer::Made(made) => {
            bench.report.printed(ids::POSTINSTALL, &log);
            tell(bench, &scripts.scripts, &made, &log);
            Ok(layer_outputs(&made.layer))
        }
        postinstall::PostinstallAnswer::NoInterpreter(number, interpreter) => {
            let script = script(number)?;
            let problem = format!("`{}` needs {interpreter}, which does not exist in the script's root", script.name);
            let help = format!(
                "name the package that provides it: ‹[postinstall] tools = [\"{}\"]›; the script runs in a root of its own, not in the image",
                package_of(&interpreter)
            );
            Err(refuse(bench.report, bench.recipe, &script.field, problem, help))
        }
        postinstall::PostinstallAnswer::Failed(number, result) => {
            let script = script(number)?;
            Err(StageError::Script {
                what: format!("the postinstall script `{}`", script.name),
                status: result.status,
                remedy: remedy(&result.last_lines),
                lines: result.last_lines.join("\n"),
                log: log.display().to_string(),
            })
        }
    }
}

/// A file of the recipe's directory on its way inside.
fn file(
    bench: &Bench<'_>,
    action: &Action,
    (path, name): (&Path, &str),
    (scratch, number): (&Scratch, usize),
) -> Result<ShownAs, StageError> {
    if std::fs::metadata(path).is_ok_and(|found| found.len() >= LARGE) {
        let Taken { blob, mode } = take(bench, action, name, path)?;
        return Ok(ShownAs::File(blob, mode));
    }
    let (bytes, mode) = take_bytes(action, name, path)?;
    let link = number.to_string();
    scratch.write_link(&link, &bytes, 0o644)?;
    Ok(ShownAs::File(format!("{}/{link}", scratch.links_name), mode))
}

/// Says what a person would want to know of scripts that ended with 0.
fn tell(bench: &Bench<'_>, scripts: &[Script], made: &postinstall::Made, log: &Path) {
    let say = |finding: Option<Finding>| {
        if let Some(finding) = finding {
            bench.report.finding(&finding);
        }
    };
    for (number, script) in scripts.iter().enumerate() {
        let found: Vec<&Complaint> =
            made.complaints.iter().filter(|(of, _)| *of == number).map(|(_, complaint)| complaint).collect();
        say(complaints::finding(bench.recipe, script, &found, log));
    }
    let names = scripts.iter().map(|script| script.name.as_str()).collect::<Vec<_>>().join(", ");
    say(thrown_away_finding(bench.recipe, &names, &made.thrown_away));
    say(nobodys(bench.recipe, &names, &made.nobodys));
    say(host_keys(bench.recipe, &names, &made.host_keys));
}

/// Files that belong to the account `nobody`: seldom intended, since any process of that account may change them.
fn nobodys(recipe: &Recipe, names: &str, paths: &[String]) -> Option<Finding> {
    let first = paths.first()?;
    let more = if paths.len() > 1 { format!(" and {} more", paths.len() - 1) } else { String::new() };
    let text = format!("`{names}` leaves files that belong to `nobody` (65534:65534): /{first}{more}");
    let mut finding = Finding::nowhere(Severity::Warning, "postinstall::nobody", text)
        .help(format!("if that is not intended, add to the script: chown -R root:root \"$1/{first}\""));
    finding.span = recipe.spans.nearest("postinstall").cloned();
    Some(finding)
}

/// Host keys that a script made are each build's others, and all nodes' same.
fn host_keys(recipe: &Recipe, names: &str, paths: &[String]) -> Option<Finding> {
    let first = paths.first()?;
    let more = if paths.len() > 1 { format!(" and {} more", paths.len() - 1) } else { String::new() };
    let text = format!("host keys created by `{names}` were removed: /{first}{more}");
    let mut finding = Finding::nowhere(Severity::Warning, "postinstall::host_keys", text).help(
        "each node creates its own at boot; keys that all nodes share are kept if they are files of `inputs`, or of a synclist",
    );
    finding.span = recipe.spans.nearest("postinstall").cloned();
    Some(finding)
}
