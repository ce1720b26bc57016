//! Builds imgbuild-init, the program of the initrd, statically to be embedded (D21): for the same target, and for further CPUs of
//! images. `IMGBUILD_CPUS` names them, as in `aarch64,ppc64le`; a program that is not for tests has all whose Rust target and C
//! compiler are there, if it is not set (`imgbuild-init/cross` installs them).

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let own = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let manifest = own.ancestors().nth(2).expect("this crate lies in crates/").to_owned();
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let target = std::env::var("TARGET").expect("cargo sets TARGET");
    for path in ["imgbuild-init/src", "imgbuild-init/Cargo.toml", "crates/node-words", "crates/fault", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={}", manifest.join(path).display());
    }
    if std::env::var_os("CARGO_FEATURE_E2E").is_some() {
        // The same with faults that tests plant: what else it is made of is compiled once, and itself without optimisation.
        let quick = "profile.init.package.imgbuild-init.opt-level=0";
        let built = build_init(&manifest, &out, &target, None, &["--features", "e2e", "--config", quick]);
        std::fs::copy(&built, out.join("imgbuild-init-planted")).expect("the program of the initrd can be copied");
    }
    let built = build_init(&manifest, &out, &target, None, &[]);
    std::fs::copy(&built, out.join("imgbuild-init")).expect("the program of the initrd can be copied");
    let machine = std::env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    println!("cargo:rerun-if-env-changed=IMGBUILD_CPUS");
    let named = std::env::var("IMGBUILD_CPUS").ok();
    for name in named.iter().flat_map(|names| names.split(',')) {
        let known = name.is_empty() || CPUS.iter().any(|cpu| cpu.machine == name);
        assert!(
            known,
            "IMGBUILD_CPUS: `{name}` is not a CPU of images; it takes aarch64, ppc64le and x86_64, with commas between them"
        );
    }
    for cpu in CPUS {
        let variable = format!("IMGBUILD_INIT_{}", cpu.machine.to_uppercase());
        println!("cargo:rerun-if-env-changed={variable}");
        let program = match std::env::var_os(&variable) {
            // That is the first.
            _ if cpu.rust_name() == machine => None,
            Some(file) => Some(PathBuf::from(file)),
            None if cpu.is_wanted(named.as_deref()) => Some(build_init(&manifest, &out, cpu.target, Some(cpu), &[])),
            None => None,
        };
        println!("cargo:rustc-check-cfg=cfg(init_{})", cpu.machine);
        if program.is_some() {
            println!("cargo:rustc-cfg=init_{}", cpu.machine);
        }
        let bytes = program.map(|file| std::fs::read(&file).expect("the program of the initrd can be read"));
        let place = out.join(format!("imgbuild-init-{}", cpu.machine));
        std::fs::write(place, bytes.unwrap_or_default()).expect("the program of the initrd can be copied");
    }
}

/// A CPU of images.
struct Cpu {
    /// As `uname -m` prints it.
    machine: &'static str,
    /// Rust's name of the target.
    target: &'static str,
    /// The C compiler, as Debian's cross compilers are called.
    compiler: &'static str,
}

const CPUS: [&Cpu; 3] = [
    &Cpu { machine: "x86_64", target: "x86_64-unknown-linux-gnu", compiler: "x86_64-linux-gnu-gcc" },
    &Cpu { machine: "aarch64", target: "aarch64-unknown-linux-gnu", compiler: "aarch64-linux-gnu-gcc" },
    &Cpu { machine: "ppc64le", target: "powerpc64le-unknown-linux-gnu", compiler: "powerpc64le-linux-gnu-gcc" },
];

impl Cpu {
    /// Rust's name of the CPU.
    fn rust_name(&self) -> &str {
        if self.machine == "ppc64le" { "powerpc64" } else { self.machine }
    }

    /// Whether it is one of `IMGBUILD_CPUS`. Where that is not set: tests need none, and other programs have what can be built.
    fn is_wanted(&self, named: Option<&str>) -> bool {
        let Some(named) = named else {
            return std::env::var("PROFILE").is_ok_and(|profile| profile != "debug") && self.can_be_built();
        };
        let is = named.split(',').any(|name| name == self.machine);
        let machine = self.machine;
        assert!(
            !is || self.can_be_built(),
            "IMGBUILD_CPUS: Rust's target or the C compiler for {machine} is missing; run imgbuild-init/cross {machine}"
        );
        is
    }

    /// Whether the target's library and the compiler with a C library are there.
    fn can_be_built(&self) -> bool {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let library = Command::new(rustc).args(["--print", "target-libdir", "--target", self.target]).output();
        let has_library = library
            .is_ok_and(|out| out.status.success() && Path::new(String::from_utf8_lossy(&out.stdout).trim()).is_dir());
        let libc = Command::new(self.compiler).arg("-print-file-name=libc.a").output();
        has_library && libc.is_ok_and(|out| Path::new(String::from_utf8_lossy(&out.stdout).trim()).is_absolute())
    }
}

/// Runs cargo on the inner package, in a target directory of its own so that the two do not wait for each other.
fn build_init(manifest: &Path, out: &Path, target: &str, other: Option<&Cpu>, features: &[&str]) -> PathBuf {
    let directory = out.join(other.map_or("init-target".to_owned(), |cpu| format!("init-target-{}", cpu.machine)));
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(manifest)
        .args(["build", "--profile", "init", "--package", "imgbuild-init", "--target", target, "--locked"])
        .args(features)
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
    if let Some(cpu) = other {
        let linker = format!("CARGO_TARGET_{}_LINKER", cpu.target.to_uppercase().replace('-', "_"));
        command.env(linker, cpu.compiler);
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
    // People and tests wait for the compiler, but not for the release: what that puts into initrds is as small as can be. Cargo names
    // no profile but `debug` and `release` to build scripts; the directory has its name.
    if !out.iter().any(|part| part == "dist") {
        command.env("CARGO_PROFILE_INIT_LTO", "off").env("CARGO_PROFILE_INIT_CODEGEN_UNITS", "16");
    }
    let status = command.status().expect("cargo can be run");
    assert!(status.success(), "imgbuild-init cannot be built; a static C library is needed (Debian: libc6-dev)");
    directory.join(target).join("init/imgbuild-init")
}
