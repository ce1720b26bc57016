//! Kernel modules: names, dependencies, aliases and firmware. Source: modules.dep(5), modprobe.d(5), depmod(8).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use base::source::nearest;
use recipe::{Wanted, normal_name};
use xcat::matches;

/// Modules that every initrd wants: ways to reach a virtual machine's devices, raw sockets for DHCP, and what `bond=` and `vlan=` make.
const ALWAYS: [&str; 5] = ["virtio_pci", "virtio_mmio", "af_packet", "bonding", "8021q"];

#[derive(Debug, Clone, Default)]
pub(crate) struct ModuleIndex {
    /// Paths below the release's folder, by name.
    paths: BTreeMap<String, String>,
    needs: BTreeMap<String, Vec<String>>,
    /// Names or aliases that a module wants besides.
    soft: BTreeMap<String, Vec<String>>,
    /// (pattern, module).
    aliases: Vec<(String, String)>,
    builtin: BTreeSet<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Paths of modules below the release's folder, sorted.
    pub paths: Vec<String>,
    /// Default names that the kernel lacks.
    pub skipped: Vec<String>,
    /// Errors: names that the recipe wants and the kernel lacks, with near names.
    pub missing: Vec<(String, Vec<String>)>,
    /// Names of modules that the recipe itself names.
    pub named: BTreeSet<String>,
}

impl ModuleIndex {
    /// Reads depmod's text files.
    pub(crate) fn parse(dep: &str, alias: &str, softdep: &str, builtin: &str) -> Self {
        let mut index = Self::default();
        for line in dep.lines() {
            let Some((path, needs)) = line.split_once(':') else { continue };
            let name = normal_name(path);
            index.needs.insert(name.clone(), needs.split_whitespace().map(normal_name).collect());
            index.paths.insert(name, path.to_owned());
        }
        for line in alias.lines() {
            let mut words = line.split_whitespace();
            if let (Some("alias"), Some(pattern), Some(module)) = (words.next(), words.next(), words.next()) {
                index.aliases.push((pattern.to_owned(), normal_name(module)));
            }
        }
        for line in softdep.lines() {
            let mut words = line.split_whitespace();
            if let (Some("softdep"), Some(module)) = (words.next(), words.next()) {
                let names = words.filter(|word| !word.ends_with(':')).map(str::to_owned);
                index.soft.entry(normal_name(module)).or_default().extend(names);
            }
        }
        index.builtin = builtin.lines().map(normal_name).collect();
        index
    }

    fn find(&self, name: &str) -> Vec<String> {
        let normal = normal_name(name);
        if self.paths.contains_key(&normal) {
            return vec![normal];
        }
        self.aliases
            .iter()
            .filter(|(pattern, _)| matches(pattern, name) || matches(&pattern.replace('-', "_"), &normal))
            .map(|(_, module)| module.clone())
            .collect()
    }

    fn has_builtin(&self, name: &str) -> bool {
        self.builtin.contains(&normal_name(name))
    }

    pub(crate) fn select(&self, wanted: &Wanted) -> Selection {
        let mut selection = Selection::default();
        let mut queue: VecDeque<String> = ALWAYS.iter().flat_map(|name| self.find(name)).collect();
        for name in &wanted.default {
            let found = self.find(name);
            if found.is_empty() && !self.has_builtin(name) {
                selection.skipped.push(name.clone());
            }
            queue.extend(found);
        }
        for pattern in &wanted.named {
            let found: Vec<String> = if pattern.contains(['*', '?', '[']) {
                self.paths.keys().filter(|name| matches(pattern, name)).cloned().collect()
            } else {
                self.find(pattern)
            };
            if found.is_empty() && !self.has_builtin(pattern) {
                let near =
                    nearest(pattern, self.paths.keys().map(String::as_str)).into_iter().map(str::to_owned).collect();
                selection.missing.push((pattern.clone(), near));
            }
            selection.named.extend(found.iter().cloned());
            queue.extend(found);
        }
        let mut chosen = BTreeSet::new();
        while let Some(name) = queue.pop_front() {
            if !chosen.insert(name.clone()) {
                continue;
            }
            queue.extend(self.needs.get(&name).into_iter().flatten().cloned());
            for soft in self.soft.get(&name).into_iter().flatten() {
                queue.extend(self.find(soft));
            }
        }
        selection.paths = chosen.iter().filter_map(|name| self.paths.get(name)).cloned().collect();
        selection.paths.sort();
        selection
    }

    /// depmod's text files, cut down to some modules: (file name, text).
    pub(crate) fn reduced(&self, selection: &Selection) -> Vec<(&'static str, String)> {
        use std::fmt::Write;
        let names: BTreeSet<String> = selection.paths.iter().map(|path| normal_name(path)).collect();
        let mut dep = String::new();
        let mut soft = String::new();
        for name in &names {
            let Some(path) = self.paths.get(name) else { continue };
            let needs: Vec<String> = self
                .needs
                .get(name)
                .into_iter()
                .flatten()
                .filter_map(|need| self.paths.get(need))
                .map(|path| plain_path(path))
                .collect();
            let _ =
                writeln!(dep, "{}:{}{}", plain_path(path), if needs.is_empty() { "" } else { " " }, needs.join(" "));
            for wanted in self.soft.get(name).into_iter().flatten() {
                for module in self.find(wanted).iter().filter(|module| names.contains(*module)) {
                    let _ = writeln!(soft, "softdep {name} pre: {module}");
                }
            }
        }
        let mut alias = String::new();
        for (pattern, module) in self.aliases.iter().filter(|(_, module)| names.contains(module)) {
            let _ = writeln!(alias, "alias {pattern} {module}");
        }
        vec![("modules.dep", dep), ("modules.alias", alias), ("modules.softdep", soft)]
    }
}

/// A module's path without the ending of its compression: the initrd is compressed as a whole.
pub(crate) fn plain_path(path: &str) -> String {
    path.split_once(".ko").map_or(path.to_owned(), |(stem, _)| format!("{stem}.ko"))
}

/// Undoes a module's compression, by its ending.
/// Errors: The decoder's.
pub(crate) fn decompress_module(path: &str, bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    /// No module is larger; a compressed one that claims to be is refused.
    const LIMIT: u64 = 256 << 20;
    let mut plain = Vec::new();
    match path.rsplit_once(".ko").map(|(_, ending)| ending) {
        Some(".xz") => archive::xz(&bytes[..])?.take(LIMIT).read_to_end(&mut plain)?,
        Some(".gz") => flate2::read::MultiGzDecoder::new(&bytes[..]).take(LIMIT).read_to_end(&mut plain)?,
        Some(".zst") => zstd::Decoder::new(&bytes[..])?.take(LIMIT).read_to_end(&mut plain)?,
        _ => return Ok(bytes),
    };
    Ok(plain)
}

/// The values of a key in a module's `.modinfo` section, for instance `firmware`.
pub(crate) fn modinfo(module: &[u8], key: &str) -> Vec<String> {
    use object::{Object, ObjectSection};
    let Ok(file) = object::File::parse(module) else { return Vec::new() };
    let Some(data) = file.section_by_name(".modinfo").and_then(|section| section.data().ok()) else {
        return Vec::new();
    };
    data.split(|byte| *byte == 0)
        .filter_map(|entry| std::str::from_utf8(entry).ok()?.split_once('='))
        .filter(|(name, _)| *name == key)
        .map(|(_, value)| value.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> ModuleIndex {
        ModuleIndex::parse(
            "kernel/a/virtio_net.ko: kernel/a/net-failover.ko kernel/a/failover.ko\nkernel/a/net-failover.ko: kernel/a/failover.ko\n\
             kernel/a/failover.ko:\nkernel/a/igb.ko.xz:\nkernel/a/crc32c_generic.ko:\nkernel/a/libcrc32c.ko:\nkernel/a/bnx2x.ko: kernel/a/libcrc32c.ko\n",
            "alias virtio:d00000001v* virtio_net\nalias crypto-crc32c crc32c_generic\n",
            "softdep libcrc32c pre: crypto-crc32c\n",
            "kernel/b/e1000.ko\n",
        )
    }

    #[test]
    fn drivers_bring_dependencies_and_soft_dependencies_through_aliases() {
        let wanted = Wanted { named: vec!["bnx2x".into(), "virtio*".into()], default: vec![], ..Wanted::default() };
        let selection = index().select(&wanted);
        assert_eq!(
            selection.paths,
            [
                "kernel/a/bnx2x.ko",
                "kernel/a/crc32c_generic.ko",
                "kernel/a/failover.ko",
                "kernel/a/libcrc32c.ko",
                "kernel/a/net-failover.ko",
                "kernel/a/virtio_net.ko"
            ]
        );
        let files = index().reduced(&selection);
        assert!(files[0].1.contains("kernel/a/bnx2x.ko: kernel/a/libcrc32c.ko\n"));
        assert!(files[1].1.contains("alias virtio:d00000001v* virtio_net\n"));
        assert!(files[2].1.contains("softdep libcrc32c pre: crc32c_generic\n"));
    }

    #[test]
    fn a_wanted_driver_that_is_missing_has_near_names_and_a_builtin_is_not_missing() {
        let wanted =
            Wanted { named: vec!["ibg".into(), "e1000".into()], default: vec!["tg3".into()], ..Wanted::default() };
        let selection = index().select(&wanted);
        assert_eq!(selection.missing.len(), 1);
        assert_eq!(selection.skipped, ["tg3"]);
        let near =
            index().select(&Wanted { named: vec!["virtionet".into()], default: vec![], ..Wanted::default() }).missing;
        assert_eq!(near[0].1[0], "virtio_net");
    }
}
