//! Gates after postinstall: what the script must not do behind the other stages' backs (D20, D24).

use serde::{Deserialize, Serialize};

use super::StageError;
use super::inside::News;
use crate::digest::Digest;
use crate::store::{LayerReader, Manifest};

/// Asks for a file of a tree.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReadFileRequest {
    /// Layers, lowest first.
    pub layers: Vec<Digest>,
    /// Path in the tree.
    pub path: String,
}

/// Runs inside: a text file of the tree, if it is there.
pub fn read_file(request: ReadFileRequest, _: News<'_>) -> Result<Option<String>, String> {
    let bytes = LayerReader::open(&request.layers)?.read(&request.path)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// What of a postinstall layer the initrd would have to know.
fn touched(manifest: &Manifest) -> Vec<String> {
    let roots = ["usr/lib/modules/", "usr/lib/firmware/", "etc/modprobe.d/", "etc/dracut.conf.d/"];
    manifest
        .0
        .iter()
        .filter(|(_, entry)| !entry.is_directory())
        .map(|(path, _)| path)
        .filter(|path| roots.iter().any(|root| path.starts_with(root)))
        // depmod's own files follow from the modules.
        .filter(|path| !path.rsplit('/').next().is_some_and(|name| name.starts_with("modules.")))
        .cloned()
        .collect()
}

/// Modules, firmware and their settings are as the kernel stage gave them.
///
/// # Errors
/// [`StageError::Gate`] with the files.
pub fn check_modules(script: &str, layer: &Manifest) -> Result<(), StageError> {
    let files = touched(layer);
    if files.is_empty() {
        return Ok(());
    }
    let shown: Vec<&str> = files.iter().take(8).map(String::as_str).collect();
    let more = if files.len() > shown.len() { format!(" and {} more", files.len() - shown.len()) } else { String::new() };
    Err(StageError::Gate {
        problem: format!("`{script}` changes what the initrd is made of: {}{more}", shown.join(", ")),
        help: "let the initrd take them: [initrd] modules_from = \"rootfs\" (every change of the image then rebuilds the initrd), or install them with packages: [kernel] firmware_packages = [...]".to_owned(),
    })
}

/// Mounts that the recipe declares are still in fstab.
///
/// # Errors
/// [`StageError::Gate`] with the mounts that are gone.
pub fn check_fstab<'a>(script: &str, fstab: &str, declared: impl Iterator<Item = (&'a String, &'a String)>) -> Result<(), StageError> {
    let gone: Vec<String> = declared
        .filter(|(path, size)| {
            !fstab.lines().any(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                words.get(1) == Some(&path.as_str()) && words.get(3).is_some_and(|options| options.split(',').any(|option| option == format!("size={size}")))
            })
        })
        .map(|(path, size)| format!("{path} with {size}"))
        .collect();
    if gone.is_empty() {
        return Ok(());
    }
    Err(StageError::Gate {
        problem: format!("`{script}` removes mounts that the recipe declares from /etc/fstab: {}", gone.join(", ")),
        help: "let the script add its lines (>>) instead of replacing the file, or remove them from [boot] tmpfs".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Entry;

    #[test]
    fn a_module_that_the_script_adds_is_named() {
        let mut manifest = Manifest::default();
        let file = Entry { kind: crate::store::Kind::Fifo, ..Entry::whiteout() };
        manifest.0.insert("usr/lib/modules/6.1/modules.dep".into(), file.clone());
        assert!(check_modules("x", &manifest).is_ok());
        manifest.0.insert("usr/lib/modules/6.1/updates/a.ko".into(), file);
        assert!(check_modules("x", &manifest).unwrap_err().to_string().contains("updates/a.ko"));
    }

    #[test]
    fn a_mount_that_is_gone_is_named() {
        let declared = std::collections::BTreeMap::from([("/tmp".to_owned(), "50m".to_owned())]);
        assert!(check_fstab("x", "tmpfs /tmp tmpfs size=50m,nodev 0 0\n", declared.iter()).is_ok());
        assert!(check_fstab("x", "tmpfs /tmp tmpfs size=10m 0 0\n", declared.iter()).is_err());
    }
}
