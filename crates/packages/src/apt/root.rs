//! A root made of packages alone, from inside: the base of each image, and tools roots.

use std::fs::File;

use serde::{Deserialize, Serialize};

use super::inside::{NORMALISED, POLICY, environment, scripts_that_make_accounts};
use crate::inside::accounts;
use crate::inside::common::{Made, PackageFile, call_packages, normalise};
use archive::{Extractor, extract_tar, read_members};
use base::source::counted_as;
use recipe::Accounts;
use sandbox::helper::News;
use sandbox::{Bind, CommandRequest, TreeMount, run_command};
use store::scan;
use store::{ScanRequest, TreeEditor, in_scratch, make_directories};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RootRequest {
    /// Scratch directory, relative to the store's.
    pub scratch: String,
    /// Whether dpkg configures the packages; without that the root only serves to run programs of it.
    pub configure: bool,
    /// Whether the packages' CPU has its loader in /lib64.
    pub lib64: bool,
    pub packages: Vec<PackageFile>,
    /// No time is later than this.
    pub epoch: i64,
    /// Log file, relative to the store's directory.
    pub log: String,
}

fn unpack(tree: &str, packages: &[PackageFile], progress: News<'_>) -> Result<(), String> {
    let mut extractor = Extractor::new(tree)?;
    for (index, package) in packages.iter().enumerate() {
        progress(&format!("unpacking {} of {}: {}", index + 1, packages.len(), package.name));
        fault::point("unpack.package");
        let file = File::open(&package.file).map_err(|error| format!("{}: {error}", package.name))?;
        read_members(file, |member, content| {
            if member.starts_with("data.tar") {
                extract_tar(&mut extractor, content, &|_| true).map_err(Unpacking)?;
            }
            Ok(())
        })
        .map_err(|Unpacking(problem)| format!("{}: {problem}", package.name))?;
    }
    extractor.finish()
}

struct Unpacking(String);

impl From<archive::DebError> for Unpacking {
    fn from(error: archive::DebError) -> Self {
        Self(error.to_string())
    }
}

/// What maintainer scripts would have made and programs cannot do without: who root is, a shell, awk.
fn complete(tree: &str) -> Result<(), String> {
    use std::io::Read;
    let editor = TreeEditor::open(tree)?;
    for name in ["passwd", "group"] {
        let mut text = String::new();
        if let Some(mut master) = editor.open_file(&format!("usr/share/base-passwd/{name}.master")) {
            master.read_to_string(&mut text).map_err(|error| format!("{name}.master: {error}"))?;
            editor.write(&format!("etc/{name}"), text.replace(":*:", ":x:").as_bytes(), 0o644)?;
        }
    }
    for (name, target) in [("usr/bin/sh", "dash"), ("usr/bin/awk", "mawk")] {
        if !editor.exists(name) && editor.exists(&format!("usr/bin/{target}")) {
            editor.symlink(name, target)?;
        }
    }
    Ok(())
}

const BOOTSTRAP_SCRIPT: &str = "set -e\n\
    dpkg='dpkg --force-unsafe-io --force-depends --force-confdef --force-confold --log=/dev/null'\n\
    $dpkg --install /debs/base-passwd_*.deb /debs/base-files_*.deb\n\
    $dpkg --install /debs/*.deb\n\
    $dpkg --configure -a\n\
    audit=$(dpkg --audit)\n\
    test -z \"$audit\" || { echo \"$audit\"; exit 1; }\n";

pub(super) fn inside(request: RootRequest, progress: News<'_>) -> Result<Made, String> {
    in_scratch(&request.scratch, || {
        let tree = format!("{}/tree", request.scratch);
        // Merged /usr first: packages of merged releases rely on it, and those of older ones do not mind.
        make_directories(&tree, &["usr/bin", "usr/sbin", "usr/lib"])?;
        for name in ["bin", "sbin", "lib"] {
            std::os::unix::fs::symlink(format!("usr/{name}"), format!("{tree}/{name}"))
                .map_err(|error| error.to_string())?;
        }
        if request.lib64 {
            make_directories(&tree, &["usr/lib64"])?;
            std::os::unix::fs::symlink("usr/lib64", format!("{tree}/lib64")).map_err(|error| error.to_string())?;
        }
        unpack(&tree, &request.packages, progress)?;
        if !request.configure {
            complete(&tree)?;
            let answer = scan(&ScanRequest { tree, base: Vec::new(), epoch: request.epoch, whole: false })?;
            return Ok(Made::Layer(answer, Accounts::default()));
        }
        // What was unpacked may hold links: from here on no path is followed outside the tree.
        let editor = TreeEditor::open(&tree)?;
        for name in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "debs"] {
            editor.make_directory(name)?;
        }
        for name in ["var/lib/dpkg/status", "var/lib/dpkg/available"] {
            editor.write(name, b"", 0o644)?;
        }
        editor.write("usr/sbin/policy-rc.d", POLICY, 0o755)?;
        let packages = call_packages(&request.scratch, &request.packages)?;
        fault::point("unpack.done");
        progress(&format!("configuring {}", counted_as(request.packages.len(), "package", "packages")));
        let mount_point = format!("{}/mount", request.scratch);
        make_directories(&mount_point, &[""])?;
        let result = run_command(&CommandRequest {
            root: TreeMount { lower: Vec::new(), upper: tree.clone(), work: String::new(), root: None },
            binds: vec![Bind { source: packages, target: "/debs".to_owned(), writable: false }],
            arguments: ["/bin/sh", "-c", BOOTSTRAP_SCRIPT].map(str::to_owned).to_vec(),
            environment: environment(request.epoch),
            log: request.log.clone(),
            mount_point,
            ..CommandRequest::default()
        })?;
        if result.status != 0 {
            return Ok(Made::Failed(result));
        }
        normalise(&tree, &NORMALISED)?;
        let accounts = accounts::found(&tree, &[], &scripts_that_make_accounts(&tree)?)?;
        let answer = scan(&ScanRequest { tree, base: Vec::new(), epoch: request.epoch, whole: false })?;
        Ok(Made::Layer(answer, accounts))
    })
}
