//! Which drivers an initrd is to have: the default list, as a recipe edits or replaces it.

use crate::Model;
use xcat::matches;

/// The drivers that an initrd has where the recipe does not say otherwise.
const DEFAULT_DRIVERS: &str = include_str!("lists/netdrivers.txt");

/// Those that machines of other CPUs have besides: the CPU, as `uname -m` prints it, and the name.
const OTHER_DRIVERS: &str = include_str!("lists/netdrivers-other.txt");

/// The drivers of disks that an initrd has besides where the node keeps frames on one.
const DISK_DRIVERS: &str = include_str!("lists/diskdrivers.txt");

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Patterns that the recipe names: missing is an error.
    pub named: Vec<String>,
    /// Default names: missing is a note.
    pub default: Vec<String>,
    /// Whether all modules of driver updates are wanted (xCAT: `allupdate`).
    pub all_updates: bool,
}

/// Stands in a recipe's `drivers` for all modules of driver updates.
pub const ALL_UPDATES: &str = "allupdate";

pub fn default_drivers() -> Vec<String> {
    wanted_drivers(&[]).default
}

fn listed(text: &'static str) -> impl Iterator<Item = String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned)
}

/// The drivers that an initrd of a recipe is to have; those of disks where it asks for them otherwise than by `[boot.cache]`.
pub fn initrd_drivers(model: &Model, with_disks: bool) -> Wanted {
    let drivers = &model.kernel.drivers;
    let mut wanted = wanted_drivers(drivers);
    let has_default = !wanted.default.is_empty();
    let is_removed = |name: &String| {
        drivers.iter().filter_map(|one| one.strip_prefix('-')).any(|pattern| matches(&normal_name(pattern), name))
    };
    let of_cpu = |line: String| Some(line.strip_prefix(model.image.arch.machine())?.trim().to_owned());
    let known = |wanted: &Wanted, name: &String| wanted.named.contains(name) || wanted.default.contains(name);
    if has_default {
        let more = listed(OTHER_DRIVERS).filter_map(of_cpu);
        let more: Vec<String> = more.filter(|name| !is_removed(name) && !known(&wanted, name)).collect();
        wanted.default.extend(more);
    }
    if model.boot.cache.is_some() || with_disks {
        let more: Vec<String> =
            listed(DISK_DRIVERS).filter(|name| !is_removed(name) && !known(&wanted, name)).collect();
        wanted.default.extend(more);
    }
    wanted
}

/// Applies a recipe's `drivers` to the default list: a whole list, or `+name` and `-name`; wildcards allowed.
pub(crate) fn wanted_drivers(drivers: &[String]) -> Wanted {
    let default = || listed(DEFAULT_DRIVERS);
    let plain = |name: &str| normal_name(name.trim_start_matches(['+', '-']));
    let all_updates = drivers.iter().any(|name| name.trim_start_matches('+') == ALL_UPDATES);
    let is_edit = drivers.iter().any(|name| name.starts_with(['+', '-']));
    let drivers: Vec<&String> = drivers.iter().filter(|name| name.trim_start_matches('+') != ALL_UPDATES).collect();
    if drivers.is_empty() && (is_edit || !all_updates) {
        return Wanted { named: Vec::new(), default: default().collect(), all_updates };
    }
    if !is_edit {
        return Wanted { named: drivers.iter().map(|name| plain(name)).collect(), default: Vec::new(), all_updates };
    }
    let removed: Vec<String> = drivers.iter().filter(|name| name.starts_with('-')).map(|name| plain(name)).collect();
    Wanted {
        named: drivers.iter().filter(|name| name.starts_with('+')).map(|name| plain(name)).collect(),
        default: default().filter(|name| !removed.iter().any(|pattern| matches(pattern, name))).collect(),
        all_updates,
    }
}

/// A module's name as the kernel shows it: no folder, no ending, `_` for `-`.
pub fn normal_name(path: &str) -> String {
    let base = path.rsplit('/').next().unwrap_or(path);
    let base = base.split_once(".ko").map_or(base, |(stem, _)| stem);
    base.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_list_can_be_edited_or_replaced() {
        let all = wanted_drivers(&[]);
        for name in
            ["virtio_net", "e1000", "igc", "i40e", "bnxt_en", "mlx5_core", "r8169", "hv_netvsc", "vmxnet3", "be2net"]
        {
            assert!(all.default.iter().any(|known| known == name), "{name}");
        }
        let edited = wanted_drivers(&["+my-driver".into(), "-mlx*".into()]);
        assert_eq!(edited.named, ["my_driver"]);
        assert!(!edited.default.iter().any(|name| name.starts_with("mlx")));
        let all = wanted_drivers(&["allupdate".into()]);
        assert!(all.all_updates && all.named.is_empty() && all.default.is_empty());
        let more = wanted_drivers(&["+allupdate".into()]);
        assert!(more.all_updates && more.named.is_empty() && !more.default.is_empty());
        let recipe = "[image]\nname = \"a\"\nrelease = \"bookworm\"\n";
        let mut model: Model = toml::from_str(recipe).unwrap();
        assert_eq!(initrd_drivers(&model, false), wanted_drivers(&[]));
        assert!(initrd_drivers(&model, true).default.iter().any(|known| known == "nvme"));
        model.boot.cache = Some(crate::BootCache {
            device: "LABEL=nodecache".to_owned(),
            filesystem: Default::default(),
            image: Default::default(),
            writes: Default::default(),
        });
        let has = |name: &str, model: &Model| initrd_drivers(model, false).default.iter().any(|known| known == name);
        assert!(has("nvme", &model) && has("virtio_net", &model));
        model.kernel.drivers = vec!["-nv*".into(), "+sd_mod".into()];
        assert!(!has("nvme", &model) && !has("sd_mod", &model) && has("ahci", &model));
        assert_eq!(
            wanted_drivers(&["igb.ko".into()]),
            Wanted { named: vec!["igb".into()], default: vec![], ..Wanted::default() }
        );
    }
}
