//! Where files are: `NAME/BUILD/ARCH/{rootfs.squashfs,vmlinuz,initramfs.img}`, and what imgbuild's initrd needs besides.
//! Source: OpenCHAMI/image-thrillhouse, internal/publisher/s3/s3.go, `objectKeys`: a folder for each tag and CPU; ours is the build.

use crate::kinds::servers::{Published, command_line, first_form};
use crate::{Error, Node, Request, RootKind};

const ROOTFS: &str = "rootfs.squashfs";

pub(super) struct Layout<'a> {
    /// Below the place of files.
    pub folder: String,
    pub files: Vec<Published<'a>>,
    /// Addresses, as nodes ask for them.
    pub kernel: String,
    pub initrd: String,
    /// The image's words, with addresses.
    pub words: Vec<String>,
}

impl<'a> Layout<'a> {
    /// Errors: [`Error::Unfit`] where the build's facts are missing.
    pub(super) fn of(request: &Request<'a>, at: &str) -> Result<Self, Error> {
        let (image, form) = (request.image, first_form(request)?);
        let folder = format!("{}/{}/{}", image.name, image.build, image.arch.name());
        let url = format!("{at}/{folder}");
        // One is enough under this name.
        let squashfs = image.form(RootKind::Squashfs);
        let named = |name: &str| match squashfs {
            Some(one) if name == one.rootimg.name => ROOTFS.to_owned(),
            Some(one) if name == one.index.name => {
                format!("{ROOTFS}{}", name.strip_prefix(&one.rootimg.name).unwrap_or(".index"))
            }
            _ if name == image.kernel.name => "vmlinuz".to_owned(),
            _ if name == image.initrd.name => "initramfs.img".to_owned(),
            _ => name.to_owned(),
        };
        let files = image.files().into_iter().map(|file| Published { name: named(&file.name), file }).collect();
        let old = format!("{{url}}/{}", form.rootimg.name);
        let new = format!("{{url}}/{}", named(&form.rootimg.name));
        let words = form.words.iter().map(|word| word.replace(&old, &new).replace("{url}", &url)).collect();
        Ok(Self { kernel: format!("{url}/vmlinuz"), initrd: format!("{url}/initramfs.img"), folder, files, words })
    }

    /// The command line of a node.
    ///
    /// BSS cuts from the first `initrd` of a line up to the next space, and panics if there is no space. Source: OpenCHAMI/bss,
    /// cmd/boot-script-service/default_api.go, `buildParams`.
    /// Errors: [`Error::Unfit`] that names the word.
    pub(super) fn line(&self, request: &Request<'_>, node: &Node) -> Result<Vec<String>, Error> {
        let all = command_line(request, self.words.clone(), Some(node))?;
        match all.iter().find(|word| word.contains("initrd")) {
            None => Ok(all),
            Some(word) => Err(Error::Unfit {
                destination: request.destination.to_string(),
                problem: format!(
                    "the boot script service removes `initrd` from the command line, and `{word}` of {} has it",
                    node.name
                ),
                help: "remove the word, or name image and directories without `initrd`".to_owned(),
            }),
        }
    }
}
