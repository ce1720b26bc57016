//! What a kernel says of itself: from its files in the tree of the payload, or in the layers of the image. Runs inside.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;

use super::abi::{Kernel, ModuleFacts, module_facts, parse_symvers};
use super::found::is_module;
use super::vmlinux;
use crate::actions::kernel::modules::decompress_module;
use archive::plain;
use recipe::normal_name;
use store::{Kind, LayerReader, TreeEditor};

pub(super) trait Files {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, String>;

    /// Modules below a folder, by their paths in it, sorted.
    fn modules(&self, folder: &str) -> Vec<String>;

    fn text(&self, path: &str) -> Result<String, String> {
        Ok(self.read(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default())
    }
}

impl Files for LayerReader {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, String> {
        LayerReader::read(self, path)
    }

    fn modules(&self, folder: &str) -> Vec<String> {
        let prefix = format!("{folder}/");
        let inside = self.tree.0.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        let files = inside.filter(|(_, found)| matches!(found.entry.kind, Kind::File { .. }));
        files.map(|(path, _)| path[prefix.len()..].to_owned()).filter(|path| is_module(path)).collect()
    }
}

impl Files for TreeEditor {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, String> {
        let Some(mut file) = self.open_file(path) else { return Ok(None) };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| format!("cannot read `{path}`: {error}"))?;
        Ok(Some(bytes))
    }

    fn modules(&self, folder: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut queue = vec![String::new()];
        while let Some(below) = queue.pop() {
            for name in self.names(&format!("{folder}{below}")) {
                let path = format!("{below}/{name}");
                if is_module(&name) && self.has_file(&format!("{folder}{path}")) {
                    found.push(path.trim_start_matches('/').to_owned());
                } else if !name.contains('.') || !self.has_file(&format!("{folder}{path}")) {
                    queue.push(path);
                }
            }
        }
        found.sort();
        found
    }
}

/// What a module says about itself; none if it is not a module.
/// Errors: A text for a file that cannot be read.
pub(super) fn facts(files: &dyn Files, path: &str) -> Result<Option<ModuleFacts>, String> {
    let Some(bytes) = files.read(path)? else { return Ok(None) };
    Ok(decompress_module(path, bytes).ok().and_then(|bytes| module_facts(&bytes).ok()))
}

/// Places of a kernel image, by distribution and time.
pub(crate) fn image_places(release: &str) -> [String; 3] {
    [format!("boot/vmlinuz-{release}"), format!("usr/lib/modules/{release}/vmlinuz"), format!("boot/vmlinux-{release}")]
}

/// Reads what a kernel exports and how its modules are marked. `own` says which modules are the kernel's.
pub(super) fn kernel_abi(files: &dyn Files, release: &str, own: &dyn Fn(&str) -> bool) -> Result<Kernel, String> {
    let folder = format!("usr/lib/modules/{release}");
    let (mut cpu, mut vermagic) = (None, None);
    let mut known = None;
    for path in files.modules(&folder).iter().filter(|path| own(path)) {
        let Some(facts) = facts(files, &format!("{folder}/{path}"))? else { continue };
        // Each module with versions has this one, and the kernel itself exports it.
        known = facts.needs.get("module_layout").copied().flatten();
        (cpu, vermagic) = (Some(facts.cpu), Some(facts.vermagic));
        break;
    }
    let exports = exports(files, release, known)?;
    Ok(Kernel { release: release.to_owned(), cpu, vermagic, exports })
}

fn exports(
    files: &dyn Files,
    release: &str,
    known: Option<u32>,
) -> Result<Result<HashMap<String, Option<u32>>, String>, String> {
    let mut places = vec![format!("usr/lib/modules/{release}/Module.symvers")];
    for ending in [".gz", ".xz", ".zst"] {
        places.push(format!("usr/lib/modules/{release}/symvers{ending}"));
        places.push(format!("boot/symvers-{release}{ending}"));
    }
    for place in places {
        let Some(bytes) = files.read(&place)? else { continue };
        let mut text = String::new();
        let stream = plain(&bytes[..]).map_err(|error| format!("{place}: {error}"))?;
        stream.take(256 << 20).read_to_string(&mut text).map_err(|error| format!("{place}: {error}"))?;
        let found = parse_symvers(&text);
        if !found.is_empty() {
            return Ok(Ok(found));
        }
    }
    for place in image_places(release) {
        if let Some(image) = files.read(&place)? {
            return Ok(vmlinux::exports(&image, known.map(|crc| ("module_layout", crc)))
                .map_err(|problem| format!("the kernel image `{place}` does not list its exports: {problem}")));
        }
    }
    Ok(Err("there is no kernel image".to_owned()))
}

/// Symbols that modules provide, found by depmod's index.
pub(super) struct Provided<'f> {
    files: &'f dyn Files,
    folder: String,
    /// Module by symbol.
    providers: HashMap<String, String>,
    paths: BTreeMap<String, String>,
    read: HashMap<String, Option<ModuleFacts>>,
}

impl<'f> Provided<'f> {
    pub(super) fn new(files: &'f dyn Files, release: &str) -> Result<Self, String> {
        let folder = format!("usr/lib/modules/{release}");
        let mut providers = HashMap::new();
        for line in files.text(&format!("{folder}/modules.symbols"))?.lines() {
            let mut words = line.split_whitespace();
            if let (Some("alias"), Some(symbol), Some(module)) = (words.next(), words.next(), words.next()) {
                let symbol = symbol.strip_prefix("symbol:").unwrap_or(symbol);
                providers.insert(symbol.to_owned(), normal_name(module));
            }
        }
        let dep = files.text(&format!("{folder}/modules.dep"))?;
        let paths = dep.lines().filter_map(|line| line.split_once(':'));
        let paths = paths.map(|(path, _)| (normal_name(path), path.to_owned())).collect();
        Ok(Self { files, folder, providers, paths, read: HashMap::new() })
    }

    /// A symbol of a module with its CRC, if both are known.
    pub(super) fn find(&mut self, symbol: &str) -> Option<Option<u32>> {
        let module = self.providers.get(symbol)?;
        let path = self.paths.get(module)?;
        let (files, folder) = (self.files, &self.folder);
        let facts =
            self.read.entry(module.clone()).or_insert_with(|| facts(files, &format!("{folder}/{path}")).ok().flatten());
        Some(facts.as_ref().and_then(|facts| facts.exports.get(symbol).copied().flatten()))
    }
}
