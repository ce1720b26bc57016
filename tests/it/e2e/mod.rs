//! Real images from a real mirror, booted in QEMU.

mod apt_words;
mod arm;
mod audit;
mod bills;
mod boot_failures;
mod bucket;
mod build_failures;
mod cache;
mod callers;
mod capture;
mod centos;
mod changed_inputs;
mod ci;
mod clones;
pub mod closure;
mod compute;
mod container_base;
mod container_base_rpm;
mod damage;
mod dhcp;
mod dracut;
mod drift;
mod drivers;
mod edit_table;
mod edits;
mod elsewhere;
mod emitted;
mod escapes;
mod examples;
mod faults;
mod first_node;
mod foreign;
mod foreign_trees;
mod formats;
mod forms;
mod history;
mod kdump;
mod killed_verbs;
mod kills;
mod lazy;
mod leases;
mod limits;
mod links;
mod lock;
mod machine;
mod media;
mod memo;
mod mini;
mod mirror;
mod movein;
mod namespaced;
mod net;
mod netboot;
mod network_services;
mod no_room;
mod nodes_page;
mod oci;
mod offline;
mod older;
mod on;
mod on_killed;
mod options;
mod otherpkgs;
mod owned_node;
mod package_failures;
mod packages;
mod parts;
mod pictures;
mod power;
mod ppc64;
mod private_archive;
mod progress;
mod proxies;
mod publish_kinds;
mod publish_servers;
mod publishing;
mod random_trees;
mod releases;
mod remote_caches;
mod replaced;
mod repositories;
mod roles;
mod roll;
mod rpm_distro;
mod rpm_dnf5;
mod rpm_drivers;
mod rpm_files;
mod rpm_host;
mod rpm_kernels;
mod rpm_node;
mod rpm_promises;
mod rpm_refusals;
mod rpm_sources;
mod rpm_words;
mod rpm_zypper;
mod same_bytes;
mod saved;
mod scripts;
mod secrets;
mod secure_boot;
mod security;
mod selinux;
mod servers;
mod service;
mod service_nodes;
mod serving;
mod several;
pub mod shared;
mod shared_cache;
mod slurm;
mod soft_reboot;
mod startable;
mod statelite;
mod store_care;
mod sync;
mod sync_memory;
mod sync_parts;
mod tracer;
mod ubuntu;
mod walk;
mod xcat_node_support;
mod xcat_publish;
mod xcat_site;

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::support::{Space, copy_locked, copy_tree, project};

/// Whether there is a program of initrds for another CPU, which `tests/run` compiles where a group needs it.
fn has_init(machine: &str) -> bool {
    let variable = format!("IMGBUILD_INIT_{}", machine.to_uppercase());
    let is_there = std::env::var_os(&variable).is_some_and(|file| std::path::Path::new(&file).exists());
    if !is_there {
        crate::support::skip(&format!(
            "{variable} names no program of initrds: tests/run compiles it for groups that need it"
        ));
    }
    is_there
}

/// Whether a mirror lacks parts of an old release, by what a build said: mirrors drop them piece by piece.
fn is_dropped(release: &str, ran: &crate::support::Ran) -> bool {
    let is_dropped = ["distro::no_suite", "distro::absent"].iter().any(|code| ran.err.contains(code));
    if is_dropped {
        crate::support::skip(&format!("the mirror no longer has {release}: {}", ran.err));
    }
    is_dropped
}

/// The store that these tests share; empty in a fresh clone.
pub fn store() -> PathBuf {
    let directory = std::env::var_os("CARGO_TARGET_TMPDIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    directory.join("e2e-store")
}

/// A copy of an example with a key that the test has; built once for all tests of a run.
pub struct Built {
    pub space: Space,
    /// File with the private key.
    pub key: PathBuf,
}

/// Makes a key, puts its public half where the recipe looks for it, and builds.
fn build(space: &Space) {
    let key = space.path().join("admin");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .status()
        .expect("ssh-keygen is there");
    assert!(made.success());
    std::fs::copy(space.path().join("admin.pub"), space.path().join("keys/admin.pub")).unwrap();
    space.run(&["build", "--progress", "plain"]).good();
}

/// The same in a space of a test's own.
fn built(space: Space) -> Built {
    let space = space.with_store(&store());
    build(&space);
    let key = space.path().join("admin");
    Built { space, key }
}

fn example(name: &str, space: &Space) {
    copy_tree(&project().join("examples").join(name), space.path());
}

pub fn mini() -> &'static Built {
    static MINI: OnceLock<Built> = OnceLock::new();
    MINI.get_or_init(|| {
        shared::built("mini", |space| {
            example("mini", space);
            build(space);
        })
    })
}

pub fn compute() -> &'static Built {
    static COMPUTE: OnceLock<Built> = OnceLock::new();
    COMPUTE.get_or_init(|| {
        shared::built("compute", |space| {
            example("compute", space);
            build(space);
        })
    })
}

/// `examples/service`, its packages made by its own script, built.
pub fn service() -> &'static Built {
    static SERVICE: OnceLock<Built> = OnceLock::new();
    SERVICE.get_or_init(|| {
        shared::built("service", |space| {
            example("service", space);
            let made = std::process::Command::new(space.path().join("make-packages")).output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            build(space);
        })
    })
}

/// Essential packages and a shell script as init: the smallest root that shows that it came up.
pub fn tiny() -> &'static Built {
    static TINY: OnceLock<Built> = OnceLock::new();
    TINY.get_or_init(|| {
        shared::built("tiny", |space| {
            copy_tree(&project().join("tests/fixtures/tiny"), space.path());
            std::fs::create_dir_all(space.path().join("keys")).unwrap();
            build(space);
        })
    })
}

/// A copy of the tiny image, with its lock.
pub fn locked_copy() -> Space {
    let space = Space::new().with_store(&store());
    copy_locked(tiny().space.path(), space.path());
    space
}

/// The same, built.
pub fn built_copy() -> Space {
    let space = locked_copy();
    space.run(&["build", "--locked"]).good();
    space
}
