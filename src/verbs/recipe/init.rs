//! `imgbuild init`: writes a commented recipe.

use std::path::{Path, PathBuf};

use crate::Exit;
use crate::output::render;
use crate::setup::print_findings;
use base::source::Severity;
use files::{Aside, Replaced};
use recipe::{
    Distro, Family, KDL_RECIPE_FILE, RECIPE_FILE, Workspace, between, check_release_name, known_releases,
    official_releases, official_repositories, release_named, schema_text,
};

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Name of the image, and of its directory unless that is empty or has this name; or a path to it [default: the directory's]
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Distribution [default: the one that has the release]
    #[arg(long, value_name = "NAME", value_parser = distro)]
    pub distro: Option<Distro>,
    /// Release: by name for Debian and Ubuntu, by number for others [default: bookworm; for others the newest known]
    #[arg(long)]
    pub release: Option<String>,
    /// Format of the recipe
    #[arg(long, value_name = "FORMAT", default_value = "toml")]
    pub format: super::convert::To,
}

const PKGLIST: &str = "# Packages, one per line. Kernels belong to `kernel` of the recipe.\nsystemd-sysv\nudev\nopenssh-server\niproute2\niputils-ping\n";

const EXLIST: &str = "# What is left out of the packed image. Patterns are matched against `./path`; `*` crosses `/`;\n# `./dir*` takes a folder and its content, `+./path` includes something again.\n./usr/share/man/*\n./usr/share/doc/*\n./usr/share/locale/*\n./boot/*\n";

const RPM_PKGLIST: &str = "# Packages, one per line; `@group`, `@module:stream`. Kernels belong to `kernel` of the recipe.\nbash\nsystemd\nopenssh-server\nNetworkManager\niproute\niputils\nhostname\n";

const SUSE_PKGLIST: &str = "# Packages, one per line; `@group` is a pattern. Kernels belong to `kernel` of the recipe.\nbash\nsystemd\nopenssh\nwicked\niproute2\niputils\nhostname\n";

pub(crate) fn distro(text: &str) -> Result<Distro, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|_| "one of debian, ubuntu, rhel, rocky, alma, centos, oracle, fedora, sles, opensuse".to_owned())
}

struct Start {
    distro: Distro,
    release: String,
    kernel: &'static str,
    pkglist: &'static str,
    /// The lines above [[repo]], and its fields: in TOML, in KDL.
    above: String,
    repo: &'static str,
}

impl Start {
    /// Finds out which.
    /// Errors: A text, where the release has to be said.
    fn of(distro: Option<Distro>, release: Option<&str>) -> Result<Self, String> {
        let is_of = |distro: Distro, release: &str| {
            known_releases(distro).contains(&release) || release_named(distro, release).is_some()
        };
        let is_ubuntu =
            release.is_some_and(|release| is_of(Distro::Ubuntu, release) && !is_of(Distro::Debian, release));
        let distro = distro.unwrap_or(if is_ubuntu { Distro::Ubuntu } else { Distro::Debian });
        let newest = match distro {
            Distro::Debian => Some("bookworm"),
            Distro::Ubuntu => known_releases(distro).last().copied(),
            _ => official_releases(distro).last().copied(),
        };
        let Some(release) = release.or(newest) else {
            return Err(format!("--release is required for {}", distro.title()));
        };
        // Archives know releases by their names.
        let release = release_named(distro, release).unwrap_or(release);
        let is_official = official_repositories(distro, release).iter().any(|one| one.is_default);
        let name = distro.name();
        let (kernel, pkglist) = match distro.family() {
            Family::Debian if distro == Distro::Ubuntu => ("linux-image-generic", PKGLIST),
            Family::Debian => ("linux-image-amd64", PKGLIST),
            Family::RedHat => ("kernel", RPM_PKGLIST),
            Family::Suse => ("kernel-default", SUSE_PKGLIST),
        };
        let (above, repo) = match distro.family() {
            Family::Debian => (
                format!(
                    "Where packages come from. `host` is the mirror of this machine's apt; or name one:\nuri = \"http://mirror.example/{name}\", suites = [\"{release}\"], components = [\"main\"], signed-by = \"keys/site.gpg\""
                ),
                "host",
            ),
            _ if is_official => (
                format!(
                    "Where packages come from: the distribution's own repositories, its keys are built in. A mirror of your own:\nuri = \"http://mirror.example/{name}\"; more of its repositories: components = [\"+epel\"]"
                ),
                "distribution",
            ),
            _ => (
                format!(
                    "Where packages come from. `host` uses this machine's subscriptions; or name your own mirror:\nuri = \"http://mirror.example/{name}/$releasever/BaseOS/$basearch/os\", signed-by = \"keys/RPM-GPG-KEY\""
                ),
                "host",
            ),
        };
        Ok(Self { distro, release: release.to_owned(), kernel, pkglist, above, repo })
    }

    /// The lines above [[repo]] as comments.
    fn above(&self, mark: &str) -> String {
        self.above.lines().map(|line| format!("{mark} {line}\n")).collect()
    }
}

/// The schema of recipes beside them, for editors: taplo and its kin read `#:schema` in the first line.
const SCHEMA: &str = ".image.schema.json";

fn recipe_text(name: &str, start: &Start, has_key: bool, schema: &Path) -> String {
    let schema = schema.display();
    let (distro, release, kernel, repo) = (start.distro.name(), &start.release, start.kernel, start.repo);
    let above = start.above("#");
    let files = if start.distro.family() == Family::Debian { ".deb" } else { ".rpm" };
    let key = if has_key {
        "authorized_keys = [\"keys/admin.pub\"]"
    } else {
        "# authorized_keys = [\"keys/admin.pub\"]   # without a key no one can log in"
    };
    format!(
        r#"#:schema {schema}
# An image that diskless nodes boot from. `imgbuild plan` shows what a build would do, and why.
[image]
name = "{name}"
distro = "{distro}"
release = "{release}"
arch = "x86_64"

{above}[[repo]]
source = "{repo}"

[packages]
lists = ["{name}.pkglist"]       # xCAT pkglists, in order
install = []                     # more packages

# A directory of your own {files} files; its sub-directories are repositories too.
# [otherpkgs]
# dir = "otherpkgs"
# lists = ["{name}.otherpkgs.pkglist"]

[kernel]
package = "{kernel}"
drivers = []                     # edits of the default list of network drivers: "+ice", "-be2net"; or a whole list

[system]
hostname = "dhcp"                # or the name of every node
{key}

# A script that changes the image after all packages are in. It gets xCAT's arguments and IMG_* variables,
# starts in the recipe's directory, and can read only its inputs.
# [postinstall]
# script = "{name}.postinstall"
# inputs = ["site/**"]

# Which units start on nodes, whatever their packages chose.
# [services]
# disable = ["isc-dhcp-server"]
# enable = []
# mask = []

# Files to copy into the image: lines `source -> /destination`.
# [sync]
# lists = ["{name}.synclist"]

[exclude]
lists = ["{name}.exlist"]

[boot]
cmdline = ["console=ttyS0"]
tmpfs = {{ "/tmp" = "50m" }}
"#
    )
}

fn kdl_text(name: &str, start: &Start, has_key: bool) -> String {
    let (distro, release, kernel, repo) = (start.distro.name(), &start.release, start.kernel, start.repo);
    // Lists are items in a row here.
    let above = start
        .above("//")
        .replace(" = [", " ")
        .replace(" = ", "=")
        .replace("], ", " ")
        .replace(']', "")
        .replace(", ", " ");
    let files = if start.distro.family() == Family::Debian { ".deb" } else { ".rpm" };
    let key = if has_key {
        "authorized_keys \"keys/admin.pub\""
    } else {
        "// authorized_keys \"keys/admin.pub\"   // without a key no one can log in"
    };
    format!(
        r#"// An image that diskless nodes boot from. `imgbuild plan` shows what a build would do, and why.
image name="{name}" distro="{distro}" release="{release}" arch="x86_64"

{above}repo source="{repo}"

packages {{
    lists "{name}.pkglist"       // xCAT pkglists, in order
    install                      // more packages
}}

// A directory of your own {files} files; its sub-directories are repositories too.
// otherpkgs "otherpkgs" {{ lists "{name}.otherpkgs.pkglist" }}

kernel package="{kernel}" {{
    drivers                      // edits of the default list of network drivers: "+ice" "-be2net"; or a whole list
}}

system {{
    hostname "dhcp"              // or the name of every node
    {key}
}}

// A script that changes the image after all packages are in. It gets xCAT's arguments and IMG_* variables,
// starts in the recipe's directory, and can read only its inputs.
// postinstall "{name}.postinstall" {{ inputs "site/**" }}

// Which units start on nodes, whatever their packages chose.
// services {{
//     disable "isc-dhcp-server"
//     enable
//     mask
// }}

// Files to copy into the image: lines `source -> /destination`.
// sync {{ lists "{name}.synclist" }}

exclude {{ lists "{name}.exlist" }}

boot {{
    cmdline "console=ttyS0"
    tmpfs {{ "/tmp" "50m" }}
}}
"#
    )
}

/// The files beside the recipe, which comes last.
fn files_beside(name: &str, pkglist: &str, key: Option<&String>) -> Vec<(String, String)> {
    let mut files = vec![
        (format!("{name}.pkglist"), pkglist.to_owned()),
        (format!("{name}.exlist"), EXLIST.to_owned()),
        (".gitignore".to_owned(), "/out\n".to_owned()),
    ];
    files.extend(key.map(|key| ("keys/admin.pub".to_owned(), key.clone())));
    files
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    let (directory, name) = match own.name.as_deref().and_then(|name| name.trim_end_matches('/').rsplit_once('/')) {
        // A path says where.
        Some((_, name)) => (arguments.directory.join(own.name.as_deref().unwrap_or_default()), Some(name.to_owned())),
        None => match place_of(&arguments.directory, own) {
            Ok(directory) => (directory, own.name.as_ref().map(|name| name.trim_end_matches('/').to_owned())),
            Err(exit) => return Err(exit),
        },
    };
    let directory = &directory;
    let from_directory = || {
        let full = std::path::absolute(directory).ok()?;
        Some(full.file_name()?.to_str()?.to_owned())
    };
    let name = name.or_else(from_directory).unwrap_or_else(|| "image".to_owned());
    let good = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    let start = match Start::of(own.distro, own.release.as_deref()) {
        Ok(start) => start,
        Err(problem) => {
            render::say(&format!("error: {problem}"));
            return Err(Exit::Usage);
        }
    };
    let problem = check_release_name(start.distro, &start.release, None);
    if let Some(problem) = problem.as_ref().filter(|problem| problem.severity == Severity::Error) {
        print_findings(std::slice::from_ref(problem), 0);
        return Err(Exit::Usage);
    }
    if !good(&name) || !good(&start.release) {
        render::say(&format!(
            "`{name}` is not a valid image name: use letters, digits, `.`, `_` and `-`, for instance `imgbuild init compute`"
        ));
        return Err(Exit::Usage);
    }
    let key = public_key();
    let mut files = files_beside(&name, start.pkglist, key.as_ref());
    let schema = schema_from(&arguments.directory, directory);
    if own.format == super::convert::To::Toml {
        files.push((schema.display().to_string(), schema_text()));
    }
    let recipe = match own.format {
        super::convert::To::Toml => (RECIPE_FILE.to_owned(), recipe_text(&name, &start, key.is_some(), &schema)),
        super::convert::To::Kdl => (KDL_RECIPE_FILE.to_owned(), kdl_text(&name, &start, key.is_some())),
    };
    files.push(recipe);
    if let Some(taken) = [RECIPE_FILE, KDL_RECIPE_FILE].iter().find(|file| directory.join(file).exists()) {
        let taken = directory.join(taken);
        let other = own.name.as_deref().filter(|other| !other.contains('/') && !is_called_so(directory, other));
        let help = other.map(|other| {
            format!("\n  help: to put another image into a directory of its own: imgbuild init ./{other}")
        });
        let help = help.unwrap_or_default();
        render::say(&format!("`{}` already exists; nothing was written{help}", taken.display()));
        return Err(Exit::Input);
    }
    // What an ended run wrote is taken as it is.
    let is_other = |file: &str, text: &str| {
        let path = directory.join(file);
        path.exists() && !std::fs::read(path).is_ok_and(|bytes| bytes == text.as_bytes())
    };
    let is_shared = |file: &str| file == ".gitignore" || file.ends_with(SCHEMA);
    if let Some((taken, _)) = files.iter().find(|(file, text)| !is_shared(file) && is_other(file, text)) {
        render::say(&format!("`{}` already exists; nothing was written", directory.join(taken).display()));
        return Err(Exit::Input);
    }
    let mut made = Replaced::default();
    for (file, text) in &files {
        if let Err(error) = write(&directory.join(file), text, &mut made) {
            render::say(&format!("cannot write `{}`: {error}", directory.join(file).display()));
            return Err(Exit::Machine);
        }
    }
    made.keep();
    let written: Vec<&str> = files.iter().map(|(file, _)| file.as_str()).collect();
    let inside = match *directory == arguments.directory {
        true => String::new(),
        false => format!(" in {}", directory.strip_prefix(".").unwrap_or(directory).display()),
    };
    render::say(&format!("wrote {}{inside}", written.join(", ")));
    if inside.is_empty() && own.name.is_some() && !is_called_so(directory, &name) {
        render::say(&format!(
            "they are in this directory itself, which was empty; for a directory of that name: imgbuild init ./{name}"
        ));
    }
    if key.is_none() {
        let place = if own.format == super::convert::To::Kdl { "`system`" } else { "[system]" };
        render::say(&format!(
            "no public key was found in ~/.ssh: add one to {place} authorized_keys, or no one can log in"
        ));
    }
    if let Some(problem) = problem {
        print_findings(&[problem], 0);
    }
    let is_in_workspace = Workspace::above(directory).is_ok_and(|found| found.is_some());
    let first = match *directory == arguments.directory || is_in_workspace {
        true => String::new(),
        false => format!("cd {}, ", directory.strip_prefix(".").unwrap_or(directory).display()),
    };
    render::say(&format!("next: {first}imgbuild build, then imgbuild boot --ssh"));
    Ok(Exit::Done)
}

/// Where the new recipe goes: the directory itself, but in a workspace's root a folder where its globs look for images, and
/// in such a folder one below it.
fn place_of(directory: &Path, own: &Arguments) -> Result<PathBuf, Exit> {
    let name = own.name.as_deref();
    let workspace = match Workspace::above(directory) {
        Ok(workspace) => workspace,
        Err(findings) => {
            print_findings(&findings, 0);
            return Err(Exit::Input);
        }
    };
    let folders = |workspace: &Workspace| -> Vec<String> {
        let patterns = workspace.model.images.iter().filter(|pattern| !pattern.starts_with('!'));
        let plain = patterns.filter_map(|pattern| pattern.strip_suffix("/*"));
        plain.filter(|folder| !folder.contains(['*', '?', '[', '{'])).map(str::to_owned).collect()
    };
    if let (Some(workspace), Ok(real)) = (&workspace, directory.canonicalize())
        && folders(workspace).iter().any(|folder| workspace.root.join(folder) == real)
    {
        let Some(name) = name else {
            render::say("error: name the new image: `imgbuild init NAME`");
            return Err(Exit::Usage);
        };
        return Ok(directory.join(name));
    }
    let is_root = |workspace: &Workspace| directory.canonicalize().is_ok_and(|real| real == workspace.root);
    let Some(workspace) = workspace.filter(|workspace| is_root(workspace) && !workspace.model.images.is_empty()) else {
        return Ok(match name {
            Some(name) if !is_its_own(directory, name) && !is_begun(directory, name, own) => directory.join(name),
            _ => directory.to_owned(),
        });
    };
    let Some(name) = name else {
        render::say("error: name the new image: `imgbuild init NAME`");
        return Err(Exit::Usage);
    };
    match folders(&workspace).first() {
        Some(folder) => Ok(directory.join(folder).join(name)),
        None => {
            render::say(
                "error: no pattern of imgbuild.toml sets where new images go: name the directory with `-C DIR`",
            );
            Err(Exit::Input)
        }
    }
}

/// Path of the schema from the recipe's directory: in the workspace's root, or next to the recipe.
fn schema_from(given: &Path, directory: &Path) -> PathBuf {
    let start = given.canonicalize().unwrap_or_else(|_| given.to_owned());
    let workspace = Workspace::above(&start).ok().flatten();
    let full = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let full = directory.strip_prefix(given).map_or(full, |below| start.join(below));
    let root = workspace.map(|workspace| workspace.root).filter(|root| full.starts_with(root));
    root.map_or_else(|| PathBuf::from(SCHEMA), |root| between(&full, &root.join(SCHEMA)))
}

fn is_called_so(directory: &Path, name: &str) -> bool {
    std::path::absolute(directory).is_ok_and(|full| full.file_name().is_some_and(|own| own == name))
}

/// Whether a directory is meant for one image alone: it is called so, has a recipe, or nothing that anybody sees.
fn is_its_own(directory: &Path, name: &str) -> bool {
    let has = |file: &str| directory.join(file).exists();
    let is_hidden = |entry: std::fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(b".");
    let is_empty = || match std::fs::read_dir(directory) {
        Ok(mut entries) => entries.all(|entry| entry.is_ok_and(is_hidden)),
        Err(_) => true,
    };
    is_called_so(directory, name) || has(RECIPE_FILE) || has(KDL_RECIPE_FILE) || is_empty()
}

/// Whether a directory has nothing but what an ended run for the same image wrote into it.
fn is_begun(directory: &Path, name: &str, own: &Arguments) -> bool {
    let Ok(start) = Start::of(own.distro, own.release.as_deref()) else { return false };
    let files = files_beside(name, start.pkglist, public_key().as_ref());
    let walk = walkdir::WalkDir::new(directory).min_depth(1).max_depth(3).into_iter();
    let mut walk = walk.filter_entry(|entry| !entry.file_name().as_encoded_bytes().starts_with(b".")).flatten();
    let is_ours = |entry: walkdir::DirEntry| {
        let below = entry.path().strip_prefix(directory).unwrap_or(entry.path());
        let is_file = |(file, text): &(String, String)| {
            below == Path::new(file) && std::fs::read(entry.path()).is_ok_and(|bytes| bytes == text.as_bytes())
        };
        entry.file_type().is_dir() && below == Path::new("keys") || files.iter().any(is_file)
    };
    walk.all(is_ours)
}

fn write(path: &Path, text: &str, made: &mut Replaced) -> std::io::Result<()> {
    // A link that leads nowhere is there too: nothing is written through it.
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    let mut aside = Aside::of(path, 0o644)?;
    std::io::Write::write_all(&mut aside, text.as_bytes())?;
    aside.as_file().sync_all()?;
    aside.exchange(None, made)?;
    fault::point("init.writing");
    Ok(())
}

/// The caller's own public key, newest kind first.
fn public_key() -> Option<String> {
    let home = std::path::PathBuf::from(std::env::var_os("HOME")?);
    ["id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub"]
        .iter()
        .find_map(|name| std::fs::read_to_string(home.join(".ssh").join(name)).ok())
}
