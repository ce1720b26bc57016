//! systemd's own initrd, 258 or later: the root as a file that `rd.systemd.pull=` downloads, attaches as a block device and compares with
//! the digest that `SHA256SUMS` beside it has.
//!
//! ```text
//! builds/BUILD/kernel, rootimg.sfs or rootimg.erofs, SHA256SUMS, cmdline
//! initrd                                                   the site's own: made by dracut or mkosi-initrd
//! boot.ipxe                                                the moment of the change: its rename
//! ```
//!
//! Source: systemd-import-generator(8) and its source. It knows `verify=no`, `checksum` and `signature`; a digest in the word itself is ignored
//! with a warning, so that `checksum` is the most that an unsigned image can have.

use std::fmt::Write;
use std::path::Path;

use super::tree::base_of;
use super::{files_of_build, layout_of, path_of, tell_pins, unfit};
use crate::lay::{Content, Layout, OldNames, Planned};
use crate::{Error, File, Form, Report, Request, RootKind};

/// Bytes of a sector: a block device has no part of one.
const SECTOR: u64 = 512;

/// A form that the kernel mounts.
fn mountable<'a>(request: &Request<'a>) -> Result<&'a Form, Error> {
    let image = request.image;
    let mounted = |form: &&Form| matches!(form.kind, RootKind::Squashfs | RootKind::Erofs);
    let form = image.forms.iter().find(mounted).ok_or_else(|| {
        let help = "add a form that the kernel mounts to the recipe: ‹[[pack.also]] archive = \"squashfs\"›";
        unfit(request, "systemd mounts its root, and this image has cpio or tar only", help)
    })?;
    if form.rootimg.size % SECTOR != 0 {
        let problem = format!("{} does not end at a sector of {SECTOR} bytes", form.rootimg.name);
        return Err(unfit(request, problem, "build the image again with this imgbuild"));
    }
    if let Some(word) = form.words.iter().find(|word| word.starts_with("imgbuild.statelite=")) {
        let word = word.split('=').next().unwrap_or(word);
        let problem = format!("only imgbuild's initrd mounts the paths of [statelite] ({word})");
        return Err(unfit(request, problem, "publish it with tree:DIR, or remove ‹[statelite]› from the recipe"));
    }
    Ok(form)
}

/// Words for the kernel's command line, the files of the build being at `url`.
pub(crate) fn words(form: &Form, url: &str) -> Vec<String> {
    let kind = form.kind.name();
    let mut words = vec![
        format!("rd.systemd.pull=raw,machine,blockdev,verify=checksum:root:{url}/{}", form.rootimg.name),
        "root=/dev/disk/by-loop-ref/root.raw".to_owned(),
        format!("rootfstype={kind}"),
        "ro".to_owned(),
        "systemd.volatile=overlay".to_owned(),
        "ip=any".to_owned(),
    ];
    words.extend(form.plain_words());
    words
}

fn script(request: &Request<'_>, form: &Form, base: &str) -> String {
    let image = request.image;
    let url = format!("${{imgbuild-base}}/builds/{}", image.build);
    let mut text = format!(
        "#!ipxe\n# {} {}, written by imgbuild\nisset ${{imgbuild-base}} || set imgbuild-base {base}\n",
        image.name, image.build
    );
    let words = words(form, &url).join(" ");
    let _ = writeln!(text, "kernel {url}/{} initrd=initrd {words}", image.kernel.name);
    text += "initrd --name initrd ${imgbuild-base}/initrd\nboot\n";
    text
}

fn layout<'a>(request: &Request<'a>, directory: &'a Path) -> Result<(Layout<'a>, Vec<String>), Error> {
    let image = request.image;
    let form = mountable(request)?;
    let base = base_of(request, directory);
    let shipped: Vec<&File> = vec![&image.kernel, &form.rootimg];
    let mut files = files_of_build(image, &shipped);
    let text = |path: String, text: String| Planned { path, mode: 0o644, content: Content::Text(text) };
    let folder = format!("builds/{}", image.build);
    let sums = shipped.iter().map(|file| format!("{} *{}\n", file.sha256, file.name)).collect();
    files.push(text(format!("{folder}/SHA256SUMS"), sums));
    let words = words(form, &format!("{base}/{folder}")).join(" ");
    files.push(text(format!("{folder}/cmdline"), words + "\n"));
    files.push(text("boot.ipxe".to_owned(), script(request, form, &base)));
    let mut warnings = Vec::new();
    if form.words.iter().any(|word| word.starts_with("imgbuild.kdump=")) {
        warnings.push("nodes write no dumps by [kdump]: only imgbuild's initrd prepares them".to_owned());
    }
    if request.nodes.iter().any(|node| !node.kernel_args.is_empty()) {
        warnings.push(
            "boot.ipxe has no words of single nodes; a node that needs its own is given them by its boot entry"
                .to_owned(),
        );
    }
    tell_pins(request, "boot.ipxe leads to one build", &mut warnings);
    Ok((layout_of(request, directory, form, (files, OldNames::KeepOnce)), warnings))
}

fn next(request: &Request<'_>, directory: &Path) -> Vec<String> {
    let (shown, release) = (directory.display(), &request.image.kernel_release);
    let mut next = vec![
        format!(
            "put an initrd with systemd 258 or later, systemd-pull, systemd-networkd and the drivers of kernel {release} at {shown}/initrd"
        ),
        "nodes check integrity, not authenticity: SHA256SUMS is from the same server".to_owned(),
    ];
    if request.destination.served_at().is_none() {
        next.push(format!(
            "only iPXE fills in ${{next-server}}: where another loader takes builds/{}/cmdline publish in `{}?files=http://SERVER/PATH`",
            request.image.build, request.destination
        ));
    }
    next
}

/// What [`apply`] would change.
pub(crate) fn plan(request: &Request<'_>) -> Result<Report, Error> {
    let directory = path_of(request)?;
    let (layout, warnings) = layout(request, directory)?;
    Ok(layout.plan()?.with(warnings, next(request, directory)))
}

/// Publishes the build.
pub(crate) fn apply(request: &Request<'_>) -> Result<Report, Error> {
    let directory = path_of(request)?;
    let (layout, warnings) = layout(request, directory)?;
    Ok(layout.apply()?.with(warnings, next(request, directory)))
}
