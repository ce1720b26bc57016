//! A long list of RPM packages in parts, each a layer; tests/it/e2e/edits.rs has Debian's.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use base::digest::Digest;

use super::compute::lock;
use super::rpm_node::{repository, write_keys};
use super::store;
use crate::support::{Space, copy_tree};

/// Groups, and what comes after them, of the tests' RPM distribution.
fn rpm_node(list: &str) -> Space {
    let space = Space::new().with_store(&store());
    write_keys(&space);
    space.write("long.pkglist", list);
    let text = format!(
        "[image]\nname = \"long\"\ndistro = \"rocky\"\nrelease = \"1\"\n\n{}\n[packages]\nlists = [\"long.pkglist\"]\n\n\
         [kernel]\npackage = \"kernel\"\n\n[system]\nauthorized_keys = [\"keys/admin.pub\"]\n",
        repository("distro")
    );
    space.write("image.toml", &text);
    space
}

const LIST: &str = "@minimal-environment\n@compute-tools\nopenssh-server\nchrony\n";

/// The parts of the list, with their numbers of packages.
fn parts(space: &Space) -> Vec<(String, usize)> {
    let passes = lock(space).pass.into_iter().filter(|pass| pass.name.starts_with("packages-"));
    passes.map(|pass| (pass.name.clone(), pass.packages.len())).collect()
}

#[test]
fn a_package_more_leaves_the_parts_of_rpm_packages_before_it_alone() {
    let space = rpm_node(LIST);
    space.run(&["build", "--progress", "plain"]).good();
    let before = lock(&space);
    let sizes = parts(&space);
    assert!(sizes.len() > 1 && sizes[0].0 == "packages-1" && sizes[1].0 == "packages-1.2", "{sizes:?}");
    assert!(sizes[0].1 >= 64, "{sizes:?}");
    // The other one is of a module: its stream is switched on with it.
    space.write("long.pkglist", &format!("{LIST}figlet\nhello\n"));
    let last = &sizes[sizes.len() - 1].0;
    assert_eq!(space.to_do()[..2], ["rootfs/lock run".to_owned(), format!("rootfs/{last} run")]);
    let ran = space.run(&["build", "--verify"]).good();
    // Before the second build, in which all of them run.
    let first = ran.err.lines().find(|line| line.starts_with("ran ")).unwrap();
    assert!(!first.contains("rootfs/packages-1,"), "{first}");
    let after = lock(&space);
    assert!(after.pass(last).unwrap().packages.iter().any(|package| package.name == "figlet"));
    assert_eq!(after.pass(last).unwrap().modules, ["greeting:2"]);
    assert_eq!(lock(&space).pass("packages-1"), before.pass("packages-1"));
    let asked = space.run(&["shell", "--", "rpm", "-q", "--qf", "%{NAME}\\n", "figlet", "openssh-server"]);
    assert_eq!(asked.good().out, "figlet\nopenssh-server\n");
    let streams = space.run(&["shell", "--", "cat", "/etc/dnf/modules.d/greeting.module"]).good().out;
    assert!(streams.contains("stream=2") && streams.contains("state=enabled"), "{streams}");
}

/// What a tree has at a path: its kind and content, mode, and the names of its owners.
fn entries(root: &Path) -> BTreeMap<String, String> {
    let names = |file: &str| -> BTreeMap<String, String> {
        let text = std::fs::read_to_string(root.join("etc").join(file)).unwrap();
        let fields = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
        fields.map(|fields| (fields[2].to_owned(), fields[0].to_owned())).collect()
    };
    let (users, groups) = (names("passwd"), names("group"));
    let mut found = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.unwrap();
        let metadata = entry.path().symlink_metadata().unwrap();
        let kind = match metadata.file_type() {
            kind if kind.is_symlink() => format!("link {}", std::fs::read_link(entry.path()).unwrap().display()),
            kind if kind.is_file() => format!("file {}", Digest::of(&std::fs::read(entry.path()).unwrap())),
            kind if kind.is_dir() => "directory".to_owned(),
            _ => format!("other {}", metadata.rdev()),
        };
        let name =
            |names: &BTreeMap<String, String>, id: u32| names.get(&id.to_string()).cloned().unwrap_or(id.to_string());
        let (user, group) = (name(&users, metadata.uid()), name(&groups, metadata.gid()));
        let path = entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        found.insert(path, format!("{kind} {:o} {user}:{group} {}", metadata.mode(), metadata.nlink()));
    }
    found
}

/// The packed image, unpacked by GNU cpio.
fn unpacked(space: &Space) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let image = std::fs::File::open(space.artefact("long", "rootimg.cpio.zst")).unwrap();
    let mut unpack = Command::new("zstd").args(["-d", "-c"]).stdin(image).stdout(Stdio::piped()).spawn().unwrap();
    let mut cpio = Command::new("cpio");
    cpio.args(["-idm", "--quiet"]).current_dir(root.path()).stdin(unpack.stdout.take().unwrap());
    assert!(cpio.status().unwrap().success() && unpack.wait().unwrap().success());
    root
}

#[test]
fn privileged_a_list_in_parts_is_the_image_of_the_list_in_one_piece() {
    assert!(rustix::process::getuid().is_root(), "this test needs root: cpio must be able to change owners");
    let cut = rpm_node(LIST);
    cut.run(&["build", "--progress", "plain"]).good();
    // A list that removes something stays in one piece.
    let whole = Space::new().with_store(&store());
    copy_tree(cut.path(), whole.path());
    whole.write("long.pkglist", &format!("{LIST}-figlet\n"));
    whole.run(&["build", "--progress", "plain"]).good();
    assert!(parts(&cut).len() > 1 && parts(&whole).len() == 1, "{:?} {:?}", parts(&cut), parts(&whole));
    let trees = [&cut, &whole].map(unpacked);
    let [mut one, mut other] = trees.each_ref().map(|tree| entries(tree.path()));
    // Numbers that packages choose themselves depend on what came before, and so do rpm's records.
    let numbered = ["passwd", "group", "shadow", "gshadow"].map(|name| [format!("etc/{name}"), format!("etc/{name}-")]);
    for path in numbered.iter().flatten().map(String::as_str).chain(["var/lib/rpm/rpmdb.sqlite"]) {
        assert!(one.remove(path).is_some() && other.remove(path).is_some(), "{path}");
    }
    let differ: Vec<_> = one.iter().filter(|(path, entry)| other.get(*path) != Some(*entry)).collect();
    let more: Vec<_> = other.keys().filter(|path| !one.contains_key(*path)).collect();
    assert!(differ.is_empty() && more.is_empty(), "{differ:#?} {more:#?}");
    assert!(one.len() > 1000, "{}", one.len());
    let names = |tree: &tempfile::TempDir, file: &str| {
        let text = std::fs::read_to_string(tree.path().join(file)).unwrap();
        text.lines().map(|line| line.split(':').next().unwrap().to_owned()).collect::<std::collections::BTreeSet<_>>()
    };
    for file in ["etc/passwd", "etc/group"] {
        assert_eq!(names(&trees[0], file), names(&trees[1], file));
    }
}
