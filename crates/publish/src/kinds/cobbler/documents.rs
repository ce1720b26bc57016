//! A distro for each build, a profile that leads to the newest, a system for each node.
//!
//! Each says in its comment that imgbuild wrote it, with a digest of what it wrote.

use std::path::Path;

use super::options::{Options, problem, quoted};
use super::xmlrpc::Value;
use crate::kinds::servers::{Owner, boots, command_line, digest_of, first_form};
use crate::{Arch, Error, Node, Request};

const COMMENT: &str = "imgbuild ";
/// Cobbler adds words of its own to the command line for breeds that it knows. Source: cobbler/tftpgen.py, `build_kernel_options`.
const BREED: &str = "generic";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Distro,
    Profile,
    System,
}

impl What {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Distro => "distro",
            Self::Profile => "profile",
            Self::System => "system",
        }
    }
}

#[derive(Debug)]
pub(super) struct Document {
    pub what: What,
    pub name: String,
    pub fields: Vec<(&'static str, Value)>,
    /// What counts of it, in the same form as [`seen`] gives it.
    facts: Vec<String>,
}

/// Below the directory of files.
pub(super) fn folder(request: &Request<'_>) -> String {
    format!("{}/{}", request.image.name, request.image.build)
}

/// The name of a kernel that Cobbler takes. Source: cobbler/utils.py, `_re_kernel`.
pub(super) const KERNEL: &str = "vmlinuz";

/// The distro of a build.
pub(super) fn distro_name(request: &Request<'_>, build: &str) -> String {
    format!("{}-{build}", request.image.name)
}

/// Distro, profile, profiles of pins, systems: in the order in which they are written. `pins` are builds whose distro is there.
/// Errors: [`Error::Unfit`] where Cobbler cannot keep something as it is.
pub(super) fn documents(
    request: &Request<'_>,
    directory: &Path,
    files: &str,
    pins: &[String],
) -> Result<Vec<Document>, Error> {
    let image = request.image;
    let unfit = |problem: String, help: &str| Error::Unfit {
        destination: request.destination.to_string(),
        problem,
        help: help.to_owned(),
    };
    let arch = match image.arch {
        Arch::X86_64 | Arch::Aarch64 | Arch::Ppc64le => image.arch.name(),
        Arch::Riscv64 => return Err(unfit("Cobbler 3.3 has no riscv64".to_owned(), "publish with `tree:DIRECTORY`")),
    };
    // Source: cobbler 3.3, cobbler/items/item.py, `RE_OBJECT_NAME`.
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.:".contains(c));
    let names = [image.name.as_str(), image.build.as_str()]
        .into_iter()
        .chain(request.nodes.iter().map(|node| node.name.as_str()));
    if let Some(name) = names.into_iter().find(|name| !is_name(name)) {
        let help = "use letters, digits, `_`, `-`, `.` and `:`";
        return Err(unfit(format!("Cobbler takes no name as `{}`", name.escape_debug()), help));
    }
    let url = format!("{files}/{}", folder(request));
    let words = command_line(request, first_form(request)?.boot_words(&url), None)?;
    let at = directory.join(folder(request));
    let path = |name: &str| at.join(name).display().to_string();
    let (kernel, initrd) = (path(KERNEL), path(&image.initrd.name));
    let distro = distro_name(request, &image.build);
    let check = |words: &[String], whose: &str| match words.iter().find_map(|word| Some((word, problem(word)?))) {
        None => Ok(()),
        Some((word, why)) => {
            let help = "write the word otherwise in ‹[boot] cmdline› or in nodes.toml's kernel_args";
            Err(unfit(format!("the word `{}` of {whose} cannot be given to Cobbler: {why}", word.escape_debug()), help))
        }
    };
    check(&words, "the image")?;
    let mut all = vec![document(
        What::Distro,
        distro.clone(),
        vec![
            ("kernel", Value::text(&kernel)),
            ("initrd", Value::text(&initrd)),
            ("arch", Value::text(arch)),
            ("breed", Value::text(BREED)),
            ("kernel_options", Value::Text(quoted(&words))),
        ],
        vec![kernel.clone(), initrd.clone(), arch.to_owned(), Options::of_words(&words).canonical()],
    )];
    for pin in pins {
        let name = distro_name(request, pin);
        all.push(profile(&name, &name));
    }
    all.push(profile(&image.name, &distro));
    let boots = boots(request);
    for node in boots.current {
        check(&node.kernel_args, &node.name)?;
        all.push(system(request, node, &image.name, &words)?);
    }
    for (node, pin) in boots.pinned {
        if pins.iter().any(|known| known == pin) {
            check(&node.kernel_args, &node.name)?;
            all.push(system(request, node, &distro_name(request, pin), &words)?);
        }
    }
    Ok(all)
}

fn document(what: What, name: String, mut fields: Vec<(&'static str, Value)>, facts: Vec<String>) -> Document {
    let digest = digest_of(facts.iter().map(String::as_str));
    fields.push(("comment", Value::Text(format!("{COMMENT}{digest}"))));
    Document { what, name, fields, facts }
}

fn profile(name: &str, distro: &str) -> Document {
    document(What::Profile, name.to_owned(), vec![("distro", Value::text(distro))], vec![distro.to_owned()])
}

/// Cards by the names that Cobbler has for them.
fn cards(node: &Node) -> Vec<(String, String, String)> {
    let of = |(index, mac): (usize, &String)| {
        let name = if index == 0 { "default".to_owned() } else { format!("card{}", index + 1) };
        let ip = node.ip.filter(|ip| index == 0 && ip.is_ipv4()).map(|ip| ip.to_string()).unwrap_or_default();
        (name, mac.to_ascii_lowercase(), ip)
    };
    node.macs.iter().enumerate().map(of).collect()
}

fn system(request: &Request<'_>, node: &Node, profile: &str, image: &[String]) -> Result<Document, Error> {
    let Some(first) = node.macs.first() else {
        return Err(Error::Unfit {
            destination: request.destination.to_string(),
            problem: format!("{} has no MAC address, by which Cobbler knows it", node.name),
            help: "write its `mac` into nodes.toml".to_owned(),
        });
    };
    let mut own = node.kernel_args.clone();
    // Of Cobbler's loaders only pxelinux says by which card it came.
    if !own.iter().chain(image).any(|word| word.starts_with("BOOTIF=")) {
        own.push(format!("BOOTIF=01-{}", first.to_ascii_lowercase().replace(':', "-")));
    }
    command_line(request, image.to_vec(), Some(&Node { kernel_args: own.clone(), ..node.clone() }))?;
    let words = Options::of_system(image, &own);
    let cards = cards(node);
    let interfaces = cards.iter().flat_map(|(name, mac, ip)| {
        [(format!("macaddress-{name}"), Value::text(mac)), (format!("ipaddress-{name}"), Value::text(ip))]
    });
    let fields = vec![
        ("profile", Value::text(profile)),
        ("kernel_options", Value::Text(quoted(&words))),
        // Without it a system gets no boot files of its own, and boots its disk.
        ("netboot_enabled", Value::Bool(true)),
        ("modify_interface", Value::Map(interfaces.collect())),
    ];
    let mut facts = vec![profile.to_owned(), Options::of_words(&words).canonical(), "true".to_owned()];
    facts.extend(cards.into_iter().map(|(name, mac, ip)| format!("{name} {mac} {ip}")));
    facts[3..].sort();
    Ok(document(What::System, node.name.clone(), fields, facts))
}

/// What counts of an item that a server has.
fn seen(what: What, item: &Value) -> Vec<String> {
    let options = || Options::of_value(item.get("kernel_options")).canonical();
    match what {
        What::Distro => vec![
            item.field("kernel").to_owned(),
            item.field("initrd").to_owned(),
            item.field("arch").to_owned(),
            options(),
        ],
        What::Profile => vec![item.field("distro").to_owned()],
        What::System => {
            let is_netbooted = item.get("netboot_enabled") == Some(&Value::Bool(true));
            let mut all = vec![item.field("profile").to_owned(), options(), is_netbooted.to_string()];
            if let Some(Value::Map(cards)) = item.get("interfaces") {
                let card = |(name, card): (&String, &Value)| {
                    format!("{name} {} {}", card.field("mac_address").to_ascii_lowercase(), card.field("ip_address"))
                };
                all.extend(cards.iter().map(card));
            }
            all[3..].sort();
            all
        }
    }
}

impl Document {
    /// Who wrote what is there.
    pub(super) fn owner(&self, item: &Value) -> Owner {
        let Some(digest) = item.field("comment").strip_prefix(COMMENT) else { return Owner::Site };
        let seen = seen(self.what, item);
        match digest_of(seen.iter().map(String::as_str)) == digest.trim() {
            true => Owner::Imgbuild,
            false => Owner::ChangedByHand,
        }
    }

    pub(super) fn is_same(&self, item: &Value) -> bool {
        seen(self.what, item) == self.facts
    }
}
