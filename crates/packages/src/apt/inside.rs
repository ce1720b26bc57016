//! What runs inside the namespace: installing packages into an image's tree, and asking apt.

use serde::{Deserialize, Serialize};

use crate::inside::accounts::{self, text_in};
use crate::inside::common::{Made, PackageFile, call_packages, normalise, quoted, stand_ins, tree_of, write};
use crate::inside::keystore;
use crate::inside::uname::Uname;
use base::digest::Digest;
use base::source::counted_as;
use recipe::Accounts;
use sandbox::helper::News;
use sandbox::{Bind, CommandRequest, STAND_IN_DIRECTORY, run_command, upper_is_whole};
use store::scan;
use store::{ScanRequest, TreeEditor, in_scratch, lower_directories, make_directories};

/// Environment of apt, dpkg and their scripts.
pub(super) fn environment(epoch: i64) -> Vec<(String, String)> {
    let mut all = crate::inside::common::environment(epoch);
    for (name, value) in [("DEBIAN_FRONTEND", "noninteractive"), ("DEBCONF_NONINTERACTIVE_SEEN", "true")] {
        all.push((name.to_owned(), value.to_owned()));
    }
    all
}

/// Texts of installed packages' scripts that may make users and groups.
pub(super) fn scripts_that_make_accounts(tree: &str) -> Result<Vec<(String, String)>, String> {
    let editor = TreeEditor::open(tree)?;
    let mut scripts = Vec::new();
    for file in editor.names("var/lib/dpkg/info") {
        let Some((package, kind)) = file.rsplit_once('.') else { continue };
        if matches!(kind, "postinst" | "preinst")
            && let Some(text) = accounts::text_in(&editor, &format!("var/lib/dpkg/info/{file}"))
            && accounts::MAKERS.iter().any(|tool| text.contains(tool))
        {
            scripts.push((package.split(':').next().unwrap_or(package).to_owned(), text));
        }
    }
    Ok(scripts)
}

/// Files of the package manager that differ from run to run; removed from each layer, beside those that
/// `distro/inside.rs` lists. One reason a line.
pub(super) const NORMALISED: [&str; 10] = [
    "usr/sbin/policy-rc.d",         // ours: forbids service starts while packages are installed
    "debs",                         // ours: the mount point of the package files
    "var/log/apt/*",                // times of the build
    "var/cache/apt/*.bin",          // a cache that apt makes again
    "var/cache/apt/archives/*.deb", // the packages themselves
    "var/cache/apt/archives/lock",  // apt's lock
    "var/lib/apt/lists/lock",       // apt's lock
    "var/lib/dpkg/*-old",           // backups of the status file
    "var/cache/debconf/*-old",      // backups of the answers
    "var/lib/apt/daily_lock",       // a lock that apt leaves
];

/// Runs no service while packages are installed. Source: Debian's invoke-rc.d(8), policy-rc.d interface.
pub(super) const POLICY: &[u8] = b"#!/bin/sh\nexit 101\n";

/// Asks to run the package manager of a tools root on an image's layers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct InstallRequest {
    /// Scratch directory, relative to the store's.
    pub scratch: String,
    pub tools: Vec<Digest>,
    pub base: Vec<Digest>,
    pub packages: Vec<PackageFile>,
    pub remove: Vec<String>,
    pub remove_after: Vec<String>,
    /// Debian's name of the image's architecture, where apt's own is another one.
    pub architecture: Option<String>,
    /// `name:architecture` of those that are to be marked as installed automatically.
    pub automatic: Vec<(String, String)>,
    pub accounts: Accounts,
    pub uname: Uname,
    /// Patterns of files that dpkg leaves out.
    pub left_out: Vec<String>,
    /// Environment that the list asks for (`#ENV:`).
    pub variables: Vec<(String, String)>,
    /// No time is later than this.
    pub epoch: i64,
    /// Log file, relative to the store's directory.
    pub log: String,
}

/// apt's settings for a target below /target; paths as apt in the tools root sees them.
///
/// All packages are in the directory of archives under apt's names, so apt takes them for downloaded and checked; otherwise
/// it computes four digests of each, one package after another, and compares them with nothing. imgbuild checked them when
/// it took them out of the store. Source: apt, pkgAcqArchive::QueueNext.
///
/// Packages are given to dpkg one by one: an older apt (2.2 does) links more than five of them into a directory of its own
/// root, where the dpkg that runs in the target does not find it. Source: apt, pkgDPkgPM::Go.
const APT_CONFIGURATION: &str = r#"
Dir "/target";
Dir::State::Status "/target/var/lib/dpkg/status";
Dir::State::Lists "/imgbuild/lists";
Dir::State::Extended_States "/imgbuild/extended_states";
Dir::Cache "/imgbuild/cache";
Dir::Cache::Archives "/target/run/imgbuild/archives/";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Etc "/imgbuild/etc";
Dir::Log "/imgbuild/log";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
APT::Get::AllowUnauthenticated "true";
APT::Keep-Downloaded-Packages "true";
Acquire::Languages "none";
DPkg::Chroot-Directory "/target";
DPkg::Use-Pty "false";
DPkg::Path "";
DPkg::Install::Recursive::Minimum "1000000";
Dpkg::Options {"--force-unsafe-io";"--force-confdef";"--force-confold";"--log=/dev/null";};
"#;

pub(super) fn install(request: InstallRequest, progress: News<'_>) -> Result<Made, String> {
    in_scratch(&request.scratch, || {
        let at = |name: &str| format!("{}/{name}", request.scratch);
        make_directories(
            &request.scratch,
            &[
                "mount",
                "tree/usr/sbin",
                "work",
                "root",
                "root-work",
                "apt/lists/partial",
                "apt/cache",
                "apt/archives/partial",
                "apt/log",
                "apt/etc/preferences.d",
                "apt/etc/apt.conf.d",
                "apt/etc/sources.list.d",
            ],
        )?;
        let packages = call_packages(&request.scratch, &request.packages)?;
        for PackageFile { called: name, .. } in &request.packages {
            std::os::unix::fs::symlink(format!("../debs/{name}"), at(&format!("apt/archives/{name}")))
                .map_err(|error| format!("a link to {name}: {error}"))?;
        }
        let editor = TreeEditor::open(&at("tree"))?;
        editor.write("usr/sbin/policy-rc.d", POLICY, 0o755)?;
        request.uname.prepare(&editor)?;
        accounts::make(&at("tree"), &request.base, &request.accounts)?;
        // Scripts ask for the machine's full name (postfix); a base of essential packages cannot answer.
        let base = lower_directories(&request.base)?;
        let lacks_hosts = base.iter().all(|lower| !std::path::Path::new(lower).join("etc/hosts").exists());
        if lacks_hosts {
            editor.write("etc/hosts", HOSTS, 0o644)?;
        }
        let left_out = request.left_out.iter().map(|pattern| format!("\"--path-exclude={pattern}\";"));
        let options = format!("{APT_CONFIGURATION}Dpkg::Options {{{}}};\n", left_out.collect::<String>());
        let cpu = request
            .architecture
            .iter()
            .map(|name| format!("APT::Architecture \"{name}\";\nAPT::Architectures \"{name}\";\n"));
        write(&at("apt/apt.conf"), &format!("{options}{}", cpu.collect::<String>()))?;
        write(&at("apt/etc/sources.list"), "")?;
        write(&at("apt/extended_states"), "")?;
        write(&at("apt/run"), &install_script(&request))?;
        progress(&format!("installing {}", counted_as(request.packages.len(), "package", "packages")));
        let mut variables = environment(request.epoch);
        if let Some((_, path)) = variables.iter_mut().find(|(name, _)| name == "PATH") {
            path.insert_str(0, &format!("{STAND_IN_DIRECTORY}:"));
        }
        // Hooks of kernels make no initrd then, under whatever name (kdump-tools). Source: initramfs-tools, /etc/kernel/postinst.d.
        variables.push(("INITRD".to_owned(), "No".to_owned()));
        variables.extend(request.variables.iter().cloned());
        variables.push(("APT_CONFIG".to_owned(), "/imgbuild/apt.conf".to_owned()));
        let result = run_command(&CommandRequest {
            root: tree_of(&request.scratch, &request.tools, "root", "root-work")?,
            target: Some(tree_of(&request.scratch, &request.base, "tree", "work")?),
            binds: vec![
                Bind { source: at("apt"), target: "/imgbuild".to_owned(), writable: true },
                Bind { source: packages, target: "/debs".to_owned(), writable: false },
            ],
            target_binds: [("/debs", "/run/imgbuild/debs"), ("/imgbuild/archives", "/run/imgbuild/archives")]
                .map(|(from, to)| (from.to_owned(), to.to_owned()))
                .to_vec(),
            stand_ins: stand_ins(&request.uname),
            kernel: Some(request.uname.reported_release().to_owned()),
            arguments: ["/bin/sh", "/imgbuild/run"].map(str::to_owned).to_vec(),
            environment: variables,
            log: request.log.clone(),
            mount_point: at("mount"),
            ..CommandRequest::default()
        })?;
        fault::point("install.done");
        if request.uname.was_asked(&editor)? {
            return Ok(Made::AsksRelease);
        }
        if result.status != 0 {
            return Ok(Made::Failed(result));
        }
        if lacks_hosts && text_in(&editor, "etc/hosts").is_some_and(|text| text.as_bytes() == HOSTS) {
            editor.remove("etc/hosts")?;
        }
        keystore::settle(&editor, request.epoch)?;
        normalise(&at("tree"), &NORMALISED)?;
        let accounts = accounts::found(&at("tree"), &request.base, &scripts_that_make_accounts(&at("tree"))?)?;
        let answer = scan(&ScanRequest {
            tree: at("tree"),
            base: request.base.clone(),
            epoch: request.epoch,
            whole: upper_is_whole(),
        })?;
        Ok(Made::Layer(answer, accounts))
    })
}

/// What programs find as /etc/hosts while packages are installed, where the image has none.
const HOSTS: &[u8] = b"127.0.0.1\tlocalhost.localdomain localhost imgbuild\n";

/// Prints the installed packages that a name or pattern matches, each with a suffix; no package name has a character
/// that a shell knows.
const PRESENT: &str = r#"present() {
dpkg-query --admindir=/target/var/lib/dpkg -W -f '${Package} ${db:Status-Status}\n' "$1" 2>/dev/null |
while read -r name state; do test "$state" != installed || echo "$name$2"; done
}
"#;

fn install_script(request: &InstallRequest) -> String {
    let mut script = String::from("set -e\n");
    let mut words: Vec<String> =
        request.packages.iter().map(|one| quoted(&format!("/target/run/imgbuild/debs/{}", one.called))).collect();
    script.push_str(PRESENT);
    // Removing what is not there is no error.
    let removals: Vec<String> = request.remove.iter().map(|name| format!("$(present {} -)", quoted(name))).collect();
    if !words.is_empty() || !removals.is_empty() {
        words.extend(removals);
        // A package of a version that is there has other content.
        let options = "-y --allow-downgrades --allow-remove-essential --reinstall";
        script.push_str(&format!("apt-get install {options} {}\n", words.join(" ")));
    }
    if !request.remove_after.is_empty() {
        let names: Vec<String> =
            request.remove_after.iter().map(|name| format!("$(present {} '')", quoted(name))).collect();
        script.push_str(&format!("apt-get remove -y {}\n", names.join(" ")));
    }
    script.push_str("audit=$(chroot /target dpkg --audit)\ntest -z \"$audit\" || { echo \"$audit\"; exit 1; }\n");
    if !request.automatic.is_empty() {
        script.push_str("if test -d /target/var/lib/apt; then\n");
        for (name, architecture) in &request.automatic {
            let stanza = format!("Package: {name}\nArchitecture: {architecture}\nAuto-Installed: 1\n\n");
            script.push_str(&format!("printf %s {} >>/target/var/lib/apt/extended_states\n", quoted(&stanza)));
        }
        script.push_str("fi\n");
    }
    script
}
