//! Warewulf 4.6 and later: an image below its state directory (`/var/lib/warewulf`), as `wwctl image build` leaves it.
//!
//! ```text
//! chroots/NAME/rootfs/boot/{vmlinuz-RELEASE,initramfs-RELEASE.img}   the daemon serves both from here
//! chroots/NAME/readonly
//! overlays/imgbuild-NAME/rootfs/warewulf/init.d/15-imgbuild-xattrs   capabilities, which cpio has no place for
//! provision/images/NAME.img, NAME.img.gz                             one stage: the kernel unpacks them
//! ipxe/imgbuild-NAME.ipxe                                            imgbuild's initrd instead, all from the web server of a tree:
//!                                                                    every part of the image has its digest, and kernel and image are of
//!                                                                    the same build whenever the names change
//! ```
//!
//! nodes.conf is not touched.

mod linked;
mod xattrs;

use std::io::{self, Read, Write};
use std::path::Path;

use super::{layout_of, path_of, tell_pins, unfit};
use crate::lay::{Content, Layout, OldNames, Planned};
use crate::{Error, Form, Image, Report, Request, RootKind};

/// The form that `wwctl image build` would make, in whatever compression.
fn cpio<'a>(request: &Request<'a>) -> Result<&'a Form, Error> {
    let known = |form: &&Form| form.kind == RootKind::Cpio && compression(&form.rootimg.name).is_some();
    request.image.forms.iter().find(known).ok_or_else(|| {
        let help = "add it to the recipe: ‹[[pack.also]] archive = \"cpio\"›";
        unfit(request, "Warewulf's images are cpio, and this one has no such form in zstd, gzip or none", help)
    })
}

#[derive(Clone, Copy)]
enum Compressed {
    Zstd,
    Gzip,
    Plain,
}

fn compression(rootimg: &str) -> Option<Compressed> {
    match rootimg.strip_prefix("rootimg.cpio")? {
        ".zst" => Some(Compressed::Zstd),
        ".gz" => Some(Compressed::Gzip),
        "" => Some(Compressed::Plain),
        _ => None,
    }
}

/// The archive without its compression.
fn unpacked<'a>(name: &str, packed: &'a mut dyn Read) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression(name) {
        Some(Compressed::Zstd) => Box::new(zstd::stream::read::Decoder::new(packed)?),
        Some(Compressed::Gzip) => Box::new(flate2::read::MultiGzDecoder::new(io::BufReader::new(packed))),
        _ => Box::new(packed),
    })
}

/// The boot script, a template of Warewulf's: the web server of a tree gives kernel, initrd and image of one build.
pub(crate) fn template(image: &Image, form: &Form) -> String {
    let url = format!("{{{{ index .Tags \"imgbuild\" }}}}/builds/{}", image.build);
    let words = form.boot_words(&url).join(" ");
    format!(
        "#!ipxe\n# {} {}, written by imgbuild\n\
         {{{{ if not (index .Tags \"imgbuild\") }}}}echo imgbuild: this node has no tag imgbuild, the address of the image's files\n\
         sleep 60 ||\nreboot\n{{{{ end }}}}\
         kernel --name kernel {url}/{} initrd=initramfs wwid={{{{.Hwaddr}}}} {{{{.KernelArgs}}}} {words} \
         BOOTIF=01-${{netX/mac:hexhyp}} || reboot\n\
         initrd --name initramfs {url}/{} || reboot\n\
         boot || reboot\n",
        image.name, image.build, image.kernel.name, image.initrd.name
    )
}

type Fill<'a> = Box<dyn Fn(&mut dyn Read, &mut dyn Write) -> io::Result<()> + 'a>;

/// The two archives are made while they are written: what makes them outlives the layout.
struct Archives<'a> {
    plain: Fill<'a>,
    gzip: Fill<'a>,
}

fn archives(form: &Form) -> Archives<'_> {
    let name = &form.rootimg.name;
    let plain =
        |packed: &mut dyn Read, writer: &mut dyn Write| io::copy(&mut unpacked(name, packed)?, writer).map(drop);
    let gzip = |packed: &mut dyn Read, writer: &mut dyn Write| {
        // Without a time or a name in it, the same bytes come out each time.
        let mut encoder = flate2::GzBuilder::new().mtime(0).write(writer, flate2::Compression::new(6));
        io::copy(&mut unpacked(name, packed)?, &mut encoder)?;
        encoder.finish().map(drop)
    };
    Archives { plain: Box::new(plain), gzip: Box::new(gzip) }
}

fn layout<'a>(
    request: &Request<'a>,
    (directory, form, archives): (&'a Path, &'a Form, &'a Archives<'a>),
) -> Result<(Layout<'a>, Vec<String>), Error> {
    let image = request.image;
    let (name, kernel_release) = (&image.name, &image.kernel_release);
    let planned = |path: String, mode, content| Planned { path, mode, content };
    let boot = format!("chroots/{name}/rootfs/boot");
    let mut warnings = Vec::new();
    let mut files = vec![
        planned(format!("{boot}/vmlinuz-{kernel_release}"), 0o644, Content::Copy(&image.kernel)),
        planned(format!("{boot}/initramfs-{kernel_release}.img"), 0o644, Content::Copy(&image.initrd)),
        planned(format!("chroots/{name}/readonly"), 0o644, Content::Text(String::new())),
    ];
    let attributes = xattrs::of(form)?;
    if let Some(script) = attributes.script() {
        let path = format!("overlays/imgbuild-{name}/rootfs/warewulf/init.d/15-imgbuild-xattrs");
        files.push(planned(path, 0o755, Content::Text(script)));
    }
    if attributes.has_labels {
        warnings.push(
            "SELinux labels do not reach nodes in Warewulf's own images: boot with selinux=0, or by the iPXE template"
                .to_owned(),
        );
    }
    if form.words.iter().any(|word| word.starts_with("imgbuild.")) {
        warnings.push("[statelite] and [kdump] work only on nodes that boot by the iPXE template".to_owned());
    }
    tell_pins(request, "Warewulf's names lead to one build", &mut warnings);
    if request.nodes.iter().any(|node| !node.kernel_args.is_empty()) {
        let text = "words that nodes.toml has for single nodes are not passed on: nodes.conf has Warewulf's (`wwctl node set --kernelargs`)";
        warnings.push(text.to_owned());
    }
    let of = |how: &str| format!("{how} of sha256:{}", form.rootimg.sha256);
    let images = format!("provision/images/{name}.img");
    files.push(planned(
        images.clone(),
        0o644,
        Content::Made { of: of("cpio"), from: &form.rootimg, fill: &*archives.plain },
    ));
    files.push(planned(
        format!("{images}.gz"),
        0o644,
        Content::Made { of: of("gzip"), from: &form.rootimg, fill: &*archives.gzip },
    ));
    let script = template(image, form);
    warnings.extend(linked::warning(directory, name, &script));
    files.push(planned(format!("ipxe/imgbuild-{name}.ipxe"), 0o644, Content::Text(script)));
    Ok((layout_of(request, directory, form, (files, OldNames::Remove)), warnings))
}

fn next(request: &Request<'_>, directory: &Path, form: &Form) -> Vec<String> {
    let name = &request.image.name;
    let mut next = vec![format!("wwctl profile set default --image {name}"), "wwctl overlay build".to_owned()];
    let words = form.plain_words().join(" ");
    if !words.is_empty() {
        next.push(format!("add the recipe's words to the kernel arguments of the profile: {words}"));
    }
    next.extend(linked::command(directory, name));
    next.push("such nodes need the tag `imgbuild`: the address of what `--publish tree:DIR` wrote".to_owned());
    let overlay = directory.join(format!("overlays/imgbuild-{name}"));
    if overlay.is_dir() {
        next.push(format!(
            "add `imgbuild-{name}` to the system overlays of the profile, and the package attr to the recipe"
        ));
    }
    next
}

/// What [`apply`] would change.
pub(crate) fn plan(request: &Request<'_>) -> Result<Report, Error> {
    let (directory, form) = (path_of(request)?, cpio(request)?);
    let archives = archives(form);
    let (layout, warnings) = layout(request, (directory, form, &archives))?;
    Ok(layout.plan()?.with(warnings, next(request, directory, form)))
}

/// Publishes the build.
pub(crate) fn apply(request: &Request<'_>) -> Result<Report, Error> {
    let (directory, form) = (path_of(request)?, cpio(request)?);
    let archives = archives(form);
    let (layout, warnings) = layout(request, (directory, form, &archives))?;
    Ok(layout.apply()?.with(warnings, next(request, directory, form)))
}
