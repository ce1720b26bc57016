//! Every field of the model has two values here, and a line in the table that says which keys move between them.

use std::collections::BTreeSet;
use std::fmt::Write;

use build::{LockState, lock_state};
use recipe::{load, recipe_schema};
use serde_json::{Value, json};

use super::{keys_of, lock_of, recipe_document, write_files, write_toml};
use crate::support::Space;

/// Two values of a field; `*` stands for the one item or name that the fixture has. Values that start with `@` are of the
/// table around it: for keys that exclude one another.
struct Field {
    path: &'static str,
    values: (&'static str, &'static str),
    /// What the recipe says besides, for the field to mean something.
    with: &'static str,
}

const fn field(path: &'static str, one: &'static str, other: &'static str) -> Field {
    Field { path, values: (one, other), with: "{}" }
}

const fn with(path: &'static str, one: &'static str, other: &'static str, with: &'static str) -> Field {
    Field { path, values: (one, other), with }
}

const ALSO: &str = r#"{"pack": {"also": [{"archive": "squashfs"}]}}"#;
const CACHE: &str = r#"{"pack": {"archive": "squashfs"}, "boot": {"cache": {"device": "LABEL=a"}}}"#;
const DRACUT: &str = r#"{"initrd": {"generator": "dracut"}}"#;
/// A recipe for RPM packages: without what only Debian's has.
const RPM: &str = r#"{"image": {"distro": "rocky", "release": "9"}, "otherpkgs": null, "kernel": {"package": "kernel", "build": null},
    "repo": [{"uri": "https://one.example/os", "signed-by": "keys/site.gpg"}]}"#;
const KDUMP: &str = r#"{"kdump": {"to": "nfs://10.0.0.5/dumps"}}"#;
const DUMP_DISK: &str = r#"{"kdump": {"to": "LABEL=crash:/dumps"}}"#;
const DUMP_SSH: &str =
    r#"{"kdump": {"to": "ssh://dump@10.0.0.5/dumps", "ssh_key": "dump.key", "known_hosts": "hosts"}}"#;
const ROLE: &str = r#"{"role": [{"ansible": "play/site.yml"}]}"#;
const NODE_SUPPORT: &str = r#"{"xcat": {"node_support": true, "postscripts": "post"}}"#;
const NODE: &str = r#"{"node": {}}"#;

const STATELITE: &str = r#"{"statelite": {"files": {"/var/log/": "tmpfs"}}}"#;
const STATE: &str = r#"{"statelite": {"files": {"/var/log/": "persistent"}, "state": "10.0.0.5:/state"}}"#;
const VARIABLES: &str = r#"{"statelite": {"files": {"/var/log/": "tmpfs"}, "trees": ["$noderes.nfsserver:/trees"]}}"#;
const LOCAL_DISK: &str = r#"{"statelite": {"files": {"/var/log/": "localdisk"}, "local_disk": "LABEL=local"}}"#;

/// The fields in the order of the model.
const FIELDS: &[Field] = &[
    field("image.name", r#""node""#, r#""other""#),
    with("image.distro", r#""rocky""#, r#""alma""#, RPM),
    field("image.release", r#""bookworm""#, r#""trixie""#),
    field("image.from", r#""oci:one.test/base:1""#, r#""oci:two.test/base:1""#),
    field(
        "repo.source",
        r#"@[{"uri": "https://one.example/debian", "suites": ["bookworm"], "components": ["main"]}]"#,
        r#"@[{"source": "host"}]"#,
    ),
    field("repo.uri", r#""https://one.example/debian""#, r#""https://two.example/debian""#),
    with("repo.id", r#""a""#, r#""b""#, RPM),
    with(
        "repo.mirrorlist",
        r#"@[{"mirrorlist": "https://one.example/a", "check-packages": false}]"#,
        r#"@[{"mirrorlist": "https://one.example/b", "check-packages": false}]"#,
        RPM,
    ),
    with(
        "repo.metalink",
        r#"@[{"metalink": "https://one.example/a", "check-packages": false}]"#,
        r#"@[{"metalink": "https://one.example/b", "check-packages": false}]"#,
        RPM,
    ),
    with(
        "repo.file",
        r#"@[{"uri": "https://one.example/os", "check-packages": false}]"#,
        r#"@[{"file": "site.repo"}]"#,
        RPM,
    ),
    with("repo.priority", "1", "2", RPM),
    with("repo.exclude", "[]", r#"["vim"]"#, RPM),
    with("repo.include", "[]", r#"["vim"]"#, RPM),
    with("repo.module-hotfixes", "true", "false", RPM),
    with("repo.check-packages", "true", "false", RPM),
    with("repo.check-index", "true", "false", RPM),
    with("repo.weak-signatures", "true", "false", RPM),
    field("image.secrets", r#""noted""#, r#""allowed""#),
    field("image.keep", "[]", r#"["/etc/site/token"]"#),
    field("repo.suites", r#"["bookworm"]"#, r#"["bookworm-updates"]"#),
    field("repo.components", r#"["main"]"#, r#"["contrib"]"#),
    field("repo.signed-by", "null", r#""keys/site.gpg""#),
    field("repo.trusted", "false", "true"),
    field("repo.check-valid-until", "true", "false"),
    with("repo_variables", r#"{"site": "a"}"#, r#"{"site": "b"}"#, RPM),
    field("packages.base", r#""minbase""#, r#""essential""#),
    field("packages.lists", r#"["a.pkglist"]"#, r#"["a.pkglist", "b.pkglist"]"#),
    field("packages.install", r#"["chrony"]"#, r#"["chrony", "vim"]"#),
    with("packages.failing_scripts", "[]", r#"["chrony"]"#, RPM),
    field("otherpkgs.dir", r#""other""#, r#""other2""#),
    field("otherpkgs.lists", "[]", r#"["b.pkglist"]"#),
    field("otherpkgs.install", r#"["site-thing"]"#, r#"["site-thing", "more"]"#),
    field("kernel.package", r#""linux-image-amd64""#, r#""linux-image-cloud-amd64""#),
    field("kernel.dir", "null", r#""kernels""#),
    field("kernel.version", "null", r#""6.1.0-31-amd64""#),
    field("kernel.drivers", "[]", r#"["+ice"]"#),
    field("kernel.updates", "[]", r#"["update.ko"]"#),
    field("kernel.build.source", r#""driver""#, r#""driver2""#),
    field("kernel.build.make", "[]", r#"["modules"]"#),
    field("kernel.build.tools", "[]", r#"["bc"]"#),
    field("kernel.firmware_packages", "[]", r#"["firmware-misc-nonfree"]"#),
    field("kernel.firmware", r#""warn""#, r#""require""#),
    field("initrd.generator", r#""imgbuild""#, r#""dracut""#),
    field("initrd.compress", r#""zstd""#, r#""gzip""#),
    field("initrd.modules_from", r#""kernel""#, r#""rootfs""#),
    field("initrd.ca", r#"["keys/ca.pem"]"#, r#"["keys/other.pem"]"#),
    with("initrd.dracut_modules", "[]", r#"["lvm"]"#, DRACUT),
    with("initrd.dracut_conf", r#"["site.conf"]"#, r#"["site2.conf"]"#, DRACUT),
    with("initrd.dracut_packages", "[]", r#"["lvm2"]"#, DRACUT),
    field("system.timezone", "null", r#""Europe/Berlin""#),
    field("system.locale", "null", r#""C.UTF-8""#),
    field("system.hostname", r#""dhcp""#, r#""node1""#),
    field("system.authorized_keys", r#"["k.pub"]"#, r#"["k2.pub"]"#),
    field("system.root_password_hash_file", r#""hash""#, r#""hash2""#),
    field("system.selinux", r#""auto""#, r#""off""#),
    field("system.fstab", "[]", r#"["server:/home /home nfs defaults 0 0"]"#),
    field("system.exports", "[]", r#"["/export *(ro)"]"#),
    field("users.*.uid", "104", "105"),
    field("users.*.gid", "104", "105"),
    field("users.*.home", "null", r#""/var/lib/munge""#),
    field("users.*.shell", "null", r#""/bin/sh""#),
    field("groups", r#"{"slurm": 300}"#, r#"{"slurm": 301}"#),
    with("role.ansible", r#""play/site.yml""#, r#""other-play/site.yml""#, ROLE),
    with("role.groups", "[]", r#"["web"]"#, ROLE),
    with("role.vars", "{}", r#"{"port": 80}"#, ROLE),
    with("role.vars_files", "[]", r#"["play/vars.yml"]"#, ROLE),
    with("role.inputs", "[]", r#"["site/motd"]"#, ROLE),
    with("role.tools", "[]", r#"["python3-netaddr"]"#, ROLE),
    field("postinstall.script", r#""a.postinstall""#, r#""b.postinstall""#),
    field("postinstall.scripts", "[]", r#"["b.postinstall"]"#),
    field("postinstall.arguments", "[]", r#"["x"]"#),
    field("postinstall.inputs", r#"["site/motd"]"#, r#"["site/issue"]"#),
    field("postinstall.tools", "[]", r#"["less"]"#),
    field("postinstall.packages", "null", r#""locked""#),
    field("services.enable", r#"["munge"]"#, r#"["slurmd"]"#),
    field("services.disable", "[]", r#"["ssh"]"#),
    field("services.mask", "[]", r#"["ssh"]"#),
    field("sync.lists", r#"["a.synclist"]"#, r#"["b.synclist"]"#),
    field("sync.owner", "{}", r#"{"/etc/motd": "0400"}"#),
    field("exclude.lists", r#"["a.exlist"]"#, r#"["b.exlist"]"#),
    field("pack.archive", r#""cpio""#, r#""squashfs""#),
    field("pack.profile", r#""balanced""#, r#""small""#),
    with("pack.block_size", "null", "65536", r#"{"pack": {"archive": "squashfs"}}"#),
    with("pack.also.archive", r#""squashfs""#, r#""tar""#, ALSO),
    with("pack.also.compress", r#""zstd""#, r#""gzip""#, ALSO),
    with("pack.also.block_size", "null", "65536", ALSO),
    with("pack.also.level", "3", "4", ALSO),
    field("pack.compress", r#""zstd""#, r#""gzip""#),
    field("pack.frames", r#""many""#, r#""single""#),
    field("pack.level", "3", "4"),
    field("boot.cmdline", r#"["console=ttyS0"]"#, r#"["quiet"]"#),
    field("boot.tmpfs", r#"{"/tmp": "50m"}"#, r#"{"/tmp": "60m"}"#),
    field("boot.root_size", "null", r#""80%""#),
    with("boot.root", r#""memory""#, r#""lazy""#, r#"{"pack": {"archive": "squashfs"}}"#),
    with("boot.cache.device", r#""LABEL=a""#, r#""LABEL=b""#, CACHE),
    with("boot.cache.filesystem", r#""ext4""#, r#""xfs""#, CACHE),
    with("boot.cache.image", r#""memory""#, r#""cache""#, CACHE),
    with("boot.cache.writes", r#""memory""#, r#""cache""#, CACHE),
    with("kdump.to", r#""nfs://10.0.0.5/dumps""#, r#""nfs://10.0.0.6/dumps""#, KDUMP),
    with("kdump.reserve", r#""256M""#, r#""512M""#, KDUMP),
    with("kdump.options", "null", r#""nfsvers=3""#, KDUMP),
    with("kdump.filesystem", r#""ext4""#, r#""xfs""#, DUMP_DISK),
    with("kdump.ssh_key", r#""dump.key""#, r#""dump2.key""#, DUMP_SSH),
    with("kdump.known_hosts", r#""hosts""#, r#""hosts2""#, DUMP_SSH),
    with("kdump.level", "31", "1", KDUMP),
    with("kdump.compress", r#""lzo""#, r#""zstd""#, KDUMP),
    with("kdump.cmdline", "[]", r#"["irqpoll"]"#, KDUMP),
    with("kdump.afterwards", r#""reboot""#, r#""poweroff""#, KDUMP),
    with("statelite.files", r#"{"/var/log/": "tmpfs"}"#, r#"{"/var/log/": "link"}"#, STATELITE),
    with("statelite.trees", "[]", r#"["10.0.0.5:/trees"]"#, STATELITE),
    with("statelite.state", r#""10.0.0.5:/state""#, r#""10.0.0.6:/state""#, STATE),
    with("statelite.state_options", "null", r#""nfsvers=3""#, STATE),
    with("statelite.local_disk", r#""LABEL=local""#, r#""LABEL=other""#, LOCAL_DISK),
    with("statelite.filesystem", r#""ext4""#, r#""xfs""#, LOCAL_DISK),
    with("statelite.root", "null", r#""10.0.0.1:/install/compute""#, STATELITE),
    with(
        "statelite.variables",
        r#"{"noderes.nfsserver": "10.0.0.5"}"#,
        r#"{"noderes.nfsserver": "10.0.0.6"}"#,
        VARIABLES,
    ),
    with("statelite.litefile", "[]", r#"["own.litefile"]"#, STATELITE),
    with("statelite.litetree", "[]", r#"["own.litetree"]"#, STATELITE),
    with("statelite.statelite", "[]", r#"["own.statelite"]"#, STATELITE),
    with("statelite.groups", "null", r#""one""#, STATELITE),
    with("node.postscripts", r#"["a.postinstall"]"#, r#"["a.postinstall x"]"#, NODE),
    with(
        "node.postbootscripts",
        r#"["a.postinstall", "b.postinstall"]"#,
        r#"["b.postinstall", "a.postinstall"]"#,
        NODE,
    ),
    with("node.timeout", "600", "60", NODE),
    with("node.on_failure", r#""report""#, r#""fail""#, NODE),
    field("environment", r#"{"SITE": "a"}"#, r#"{"SITE": "b"}"#),
    field("capture.packages", "null", r#""node.packages""#),
    field("publish.to", "[]", r#"["tree:/srv/www/node"]"#),
    field("publish.sbom", "false", "true"),
    field("workspace.allow", "[]", r#"["/nothing"]"#),
    field("xcat.path_map", "{}", r#"{"/opt/xcat": "vendor"}"#),
    field("xcat.osvers", "null", r#""debian12""#),
    field("xcat.profile", "null", r#""compute""#),
    with("xcat.node_support", "false", "true", NODE_SUPPORT),
    with("xcat.postscripts", r#""post""#, r#""post2""#, NODE_SUPPORT),
    with("xcat.osimage", r#""one""#, r#""two""#, NODE_SUPPORT),
];

/// Fields with one value, which no edit can change; the schema must say so.
const ONE_VALUE: &[&str] = &["image.arch", "initrd.modes"];

/// Paths of all leaves of the model's schema: `table.key`, `table.*.key` in tables with names of the user's.
fn leaves() -> BTreeSet<String> {
    fn resolve<'a>(root: &'a Value, mut node: &'a Value) -> &'a Value {
        while let Some(next) = match (&node["$ref"], &node["anyOf"]) {
            (Value::String(name), _) => root.pointer(name.trim_start_matches('#')),
            (_, Value::Array(options)) => options.iter().find(|option| option["type"] != "null"),
            _ => None,
        } {
            node = next;
        }
        node
    }
    fn walk(root: &Value, node: &Value, path: &str, found: &mut BTreeSet<String>) {
        let node = resolve(root, node);
        let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        let (items, more) = (resolve(root, &node["items"]), resolve(root, &node["additionalProperties"]));
        if let Some(properties) = node["properties"].as_object() {
            properties.iter().for_each(|(key, value)| walk(root, value, &join(key), found));
        } else if items["properties"].is_object() {
            walk(root, items, path, found);
        } else if more["properties"].is_object() {
            walk(root, more, &join("*"), found);
        } else {
            let choices = [node, items].iter().find_map(|node| node["oneOf"].as_array()).map(Vec::len);
            let is_one = ONE_VALUE.contains(&path);
            // `image.arch` has three; which of them can be planned depends on what imgbuild was built with: tests/it/e2e/arm.rs.
            let choices = if path == "image.arch" { Some(1) } else { choices };
            // The same holds for what only images for arm64 can have: tests/it/e2e/foreign.rs.
            if path == "kernel.device_trees" {
                return;
            }
            assert_eq!(choices == Some(1) && path != "repo.source" && path != "postinstall.packages", is_one, "{path}");
            if !is_one {
                found.insert(path.to_owned());
            }
        }
    }
    let root = recipe_schema();
    let mut found = BTreeSet::new();
    walk(&root, &root, "", &mut found);
    found
}

/// Puts a value at a path; `null` takes the key away.
fn put(document: &mut Value, path: &str, value: Value) {
    let (table, key) = path.rsplit_once('.').unwrap_or(("", path));
    let mut place = document;
    for step in table.split('.').filter(|step| !step.is_empty()) {
        place = if step == "*" {
            place.as_object_mut().unwrap().values_mut().next().unwrap()
        } else {
            if !place[step].is_object() && !place[step].is_array() {
                place[step] = json!({});
            }
            &mut place[step]
        };
        if place.is_array() {
            place = &mut place[0];
        }
    }
    if value.is_null() {
        place.as_object_mut().unwrap().remove(key);
    } else {
        place[key] = value;
    }
}

fn merge(document: &mut Value, more: &Value) {
    for (key, value) in more.as_object().unwrap() {
        if value.is_null() {
            document.as_object_mut().unwrap().remove(key);
        } else if value.is_object() && document[key].is_object() {
            merge(&mut document[key], value);
        } else {
            document[key] = value.clone();
        }
    }
}

#[test]
fn every_field_moves_the_keys_that_it_means_and_no_others() {
    let listed: BTreeSet<String> = FIELDS.iter().map(|field| field.path.to_owned()).collect();
    let difference: Vec<String> = listed.symmetric_difference(&leaves()).cloned().collect();
    assert_eq!(
        difference,
        Vec::<String>::new(),
        "each field of the schema has two values here, and each entry a field"
    );
    let space = Space::new();
    write_files(&space);
    let mut table = String::new();
    let mut bad = Vec::new();
    for field in FIELDS {
        let mut side = |value: &str| {
            let mut document = recipe_document();
            merge(&mut document, &serde_json::from_str(field.with).unwrap());
            match value.strip_prefix('@') {
                Some(around) => {
                    let table = field.path.rsplit_once('.').unwrap().0;
                    put(&mut document, table, serde_json::from_str(around).unwrap());
                }
                None => put(&mut document, field.path, serde_json::from_str(value).unwrap()),
            }
            write_toml(&space, &document);
            let loaded = load(space.path());
            let Some(recipe) = loaded.recipe else {
                bad.push(format!("{} = {value}: {}", field.path, loaded.findings[0].message));
                return None;
            };
            let lock = lock_of(&recipe);
            let state = lock_state(&recipe, Some(&lock));
            if state != LockState::Fresh {
                bad.push(format!("{} = {value}: {state:?}", field.path));
            }
            let keys = keys_of(&recipe, &lock);
            Some((recipe, lock, keys))
        };
        let (Some(one), Some(other)) = (side(field.values.0), side(field.values.1)) else { continue };
        assert_ne!(one.0.model, other.0.model, "{} has one value twice", field.path);
        let mut moved = Vec::new();
        if lock_state(&other.0, Some(&one.1)) != LockState::Fresh {
            moved.push("lock".to_owned());
        }
        moved.extend(one.2.keys().filter(|id| !other.2.contains_key(*id)).map(|id| format!("-{id}")));
        for (id, (_, own)) in &other.2 {
            match one.2.get(id) {
                None => moved.push(format!("+{id}")),
                Some((_, before)) if before != own => moved.push(id.clone()),
                Some(_) => {}
            }
        }
        // What depends on what moved moves too, and nothing else.
        let keys_moved = one.2.keys().ne(other.2.keys()) || one.2.iter().any(|(id, (key, _))| other.2[id].0 != *key);
        assert_eq!(keys_moved, moved.iter().any(|id| id != "lock"), "{}", field.path);
        let _ = writeln!(
            table,
            "{}: {}",
            field.path,
            if moved.is_empty() { "nothing".to_owned() } else { moved.join(" ") }
        );
    }
    assert_eq!(bad, Vec::<String>::new());
    // `lock`: image.lock is out of date with the recipe. Where packages are found (`repo`, `path_map`) counts when they are
    // resolved, and what came of that is in the lock; the name, the command line and the root's size are in build.json.
    insta::assert_snapshot!(table, @r##"
    image.name: rootfs/postinstall
    image.distro: lock kernel/payload rootfs/base rootfs/kernel rootfs/packages-1 rootfs/postinstall rootfs/tools rootfs/tools-postinstall
    image.release: lock kernel/build-1 kernel/payload rootfs/base rootfs/kernel rootfs/otherpkgs-1 rootfs/packages-1 rootfs/postinstall rootfs/tools rootfs/tools-driver rootfs/tools-postinstall
    image.from: lock
    repo.source: lock
    repo.uri: nothing
    repo.id: lock
    repo.mirrorlist: nothing
    repo.metalink: nothing
    repo.file: lock
    repo.priority: lock
    repo.exclude: lock
    repo.include: lock
    repo.module-hotfixes: lock
    repo.check-packages: lock
    repo.check-index: lock
    repo.weak-signatures: lock
    image.secrets: nothing
    image.keep: rootfs/postinstall
    repo.suites: lock
    repo.components: lock
    repo.signed-by: lock
    repo.trusted: lock
    repo.check-valid-until: nothing
    repo_variables: nothing
    packages.base: lock rootfs/packages-1
    packages.lists: lock rootfs/packages-1 rootfs/postinstall
    packages.install: lock rootfs/packages-1
    packages.failing_scripts: rootfs/kernel rootfs/packages-1
    otherpkgs.dir: lock rootfs/postinstall
    otherpkgs.lists: lock rootfs/otherpkgs-1 rootfs/postinstall
    otherpkgs.install: lock rootfs/otherpkgs-1
    kernel.package: lock kernel/payload rootfs/kernel
    kernel.dir: lock
    kernel.version: kernel/payload
    kernel.drivers: initrd/stateless initrd/stateless-gzip
    kernel.updates: kernel/payload
    kernel.build.source: kernel/build-1
    kernel.build.make: kernel/build-1
    kernel.build.tools: lock kernel/build-1 rootfs/tools-driver
    kernel.firmware_packages: lock kernel/payload rootfs/kernel
    kernel.firmware: initrd/stateless initrd/stateless-gzip
    initrd.generator: lock initrd/stateless initrd/stateless-gzip +rootfs/tools-dracut
    initrd.compress: -initrd/stateless-gzip initrd/stateless
    initrd.modules_from: initrd/stateless initrd/stateless-gzip rootfs/gate rootfs/sync
    initrd.ca: initrd/stateless initrd/stateless-gzip
    initrd.dracut_modules: initrd/stateless initrd/stateless-gzip
    initrd.dracut_conf: initrd/stateless initrd/stateless-gzip
    initrd.dracut_packages: lock initrd/stateless initrd/stateless-gzip rootfs/tools-dracut
    system.timezone: rootfs/system
    system.locale: rootfs/system
    system.hostname: rootfs/system
    system.authorized_keys: rootfs/system
    system.root_password_hash_file: rootfs/system
    system.selinux: pack/rootimg pack/rootimg-gzip
    system.fstab: rootfs/gate rootfs/system
    system.exports: rootfs/gate rootfs/system
    users.*.uid: rootfs/packages-1
    users.*.gid: rootfs/packages-1
    users.*.home: rootfs/packages-1
    users.*.shell: rootfs/packages-1
    groups: rootfs/packages-1
    role.ansible: rootfs/role-site
    role.groups: rootfs/role-site
    role.vars: rootfs/role-site
    role.vars_files: rootfs/role-site
    role.inputs: rootfs/role-site
    role.tools: lock rootfs/role-site rootfs/tools-roles
    postinstall.script: rootfs/postinstall
    postinstall.scripts: rootfs/postinstall
    postinstall.arguments: rootfs/postinstall
    postinstall.inputs: rootfs/postinstall
    postinstall.tools: lock rootfs/postinstall rootfs/tools-postinstall
    postinstall.packages: rootfs/postinstall
    services.enable: rootfs/services
    services.disable: rootfs/services
    services.mask: rootfs/services
    sync.lists: rootfs/sync
    sync.owner: rootfs/sync
    exclude.lists: pack/rootimg pack/rootimg-gzip
    pack.archive: -pack/rootimg-gzip initrd/stateless initrd/stateless-gzip pack/rootimg
    pack.profile: pack/rootimg pack/rootimg-gzip
    pack.block_size: pack/rootimg
    pack.also.archive: -pack/rootimg-sfs initrd/stateless initrd/stateless-gzip +pack/rootimg-gzip +pack/rootimg-tar.zst
    pack.also.compress: pack/rootimg-sfs
    pack.also.block_size: pack/rootimg-sfs
    pack.also.level: pack/rootimg-sfs
    pack.compress: -pack/rootimg-gzip pack/rootimg
    pack.frames: pack/rootimg pack/rootimg-gzip
    pack.level: pack/rootimg
    boot.cmdline: nothing
    boot.tmpfs: rootfs/gate rootfs/system
    boot.root_size: nothing
    boot.root: initrd/stateless initrd/stateless-gzip
    boot.cache.device: nothing
    boot.cache.filesystem: initrd/stateless initrd/stateless-gzip
    boot.cache.image: nothing
    boot.cache.writes: nothing
    kdump.to: initrd/kdump
    kdump.reserve: initrd/kdump
    kdump.options: initrd/kdump
    kdump.filesystem: initrd/kdump
    kdump.ssh_key: initrd/kdump
    kdump.known_hosts: initrd/kdump
    kdump.level: initrd/kdump
    kdump.compress: initrd/kdump
    kdump.cmdline: initrd/kdump
    kdump.afterwards: initrd/kdump
    statelite.files: pack/statelite
    statelite.trees: pack/statelite
    statelite.state: pack/statelite
    statelite.state_options: pack/statelite
    statelite.local_disk: pack/statelite
    statelite.filesystem: initrd/statelite
    statelite.root: nothing
    statelite.variables: pack/statelite
    statelite.litefile: pack/statelite
    statelite.litetree: pack/statelite
    statelite.statelite: pack/statelite
    statelite.groups: nothing
    node.postscripts: rootfs/postscripts
    node.postbootscripts: rootfs/postscripts
    node.timeout: rootfs/postscripts
    node.on_failure: rootfs/postscripts
    environment: rootfs/postinstall
    capture.packages: nothing
    publish.to: nothing
    publish.sbom: nothing
    workspace.allow: nothing
    xcat.path_map: nothing
    xcat.osvers: rootfs/postinstall
    xcat.profile: rootfs/postinstall
    xcat.node_support: pack/rootimg pack/rootimg-gzip rootfs/sync +rootfs/xcat
    xcat.postscripts: rootfs/xcat
    xcat.osimage: rootfs/xcat
    "##);
}
