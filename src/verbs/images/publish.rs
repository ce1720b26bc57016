//! `imgbuild publish`: the published image as a tree that a server of NFS exports, or as a provisioner takes it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::provision::{How, publish_all};
use crate::Exit;
use crate::output::render;
use crate::published::image_and_out;
use crate::setup::published_image;
use build::unpack_published;
use publish::Consent;
use recipe::{Destination, NotADestination};
use sandbox::SandboxError;

/// Where an image is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishTarget {
    /// A directory that gets a tree.
    Nfs(PathBuf),
    Provisioner(Destination),
}

impl FromStr for PublishTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("nfs", path)) if path.starts_with('/') && path.len() > 1 => Ok(Self::Nfs(PathBuf::from(path))),
            Some(("nfs", path)) => Err(format!("`{path}` is not an absolute path; write nfs:/DIRECTORY")),
            Some(("xcat", _)) => Err("xcat:DIR is published by `imgbuild build --publish xcat:DIR`".to_owned()),
            Some(_) => text.parse().map(Self::Provisioner).map_err(|error: NotADestination| error.to_string()),
            None => Err("write KIND:WHERE, for instance tree:/srv/www/compute or nfs:/srv/nfs/compute".to_owned()),
        }
    }
}

/// Arguments of `publish`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// nfs:DIR: the image as a tree in DIR/rootimg, for nodes whose root is mounted over NFS; or a provisioner, as for `build --publish`:
    /// warewulf:DIR, confluent:DIR, tree:DIR, systemd:DIR, openchami:URL, grendel:FILE, grendel:URL, cobbler:URL
    #[arg(value_name = "KIND:WHERE")]
    pub target: PublishTarget,
    /// The image, if the workspace has several
    #[arg(value_name = "IMAGE")]
    pub image: Option<String>,
    /// Where artefacts are [default: `out` next to the recipe]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Replace files that have the same names and that imgbuild did not write
    #[arg(long)]
    pub replace: bool,
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    let (name, out) = image_and_out(arguments, own.image.as_deref(), own.out.as_deref())?;
    let name = &name;
    let (directory, info) = match published_image(&out, name)? {
        Some(found) => found,
        None => {
            render::say(&format!("nothing is published in {}: run `imgbuild build` first", out.join(name).display()));
            return Err(Exit::Input);
        }
    };
    let target = match &own.target {
        PublishTarget::Nfs(_) if own.dry_run || own.replace => {
            render::say(
                "error: --dry-run and --replace are for provisioners: nfs:DIR is always replaced as a whole, by one rename",
            );
            return Err(Exit::Usage);
        }
        PublishTarget::Nfs(target) => target,
        PublishTarget::Provisioner(destination) => {
            let consent = if own.replace { Consent::ReplaceForeign } else { Consent::KeepForeign };
            let how = How { consent, is_dry: own.dry_run, is_quiet: arguments.quiet };
            publish_all(arguments, (&directory, &info), std::slice::from_ref(destination), how)?;
            return Ok(Exit::Done);
        }
    };
    if !rustix::process::geteuid().is_root() {
        render::say(
            "error: only root can publish a tree for NFS\n  help: its files belong to root and to users of the image: run this command as root (the build needs no root)",
        );
        return Err(Exit::Machine);
    }
    let forms = info.forms();
    let Some(rootimg) = forms.iter().find(|form| form.starts_with("rootimg.cpio") || form.starts_with("rootimg.tar"))
    else {
        render::say(&format!(
            "error: {} cannot be unpacked\n  help: add a form that can to the recipe: [[pack.also]] archive = \"cpio\"",
            forms.join(", ")
        ));
        return Err(Exit::Input);
    };
    Ok(match write(target, &directory, rootimg) {
        Ok(()) => {
            let shown = target.display();
            render::say(&format!("published {name} in {shown}/rootimg"));
            render::say(&format!(
                "  export it to the nodes, for instance in /etc/exports: {shown} *(ro,no_root_squash,no_subtree_check)"
            ));
            render::say(&format!(
                "  nodes mount it with root=nfs:SERVER:{shown}/rootimg:ro ([statelite] root = \"SERVER:{shown}\" in the recipe)"
            ));
            Exit::Done
        }
        Err(Problem::Sandbox(error)) if !matches!(error, SandboxError::Operation { .. }) => {
            render::refused(Exit::Machine, error)
        }
        Err(problem) => {
            render::say(&format!("error: {problem}"));
            Exit::Machine
        }
    })
}

/// How many trees are kept besides: nodes run from them until they start again.
const KEPT: usize = 2;

/// Why a tree was not published.
#[derive(Debug)]
enum Problem {
    Text(String),
    Sandbox(SandboxError),
}

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Sandbox(error) => error.fmt(f),
        }
    }
}

/// Writes the tree aside, and puts it in place by one rename; the one before keeps its files under another name.
fn write(target: &Path, published: &Path, rootimg: &str) -> Result<(), Problem> {
    let said = |path: &Path| {
        let path = path.display().to_string();
        move |error: std::io::Error| format!("`{path}`: {error}")
    };
    std::fs::create_dir_all(target).map_err(said(target))?;
    let _held = store::FileLock::take(&target.join(".imgbuild-publish.lock")).map_err(|error| error.to_string())?;
    // What a killed one left.
    for entry in std::fs::read_dir(target).map_err(said(target))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(".new-") {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    // In a directory of root's, so that no user of this machine is in the tree while it is written, whatever owner and mode it has.
    let held = tempfile::Builder::new().prefix(".new-").tempdir_in(target).map_err(said(target))?;
    let aside = held.path().join("rootimg");
    std::fs::create_dir(&aside).map_err(said(&aside))?;
    unpack_published(published, rootimg, &aside).map_err(Problem::Sandbox)?;
    std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(0o755)).map_err(said(&aside))?;
    rustix::fs::sync();
    let place = target.join("rootimg");
    match place.symlink_metadata() {
        Err(_) => std::fs::rename(&aside, &place).map_err(said(&place))?,
        Ok(found) if !found.is_dir() => {
            return Err(format!("`{}` is not a directory that imgbuild made: move it away", place.display()).into());
        }
        Ok(_) => {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            rustix::fs::renameat_with(rustix::fs::CWD, &aside, rustix::fs::CWD, &place, flags)
                .map_err(|error| format!("`{}` cannot be replaced: {error}", place.display()))?;
            let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let before = target.join(format!(".before-{:020}", seconds.as_nanos()));
            std::fs::rename(&aside, &before).map_err(said(&before))?;
        }
    }
    let entries = std::fs::read_dir(target).map_err(said(target))?.flatten();
    let mut before: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    before.retain(|name| name.starts_with(".before-"));
    before.sort();
    for old in before.iter().rev().skip(KEPT) {
        let _ = std::fs::remove_dir_all(target.join(old));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_absolute_directory() {
        assert_eq!("nfs:/srv/a".parse(), Ok(PublishTarget::Nfs("/srv/a".into())));
        assert!(matches!("tree:/srv/a".parse(), Ok(PublishTarget::Provisioner(_))));
        for text in ["nfs:srv", "nfs:/", "/srv", "xcat:/a", "nfs:", "tree:srv", "elsewhere:/srv"] {
            assert!(text.parse::<PublishTarget>().is_err(), "{text}");
        }
    }
}
