//! A profile of Confluent: `/var/lib/confluent/public/os/PROFILE`, whose boot files `osdeploy updateboot` makes.
//!
//! Source: confluent's `imgutil` (what a packed profile has) and `osimage.py` (`update_boot_linux`: kernel arguments, order of the initrds).

use std::path::Path;

use super::{layout_of, path_of, tell_pins, unfit};
use crate::lay::{Content, Layout, OldNames, Planned};
use crate::{Error, File, Form, Report, Request, RootKind};

fn squashfs<'a>(request: &Request<'a>) -> Result<&'a Form, Error> {
    request.image.form(RootKind::Squashfs).ok_or_else(|| {
        let help = "add it to the recipe: ‹[[pack.also]] archive = \"squashfs\"›";
        unfit(request, "Confluent's rootimg.sfs is squashfs, and this image has no such form", help)
    })
}

/// The last part of the directory: the profile's name, which is in its address.
fn profile(directory: &Path) -> String {
    directory.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Where nodes get the profile: as the destination says it, or as iPXE alone understands it.
fn address(request: &Request<'_>, directory: &Path) -> String {
    let known = request.destination.served_at().map(str::to_owned);
    known.unwrap_or_else(|| format!("http://${{next-server}}/confluent-public/os/{}", profile(directory)))
}

/// A scalar of YAML, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// `label` and `kernelargs`: confluent shows the first and puts the others into each boot file.
pub(crate) fn profile_yaml(request: &Request<'_>, form: &Form, directory: &Path) -> String {
    let image = request.image;
    let words = form.boot_words(&address(request, directory)).join(" ");
    let label = quoted(&format!("{} {}", image.name, image.build));
    format!("label: {label}\nkernelargs: {}\n", quoted(&words))
}

fn layout<'a>(request: &Request<'a>, directory: &'a Path) -> Result<(Layout<'a>, Vec<String>), Error> {
    let image = request.image;
    let form = squashfs(request)?;
    let copy =
        |path: &str, file: &'a File| Planned { path: path.to_owned(), mode: 0o644, content: Content::Copy(file) };
    let text = |path: &str, text| Planned { path: path.to_owned(), mode: 0o644, content: Content::Text(text) };
    let mut files = vec![
        copy("rootimg.sfs.index", &form.index),
        copy("rootimg.sfs", &form.rootimg),
        copy("boot/kernel", &image.kernel),
        copy("boot/initramfs/distribution", &image.initrd),
    ];
    files.extend(image.others.iter().map(|file| copy(&file.name, file)));
    files.push(text(
        "build-info",
        format!("PACKEDFROM=imgbuild {} {}\nKERNEL={}\n", image.name, image.build, image.kernel_release),
    ));
    files.push(text("profile.yaml", profile_yaml(request, form, directory)));
    let mut warnings = Vec::new();
    if request.nodes.iter().any(|node| !node.kernel_args.is_empty()) {
        let text = "words that nodes.toml has for single nodes are not in the profile, and are not passed on";
        warnings.push(text.to_owned());
    }
    if request.destination.served_at().is_none() {
        warnings.push(format!(
            "the address in kernelargs has ${{next-server}}, which iPXE fills in and GRUB does not: nodes that boot by GRUB need `{}?files=http://SERVER/confluent-public/os/{}`",
            request.destination,
            profile(directory)
        ));
    }
    tell_pins(request, "a profile has one build", &mut warnings);
    Ok((layout_of(request, directory, form, (files, OldNames::Remove)), warnings))
}

fn next(directory: &Path) -> Vec<String> {
    let profile = profile(directory);
    vec![
        format!("osdeploy updateboot {profile}"),
        format!("nodedeploy NODES -n {profile}"),
        "boot/initramfs/distribution is imgbuild's initrd: nodes get the image without Confluent's identity and API key".to_owned(),
    ]
}

/// What [`apply`] would change.
pub(crate) fn plan(request: &Request<'_>) -> Result<Report, Error> {
    let directory = path_of(request)?;
    let (layout, warnings) = layout(request, directory)?;
    Ok(layout.plan()?.with(warnings, next(directory)))
}

/// Publishes the build.
pub(crate) fn apply(request: &Request<'_>) -> Result<Report, Error> {
    let directory = path_of(request)?;
    let (layout, warnings) = layout(request, directory)?;
    Ok(layout.apply()?.with(warnings, next(directory)))
}
