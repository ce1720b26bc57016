//! What this program learned goes into the new root: the node's identity and its network (D33, D34).

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::Digest;

use super::managers::{self, Manager, Own};
use super::new_root::{inside, write};
use crate::network::lease::{Interface, Lease, Made, Source};
use crate::network::{interfaces, names_of_udev, resolv_conf, unmake};
use crate::{say, sys};

/// Whether a file names a host: images often have an empty one, so that each node gets its own name. A link is the image's
/// own affair. Source: hostname(5).
fn names_a_host(path: &Path) -> bool {
    let Ok(found) = path.symlink_metadata() else { return false };
    let text = || std::fs::read_to_string(path).unwrap_or_default();
    !found.is_file() || text().lines().map(str::trim).any(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Writes identity and network into the new root and /run, which moves along.
///
/// `keeper` is the process that renews the lease until now: it ends where the image has something that does.
///
/// With `is_needed` something of the node is mounted over the network: its card stays up, under its name.
pub(crate) fn hand_over(lease: &Lease, keeper: Option<i32>, is_needed: bool) -> Result<(), String> {
    if let Some(name) = identify(lease)? {
        sys::set_host_name(&name);
    }
    remember(lease);
    let manager = managers::configure(lease, is_needed)?;
    let name = &lease.interface.name;
    // A bond or a VLAN is there under its name, and so are the cards below it.
    let mut kept = lease.made.as_ref().map(Made::names).unwrap_or_default();
    // Cards of which a file of the image has the kernel's name, which udev would change: they keep it.
    let mut named_by_kernel: Vec<&str> = Vec::new();
    if let Manager::Own(Own { file, names }) = &manager {
        say!("{file} of the image says what becomes of {name}, and not what this node booted with");
        match &lease.made {
            _ if is_needed => say!("files of this node come over {name}: where {file} changes it, the node may hang"),
            Some(made) => unmake(made),
            None => {}
        }
        if !is_needed {
            kept.clear();
            let cards = lease.made.as_ref().map_or_else(|| vec![&lease.interface], Made::cards);
            let of_kernel = |card: &&Interface| names.contains(&card.name) && !has_name_of_udev(card);
            named_by_kernel = cards.into_iter().filter(of_kernel).map(|card| card.mac.as_str()).collect();
        }
    }
    if !named_by_kernel.is_empty() {
        let text = format!("[Match]\nMACAddress={}\n\n[Link]\nNamePolicy=keep\n", named_by_kernel.join(" "));
        write(Path::new("/run/systemd/network/10-imgbuild.link"), &text, 0o644)?;
    }
    let by_name = is_needed || !kept.is_empty() || matches!(manager, Manager::None | Manager::ByName);
    if by_name {
        // Names in use: udev must not change them, and networkd waits for ever for one that cannot be changed.
        let matched = match &lease.made {
            Some(_) => format!("OriginalName={}", kept.join(" ")),
            None => format!("MACAddress={}", lease.interface.mac),
        };
        let text = format!("[Match]\n{matched}\n\n[Link]\nNamePolicy=keep\n");
        write(Path::new("/run/systemd/network/10-imgbuild.link"), &text, 0o644)?;
    }
    // Down, so that udev can give the image's own names: an interface that is up keeps its name, and networkd waits
    // for the new one for ever. Anyone who runs the image's network brings it up again.
    for interface in
        interfaces().iter().filter(|one| !(by_name && one.name == *name || kept.contains(&one.name.as_str())))
    {
        if let Err(error) = sys::set_down(&interface.name) {
            say!("{} cannot be taken down: {error}", interface.name);
        }
    }
    let handed = !matches!(manager, Manager::None);
    match keeper {
        Some(keeper) if handed => sys::end(keeper),
        Some(_) => say!("the image has no network service: imgbuild-init keeps the lease"),
        None if !handed && lease.source == Source::Dhcp6 => {
            say!("the image has no network service: {} is kept, and its lease is not renewed", lease.address);
        }
        None => {}
    }
    Ok(())
}

/// Writes the node's identity into the new root; gives its host name, unless the image has one.
fn identify(lease: &Lease) -> Result<Option<String>, String> {
    write(&inside("etc/machine-id"), &format!("{}\n", machine_id(lease)), 0o444)?;
    let links_elsewhere = inside("etc/resolv.conf").symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
    if !links_elsewhere {
        write(&inside("etc/resolv.conf"), &resolv_conf(lease), 0o644)?;
    }
    if names_a_host(&inside("etc/hostname")) {
        return Ok(None);
    }
    let name = lease.hostname.clone().unwrap_or_else(|| format!("node-{}", lease.interface.mac.replace(':', "")));
    write(&inside("etc/hostname"), &format!("{name}\n"), 0o644)?;
    Ok(Some(name))
}

/// What the network gave, and what runs it: for who puts another root into the place of this one without a new kernel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Given {
    /// What the network gave.
    pub lease: Lease,
    /// What runs the network.
    pub manager: String,
}

/// Where [`Given`] is; root's alone, as all there.
const GIVEN: &str = "/run/imgbuild/given";

/// Keeps it for later; without it a node can be started again by its firmware alone.
fn remember(lease: &Lease) {
    let given = Given { lease: lease.clone(), manager: managers::name(lease) };
    let text = serde_json::to_string(&given).map_err(std::io::Error::other);
    let kept = text.and_then(|text| super::report::make_directory().and_then(|()| std::fs::write(GIVEN, text)));
    if let Err(error) = kept {
        say!("what the network gave cannot be kept: {error}");
    }
}

/// What the initrd kept of the network. Its interface has the name that it has now.
///
/// # Errors
/// A text.
pub(crate) fn given() -> Result<Given, String> {
    let read = std::fs::read(GIVEN).ok().and_then(|bytes| serde_json::from_slice::<Given>(&bytes).ok());
    let mut given =
        read.ok_or("this node was started by an initrd of an earlier imgbuild, which kept nothing of its network")?;
    let card = &mut given.lease.interface;
    // udev may have given it the image's own name.
    if given.lease.made.is_none()
        && let Some(now) = interfaces().into_iter().find(|one| one.mac == card.mac)
    {
        card.name = now.name;
    }
    Ok(given)
}

/// The same for a root that takes the place of one that runs: nothing is done to the running network.
///
/// # Errors
/// A text: what cannot be written, or that the new root's network would be run by something else.
pub(crate) fn hand_over_again(given: &Given) -> Result<(), String> {
    let Given { lease, manager } = given;
    let next = managers::name(lease);
    if next != *manager {
        return Err(format!("the network of this node is run by {manager}, and that of the new image by {next}"));
    }
    if next == managers::NONE && lease.dhcp().is_some() {
        return Err("the image has no network service, and a soft reboot ends what renews this node's lease".to_owned());
    }
    identify(lease)?;
    managers::configure_again(lease)
}

/// Whether a card's name is one that udev would give it.
fn has_name_of_udev(card: &Interface) -> bool {
    names_of_udev(&Path::new("/sys/class/net").join(&card.name)).contains(&card.name)
}

/// The same at each boot of a machine, and different on each machine.
fn machine_id(lease: &Lease) -> String {
    let uuid = std::fs::read_to_string("/sys/class/dmi/id/product_uuid").unwrap_or_default();
    let uuid = uuid.trim().to_lowercase();
    // Boards that all say the same are as good as none.
    let varied = uuid.chars().filter(|c| *c != '-').collect::<std::collections::BTreeSet<_>>().len() > 2;
    let source = if uuid.len() == 36 && varied { uuid } else { lease.interface.mac.clone() };
    let digest = sha2::Sha256::digest(format!("imgbuild machine-id {source}"));
    digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_names_no_host() {
        let directory = std::env::temp_dir().join(format!("imgbuild-hostname-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("hostname");
        assert!(!names_a_host(&path));
        for (text, names) in
            [("", false), ("\n \n", false), ("# set at boot\n", false), ("node1\n", true), ("#\nn", true)]
        {
            std::fs::write(&path, text).unwrap();
            assert_eq!(names_a_host(&path), names, "{text:?}");
        }
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/elsewhere", &path).unwrap();
        assert!(names_a_host(&path));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
