//! The initrd: imgbuild-init, modules with their firmware, and nothing of the distribution (D21, D22, D28).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::actions::initrd::firmware;
use crate::actions::initrd::kdump::{self, DumpAnswer, DumpRequest};
use crate::actions::kernel::modules::{ModuleIndex, Selection, decompress_module, modinfo, plain_path};
use archive::{Body, Compression, Head, write_entry, write_trailer};
use base::digest::Digest;
use recipe::{Wanted, normal_name};
use sandbox::helper::News;
use store::LayerReader;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InitrdRequest {
    pub layers: Vec<Digest>,
    pub release: String,
    pub named: Vec<String>,
    pub default: Vec<String>,
    pub updates: Vec<String>,
    pub all_updates: bool,
    /// imgbuild-init, relative to the store's directory.
    pub init: String,
    /// Certificates for https, one text.
    pub ca: String,
    pub compression: Compression,
    pub epoch: i64,
    /// Where the initrd is put for the host process, relative to the store's directory.
    pub handover: String,
    pub dump: Option<DumpRequest>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct InitrdAnswer {
    /// Names that the recipe wants and the kernel lacks, with near names; nothing was made then.
    pub missing: Vec<(String, Vec<String>)>,
    pub skipped: Vec<String>,
    /// Modules of driver updates that the initrd does not have.
    pub unused_updates: Vec<String>,
    pub modules: usize,
    /// Names of all drivers that it has.
    pub drivers: Vec<String>,
    /// Firmware that a module names and the layers lack: (module, file, whether the recipe names the module).
    pub missing_firmware: Vec<(String, String, bool)>,
    /// What there is to say of one that writes a dump.
    pub dump: Option<DumpAnswer>,
}

/// Collects entries; directories come before what is in them.
pub(crate) struct Tree {
    pub(crate) out: Vec<u8>,
    made: BTreeSet<String>,
    epoch: i64,
    /// Whether /lib is /usr/lib.
    pub(crate) merged: bool,
}

impl Tree {
    pub(crate) fn new(epoch: i64, merged: bool) -> Self {
        Self { out: Vec::new(), made: BTreeSet::new(), epoch, merged }
    }

    fn head(&self, mode: u32, links: u32) -> Head {
        Head { inode: 0, links, mode, uid: 0, gid: 0, mtime: self.epoch }
    }

    pub(crate) fn parents(&mut self, path: &str) -> Result<(), String> {
        let mut at = 0;
        while let Some(slash) = path[at..].find('/') {
            let parent = &path[..at + slash];
            at += slash + 1;
            if self.made.insert(parent.to_owned()) {
                let head = self.head(0o755, 2);
                write_entry(&mut self.out, parent, head, Body::Directory).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    pub(crate) fn add(&mut self, path: &str, mode: u32, body: Body<'_>) -> Result<(), String> {
        if !self.made.insert(path.to_owned()) {
            return Ok(());
        }
        self.parents(path)?;
        let head = self.head(mode, if matches!(body, Body::Directory) { 2 } else { 1 });
        write_entry(&mut self.out, path, head, body).map(drop).map_err(|error| format!("{path}: {error}"))
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<(), String> {
        self.add(path, mode, Body::File(bytes.len() as u64, Some(Box::new(bytes))))
    }
}

/// Where a release's modules are in the layers.
pub(crate) fn folder_of(release: &str) -> String {
    format!("usr/lib/modules/{release}")
}

/// Which modules the initrd is to have, and what is to be said of them.
pub(crate) fn select(
    reader: &LayerReader,
    request: &InitrdRequest,
) -> Result<(ModuleIndex, Selection, InitrdAnswer), String> {
    let folder = folder_of(&request.release);
    let text = |name: &str| -> Result<String, String> {
        Ok(reader
            .read(&format!("{folder}/{name}"))?
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default())
    };
    let index = ModuleIndex::parse(
        &text("modules.dep")?,
        &text("modules.alias")?,
        &text("modules.softdep")?,
        &text("modules.builtin")?,
    );
    let mut named = request.named.clone();
    if request.all_updates {
        named.extend(request.updates.iter().filter(|name| !request.named.contains(name)).cloned());
    }
    let selection = index.select(&Wanted { named, default: request.default.clone(), all_updates: false });
    let chosen: BTreeSet<String> = selection.paths.iter().map(|path| normal_name(path)).collect();
    let answer = InitrdAnswer {
        unused_updates: request.updates.iter().filter(|name| !chosen.contains(*name)).cloned().collect(),
        missing: selection.missing.clone(),
        skipped: selection.skipped.clone(),
        drivers: chosen.iter().cloned().collect(),
        ..InitrdAnswer::default()
    };
    Ok((index, selection, answer))
}

/// Settings of drivers in the layers: (file name, content).
pub(crate) fn driver_settings(reader: &LayerReader) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    // A file in /etc takes the place of one with its name in /usr/lib (modprobe.d(5)); imgbuild-init reads /etc alone.
    for directory in ["etc/modprobe.d", "usr/lib/modprobe.d"] {
        for name in reader.names_in(directory).into_iter().filter(|name| name.ends_with(".conf")) {
            if let (Some(bytes), false) =
                (reader.read(&format!("{directory}/{name}"))?, found.iter().any(|(known, _)| *known == name))
            {
                found.push((name, bytes));
            }
        }
    }
    Ok(found)
}

pub(crate) fn read_module(reader: &LayerReader, release: &str, path: &str) -> Result<Vec<u8>, String> {
    let from = format!("{}/{path}", folder_of(release));
    let bytes = reader.read(&from)?.ok_or_else(|| format!("the module {path} is missing"))?;
    decompress_module(path, bytes).map_err(|error| format!("{path}: {error}"))
}

pub(crate) fn add_firmware(
    reader: &LayerReader,
    tree: &mut Tree,
    selection: &Selection,
    (path, module): (&str, &[u8]),
    answer: &mut InitrdAnswer,
) -> Result<(), String> {
    let name = normal_name(path);
    for wanted in modinfo(module, "firmware") {
        if !firmware::add(reader, tree, &wanted)? {
            answer.missing_firmware.push((name.clone(), wanted, selection.named.contains(&name)));
        }
    }
    answer.modules += 1;
    Ok(())
}

pub(crate) fn inside(request: InitrdRequest, _: News<'_>) -> Result<InitrdAnswer, String> {
    let reader = LayerReader::open(&request.layers)?;
    let (index, selection, mut answer) = select(&reader, &request)?;
    if !answer.missing.is_empty() {
        return Ok(answer);
    }
    let mut tree = Tree::new(request.epoch, false);
    let init = std::fs::read(&request.init).map_err(|error| format!("imgbuild-init: {error}"))?;
    tree.file("init", 0o755, &init)?;
    // The kernel asks this program for modules that it misses.
    tree.add("sbin/modprobe", 0o777, Body::Symlink("../init"))?;
    tree.add("dev/console", 0o600, Body::Character(5, 1))?;
    tree.add("dev/null", 0o666, Body::Character(1, 3))?;
    for name in ["proc", "sys", "run", "newroot"] {
        tree.parents(&format!("{name}/"))?;
    }
    if !request.ca.is_empty() {
        tree.file("etc/imgbuild/ca.pem", 0o644, request.ca.as_bytes())?;
    }
    for (name, bytes) in driver_settings(&reader)? {
        tree.file(&format!("etc/modprobe.d/{name}"), 0o644, &bytes)?;
    }
    let to = format!("lib/modules/{}", request.release);
    for (name, text) in index.reduced(&selection) {
        tree.file(&format!("{to}/{name}"), 0o644, text.as_bytes())?;
    }
    for path in &selection.paths {
        let module = read_module(&reader, &request.release, path)?;
        add_firmware(&reader, &mut tree, &selection, (path, &module), &mut answer)?;
        tree.file(&format!("{to}/{}", plain_path(path)), 0o644, &module)?;
    }
    if let Some(dump) = &request.dump {
        let found = kdump::add(&mut tree, &reader, dump, &request.release)?;
        let cannot = found.cannot();
        answer.dump = Some(found);
        if cannot {
            return Ok(answer);
        }
    }
    write_trailer(&mut tree.out).map_err(|error| error.to_string())?;
    write(&request, &reader, &tree.out)?;
    if let Some(dump) = &mut answer.dump {
        let written = std::fs::metadata(&request.handover).map_or(0, |found| found.len());
        dump.size = written + tree.out.len() as u64;
    }
    Ok(answer)
}

/// Writes the initrd where the host process takes it, microcode in front.
pub(crate) fn write(request: &InitrdRequest, reader: &LayerReader, bytes: &[u8]) -> Result<(), String> {
    use std::io::Write;
    // The processor has its microcode already when a kernel starts after a crash.
    let early = match request.dump {
        Some(_) => Vec::new(),
        None => firmware::early_microcode(reader, request.epoch)?,
    };
    let written = std::fs::File::create(&request.handover).and_then(|mut file| {
        fault::point("initrd.writing");
        if !fault::planted("no-microcode") {
            file.write_all(&early)?;
        }
        request.compression.write_whole(bytes, &mut file)
    });
    written.map_err(|error| format!("cannot write the initrd: {error}"))
}
