//! The postinstall script: xCAT's arguments and environment, in a sandbox (D23).

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::recipe::Recipe;
use crate::sandbox::helper::News;
use crate::sandbox::{Bind, CommandRequest, CommandResult, STAND_IN_DIRECTORY, TreeMount, run_command, upper_is_whole};
use crate::stage::actions::pack::startable;
use crate::store::scan;
use crate::store::{LayerReader, ScanAnswer, ScanRequest, TreeEditor, lower_directories, root_of};
use crate::store::{in_scratch, make_directories};

/// Where the recipe's directory is for the script: the same on every host.
pub const RECIPE_DIRECTORY: &str = "/recipe";

/// Where the locked packages are below [`RECIPE_DIRECTORY`], and in the image while the script runs.
pub const PACKAGES: &str = ".packages";
const PACKAGES_IN_IMAGE: &str = "/run/imgbuild/packages";

/// What the layer is made from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PostinstallRequest {
    /// Scratch directory, relative to the store's.
    pub scratch: String,
    /// Directory with the script and its inputs, relative to the store's.
    pub links: String,
    /// Whether the locked packages are offered.
    pub with_packages: bool,
    /// Layers of the tools root.
    pub tools: Vec<Digest>,
    /// Layers of the image.
    pub base: Vec<Digest>,
    /// The script and its arguments.
    pub arguments: Vec<String>,
    /// Variables: xCAT's and the recipe's.
    pub variables: Vec<(String, String)>,
    /// What `uname` answers in the image: release and machine.
    pub uname: (String, String),
    /// No time is later than this.
    pub epoch: i64,
    /// Log file, relative to the store's directory.
    pub log: String,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum PostinstallAnswer {
    /// The layer, and files that the script wrote to the root that it ran in.
    Made(ScanAnswer, Vec<String>),
    /// What runs the script is not there.
    NoInterpreter(String),
    /// The script failed.
    Failed(CommandResult),
}

/// Variables of the script: xCAT's IMG_* and the recipe's own; empty ones are not set. The key is made of the same.
pub fn variables(recipe: &Recipe, release: &str) -> Vec<(String, String)> {
    let model = &recipe.model;
    let image = &model.image;
    let others = model.otherpkgs.as_ref();
    let mut all: Vec<(String, String)> = [
        ("IMG_NAME", image.name.clone()),
        ("IMG_ARCH", image.arch.machine().to_owned()),
        ("IMG_OSVER", osvers(recipe)),
        ("IMG_KERNELVERSION", release.to_owned()),
        ("IMG_PROFILE", profile(recipe)),
        ("IMG_PKGLIST", model.packages.lists.join(",")),
        ("IMG_OTHERPKGLIST", others.map_or(String::new(), |table| table.lists.join(","))),
        ("IMG_OTHERPKGDIR", others.map_or(String::new(), |table| table.dir.clone())),
        ("IMG_ROOTIMGDIR", "/target".to_owned()),
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
pub fn field_of(recipe: &Recipe, variable: &str) -> String {
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

/// What the script gets as its second argument.
pub fn osvers(recipe: &Recipe) -> String {
    recipe.model.xcat.osvers.clone().unwrap_or_else(|| format!("debian-{}", recipe.model.image.release))
}

/// What the script gets as its fourth argument.
pub fn profile(recipe: &Recipe) -> String {
    recipe.model.profile().to_owned()
}

/// Where a file of the recipe is below [`RECIPE_DIRECTORY`]: at its own path, unless that leads elsewhere.
pub fn place_of(name: &str) -> String {
    let plain = std::path::Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if plain { name.to_owned() } else { format!(".outside/{}", name.rsplit('/').next().unwrap_or("script")) }
}

/// Answers for the image's kernel, whatever the build host runs. Source: uname(1), options of coreutils.
fn uname_script(release: &str, machine: &str) -> String {
    format!(
        "#!/bin/sh\n\
         test $# -gt 0 || set -- -s\n\
         out=\n\
         add() {{ out=\"$out${{out:+ }}$1\"; }}\n\
         for word in \"$@\"; do case $word in\n\
         -a|--all) add 'Linux localhost {release} #1 SMP {machine} GNU/Linux';;\n\
         --kernel-release) add {release};; --machine) add {machine};;\n\
         --kernel-name) add Linux;; --nodename) add localhost;; --operating-system) add GNU/Linux;;\n\
         --kernel-version) add '#1 SMP';;\n\
         -*) letters=${{word#-}}; while test -n \"$letters\"; do rest=${{letters#?}}; case ${{letters%\"$rest\"}} in\n\
         s) add Linux;; n) add localhost;; r) add {release};; v) add '#1 SMP';; m|p|i) add {machine};; o) add GNU/Linux;;\n\
         esac; letters=$rest; done;;\n\
         esac; done\n\
         echo \"$out\"\n"
    )
}

/// Runs inside.
pub fn inside(request: PostinstallRequest, news: News<'_>) -> Result<PostinstallAnswer, String> {
    in_scratch(&request.scratch, || {
        let at = |name: &str| format!("{}/{name}", request.scratch);
        make_directories(&request.scratch, &["mount", "tree", "work", "root/etc", "root-work"])?;
        hide_own_accounts(&at("root"), &request.base)?;
        let script = request.arguments.first().map(String::as_str).unwrap_or_default();
        let script = script.strip_prefix(RECIPE_DIRECTORY).unwrap_or(script);
        let start = std::fs::read(format!("{}{script}", request.links)).unwrap_or_default();
        if let Some(lacks) = startable::lacks_interpreter(&LayerReader::open(&request.tools)?, &start) {
            return Ok(PostinstallAnswer::NoInterpreter(lacks));
        }
        news("running the postinstall script");
        let tree = |digests: &[Digest], upper: &str, work: &str| -> Result<TreeMount, String> {
            Ok(TreeMount {
                lower: lower_directories(digests)?,
                upper: at(upper),
                work: at(work),
                root: root_of(digests)?,
            })
        };
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
        let result = run_command(&CommandRequest {
            root: tree(&request.tools, "root", "root-work")?,
            target: Some(tree(&request.base, "tree", "work")?),
            binds: vec![Bind { source: request.links.clone(), target: RECIPE_DIRECTORY.to_owned(), writable: false }],
            target_binds: if request.with_packages {
                vec![(format!("{RECIPE_DIRECTORY}/{PACKAGES}"), PACKAGES_IN_IMAGE.to_owned())]
            } else {
                Vec::new()
            },
            stand_ins: vec![("uname".to_owned(), uname_script(release, machine))],
            working_directory: RECIPE_DIRECTORY.to_owned(),
            arguments: request.arguments.clone(),
            environment,
            log: request.log.clone(),
            mount_point: at("mount"),
            ..CommandRequest::default()
        })?;
        if result.status != 0 {
            return Ok(PostinstallAnswer::Failed(result));
        }
        let editor = TreeEditor::open(&at("tree"))?;
        for pattern in ["var/cache/ldconfig/aux-cache", "etc/ssh/ssh_host_*", "var/log/*.log"] {
            editor.remove(pattern)?;
        }
        scan(&ScanRequest {
            tree: at("tree"),
            base: request.base.clone(),
            epoch: request.epoch,
            whole: upper_is_whole(),
        })
        .map(|layer| PostinstallAnswer::Made(layer, thrown_away(&at("root"))))
    })
}

/// Files that a script left in the upper directory of the root that it ran in, where it may have meant the image.
fn thrown_away(root: &str) -> Vec<String> {
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
fn hide_own_accounts(root: &str, base: &[Digest]) -> Result<(), String> {
    use rustix::fs::{CWD, FileType, Mode};
    let reader = LayerReader::open(base)?;
    let editor = TreeEditor::open(root)?;
    for name in ["passwd", "group"] {
        if let Some(bytes) = reader.read(&format!("etc/{name}"))? {
            editor.write(&format!("etc/{name}"), &bytes, 0o644)?;
        }
    }
    for name in ["shadow", "gshadow", "hosts", "hostname", "resolv.conf", "passwd-", "group-", "shadow-", "gshadow-"] {
        // A whiteout: overlayfs shows nothing there.
        rustix::fs::mknodat(CWD, format!("{root}/etc/{name}"), FileType::CharacterDevice, Mode::empty(), 0)
            .map_err(|error| format!("cannot hide /etc/{name}: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::uname_script;

    #[test]
    fn the_stand_in_answers_for_the_image() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("uname");
        std::fs::write(&script, uname_script("6.1.0-x", "x86_64")).unwrap();
        let ask = |arguments: &[&str]| {
            let output = std::process::Command::new("/bin/sh").arg(&script).args(arguments).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        assert_eq!(ask(&["-r"]), "6.1.0-x");
        assert_eq!(ask(&["-rm"]), "6.1.0-x x86_64");
        assert_eq!(ask(&[]), "Linux");
        assert_eq!(ask(&["--machine"]), "x86_64");
        assert_eq!(ask(&["-a"]), "Linux localhost 6.1.0-x #1 SMP x86_64 GNU/Linux");
    }
}
