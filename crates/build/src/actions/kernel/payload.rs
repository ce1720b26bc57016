//! The kernel stage: the kernel's files, depmod, and exactly one release (D19).

use std::fs::File;
use std::io::Read;

use serde::{Deserialize, Serialize};

use super::device_trees::{self, Unmet};
use super::drivers::{self, Extra, Refusal, Remarks};
use archive::{Extractor, plain};
use base::digest::{Digest, FieldHasher};
use packages::{VersionOrder, tools_tree, unpack_part};
use sandbox::helper::News;
use sandbox::{Bind, CommandRequest, CommandResult, run_command};
use store::scan;
use store::{Kind, Manifest, ScanAnswer, ScanRequest, TreeEditor};
use store::{in_scratch, make_directories};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KernelRequest {
    /// Scratch directory, relative to the store's.
    pub scratch: String,
    /// Package files, relative to the store's directory, with their names.
    pub packages: Vec<(String, String)>,
    pub tools: Vec<Digest>,
    pub version: Option<String>,
    /// Device trees that are published next to it: names, or patterns.
    pub device_trees: Vec<String>,
    /// Drivers that are not the kernel's own.
    pub extra: Extra,
    pub order: VersionOrder,
    /// No time is later than this.
    pub epoch: i64,
    /// Log file, relative to the store's directory.
    pub log: String,
    /// Where the kernel itself is put for the host process, relative to the store's directory.
    pub handover: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Made {
    pub layer: ScanAnswer,
    /// What `uname -r` will print.
    pub release: String,
    pub remarks: Remarks,
    /// Device trees that were handed over, in the order of their numbers.
    pub device_trees: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum KernelAnswer {
    Made(Made),
    /// Device trees that the recipe names cannot be published.
    NoDeviceTree(Unmet),
    Refused(Refusal),
    /// No release, or several of them, in ascending order.
    Choose(Vec<String>),
    Failed(CommandResult),
}

fn wanted(path: &str) -> bool {
    let path = path.strip_prefix("usr/").unwrap_or(path);
    // SUSE has a compressed copy for debuggers beside the kernel that boots.
    let is_plain_kernel = path.starts_with("boot/vmlinux-") && !path.ends_with(".gz") && !path.ends_with(".xz");
    is_plain_kernel
        || ["boot/vmlinuz-", "boot/config-", "boot/System.map-", "lib/modules/", "lib/firmware/"]
            .iter()
            .any(|start| path.starts_with(start))
}

pub(crate) fn inside(request: KernelRequest, news: News<'_>) -> Result<KernelAnswer, String> {
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
            root: tools_tree(&request.tools, at("root"), at("root-work"))?,
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
        let kernel = image_of(&editor, release).ok_or("the kernel is not a regular file")?;
        hand_over(kernel, &request.handover).map_err(|error| format!("cannot copy the kernel: {error}"))?;
        let from = (request.scratch.as_str(), release.as_str());
        let wanted = &request.device_trees;
        let trees = match device_trees::take(wanted, from, &request.packages, &request.handover, news)? {
            Ok(trees) => trees,
            Err(unmet) => return Ok(KernelAnswer::NoDeviceTree(unmet)),
        };
        fault::point("kernel.handed-over");
        std::fs::remove_file(&link).map_err(|error| error.to_string())?;
        let layer = scan(&ScanRequest { tree, base: Vec::new(), epoch: request.epoch, whole: false })?;
        Ok(KernelAnswer::Made(Made { layer, release: release.clone(), remarks, device_trees: trees }))
    })
}

/// No kernel is larger, in bytes.
const LARGEST_KERNEL: u64 = 1 << 30;

/// Copies the kernel for the loaders. Some distributions pack the one of arm64 with gzip, which GRUB and QEMU undo, but neither iPXE nor
/// UEFI nor U-Boot's `booti`; all of them take it plain. Those that unpack themselves, as on x86 and with `zimg`, are no gzip files.
fn hand_over(kernel: File, to: &str) -> std::io::Result<()> {
    let mut out = File::create(to)?;
    let copied = std::io::copy(&mut plain(kernel)?.take(LARGEST_KERNEL + 1), &mut out)?;
    if copied > LARGEST_KERNEL {
        return Err(std::io::Error::other("it is larger than 1 GiB when unpacked"));
    }
    Ok(())
}

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
pub(crate) fn modules_projection(manifest: &Manifest, release: &str) -> Digest {
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_kernel_that_is_packed_with_gzip_is_handed_over_plain() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("vmlinuz"), directory.path().join("kernel"));
        let image = [b"MZ\x40\xfa".to_vec(), vec![7; 100_000]].concat();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&image).unwrap();
        for bytes in [packed.finish().unwrap(), image.clone()] {
            std::fs::write(&from, bytes).unwrap();
            hand_over(File::open(&from).unwrap(), to.to_str().unwrap()).unwrap();
            assert_eq!(std::fs::read(&to).unwrap(), image);
        }
        // Half a file is no kernel.
        std::fs::write(&from, [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]).unwrap();
        assert!(hand_over(File::open(&from).unwrap(), to.to_str().unwrap()).is_err());
    }
}
