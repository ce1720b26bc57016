//! Images that are compared: what is in them, written to a directory and read as builds are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use md5::Digest as _;

use crate::facts::Facts;
use build::diff::{Package, Packages, Side, Tree};
use recipe::Family;

/// An ELF file of a PC that needs libraries.
pub(crate) fn elf(libraries: &[&str]) -> Vec<u8> {
    elf_of(LOADER, None, libraries)
}

/// A library with its own name in it.
pub(crate) fn library(own: &str, libraries: &[&str]) -> Vec<u8> {
    elf_of(LOADER, Some(own), libraries)
}

const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

/// An ELF file with its dynamic loader and its own name, without sections. Source: elf(5).
pub(crate) fn elf_of(interpreter: &str, own: Option<&str>, libraries: &[&str]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    let interpreter = [interpreter.as_bytes(), b"\0"].concat();
    let mut strings = vec![0u8];
    let mut entries: Vec<(u64, u64)> = Vec::new();
    for (tag, name) in libraries.iter().map(|name| (1, *name)).chain(own.map(|name| (14, name))) {
        entries.push((tag, strings.len() as u64));
        strings.extend([name.as_bytes(), b"\0"].concat());
    }
    let head = 64 + 3 * 56;
    // Readers want the entries at multiples of eight.
    let dynamic = (head + interpreter.len() as u64).next_multiple_of(8);
    let place = dynamic + 16 * (entries.len() as u64 + 2);
    entries.extend([(5, BASE + place), (0, 0)]);
    let size = place + strings.len() as u64;
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend([3u16, 62].map(u16::to_le_bytes).concat());
    bytes.extend(1u32.to_le_bytes());
    bytes.extend([0u64, 64, 0].map(u64::to_le_bytes).concat());
    bytes.extend(0u32.to_le_bytes());
    bytes.extend([64u16, 56, 3, 64, 0, 0].map(u16::to_le_bytes).concat());
    for (kind, offset, size) in [(3u32, head, interpreter.len() as u64), (1, 0, size), (2, dynamic, place - dynamic)] {
        bytes.extend([kind, 4].map(u32::to_le_bytes).concat());
        bytes.extend([offset, BASE + offset, BASE + offset, size, size, 8].map(u64::to_le_bytes).concat());
    }
    bytes.extend(interpreter);
    bytes.resize(usize::try_from(dynamic).unwrap(), 0);
    for (tag, value) in entries {
        bytes.extend([tag, value].map(u64::to_le_bytes).concat());
    }
    bytes.extend(strings);
    bytes
}

#[derive(Clone)]
pub(super) struct Image {
    /// Content of each path; a link begins with `->`.
    pub(super) files: BTreeMap<String, (Vec<u8>, u32)>,
    /// Version and paths of packages.
    pub(super) packages: BTreeMap<String, (String, Vec<String>)>,
    /// Paths that a script has changed since their package brought them.
    pub(super) scripted: BTreeSet<String>,
    /// Paths of packages whose databases have no digest of them.
    pub(super) undigested: BTreeSet<String>,
    pub(super) synced: Vec<String>,
    pub(super) release: String,
    pub(super) words: Vec<String>,
    pub(super) artefacts: BTreeMap<String, (u64, String)>,
}

impl Image {
    pub(super) fn put(&mut self, path: &str, content: impl AsRef<[u8]>, mode: u32) {
        self.files.insert(path.to_owned(), (content.as_ref().to_vec(), mode));
    }

    /// A file of a package.
    pub(super) fn own(&mut self, package: &str, path: &str, content: impl AsRef<[u8]>, mode: u32) {
        self.put(path, content, mode);
        let entry = self.packages.entry(package.to_owned()).or_insert_with(|| ("1".to_owned(), Vec::new()));
        entry.1.push(path.to_owned());
    }

    /// A library of a package, which has its own name in it.
    pub(super) fn library(&mut self, package: &str, path: &str, libraries: &[&str]) {
        let name = path.rsplit('/').next().unwrap();
        self.own(package, path, library(name, libraries), 0o644);
    }

    pub(super) fn daemon(&mut self, package: &str, unit: &str, program: &str, libraries: &[&str]) {
        let text = format!("[Service]\nExecStart=/{program}\n[Install]\nWantedBy=multi-user.target\n");
        self.own(package, &format!("usr/lib/systemd/system/{unit}"), text, 0o644);
        self.own(package, program, elf(libraries), 0o755);
        let link = format!("etc/systemd/system/multi-user.target.wants/{unit}");
        self.put(&link, format!("->/usr/lib/systemd/system/{unit}"), 0);
    }

    /// A new version of a package, with new content of some of its files.
    pub(super) fn move_package(&mut self, package: &str, paths: &[&str]) {
        self.packages.get_mut(package).unwrap().0 = "2".to_owned();
        for path in paths {
            self.files.get_mut(*path).unwrap().0.push(b'2');
        }
    }

    pub(super) fn edit(&mut self, path: &str) {
        self.scripted.insert(path.to_owned());
        self.files.get_mut(path).unwrap().0.push(b'2');
    }

    pub(super) fn drop_package(&mut self, package: &str) {
        for path in self.packages.remove(package).unwrap().1 {
            self.files.remove(&path);
        }
    }

    pub(super) fn side(&self, name: &str, directory: &Path) -> (Side, Facts) {
        let write = |path: &str, content: &[u8], mode: u32| {
            let to = directory.join(path);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            if let Some(target) = content.strip_prefix(b"->") {
                return std::os::unix::fs::symlink(std::str::from_utf8(target).unwrap(), to).unwrap();
            }
            std::fs::write(&to, content).unwrap();
            std::fs::set_permissions(&to, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        for (path, (content, mode)) in &self.files {
            write(path, content, *mode);
        }
        let mut status = String::new();
        for (name, (version, paths)) in &self.packages {
            status += &format!(
                "Package: {name}\nStatus: install ok installed\nMaintainer: x\nArchitecture: all\nVersion: {version}\nDescription: x\n\n"
            );
            let lines: String = paths.iter().map(|path| format!("/{path}\n")).collect();
            write(&format!("var/lib/dpkg/info/{name}.list"), lines.as_bytes(), 0o644);
            let files = paths
                .iter()
                .filter_map(|path| Some((path, &self.files.get(path)?.0)))
                .filter(|one| !one.1.starts_with(b"->") && !self.undigested.contains(one.0));
            let digest = |path: &String, content: &[u8]| match self.scripted.contains(path) {
                true => "0".repeat(32),
                false => data_encoding::HEXLOWER.encode(&md5::Md5::digest(content)),
            };
            let lines: String = files.map(|(path, content)| format!("{}  {path}\n", digest(path, content))).collect();
            write(&format!("var/lib/dpkg/info/{name}.md5sums"), lines.as_bytes(), 0o644);
        }
        write("var/lib/dpkg/status", status.as_bytes(), 0o644);
        let mut facts = Facts::of_directory(name, directory).unwrap();
        facts.cmdline = [vec!["imgurl={url}/rootimg.sfs".to_owned()], self.words.clone()].concat();
        let side = Side {
            name: name.to_owned(),
            packages: Some(self.lock()),
            tree: Some(Tree::of_directory(directory).unwrap()),
            release: Some(self.release.clone()),
            cmdline: Some(self.words.clone()),
            artefacts: Some(self.artefacts.clone()),
            ..Side::default()
        };
        (side, facts)
    }

    pub(super) fn lock(&self) -> Packages {
        let package = |(name, (version, _)): (&String, &(String, Vec<String>))| {
            let one = Package { name: name.clone(), arch: "all".to_owned(), version: version.clone() };
            (one, Some(format!("{name} {version}")))
        };
        Packages { family: Family::Debian, all: self.packages.iter().map(package).collect() }
    }
}

pub(super) fn image() -> Image {
    let mut image = Image {
        files: BTreeMap::new(),
        packages: BTreeMap::new(),
        scripted: BTreeSet::new(),
        undigested: BTreeSet::new(),
        synced: vec!["etc/motd".to_owned(), "etc/slurm/slurm.conf".to_owned()],
        release: "6.12.0".to_owned(),
        words: vec!["quiet".to_owned()],
        artefacts: [("kernel", "k"), ("initrd-stateless", "i"), ("rootimg.sfs", "r")]
            .map(|(name, digest)| (name.to_owned(), (1, digest.to_owned())))
            .into(),
    };
    for (path, target) in [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("sbin", "usr/sbin")] {
        image.put(path, format!("->{target}"), 0);
    }
    image.put("usr/lib64/ld-linux-x86-64.so.2", "->../lib/libc/ld-linux.so", 0);
    image.own("libc6", "usr/lib/libc/ld-linux.so", elf(&[]), 0o755);
    image.library("libc6", "usr/lib/libc.so.6", &[]);
    image.own("systemd", "usr/lib/systemd/systemd", elf(&["libsystemd-shared-257.so", "libc.so.6"]), 0o755);
    image.library("systemd", "usr/lib/systemd/libsystemd-shared-257.so", &["libc.so.6", "libseccomp.so.2"]);
    image.own("systemd", "usr/lib/systemd/system/soft-reboot.target", "[Unit]\n", 0o644);
    image.put("usr/sbin/init", "->../lib/systemd/systemd", 0);
    image.library("libseccomp2", "usr/lib/libseccomp.so.2", &["libc.so.6"]);
    image.own("libssl3", "usr/lib/libcrypto.so.3.0.1", library("libcrypto.so.3", &["libc.so.6"]), 0o644);
    image.own("libssl3", "usr/lib/libcrypto.so.3", "->libcrypto.so.3.0.1", 0);
    image.library("libcurl4", "usr/lib/libcurl.so.4", &["libcrypto.so.3"]);
    image.daemon("openssh-server", "ssh.service", "usr/sbin/sshd", &["libcrypto.so.3", "libc.so.6"]);
    image.daemon("slurmd", "slurmd.service", "usr/sbin/slurmd", &["libcurl.so.4"]);
    image.daemon("cron", "cron.service", "usr/sbin/cron", &["libc.so.6"]);
    image.daemon("masked", "masked.service", "usr/sbin/maskedd", &["libcrypto.so.3"]);
    image.put("etc/systemd/system/masked.service", "->/dev/null", 0);
    image.daemon("dbus", "dbus.service", "usr/bin/dbus-daemon", &["libexpat.so.1"]);
    image.library("libexpat1", "usr/lib/libexpat.so.1", &["libc.so.6"]);
    image.own("slurm-plugins", "usr/lib/slurm/task_cgroup.so", elf(&["libc.so.6"]), 0o644);
    image.own("plugins", "usr/lib/things/odd.so", elf(&["libc.so.6"]), 0o644);
    image.own("htop", "usr/bin/htop", elf(&["libncurses.so.6"]), 0o755);
    image.library("libncurses6", "usr/lib/libncurses.so.6", &["libc.so.6"]);
    image.own("htop", "usr/share/doc/htop/changelog", "text", 0o644);
    image.own("kmod", "usr/lib/modules/6.12.0/kernel/lustre.ko", "module", 0o644);
    image.own("python3", "usr/bin/python3.11", elf(&["libc.so.6"]), 0o755);
    image.put("usr/bin/python3", "->python3.11", 0);
    image.own("python3-yaml", "usr/lib/python3/dist-packages/yaml.py", "x", 0o644);
    image.own("exporter", "usr/bin/exporter", "#!/usr/bin/env python3\nimport yaml\n", 0o755);
    image.own(
        "exporter",
        "usr/lib/systemd/system/exporter.service",
        "[Service]\nEnvironmentFile=-/etc/site/exporter.env\nExecStart=/bin/exporter\n",
        0o644,
    );
    image.own("perl-y", "usr/lib/perl5/auto/y.so", elf(&["libc.so.6"]), 0o644);
    image.own("wrapped", "usr/libexec/wrapped", elf(&["libwrapped.so.1"]), 0o755);
    image.library("libwrapped", "usr/lib/libwrapped.so.1", &["libc.so.6"]);
    let text = "[Service]\nExecStart=/bin/sh -c '/usr/libexec/wrapped --all'\n";
    image.own("wrapped", "usr/lib/systemd/system/wrapped.service", text, 0o644);
    for (path, text) in [
        ("etc/motd", "hello"),
        ("etc/slurm/slurm.conf", "x"),
        ("etc/site/exporter.env", "x"),
        ("etc/site.txt", "x"),
        ("etc/sysctl.d/site.conf", "x"),
        ("etc/modprobe.d/site.conf", "x"),
        ("etc/ld.so.cache", "x"),
        ("var/log/x", "x"),
    ] {
        image.put(path, text, 0o644);
    }
    image
}
