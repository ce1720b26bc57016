//! The postinstall scripts: xCAT's arguments and environment, in a sandbox (D23).

use serde::{Deserialize, Serialize};

use crate::actions::pack::startable;
use crate::actions::postinstall::complaints::{self, Complaint};
use crate::actions::postinstall::recipe_tree::{self, Shown, ShownAs};
use crate::actions::postinstall::secrets::{Given, Settled, settle};
use base::digest::Digest;
use packages::{tree_of, uname_script};
use recipe::{NOBODY, Recipe};
use sandbox::helper::News;
use sandbox::{Bind, CommandRequest, CommandResult, STAND_IN_DIRECTORY, run_command, upper_is_whole};
use store::scan;
use store::{LayerReader, ScanAnswer, ScanRequest, TreeEditor};
use store::{in_scratch, make_directories};

/// Where the recipe's directory is for the script: the same on every host.
pub(crate) const RECIPE_DIRECTORY: &str = "/recipe";

/// Where the locked packages are below [`RECIPE_DIRECTORY`], and in the image while the script runs.
pub(crate) const PACKAGES: &str = ".packages";
const PACKAGES_IN_IMAGE: &str = "/run/imgbuild/packages";

/// Where scripts find the image: their first argument.
pub(crate) const TARGET: &str = "/target";
/// The variable with what the script gets as its second argument.
pub(crate) const OSVERS: &str = "IMG_OSVER";
/// The variable with what it gets as its fourth.
pub(crate) const PROFILE: &str = "IMG_PROFILE";
/// The variable with the kernel's release, which is known when the kernel is.
pub(crate) const KERNEL_VERSION: &str = "IMG_KERNELVERSION";

/// What the layer is made from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PostinstallRequest {
    /// Scratch directory, relative to the store's.
    pub scratch: String,
    pub shown: Vec<Shown>,
    pub offers_packages: bool,
    /// These packages: paths relative to the store's directory, and file names.
    pub packages: Vec<(String, String)>,
    pub tools: Vec<Digest>,
    pub base: Vec<Digest>,
    pub commands: Vec<Vec<String>>,
    /// Variables: xCAT's and the recipe's.
    pub variables: Vec<(String, String)>,
    /// Patterns of paths that stay whatever they look like.
    pub keep: Vec<String>,
    /// What `uname` answers in the image: release and machine.
    pub uname: (String, String),
    /// No time is later than this.
    pub epoch: i64,
    /// Log file, relative to the store's directory.
    pub log: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum PostinstallAnswer {
    Made(Made),
    /// What runs a script, by its number, is not there.
    NoInterpreter(usize, String),
    Failed(usize, CommandResult),
}

/// What the scripts made, and what is to be said of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Made {
    pub layer: ScanAnswer,
    /// Files that they wrote to the root that they ran in.
    pub thrown_away: Vec<String>,
    /// Lines that look like failures, each with the script's number.
    pub complaints: Vec<(usize, Complaint)>,
    /// Paths that belong to `nobody` now, and did not before.
    pub nobodys: Vec<String>,
    /// Keys and identities that were taken out, because each node makes its own.
    pub identities: Vec<String>,
    /// What looks like a secret, and stays.
    pub secrets: Vec<String>,
}

/// Variables of the script: xCAT's IMG_* and the recipe's own; empty ones are not set. The key is made of the same.
pub(crate) fn variables(recipe: &Recipe) -> Vec<(String, String)> {
    let model = &recipe.model;
    let image = &model.image;
    let others = model.otherpkgs.as_ref();
    let mut all: Vec<(String, String)> = [
        ("IMG_NAME", image.name.clone()),
        ("IMG_ARCH", image.arch.machine().to_owned()),
        (OSVERS, model.osvers()),
        (PROFILE, model.profile().to_owned()),
        ("IMG_PKGLIST", model.packages.lists.join(",")),
        ("IMG_OTHERPKGLIST", others.map_or(String::new(), |table| table.lists.join(","))),
        ("IMG_OTHERPKGDIR", others.map_or(String::new(), |table| table.dir.clone())),
        ("IMG_ROOTIMGDIR", TARGET.to_owned()),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    if model.postinstall.as_ref().is_some_and(|table| table.packages.is_some()) {
        all.push(("IMGBUILD_PACKAGES".to_owned(), PACKAGES_IN_IMAGE.to_owned()));
    }
    all.extend(model.environment.clone());
    all
}

/// The field of the recipe that a variable's value comes from, for causes.
pub(crate) fn field_of(recipe: &Recipe, variable: &str) -> String {
    let model = &recipe.model;
    match variable {
        _ if model.environment.contains_key(variable) => return format!("environment.{variable}"),
        "IMG_OSVER" if model.xcat.osvers.is_some() => "xcat.osvers",
        "IMG_OSVER" => "image.release",
        "IMG_PROFILE" if model.xcat.profile.is_some() => "xcat.profile",
        "IMG_NAME" | "IMG_PROFILE" => "image.name",
        "IMG_ARCH" => "image.arch",
        "IMG_PKGLIST" => "packages.lists",
        "IMG_OTHERPKGLIST" => "otherpkgs.lists",
        "IMG_OTHERPKGDIR" => "otherpkgs.dir",
        "IMGBUILD_PACKAGES" => "postinstall.packages",
        _ => return format!("environment.{variable}"),
    }
    .to_owned()
}

/// Where a script is below [`RECIPE_DIRECTORY`]: at its own path, unless that escapes its root. `number` keeps those apart.
pub(crate) fn place_of(name: &str, number: usize) -> String {
    let plain = std::path::Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    let file = name.rsplit('/').next().unwrap_or("script");
    match number {
        _ if plain => name.to_owned(),
        0 => format!(".outside/{file}"),
        number => format!(".outside/{}/{file}", number + 1),
    }
}

pub(crate) fn inside(request: PostinstallRequest, news: News<'_>) -> Result<PostinstallAnswer, String> {
    in_scratch(&request.scratch, || {
        let at = |name: &str| format!("{}/{name}", request.scratch);
        make_directories(&request.scratch, &["mount", "tree", "work", "root/etc", "root-work"])?;
        let is_shown = |path: &str| request.shown.iter().any(|one| one.place == path);
        hide_own_accounts(&at("root"), &request.base, &is_shown)?;
        let (elsewhere, mut shown): (Vec<Shown>, Vec<Shown>) =
            request.shown.iter().cloned().partition(|one| one.place.starts_with('/'));
        for (path, name) in &request.packages {
            shown.push(Shown { place: format!("{PACKAGES}/{name}"), what: ShownAs::File(path.clone(), 0o644) });
        }
        let recipe = at("recipe");
        recipe_tree::make(&shown, &recipe, request.epoch)?;
        // What has an absolute path is a layer of the root that scripts run in.
        let there = at("elsewhere");
        let below = |one: &Shown| Shown { place: one.place.trim_start_matches('/').to_owned(), what: one.what.clone() };
        let elsewhere: Vec<Shown> = elsewhere.iter().map(below).collect();
        if !elsewhere.is_empty() {
            recipe_tree::make(&elsewhere, &there, request.epoch)?;
        }
        let script_of = |command: &[String]| {
            let script = command.first().map(String::as_str).unwrap_or_default();
            std::fs::read(format!("{recipe}{}", script.strip_prefix(RECIPE_DIRECTORY).unwrap_or(script)))
                .unwrap_or_default()
        };
        for (number, command) in request.commands.iter().enumerate() {
            if let Some(lacks) = startable::lacks_interpreter(&LayerReader::open(&request.tools)?, &script_of(command))
            {
                return Ok(PostinstallAnswer::NoInterpreter(number, lacks));
            }
        }
        news(if request.commands.len() > 1 {
            "running the postinstall scripts"
        } else {
            "running the postinstall script"
        });
        let mut environment = vec![
            (
                "PATH".to_owned(),
                format!("{STAND_IN_DIRECTORY}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ),
            ("HOME".to_owned(), "/root".to_owned()),
            ("LC_ALL".to_owned(), "C.UTF-8".to_owned()),
            ("TZ".to_owned(), "UTC".to_owned()),
            ("TERM".to_owned(), "dumb".to_owned()),
            ("SOURCE_DATE_EPOCH".to_owned(), request.epoch.to_string()),
        ];
        environment.extend(request.variables.iter().cloned());
        let (release, machine) = &request.uname;
        let mut complaints = Vec::new();
        for (number, command) in request.commands.iter().enumerate() {
            let mut root = tree_of(&request.scratch, &request.tools, "root", "root-work")?;
            if !elsewhere.is_empty() {
                root.lower.push(there.clone());
            }
            let result = run_command(&CommandRequest {
                root,
                target: Some(tree_of(&request.scratch, &request.base, "tree", "work")?),
                binds: vec![Bind { source: recipe.clone(), target: RECIPE_DIRECTORY.to_owned(), writable: false }],
                target_binds: if request.offers_packages {
                    vec![(format!("{RECIPE_DIRECTORY}/{PACKAGES}"), PACKAGES_IN_IMAGE.to_owned())]
                } else {
                    Vec::new()
                },
                stand_ins: vec![("uname".to_owned(), uname_script(release, machine, ""))],
                kernel: Some(release.clone()),
                working_directory: RECIPE_DIRECTORY.to_owned(),
                arguments: command.clone(),
                environment: environment.clone(),
                log: request.log.clone(),
                goes_on: number > 0,
                mount_point: at("mount"),
                ..CommandRequest::default()
            })?;
            if result.status != 0 {
                return Ok(PostinstallAnswer::Failed(number, result));
            }
            let found = complaints::in_log(&request.log, result.began_at, &script_of(command));
            complaints.extend(found.into_iter().map(|complaint| (number, complaint)));
        }
        let editor = TreeEditor::open(&at("tree"))?;
        for pattern in ["var/cache/ldconfig/aux-cache", "var/log/*.log"] {
            editor.remove(pattern)?;
        }
        let given = Given {
            shown: &request.shown,
            directories: (&recipe, &there),
            variables: &request.variables,
            keep: &request.keep,
        };
        let below = LayerReader::open(&request.base)?;
        let settled = settle((&at("tree"), upper_is_whole()), &below, &given, &editor)?;
        let layer = scan(&ScanRequest {
            tree: at("tree"),
            base: request.base.clone(),
            epoch: request.epoch,
            whole: upper_is_whole(),
        })?;
        let nobodys = nobodys(&request.base, layer.layer)?;
        let thrown_away = thrown_away(&at("root"));
        let Settled { removed: identities, secret: secrets } = settled;
        Ok(PostinstallAnswer::Made(Made { layer, thrown_away, complaints, nobodys, identities, secrets }))
    })
}

/// What belongs to `nobody` and its group in a layer, and did not in those below.
pub(super) fn nobodys(base: &[Digest], layer: Digest) -> Result<Vec<String>, String> {
    let own = |entry: &store::Entry| entry.uid == NOBODY && entry.gid == NOBODY;
    let before = LayerReader::open(base)?;
    let after = LayerReader::open(&[layer])?;
    let was = |path: &str| before.tree.0.get(path).is_some_and(|found| own(&found.entry));
    let found = after.tree.0.iter().filter(|(path, found)| own(&found.entry) && !was(path));
    Ok(found.map(|(path, _)| path.clone()).collect())
}

/// Files that a script left in the upper directory of the root that it ran in, where it may have meant the image.
pub(super) fn thrown_away(root: &str) -> Vec<String> {
    const MEANT: [&str; 7] = ["etc", "usr", "opt", "srv", "home", "root", "boot"];
    // Made by programs that run there, not by the script's author.
    let is_own = |path: &str| {
        path.ends_with(".pyc")
            || ["/etc/ld.so.cache", "/etc/mtab", "/etc/passwd", "/etc/group"].contains(&path)
            || path.starts_with("/root/.")
            || path.contains("/__pycache__")
    };
    let mut found = Vec::new();
    for folder in MEANT {
        let walk = walkdir::WalkDir::new(format!("{root}/{folder}")).sort_by_file_name();
        for entry in walk.into_iter().flatten().filter(|entry| entry.file_type().is_file() || entry.path_is_symlink()) {
            let path = entry.path().to_string_lossy().replacen(root, "", 1);
            if !is_own(&path) {
                found.push(path);
            }
        }
    }
    found
}

/// The tools root's own accounts are not the host's and must not be copied into the image as if they were: names
/// resolve by the image's own files, and there is no shadow file or hosts file to copy.
///
/// What is among the inputs by such a path is shown.
pub(super) fn hide_own_accounts(root: &str, base: &[Digest], is_shown: &dyn Fn(&str) -> bool) -> Result<(), String> {
    use rustix::fs::{CWD, FileType, Mode};
    let reader = LayerReader::open(base)?;
    let editor = TreeEditor::open(root)?;
    for name in ["passwd", "group"] {
        if let Some(bytes) = reader.read(&format!("etc/{name}"))? {
            editor.write(&format!("etc/{name}"), &bytes, 0o644)?;
        }
    }
    let hidden = ["shadow", "gshadow", "hosts", "hostname", "resolv.conf", "passwd-", "group-", "shadow-", "gshadow-"];
    for name in hidden.into_iter().filter(|name| !is_shown(&format!("/etc/{name}"))) {
        // A whiteout: overlayfs shows nothing there.
        rustix::fs::mknodat(CWD, format!("{root}/etc/{name}"), FileType::CharacterDevice, Mode::empty(), 0)
            .map_err(|error| format!("cannot hide /etc/{name}: {error}"))?;
    }
    Ok(())
}
