//! Loads the kernel that writes a dump, while the node has an address and no image yet.

use std::fs::File;
use std::path::Path;

use super::words;
use crate::cmdline::{Parameters, host_of};
use crate::image::fetch::Client;
use crate::image::index::sha256;
use crate::image::servers::Servers;
use crate::kdump::{FORMAT, INITRD, MANIFEST, Manifest};
use crate::network::lease::Lease;
use crate::node::statelite::name_of;
use crate::{say, sys};

/// Largest manifest that is read.
const MANIFEST_LIMIT: u64 = 1 << 20;
/// Largest kernel and initrd.
const FILE_LIMIT: u64 = 512 << 20;
/// The kernel's own limit is 2048 (COMMAND_LINE_SIZE of x86, arm64 and powerpc), and it adds where the crashed one's memory is.
const MOST_WORDS: usize = 1900;
/// What the kernel says of it. Source: Linux, Documentation/ABI/testing/sysfs-kernel-kexec-kdump.
const IS_LOADED: &str = "/sys/kernel/kexec_crash_loaded";
const RESERVED: &str = "/sys/kernel/kexec_crash_size";
/// What an administrator finds on the node afterwards.
const NOTE: &str = "/run/imgbuild/kdump";

fn number(path: &str) -> u64 {
    std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Loads it where the command line asks for it. A node that cannot is started all the same: it says so, here and in a file.
pub(crate) fn load(parameters: &Parameters, client: &Client, servers: &Servers, lease: &Lease) {
    if parameters.kdump.is_none() || number(IS_LOADED) == 1 {
        return;
    }
    let note = match try_to(parameters, client, servers, lease) {
        Ok(()) => "loaded".to_owned(),
        Err(problem) => {
            say!("this node will not write a dump when its kernel crashes: {problem}");
            problem
        }
    };
    let written = std::fs::create_dir_all("/run/imgbuild").and_then(|()| std::fs::write(NOTE, format!("{note}\n")));
    if let Err(error) = written {
        say!("{NOTE} cannot be written: {error}");
    }
}

fn try_to(parameters: &Parameters, client: &Client, servers: &Servers, lease: &Lease) -> Result<(), String> {
    let reserved = number(RESERVED);
    if reserved == 0 {
        return Err(match parameters.text.contains("crashkernel=") {
            true => "no memory is reserved: no free block of memory is that large, or the memory of this machine is below the ranges of crashkernel=".to_owned(),
            false => "no memory is reserved: the command line has no crashkernel=".to_owned(),
        });
    }
    let digest = parameters.kdump.as_deref().unwrap_or_default();
    let bytes = fetch(client, servers, MANIFEST, digest, MANIFEST_LIMIT)?;
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|error| format!("{MANIFEST} cannot be read: {error}"))?;
    if manifest.format != FORMAT {
        return Err(format!(
            "{MANIFEST} has format {}: build image and initrd with the same imgbuild",
            manifest.format
        ));
    }
    let kernel = file("kernel", &fetch(client, servers, "kernel", &manifest.kernel, FILE_LIMIT)?)?;
    let initrd = file(INITRD, &fetch(client, servers, INITRD, &manifest.initrd, FILE_LIMIT)?)?;
    let server = host_of(servers.url());
    let words = words::of(&parameters.text, lease, &name_of(parameters, lease), server, &manifest.cmdline);
    if words.len() > MOST_WORDS {
        return Err(format!(
            "its command line would have {} bytes, but the limit is {MOST_WORDS}: shorten that of the node",
            words.len()
        ));
    }
    sys::load_crash_kernel(&kernel, &initrd, &words).map_err(|error| {
        let why = match error.raw_os_error() {
            Some(libc::ENOSYS) => "; this kernel has no CONFIG_KEXEC_FILE",
            Some(libc::EADDRNOTAVAIL | libc::ENOMEM) => "; reserve more: [kdump] reserve in the recipe",
            Some(libc::EPERM) => "; kernel.kexec_load_disabled is set, or the kernel is locked down",
            Some(libc::EKEYREJECTED | libc::ENODATA) => "; this kernel loads only kernels that are signed",
            Some(libc::ENOEXEC) => "; this kernel does not support the format of `kernel`",
            _ => "",
        };
        format!("the kernel refuses to load it: {error}{why}")
    })?;
    // An oops would leave the node half alive, and no dump.
    if let Err(error) = std::fs::write("/proc/sys/kernel/panic_on_oops", "1") {
        say!("kernel.panic_on_oops cannot be set: {error}");
    }
    say!("if its kernel crashes, this node writes a dump: {} MiB are reserved", reserved >> 20);
    Ok(())
}

/// A file beside the image, whose digest is known.
fn fetch(client: &Client, servers: &Servers, name: &str, digest: &str, limit: u64) -> Result<Vec<u8>, String> {
    servers.ask(|url| {
        let folder = url.split(['?', '#']).next().unwrap_or_default();
        let url = format!("{}/{name}", folder.rsplit_once('/').map_or(folder, |(folder, _)| folder));
        let bytes = client.read(&url, limit)?;
        let found = sha256(&bytes);
        if found == digest {
            return Ok(bytes);
        }
        Err(format!(
            "wrong digest: {url} has the SHA-256 {found}, but {digest} was expected; was it replaced after this node's boot entry was written?"
        ))
    })
}

/// A file with these bytes that no one else sees.
fn file(name: &str, bytes: &[u8]) -> Result<File, String> {
    let path = Path::new("/run").join(format!("imgbuild-{name}"));
    let made = || {
        std::fs::write(&path, bytes)?;
        let file = File::open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    };
    made().map_err(|error: std::io::Error| format!("{}: {error}", path.display()))
}
