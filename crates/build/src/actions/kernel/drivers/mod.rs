//! Drivers that are not the kernel's own: packages, driver update disks, and what is built from source.
//!
//! [`gather`] opens what the recipe names ([`disk`] knows the forms of driver update disks) and collects it in
//! [`found::Gathering`], [`place`] puts it into the kernel's tree and compares it with the kernel by what
//! [`abi`] and [`kernel_abi`] read, [`build`] makes modules from source. All of it runs inside; [`host`] is the builder's part.

mod abi;
mod build;
mod disk;
mod found;
mod gather;
mod host;
mod kernel_abi;
mod place;
mod vmlinux;

use serde::{Deserialize, Serialize};

pub(crate) use build::inside as build_inside;
pub(crate) use gather::{Refusal, UpdateSource};
pub(crate) use host::{
    HEADERS, build_action, check_foreign_modules, describe_build, describe_updates, headers_release, package_request,
    say_remarks,
};
pub(crate) use kernel_abi::image_places;
pub(crate) use place::Remarks;

use self::abi::Kernel;
use self::found::{Content, Gathering, place_of};
use self::kernel_abi::kernel_abi;
use self::place::Placed;
use base::digest::Digest;
use recipe::Arch;
use sandbox::helper::News;
use store::{LayerReader, TreeEditor};

/// Part of the keys of drivers that are built; raised with what the action gives. 1: first; 2: with dkms.conf too paths are
/// left out of modules; 3: dkms.conf has more variables; 5: the build sees fixed processors and memory, and no number of jobs.
pub(crate) const VERSION: u32 = 5;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Extra {
    pub arch: Arch,
    pub updates: Vec<UpdateSource>,
    /// Layers of built drivers, with the names of their sources.
    pub builds: Vec<(String, Digest)>,
}

impl Extra {
    pub fn is_empty(&self) -> bool {
        self.updates.is_empty() && self.builds.is_empty()
    }
}

/// Drivers that are in the tree, before depmod ran.
pub(crate) struct Brought {
    kernel: Kernel,
    placed: Vec<Placed>,
    pub configuration: String,
}

/// Puts drivers into the kernel's tree. `tools` are the layers of depmod's root, `newest` compares releases.
/// Errors: A text for files that cannot be read or written; a refusal for drivers that cannot be used.
pub(crate) fn bring(
    extra: &Extra,
    editor: &TreeEditor,
    release: &str,
    tools: &[Digest],
    newest: &dyn Fn(&str, &str) -> std::cmp::Ordering,
    news: News<'_>,
) -> Result<Result<Brought, Refusal>, String> {
    news("reading drivers");
    let kernel = kernel_abi(editor, release, &|_| true)?;
    let mut gathering = Gathering::new(release, extra.arch);
    for update in &extra.updates {
        if let Err(refusal) = gathering.update(update) {
            return Ok(Err(refusal));
        }
    }
    for (name, layer) in &extra.builds {
        let reader = LayerReader::open(std::slice::from_ref(layer))?;
        let modules: Vec<String> = reader.tree.0.keys().filter(|path| path.ends_with(".ko")).cloned().collect();
        for path in modules {
            if let (Some(place), Some(bytes)) = (place_of(&path), reader.read(&path)?) {
                gathering.add(name, place, Content::File(bytes));
            }
        }
    }
    let placed = match place::place(editor, &gathering.files, &kernel, newest)? {
        Ok(placed) => placed,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let tools = LayerReader::open(tools)?;
    let mut of_tools = Vec::new();
    for directory in ["usr/lib/depmod.d", "etc/depmod.d"] {
        for name in tools.names_in(directory).iter().filter(|name| name.ends_with(".conf")) {
            let text = tools.read(&format!("{directory}/{name}"))?.unwrap_or_default();
            of_tools.push(format!("{}\n", String::from_utf8_lossy(&text).trim_end()));
        }
    }
    let configuration = place::depmod_configuration(&of_tools, editor);
    Ok(Ok(Brought { kernel, placed, configuration }))
}

/// Compares what was brought with the kernel, and says what depmod made of it.
/// Errors: A text for files that cannot be read; a refusal for modules that do not fit.
pub(crate) fn judge(brought: &Brought, editor: &TreeEditor) -> Result<Result<Remarks, Refusal>, String> {
    if let Err(refusal) = place::check(editor, &brought.kernel, &brought.placed)? {
        return Ok(Err(refusal));
    }
    let mut remarks = place::remarks(editor, &brought.kernel.release, &brought.placed)?;
    if let (Err(reason), false) = (&brought.kernel.exports, brought.placed.is_empty()) {
        remarks.warnings.push(format!("symbols of drivers are not compared with the kernel's: {reason}"));
    }
    Ok(Ok(remarks))
}

/// Asks whether modules of an image fit its kernel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CheckRequest {
    pub layers: Vec<Digest>,
    pub release: String,
    /// The modules, by their paths below the release's folder.
    pub modules: Vec<String>,
}

/// Runs inside: why modules that are not the kernel's own cannot be used.
pub(crate) fn check_inside(request: CheckRequest, _: News<'_>) -> Result<Option<Refusal>, String> {
    let reader = LayerReader::open(&request.layers)?;
    let kernel = kernel_abi(&reader, &request.release, &|path| !request.modules.iter().any(|own| own == path))?;
    let placed: Vec<Placed> = request
        .modules
        .iter()
        .map(|path| Placed {
            source: "the image".to_owned(),
            path: path.clone(),
            other_release: path.starts_with("weak-updates/").then(|| "another kernel".to_owned()),
        })
        .collect();
    Ok(place::check(&reader, &kernel, &placed)?.err())
}
