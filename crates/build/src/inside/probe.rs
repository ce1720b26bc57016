//! Whether a directory can be a store: tried inside, once for each kernel (D5).

use serde::{Deserialize, Serialize};

use sandbox::helper::News;
use sandbox::{Assembly, TreeMount};
use store::{TreeEditor, in_scratch, make_directories};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProbeRequest {
    /// Scratch directory, relative to the store's.
    pub scratch: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProbeAnswer {
    /// What the file system cannot do and a store cannot be without; none: it will do.
    pub unfit: Option<String>,
    /// Why overlayfs cannot be used; none: it can.
    pub no_overlay: Option<String>,
}

pub(crate) fn inside(request: ProbeRequest, _: News<'_>) -> Result<ProbeAnswer, String> {
    if let Err(error) = std::fs::create_dir_all(&request.scratch) {
        let hint = if is_fuse() { "; it is a FUSE file system: mount it with the option allow_other" } else { "" };
        let unfit = format!("accept writes from the user ids of images ({error}{hint})");
        return Ok(ProbeAnswer { unfit: Some(unfit), no_overlay: None });
    }
    in_scratch(&request.scratch, || {
        let at = |name: &str| format!("{}/{name}", request.scratch);
        make_directories(&request.scratch, &["lower/gone", "upper", "work", "mount"])?;
        let unfit = try_files(&at("lower")).err();
        let tree = TreeMount { lower: vec![at("lower")], upper: at("upper"), work: at("work"), root: None };
        let no_overlay = if unfit.is_some() { None } else { try_overlay(&tree, &at("mount")).err() };
        Ok(ProbeAnswer { unfit, no_overlay })
    })
}

/// Whether the store's directory lies on a file system in user space. Source: statfs(2), FUSE_SUPER_MAGIC.
fn is_fuse() -> bool {
    const FUSE: u64 = 0x6573_5546;
    rustix::fs::statfs(".").is_ok_and(|found| found.f_type as u64 == FUSE)
}

/// Owners, links, attributes, programs: what layers are made of.
fn try_files(directory: &str) -> Result<(), String> {
    let editor = TreeEditor::open(directory)?;
    editor.write("program", b"#!/bin/sh\nexit 0\n", 0o755)?;
    editor.set_owner("program", 1, 1).map_err(|error| format!("give files to other users ({error})"))?;
    editor.symlink("link", "program").map_err(|error| format!("hold symbolic links ({error})"))?;
    let path = format!("{directory}/program");
    std::fs::hard_link(&path, format!("{directory}/second")).map_err(|error| format!("hold hard links ({error})"))?;
    rustix::fs::setxattr(path.as_str(), "user.imgbuild", b"x", rustix::fs::XattrFlags::empty())
        .map_err(|error| format!("hold extended attributes ({error})"))?;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        format!("{directory}/whiteout"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::empty(),
        0,
    )
    .map_err(|error| format!("hold whiteouts ({error})"))?;
    let flags = rustix::fs::statvfs(directory).map(|found| found.f_flag).map_err(|error| error.to_string())?;
    if flags.contains(rustix::fs::StatVfsMountFlags::NOEXEC) {
        return Err("run programs (it is mounted noexec)".to_owned());
    }
    Ok(())
}

fn try_overlay(tree: &TreeMount, mount: &str) -> Result<(), String> {
    tree.mount(std::path::Path::new(mount))?;
    let tried = std::fs::remove_dir(format!("{mount}/gone"))
        .and_then(|()| std::fs::create_dir(format!("{mount}/gone")))
        .and_then(|()| std::fs::write(format!("{mount}/program"), "changed"));
    let _ = rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH);
    tried.map_err(|error| format!("changing a tree fails: {error}"))
}

impl ProbeAnswer {
    pub fn assembly(&self) -> Assembly {
        if self.no_overlay.is_some() { Assembly::Copy } else { Assembly::Overlay }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_in_which_an_image_s_ids_cannot_write_is_unfit_and_no_mistake() {
        // As on a file system in user space without allow_other: making the first directory fails.
        let request = ProbeRequest { scratch: "/proc/self/status/scratch".to_owned() };
        let answer = inside(request, &mut |_| {}).unwrap();
        let said = answer.unfit.unwrap_or_default();
        assert!(said.contains("accept writes from the user ids"), "{said}");
    }
}
