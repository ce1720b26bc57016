//! What drivers bring: their files, where each goes, and how much of them may be held at once.

use std::io::Read;

use recipe::Arch;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DriverFile {
    pub source: String,
    pub place: Place,
    pub content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A module for a release (none: for the image's), and its path below the release's folder.
    Module(Option<String>, String),
    /// Firmware or a setting, by its path.
    Other(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    File(Vec<u8>),
    Symlink(String),
}

/// All content that is held at once, in bytes: no set of drivers is larger.
const LIMIT: u64 = 2 << 30;

#[derive(Debug, Default)]
pub(super) struct Gathering {
    pub files: Vec<DriverFile>,
    pub release: String,
    pub arch: Arch,
    held: u64,
}

/// Where a file of a package goes, if it is a driver's.
pub(super) fn place_of(path: &str) -> Option<Place> {
    let below = path.strip_prefix("usr/").unwrap_or(path);
    if let Some(rest) = below.strip_prefix("lib/modules/") {
        let (release, rest) = rest.split_once('/')?;
        // Packages that wait for their script to give the module its name.
        let rest = rest.strip_suffix(".new").unwrap_or(rest);
        let base = rest.rsplit('/').next().unwrap_or(rest);
        return is_module(base).then(|| Place::Module(Some(release.to_owned()), rest.to_owned()));
    }
    let in_lib = ["lib/firmware/", "lib/modprobe.d/", "lib/depmod.d/", "lib/dracut/dracut.conf.d/"];
    if in_lib.iter().any(|start| below.starts_with(start)) {
        return Some(Place::Other(format!("usr/{below}")));
    }
    let in_etc = ["etc/modprobe.d/", "etc/depmod.d/", "etc/dracut.conf.d/"];
    in_etc.iter().any(|start| path.starts_with(start)).then(|| Place::Other(path.to_owned()))
}

/// Whether a file's name is that of a module.
pub(super) fn is_module(name: &str) -> bool {
    [".ko", ".ko.gz", ".ko.xz", ".ko.zst"].iter().any(|ending| name.len() > ending.len() && name.ends_with(ending))
}

impl Gathering {
    pub(super) fn new(release: &str, arch: Arch) -> Self {
        Self { release: release.to_owned(), arch, ..Self::default() }
    }

    /// Whether a package or a folder of drivers is for the image's CPU, or for all: by the name that `uname -m`, RPM or Debian
    /// gives it.
    pub(super) fn is_own_cpu(&self, name: &str) -> bool {
        matches!(name, "noarch" | "all") || fault::planted("driver-of-any-cpu") || Arch::named(name) == Some(self.arch)
    }

    /// Reads content, within what may be held.
    pub(super) fn content(&mut self, stream: &mut dyn Read) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let left = LIMIT - self.held.min(LIMIT);
        stream.take(left + 1).read_to_end(&mut bytes).map_err(|error| format!("it is damaged: {error}"))?;
        self.held += bytes.len() as u64;
        if self.held > LIMIT { Err("the drivers are larger than 2 GiB".to_owned()) } else { Ok(bytes) }
    }

    /// Adds a file that has its place.
    pub(super) fn add(&mut self, source: &str, place: Place, content: Content) {
        self.files.push(DriverFile { source: source.to_owned(), place, content });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_for_the_image_s_cpu_or_for_all_counts() {
        let own = |arch, names: [&str; 5]| names.map(|name| Gathering::new("6.1", arch).is_own_cpu(name));
        let names = ["amd64", "x86_64", "arm64", "aarch64", "noarch"];
        assert_eq!(own(Arch::X86_64, names), [true, true, false, false, true]);
        assert_eq!(own(Arch::Aarch64, names), [false, false, true, true, true]);
    }

    #[test]
    fn a_package_gives_modules_firmware_and_settings_and_nothing_else() {
        let module = |release: &str, rest: &str| Some(Place::Module(Some(release.into()), rest.into()));
        assert_eq!(place_of("lib/modules/6.1/extra/a.ko.xz"), module("6.1", "extra/a.ko.xz"));
        assert_eq!(place_of("usr/lib/modules/6.1/updates/a.ko.new"), module("6.1", "updates/a.ko"));
        assert_eq!(place_of("lib/modules/6.1/modules.dep"), None);
        assert_eq!(place_of("lib/firmware/a.bin"), Some(Place::Other("usr/lib/firmware/a.bin".into())));
        assert_eq!(place_of("etc/modprobe.d/a.conf"), Some(Place::Other("etc/modprobe.d/a.conf".into())));
        assert_eq!(place_of("usr/bin/a"), None);
    }
}
