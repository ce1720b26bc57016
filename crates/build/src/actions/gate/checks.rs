//! Gates after postinstall: what the script must not do behind the other stages' backs (D20, D24).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::StageError;
use crate::actions::pack::startable::{INITS, Obstacle};
use crate::bench::report::{Report, refuse_at};
use base::digest::Digest;
use base::source::{Finding, Severity};
use recipe::{Clause, Export, Family, ModulesFrom, Mount, Recipe, SyncedFile, SyncedKind};
use sandbox::helper::News;

use super::options;
use store::{Entry, Kind, LayerReader, Manifest, Merged};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ReadFileRequest {
    pub layers: Vec<Digest>,
    pub path: String,
}

/// Runs inside: a text file of the tree, if it is there.
pub(crate) fn read_file(request: ReadFileRequest, _: News<'_>) -> Result<Option<String>, String> {
    let bytes = LayerReader::open(&request.layers)?.read(&request.path)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Where settings of drivers are, besides the modules themselves.
const DRIVER_FILES: [&str; 4] = ["usr/lib/modules/", "usr/lib/firmware/", "etc/modprobe.d/", "etc/dracut.conf.d/"];

/// The same for synced files, whose places are known before anything runs: no drivers or their settings behind the
/// initrd's back, and files that have the declared mounts and exports.
/// Errors: [`StageError::Gate`] with the files or lines.
pub(crate) fn check_synced(
    recipe: &Recipe,
    text_of: &dyn Fn(&SyncedFile) -> Result<String, StageError>,
) -> Result<(), StageError> {
    if recipe.model.initrd.modules_from == ModulesFrom::Kernel {
        let place = |destination: &str| {
            let path = destination.trim_start_matches('/').to_owned();
            if path.starts_with("lib/") { format!("usr/{path}") } else { path }
        };
        let touched = |path: &String| options::is_read(path) || DRIVER_FILES.iter().any(|root| path.starts_with(root));
        let mut files = Vec::new();
        for synced in recipe.sync.iter().filter(|synced| synced.kind == SyncedKind::File) {
            let mut paths: Vec<String> = synced.destinations().iter().map(|path| place(path)).filter(touched).collect();
            if synced.clause == Clause::Copy && paths.iter().any(|path| options::is_read(path)) {
                let text = text_of(synced)?;
                let is_harmless = |path: &String| options::is_read(path) && options::is_harmless(path, &text);
                // Its other places, if one of them turns out to be a folder, are below one that nothing reads.
                if paths.iter().any(is_harmless) {
                    paths.retain(|path| options::is_read(path) && !is_harmless(path));
                }
            }
            files.append(&mut paths);
        }
        refuse(&files)?;
    }
    for (file, path) in [("fstab", "/etc/fstab"), ("exports", "/etc/exports")] {
        let replaces = |synced: &&SyncedFile| {
            let inside = synced.destination == "/etc" && synced.name_in_folder.as_deref() == Some(file);
            (synced.destination == path || inside) && synced.clause == Clause::Copy
        };
        for synced in recipe.sync.iter().filter(replaces) {
            let text = text_of(synced)?;
            if file == "fstab" {
                check_fstab(&synced.name, &text, recipe.model.boot.tmpfs.iter(), recipe.mounts.iter())?;
            } else {
                check_exports(&synced.name, &text, recipe.exports.iter())?;
            }
        }
    }
    Ok(())
}

/// Whether the initrd would have to know it.
pub(crate) fn is_setting(path: &str, entry: &Entry) -> bool {
    !entry.is_directory() && DRIVER_FILES[1..].iter().any(|root| path.starts_with(root))
}

pub(crate) const MODULES: &str = "usr/lib/modules";

/// Modules of a release that the image has otherwise than the kernel stage gave them, no matter who brought them.
fn modules_touched(payload: &Manifest, image: &Merged, release: &str) -> Vec<String> {
    let folder = format!("usr/lib/modules/{release}/");
    // depmod's own files follow from the modules.
    let is_module = |path: &str| path.starts_with(&folder) && path.contains(".ko");
    let content = |entry: &Entry| match &entry.kind {
        Kind::File { digest, .. } => Some(*digest),
        _ => None,
    };
    let now: BTreeMap<&String, _> =
        image.0.iter().filter(|(path, _)| is_module(path)).map(|(path, found)| (path, content(&found.entry))).collect();
    let was: BTreeMap<&String, _> =
        payload.0.iter().filter(|(path, _)| is_module(path)).map(|(path, entry)| (path, content(entry))).collect();
    let mut paths: BTreeSet<&String> = now.keys().chain(was.keys()).copied().collect();
    paths.retain(|path| now.get(*path) != was.get(*path));
    paths.into_iter().cloned().collect()
}

/// Modules that the image has for its kernel and the kernel stage did not bring, or brought otherwise: paths below the
/// release's folder. Links are left out: what they lead to is looked at for itself.
pub(crate) fn foreign_modules(payload: &Manifest, image: &Merged, release: &str) -> Vec<String> {
    let folder = format!("usr/lib/modules/{release}/");
    let is_file = |path: &String| image.0.get(path).is_some_and(|found| matches!(found.entry.kind, Kind::File { .. }));
    let touched = modules_touched(payload, image, release);
    touched
        .iter()
        .filter(|path| is_file(path))
        .filter_map(|path| path.strip_prefix(&folder))
        .map(str::to_owned)
        .collect()
}

/// What the image has for its kernel is what the initrd is made of; `settings` are those that the script changed.
/// Errors: [`StageError::Gate`] with the files.
pub(crate) fn check_modules(
    payload: &Manifest,
    image: &Merged,
    settings: Vec<String>,
    release: &str,
) -> Result<(), StageError> {
    let mut files = modules_touched(payload, image, release);
    files.extend(settings);
    refuse(&files)
}

fn refuse(files: &[String]) -> Result<(), StageError> {
    if files.is_empty() {
        return Ok(());
    }
    let shown: Vec<&str> = files.iter().take(8).map(String::as_str).collect();
    let more =
        if files.len() > shown.len() { format!(" and {} more", files.len() - shown.len()) } else { String::new() };
    Err(StageError::Gate {
        problem: format!("the image's drivers differ from those in the initrd: {}{more}", shown.join(", ")),
        help: "let the kernel stage install drivers that are packages: ‹[kernel] updates = [\"...\"]›; or let the initrd take them from the image: ‹[initrd] modules_from = \"rootfs\"› (every change of the image then rebuilds the initrd); firmware can also come from packages: ‹[kernel] firmware_packages = [\"...\"]›".to_owned(),
    })
}

/// Mounts that the recipe declares are still in fstab. `script` is what could have removed them.
///
/// # Errors
/// [`StageError::Gate`] with the mounts that are gone.
pub(crate) fn check_fstab<'a>(
    script: &str,
    fstab: &str,
    tmpfs: impl Iterator<Item = (&'a String, &'a String)>,
    mounts: impl Iterator<Item = &'a Mount>,
) -> Result<(), StageError> {
    let is_there = |path: &str, size: &str| {
        fstab.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.get(1) == Some(&path)
                && words.get(3).is_some_and(|options| options.split(',').any(|option| option == format!("size={size}")))
        })
    };
    let mut gone: Vec<String> =
        tmpfs.filter(|(path, size)| !is_there(path, size)).map(|(path, size)| format!("{path} with {size}")).collect();
    let lines = mounts.filter(|mount| !mount.is_in(fstab));
    gone.extend(lines.map(|mount| format!("`{}` ({})", mount.line, mount.span)));
    refuse_gone(script, "mounts", "/etc/fstab", "‹[boot]› tmpfs or ‹[system]› fstab", &gone)
}

/// The same for exports.
///
/// # Errors
/// [`StageError::Gate`] with the lines that are gone.
pub(crate) fn check_exports<'a>(
    script: &str,
    text: &str,
    exports: impl Iterator<Item = &'a Export>,
) -> Result<(), StageError> {
    let lines = exports.filter(|export| !export.is_in(text));
    let gone: Vec<String> = lines.map(|export| format!("`{}` ({})", export.line, export.span)).collect();
    refuse_gone(script, "exports", "/etc/exports", "‹[system]› exports", &gone)
}

fn refuse_gone(script: &str, what: &str, file: &str, table: &str, gone: &[String]) -> Result<(), StageError> {
    if gone.is_empty() {
        return Ok(());
    }
    Err(StageError::Gate {
        problem: format!("`{script}` removes {what} that the recipe declares from {file}: {}", gone.join(", ")),
        help: format!("let the script add its lines (>>) instead of replacing the file, or remove them from {table}"),
    })
}

/// A mount that a node cannot make: what is missing, and what to do.
fn of_mount(recipe: &Recipe, obstacle: &Obstacle) -> (String, String) {
    let Obstacle::Mount { point, kind, needs, left_out, package } = obstacle else { return Default::default() };
    let why = match left_out {
        Some(path) => format!("/{path} is left out by an exclude list"),
        None => "the image does not have it".to_owned(),
    };
    let problem = format!("/etc/fstab mounts {point} ({kind}), which needs {needs}: {why}");
    let optional = format!("for a node that may do without it, add the option `nofail` to the line of {point}");
    let help = match (left_out, package) {
        (Some(path), _) => format!("restore it with a line `+./{path}` in the exclude list; {optional}"),
        (None, Some((deb, rpm))) if needs.starts_with('/') => {
            let package = if recipe.model.image.distro.family() == Family::Debian { deb } else { rpm };
            format!("add the package `{package}`; {optional}")
        }
        _ => format!("add the package that provides it, or another kernel (‹[kernel]› package); {optional}"),
    };
    (problem, help)
}

fn fstab_line(recipe: &Recipe, point: &str) -> Option<base::source::Span> {
    let at = recipe.model.system.fstab.iter().position(|line| line.split_whitespace().nth(1) == Some(point))?;
    recipe.spans.nearest(&format!("system.fstab[{at}]")).cloned()
}

fn of_interface(obstacle: &Obstacle) -> (String, String) {
    let Obstacle::Interface { file, kind, module, left_out } = obstacle else { return Default::default() };
    match left_out {
        Some(path) => (
            format!(
                "/{file} makes an interface of kind {kind}, which needs the kernel's module `{module}`: /{path} is left out by an exclude list"
            ),
            format!("restore it with a line `+./{path}` in the exclude list"),
        ),
        None => (
            format!(
                "/{file} makes an interface of kind {kind}, which needs the kernel's module `{module}`: the image does not have it"
            ),
            "another kernel (‹[kernel]› package) or the package that provides the module has it; or remove the setting"
                .to_owned(),
        ),
    }
}

/// A mount or an interface that a node starts without.
pub(crate) fn does_without(recipe: &Recipe, obstacle: &Obstacle) -> Finding {
    let (code, (problem, help)) = match obstacle {
        Obstacle::Interface { .. } => ("pack::interface", of_interface(obstacle)),
        Obstacle::Unit { .. } => ("pack::unit", of_unit(recipe, obstacle)),
        _ => ("pack::mount", of_mount(recipe, obstacle)),
    };
    let mut finding = Finding::nowhere(Severity::Warning, code, problem).help(help);
    if let Obstacle::Mount { point, .. } = obstacle {
        finding.span = fstab_line(recipe, point);
    }
    if let Obstacle::Unit { left_out, .. } = obstacle {
        finding.span = pattern_of(recipe, left_out).map(|pattern| pattern.span.clone());
    }
    finding
}

/// The pattern of an exclude list that leaves out a path.
fn pattern_of<'a>(recipe: &'a Recipe, path: &str) -> Option<&'a xcat::Pattern> {
    let name = format!("./{path}");
    recipe.exclude.exclude.iter().find(|pattern| xcat::matches(&pattern.text, &name))
}

fn leaves_out(recipe: &Recipe, path: &str) -> String {
    match pattern_of(recipe, path) {
        Some(pattern) => format!("`{}` ({}) leaves out /{path}", pattern.text, pattern.span),
        None => format!("/{path} is left out"),
    }
}

fn of_unit(recipe: &Recipe, obstacle: &Obstacle) -> (String, String) {
    let Obstacle::Unit { unit, left_out } = obstacle else { return Default::default() };
    let name = unit.trim_end_matches(".service");
    (
        format!("`{unit}` is enabled and cannot start: {}", leaves_out(recipe, left_out)),
        format!(
            "narrow that pattern, restore the file with a line `+./{left_out}`, or disable the unit: ‹[services] disable = [\"{name}\"]›"
        ),
    )
}

/// An image that no node could start: which line of an exclude list leaves out what it needs, or which list lacks it.
pub(crate) fn cannot_start(report: &dyn Report, recipe: &Recipe, obstacle: &Obstacle) -> StageError {
    let line_of = |path: &String| pattern_of(recipe, path);
    let left_out = |path: &String| leaves_out(recipe, path);
    let keep = |path: &String| format!("narrow that pattern, or restore the file with a line `+./{path}`");
    let list = recipe.files.iter().find(|file| file.name.contains("pkglist"));
    let list = list.map_or_else(|| "‹[packages]› install".to_owned(), |file| format!("`{}`", file.name));
    let mut span = recipe.spans.nearest("packages").cloned();
    if let Obstacle::Lacks { left_out: Some(path), .. }
    | Obstacle::NoShell { left_out: Some(path), .. }
    | Obstacle::NoAccounts(path) = obstacle
    {
        span = line_of(path).map(|pattern| pattern.span.clone());
    } else if let Obstacle::NoInit(paths) = obstacle
        && let Some(path) = paths.first()
    {
        span = line_of(path).map(|pattern| pattern.span.clone());
    }
    if let Obstacle::Mount { point, .. } = obstacle {
        let (problem, help) = of_mount(recipe, obstacle);
        return refuse_at(report, fstab_line(recipe, point), problem, help);
    }
    let (problem, help) = match obstacle {
        Obstacle::NoZone(zone, path, near) => {
            let span = recipe.spans.nearest("system.timezone").cloned();
            let (why, help) = match path {
                Some(path) => (left_out(path), keep(path)),
                None if !near.is_empty() => (
                    "/usr/share/zoneinfo does not have it".to_owned(),
                    format!("did you mean {}? `timedatectl list-timezones` prints all", near.join(", ")),
                ),
                None => (
                    "/usr/share/zoneinfo does not have it".to_owned(),
                    format!(
                        "add the package `tzdata` to {list}, or correct the name: `timedatectl list-timezones` prints all"
                    ),
                ),
            };
            return refuse_at(report, span, format!("the image has no time zone `{zone}`: {why}"), help);
        }
        Obstacle::NoLocale(locale, Some(path)) => {
            let span = recipe.spans.nearest("system.locale").cloned();
            let problem = format!("the image does not provide the locale `{locale}`: {}", left_out(path));
            return refuse_at(report, span, problem, keep(path));
        }
        Obstacle::NoLocale(locale, None) => {
            let language = locale.split(['_', '.', '@']).next().unwrap_or_default();
            let help = match recipe.model.image.distro.family() {
                Family::Debian => format!(
                    "add the package `locales-all` to {list}; or `locales`, and create it in the postinstall script: chroot \"$1\" localedef -i {} -f UTF-8 {locale}",
                    locale.split('.').next().unwrap_or_default()
                ),
                Family::RedHat => format!("add the package `glibc-langpack-{language}` to {list}"),
                Family::Suse => format!("add the package `glibc-locale` to {list}"),
            };
            let span = recipe.spans.nearest("system.locale").cloned();
            return refuse_at(report, span, format!("the image does not provide the locale `{locale}`"), help);
        }
        // Reported above.
        Obstacle::Mount { .. } => of_mount(recipe, obstacle),
        // A node starts without.
        Obstacle::Interface { .. } => of_interface(obstacle),
        Obstacle::Unit { .. } => of_unit(recipe, obstacle),
        Obstacle::NoAccounts(path) => (format!("it has no accounts: {}", left_out(path)), keep(path)),
        Obstacle::NoInit(paths) => match paths.first() {
            Some(path) => (format!("it has no init: {}", left_out(path)), keep(path)),
            None => {
                let package = match recipe.model.image.distro.family() {
                    Family::Debian => "systemd-sysv",
                    Family::RedHat => "systemd",
                    Family::Suse => "systemd-sysvinit",
                };
                let tried = INITS.map(|path| format!("/{path}")).join(", ");
                (
                    format!("it has no init that can be executed (looked for {tried})"),
                    format!("add the package `{package}` to {list}, or let the postinstall script install an init"),
                )
            }
        },
        Obstacle::Lacks { program, needs, left_out: Some(path) } => {
            (format!("/{program} needs {needs}, and {}", left_out(path)), keep(path))
        }
        Obstacle::Lacks { program, needs, left_out: None } => (
            format!("/{program} needs {needs}, which the image does not have"),
            format!("add the package that provides it to {list}; `imgbuild shell` shows the image as it is"),
        ),
        Obstacle::NoShell { shell, left_out: Some(path) } => {
            (format!("root's shell is {shell}, and {}", left_out(path)), keep(path))
        }
        Obstacle::NoShell { shell, left_out: None } => (
            format!("root's shell is {shell}, which the image does not have"),
            format!("add its package to {list}, or give root another shell in /etc/passwd"),
        ),
    };
    refuse_at(report, span, format!("no node could boot the image: {problem}"), help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_or_setting_that_the_initrd_lacks_is_named() {
        let file = |text: &str| Entry {
            kind: Kind::File { size: 1, digest: Digest::of(text.as_bytes()) },
            ..Entry::whiteout()
        };
        let mut payload = Manifest::default();
        payload.0.insert("usr/lib/modules/6.1/kernel/a.ko".into(), file("a"));
        let mut image = payload.clone();
        image.0.insert("usr/lib/modules/6.1/modules.dep".into(), file("dep"));
        let check = |image: &Manifest, settings: &[&str]| {
            let settings = settings.iter().map(|path| (*path).to_owned()).collect();
            check_modules(&payload, &store::merge([image.clone()]), settings, "6.1")
        };
        assert!(check(&image, &[]).is_ok());
        image.0.insert("usr/lib/modules/6.1/updates/b.ko.xz".into(), file("b"));
        assert!(check(&image, &[]).unwrap_err().to_string().contains("updates/b.ko.xz"));
        image.0.insert("usr/lib/modules/6.1/kernel/a.ko".into(), file("other"));
        assert!(check(&image, &[]).unwrap_err().to_string().contains("kernel/a.ko"));
        let setting = "etc/modprobe.d/x.conf";
        assert!(is_setting(setting, &file("x")) && !is_setting("etc/modprobe.d", &file("x")));
        assert!(check(&payload, &[setting]).unwrap_err().to_string().contains(setting));
    }

    #[test]
    fn a_mount_that_is_gone_is_named() {
        let declared = std::collections::BTreeMap::from([("/tmp".to_owned(), "50m".to_owned())]);
        assert!(check_fstab("x", "tmpfs /tmp tmpfs size=50m,nodev 0 0\n", declared.iter(), [].iter()).is_ok());
        assert!(check_fstab("x", "tmpfs /tmp tmpfs size=10m 0 0\n", declared.iter(), [].iter()).is_err());
    }
}
