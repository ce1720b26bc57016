//! Why image.lock is out of date with the recipe, in terms of the recipe's lines.

use std::collections::{BTreeMap, BTreeSet};

use crate::actions::packages::requests::{PackageRequest, package_requests};
use crate::bench::ids;
use plan::{Cause, Change, Origin, Place, RECIPE, Reason, Removals, Subject};

use recipe::{LockItem, LockPlaces, LockedPass, PassRole, Recipe, Spans};

/// Finds where an input of an action stood, and what it came from.
pub(crate) type Remembered<'a> = dyn Fn(&str, &str) -> Option<(Place, Origin)> + 'a;

/// Which field of the recipe a transaction is there for, where no line names a package.
fn field_of(pass: &str) -> &'static str {
    match PassRole::of(pass) {
        PassRole::Base => "image.release",
        PassRole::DriverTools => "kernel.build",
        PassRole::PostinstallTools => "postinstall.script",
        PassRole::RoleTools => "role",
        PassRole::DracutTools => "initrd.generator",
        PassRole::Kernel => "kernel.package",
        PassRole::Otherpkgs => "otherpkgs",
        PassRole::Tools | PassRole::SolverTools | PassRole::Packages => "packages.base",
    }
}

/// The name by which places of requests are remembered.
fn input_name(pass: &str, name: &str) -> String {
    format!("request {pass} {name}")
}

fn origin_of(package_request: &PackageRequest, name: &str, spans: &Spans) -> (Option<Place>, Origin) {
    match package_request.spans.get(name) {
        Some(span) => (Some(Place::from(span)), Origin::of_span(spans, span)),
        None if package_request.role().is_root() => (None, Origin::Imgbuild("tools root".to_owned())),
        None => {
            let field = field_of(&package_request.name);
            (spans.get(field).map(Place::from), Origin::Field(field.to_owned()))
        }
    }
}

/// Places of all that a recipe asks for, to be remembered with a build.
pub(crate) fn requests(recipe: &Recipe) -> BTreeMap<String, (Place, Origin)> {
    let mut all = BTreeMap::new();
    for package_request in package_requests(recipe) {
        for name in package_request
            .pass
            .install
            .iter()
            .chain(&package_request.pass.remove)
            .chain(&package_request.pass.remove_after)
        {
            if let (Some(place), origin) = origin_of(&package_request, name, &recipe.spans) {
                all.insert(input_name(&package_request.name, name), (place, origin));
            }
        }
    }
    all
}

/// The kernel's package under another name: both names, and one cause for them. A directory of kernels has its own.
pub(crate) fn another_kernel(
    package_request: &PackageRequest,
    locked: &LockedPass,
    recipe: &Recipe,
) -> Option<(Vec<String>, Option<Cause>)> {
    let (now, was) = (package_request.pass.install.first()?, locked.install.first()?);
    if now == was {
        return None;
    }
    let names = vec![now.clone(), was.clone()];
    if recipe.model.kernel.dir.is_some() {
        return Some((names, None));
    }
    let field = Origin::Field("kernel.package".to_owned());
    let said = package_request.spans.get(now);
    // The default is back, because the recipe takes out what it inherits.
    let taken = || recipe.withdrawn.iter().find(|one| one.field == "kernel.package").map(|one| &one.span);
    let place = said.or_else(taken).map(Place::from);
    let (lock, place) = (&recipe.lock_name(), place.as_ref());
    let subject = Subject { name: "parameter package", origin: &field, place, was_place: None, lock };
    Some((names, Some(subject.cause(Change::Changed(was, now)))))
}

/// A name that is asked for, and that the lock lacks.
pub(crate) fn lacking(package_request: &PackageRequest, name: &str, dashes: &str, recipe: &Recipe) -> Cause {
    let (place, origin) = origin_of(package_request, name, &recipe.spans);
    let (shown, lock) = (format!("{dashes}{name}"), recipe.lock_name());
    if matches!(origin, Origin::Imgbuild(_)) {
        let message = format!("imgbuild's tools root needs \"{shown}\"");
        return Cause { message, ..Reason::NotLocked { lock, what: shown }.cause(None) };
    }
    // The recipe's own words for the headers that belong to the kernel.
    let shown =
        if shown == crate::actions::kernel::drivers::HEADERS { "the kernel's headers".to_owned() } else { shown };
    let (input, value) = match &origin {
        // A field that brings packages needs them; one that names the package has it as its value.
        Origin::Field(field) if ["kernel.package", "kernel.dir", "image.from"].contains(&field.as_str()) => {
            (format!("parameter {field}"), shown.clone())
        }
        _ => (format!("package {shown}"), String::new()),
    };
    let place = place.as_ref();
    let subject = Subject { name: &input, origin: &origin, place, was_place: None, lock: &lock };
    let cause = subject.cause(Change::Added(&value));
    Cause { reason: Reason::NotLocked { lock, what: shown }, ..cause }
}

/// A name that the lock was made for, and that is no longer requested; where it was is unknown.
pub(crate) fn left_over(pass: &str, name: &str, dashes: &str, recipe: &Recipe) -> Cause {
    let (lock, pass, what) = (recipe.lock_name(), pass.to_owned(), format!("{dashes}{name}"));
    let cause = Reason::NotAsked { lock, pass, what }.cause(None);
    // apt's pattern for a whole set of packages, which no list can name: the base asks for it.
    let message = if name.starts_with('~') { "packages.base minbase -> essential".to_owned() } else { cause.message };
    Cause { message, ..cause }
}

/// Finds where names that are no longer requested were at the time of the last build.
///
/// `remembered` finds places of the last build by action, [`RECIPE`] among them, and input. For names that are requested now it
/// is said where something hid them before.
pub(crate) fn place_left_over(causes: &mut [Cause], recipe: &Recipe, remembered: &Remembered<'_>) {
    if causes.is_empty() {
        return;
    }
    let absences = Removals::of(recipe, BTreeMap::new(), BTreeSet::new());
    let said = |what: &str| remembered(RECIPE, what);
    let package_requests = package_requests(recipe);
    for cause in causes {
        if let Reason::NotLocked { what, .. } = &cause.reason {
            let name = what.trim_start_matches('-');
            let origin = package_requests.iter().find(|package_request| package_request.spans.contains_key(name));
            let origin = origin.map(|package_request| origin_of(package_request, name, &recipe.spans).1);
            if let Some(origin @ (Origin::Item(_) | Origin::Line)) = origin {
                let list = if let Origin::Item(list) = &origin { format!("{list} {name}") } else { name.to_owned() };
                let plain = Cause { reason: Reason::Added { what: list, now: String::new() }, ..cause.clone() };
                if let Some(other) = absences.unhidden(&plain, &origin, &said) {
                    *cause = Cause { reason: cause.reason.clone(), ..other };
                }
            }
            continue;
        }
        let Reason::NotAsked { lock, pass, what } = &cause.reason else { continue };
        let name = input_name(pass, what.trim_start_matches('-'));
        if let Some((place, origin)) = remembered(ids::LOCK, &name) {
            let input = format!("package {what}");
            let subject = Subject { name: &input, origin: &origin, place: None, was_place: Some(&place), lock };
            let by_another_hand = absences.cause(&input, &origin, &place, &said);
            let said = by_another_hand.unwrap_or_else(|| subject.cause(Change::Removed("")));
            *cause = Cause { reason: cause.reason.clone(), ..said };
        }
    }
}

/// A transaction that the lock lacks: what asks for it.
pub(crate) fn lacking_pass(package_request: &PackageRequest, recipe: &Recipe) -> Vec<Cause> {
    let asked = [
        (&package_request.pass.install, ""),
        (&package_request.pass.remove, "-"),
        (&package_request.pass.remove_after, "--"),
    ];
    let mut found = Vec::new();
    for (names, dashes) in asked {
        found.extend(names.iter().map(|name| lacking(package_request, name, dashes, recipe)));
    }
    // One field may bring many: it says so once.
    let mut fields = BTreeSet::new();
    let is_of_field = |cause: &Cause| cause.message.contains(" needs \"");
    found.retain(|cause| !is_of_field(cause) || fields.insert((cause.file.clone(), cause.line)));
    if found.is_empty() {
        let (lock, what) = (recipe.lock_name(), format!("the transaction {} is", package_request.name));
        found.push(Reason::NotLocked { lock, what }.cause(None));
    }
    found
}

/// A transaction that the lock has and the recipe does not want.
pub(crate) fn left_over_pass(locked: &LockedPass, recipe: &Recipe) -> Vec<Cause> {
    locked.install.iter().map(|name| left_over(&locked.name, name, "", recipe)).collect()
}

/// Which names come in another order.
pub(crate) fn reordered(now: &[String], was: &[String], package_request: &PackageRequest) -> Option<Cause> {
    let (now, was) = now.iter().zip(was).find(|(now, was)| now != was)?;
    let place = package_request.spans.get(now).map(Place::from);
    Some(Reason::Reordered { what: now.clone(), before: was.clone() }.cause(place.as_ref()))
}

/// Says of causes that come from the lock on which line of it they stand; `text` is the lock as it is now.
pub(crate) fn place_in_lock(causes: &mut [Cause], action: &str, text: &str) {
    // Only where something of the lock is reported.
    let places = std::cell::LazyCell::new(|| LockPlaces::of(text));
    for cause in causes {
        let (action, reason) = match &cause.reason {
            Reason::Upstream { action, leaf: Some(leaf) } => (action.clone(), &leaf.reason),
            reason => (action.to_owned(), reason),
        };
        if !cause.is_of_lock || cause.line.is_some() {
            continue;
        }
        cause.line = match reason {
            Reason::Added { what, .. } | Reason::Changed { what, .. } => line_of(&places, &action, what),
            _ => None,
        };
        let line = cause.line;
        if let Reason::Upstream { leaf: Some(leaf), .. } = &mut cause.reason {
            leaf.line = line;
        }
    }
}

/// The line of a package, a user, a group or the epoch; in the transaction of an action, if that has it.
fn line_of(places: &LockPlaces<'_>, action: &str, what: &str) -> Option<usize> {
    let pass = match action {
        ids::PAYLOAD => "kernel",
        _ => action.split_once('/').map_or(action, |(_, layer)| layer),
    };
    places.line(match what.split_once(' ') {
        Some(("user", name)) => LockItem::User(name),
        Some(("group", name)) => LockItem::Group(name),
        Some(("package", name)) => LockItem::Package { pass, name },
        _ if what == "epoch" => LockItem::Epoch,
        _ if what == "kernel" => LockItem::PackageLike { pass, start: "linux-image-" },
        _ => LockItem::Package { pass, name: what },
    })
}
