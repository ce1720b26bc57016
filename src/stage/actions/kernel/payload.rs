//! The kernel stage: the kernel's files, depmod, and exactly one release (D19).

use std::fs::File;

use serde::{Deserialize, Serialize};

use super::drivers::{self, Extra, Refusal, Remarks};
use crate::archive::Extractor;
use crate::digest::{Digest, FieldHasher};
use crate::distro::{VersionOrder, unpack_part};
use crate::fault;
use crate::sandbox::helper::News;
use crate::sandbox::{Bind, CommandRequest, CommandResult, TreeMount, run_command};
use crate::store::scan;
use crate::store::{Kind, Manifest, ScanAnswer, ScanRequest, TreeEditor, lower_directories};
use crate::store::{in_scratch, make_directories};

/// What the payload is made from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KernelRequest {
    /// Scratch directory, relative to the store's.
    pub scratch: String,
    /// Package files, relative to the store's directory, with their names.
    pub packages: Vec<(String, String)>,
    /// Layers of the tools root.
    pub tools: Vec<Digest>,
    /// The release to take, where there are several.
    pub version: Option<String>,
    /// Drivers that are not the kernel's own.
    pub extra: Extra,
    /// How releases are compared.
    pub order: VersionOrder,
    /// No time is later than this.
    pub epoch: i64,
    /// Log file, relative to the store's directory.
    pub log: String,
    /// Where the kernel itself is put for the host process, relative to the store's directory.
    pub handover: String,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum KernelAnswer {
    /// The layer, what `uname -r` will print, and what there is to say of drivers.
    Made(ScanAnswer, String, Remarks),
    /// Drivers cannot be used.
    Refused(Refusal),
    /// No release, or several of them, in ascending order.
    Choose(Vec<String>),
    /// depmod failed.
    Failed(CommandResult),
}

/// What of a package belongs to the kernel stage.
fn wanted(path: &str) -> bool {
    let path = path.strip_prefix("usr/").unwrap_or(path);
    // SUSE has a compressed copy for debuggers beside the kernel that boots.
    let is_plain_kernel = path.starts_with("boot/vmlinux-") && !path.ends_with(".gz") && !path.ends_with(".xz");
    is_plain_kernel
        || ["boot/vmlinuz-", "boot/config-", "boot/System.map-", "lib/modules/", "lib/firmware/"]
            .iter()
            .any(|start| path.starts_with(start))
}

/// Runs inside.
pub fn inside(request: KernelRequest, news: News<'_>) -> Result<KernelAnswer, String> {
    in_scratch(&request.scratch, || {
        let at = |name: &str| format!("{}/{name}", request.scratch);
        make_directories(&request.scratch, &["tree/usr/lib", "mount", "root", "root-work"])?;
        let link = at("tree/lib");
        std::os::unix::fs::symlink("usr/lib", &link).map_err(|error| error.to_string())?;
        let tree = at("tree");
        let mut extractor = Extractor::new(&tree)?;
        for (file, name) in &request.packages {
            news(&format!("unpacking {name}"));
            unpack_part(&mut extractor, file, &wanted).map_err(|problem| format!("{name}: {problem}"))?;
        }
        extractor.finish()?;
        fault::point("kernel.unpacked");
        let editor = TreeEditor::open(&tree)?;
        let releases = releases(&tree, &editor, request.order);
        let chosen = match &request.version {
            Some(version) => releases.iter().find(|release| *release == version),
            None if releases.len() == 1 => releases.first(),
            None => None,
        };
        let Some(release) = chosen else { return Ok(KernelAnswer::Choose(releases)) };
        let mut brought = None;
        if !request.extra.is_empty() {
            let newest = |a: &str, b: &str| request.order.compare(a, b);
            match drivers::bring(&request.extra, &editor, release, &request.tools, &newest, news)? {
                Ok(found) => brought = Some(found),
                Err(refusal) => return Ok(KernelAnswer::Refused(refusal)),
            }
        }
        let mut binds = vec![Bind { source: tree.clone(), target: "/payload".to_owned(), writable: true }];
        let mut arguments: Vec<String> = ["/sbin/depmod", "-b", "/payload"].map(str::to_owned).to_vec();
        if let Some(brought) = &brought {
            make_directories(&request.scratch, &["depmod"])?;
            let written = std::fs::write(at("depmod/imgbuild.conf"), &brought.configuration);
            written.map_err(|error| format!("cannot write depmod's configuration: {error}"))?;
            binds.push(Bind { source: at("depmod"), target: "/depmod".to_owned(), writable: false });
            arguments.extend(["-C", "/depmod"].map(str::to_owned));
        }
        arguments.push(release.clone());
        news(&format!("indexing the modules of {release}"));
        let result = run_command(&CommandRequest {
            root: TreeMount {
                lower: lower_directories(&request.tools)?,
                upper: at("root"),
                work: at("root-work"),
                root: None,
            },
            binds,
            arguments,
            environment: vec![("PATH".to_owned(), "/usr/sbin:/usr/bin:/sbin:/bin".to_owned())],
            log: request.log.clone(),
            mount_point: at("mount"),
            ..CommandRequest::default()
        })?;
        if result.status != 0 {
            return Ok(KernelAnswer::Failed(result));
        }
        let mut remarks = Remarks::default();
        if let Some(brought) = &brought {
            match drivers::judge(brought, &editor)? {
                Ok(found) => remarks = found,
                Err(refusal) => return Ok(KernelAnswer::Refused(refusal)),
            }
        }
        let mut kernel = image_of(&editor, release).ok_or("the kernel is not a regular file")?;
        let copied = File::create(&request.handover).and_then(|mut to| std::io::copy(&mut kernel, &mut to));
        copied.map_err(|error| format!("cannot copy the kernel: {error}"))?;
        fault::point("kernel.handed-over");
        std::fs::remove_file(&link).map_err(|error| error.to_string())?;
        let answer = scan(&ScanRequest { tree, base: Vec::new(), epoch: request.epoch, whole: false })?;
        Ok(KernelAnswer::Made(answer, release.clone(), remarks))
    })
}

/// A release's kernel image.
fn image_of(editor: &TreeEditor, release: &str) -> Option<File> {
    drivers::image_places(release).iter().find_map(|path| editor.open_file(path))
}

/// Releases that have both modules and a kernel, in the package manager's order of versions.
fn releases(tree: &str, editor: &TreeEditor, order: VersionOrder) -> Vec<String> {
    let mut found: Vec<String> = std::fs::read_dir(format!("{tree}/usr/lib/modules"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|release| image_of(editor, release).is_some())
        .collect();
    found.sort_by(|a, b| order.compare(a, b));
    found
}

/// What initrds take besides modules.
const SETTINGS: [&str; 3] = ["usr/lib/firmware/", "etc/modprobe.d/", "usr/lib/modprobe.d/"];

/// The projection that initrds use: modules of one release, firmware and modprobe's settings, nothing else of the payload.
pub fn modules_projection(manifest: &Manifest, release: &str) -> Digest {
    let modules = format!("usr/lib/modules/{release}/");
    let mut hasher = FieldHasher::new("imgbuild modules projection v1");
    for (path, entry) in &manifest.0 {
        if !path.starts_with(&modules) && !SETTINGS.iter().any(|start| path.starts_with(start)) {
            continue;
        }
        let content = match &entry.kind {
            Kind::File { digest, .. } => digest.to_string(),
            Kind::Symlink(target) => target.clone(),
            _ => continue,
        };
        hasher.text(path).text(&content);
    }
    hasher.finish()
}
