//! The packages that a node of CentOS 7 needs and the corpus lacks; tests/fixtures/centos7/README.md says what each is.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::{Object, ObjectSection};

use super::super::offline::vendored;
use super::super::{shared, store};
use crate::corpus_rpm::corpus;
use crate::support::{Space, project};

/// Two repositories: `base` with the real packages, `stand-ins` with those that are made. None where the mirror has no
/// Debian 11, of which Python 2.7 comes.
pub fn repositories() -> Option<PathBuf> {
    let place = store().with_file_name("centos7");
    let _lock = shared::lock(&store().with_file_name("centos7.lock"));
    if !place.exists() {
        let new = store().with_file_name("centos7.new");
        let _ = std::fs::remove_dir_all(&new);
        let python = python(&new.join("debs"))?;
        let base = new.join("base");
        std::fs::create_dir_all(&base).unwrap();
        for entry in std::fs::read_dir(corpus().join("rpms/centos7.6-minimal-iso")).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, base.join(path.file_name().unwrap())).unwrap();
        }
        let made = new.join("stand-ins");
        std::fs::create_dir_all(&made).unwrap();
        Package::new("python-libs-2.7.5-76.el7", "glibc, bzip2-libs, expat, sqlite, zlib")
            .provides("python-libs(x86-64) = 2.7.5-76.el7, libpython2.7.so.1.0()(64bit)")
            .write(&python, &made);
        for (name, requires, provides, files) in [
            ("glibc-common-2.17-260.el7", "bash, grep", "", &[("usr/bin/getent", "getent")][..]),
            ("binutils-2.27-34.base.el7", "bash", "", &[("usr/bin/nm", "nm")]),
            (
                "systemd-219-62.el7",
                "bash, util-linux",
                "systemd-units = 219-62.el7, udev = 219",
                &[("usr/lib/systemd/systemd", "systemd"), ("usr/bin/systemctl", ""), ("usr/bin/systemd-tmpfiles", "")],
            ),
        ] {
            let root = tempfile::tempdir().unwrap();
            for (path, file) in files {
                let text = match *file {
                    "" => b"#!/bin/bash\n# Nothing runs that could be managed.\nexit 0\n".to_vec(),
                    file => std::fs::read(stand_in(file)).unwrap(),
                };
                let path = root.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, text).unwrap();
                std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
            }
            if name.starts_with("systemd") {
                std::fs::create_dir_all(root.path().join("usr/sbin")).unwrap();
                std::os::unix::fs::symlink("../lib/systemd/systemd", root.path().join("usr/sbin/init")).unwrap();
            }
            Package::new(name, requires).provides(provides).write(root.path(), &made);
        }
        kernel(&made);
        for directory in [base, made] {
            run(Command::new("createrepo_c").arg("--quiet").arg(directory));
        }
        std::fs::remove_dir_all(new.join("debs")).unwrap();
        std::fs::rename(&new, &place).unwrap();
    }
    Some(place)
}

fn stand_in(name: &str) -> PathBuf {
    project().join("tests/fixtures/centos7/stand-ins").join(name)
}

fn run(command: &mut Command) {
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// Unpacks packages of Debian whose file names begin with one of some words.
fn unpack(debs: &Path, names: &[&str], root: &Path) {
    for deb in rpm_distro::debs_below(&[debs]).unwrap() {
        if names.iter().any(|name| deb.file_name().unwrap().to_str().unwrap().starts_with(name)) {
            run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(root));
        }
    }
}

/// A root with Debian 11's Python 2.7, changed so that CentOS 7's C library is enough for it.
fn python(directory: &Path) -> Option<PathBuf> {
    const WANTED: [&str; 3] = ["libpython2.7", "libpython2.7-stdlib", "libffi7"];
    let space = Space::new().with_store(&store());
    let recipe = "[image]\nname = \"python\"\nrelease = \"bullseye\"\n\n[[repo]]\nsource = \"host\"\nsuites = [\"bullseye\"]\n\n\
                  [packages]\nbase = \"essential\"\n";
    space.write("image.toml", &format!("{recipe}install = {WANTED:?}\n"));
    let ran = space.run(&["update", "--progress", "plain"]);
    if crate::e2e::is_dropped("Debian 11, whose Python CentOS 7 gets here", &ran) {
        return None;
    }
    ran.good();
    let debs = directory.join("packages");
    std::fs::create_dir_all(directory).unwrap();
    space.run(&["vendor", debs.to_str().unwrap()]).good();
    let (debian, root) = (directory.join("debian"), directory.join("python"));
    std::fs::create_dir_all(&debian).unwrap();
    unpack(&debs, &["libpython2.7_", "libpython2.7-minimal_", "libpython2.7-stdlib_", "libffi7_"], &debian);
    let (modules, libraries) = (root.join("usr/lib/python2.7"), root.join("usr/lib64"));
    std::fs::create_dir_all(&libraries).unwrap();
    // What needs libraries of Debian's, and what nothing here asks for.
    const LEFT_OUT: [&str; 16] = [
        "test",
        "idlelib",
        "lib2to3",
        "ensurepip",
        "bsddb",
        "lib-tk",
        "hotshot",
        "pydoc_data",
        "sitecustomize.py",
        "_hashlib.",
        "_ssl.",
        "nis.",
        "readline.",
        "_curses",
        "_bsddb.",
        "dbm.",
    ];
    let from = debian.join("usr/lib/python2.7");
    for entry in walkdir::WalkDir::new(&from) {
        let entry = entry.unwrap();
        let path = entry.path().strip_prefix(&from).unwrap();
        let is_left_out = path.iter().any(|part| {
            let part = part.to_str().unwrap();
            LEFT_OUT.iter().any(|name| {
                if name.ends_with('.') || *name == "_curses" { part.starts_with(name) } else { part == *name }
            }) || part.starts_with("config-")
        });
        if entry.file_type().is_file() && !is_left_out {
            let to = modules.join(path);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(entry.path(), &to).unwrap();
            if path.extension().is_some_and(|ending| ending == "so") {
                for_old_library(&to);
            }
        }
    }
    std::fs::copy(stand_in("sitecustomize.py"), modules.join("sitecustomize.py")).unwrap();
    for entry in walkdir::WalkDir::new(&debian) {
        let entry = entry.unwrap();
        let name = entry.file_name().to_str().unwrap();
        if entry.file_type().is_file() && (name == "libpython2.7.so.1.0" || name.starts_with("libffi.so.7")) {
            let to = libraries.join(if name.starts_with("libffi") { "libffi.so.7" } else { name });
            std::fs::copy(entry.path(), &to).unwrap();
            for_old_library(&to);
        }
    }
    Some(root)
}

/// Has a library ask for the oldest versions of `exp`, `log` and `pow`, and for `fcntl` instead of `fcntl64`; for bzip2's
/// library by Red Hat's name. Source: the ELF specification's symbol versioning, `Elf64_Vernaux`: hash, flags, index, name, next.
fn for_old_library(path: &Path) {
    const NEWER: [u32; 2] = [0x0696_9188, 0x0696_9189]; // GLIBC_2.28, GLIBC_2.29
    const OLD: u32 = 0x0969_1a75; // GLIBC_2.2.5
    let mut bytes = std::fs::read(path).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let Some((start, size)) = file.section_by_name(".gnu.version_r").and_then(|section| section.file_range()) else {
        return;
    };
    let (start, end) = (start as usize, (start + size) as usize);
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    // Both kinds of entries there have 16 bytes.
    let entries: Vec<usize> = (start..end).step_by(16).collect();
    if let Some(old) = entries.iter().find(|at| word(&bytes, **at) == OLD) {
        let name = bytes[old + 8..old + 12].to_vec();
        let newer: Vec<usize> = entries.iter().copied().filter(|at| NEWER.contains(&word(&bytes, *at))).collect();
        for at in newer {
            bytes[at..at + 4].copy_from_slice(&OLD.to_le_bytes());
            bytes[at + 8..at + 12].copy_from_slice(&name);
        }
    }
    for (from, to) in [(&b"\0fcntl64\0"[..], &b"\0fcntl\0\0\0"[..]), (b"\0libbz2.so.1.0\0", b"\0libbz2.so.1\0\0\0")] {
        if let Some(at) = bytes.windows(from.len()).position(|part| part == from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
    }
    std::fs::write(path, bytes).unwrap();
}

/// The kernel of Debian 12's as a package of CentOS's shape.
fn kernel(made: &Path) {
    let root = tempfile::tempdir().unwrap();
    unpack(vendored(), &["linux-image-6"], root.path());
    std::fs::remove_dir_all(root.path().join("usr")).unwrap();
    let release = std::fs::read_dir(root.path().join("lib/modules")).unwrap().next().unwrap().unwrap().file_name();
    let post = format!("%post\n/sbin/depmod -a {}\n", release.to_str().unwrap());
    Package::new("kernel-6.1.0-1.el7", "coreutils, kmod").script(post).write(root.path(), made);
}

/// A package that rpmbuild makes of a root.
struct Package<'a> {
    /// Name, version and release.
    full: &'a str,
    requires: &'a str,
    provides: &'a str,
    script: String,
}

impl<'a> Package<'a> {
    fn new(full: &'a str, requires: &'a str) -> Self {
        Self { full, requires, provides: "", script: String::new() }
    }

    fn provides(self, provides: &'a str) -> Self {
        Self { provides, ..self }
    }

    fn script(self, script: String) -> Self {
        Self { script, ..self }
    }

    fn write(&self, root: &Path, to: &Path) {
        let mut parts = self.full.rsplitn(3, '-');
        let (release, version, name) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        let mut spec = format!(
            "Name: {name}\nVersion: {version}\nRelease: {release}\nSummary: Stands in for CentOS's {name}\nLicense: MIT\n\
             AutoReqProv: no\nRequires: {}\n",
            self.requires
        );
        if !self.provides.is_empty() {
            spec += &format!("Provides: {}\n", self.provides);
        }
        spec +=
            &format!("%description\nStands in.\n%install\ncp -a {}/. %{{buildroot}}/\n{}", root.display(), self.script);
        spec += "%files\n%defattr(-,root,root,-)\n";
        for entry in walkdir::WalkDir::new(root).sort_by_file_name() {
            let entry = entry.unwrap();
            if !entry.file_type().is_dir() {
                spec += &format!("\"/{}\"\n", entry.path().strip_prefix(root).unwrap().display());
            }
        }
        let top = tempfile::tempdir().unwrap();
        let file = top.path().join("a.spec");
        std::fs::write(&file, spec).unwrap();
        let mut command = Command::new("rpmbuild");
        command.args(["-bb", "--quiet", "--target", "x86_64"]);
        for macros in [
            &format!("_topdir {}", top.path().display())[..],
            &format!("_rpmdir {}", to.display()),
            "_build_name_fmt %{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm",
            // What rpm 4.11 can read.
            "_binary_payload w3.gzdio",
            "__os_install_post %{nil}",
            "debug_package %{nil}",
            "clamp_mtime_to_source_date_epoch 1",
            "use_source_date_epoch_as_buildtime 1",
            "_buildhost localhost",
        ] {
            command.args(["--define", macros]);
        }
        run(command.arg(&file).env("SOURCE_DATE_EPOCH", "1543190400"));
    }
}
