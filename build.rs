//! Builds imgbuild-init, the program of the initrd, statically for the same target, to be embedded (D21).

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let manifest = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let target = std::env::var("TARGET").expect("cargo sets TARGET");
    for path in ["imgbuild-init/src", "imgbuild-init/Cargo.toml", "src/name.rs", "src/statelite", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={}", manifest.join(path).display());
    }
    // Real lists as parser input lie beside the checkout; in CI their absence is a failure, elsewhere the test is absent.
    println!("cargo:rustc-check-cfg=cfg(corpus)");
    println!("cargo:rerun-if-env-changed=CI");
    if std::env::var_os("CI").is_some() || manifest.join("../shared/corpus/xcat").is_dir() {
        println!("cargo:rustc-cfg=corpus");
    }
    let built = build_init(&manifest, &out, &target);
    std::fs::copy(&built, out.join("imgbuild-init")).expect("the program of the initrd can be copied");
}

/// Runs cargo on the inner package, in a target directory of its own so that the two do not wait for each other.
fn build_init(manifest: &Path, out: &Path, target: &str) -> PathBuf {
    let directory = out.join("init-target");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(manifest)
        .args(["build", "--profile", "init", "--package", "imgbuild-init", "--target", target, "--locked"])
        .arg("--target-dir")
        .arg(&directory);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let of_outer_build = name.starts_with("CARGO_")
            && !["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_HTTP_CAINFO"].contains(&name.as_str());
        if of_outer_build
            || [
                "RUSTFLAGS",
                "RUSTC_WRAPPER",
                "RUSTC_WORKSPACE_WRAPPER",
                "TARGET",
                "HOST",
                "OUT_DIR",
                "NUM_JOBS",
                "OPT_LEVEL",
                "DEBUG",
                "PROFILE",
            ]
            .contains(&name.as_str())
        {
            command.env_remove(&name);
        }
    }
    // Static, and without paths of this machine: the program is part of initrds that must be the same everywhere.
    let home = std::env::var("CARGO_HOME")
        .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")))
        .unwrap_or_default();
    let flags = [
        "-Ctarget-feature=+crt-static".to_owned(),
        format!("--remap-path-prefix={home}=/cargo"),
        format!("--remap-path-prefix={}=/imgbuild", manifest.display()),
        format!("--remap-path-prefix={}=/out", out.display()),
    ];
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    // Tests wait for the compiler, and the release for nobody: what it puts into initrds is as small as can be.
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "debug") {
        command.env("CARGO_PROFILE_INIT_LTO", "off").env("CARGO_PROFILE_INIT_CODEGEN_UNITS", "16");
    }
    let status = command.status().expect("cargo can be run");
    assert!(status.success(), "imgbuild-init cannot be built; a static C library is needed (Debian: libc6-dev)");
    directory.join(target).join("init/imgbuild-init")
}
