//! Default recipes of a distribution's media.

use std::path::Path;

use crate::osimage::{Release, release_of};
use crate::workspace::{Wanted, with_wanted, write_whole};
use files::TEMPORARY;
use packages::apt::architecture;
use recipe::{Arch, RECIPE_FILE};

use super::identify::Medium;
use super::{Family, MediaError, MediaReport};

const BASE: &str = "bash\nsystemd\n";
const RED_HAT: &str = "kernel\nopenssh-server\nopenssh-clients\niproute\niputils\nNetworkManager\nhostname\nchrony\ntar\ngzip\nvim-minimal\n";
const SUSE: &str = "kernel-default\nopenssh\niproute2\niputils\nwicked\nchrony\ntar\ngzip\nvim\n";
const DEBIAN: &str = "systemd-sysv\nudev\nopenssh-server\niproute2\niputils-ping\n";
const SERVICE_RED_HAT: &str = "nfs-utils\nhttpd\ntftp-server\nrsync\n";
const SERVICE_SUSE: &str = "nfs-kernel-server\napache2\ntftp\nrsync\n";
const SERVICE_DEBIAN: &str = "nfs-kernel-server\napache2\ntftpd-hpa\nrsync\n";
const EXLIST: &str = "./usr/share/man/*\n./usr/share/doc/*\n./usr/share/locale/*\n./boot/*\n";

fn pkglist(family: Family, profile: &str) -> String {
    let (more, service) = match family {
        Family::RedHat => (format!("{BASE}{RED_HAT}"), SERVICE_RED_HAT),
        Family::Suse => (format!("{BASE}{SUSE}"), SERVICE_SUSE),
        Family::Debian => (DEBIAN.to_owned(), SERVICE_DEBIAN),
    };
    let service = if profile == "service" { service } else { "" };
    format!("# Packages, one per line.\n{more}{service}")
}

/// The file with the key of a distribution's own packages, if the medium has one alone.
fn key_of(repository: &Path) -> Option<String> {
    let odd = ["beta", "test", "debug", "auxiliary"];
    let names =
        std::fs::read_dir(repository).ok()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut keys: Vec<String> = names
        .filter(|name| name.starts_with("RPM-GPG-KEY") && !odd.iter().any(|word| name.to_lowercase().contains(word)))
        .collect();
    keys.sort();
    // Names without a release are links to those that have one.
    if keys.len() > 1 && keys.iter().filter(|name| name.contains("release")).count() == 1 {
        keys.retain(|name| name.contains("release"));
    }
    if keys.len() == 1 { keys.pop() } else { None }
}

/// Components of a suite that the medium has packages of.
fn components(repository: &Path, suite: &str, arch: Arch) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(repository.join("dists").join(suite)) else { return Vec::new() };
    let binary = format!("binary-{}", architecture(arch.machine()).unwrap_or_default());
    let folders = entries.flatten().filter(|entry| entry.path().join(&binary).is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn repository_text(medium: &Medium, repository: &Path, release: &Release, arch: Arch) -> Result<String, String> {
    let uri = format!("uri = {}\n", quoted(&format!("file:{}", repository.display())));
    if medium.family != Family::Debian {
        let id = format!("[[repo]]\nid = {}\n{uri}", quoted(&medium.name));
        return Ok(match key_of(repository) {
            Some(key) => {
                let path = repository.join(key).display().to_string();
                format!(
                    "# The key that came with the media; compare it with the one that the distribution publishes.\n{id}signed-by = {}\n",
                    quoted(&path)
                )
            }
            None => format!(
                "# Packages are not checked against signatures, as with xCAT: name the keys with signed-by instead.\n{id}check-packages = false\n"
            ),
        });
    }
    let suite = release.release.as_str();
    let components = components(repository, suite, arch);
    if components.is_empty() {
        return Err(format!("it has no packages of the suite {suite}: a live or network image is not a mirror"));
    }
    let dists = repository.join("dists").join(suite);
    let is_signed = dists.join("InRelease").is_file() || dists.join("Release.gpg").is_file();
    let trusted = if is_signed { "" } else { "trusted = true   # its Release file is not signed\n" };
    let list: Vec<String> = components.iter().map(|one| quoted(one)).collect();
    Ok(format!("[[repo]]\n{uri}suites = [{}]\ncomponents = [{}]\n{trusted}", quoted(suite), list.join(", ")))
}

pub(super) fn image_name(medium: &Medium, profile: &str) -> String {
    format!("{}-{}-netboot-{profile}", medium.name, medium.arch)
}

pub(super) fn write(
    medium: &Medium,
    repository: &Path,
    into: &Path,
    dry_run: bool,
    report: &mut MediaReport,
) -> Result<(), MediaError> {
    let io = |path: &Path, error: std::io::Error| MediaError::Io { path: path.to_owned(), error };
    let Some(arch) = Arch::named(&medium.arch) else {
        report.notes.push(format!("no recipes for {}: images are built for {}", medium.arch, Arch::names()));
        return Ok(());
    };
    let release = match release_of(&medium.name) {
        Ok(release) => release,
        Err(problem) => {
            report.notes.push(format!("no recipes: {problem}"));
            return Ok(());
        }
    };
    let text = match repository_text(medium, repository, &release, arch) {
        Ok(text) => text,
        // What a dry run would bring is not there yet.
        Err(_) if dry_run => "[[repo]]\n".to_owned(),
        Err(problem) => {
            report.notes.push(format!("no recipes of {}: {problem}", medium.name));
            return Ok(());
        }
    };
    let mut wanted = Wanted::default();
    if !repository.starts_with(into) {
        wanted.allow.insert(format!("{}/**", repository.display()));
    }
    let own = |profile: &str| [format!("{profile}.pkglist"), format!("{profile}.exlist")];
    let directory_of = |profile: &str| into.join("images").join(image_name(medium, profile));
    let is_kept = |profile: &str| directory_of(profile).exists() && !is_half(&directory_of(profile), &own(profile));
    let profiles = ["compute", "service"];
    // First: where this is killed, the next import finds images that lack their recipes, and makes them.
    if !dry_run && !profiles.into_iter().all(is_kept) {
        with_wanted(into, &wanted).map_err(|error| io(into, std::io::Error::other(error.to_string())))?;
    }
    for profile in profiles {
        let name = image_name(medium, profile);
        let directory = directory_of(profile);
        let shown = format!("images/{name}/{RECIPE_FILE}");
        if is_kept(profile) {
            report.notes.push(format!("images/{name} already exists and is kept"));
            continue;
        }
        report.recipes.push(shown);
        if dry_run {
            continue;
        }
        let recipe = format!(
            "# From the media of {}, by `imgbuild import media`; edit it freely.\n[image]\nname = {}\ndistro = {}\nrelease = {}\n\
             arch = \"{}\"\n\n{text}\n[packages]\nlists = [\"{profile}.pkglist\"]\n\n\
             # [system]\n# authorized_keys = [\"keys/admin.pub\"]   # without a key no one can log in\n\n\
             [exclude]\nlists = [\"{profile}.exlist\"]\n\n[xcat]\nosvers = {}\nprofile = \"{profile}\"\n",
            medium.name,
            quoted(&name),
            quoted(release.distro.name()),
            quoted(&release.release),
            arch.machine(),
            quoted(&medium.name),
        );
        let [packages, excluded] = own(profile);
        let files = [
            (packages, pkglist(medium.family, profile)),
            (excluded, EXLIST.to_owned()),
            // Last: a directory without it is no image yet.
            (RECIPE_FILE.to_owned(), recipe),
        ];
        for (file, text) in files {
            let path = directory.join(file);
            write_whole(&path, text.as_bytes()).map_err(|error| io(&path, error))?;
        }
    }
    Ok(())
}

/// Whether a directory of an image is what a killed import left: no recipe, and nothing but lists of its own.
fn is_half(directory: &Path, own: &[String]) -> bool {
    let Ok(mut entries) = std::fs::read_dir(directory) else { return false };
    entries.all(|entry| {
        let name = entry.map(|entry| entry.file_name().to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with(TEMPORARY) || own.contains(&name)
    })
}
