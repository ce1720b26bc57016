//! Kernel modules: found by name, alias or the devices that are there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::{say, sys};

/// What the initrd's module files say. Source: modules.dep(5), modprobe.d(5).
pub(crate) struct Modules {
    folder: PathBuf,
    needs: BTreeMap<String, (String, Vec<String>)>,
    aliases: Vec<(String, String)>,
    soft: BTreeMap<String, Vec<String>>,
    options: BTreeMap<String, String>,
    blacklist: BTreeSet<String>,
}

fn name_of(path: &str) -> String {
    let base = path.rsplit('/').next().unwrap_or(path);
    base.strip_suffix(".ko").unwrap_or(base).replace('-', "_")
}

impl Modules {
    /// Reads the files of the running kernel's folder.
    pub(crate) fn read() -> Self {
        let folder = PathBuf::from("/lib/modules").join(sys::kernel_release());
        let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        let mut found = Self {
            needs: BTreeMap::new(),
            aliases: Vec::new(),
            soft: BTreeMap::new(),
            options: BTreeMap::new(),
            blacklist: BTreeSet::new(),
            folder: folder.clone(),
        };
        for line in text("modules.dep").lines() {
            if let Some((path, needs)) = line.split_once(':') {
                let needs = needs.split_whitespace().map(name_of).collect();
                found.needs.insert(name_of(path), (path.to_owned(), needs));
            }
        }
        found.configuration(&text("modules.alias"));
        found.configuration(&text("modules.softdep"));
        if let Ok(entries) = std::fs::read_dir("/etc/modprobe.d") {
            let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            files.sort();
            for file in files {
                found.configuration(&std::fs::read_to_string(file).unwrap_or_default());
            }
        }
        found
    }

    fn configuration(&mut self, text: &str) {
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["alias", pattern, module] => self.aliases.push(((*pattern).to_owned(), name_of(module))),
                ["blacklist", module] => drop(self.blacklist.insert(name_of(module))),
                ["options", module, rest @ ..] => drop(self.options.insert(name_of(module), rest.join(" "))),
                ["softdep", module, rest @ ..] => {
                    let names = rest.iter().filter(|word| !word.ends_with(':')).map(|word| name_of(word));
                    self.soft.entry(name_of(module)).or_default().extend(names);
                }
                _ => {}
            }
        }
    }

    /// Loads a module by name or alias, with what it needs; true when one was loaded now.
    pub(crate) fn load(&self, name: &str) -> bool {
        let plain = name_of(name);
        if self.needs.contains_key(&plain) {
            return self.load_named(&plain, 0);
        }
        let mut any = false;
        for (pattern, module) in &self.aliases {
            if matches(pattern.as_bytes(), name.as_bytes()) && !self.blacklist.contains(module) {
                any |= self.load_named(module, 0);
            }
        }
        any
    }

    fn load_named(&self, name: &str, depth: usize) -> bool {
        let Some((path, needs)) = self.needs.get(name) else { return false };
        if depth > 32
            || fault::planted("node-module-left-out") && name == "virtio_net"
            || Path::new("/sys/module").join(name).exists()
        {
            return false;
        }
        for wanted in self.soft.get(name).into_iter().flatten() {
            self.load_named(wanted, depth + 1);
        }
        // modules.dep lists them with the nearest first.
        for need in needs.iter().rev() {
            self.load_named(need, depth + 1);
        }
        let options = self.options.get(name).map_or("", String::as_str);
        match sys::load_module(&self.folder.join(path), options) {
            Ok(()) => true,
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => false,
            // Not for this machine: common, and no reason for noise.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => false,
            Err(error) => {
                say!("the module {name} cannot be loaded: {error}");
                false
            }
        }
    }

    /// Loads the drivers of all devices that are there; again while new devices appear behind new drivers.
    pub(crate) fn load_for_devices(&self) {
        self.load("af_packet");
        for _ in 0..8 {
            let mut any = false;
            for alias in device_aliases() {
                any |= self.load(&alias);
            }
            if !any {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

/// The aliases of all devices of all buses.
pub(crate) fn device_aliases() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let Ok(buses) = std::fs::read_dir("/sys/bus") else { return found };
    for bus in buses.flatten() {
        let Ok(devices) = std::fs::read_dir(bus.path().join("devices")) else { continue };
        for device in devices.flatten() {
            if let Ok(alias) = std::fs::read_to_string(device.path().join("modalias")) {
                found.insert(alias.trim().to_owned());
            }
        }
    }
    found
}

/// fnmatch(3) as far as aliases use it: `*`, `?` and `[...]`.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|at| matches(rest, &text[at..])),
        Some((b'?', rest)) => !text.is_empty() && matches(rest, &text[1..]),
        Some((b'[', rest)) => {
            let (Some(end), Some(first)) = (rest.iter().position(|byte| *byte == b']'), text.first()) else {
                return false;
            };
            let mut set = &rest[..end];
            let mut inside = false;
            while let Some((from, after)) = set.split_first() {
                if after.first() == Some(&b'-') && after.len() > 1 {
                    inside |= (*from..=after[1]).contains(first);
                    set = &after[2..];
                } else {
                    inside |= from == first;
                    set = after;
                }
            }
            inside && matches(&rest[end + 1..], &text[1..])
        }
        Some((byte, rest)) => text.first() == Some(byte) && matches(rest, &text[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn aliases_match_as_depmod_writes_them() {
        let alias = b"pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00";
        assert!(matches(b"pci:v00001AF4d*sv*sd*bc*sc*i*", alias));
        assert!(!matches(b"pci:v00008086d*sv*sd*bc*sc*i*", alias));
        assert!(matches(b"virtio:d0000000[1-3]v*", b"virtio:d00000001v00001AF4"));
    }
}
