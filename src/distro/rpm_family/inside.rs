//! What runs inside the namespace: rpm's transactions.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::kernels::is_kernel;
use super::{database, depmod};
use crate::digest::Digest;
use crate::distro::inside::accounts;
use crate::distro::inside::common::{
    Made, PackageFile, call_packages, environment, normalise, quoted, quoted_words, write,
};
use crate::distro::inside::keystore;
use crate::distro::inside::uname::Uname;
use crate::distro::rpm::Package;
use crate::fault;
use crate::recipe::Accounts;
use crate::sandbox::helper::News;
use crate::sandbox::{Bind, CommandRequest, CommandResult, STAND_IN_DIRECTORY, TreeMount, run_command, upper_is_whole};
use crate::source::counted_as;
use crate::store::scan;
use crate::store::{
    Kind, ScanRequest, TreeEditor, in_scratch, lower_directories, make_directories, manifest_of, merged_of, root_of,
};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RpmPackage {
    pub file: PackageFile,
    /// What the database must say of it: name, version, architecture.
    pub line: String,
}

/// Asks rpm of a tools root for a transaction on an image's layers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InstallRequest {
    /// Scratch directory, relative to the store's.
    pub scratch: String,
    pub tools: Vec<Digest>,
    /// Layers of the image so far; none: the image begins here.
    pub base: Vec<Digest>,
    pub packages: Vec<RpmPackage>,
    /// Names of packages to remove before.
    pub remove: Vec<String>,
    pub remove_after: Vec<String>,
    /// Names of installed packages that conflict with these, and go.
    pub conflicting: Vec<String>,
    /// Users and groups that are made first.
    pub accounts: Accounts,
    pub uname: Uname,
    /// Whether the layer below has the kernel's files already.
    pub over_payload: bool,
    /// Files that are written first, by path.
    pub files: Vec<(String, String)>,
    pub variables: Vec<(String, String)>,
    /// No time is later than this.
    pub epoch: i64,
    /// Log file, relative to the store's directory.
    pub log: String,
}

/// Programs that would make an initrd in the image, or reach for a running system; replaced in the sandbox only (D19).
const STAND_INS: [&str; 6] = ["dracut", "kernel-install", "grubby", "new-kernel-pkg", "installkernel", "mkinitrd"];

/// Files of the package manager that differ from run to run; removed from each layer, beside those that
/// `distro/inside.rs` lists. One reason a line.
pub const NORMALISED: [&str; 16] = [
    "boot/initramfs-*",               // a build host's initrd, if a script made one all the same (D19)
    "boot/initrd-*",                  // the same on SUSE
    "var/log/dnf*",                   // times of the build
    "var/log/zypp/*",                 // times of the build
    "var/cache/dnf/*",                // the solver's cache
    "var/cache/yum/*",                // the solver's cache
    "var/cache/zypp/*",               // the solver's cache
    "var/lib/rpm/__db.*",             // Berkeley DB's environment, with addresses of the process
    "var/lib/rpm/.dbenv.lock",        // its lock
    "var/lib/rpm/.rpm.lock",          // rpm's lock
    "var/lib/rpm/rpmdb.sqlite-shm",   // SQLite's index of its journal, rebuilt when it is missing
    "usr/lib/sysimage/rpm/__db.*",    // the same where the database is there
    "usr/lib/sysimage/rpm/.rpm.lock", // the same
    "usr/lib/sysimage/rpm/rpmdb.sqlite-shm", // the same
    "etc/pki/ca-trust/extracted/java/cacerts.tmp", // a file that update-ca-trust may leave
    "run/imgbuild",                   // ours
];

/// A package of the database: name, version, architecture. Source: rpm's query formats.
pub const DATABASE_LINE: &str = "%{NAME} %|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE} %{ARCH}";

/// Where the script leaves a line for all that is installed.
const INSTALLED: &str = "installed";

pub fn install(request: InstallRequest, progress: News<'_>) -> Result<Made, String> {
    in_scratch(&request.scratch, || {
        let at = |name: &str| format!("{}/{name}", request.scratch);
        make_directories(&request.scratch, &["mount", "tree", "work", "root", "root-work", "settings"])?;
        accounts::make(&at("tree"), &request.base, &request.accounts)?;
        let editor = TreeEditor::open(&at("tree"))?;
        request.uname.prepare(&editor)?;
        for (path, text) in &request.files {
            editor.write(path, text.as_bytes(), 0o644)?;
        }
        write(&at("settings/run"), &script(&request))?;
        write(&at(&format!("settings/{}", depmod::FILE)), depmod::STAND_IN)?;
        if request.over_payload {
            write_indexed(&request, &at(&format!("settings/{}", depmod::INDEXED)))?;
        }
        let packages = call_packages(&request.scratch, request.packages.iter().map(|one| &one.file))?;
        progress(&format!("installing {}", counted_as(request.packages.len(), "package", "packages")));
        let tree = |digests: &[Digest], upper: &str, work: &str| -> Result<TreeMount, String> {
            Ok(TreeMount {
                lower: lower_directories(digests)?,
                upper: at(upper),
                work: at(work),
                root: root_of(digests)?,
            })
        };
        let mut variables = environment(request.epoch);
        variables.extend(request.variables.iter().cloned());
        let command = |arguments: [&str; 3], log: String| -> Result<CommandResult, String> {
            run_command(&CommandRequest {
                root: tree(&request.tools, "root", "root-work")?,
                target: Some(tree(&request.base, "tree", "work")?),
                binds: vec![
                    Bind { source: at("settings"), target: "/imgbuild".to_owned(), writable: true },
                    Bind { source: packages.clone(), target: "/packages".to_owned(), writable: false },
                ],
                stand_ins: STAND_INS
                    .map(|name| (name.to_owned(), "#!/bin/sh\nexit 0\n".to_owned()))
                    .into_iter()
                    .chain([request.uname.stand_in()])
                    .collect(),
                kernel: Some(request.uname.reported_release().to_owned()),
                arguments: arguments.map(str::to_owned).to_vec(),
                environment: variables.clone(),
                log,
                mount_point: at("mount"),
                ..CommandRequest::default()
            })
        };
        let result = command(["/bin/sh", "-e", "/imgbuild/run"], request.log.clone())?;
        fault::point("install.done");
        if request.uname.was_asked(&editor)? {
            return Ok(Made::AsksRelease);
        }
        if result.status != 0 {
            return Ok(Made::Failed(result));
        }
        let installed = std::fs::read_to_string(at(&format!("settings/{INSTALLED}"))).unwrap_or_default();
        let lacking = lacking(&request, &installed);
        if !lacking.is_empty() {
            return Ok(Made::Lacking(lacking));
        }
        let editor = TreeEditor::open(&at("tree"))?;
        if database::settle_times(&editor, request.epoch)? {
            // One of its indices is by these times: rpm makes them again.
            let log = format!("{}.rebuild", request.log);
            let result = command(["/bin/sh", "-c", &format!("{} --rebuilddb", rpm())], log.clone())?;
            if result.status != 0 {
                let _ = std::fs::rename(&log, &request.log);
                return Ok(Made::Failed(result));
            }
            let _ = std::fs::remove_file(&log);
        }
        keystore::settle(&editor, request.epoch)?;
        if request.over_payload {
            settle_directories(&request.base, &editor)?;
        }
        normalise(&at("tree"), &NORMALISED)?;
        database::settle_files(&editor)?;
        let found = accounts::found(&at("tree"), &request.base, &scripts_that_make_accounts(&request))?;
        let answer = scan(&ScanRequest {
            tree: at("tree"),
            base: request.base.clone(),
            epoch: request.epoch,
            whole: upper_is_whole(),
        })?;
        Ok(Made::Layer(answer, found))
    })
}

/// Writes which modules the layer below has an index of, in a file for each release.
fn write_indexed(request: &InstallRequest, directory: &str) -> Result<(), String> {
    let Some(payload) = request.base.last() else { return Ok(()) };
    let below = manifest_of(payload)?;
    let mut brought = Vec::new();
    for RpmPackage { file, .. } in &request.packages {
        brought.extend(Package::paths(Path::new(&file.file))?);
    }
    let all = depmod::indexed(below.0.keys().map(String::as_str), brought.iter().map(String::as_str));
    make_directories(directory, &[""])?;
    all.iter().try_for_each(|(release, modules)| write(&format!("{directory}/{release}"), modules))
}

/// The kernel's files were unpacked for themselves, with directories of mode 755: those that were there before keep theirs
/// (EL's `/`, `/boot` and `/usr/lib` have 555).
fn settle_directories(base: &[Digest], editor: &TreeEditor) -> Result<(), String> {
    let Some((payload, before)) = base.split_last() else { return Ok(()) };
    let before = merged_of(before)?;
    for (path, brought) in manifest_of(payload)?.0 {
        let Some(was) = before.0.get(&path).map(|found| &found.entry) else { continue };
        let (old, new) = [was, &brought].map(|entry| (entry.mode, entry.uid, entry.gid)).into();
        if was.kind == Kind::Directory && brought.kind == Kind::Directory && old != new {
            editor.settle_directory(&path, brought.mode, old)?;
        }
    }
    Ok(())
}

fn lacking(request: &InstallRequest, installed: &str) -> Vec<String> {
    let known: BTreeSet<String> = installed.lines().map(|line| line.replacen(" 0:", " ", 1)).collect();
    let wanted = request.packages.iter().filter(|one| !request.remove_after.contains(&one.file.name));
    wanted.map(|one| &one.line).filter(|line| !known.contains(*line)).cloned().collect()
}

/// Texts of the packages' scripts that may make users and groups.
fn scripts_that_make_accounts(request: &InstallRequest) -> Vec<(String, String)> {
    let mut scripts = Vec::new();
    for RpmPackage { file: PackageFile { file, name, .. }, .. } in &request.packages {
        for text in Package::script_texts(Path::new(file)).unwrap_or_default() {
            if accounts::MAKERS.iter().any(|tool| text.contains(tool)) {
                scripts.push((name.clone(), text));
            }
        }
    }
    scripts
}

/// rpm with the options that it always gets. What stands in for programs comes first in the search path of scripts; rpm's own
/// plug-ins talk to the running system. Source: rpm's macros file.
fn rpm() -> String {
    let path = format!("{STAND_IN_DIRECTORY}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    format!(
        "rpm --root /target --define {} --define {} --define {} --define {}",
        quoted(&format!("_install_script_path {path}")),
        quoted("__plugindir /nonexistent"),
        quoted("_flush_io 0"),
        // Mounted while it works: a package that owns them cannot change them.
        quoted("_netsharedpath /proc:/sys"),
    )
}

/// rpm makes accounts by itself since 4.19, unless the distribution switched that off, by a program outside of what it installs into; tools roots run no scripts, so that it may
/// have the name that its package gives it. Source: rpm, docs/manual/users_and_groups.md; Fedora, systemd.spec.
const ACCOUNTS: &str = "accounts=\n\
    if test -n \"$(rpm --eval '%{?__systemd_sysusers}' 2>/dev/null)\"; then\n\
    for one in /usr/bin/systemd-sysusers /usr/bin/systemd-sysusers.standalone; do\n\
    test ! -x $one || { accounts=$one; break; }\ndone\nfi\n";

/// Options of all transactions: the files were checked when their payloads were stored, which is what rpm's digest of the payload is not of.
const OPTIONS: &str = "--oldpackage --replacepkgs --nosignature --nodigest --ignoresize";

/// What rpm finds unsatisfied in its database.
const UNSATISFIED: &str = "-Va --nofiles --noscripts --nosignature --nodigest";

/// Installs over packages that some of these conflict with. rpm's command has no transaction that installs and removes, so dependencies
/// are not asked: of files only those may be overwritten that belong to what goes.
fn exchange(rpm: &str, conflicting: &[String], install: &str) -> String {
    let names = quoted_words(conflicting);
    format!(
        "nodeps=\nif ! {rpm} $mode --test {install} >/imgbuild/tested 2>&1; then\n\
         before=$({rpm} {UNSATISFIED} 2>&1 || :)\n\
         going=\" $({rpm} -q --qf '%{{NAME}}-%{{VERSION}}-%{{RELEASE}}.%{{ARCH}} %{{NEVRA}} ' {names} 2>/dev/null || :)\"\n\
         {rpm} $mode --test --nodeps {install} >/imgbuild/tested 2>&1 || :\n\
         while read -r line; do case $line in\n\
         *' conflicts with file from package '*) case $going in *\" ${{line##* }} \"*) ;; *) echo \"$line\"; nodeps=no;; esac;;\n\
         *' conflicts between attempted installs '*) echo \"$line\"; nodeps=no;;\n\
         esac; done </imgbuild/tested\n\
         test -z \"$nodeps\" || exit 1\n\
         nodeps=--nodeps\n\
         {rpm} $mode $nodeps --replacefiles {install}\n\
         else\n{rpm} $mode {install}\nfi\n"
    )
}

/// Fails where an exchange left a requirement behind that was satisfied before.
fn verify(rpm: &str) -> String {
    format!(
        "if test -n \"$nodeps\"; then\n{rpm} {UNSATISFIED} >/imgbuild/verified 2>&1 || :\n\
         while read -r line; do case $before in *\"$line\"*) ;; *) echo \"error: $line\"; nodeps=;; esac; done </imgbuild/verified\n\
         test -n \"$nodeps\" || exit 1\nfi\n"
    )
}

fn script(request: &InstallRequest) -> String {
    let rpm = format!("{} ${{accounts:+--define \"__systemd_sysusers $accounts\"}}", rpm());
    let mut script = format!("set -e\n{ACCOUNTS}");
    // Removing what is not there is no error.
    let present = |names: &[String], more: &str| {
        let all: Vec<String> = names.iter().map(|name| quoted(name)).collect();
        format!(
            "gone=\nfor name in {}; do {rpm} -q \"$name\" >/dev/null 2>&1 && gone=\"$gone $name\"; done\ntest -z \"$gone\" || {rpm} -e --allmatches {more}$gone\n",
            all.join(" ")
        )
    };
    if !request.remove.is_empty() {
        script.push_str(&present(&request.remove, ""));
    }
    if !request.packages.is_empty() {
        let files: Vec<String> =
            request.packages.iter().map(|one| quoted(&format!("/packages/{}", one.file.called))).collect();
        // Kernels stand beside each other, as dnf and zypper have it; an upgrade would take the older one away.
        let (kernels, others): (Vec<&str>, Vec<&str>) =
            request.packages.iter().map(|one| one.file.name.as_str()).partition(|name| is_kernel(name));
        let any = |names: &[&str], mode: &str| match names {
            [] => String::new(),
            _ => {
                let words: Vec<String> = names.iter().map(|name| quoted(name)).collect();
                format!("for name in {}; do case $there in *\" $name \"*) mode={mode};; esac; done\n", words.join(" "))
            }
        };
        if !kernels.is_empty() {
            script.push_str(&depmod::before());
        }
        script.push_str(&format!("mode=-Uv\nthere=\" $({rpm} -qa --qf '%{{NAME}} ' || :)\"\n"));
        script.push_str(&any(&kernels, "-iv"));
        script.push_str(&any(&others, "-Uv"));
        let install = format!("{OPTIONS} {}", files.join(" "));
        if request.conflicting.is_empty() {
            script.push_str(&format!("{rpm} $mode {install}\n"));
        } else {
            script.push_str(&exchange(&rpm, &request.conflicting, &install));
            script.push_str(&present(&request.conflicting, "$nodeps "));
            script.push_str(&verify(&rpm));
        }
        if !kernels.is_empty() {
            script.push_str(&depmod::after());
        }
    }
    if !request.remove_after.is_empty() {
        script.push_str(&present(&request.remove_after, ""));
    }
    script.push_str(&format!("{rpm} -qa --qf '{DATABASE_LINE}\\n' >/imgbuild/{INSTALLED}\n"));
    script
}
