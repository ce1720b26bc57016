//! `imgbuild build`: plans, runs and publishes images.

use build::namespace_for;
use build::workers;

use super::away;
use super::build_arguments::{Arguments, targets};
use super::on::Order;
use super::only;
use super::slurm::{self, Jobs, Made};
use crate::Exit;
use crate::output::documents::{ProgressEvent, PublishedBuild};
use crate::output::reporter::Reporter;
use crate::output::{render, summary};
use crate::plans::planfile::Held;
use crate::plans::planned::{PlannedImage, plan_of, stage_failed};
use crate::setup::{Setup, published_image, selection};
use crate::verbs::images::provision::{How, publish_all};
use crate::verbs::site::rootimg;
use build::{
    Builder, ImageOutcome, Options, Report, Summary, Target, Total, XcatPublished, bring_cached, build_images,
    remove_damaged_layers,
};
use cache::Cache;
use plan::Stage;
use publish::Consent;
use recipe::{Destination, PublishKind, Recipe, Selected, destinations_of};
use store::Store;

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Exit {
    if own.dry_run {
        let planned = super::plan::run(arguments, &own.as_plan());
        return planned.and_then(|exit| preview(arguments, own).map(|()| exit)).unwrap_or_else(|exit| exit);
    }
    build(arguments, own).unwrap_or_else(|exit| exit)
}

fn build(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    if let Some(until) = own.until.filter(|until| *until != Stage::Pack && !own.publish.is_empty()) {
        render::say(&format!("error: --publish needs all stages, but --until {} stops before", until.name()));
        return Err(Exit::Usage);
    }
    let mut given = None;
    if let Some(directory) = &own.away {
        given = Some(away::prepare(directory).map_err(|problem| {
            render::say(&problem);
            Exit::Machine
        })?);
    }
    if let Some(round) = &own.job {
        given = Some(slurm::job::prepare(round).map_err(|problem| {
            render::say(&problem);
            Exit::Machine
        })?);
    }
    let executor = slurm::executor(arguments, own);
    if executor.is_some()
        && let Some(other) = at_once_with_slurm(own)
    {
        render::say(&format!("error: --executor slurm and {other} cannot be used together"));
        return Err(Exit::Usage);
    }
    let mut selected = selection(arguments, &only::images(&own.images, &own.only))?;
    if !selected.broken.is_empty() && (!own.keep_going || selected.recipes.is_empty()) {
        return Err(Exit::Input);
    }
    only::choose(&own.only, &mut selected.recipes)?;
    let setup = Setup::open(arguments)?;
    let held = own.plan.as_deref().map(Held::read).transpose()?;
    if let Some(held) = &held {
        selected.recipes = held.planned(arguments, std::mem::take(&mut selected.recipes));
        held.check(arguments, &selected.recipes, &setup.store)?;
    }
    let publish = held.as_ref().map(Held::publish).transpose()?.unwrap_or_else(|| targets(&own.publish));
    let recipes = &selected.recipes;
    if recipes.len() > 1 && !(publish.is_empty() && own.publish.is_empty()) {
        render::say("error: --publish takes one image, but several would be built: name the image");
        return Err(Exit::Usage);
    }
    let alone = only::by_image(&own.only, recipes);
    let reporter = Reporter::new(arguments);
    sandbox::interrupt::last_words(if arguments.progress == crate::ProgressKind::Json {
        // Said by a signal's handler, once: it must not be made there.
        (serde_json::to_string(&ProgressEvent::Interrupted).unwrap_or_default() + "\n").leak()
    } else {
        "\ninterrupted: nothing was published; run the same command to continue where it stopped\n"
    });
    let _held = setup.share()?;
    if own.thorough {
        recipes.iter().try_for_each(|recipe| remove_damaged(&setup, recipe))?;
    }
    let began = std::time::Instant::now();
    let expected = expected(own, &selected, &setup.store, &publish, arguments);
    let memory = own.memory.map(|mebibytes| mebibytes.saturating_mul(1 << 20));
    let mut shared = setup.shared(own.keep_going, memory, recipes)?;
    // For what is asked of another machine; the build itself comes after it.
    let mut asking = setup.shared(own.keep_going, memory, recipes)?;
    if own.on.is_some() || executor.is_some() {
        asking.cache = own.caches.open(&arguments.directory)?;
    }
    (shared.cache, shared.deliver) = match given {
        Some((cache, deliver)) => (Some(cache), Some(deliver)),
        None => (own.caches.open(&arguments.directory)?, None),
    };
    let name = |recipe: &Recipe| selected.is_several.then(|| recipe.model.image.name.clone());
    let reports: Vec<_> = recipes.iter().map(|recipe| reporter.of(name(recipe).as_deref())).collect();
    let namespaces: Vec<_> = recipes.iter().map(|recipe| namespace_for(&setup.namespace, recipe)).collect();
    let builders_of = |shared, made: Option<&Made>| -> Vec<Builder<'_>> {
        recipes
            .iter()
            .zip(&namespaces)
            .zip(&reports)
            .map(|((recipe, namespace), report)| {
                let planned_out = held.as_ref().and_then(Held::out);
                let out = own.out.clone().or(planned_out).unwrap_or_else(|| recipe.out.clone());
                Builder::new(
                    recipe,
                    (&setup.store, namespace),
                    Options {
                        locked: own.locked || held.is_some(),
                        until: own.until,
                        out: std::path::absolute(&out).unwrap_or(out),
                        places: own.places.places(),
                        publish: publish.clone(),
                        planned: held.as_ref().and_then(|held| held.of_image(arguments, recipe)),
                        only: alone.get(&recipe.model.image.name).cloned().unwrap_or_default(),
                        failed_elsewhere: made.and_then(|made| made.failed.get(&recipe.model.image.name).cloned()),
                        elsewhere: made
                            .and_then(|made| made.runs.get(&recipe.model.image.name).cloned())
                            .unwrap_or_default(),
                        ..Options::default()
                    },
                    report,
                    shared,
                )
            })
            .collect()
    };
    let mut results = None;
    if let Some(host) = &own.on {
        let builders = builders_of(&asking, None);
        bring_known(&builders)?;
        let (setup, builders, publish) = (&setup, builders.as_slice(), publish.as_slice());
        let order = Order {
            arguments,
            own,
            host,
            setup,
            builders,
            publish,
            reporter: &reporter,
            is_lost: Default::default(),
            is_busy: Default::default(),
        };
        results = order.results()?;
    }
    if let Some(results) = &results {
        let cache = shared.cache.take().unwrap_or_else(Cache::none);
        shared.cache = Some(cache.with_results(results.path()));
        shared.elsewhere = own.on.as_ref().map(|host| host.shown.clone());
    }
    let mut made = None;
    if let Some((settings, root)) = executor {
        let builders = builders_of(&asking, None);
        let (setup, builders, publish) = (&setup, builders.as_slice(), publish.as_slice());
        let jobs = Jobs { arguments, own, settings, root, setup, builders, publish, reporter: &reporter };
        made = jobs.run()?;
    }
    if let Some(made) = &made {
        let cache = shared.cache.take().unwrap_or_else(Cache::none);
        shared.cache = Some(cache.with_results(&made.results()));
        shared.elsewhere = Some("Slurm".to_owned());
    }
    shared.continue_from(&asking);
    let builders = builders_of(&shared, made.as_ref());
    // A tree that lies where the image goes is not part of it.
    for (recipe, report) in recipes.iter().zip(&reports) {
        rootimg::of_publication(recipe, &publish).iter().for_each(|finding| report.finding(finding));
    }
    let jobs = rayon::current_num_threads();
    let outcomes = build_images(&builders, &shared, jobs, own.verify, &|index, outcome| {
        if let Ok(summary) = &outcome.result {
            let image = recipes.get(index).and_then(name);
            reporter.pause(|| show(arguments, image.as_deref(), summary, outcome.took));
        }
    });
    reporter.end();
    if own.job.is_some() {
        slurm::job::note(&builders, &outcomes);
    } else {
        let to = (own.out.as_deref(), own.caches.cache_key.as_deref());
        crate::verbs::bill::beside::publish(arguments, to, recipes, &outcomes)?;
    }
    // After all that was built: what fails there leaves the builds as they are.
    let provisioned = provision(arguments, own, recipes, &outcomes);
    if !selected.is_several {
        return match outcomes.into_iter().flatten().next().map(|outcome| outcome.result) {
            Some(Err(failures)) => Err(summary::tell(failures)),
            _ => provisioned.map(|()| Exit::Done),
        };
    }
    let names = recipes.iter().map(|recipe| recipe.model.image.name.as_str()).collect();
    let end = summary::Summary {
        names,
        broken: &selected.broken,
        store: setup.store.directory(),
        arguments,
        expected,
        began,
    };
    let exit = end.tell(outcomes);
    if exit == Exit::Done { provisioned.map(|()| exit) } else { Ok(exit) }
}

/// Where an image goes besides `out/`: by its recipe, then by the command.
fn destinations(own: &Arguments, recipe: &Recipe) -> Vec<Destination> {
    let mut all = destinations_of(&recipe.model);
    all.extend(own.publish.iter().filter(|one| !all.contains(one)).cloned().collect::<Vec<_>>());
    all
}

fn how(arguments: &crate::Arguments, own: &Arguments, is_dry: bool) -> How {
    let consent = if own.replace { Consent::ReplaceForeign } else { Consent::KeepForeign };
    How { consent, is_dry, is_quiet: arguments.quiet || arguments.progress == crate::ProgressKind::Json }
}

/// Gives other provisioners the images that were built. Another machine that builds for this one does not.
/// Errors: The first of each image, after it was printed; the others get theirs.
fn provision(
    arguments: &crate::Arguments,
    own: &Arguments,
    recipes: &[Recipe],
    outcomes: &[Option<ImageOutcome>],
) -> Result<(), Exit> {
    if own.away.is_some() || own.job.is_some() {
        return Ok(());
    }
    let how = how(arguments, own, false);
    let mut ended = Ok(());
    for (recipe, outcome) in recipes.iter().zip(outcomes) {
        let summary = outcome.as_ref().and_then(|outcome| outcome.result.as_ref().ok());
        let Some((directory, info)) = summary.and_then(|summary| summary.published.as_ref()) else { continue };
        ended = ended.and(publish_all(arguments, (directory, info), &destinations(own, recipe), how));
    }
    ended
}

/// Says what other provisioners would get of what is built already.
fn preview(arguments: &crate::Arguments, own: &Arguments) -> Result<(), Exit> {
    for recipe in &selection(arguments, &only::images(&own.images, &own.only))?.recipes {
        let destinations = destinations(own, recipe);
        let elsewhere: Vec<String> =
            destinations.iter().filter(|one| one.kind != PublishKind::Xcat).map(ToString::to_string).collect();
        if elsewhere.is_empty() {
            continue;
        }
        let name = &recipe.model.image.name;
        let out = own.out.as_ref().unwrap_or(&recipe.out);
        match published_image(out, name)? {
            Some((directory, info)) => {
                render::say(&format!("what is in {} now would change other places:", out.join(name).display()));
                publish_all(arguments, (&directory, &info), &destinations, how(arguments, own, true))?;
            }
            None => render::say(&format!("{name} would be published in {} once it is built", elsewhere.join(", "))),
        }
    }
    Ok(())
}

/// Brings what caches have, before another machine is asked for it.
pub(super) fn bring_known(builders: &[Builder<'_>]) -> Result<(), Exit> {
    for builder in builders {
        if let (Some(cache), Ok(Some(lock))) = (&builder.shared.cache, builder.recipe.lock()) {
            bring_cached(builder, cache, &lock, &|_| true).map_err(stage_failed)?;
        }
    }
    Ok(())
}

/// What cannot be done by jobs.
fn at_once_with_slurm(own: &Arguments) -> Option<&'static str> {
    let asked = [
        (own.on.is_some(), "--on"),
        (!own.only.is_empty(), "--only"),
        (own.plan.is_some(), "--plan"),
        (own.verify, "--verify"),
        (own.thorough, "--thorough"),
    ];
    asked.into_iter().find(|(is_asked, _)| *is_asked).map(|(_, name)| name)
}

/// What several images are expected to take together, said before they are built.
fn expected(
    own: &Arguments,
    selected: &Selected,
    store: &Store,
    publish: &[Target],
    arguments: &crate::Arguments,
) -> Option<Total> {
    let to_end = own.until.is_none_or(|until| until == Stage::Pack);
    if !selected.is_several || !to_end || !own.only.is_empty() {
        return None;
    }
    let planned = |recipe: &Recipe| {
        // What is wrong with a lock is said by the build.
        recipe.lock().ok()?;
        plan_of(recipe, store, own.out.as_ref().unwrap_or(&recipe.out), publish).ok()
    };
    let planned: Vec<PlannedImage> = selected.recipes.iter().filter_map(planned).collect();
    let works = planned.iter().filter_map(|image| Some((image.name.as_str(), image.work.as_ref()?)));
    let total = Total::of(&works.collect::<Vec<_>>(), workers())?;
    if arguments.progress != crate::ProgressKind::Json && !arguments.quiet {
        render::say(&crate::output::estimate::together(&total));
    }
    Some(total)
}

/// Takes layers of the last build out of the store that someone changed.
fn remove_damaged(setup: &Setup, recipe: &Recipe) -> Result<(), Exit> {
    let Some(root) = setup.store.root(&recipe.directory, &recipe.model.image.name) else { return Ok(()) };
    let damaged = remove_damaged_layers(&setup.store, &setup.namespace, &root).map_err(render::failed)?;
    for drift in damaged {
        render::say(&format!("note: layer {} was modified ({}) and will be rebuilt", drift.name, drift.problem));
    }
    Ok(())
}

fn show(arguments: &crate::Arguments, image: Option<&str>, summary: &Summary, took: std::time::Duration) {
    if arguments.progress == crate::ProgressKind::Json {
        let published =
            summary.published.clone().map(|(directory, build)| Box::new(PublishedBuild { directory, build }));
        let event = ProgressEvent::Summary {
            image: image.map(str::to_owned),
            published,
            xcat: summary.xcat.clone(),
            estimate: summary.estimate.clone().map(Box::new),
            facts: summary.facts,
            number: summary.number,
        };
        render::say(&serde_json::to_string(&event).unwrap_or_default());
        return;
    }
    if arguments.quiet {
        let differing = summary.published.iter().flat_map(|(_, info)| &info.not_reproducible);
        return differing.for_each(|action| render::say(&differs(action)));
    }
    let ran: Vec<String> =
        summary.outcomes.iter().filter(|outcome| outcome.ran).map(|outcome| outcome.action.clone()).collect();
    let kept = summary.outcomes.len() - ran.len();
    let list = if ran.is_empty() { "nothing".to_owned() } else { ran.join(", ") };
    let of = image.map(|image| format!("{image}: ")).unwrap_or_default();
    let locked = summary.locked.map(|took| format!("; rootfs/lock took {}", render::took(took))).unwrap_or_default();
    render::say(&format!("{of}ran {list}; kept {kept} of {}{locked}; {}", summary.outcomes.len(), render::took(took)));
    if let Some(estimate) = &summary.estimate {
        render::say(&format!("{of}{}", crate::output::estimate::beside(estimate, &summary.facts)));
    }
    if let Some((directory, info)) = &summary.published {
        for artefact in &info.artefacts {
            render::say(&format!("  {:>9}  {}", render::bytes(artefact.size), artefact.name));
        }
        for action in &info.not_reproducible {
            render::say(&differs(action));
        }
        // `out/NAME` leads to it, whichever build it is.
        let stands = directory.ancestors().nth(3).map(|out| out.join(&info.name)).filter(|link| link.is_symlink());
        render::say(&format!("published in {}", stands.as_deref().unwrap_or(directory).display()));
    }
    let mut words = summary.published.iter().flat_map(|(_, info)| &info.cmdline);
    let has_dumps = words.any(|word| word.starts_with("imgbuild.kdump="));
    for xcat in &summary.xcat {
        show_xcat(xcat);
        if has_dumps {
            render::say("  nodes that xCAT boots write no dumps by [kdump]: their command line has no imgbuild.kdump=");
        }
    }
}

fn differs(action: &str) -> String {
    format!("warning: {action} differs from an earlier run with the same inputs")
}

fn show_xcat(published: &XcatPublished) {
    render::say(&format!("published for xCAT in {}", published.directory.display()));
    if !published.removed.is_empty() {
        let names = published.removed.join(", ");
        render::say(&format!("  removed {names}: boot entries naming it find no image until nodeset rewrites them"));
    }
    render::say("  run `nodeset NODES osimage=NAME` to boot nodes with it (copies kernel and initrd)");
    render::say("  nodes check integrity; to check authenticity too, add to the osimage's addkcmdline:");
    render::say(&format!("  imgdigest=sha256:{}", published.index));
}
