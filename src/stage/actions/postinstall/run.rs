//! Runs the script.

use crate::plan::Action;
use crate::stage::builder::run::{Builder, Context};
use crate::stage::builder::taken::take_bytes;

use crate::recipe::package_of;
use crate::stage::actions::postinstall::remedy::{remedy, thrown_away_finding};
use crate::stage::ids;
use crate::stage::report::refuse;
use crate::stage::results::{below, layer_outputs, missing};

use crate::stage::StageError;
use crate::stage::actions::postinstall::script as postinstall;
use crate::store::Outputs;

/// Runs the script; gives what the action's record names.
///
/// # Errors
/// [`StageError`] of its kind.
pub fn run(builder: &Builder<'_>, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
    let (lock, done) = (context.lock, context.done);
    let (Some(script), Some(table)) = (&builder.recipe.postinstall, &builder.recipe.model.postinstall) else {
        return Err(missing(&action.id));
    };
    let scratch = builder.store.scratch()?;
    let files = script.inputs.iter().cloned().chain([(script.script.clone(), script.name.clone())]);
    for (path, name) in files {
        let (bytes, mode) = take_bytes(action, &name, &path)?;
        scratch.write_link(&postinstall::place_of(&name), &bytes, mode)?;
    }
    if table.packages.is_some() {
        for package in crate::stage::actions::image_packages(lock) {
            builder.store.check_package(&package.sha256)?;
            scratch.link(
                &builder.store.package(&package.sha256),
                &format!("{}/{}", postinstall::PACKAGES, package.file_name()),
            )?;
        }
    }
    let machine = builder.recipe.model.image.arch.machine();
    let release = done.value(ids::PAYLOAD, "release")?;
    let mut arguments = vec![format!("{}/{}", postinstall::RECIPE_DIRECTORY, postinstall::place_of(&script.name))];
    arguments.extend([
        "/target".to_owned(),
        postinstall::osvers(builder.recipe),
        machine.to_owned(),
        postinstall::profile(builder.recipe),
    ]);
    arguments.extend(table.arguments.iter().cloned());
    let variables = postinstall::variables(builder.recipe, &release);
    let mut tools = vec![done.layer(ids::BASE)?];
    tools.extend(done.layer(ids::POSTINSTALL_TOOLS));
    let request = postinstall::PostinstallRequest {
        scratch: scratch.name.clone(),
        links: scratch.links_name.clone(),
        with_packages: table.packages.is_some(),
        tools,
        base: below(action, done)?,
        arguments,
        variables,
        uname: (release, machine.to_owned()),
        epoch: lock.epoch,
        log: builder.log_name(action),
    };
    let answer: postinstall::PostinstallAnswer =
        builder.namespace.call("postinstall", &request, &mut |text| builder.report.progress(text))?;
    match answer {
        postinstall::PostinstallAnswer::Made(layer, thrown_away) => {
            builder.report.printed(ids::POSTINSTALL, &builder.store.directory().join(builder.log_name(action)));
            if let Some(finding) = thrown_away_finding(builder.recipe, &script.name, &thrown_away) {
                builder.report.finding(&finding);
            }
            Ok(layer_outputs(&layer))
        }
        postinstall::PostinstallAnswer::NoInterpreter(interpreter) => {
            let problem = format!("`{}` is run by {interpreter}, which is not there where it runs", script.name);
            let help = format!(
                "name the package that brings it: ‹[postinstall] tools = [\"{}\"]›; the script runs in a root of its own, not in the image",
                package_of(&interpreter)
            );
            Err(refuse(builder.report, builder.recipe, "postinstall.script", problem, help))
        }
        postinstall::PostinstallAnswer::Failed(result) => Err(StageError::Script {
            what: format!("the postinstall script `{}`", script.name),
            status: result.status,
            remedy: remedy(&result.last_lines),
            lines: result.last_lines.join("\n"),
            log: builder.store.directory().join(builder.log_name(action)).display().to_string(),
        }),
    }
}
