//! Network cards: which there are, what they are called, and why there may be no card.

use std::path::{Path, PathBuf};

use super::lease::Interface;
use crate::modules::device_aliases;

/// Interfaces with a MAC address, but for the loopback.
pub(crate) fn interfaces() -> Vec<Interface> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir("/sys/class/net") else { return found };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let mac = std::fs::read_to_string(entry.path().join("address")).unwrap_or_default().trim().to_lowercase();
        // Kind 1 is Ethernet. Source: linux/if_arp.h.
        let kind = std::fs::read_to_string(entry.path().join("type")).unwrap_or_default();
        if kind.trim() == "1" && mac != "00:00:00:00:00:00" && !mac.is_empty() {
            found.push(Interface { name, mac });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The same without bonds and VLANs, each card with its own address: in a bond it has the bond's. An attempt finds what the one
/// before it made. Source: kernel, Documentation/ABI/testing/sysfs-class-net, bonding's sysfs.
pub(super) fn cards() -> Vec<Interface> {
    let mut found = interfaces();
    found.retain_mut(|one| {
        let folder = Path::new("/sys/class/net").join(&one.name);
        if let Ok(own) = std::fs::read_to_string(folder.join("bonding_slave/perm_hwaddr"))
            && !fault::planted("node-cards-of-a-bond")
        {
            one.mac = own.trim().to_lowercase();
        }
        let kind = std::fs::read_to_string(folder.join("uevent")).unwrap_or_default();
        !kind.lines().any(|line| line == "DEVTYPE=bond" || line == "DEVTYPE=vlan")
    });
    found
}

/// Whether it has a link.
pub(super) fn has_carrier(name: &str) -> bool {
    std::fs::read_to_string(PathBuf::from("/sys/class/net").join(name).join("carrier"))
        .is_ok_and(|text| text.trim() == "1")
}

/// A network device without an interface, and the driver that would make one, where its name is known.
#[derive(Debug, PartialEq, Eq)]
struct Undriven {
    device: String,
    driver: Option<&'static str>,
}

/// Drivers that take a card, and those that make its interfaces.
const SECOND: [(&str, &str); 3] = [("mlx4_core", "mlx4_en"), ("qed", "qede"), ("hnae3", "hns3")];

/// What a file of a device says, without its `0x`.
fn id(device: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(device.join(name)).unwrap_or_default();
    text.trim().trim_start_matches("0x").to_owned()
}

fn devices_of(sys: &Path, bus: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(sys.join("bus").join(bus).join("devices")).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    found.sort();
    found
}

/// The name of what drives a device.
fn driver_of(device: &Path) -> Option<String> {
    let driver = std::fs::read_link(device.join("driver")).ok()?;
    Some(driver.file_name()?.to_string_lossy().into_owned())
}

/// Network devices that have no interface, on the buses that cards of servers and virtual machines are on. Source: PCI class 02
/// (linux/pci_ids.h), virtio device 1 (virtio 1.2, 5.1.1), HV_NIC_GUID of linux/hyperv.h, USB class 02 (CDC 1.2, table 4) and
/// vendors' own, vio's type `network`.
fn devices_without_driver(sys: &Path) -> Vec<Undriven> {
    let mut found = Vec::new();
    let mut add = |device: String, driver: Option<&'static str>| found.push(Undriven { device, driver });
    for device in devices_of(sys, "pci") {
        if !id(&device, "class").starts_with("02") || device.join("net").exists() {
            continue;
        }
        let shown = format!("{}:{}", id(&device, "vendor"), id(&device, "device"));
        match driver_of(&device).as_deref() {
            None => add(shown, None),
            // Its child is looked at below.
            Some("virtio-pci") => {}
            // Cards that are partitioned, or have a driver that makes no interface: only what nothing drives is certain.
            Some(first) => {
                if let Some((_, second)) = SECOND.iter().find(|(name, _)| *name == first) {
                    add(format!("{shown} (which `{first}` drives)"), Some(second));
                }
            }
        }
    }
    for device in devices_of(sys, "virtio") {
        if id(&device, "device").trim_start_matches('0') == "1" && driver_of(&device).is_none() {
            add("the virtual card of this machine".to_owned(), Some("virtio_net"));
        }
    }
    for device in devices_of(sys, "vmbus") {
        if id(&device, "class_id").contains("f8615163-df3e-46c5-913f-f2d2f965ed0e") && driver_of(&device).is_none() {
            add("the virtual card of Hyper-V".to_owned(), Some("hv_netvsc"));
        }
    }
    for device in devices_of(sys, "vio") {
        if id(&device, "modalias").starts_with("vio:Tnetwork") && driver_of(&device).is_none() {
            add("the virtual card of this partition".to_owned(), Some("ibmveth"));
        }
    }
    // Vendors' own class has whatever has no other: only where nothing else could be the card.
    for class in ["02", "ff"] {
        for device in devices_of(sys, "usb") {
            if id(&device, "bInterfaceClass") == class
                && driver_of(&device).is_none()
                && (class == "02" || found.is_empty())
            {
                let parent =
                    device.canonicalize().ok().and_then(|path| Some(path.parent()?.to_owned())).unwrap_or_default();
                let device = format!("USB {}:{}", id(&parent, "idVendor"), id(&parent, "idProduct"));
                found.push(Undriven { device, driver: None });
            }
        }
    }
    found.dedup();
    found
}

/// Says why there is no interface, and what to do.
pub(super) fn no_interface() -> String {
    why_none(&devices_without_driver(Path::new("/sys")), device_aliases().len())
}

fn why_none(without: &[Undriven], devices: usize) -> String {
    if without.is_empty() {
        return format!(
            "there is no network interface, and no network device among the {devices} devices of this machine; is the card seated, and enabled in the firmware's setup?"
        );
    }
    let shown: Vec<&str> = without.iter().map(|one| one.device.as_str()).collect();
    let mut names: Vec<String> = without.iter().filter_map(|one| Some(format!("\"+{}\"", one.driver?))).collect();
    names.dedup();
    let remedy = match names.is_empty() {
        true => "find the driver's name (lspci -nnk or lsusb -t on a machine that runs) and add it to the recipe: [kernel] drivers = [\"+NAME\"]".to_owned(),
        false => format!("add it to the recipe: [kernel] drivers = [{}]", names.join(", ")),
    };
    format!("there is no network interface: the initrd has no driver for {}; {remedy}", shown.join(", "))
}

/// Names that udev would give a card. Source: systemd.net-naming-scheme(7).
pub(crate) fn names_of_udev(folder: &Path) -> Vec<String> {
    let number = |path: PathBuf| std::fs::read_to_string(path).ok()?.trim().parse::<u32>().ok();
    let Ok(mut device) = folder.join("device").canonicalize() else { return Vec::new() };
    // A virtio device lies on a PCI device.
    if device.file_name().is_some_and(|name| name.to_string_lossy().starts_with("virtio")) {
        device.pop();
    }
    let mut names = Vec::new();
    names.extend(
        ["acpi_index", "index"].iter().find_map(|name| number(device.join(name))).map(|index| format!("eno{index}")),
    );
    let Some((domain, bus, slot, function)) = device.file_name().and_then(|name| pci_address(name.to_str()?)) else {
        return names;
    };
    let port =
        number(folder.join("dev_port")).filter(|port| *port > 0).map(|port| format!("d{port}")).unwrap_or_default();
    // Bit 7 of the header's type: the device has several functions. Source: linux/pci_regs.h.
    let has_functions =
        std::fs::read(device.join("config")).is_ok_and(|bytes| bytes.get(14).is_some_and(|kind| kind & 0x80 != 0));
    let function = if function > 0 || has_functions { format!("f{function}") } else { String::new() };
    let slots = std::fs::read_dir("/sys/bus/pci/slots").into_iter().flatten().flatten();
    for one in slots {
        let address = std::fs::read_to_string(one.path().join("address")).unwrap_or_default();
        if address.trim() == format!("{domain:04x}:{bus:02x}:{slot:02x}") {
            names.push(format!("ens{}{function}{port}", one.file_name().to_string_lossy()));
        }
    }
    let domain = if domain > 0 { format!("P{domain}") } else { String::new() };
    names.push(format!("en{domain}p{bus}s{slot}{function}{port}"));
    names
}

/// Domain, bus, slot and function of `0000:00:02.0`.
fn pci_address(name: &str) -> Option<(u32, u32, u32, u32)> {
    let (rest, function) = name.split_once('.')?;
    let mut parts = rest.split(':').map(|part| u32::from_str_radix(part, 16).ok());
    let found = (parts.next()??, parts.next()??, parts.next()??, function.parse().ok()?);
    parts.next().is_none().then_some(found)
}

/// The card that a name means: the kernel's, one that `ifname=` gives, or one that udev would give.
pub(super) fn called(all: &[Interface], name: &str, given: &[(String, String)]) -> Option<Interface> {
    let by_mac = |mac: &str| all.iter().find(|one| one.mac == mac);
    let given = given.iter().find(|(own, _)| own == name).and_then(|(_, mac)| by_mac(mac));
    let found = given.or_else(|| all.iter().find(|one| one.name == name)).or_else(|| {
        all.iter().find(|one| names_of_udev(&Path::new("/sys/class/net").join(&one.name)).iter().any(|own| own == name))
    });
    found.cloned()
}

/// What there is, for a message.
pub(super) fn list(all: &[Interface]) -> String {
    let names: Vec<String> = all
        .iter()
        .map(|one| {
            let more = names_of_udev(&Path::new("/sys/class/net").join(&one.name));
            let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
            format!("{}{more} {}", one.name, one.mac)
        })
        .collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A card whose first driver is there and makes no interface is seated all the same.
    #[test]
    fn what_lacks_the_driver_that_makes_its_interface_is_named() {
        let sys = std::env::temp_dir().join(format!("imgbuild-sys-{}", std::process::id()));
        let device = |bus: &str, name: &str, files: &[(&str, &str)], driver: Option<&str>| {
            let folder = sys.join("bus").join(bus).join("devices").join(name);
            std::fs::create_dir_all(&folder).unwrap();
            for (file, text) in files {
                std::fs::write(folder.join(file), format!("{text}\n")).unwrap();
            }
            if let Some(driver) = driver {
                std::os::unix::fs::symlink(format!("/drivers/{driver}"), folder.join("driver")).unwrap();
            }
        };
        let said = || why_none(&devices_without_driver(&sys), 3);
        device("pci", "0000:00:01.0", &[("class", "0x060000")], None);
        assert!(said().contains("is the card seated"), "{}", said());
        device(
            "pci",
            "0000:00:02.0",
            &[("class", "0x020000"), ("vendor", "0x1af4"), ("device", "0x1000")],
            Some("virtio-pci"),
        );
        device("virtio", "virtio0", &[("device", "0x0001")], None);
        device("virtio", "virtio1", &[("device", "0x0002")], None);
        assert!(said().ends_with("[kernel] drivers = [\"+virtio_net\"]"), "{}", said());
        device(
            "pci",
            "0000:01:00.0",
            &[("class", "0x028000"), ("vendor", "0x15b3"), ("device", "0x1003")],
            Some("mlx4_core"),
        );
        device("vmbus", "a", &[("class_id", "{f8615163-df3e-46c5-913f-f2d2f965ed0e}")], None);
        assert!(said().contains("15b3:1003 (which `mlx4_core` drives)"), "{}", said());
        assert!(said().ends_with("[\"+mlx4_en\", \"+virtio_net\", \"+hv_netvsc\"]"), "{}", said());
        std::fs::remove_dir_all(sys.join("bus/pci")).unwrap();
        std::fs::remove_dir_all(sys.join("bus/virtio")).unwrap();
        std::fs::remove_dir_all(sys.join("bus/vmbus")).unwrap();
        device("usb", "1-1:1.0", &[("bInterfaceClass", "ff")], None);
        device("usb", "1-2:1.0", &[("bInterfaceClass", "03")], None);
        assert!(said().contains("no driver for USB ") && said().contains("\"+NAME\""), "{}", said());
        std::fs::remove_dir_all(&sys).unwrap();
    }

    #[test]
    fn a_card_has_the_names_that_udev_would_give_it() {
        let folder = std::env::temp_dir().join(format!("imgbuild-cards-{}", std::process::id()));
        let device = folder.join("devices/0001:3b:00.1");
        let (card, virtio) = (folder.join("net/eth0"), folder.join("net/eth1"));
        for path in [&device.join("virtio3"), &card, &virtio] {
            std::fs::create_dir_all(path).unwrap();
        }
        std::os::unix::fs::symlink(&device, card.join("device")).unwrap();
        std::os::unix::fs::symlink(device.join("virtio3"), virtio.join("device")).unwrap();
        assert_eq!(names_of_udev(&card), ["enP1p59s0f1"]);
        std::fs::write(device.join("acpi_index"), "2\n").unwrap();
        std::fs::write(virtio.join("dev_port"), "1\n").unwrap();
        assert_eq!(names_of_udev(&virtio), ["eno2", "enP1p59s0f1d1"]);
        assert_eq!(pci_address("0000:00:1f.6"), Some((0, 0, 31, 6)));
        for bad in ["virtio0", "0000:00:02", "a:b", "0:0:0:0.0"] {
            assert_eq!(pci_address(bad), None, "{bad}");
        }
        let one = Interface { name: "eth0".to_owned(), mac: "52:54:00:00:00:01".to_owned() };
        let given = [("eno7".to_owned(), one.mac.clone())];
        assert_eq!(called(std::slice::from_ref(&one), "eno7", &given), Some(one.clone()));
        assert_eq!(called(std::slice::from_ref(&one), "eno8", &given), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
