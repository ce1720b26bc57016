//! xCAT's `packimage`: translates its flags to `imgbuild build --publish` (reference 7).

use clap::{Parser, ValueEnum};

use super::undo::Undo;
use super::{Done, Shell};

/// Packs an image, and publishes it with kernel and initrd into its rootimgdir
#[derive(Debug, Parser)]
#[command(name = "packimage", disable_version_flag = true)]
pub(super) struct Arguments {
    /// The osimage
    pub image: String,
    /// How it is packed; written to the recipe
    #[arg(short = 'm', long = "method", value_name = "METHOD")]
    pub method: Option<Method>,
    /// Its compressor; written to the recipe
    #[arg(short = 'c', long = "compress", value_name = "COMPRESSOR")]
    pub compressor: Option<Compressor>,
    /// Not supported
    #[arg(long)]
    pub nosyncfiles: bool,
    /// Ignored (accepted for xCAT scripts)
    #[arg(long, value_name = "URL")]
    pub tracker: Option<String>,
    /// Show more
    #[arg(short = 'V', long)]
    pub verbose: bool,
}

/// xCAT's methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Method {
    Cpio,
    Tar,
    Squashfs,
}

/// xCAT's compressors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Compressor {
    Gzip,
    Pigz,
    Xz,
}

pub(super) fn run(shell: &Shell, own: &Arguments) -> Done {
    let image = own.image.as_str();
    shell.hand_on_unknown(image)?;
    shell.hand_on_unbuildable(image)?;
    if own.nosyncfiles {
        return Err(shell.fail(&format!(
            "--nosyncfiles: an image follows its recipe: remove the lists with `imgbuild set {image} sync.lists-=FILE`"
        )));
    }
    shell.say_moot(&[("--tracker", own.tracker.is_some(), "nodes fetch images by HTTP")]);
    let mut changes = Vec::new();
    if let Some(method) = own.method {
        let archive = match method {
            Method::Cpio => "cpio",
            Method::Tar => "tar",
            Method::Squashfs => "squashfs",
        };
        changes.push(format!("pack.archive={archive}"));
    }
    match own.compressor {
        // As with xCAT: squashfs has a compressor of its own.
        Some(_) if own.method == Some(Method::Squashfs) => shell.say("-c has no effect with -m squashfs, as in xCAT"),
        Some(Compressor::Gzip | Compressor::Pigz) => changes.push("pack.compress=gzip".to_owned()),
        Some(Compressor::Xz) => changes.push("pack.compress=xz".to_owned()),
        None => {}
    }
    let rootimgdir = shell.attribute(image, "rootimgdir")?;
    let directory = std::path::Path::new(&rootimgdir);
    let names = || std::fs::read_dir(directory).into_iter().flatten().flatten().map(|one| one.file_name());
    let is_ours = names().any(|name| name == "kernel" || name.to_string_lossy().starts_with("rootimg"));
    if names().next().is_some() && !is_ours {
        return Err(shell.fail(&format!(
            "{rootimgdir} contains files other than an osimage's: check `imgbuild show {image} -i rootimgdir`, or publish by hand: imgbuild build {image} --publish xcat:DIR"
        )));
    }
    let undo = Undo::of(shell, image);
    let packed = || -> Done {
        if !changes.is_empty() {
            let words: Vec<&str> = ["set", image].into_iter().chain(changes.iter().map(String::as_str)).collect();
            shell.run(&words)?;
            shell.say_lines(image, &changes);
        }
        shell.run(&["build", image, "--publish", &format!("xcat:{rootimgdir}")])
    };
    match changes.is_empty() {
        true => packed()?,
        false => undo.unless(packed(), image, &changes)?,
    }
    shell.say(&format!("to boot nodes with it: nodeset NODES osimage={image}"));
    Ok(())
}
