//! Network cards that QEMU has, and which of them a node is given.

use std::collections::BTreeSet;

/// A network card of QEMU's.
#[derive(Debug, PartialEq, Eq)]
pub struct Card {
    /// Name of the kernel's driver.
    pub driver: &'static str,
    /// What `-device` calls it.
    pub device: &'static str,
}

/// Cards that every QEMU of the last ten years has, the fastest first.
pub const CARDS: [Card; 5] = [
    Card { driver: "virtio_net", device: "virtio-net-pci" },
    Card { driver: "e1000e", device: "e1000e" },
    Card { driver: "e1000", device: "e1000" },
    Card { driver: "vmxnet3", device: "vmxnet3" },
    Card { driver: "8139cp", device: "rtl8139" },
];

impl Card {
    /// The first that the initrd has a driver for, or the kernel itself; none if no card of QEMU's can be driven.
    pub fn of(initrd: &BTreeSet<String>, built_in: &BTreeSet<String>) -> Option<&'static Self> {
        CARDS.iter().find(|card| initrd.contains(card.driver) || built_in.contains(card.driver))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gets_the_first_card_that_its_initrd_or_kernel_drives() {
        let set = |words: &str| words.split_whitespace().map(str::to_owned).collect::<BTreeSet<String>>();
        for (initrd, built_in, device) in [
            ("virtio_net", "", Some("virtio-net-pci")),
            ("e1000 virtio_net e1000e", "", Some("virtio-net-pci")),
            ("", "virtio_net", Some("virtio-net-pci")),
            ("e1000e", "virtio_net", Some("virtio-net-pci")),
            ("e1000 e1000e", "ext4", Some("e1000e")),
            ("e1000", "e1000e", Some("e1000e")),
            ("igb e1000", "", Some("e1000")),
            ("vmxnet3 8139cp", "", Some("vmxnet3")),
            ("8139cp", "", Some("rtl8139")),
            ("8139too", "", None),
            ("igb mlx5_core virtio_blk", "virtio_pci ext4", None),
            ("virtio_net_failover", "e1000x", None),
            ("", "", None),
        ] {
            let card = Card::of(&set(initrd), &set(built_in)).map(|card| card.device);
            assert_eq!(card, device, "initrd: {initrd}; built in: {built_in}");
        }
    }
}
