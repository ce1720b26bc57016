//! What runs inside the namespace: rpm's transactions.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::kernels::is_kernel;
use super::{blame, database, depmod};
use crate::inside::accounts;
use crate::inside::common::{
    Made, PackageFile, call_packages, environment, normalise, quoted, quoted_words, stand_ins, tree_of, write,
};
use crate::inside::keystore;
use crate::inside::uname::Uname;
use crate::rpm::Package;
use base::digest::Digest;
use base::source::counted_as;
use recipe::Accounts;
use sandbox::helper::News;
use sandbox::{Bind, CommandRequest, CommandResult, STAND_IN_DIRECTORY, run_command, upper_is_whole};
use store::scan;
use store::{Kind, ScanRequest, TreeEditor, in_scratch, make_directories, manifest_of, merged_of};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RpmPackage {
    pub file: PackageFile,
    /// What the database must say of it: name, version, architecture.
    pub line: String,
    /// The same as rpm is asked for it: without an epoch.
    pub nvra: String,
    /// Whether other versions of it stay.
    pub beside: bool,
}

/// Asks rpm of a tools root for a transaction on an image's layers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct InstallRequest {
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
    /// What the database must list afterwards, where the lock tells.
    pub installed: Option<Vec<String>>,
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

/// Files of the package manager that differ from run to run; removed from each layer, beside those that
/// `distro/inside.rs` lists. One reason a line.
pub(super) const NORMALISED: [&str; 16] = [
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
pub(super) const DATABASE_LINE: &str = "%{NAME} %|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE} %{ARCH}";

/// Where the script leaves a line for all that is installed.
const INSTALLED: &str = "installed";

pub(super) fn install(request: InstallRequest, progress: News<'_>) -> Result<Made, String> {
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
        let mut variables = environment(request.epoch);
        variables.extend(request.variables.iter().cloned());
        let command = |arguments: [&str; 3], log: String| -> Result<CommandResult, String> {
            run_command(&CommandRequest {
                root: tree_of(&request.scratch, &request.tools, "root", "root-work")?,
                target: Some(tree_of(&request.scratch, &request.base, "tree", "work")?),
                binds: vec![
                    Bind { source: at("settings"), target: "/imgbuild".to_owned(), writable: true },
                    Bind { source: packages.clone(), target: "/packages".to_owned(), writable: false },
                ],
                stand_ins: stand_ins(&request.uname),
                kernel: Some(request.uname.reported_release().to_owned()),
                arguments: arguments.map(str::to_owned).to_vec(),
                environment: variables.clone(),
                log,
                log_keeps: blame::LOOKED_FOR.map(str::to_owned).to_vec(),
                mount_point: at("mount"),
                ..CommandRequest::default()
            })
        };
        let result = command(["/bin/sh", "-e", "/imgbuild/run"], request.log.clone())?;
        fault::point("install.done");
        if request.uname.was_asked(&editor)? {
            return Ok(Made::AsksRelease);
        }
        let installed = std::fs::read_to_string(at(&format!("settings/{INSTALLED}"))).ok();
        // rpm 6 fails where scripts did after which earlier ones go on: whether they may is judged by the log, for both.
        let is_done = result.status == 0 || (installed.is_some() && blame::blames(Path::new(&request.log)));
        let Some(installed) = installed.filter(|_| is_done) else {
            return Ok(Made::Failed(result));
        };
        if let Some(otherwise) = otherwise(&request, &installed) {
            return Ok(otherwise);
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

/// Compares what is installed with the lock, in both directions; where the lock does not tell, with the transaction.
fn otherwise(request: &InstallRequest, installed: &str) -> Option<Made> {
    // Keys of repositories, which a container image may have, are no packages.
    let lines = installed.lines().filter(|line| !line.starts_with("gpg-pubkey "));
    let mut found: BTreeSet<String> = lines.map(|line| line.replacen(" 0:", " ", 1)).collect();
    let wanted: BTreeSet<String> = match &request.installed {
        Some(all) => all.iter().filter(|line| !line.starts_with("gpg-pubkey ")).cloned().collect(),
        None => {
            let stays = request.packages.iter().filter(|one| !request.remove_after.contains(&one.file.name));
            stays.map(|one| one.line.clone()).collect()
        }
    };
    if request.installed.is_none() {
        found.retain(|line| wanted.contains(line));
    }
    if fault::planted("rpm-database-not-compared") {
        return None;
    }
    let only = |one: &BTreeSet<String>, other: &BTreeSet<String>| one.difference(other).cloned().collect::<Vec<_>>();
    (found != wanted).then(|| Made::Otherwise { lacks: only(&wanted, &found), has: only(&found, &wanted) })
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

/// Installs over packages that some of these conflict with, or some that replace others together with some that stand beside them. rpm's
/// command has no transaction that does both, so dependencies are not asked: of files only those may be overwritten that belong to what
/// goes.
fn exchange(rpm: &str, conflicting: &[String]) -> String {
    let names = quoted_words(conflicting);
    format!(
        "nodeps=\nif ! put --test >/imgbuild/tested 2>&1; then\n\
         before=$({rpm} {UNSATISFIED} 2>&1 || :)\n\
         going=\" $({rpm} -q --qf '%{{NAME}}-%{{VERSION}}-%{{RELEASE}}.%{{ARCH}} %{{NEVRA}} ' {names} 2>/dev/null || :)\"\n\
         put --test --nodeps >/imgbuild/tested 2>&1 || :\n\
         while read -r line; do case $line in\n\
         *' conflicts with file from package '*) case $going in *\" ${{line##* }} \"*) ;; *) echo \"$line\"; nodeps=no;; esac;;\n\
         *' conflicts between attempted installs '*) echo \"$line\"; nodeps=no;;\n\
         esac; done </imgbuild/tested\n\
         test -z \"$nodeps\" || exit 1\n\
         nodeps=--nodeps\n\
         put $nodeps --replacefiles || judge $?\n\
         else\nput || judge $?\nfi\n"
    )
}

/// Shell functions that install: `put` with more options, and `judge`, which goes on after a failure that can only be one of scripts,
/// because all is there. Since version 6 rpm fails then, where it only said so before.
fn installing(rpm: &str, packages: &[RpmPackage]) -> String {
    let files = |packages: &[&RpmPackage]| -> String {
        packages.iter().map(|one| format!(" {}", quoted(&format!("/packages/{}", one.file.called)))).collect()
    };
    let stands_beside = |one: &&RpmPackage| one.beside && !fault::planted("rpm-beside-is-upgraded");
    let (beside, others): (Vec<&RpmPackage>, Vec<&RpmPackage>) = packages.iter().partition(stands_beside);
    let run = |mode: &str, packages: &[&RpmPackage]| match packages {
        [] => String::new(),
        _ => format!("{rpm} {mode} {OPTIONS} \"$@\"{} || code=$?\n", files(packages)),
    };
    let names: Vec<String> = beside.iter().map(|one| one.file.name.clone()).collect();
    let is_twice = names.len() > names.iter().collect::<BTreeSet<_>>().len();
    // An upgrade takes away other versions of what stands beside them, and of two that come at once the older one.
    let stays = match is_twice {
        true => "stays=yes\n".to_owned(),
        false if names.is_empty() => "stays=\n".to_owned(),
        false => format!(
            "there=\" $({rpm} -qa --qf '%{{NAME}} ' || :)\"\nstays=\n\
             for name in {}; do case $there in *\" $name \"*) stays=yes;; esac; done\n",
            quoted_words(&names)
        ),
    };
    let all: Vec<&RpmPackage> = packages.iter().collect();
    let put = match names.is_empty() {
        true => run("-Uv", &all),
        false => format!(
            "if test -n \"$stays\"; then\n{}{}else\n{}fi\n",
            run("-Uv", &others),
            run("-iv", &beside),
            run("-Uv", &all)
        ),
    };
    let nvras: Vec<String> = packages.iter().map(|one| one.nvra.clone()).collect();
    format!(
        "{stays}put() {{\ncode=0\n{put}return $code\n}}\n\
         judge() {{\nfailed=$1\n{rpm} -q {} >/dev/null 2>&1 || exit $failed\n}}\n",
        quoted_words(&nvras)
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
    let mut script = format!("set -e\n{ACCOUNTS}failed=0\n");
    // Removing what is not there is no error. A script that fails may leave what it belongs to where it is.
    let present = |names: &[String], more: &str| {
        let names = quoted_words(names);
        format!(
            "gone=\nfor name in {names}; do {rpm} -q \"$name\" >/dev/null 2>&1 && gone=\"$gone $name\"; done\n\
             test -z \"$gone\" || {rpm} -e --allmatches {more}$gone || {{\nfailed=$?\n\
             for name in $gone; do ! {rpm} -q \"$name\" >/dev/null 2>&1 || exit $failed; done\n}}\n"
        )
    };
    if !request.remove.is_empty() {
        script.push_str(&present(&request.remove, ""));
    }
    if !request.packages.is_empty() {
        let brings_kernel = request.packages.iter().any(|one| is_kernel(&one.file.name));
        if brings_kernel {
            script.push_str(&depmod::before());
        }
        script.push_str(&installing(&rpm, &request.packages));
        let exchanged = format!(
            "{}{}{}",
            exchange(&rpm, &request.conflicting),
            if request.conflicting.is_empty() { String::new() } else { present(&request.conflicting, "$nodeps ") },
            verify(&rpm)
        );
        let is_of_both =
            request.packages.iter().any(|one| one.beside) && request.packages.iter().any(|one| !one.beside);
        match (request.conflicting.is_empty(), is_of_both) {
            (false, _) => script.push_str(&exchanged),
            (true, false) => script.push_str("put || judge $?\n"),
            (true, true) => {
                script.push_str(&format!("if test -z \"$stays\"; then\nput || judge $?\nelse\n{exchanged}fi\n"));
            }
        }
        if brings_kernel {
            script.push_str(&depmod::after());
        }
    }
    if !request.remove_after.is_empty() {
        script.push_str(&present(&request.remove_after, ""));
    }
    script.push_str(&format!("{rpm} -qa --qf '{DATABASE_LINE}\\n' >/imgbuild/{INSTALLED}\nexit $failed\n"));
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(packages: &[(&str, &str, bool)], installed: Option<&[&str]>) -> InstallRequest {
        let package = |(name, version, beside): &(&str, &str, bool)| RpmPackage {
            file: PackageFile {
                file: String::new(),
                name: (*name).to_owned(),
                called: format!("{name}-{version}.rpm"),
            },
            line: format!("{name} {version} noarch"),
            nvra: format!("{name}-{version}.noarch"),
            beside: *beside,
        };
        InstallRequest {
            scratch: String::new(),
            tools: Vec::new(),
            base: Vec::new(),
            packages: packages.iter().map(package).collect(),
            remove: Vec::new(),
            remove_after: Vec::new(),
            conflicting: Vec::new(),
            installed: installed.map(|lines| lines.iter().map(|line| (*line).to_owned()).collect()),
            accounts: Accounts::default(),
            uname: Uname { release: None, machine: String::new(), is_of_image: false },
            over_payload: false,
            files: Vec::new(),
            variables: Vec::new(),
            epoch: 0,
            log: String::new(),
        }
    }

    fn differs(request: &InstallRequest, database: &str) -> Option<(Vec<String>, Vec<String>)> {
        match otherwise(request, database)? {
            Made::Otherwise { lacks, has } => Some((lacks, has)),
            _ => None,
        }
    }

    #[test]
    fn the_database_is_compared_with_the_lock_in_both_directions() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let tells = request(&[("a", "1-1", false)], Some(&["a 1-1 noarch", "b 2-1 x86_64"]));
        let good = "gpg-pubkey 1-1 (none)\na 0:1-1 noarch\nb 2-1 x86_64\n";
        assert_eq!(differs(&tells, good), None);
        let found = differs(&tells, "a 1-1 noarch\nb 1-1 x86_64\n");
        assert_eq!(found, Some((words(&["b 2-1 x86_64"]), words(&["b 1-1 x86_64"]))));
        assert_eq!(differs(&tells, &format!("{good}c 1-1 noarch\n")), Some((Vec::new(), words(&["c 1-1 noarch"]))));
        // A lock of an earlier imgbuild does not say all.
        let silent = request(&[("a", "1-1", false)], None);
        assert_eq!(differs(&silent, good), None);
        assert_eq!(differs(&silent, "b 2-1 x86_64\n"), Some((words(&["a 1-1 noarch"]), Vec::new())));
    }

    /// Runs the script with a shell function in rpm's place that notes what it is asked.
    fn asked(request: &InstallRequest, there: &str, failing: &str) -> (i32, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().display();
        let rpm = format!(
            "#!/bin/sh\ncase \"$*\" in *' -qa --qf %{{NAME}} '*) printf '%s ' {there}; exit;; *-qa*|*--eval*) exit;; esac\n\
             for word in \"$@\"; do case $word in -?v|-e|-q|-Va|--test|--nodeps|--replacefiles|/packages/*) printf '%s ' \"${{word#/packages/}}\";; esac; done >>{at}/asked\n\
             echo >>{at}/asked\ncase \"$*\" in {failing}) exit 1;; esac\n"
        );
        std::fs::write(directory.path().join("rpm"), rpm).unwrap();
        std::fs::create_dir(directory.path().join("imgbuild")).unwrap();
        let text = script(request).replace("/imgbuild/", &format!("{at}/imgbuild/")).replace("/target", "/nonexistent");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path().join("rpm"), mode).unwrap();
        let ran = std::process::Command::new("/bin/sh")
            .args(["-e", "-c", &text])
            .env("PATH", format!("{at}:/usr/bin:/bin"))
            .output()
            .unwrap();
        let notes = std::fs::read_to_string(directory.path().join("asked")).unwrap_or_default();
        (ran.status.code().unwrap_or(99), notes.lines().map(|line| line.trim().to_owned()).collect())
    }

    #[test]
    fn each_package_is_installed_in_its_own_mode() {
        let both = request(&[("t-kmod", "2-1", true), ("t-up", "2-1", false)], None);
        assert_eq!(asked(&both, "t-up", "never"), (0, vec!["-Uv t-kmod-2-1.rpm t-up-2-1.rpm".to_owned()]));
        let (status, notes) = asked(&both, "t-kmod", "never");
        assert_eq!(status, 0, "{notes:?}");
        assert_eq!(
            notes,
            ["-Uv --test t-up-2-1.rpm", "-iv --test t-kmod-2-1.rpm", "-Uv t-up-2-1.rpm", "-iv t-kmod-2-1.rpm"]
        );
        // They need each other.
        let (status, notes) = asked(&both, "t-kmod", "*--test*");
        assert_eq!(status, 0, "{notes:?}");
        assert!(notes.contains(&"-Uv --nodeps --replacefiles t-up-2-1.rpm".to_owned()), "{notes:?}");
        assert!(notes.contains(&"-iv --nodeps --replacefiles t-kmod-2-1.rpm".to_owned()), "{notes:?}");
        // Two versions at once.
        let twice = request(&[("t-kmod", "1-1", true), ("t-kmod", "2-1", true)], None);
        assert_eq!(asked(&twice, "", "never").1, ["-iv t-kmod-1-1.rpm t-kmod-2-1.rpm"]);
    }

    #[test]
    fn an_rpm_that_fails_is_taken_for_a_script_where_all_is_there() {
        let one = request(&[("a", "1-1", false)], None);
        let (status, notes) = asked(&one, "", "*-Uv*");
        assert_eq!((status, notes.len()), (1, 2), "{notes:?}");
        assert_eq!(notes[1], "-q");
        // Something is missing: nothing follows.
        let mut one = request(&[("a", "1-1", false)], None);
        one.remove_after = vec!["b".to_owned()];
        let (status, notes) = asked(&one, "", "*-Uv*|*' -q '*");
        assert_eq!((status, notes.len()), (1, 2), "{notes:?}");
        let (status, notes) = asked(&one, "", "*-Uv*");
        assert!(status == 1 && notes.iter().any(|note| note.starts_with("-e")), "{notes:?}");
    }
}
