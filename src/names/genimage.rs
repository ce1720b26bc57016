//! xCAT's `genimage`: translates its flags to `imgbuild build --until initrd` (reference 6.1).

use std::path::PathBuf;

use clap::Parser;

use super::osimage::attributes::{Changes, How, refuse_other};
use super::undo::Undo;
use super::{Done, Ended, Shell};
use crate::output::render;
use crate::plans::emit::quote::shell as quoted;
use crate::recipe_lock::RecipeLock;
use recipe::Workspace;
use sandbox::emulator::HostCpu;
use site::export::{definition_of, places_of};
use site::rootimg::tree_of;

/// Builds kernel, initrd and root file system of an image; packimage packs and publishes them
#[derive(Debug, Parser)]
#[command(name = "genimage", disable_version_flag = true)]
pub(super) struct Arguments {
    /// The osimage
    pub image: Option<String>,
    /// Release, if no osimage is named
    #[arg(short = 'o', value_name = "OSVER")]
    pub osvers: Option<String>,
    /// CPU, if no osimage is named
    #[arg(short = 'a', value_name = "ARCH")]
    pub arch: Option<String>,
    /// Profile, if no osimage is named
    #[arg(short = 'p', value_name = "PROFILE")]
    pub profile: Option<String>,
    /// Ignored (accepted for xCAT scripts)
    #[arg(short = 'i', value_name = "NIC")]
    pub nic: Option<String>,
    /// Ignored (accepted for xCAT scripts)
    #[arg(short = 'r', value_name = "NICS")]
    pub others: Option<String>,
    /// Drivers of the initrd; written to the recipe
    #[arg(short = 'n', value_name = "DRIVERS")]
    pub drivers: Option<String>,
    /// Release of the kernel; written to the recipe
    #[arg(short = 'k', value_name = "VERSION")]
    pub kernel: Option<String>,
    /// Ignored (accepted for xCAT scripts)
    #[arg(short = 'g', value_name = "VERSION")]
    pub krpm: Option<String>,
    /// Size of the root file system in memory; written to the recipe
    #[arg(short = 'l', value_name = "SIZE")]
    pub root_size: Option<String>,
    /// Size of /tmp; written to the recipe
    #[arg(short = 't', value_name = "SIZE")]
    pub tmp_size: Option<String>,
    /// Not supported: statelite
    #[arg(short = 'm', value_name = "METHOD")]
    pub method: Option<String>,
    /// Directory with packages of kernels; written to the recipe
    #[arg(long, value_name = "DIR")]
    pub kerneldir: Option<String>,
    /// Ignored (accepted for xCAT scripts)
    #[arg(long, value_name = "MODE")]
    pub permission: Option<String>,
    /// As the line that --dryrun prints: repositories
    #[arg(long, value_name = "DIRS")]
    pub srcdir: Option<String>,
    /// As that line: package lists; written to the recipe
    #[arg(long, value_name = "FILES")]
    pub pkglist: Option<String>,
    /// As that line: directory of other packages; written to the recipe
    #[arg(long, value_name = "DIR")]
    pub otherpkgdir: Option<String>,
    /// As that line: lists of other packages; written to the recipe
    #[arg(long, value_name = "FILES")]
    pub otherpkglist: Option<String>,
    /// As that line: postinstall scripts; written to the recipe
    #[arg(long, value_name = "SCRIPTS")]
    pub postinstall: Option<String>,
    /// As that line: where packimage publishes; written next to the recipe
    #[arg(long, value_name = "DIR")]
    pub rootimgdir: Option<String>,
    /// As that line: driver updates; written to the recipe
    #[arg(long, value_name = "FILES")]
    pub driverupdatesrc: Option<String>,
    /// As that line: variables; written to the recipe
    #[arg(long, value_name = "NAME=VALUE,..")]
    pub env: Option<String>,
    /// Ignored (accepted for xCAT scripts)
    #[arg(long, value_name = "FILE")]
    pub tempfile: Option<String>,
    /// Only kernel and initrd
    #[arg(long)]
    pub onlyinitrd: bool,
    /// Show what would be done, and why
    #[arg(long)]
    pub dryrun: bool,
    /// Ignored (accepted for xCAT scripts)
    #[arg(long)]
    pub interactive: bool,
    /// Ignored (accepted for xCAT scripts)
    #[arg(long)]
    pub noupdate: bool,
    /// Ignored (accepted for xCAT scripts)
    #[arg(long)]
    pub ignorekernelchk: bool,
}

/// The image that -o, -a and -p mean.
fn by_profile(shell: &Shell, own: &Arguments) -> Result<String, super::Ended> {
    let (Some(osvers), Some(profile)) = (&own.osvers, &own.profile) else {
        return Err(shell.fail("name the osimage: `genimage IMAGE`; `lsdef -t osimage` lists them"));
    };
    // As xCAT's genimage: `uname -m`.
    let arch = own.arch.as_deref().unwrap_or(HostCpu::here().machine());
    Ok(format!("{osvers}-{arch}-netboot-{profile}"))
}

/// Flags of the line that `--dryrun` prints, in its order, with the attributes that they stand for.
const LINE: [(&str, &str); 8] = [
    ("--srcdir", "pkgdir"),
    ("--pkglist", "pkglist"),
    ("--otherpkgdir", "otherpkgdir"),
    ("--otherpkglist", "otherpkglist"),
    ("--postinstall", "postinstall"),
    ("--rootimgdir", "rootimgdir"),
    ("--driverupdatesrc", "driverupdatesrc"),
    ("--env", "environvar"),
];

impl Arguments {
    fn line(&self) -> [&Option<String>; 8] {
        [
            &self.srcdir,
            &self.pkglist,
            &self.otherpkgdir,
            &self.otherpkglist,
            &self.postinstall,
            &self.rootimgdir,
            &self.driverupdatesrc,
            &self.env,
        ]
    }
}

/// The line that xCAT's genimage prints: what builds the image without its definition, here or where the workspace is shared.
fn line_of(shell: &Shell, image: &str) -> Result<String, Ended> {
    let mut words = vec!["./genimage".to_owned()];
    for (flag, attribute) in [("-a", "osarch"), ("-o", "osvers"), ("-p", "profile")] {
        words.extend([flag.to_owned(), quoted(&shell.attribute(image, attribute)?)]);
    }
    words.extend(["--permission", "755"].map(str::to_owned));
    for (flag, attribute) in LINE {
        let value = shell.attribute(image, attribute)?;
        if !value.is_empty() {
            words.extend([flag.to_owned(), quoted(&value)]);
        }
    }
    words.push(quoted(image));
    let directory = shell.directory().display().to_string();
    Ok(format!("cd {}; {}", quoted(&directory), words.join(" ")))
}

fn image_of(shell: &Shell, own: &Arguments) -> Result<String, Ended> {
    let Some(image) = &own.image else { return by_profile(shell, own) };
    let is_line = own.line().iter().any(|value| value.is_some());
    if !is_line && (own.osvers.is_some() || own.arch.is_some() || own.profile.is_some()) {
        return Err(shell.fail("-o, -a and -p cannot be combined with an osimage name"));
    }
    shell.hand_on_unknown(image)?;
    shell.hand_on_unbuildable(image)?;
    for (attribute, given) in [("osvers", &own.osvers), ("osarch", &own.arch), ("profile", &own.profile)] {
        refuse_other(shell, image, attribute, given.as_ref())?;
    }
    Ok(image.clone())
}

/// What the flags change in the recipe, and in the definition beside it.
fn changes_of(shell: &Shell, own: &Arguments, image: &str) -> Result<Changes, Ended> {
    let values = LINE.iter().zip(own.line()).filter_map(|((_, attribute), value)| Some((*attribute, value.as_ref()?)));
    let values = values.chain(
        [("netdrivers", &own.drivers), ("kernelver", &own.kernel), ("kerneldir", &own.kerneldir)]
            .into_iter()
            .filter_map(|(attribute, value)| Some((attribute, value.as_ref()?))),
    );
    let values: Vec<(String, String)> = values.map(|(name, value)| (name.to_owned(), value.clone())).collect();
    let mut changes = Changes::of(shell, image, How::Set, &values)?;
    // In a definition it counts only beside a kernelver; who gives it here means this build.
    if let Some(folder) =
        own.kerneldir.as_ref().filter(|folder| shell.value(image, "kernel.dir").trim() != folder.as_str())
        && !changes.set.iter().any(|one| one.starts_with("kernel.dir="))
    {
        changes.set.push(format!("kernel.dir={folder}"));
        changes.allow(shell, image, &[(PathBuf::from(folder), false)]);
    }
    for (field, value) in [("boot.root_size", &own.root_size), ("boot.tmpfs.\"/tmp\"", &own.tmp_size)] {
        changes.set.extend(value.as_ref().map(|value| format!("{field}={value}")));
    }
    Ok(changes)
}

/// Tells what a person changed in the tree of xCAT's genimage, which is not used: until it is taken as an overlay, or moved away.
fn tell_of_tree(shell: &Shell, image: &str) {
    let Ok(recipe) = shell.recipe(image) else { return };
    let workspace = Workspace::above(&recipe.directory).ok().flatten();
    let definition = definition_of(&recipe, workspace.as_ref()).definition;
    let Some(tree) = tree_of(&definition, &places_of(&recipe, workspace.as_ref())) else { return };
    if recipe.directory.join("overlay.list").exists() {
        return;
    }
    let tree = tree.display().to_string();
    let into = shell.workspace.display().to_string();
    shell.say(&format!("{tree} is not used: images are built from packages. Remove it if nothing in it is needed"));
    let words = ["capture", &tree, "--into", &into, "--overlay", image, "--dry-run"];
    if shell.quietly(&words).is_err() {
        shell.say("it could not be compared with its packages: see above");
    }
}

pub(super) fn run(shell: &Shell, own: &Arguments) -> Done {
    let image = image_of(shell, own)?;
    let image = image.as_str();
    if let Some(method) = own.method.as_deref().filter(|method| *method != "netboot") {
        return Err(shell.fail(&format!("-m {method}: only stateless images are built")));
    }
    // As it stands in the line that --dryrun prints, it is no word of the administrator's.
    let has_permission = own.permission.as_deref().is_some_and(|mode| mode != "755");
    shell.say_moot(&[
        ("-i", own.nic.is_some(), "nodes boot from the network card that their boot entry names (BOOTIF=)"),
        ("-r", own.others.is_some(), "further cards are configured by the image's own network files"),
        ("-g", own.krpm.is_some(), "the kernel's package determines `uname -r`"),
        ("--permission", has_permission, "it is for statelite images"),
        ("--tempfile", own.tempfile.is_some(), "nothing is passed in files"),
        ("--onlyinitrd", own.onlyinitrd, "unchanged parts of the root file system are kept anyway"),
        ("--interactive", own.interactive, "package managers run non-interactively; missing packages are an error"),
        ("--noupdate", own.noupdate, "packages are those of image.lock; `imgbuild update` updates them"),
        (
            "--ignorekernelchk",
            own.ignorekernelchk,
            "modules of driver packages are used if their symbols match the kernel",
        ),
    ]);
    tell_of_tree(shell, image);
    let changes = changes_of(shell, own, image)?;
    if own.dryrun {
        render::print_as_is(&format!("Generating image:\n{}\n", line_of(shell, image)?));
        shell.say_lines(image, &changes.lines());
        return shell.run(&["plan", image]);
    }
    let build = || shell.run(&["build", image, "--until", "initrd"]);
    match changes.is_empty() {
        true => build()?,
        false => {
            let undo = Undo::of(shell, image);
            let words = changes.words();
            let built = || -> Done {
                let turn = RecipeLock::take(&shell.workspace).with_commands();
                changes.apply(shell, image)?;
                drop(turn);
                shell.say_lines(image, &changes.lines());
                build()
            };
            undo.unless(built(), image, &words)?;
        }
    }
    shell.say(&format!("pack it for the nodes: packimage {image}"));
    Ok(())
}
