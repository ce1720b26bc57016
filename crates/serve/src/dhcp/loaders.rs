//! Files of boot loaders that firmware fetches: from the site's directory, else from where packages put them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Answers;
use crate::error::ServeError;
use nodes::loaders::Loader;
use nodes::{Attr, Effective};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Firmware {
    Bios,
    /// UEFI, x86-64.
    Efi64,
    Arm64,
}

impl Firmware {
    pub(super) const ALL: [Self; 3] = [Self::Bios, Self::Efi64, Self::Arm64];

    pub(super) fn tag(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Efi64 => "efi64",
            Self::Arm64 => "arm64",
        }
    }

    /// The tag of the same firmware where it boots by HTTP.
    pub(super) fn http_tag(self) -> Option<&'static str> {
        match self {
            Self::Bios => None,
            Self::Efi64 => Some("http64"),
            Self::Arm64 => Some("httparm64"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bios => "BIOS",
            Self::Efi64 => "UEFI on x86-64",
            Self::Arm64 => "UEFI on arm64",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    /// The loader; iPXE stands for xnba, too.
    pub loader: Loader,
    pub firmware: Firmware,
    /// Its name below the directory of TFTP.
    pub name: &'static str,
    pub from: PathBuf,
    /// What it loads itself from beside it.
    pub beside: Vec<(&'static str, PathBuf)>,
    /// Whether it can fetch by HTTP without more: one that HTTP loaded has to.
    pub speaks_http: bool,
}

/// Where a loader's file may be: its name, and where packages put it. Sources: the lists of files of Debian's and Fedora's packages
/// ipxe, ipxe-bootimgs, grub-efi-amd64-bin, grub-efi-amd64-signed, pxelinux, syslinux-common, syslinux-tftpboot; `grub-mknetdir`.
struct Candidate {
    loader: Loader,
    firmware: Firmware,
    name: &'static str,
    packaged: &'static [&'static str],
    beside: &'static [(&'static str, &'static [&'static str])],
}

/// What GRUB's images of Debian 12 load before they can fetch by HTTP.
const HTTP_MOD: &[(&str, &[&str])] =
    &[("grub/x86_64-efi/http.mod", &["/usr/lib/grub/x86_64-efi/http.mod", "/usr/lib/grub2/x86_64-efi/http.mod"])];
const HTTP_MOD_ARM64: &[(&str, &[&str])] =
    &[("grub/arm64-efi/http.mod", &["/usr/lib/grub/arm64-efi/http.mod", "/usr/lib/grub2/arm64-efi/http.mod"])];

/// Where packages of distributions with RPM put shim and GRUB.
const GRUB_SIGNED: &[(&str, &[&str])] = &[(
    "grubx64.efi",
    &[
        "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed",
        "/boot/efi/EFI/redhat/grubx64.efi",
        "/boot/efi/EFI/rocky/grubx64.efi",
        "/boot/efi/EFI/almalinux/grubx64.efi",
        "/boot/efi/EFI/fedora/grubx64.efi",
        "/usr/share/efi/x86_64/grub.efi",
    ],
)];
const GRUB_SIGNED_ARM64: &[(&str, &[&str])] = &[(
    "grubaa64.efi",
    &["/usr/lib/grub/arm64-efi-signed/grubnetaa64.efi.signed", "/boot/efi/EFI/redhat/grubaa64.efi"],
)];
/// shim starts this to take keys of a site in; it need not be there.
const KEYS_OF_SITE: &[(Firmware, &str, &str)] = &[
    (Firmware::Efi64, "mmx64.efi", "/usr/lib/shim/mmx64.efi.signed"),
    (Firmware::Arm64, "mmaa64.efi", "/usr/lib/shim/mmaa64.efi.signed"),
];

const LDLINUX: &[(&str, &[&str])] = &[(
    "ldlinux.c32",
    &["/usr/lib/syslinux/modules/bios/ldlinux.c32", "/usr/share/syslinux/ldlinux.c32", "/tftpboot/ldlinux.c32"],
)];

const fn candidate(
    loader: Loader,
    firmware: Firmware,
    name: &'static str,
    packaged: &'static [&'static str],
    beside: &'static [(&'static str, &'static [&'static str])],
) -> Candidate {
    Candidate { loader, firmware, name, packaged, beside }
}

/// The first one that exists counts for its loader and firmware.
const CANDIDATES: &[Candidate] = &[
    candidate(
        Loader::Ipxe,
        Firmware::Bios,
        "undionly.kpxe",
        &["/usr/lib/ipxe/undionly.kpxe", "/usr/share/ipxe/undionly.kpxe"],
        &[],
    ),
    candidate(
        Loader::Ipxe,
        Firmware::Efi64,
        "snponly.efi",
        &["/usr/lib/ipxe/snponly.efi", "/usr/share/ipxe/ipxe-snponly-x86_64.efi"],
        &[],
    ),
    candidate(
        Loader::Ipxe,
        Firmware::Efi64,
        "ipxe.efi",
        &["/usr/lib/ipxe/ipxe.efi", "/usr/share/ipxe/ipxe-x86_64.efi"],
        &[],
    ),
    candidate(
        Loader::Ipxe,
        Firmware::Arm64,
        "snponly-arm64.efi",
        &["/usr/lib/ipxe/snponly-arm64.efi", "/usr/share/ipxe/arm64-efi/snponly.efi"],
        &[],
    ),
    candidate(Loader::Grub, Firmware::Bios, "boot/grub/i386-pc/core.0", &[], &[]),
    candidate(Loader::Grub, Firmware::Efi64, "boot/grub/x86_64-efi/core.efi", &[], &[]),
    candidate(
        Loader::Grub,
        Firmware::Efi64,
        "grubnetx64.efi",
        &[
            "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed",
            "/usr/lib/grub/x86_64-efi/monolithic/grubnetx64.efi",
        ],
        HTTP_MOD,
    ),
    candidate(Loader::Grub, Firmware::Arm64, "boot/grub/arm64-efi/core.efi", &[], &[]),
    candidate(
        Loader::Grub,
        Firmware::Arm64,
        "grubnetaa64.efi",
        &[
            "/usr/lib/grub/arm64-efi-signed/grubnetaa64.efi.signed",
            "/usr/lib/grub/arm64-efi/monolithic/grubnetaa64.efi",
        ],
        HTTP_MOD_ARM64,
    ),
    candidate(
        Loader::Pxelinux,
        Firmware::Bios,
        "lpxelinux.0",
        &["/usr/lib/PXELINUX/lpxelinux.0", "/usr/share/syslinux/lpxelinux.0", "/tftpboot/lpxelinux.0"],
        LDLINUX,
    ),
    candidate(
        Loader::Shim,
        Firmware::Efi64,
        "shimx64.efi",
        &[
            "/usr/lib/shim/shimx64.efi.signed",
            "/boot/efi/EFI/redhat/shimx64.efi",
            "/boot/efi/EFI/rocky/shimx64.efi",
            "/boot/efi/EFI/almalinux/shimx64.efi",
            "/boot/efi/EFI/fedora/shimx64.efi",
            "/usr/share/efi/x86_64/shim.efi",
        ],
        GRUB_SIGNED,
    ),
    candidate(
        Loader::Shim,
        Firmware::Arm64,
        "shimaa64.efi",
        &["/usr/lib/shim/shimaa64.efi.signed", "/boot/efi/EFI/redhat/shimaa64.efi"],
        GRUB_SIGNED_ARM64,
    ),
];

/// The loader whose files are fetched for one of nodes.toml. xCAT's xnba is an iPXE, and reads the same scripts.
pub(super) fn fetched(loader: Loader) -> Loader {
    if loader == Loader::Xnba { Loader::Ipxe } else { loader }
}

pub(super) fn of_node(node: &Effective) -> Loader {
    node.text(Attr::Loader).and_then(Loader::named).unwrap_or(Loader::Ipxe)
}

/// The loaders' files that are there.
/// Errors: The site's directory is not.
pub(super) fn offers(directory: Option<&Path>) -> Result<Vec<Offer>, ServeError> {
    if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
        let problem = format!("there is no directory `{}` with loaders' files", directory.display());
        return Err(ServeError::dhcp_input(
            problem,
            "--loaders names one; without it the files of installed packages are used",
        ));
    }
    let find = |name: &str, packaged: &[&str]| {
        let own = directory.map(|directory| directory.join(name)).filter(|path| path.is_file());
        own.or_else(|| packaged.iter().map(PathBuf::from).find(|path| path.is_file()))
    };
    let mut offers: Vec<Offer> = Vec::new();
    for one in CANDIDATES {
        if offers.iter().any(|known| (known.loader, known.firmware) == (one.loader, one.firmware)) {
            continue;
        }
        let beside: Option<Vec<_>> = one.beside.iter().map(|(name, at)| Some((*name, find(name, at)?))).collect();
        let Some(from) = find(one.name, one.packaged) else { continue };
        let speaks_http = match one.loader {
            Loader::Grub => has_http(&from),
            // It loads what firmware can; the one behind it is asked for the rest.
            Loader::Shim => beside.iter().flatten().all(|(_, from)| has_http(from)),
            _ => true,
        };
        let beside = match beside {
            Some(mut beside) => {
                // The one that is loaded next stays the first.
                let own = KEYS_OF_SITE
                    .iter()
                    .filter(|(firmware, _, _)| (one.loader, one.firmware) == (Loader::Shim, *firmware));
                beside.extend(own.filter_map(|(_, name, at)| Some((*name, find(name, &[at])?))));
                beside
            }
            // It has the module itself.
            None if one.loader == Loader::Grub && speaks_http => Vec::new(),
            None => continue,
        };
        offers.push(Offer { loader: one.loader, firmware: one.firmware, name: one.name, from, beside, speaks_http });
    }
    Ok(offers)
}

/// What nodes may need of loaders' files and is not there, a sentence each; an error where a loader of nodes has no file at all, or
/// cannot be used in this way.
pub(super) fn lacks(offers: &[Offer], nodes: &[Effective], answers: Answers) -> Vec<Result<String, ServeError>> {
    let used: BTreeSet<Loader> = nodes.iter().map(of_node).collect();
    // Only UEFI knows Secure Boot, and who has it knows the processor.
    let has_such = |firmware: Firmware| {
        let is_arm = |node: &Effective| node.text(Attr::Arch) == Some("aarch64");
        let wanted = |node: &&Effective| of_node(node) == Loader::Shim && is_arm(node) == (firmware == Firmware::Arm64);
        firmware != Firmware::Bios && nodes.iter().any(|node| wanted(&node))
    };
    let (mut said, mut errors) = (Vec::new(), Vec::new());
    for loader in used {
        let (fetches, is_offered) = (fetched(loader), |firmware| {
            offers.iter().any(|one| (one.loader, one.firmware) == (fetched(loader), firmware))
        });
        let (package, how) = match fetches {
            // It asks for its script itself.
            Loader::Petitboot => continue,
            Loader::Ipxe | Loader::Xnba => ("ipxe", "Debian's package `ipxe` or Fedora's `ipxe-bootimgs-x86`"),
            Loader::Grub => ("grub", "Debian's package `grub-efi-amd64-bin`, or grub-mknetdir"),
            Loader::Shim => ("shim", "Debian's packages `shim-signed` and `grub-efi-amd64-signed`"),
            Loader::Pxelinux => ("pxelinux", "Debian's packages `pxelinux` and `syslinux-common`"),
        };
        if answers == Answers::Proxy && fetches == Loader::Pxelinux {
            errors.push(ServeError::dhcp_input(
                "nodes with the loader pxelinux cannot be answered beside another DHCP server: such answers have no room for the place of their files".to_owned(),
                "give them the loader ipxe, or let dnsmasq give addresses",
            ));
            continue;
        }
        let lacking: Vec<Firmware> = Firmware::ALL.into_iter().filter(|firmware| !is_offered(*firmware)).collect();
        if lacking.len() == Firmware::ALL.len() {
            let problem = format!("there is no file of the loader {package} for nodes to fetch");
            errors.push(ServeError::dhcp_machine(
                problem,
                format!("install {how}; or --loaders names a directory with it"),
            ));
            continue;
        }
        let names: Vec<&str> = lacking
            .iter()
            .filter(|firmware| match fetches {
                Loader::Pxelinux => **firmware == Firmware::Bios,
                Loader::Shim => has_such(**firmware),
                _ => true,
            })
            .map(|firmware| firmware.name())
            .collect();
        if !names.is_empty() {
            said.push(format!(
                "no file of {} is there for {}: such nodes get an address and nothing to boot",
                loader.name(),
                names.join(" and ")
            ));
        }
    }
    let behind = offers.iter().filter(|offer| offer.loader == Loader::Shim && !offer.speaks_http);
    if answers == Answers::Proxy && nodes.iter().any(|node| of_node(node) == Loader::Shim) {
        said.extend(behind.filter_map(|offer| offer.beside.first()).map(|(_, from)| {
            format!(
                "`{}` asks the other DHCP server for its files, as GRUB 2.06 does: nodes behind it need a newer GRUB, or addresses of this server",
                from.display()
            )
        }));
    }
    let is_used = |offer: &&Offer| nodes.iter().any(|node| fetched(of_node(node)) == offer.loader);
    for offer in offers.iter().filter(is_used).filter(|offer| !offer.speaks_http && answers != Answers::Proxy) {
        if offer.loader == Loader::Shim {
            let grub = offer.beside.first().map(|(_, from)| from.display().to_string()).unwrap_or_default();
            said.push(format!(
                "`{grub}` has no http module: firmware that boots by HTTP gets nothing; docs/secure-boot.md lists the signed GRUBs that have it"
            ));
        } else if offer.firmware.http_tag().is_some() {
            said.push(format!(
                "`{}` has no http module: firmware that boots by HTTP gets nothing; docs/serve.md has the command that makes one with it",
                offer.from.display()
            ));
        }
    }
    said.sort();
    said.dedup();
    errors.into_iter().map(Err).chain(said.into_iter().map(Ok)).collect()
}

/// Whether an image of GRUB has the module by which it fetches by HTTP: the words of a request are in it, or, where the firmware
/// sends that for it (Debian 13), the words for an error.
fn has_http(image: &Path) -> bool {
    let words: [&[u8]; 2] = [b"HTTP/1.1", b"uefi http status"];
    fs::read(image).is_ok_and(|bytes| words.iter().any(|word| memchr::memmem::find(&bytes, word).is_some()))
}

/// Most files and bytes of a site's directory.
const MOST_FILES: usize = 20_000;
const MOST_BYTES: u64 = 1 << 30;

/// Puts the files where TFTP serves them: a site's whole directory, and what packages have.
/// Errors: One cannot be copied.
pub(super) fn gather(offers: &[Offer], directory: Option<&Path>, to: &Path) -> io::Result<()> {
    if let Some(directory) = directory {
        let mut budget = (MOST_FILES, MOST_BYTES);
        copy_tree(directory, to, &mut budget, 0)?;
    }
    for offer in offers {
        copy(&offer.from, &to.join(offer.name))?;
        for (name, from) in &offer.beside {
            copy(from, &to.join(name))?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if to.is_file() {
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        make_directory(parent)?;
    }
    fs::copy(from, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o644))
}

/// A directory that dnsmasq's own user can read.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_directory(parent)?;
    }
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

fn copy_tree(from: &Path, to: &Path, budget: &mut (usize, u64), depth: usize) -> io::Result<()> {
    make_directory(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let metadata = fs::metadata(entry.path())?;
        let target = to.join(entry.file_name());
        if metadata.is_dir() && depth < 16 {
            copy_tree(&entry.path(), &target, budget, depth + 1)?;
        } else if metadata.is_file() {
            let (files, bytes) = (budget.0.checked_sub(1), budget.1.checked_sub(metadata.len()));
            let (Some(files), Some(bytes)) = (files, bytes) else {
                let limit = format!("it has more than {MOST_FILES} files or 1 GiB: it is meant for loaders alone");
                return Err(io::Error::other(limit));
            };
            *budget = (files, bytes);
            copy(&entry.path(), &target)?;
        }
    }
    Ok(())
}
