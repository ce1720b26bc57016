//! Host side of the `postinstall` action: builds the request, stores the answer.

use std::path::Path;

use super::complaints::{self, Complaint};
use super::inputs::{Scripts, Shown};
use super::recipe_tree::{Shown as InTree, ShownAs};
use super::remedy::{remedy, thrown_away_finding};
use super::script::{self as postinstall, PostinstallAnswer, PostinstallRequest};
use crate::StageError;
use crate::actions::reader::work::{Above, Desk, Place, Work};
use crate::bench::Bench;
use crate::bench::ids;
use crate::bench::report::refuse;
use crate::bench::results::{layer_outputs, missing};
use base::source::{Finding, Severity};
use recipe::{InputKind, Recipe, Script, package_of};
use store::Outputs;

impl Work for Scripts {
    const OPERATION: &'static str = "postinstall";
    type Request = PostinstallRequest;
    type Answer = PostinstallAnswer;

    fn request(&self, above: &Above<'_>, place: &Place) -> Result<PostinstallRequest, StageError> {
        let mut shown = Vec::new();
        for input in &self.inputs {
            shown.push(match input {
                Shown::File(file) => {
                    InTree { place: file.name.clone(), what: ShownAs::File(above.content(file)?, file.mode) }
                }
                Shown::Other(other) => {
                    let what = match &other.1 {
                        InputKind::Link(target) => ShownAs::Link(target.clone()),
                        InputKind::Directory(mode) => ShownAs::Directory(*mode),
                        InputKind::Pipe(mode) => ShownAs::Pipe(*mode),
                        InputKind::File => return Err(missing(above.id())),
                    };
                    InTree { place: other.0.clone(), what }
                }
            });
        }
        let machine = self.arch.machine().to_owned();
        let variable = |name: &str| {
            let found = self.variables.iter().find(|variable| variable.0 == name);
            found.map(|variable| variable.1.clone()).unwrap_or_default()
        };
        let mut commands = Vec::new();
        for (number, (script, arguments)) in self.scripts.iter().enumerate() {
            let place = postinstall::place_of(&script.name, number);
            // A script that is an input, too, is shown once.
            shown.retain(|other| other.place != place);
            let what = ShownAs::File(above.content(script)?, script.mode);
            shown.push(InTree { place: place.clone(), what });
            let mut words = vec![
                format!("{}/{place}", postinstall::RECIPE_DIRECTORY),
                postinstall::TARGET.to_owned(),
                variable(postinstall::OSVERS),
                machine.clone(),
                variable(postinstall::PROFILE),
            ];
            words.extend(arguments.iter().map(|word| (**word).clone()));
            commands.push(words);
        }
        let mut packages = Vec::new();
        for package in self.packages.iter().flatten() {
            above.store.check_package(&package.sha256)?;
            let path = above.store.package(&package.sha256);
            let path = path.strip_prefix(above.store.directory()).unwrap_or(&path).display().to_string();
            packages.push((path, package.file_name()));
        }
        let release = above.value(ids::PAYLOAD, "release")?;
        let mut variables: Vec<(String, String)> = self.variables.iter().map(|variable| (**variable).clone()).collect();
        let own = variables.iter().any(|(name, _)| name == postinstall::KERNEL_VERSION);
        if !own {
            variables.push((postinstall::KERNEL_VERSION.to_owned(), release.clone()));
        }
        let mut tools = vec![above.layer(ids::BASE)?];
        tools.extend(above.layer(ids::POSTINSTALL_TOOLS));
        Ok(PostinstallRequest {
            scratch: place.scratch.clone(),
            shown,
            packages,
            offers_packages: self.packages.is_some(),
            tools,
            base: above.below()?,
            commands,
            variables,
            keep: self.keep.iter().map(|pattern| (**pattern).clone()).collect(),
            uname: (release, machine),
            epoch: *self.epoch,
            log: place.log.clone(),
        })
    }

    fn finish(&self, desk: &Desk<'_>, answer: PostinstallAnswer) -> Result<Outputs, StageError> {
        let (bench, log) = (desk.bench, desk.log());
        let Some(scripts) = &bench.recipe.postinstall else { return Err(missing(desk.id())) };
        let script = |number: usize| scripts.scripts.get(number).ok_or_else(|| missing(desk.id()));
        match answer {
            PostinstallAnswer::Made(made) => {
                bench.report.printed(ids::POSTINSTALL, &log);
                tell(bench, &scripts.scripts, &made, &log);
                Ok(layer_outputs(&made.layer))
            }
            PostinstallAnswer::NoInterpreter(number, interpreter) => {
                let script = script(number)?;
                let problem =
                    format!("`{}` needs {interpreter}, which does not exist in the script's root", script.name);
                let help = format!(
                    "name the package that provides it: ‹[postinstall] tools = [\"{}\"]›; the script runs in a root of its own, not in the image",
                    package_of(&interpreter)
                );
                Err(refuse(bench.report, bench.recipe, &script.field, problem, help))
            }
            PostinstallAnswer::Failed(number, result) => Err(StageError::Script {
                what: format!("the postinstall script `{}`", script(number)?.name),
                status: result.status,
                remedy: remedy(&result.last_lines, result.status),
                lines: result.last_lines.join("\n"),
                log: log.display().to_string(),
            }),
        }
    }
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
    say(identities(bench.recipe, &names, &made.identities));
    say(secrets(bench.recipe, &names, &made.secrets));
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

/// Keys and identities that a script made are each build's others, and all nodes' same.
fn identities(recipe: &Recipe, names: &str, paths: &[String]) -> Option<Finding> {
    let first = paths.first()?;
    let more = if paths.len() > 1 { format!(" and {} more", paths.len() - 1) } else { String::new() };
    let text = format!("`{names}` created what each node creates for itself, and it was removed: /{first}{more}");
    let is_host_key = first.starts_with("etc/ssh/");
    let code = if is_host_key { "postinstall::host_keys" } else { "postinstall::identities" };
    let mut finding = Finding::nowhere(Severity::Warning, code, text).help(format!(
        "what all nodes share is kept if it is a file of `inputs` or of a synclist, or if the recipe keeps it: ‹[image] keep = [\"{first}\"]›"
    ));
    finding.span = recipe.spans.nearest("postinstall").cloned();
    Some(finding)
}

/// What a script made by chance is another in each build.
fn secrets(recipe: &Recipe, names: &str, paths: &[String]) -> Option<Finding> {
    let first = paths.first()?;
    let more = if paths.len() > 1 { format!(" and {} more", paths.len() - 1) } else { String::new() };
    let text = format!("`{names}` created what looks like a secret: /{first}{more}");
    let mut finding = Finding::nowhere(Severity::Warning, "secrets::made", text).help(format!(
        "it differs per build, all nodes share it, and anyone who can fetch the image can read it: add the site's own to `inputs` or a synclist; if it is intended: ‹[image] keep = [\"{first}\"]›"
    ));
    finding.span = recipe.spans.nearest("postinstall").cloned();
    Some(finding)
}
