//! Files of boot loaders: which there are for a node, and their text from templates that a site may replace.

mod render;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::Effective;
use super::model::Attr;
use super::model::mac::Mac;
use base::source::{Finding, Severity, SourceFile};
use recipe::recipe_text;

pub use render::{Templates, grub as grub_word};

/// Where a site's own templates lie, from the workspace's root.
pub const TEMPLATES: &str = "loaders";

/// Names of the artefacts that a loader loads.
pub const KERNEL: &str = "kernel";
const INITRD: &str = "initrd-stateless";
/// The one of images whose nodes have paths of their own.
const INITRD_STATELITE: &str = "initrd-statelite";

/// The initrd that goes with the words of a command line.
pub fn initrd_of(words: &[String]) -> &'static str {
    let is_statelite = |word: &String| word.starts_with("imgbuild.statelite=");
    if words.iter().any(is_statelite) { INITRD_STATELITE } else { INITRD }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loader {
    /// iPXE, BIOS and UEFI, x86-64 and arm64. Source: ipxe.org/cmd.
    Ipxe,
    /// GRUB 2, BIOS and UEFI, x86-64 and arm64, by http or tftp. Source: GRUB's manual, "Network".
    Grub,
    /// PXELINUX. Source: wiki.syslinux.org, PXELINUX.
    Pxelinux,
    /// petitboot, of OPAL machines; it reads PXELINUX's words.
    Petitboot,
    /// xCAT's own iPXE.
    Xnba,
    /// shim and the GRUB behind it, as distributions sign them for Secure Boot: UEFI, x86-64 and arm64.
    Shim,
}

impl Loader {
    pub const ALL: [Self; 6] = [Self::Ipxe, Self::Grub, Self::Pxelinux, Self::Petitboot, Self::Xnba, Self::Shim];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ipxe => "ipxe",
            Self::Grub => "grub",
            Self::Pxelinux => "pxelinux",
            Self::Petitboot => "petitboot",
            Self::Xnba => "xnba",
            Self::Shim => "shim",
        }
    }

    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == text)
    }

    pub fn built_in(self) -> &'static str {
        match self {
            Self::Ipxe => include_str!("templates/ipxe.j2"),
            Self::Grub => include_str!("templates/grub.j2"),
            Self::Pxelinux => include_str!("templates/pxelinux.j2"),
            Self::Petitboot => include_str!("templates/petitboot.j2"),
            Self::Xnba => include_str!("templates/xnba.j2"),
            Self::Shim => include_str!("templates/shim.j2"),
        }
    }

    /// The address of the server, where none is named: loaders that know whom they were loaded from.
    pub fn own_url(self) -> Option<&'static str> {
        match self {
            Self::Ipxe | Self::Xnba => Some("http://${next-server}"),
            Self::Grub | Self::Shim => Some("http://${net_default_server}"),
            Self::Pxelinux | Self::Petitboot => None,
        }
    }

    pub fn runs_on(self, arch: &str) -> bool {
        match self {
            Self::Ipxe | Self::Shim => arch != "ppc64le",
            Self::Grub => true,
            Self::Pxelinux | Self::Xnba => arch == "x86_64",
            Self::Petitboot => arch == "ppc64le",
        }
    }

    /// Names of a node's files, from the directory that nodes are served from. Those with `.uefi` are xCAT's for UEFI.
    pub fn files(self, node: &Effective) -> Vec<String> {
        let (name, macs) = (&node.name, node.macs());
        let hex = match node.ip() {
            Some(IpAddr::V4(ip)) => Some(format!("{:08X}", u32::from(ip))),
            _ => None,
        };
        let of_macs = |before: &str, after: &str| -> Vec<String> {
            macs.iter().map(|mac| format!("{before}{}{after}", mac.hyphens())).collect()
        };
        let mut files = match self {
            Self::Ipxe => [vec![format!("ipxe/node/{name}.ipxe")], of_macs("ipxe/mac/", ".ipxe")].concat(),
            Self::Grub => [vec![format!("boot/grub2/{name}")], of_macs("boot/grub2/grub.cfg-01-", "")].concat(),
            Self::Pxelinux => of_macs("pxelinux.cfg/01-", ""),
            Self::Petitboot => vec![format!("petitboot/{name}")],
            Self::Xnba => vec![format!("xcat/xnba/nodes/{name}"), format!("xcat/xnba/nodes/{name}.uefi")],
            // Debian's and Ubuntu's signed GRUB read grub/grub.cfg alone, which knows the address with colons; others look themselves.
            Self::Shim => {
                let own = macs.iter().map(|mac| shim_file(*mac));
                own.chain(of_macs("grub/grub.cfg-01-", "")).collect()
            }
        };
        // By the address in hexadecimal, capital letters.
        files.extend(hex.and_then(|hex| match self {
            Self::Grub => Some(format!("boot/grub2/grub.cfg-{hex}")),
            Self::Shim => Some(format!("grub/grub.cfg-{hex}")),
            Self::Pxelinux => Some(format!("pxelinux.cfg/{hex}")),
            Self::Petitboot => Some(hex),
            Self::Ipxe | Self::Xnba => None,
        }));
        files
    }
}

/// The name of a node's configuration behind shim, from the directory that nodes are served from: what GRUB's `$net_default_mac` says.
pub fn shim_file(mac: Mac) -> String {
    format!("grub/mac/{mac}")
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFiles {
    /// Their names, from the directory that nodes are served from.
    pub paths: Vec<String>,
    pub plain: String,
    /// The text of those that end in `.uefi`, where there are some.
    pub uefi: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootable {
    pub image: String,
    pub build: String,
    /// Words for the kernel's command line, with `{url}` for the directory of the files.
    pub cmdline: Vec<String>,
    /// Device trees beside the kernel: names of their files.
    pub device_trees: Vec<String>,
}

/// The variable of a node that names its device tree, where an image has several.
const DEVICE_TREE: &str = "device_tree";

#[derive(Debug, Clone)]
pub struct Boot<'a> {
    pub node: &'a Effective,
    pub loader: Loader,
    /// What it boots; none: its disk.
    pub bootable: Option<&'a Bootable>,
    /// Where `out/` is on the server; `{image}` in it stands for the image.
    pub url: &'a str,
    /// Further servers with the same, for a node whose own is gone.
    pub servers: &'a [String],
    /// Where the node reports, with its token: `imgbuild.report=` on the kernel's command line.
    pub report: Option<&'a str>,
}

/// Addresses of what a node boots.
struct Addresses {
    /// Where `out/` is.
    base: String,
    /// The directory of the files.
    url: String,
}

impl Boot<'_> {
    /// What templates get; docs/nodes.md lists it.
    fn context(&self, uefi: bool) -> serde_json::Value {
        let node = self.node;
        let mut context = json!({
            "node": node.name,
            "groups": node.groups,
            "mac": node.macs().first().map(ToString::to_string).unwrap_or_default(),
            "macs": node.macs().iter().map(Mac::to_string).collect::<Vec<_>>(),
            "ip": node.ip().map(|ip| ip.to_string()).unwrap_or_default(),
            "arch": node.text(Attr::Arch).unwrap_or("x86_64"),
            "vars": node.variables(),
            "report": self.report.unwrap_or_default(),
            "uefi": uefi,
            "boots": "disk",
            "state": "boot",
        });
        if let Some(boot) = self.bootable {
            let Bootable { image, build, device_trees, .. } = boot;
            let Addresses { base, url } = self.addresses(boot);
            let own = node.kernel_words();
            // A card that the file names goes before the one that the loader came from.
            let bootif = !own.iter().any(|word| word.starts_with("netdev=") || word.starts_with("BOOTIF="));
            let words = self.words();
            let place = |file: &str| match (self.loader, url.strip_prefix("http://")) {
                (Loader::Grub, Some(rest)) => {
                    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
                    format!("(http,{host})/{path}/{file}")
                }
                // Signed GRUBs load from where they came from, and not all of them know HTTP: without a device it is that.
                (Loader::Shim, _) => {
                    let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map(|(_, path)| path);
                    format!("/{}/{file}", path.unwrap_or_default())
                }
                _ => format!("{url}/{file}"),
            };
            let own_tree = node.variables().get(DEVICE_TREE).copied();
            let tree = match &device_trees[..] {
                [one] => Some(one),
                several => several.iter().find(|name| own_tree == Some(name.as_str())),
            };
            let of_image = json!({
                "boots": "image",
                "state": format!("netboot {image}@{build}"),
                "image": image,
                "build": build,
                "url": url,
                "scheme": base.split("://").next().unwrap_or_default(),
                "kernel": place(KERNEL),
                "initrd": place(initrd_of(&words)),
                "initrd_name": initrd_of(&words),
                "device_tree": tree.map(|tree| place(tree)).unwrap_or_default(),
                "words": words,
                "bootif": bootif,
            });
            if let (Some(context), Some(more)) = (context.as_object_mut(), of_image.as_object()) {
                context.extend(more.clone());
            }
        }
        context
    }

    /// Where the files of what it boots are.
    fn addresses(&self, boot: &Bootable) -> Addresses {
        let Bootable { image, build, .. } = boot;
        let base = self.url.trim_end_matches('/').replace("{image}", image);
        let url = if fault::planted("build-not-pinned") {
            format!("{base}/{image}")
        } else {
            format!("{base}/.builds/{image}/{build}")
        };
        Addresses { base, url }
    }

    /// The words of the kernel's command line; none where the node boots its disk.
    pub fn words(&self) -> Vec<String> {
        let Some(boot) = self.bootable else { return Vec::new() };
        let Bootable { image, build, cmdline, .. } = boot;
        let Addresses { base, url } = self.addresses(boot);
        let others = self.servers.iter().map(|other| other.trim_end_matches('/').replace("{image}", image));
        let others: Vec<String> = others.filter(|other| *other != base).collect();
        let word = |word: &String| {
            let mut text = word.replace("{url}", &url);
            if let Some(file) = word.strip_prefix("imgurl={url}") {
                text.extend(others.iter().map(|other| format!(",{other}/.builds/{image}/{build}{file}")));
            }
            text
        };
        let mut words: Vec<String> = cmdline.iter().map(word).collect();
        words.push(format!("NODE={}", self.node.name));
        words.extend(self.node.kernel_words());
        words.extend(self.report.map(|report| format!("imgbuild.report={report}")));
        words
    }

    /// The node's files with their texts.
    /// Errors: What is wrong with the template, at its place.
    pub fn files(&self, templates: &Templates) -> Result<NodeFiles, Finding> {
        let plain = templates.render(self.loader, &self.context(false))?;
        let uefi = match self.loader == Loader::Xnba {
            true => Some(templates.render(self.loader, &self.context(true))?),
            false => None,
        };
        Ok(NodeFiles { paths: self.loader.files(self.node), plain, uefi })
    }
}

/// The text of a loader's template: the site's own, or the one that comes with imgbuild.
/// Errors: The site's cannot be read.
fn text_of(root: &Path, loader: Loader) -> Result<Arc<SourceFile>, Finding> {
    let name = format!("{TEMPLATES}/{}.j2", loader.name());
    let path = root.join(&name);
    if !witness::is_there(&path) {
        return Ok(SourceFile::new(format!("built-in {}.j2", loader.name()), &path, loader.built_in()));
    }
    recipe_text(&path, &name).map_err(|mut findings| match findings.pop() {
        Some(finding) => finding,
        None => Finding::nowhere(Severity::Error, "nodes::template", format!("`{name}` cannot be read")),
    })
}
