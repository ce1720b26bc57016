//! `imgbuild boot-entry`: prints boot loader configuration for a published image.

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::json;

use crate::Exit;
use crate::output::render;
use crate::published::image_and_out;
use crate::setup::{published_form, published_image};
use nodes::loaders::initrd_of;

/// Arguments of `boot-entry`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The image, if the workspace has several
    #[arg(value_name = "IMAGE")]
    pub image: Option<String>,
    /// URL of the directory of the artefacts, for instance http://10.0.0.1/compute
    #[arg(long, value_name = "URL")]
    pub url: String,
    /// Boot loader
    #[arg(long, value_enum, default_value_t = Loader::Ipxe)]
    pub format: Loader,
    /// Extra kernel command-line arguments
    #[arg(long = "append", value_name = "WORDS", allow_hyphen_values = true)]
    pub append: Vec<String>,
    /// Packed image to use, if there are several: rootimg.sfs [default: that of [pack]]
    #[arg(long, value_name = "FILE")]
    pub rootimg: Option<String>,
    /// Device tree of the nodes, if the image has several: board.dtb [default: the only one]
    #[arg(long, value_name = "FILE")]
    pub device_tree: Option<String>,
    /// Where artefacts are [default: `out` next to the recipe]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Boot loaders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Loader {
    /// iPXE script
    Ipxe,
    /// GRUB menu entry
    Grub,
    /// PXELINUX label
    Pxelinux,
    /// Complete dnsmasq configuration that chains to the iPXE script
    Dnsmasq,
    /// JSON, for tools that write entries themselves
    Json,
}

struct Entry {
    name: String,
    /// Without a slash at the end.
    url: String,
    initrd: &'static str,
    cmdline: Vec<String>,
    device_tree: Option<String>,
}

const KERNEL: &str = "kernel";

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    let url = own.url.trim_end_matches('/');
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).filter(|rest| !rest.is_empty());
    if host.is_none() || url.contains(char::is_whitespace) {
        let shown = own.url.escape_debug();
        render::say(&format!(
            "error: `{shown}` is not a URL that nodes can use: write http://HOST/PATH or https://HOST/PATH"
        ));
        return Err(Exit::Usage);
    }
    let (name, out) = image_and_out(arguments, own.image.as_deref(), own.out.as_deref())?;
    let name = &name;
    let (directory, info) = match published_image(&out, name)? {
        Some(found) => found,
        None => {
            render::say(&format!("nothing is published in {}: run `imgbuild build` first", out.join(name).display()));
            return Err(Exit::Input);
        }
    };
    let initrd = initrd_of(&info.cmdline);
    if let Some(missing) = [KERNEL, initrd].iter().find(|file| !info.artefacts.iter().any(|one| one.name == **file)) {
        render::say(&format!(
            "the published image has no `{missing}`: nodes cannot boot it; `imgbuild build` publishes all"
        ));
        return Err(Exit::Input);
    }
    let (words, _) = published_form(&info, own.rootimg.as_deref())?;
    let device_tree = match device_tree(&info.device_trees(), own.device_tree.as_deref()) {
        Ok(tree) => tree,
        Err(problem) => {
            render::say(&problem);
            return Err(Exit::Usage);
        }
    };
    let is_lazy = |word: &&String| word.starts_with("imgbuild.root=lazy");
    let build = directory.file_name().and_then(|build| build.to_str());
    let of_build = build.filter(|_| words.iter().chain(&own.append).any(|word| is_lazy(&word)));
    let of_build = of_build.map(|build| url_of_build(url, name, build));
    let url = match &of_build {
        Some(Some(of_build)) => of_build.as_str(),
        Some(None) => {
            render::say(&format!(
                "warning: {url} names no build: nodes read their root from it as long as they run, and find another one there after the next build\n  help: give the address at which `{}` is served: --url {url}/{name}",
                out.join(name).display()
            ));
            url
        }
        None => url,
    };
    let words = words.iter().map(|word| word.replace("{url}", url));
    let cmdline = words.chain(own.append.iter().cloned()).collect();
    let entry = Entry { name: name.clone(), url: url.to_owned(), initrd, cmdline, device_tree };
    let text = match own.format {
        Loader::Ipxe => entry.ipxe(),
        Loader::Grub => match entry.grub() {
            Some(text) => text,
            None => {
                render::say("error: GRUB fetches by http only: give --url with http://, or use another loader");
                return Err(Exit::Usage);
            }
        },
        Loader::Pxelinux if entry.url.starts_with("https:") => {
            render::say(
                "error: pxelinux fetches by http and TFTP only: give --url with http://, or use another loader",
            );
            return Err(Exit::Usage);
        }
        Loader::Pxelinux => entry.pxelinux(),
        Loader::Dnsmasq => entry.dnsmasq(),
        Loader::Json => {
            let mut text = json!({"format_version": "1.0", "image": entry.name, "kernel": format!("{url}/{KERNEL}"), "initrd": format!("{url}/{initrd}"), "cmdline": entry.cmdline});
            if let (Some(tree), Some(fields)) = (&entry.device_tree, text.as_object_mut()) {
                fields.insert("device_tree".to_owned(), format!("{url}/{tree}").into());
            }
            format!("{text:#}\n")
        }
    };
    render::print_whole(&text);
    Ok(Exit::Done)
}

/// The address of a build, which stays as it is, for the one of the image, which another build gets; none where it is neither.
fn url_of_build(url: &str, name: &str, build: &str) -> Option<String> {
    if url.contains("/.builds/") {
        return Some(url.to_owned());
    }
    Some(format!("{}/.builds/{name}/{build}", url.strip_suffix(name)?.strip_suffix('/')?))
}

/// The device tree that an entry names: the one that is asked for, or the only one.
fn device_tree(trees: &[String], asked: Option<&str>) -> Result<Option<String>, String> {
    let listed = trees.join(", ");
    match (asked, trees) {
        (Some(asked), _) if trees.iter().any(|tree| tree == asked) => Ok(Some(asked.to_owned())),
        (Some(asked), []) => Err(format!(
            "error: the published image has no device tree, so not `{asked}`: name it in the recipe's `[kernel] device_trees`, and build"
        )),
        (Some(asked), _) => Err(format!("error: the published image has no device tree `{asked}`: it has {listed}")),
        (None, [one]) => Ok(Some(one.clone())),
        (None, []) => Ok(None),
        (None, _) => {
            Err(format!("error: the published image has several device trees: choose one with --device-tree: {listed}"))
        }
    }
}

impl Entry {
    fn words(&self) -> String {
        self.cmdline.join(" ")
    }

    /// Source: ipxe.org/cmd/kernel; `netX` is the interface that it booted from.
    fn ipxe(&self) -> String {
        let Self { name, url, initrd, .. } = self;
        format!(
            "#!ipxe\n\
             # Boots `{name}`. Put it where iPXE's filename points, for instance next to the artefacts as {url}/boot.ipxe.\n\
             kernel {url}/{KERNEL} initrd={initrd} {} BOOTIF=01-${{netX/mac:hexhyp}}\n\
             initrd --name {initrd} {url}/{initrd}\n\
             boot\n",
            self.words()
        )
    }

    /// Source: GRUB's manual, "Network"; paths are `(http,HOST)/PATH`.
    fn grub(&self) -> Option<String> {
        let (host, path) = self.url.strip_prefix("http://").map(|rest| rest.split_once('/').unwrap_or((rest, "")))?;
        let path = if path.is_empty() { String::new() } else { format!("/{path}") };
        let tree = self.device_tree.as_ref();
        let tree = tree.map(|tree| format!("    devicetree (http,{host}){path}/{tree}\n")).unwrap_or_default();
        Some(format!(
            "# Boots `{0}`. Put it into grub.cfg on the TFTP or HTTP server that GRUB was loaded from.\n\
             set default=0\nset timeout=0\nmenuentry \"{0}\" {{\n    insmod http\n    linux (http,{host}){path}/{KERNEL} {1} BOOTIF=01-$net_default_mac\n    \
             initrd (http,{host}){path}/{2}\n{tree}}}\n",
            self.name,
            self.words(),
            self.initrd
        ))
    }

    /// Source: wiki.syslinux.org, SYSLINUX; `IPAPPEND 2` adds BOOTIF.
    fn pxelinux(&self) -> String {
        let Self { name, url, initrd, .. } = self;
        // U-Boot's word: PXELINUX itself runs on x86 only.
        let tree = self.device_tree.as_ref().map(|tree| format!("    FDT {url}/{tree}\n")).unwrap_or_default();
        format!(
            "# Boots `{name}`. Put it into pxelinux.cfg/default; lpxelinux.0 fetches by http, pxelinux.0 needs the two files by TFTP.\n\
             DEFAULT {name}\nLABEL {name}\n    KERNEL {url}/{KERNEL}\n    INITRD {url}/{initrd}\n{tree}    APPEND {}\n    IPAPPEND 2\n",
            self.words()
        )
    }

    /// Source: dnsmasq(8), dhcp-match and dhcp-boot; option 175 is iPXE's, 93 the client's architecture (RFC 4578).
    fn dnsmasq(&self) -> String {
        let Self { name, url, .. } = self;
        format!(
            "# Boots `{name}`. Put it into /etc/dnsmasq.d/imgbuild.conf; the script is that of `imgbuild boot-entry --format ipxe`.\n\
             # Without a name server.\n\
             port=0\n\
             # The nodes' network: correct it.\n\
             interface=eth0\n\
             dhcp-range=10.0.0.100,10.0.0.199,12h\n\
             # Firmware without iPXE gets it by TFTP, from the package `ipxe`; iPXE gets the script.\n\
             enable-tftp\n\
             tftp-root=/usr/lib/ipxe\n\
             dhcp-match=set:ipxe,175\n\
             dhcp-match=set:efi,option:client-arch,7\n\
             dhcp-match=set:efi,option:client-arch,9\n\
             dhcp-boot=tag:!ipxe,tag:!efi,undionly.kpxe\n\
             dhcp-boot=tag:!ipxe,tag:efi,ipxe.efi\n\
             dhcp-boot=tag:ipxe,{url}/boot.ipxe\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::url_of_build;

    #[test]
    fn a_lazy_root_has_the_address_of_its_build() {
        for (url, expected) in [
            ("http://a/compute", Some("http://a/.builds/compute/01ab")),
            ("http://a:81/x/compute", Some("http://a:81/x/.builds/compute/01ab")),
            ("http://a/.builds/compute/ff", Some("http://a/.builds/compute/ff")),
            ("http://a", None),
            ("http://a/mycompute", None),
            ("http://a/gpu", None),
        ] {
            assert_eq!(url_of_build(url, "compute", "01ab").as_deref(), expected, "{url}");
        }
    }
}
