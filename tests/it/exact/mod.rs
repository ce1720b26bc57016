//! Keys move with meaning and with nothing else: on the graph alone, without building.

mod fields;
mod pins;
mod presentation;

use std::collections::BTreeMap;
use std::path::Path;

use base::digest::{Digest, Sha256};
use build::{Forms, graph_of, requested};
use plan::{Known, key_and_trace};
use recipe::{LOCK_MINOR, Lock, LockedSuite, PinnedPackage, Recipe, load};
use recipe::{LockedBase, LockedDocument, LockedLayer};
use serde_json::{Value, json};

use crate::support::Space;

/// A recipe that says something in nearly every table.
pub fn recipe_document() -> Value {
    json!({
        "image": {"name": "node", "release": "bookworm"},
        "repo": [{"uri": "https://one.example/debian", "suites": ["bookworm"], "components": ["main"]}],
        "packages": {"lists": ["a.pkglist"], "install": ["chrony"]},
        "otherpkgs": {"dir": "other", "install": ["site-thing"]},
        "kernel": {"package": "linux-image-amd64", "build": [{"source": "driver"}]},
        "initrd": {"ca": ["keys/ca.pem"]},
        "system": {"authorized_keys": ["k.pub"], "hostname": "dhcp"},
        "users": {"munge": {"uid": 104}},
        "groups": {"slurm": 300},
        "postinstall": {"script": "a.postinstall", "inputs": ["site/motd"]},
        "services": {"enable": ["munge"]},
        "sync": {"lists": ["a.synclist"]},
        "exclude": {"lists": ["a.exlist"]},
        "boot": {"cmdline": ["console=ttyS0"], "tmpfs": {"/tmp": "50m"}},
        "environment": {"SITE": "a"},
    })
}

/// Writes the files that the recipe and its edits name; the recipe itself is not among them.
pub fn write_files(space: &Space) {
    space
        .write("a.pkglist", "systemd-sysv\nudev\n")
        .write("b.pkglist", "htop\n")
        .write("node.packages", "# of a node\nhtop 1 amd64\n")
        .write("other/site-thing_1_all.deb", "no package, but a file of that name\n")
        .write("other2/site-thing_1_all.deb", "another file of that name\n")
        .write("kernels/linux-image-6.1_1_amd64.deb", "a file of a kernel's name\n")
        .write("driver/Makefile", "obj-m := a.o\n")
        .write("driver2/Makefile", "obj-m := b.o\n")
        .write("update.ko", "a module, by its name\n")
        .write("keys/ca.pem", "a certificate\n")
        .write("keys/other.pem", "another certificate\n")
        .write("keys/site.gpg", include_str!("../../../crates/pgp/src/keys/debian-archive.asc"))
        .write("k.pub", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty x\n")
        .write("k2.pub", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty yb\n")
        .write("hash", "$6$x$y\n")
        .write("hash2", "$6$x$z\n")
        .write("a.postinstall", "#!/bin/sh\n")
        .write("b.postinstall", "#!/bin/sh\ntrue\n")
        .write("play/site.yml", "- hosts: all\n  tasks: []\n")
        .write("play/vars.yml", "port: 80\n")
        .write("other-play/site.yml", "- hosts: all\n  tasks: [debug: {msg: x}]\n")
        .write("site/motd", "a node\n")
        .write("site/issue", "an issue\n")
        .write("a.synclist", "site/motd -> /etc/motd\n")
        .write("b.synclist", "site/issue -> /etc/issue\n")
        .write("a.exlist", "./usr/share/man/*\n")
        .write("b.exlist", "./usr/share/doc/*\n")
        .write("dump.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        .write("dump2.key", "-----BEGIN PRIVATE KEY-----\nBBBB\n-----END PRIVATE KEY-----\n")
        .write("hosts", "10.0.0.5 ssh-ed25519 AAAA\n")
        .write("hosts2", "10.0.0.5 ssh-ed25519 BBBB\n")
        .write("own.litefile", "tmpfs /etc/hosts\n")
        .write("own.litetree", "10.0.0.5:/trees\n")
        .write("own.statelite", "#node,image,statemnt,mntopts,comments,disable\n\"n01\",,\"10.0.0.5:/state\",,,\n")
        .write("site.conf", "add_drivers+=\" x \"\n")
        .write("site2.conf", "add_drivers+=\" y \"\n")
        .write("site.repo", "[site]\nname=site\nbaseurl=https://three.example/\n");
    for folder in ["post", "post2"] {
        for name in ["xcatdsklspost", "xcatpostinit1.netboot", "xcatpostinit1.service"] {
            space.write(&format!("{folder}/{name}"), &format!("#!/bin/sh\n# {folder}\n"));
        }
    }
    // Whatever the umask is: modes are part of keys.
    for entry in walkdir::WalkDir::new(space.path()).into_iter().map(Result::unwrap) {
        use std::os::unix::fs::PermissionsExt;
        let name = entry.path().strip_prefix(space.path()).unwrap().to_str().unwrap();
        let is_script = entry.file_type().is_dir() || name.ends_with(".postinstall") || name.starts_with("post");
        let mode = if is_script { 0o755 } else { 0o644 };
        std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[track_caller]
pub fn read(directory: &Path) -> Recipe {
    let loaded = load(directory);
    loaded.recipe.unwrap_or_else(|| panic!("{:#?}", loaded.findings))
}

fn empty_lock(recipe: &Recipe) -> Lock {
    let image = &recipe.model.image;
    // A line a file: name and content, as the digest of a directory of packages is made.
    let digest = |directory: &Path| {
        let mut names: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        let line = |path: &std::path::PathBuf| {
            let content = Sha256::of(&std::fs::read(path).unwrap());
            format!("{}\t{content}\n", path.file_name().unwrap().to_str().unwrap())
        };
        Sha256::of(names.iter().map(line).collect::<String>().as_bytes())
    };
    Lock {
        format: 1,
        minor: LOCK_MINOR,
        epoch: 1_700_000_000,
        target: format!("{} {} {}", image.distro.name(), image.release, image.arch.machine()),
        otherpkgs: recipe.otherpkgs_directory.as_deref().map(digest),
        kernels: recipe.kernel_files.kernels.as_deref().map(digest),
        repo: Some(build::asked_repositories(recipe)),
        base: None,
        suite: vec![LockedSuite { name: "bookworm".to_owned(), release: Sha256::of(b"a release") }],
        pass: Vec::new(),
        users: Vec::new(),
        groups: Vec::new(),
    }
}

/// A lock that answers a recipe, with one made-up package for each name that it asks for.
pub fn lock_of(recipe: &Recipe) -> Lock {
    let mut lock = empty_lock(recipe);
    let document = |text: &[u8]| LockedDocument { sha256: Sha256::of(text), size: 1 };
    lock.base = recipe.model.image.from.as_ref().map(|_| LockedBase {
        manifest: document(b"manifest"),
        config: document(b"config"),
        layers: vec![LockedLayer { sha256: Sha256::of(b"layer"), size: 1, diff: Sha256::of(b"diff") }],
        packages: Vec::new(),
    });
    let pin = |name: &String| PinnedPackage {
        name: name.rsplit('/').next().unwrap().to_owned(),
        version: format!("1.0-{}", recipe.model.image.release),
        architecture: "amd64".to_owned(),
        size: 1,
        sha256: Sha256::of(name.as_bytes()),
        origin: recipe.model.image.release.clone(),
        file: format!("pool/{}.deb", Sha256::of(name.as_bytes()).short()),
        automatic: false,
        beside: false,
    };
    lock.pass = requested(recipe).pass;
    for pass in &mut lock.pass {
        pass.packages = pass.install.iter().map(pin).collect();
        pass.kernel_releases.extend((pass.name == "tools-driver").then(|| "6.1.0-30-amd64".to_owned()));
    }
    lock
}

/// Outputs that are a function of the keys, as if each action gave something else whenever its key is another.
#[derive(Default)]
struct Supposed(BTreeMap<String, Digest>);

impl Known for Supposed {
    fn output(&self, action: &str, output: &str) -> Option<String> {
        self.0.get(action).map(|key| Digest::of(format!("{key} {output}").as_bytes()).to_string())
    }
}

/// Key and own inputs of each action; what comes from other actions is named without its value.
pub type Keys = BTreeMap<String, (Digest, Vec<(String, String)>)>;

/// The keys of a recipe, with all forms.
pub fn keys_of(recipe: &Recipe, lock: &Lock) -> Keys {
    let stages = graph_of(recipe, lock, &Digest::of(b"init"), Forms::AndGzip).unwrap();
    let mut known = Supposed::default();
    let mut keys = Keys::new();
    for action in stages.graph.in_order() {
        let (key, trace) = key_and_trace(action, &known);
        let key = key.expect("the actions above are known");
        known.0.insert(action.id.clone(), key);
        let is_above = |name: &str| name.starts_with("layer ") || name.starts_with("value ");
        let own = trace
            .into_iter()
            .map(|(name, value)| if is_above(&name) { (name, String::new()) } else { (name, value) })
            .collect();
        keys.insert(action.id.clone(), (key, own));
    }
    keys
}

/// Actions whose keys differ, and where their inputs part.
pub fn difference(one: &Keys, other: &Keys) -> Vec<String> {
    let mut found: Vec<String> = one.keys().filter(|id| !other.contains_key(*id)).map(|id| format!("-{id}")).collect();
    for (id, (key, own)) in other {
        match one.get(id) {
            None => found.push(format!("+{id}")),
            Some((before, _)) if before == key => {}
            Some((_, was)) => {
                let at = was.iter().zip(own).find(|(was, now)| was != now);
                found.push(format!("{id}: {at:?}"));
            }
        }
    }
    found
}

pub fn write_toml(space: &Space, document: &Value) {
    space.write("image.toml", &toml::to_string(document).unwrap());
}
