//! A published image as a tree with its owners, modes and attributes.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::stage::inside::init::INIT;

/// Unpacks an image into an empty directory, by the program that does it on nodes; only root can.
pub fn unpack_published(published: &Path, rootimg: &str, into: &Path) -> Result<(), String> {
    let mut program = crate::sweep::file_in(&std::env::temp_dir(), "imgbuild-init-", 0o700)
        .map_err(|error| format!("a program cannot be written: {error}"))?;
    program.write_all(INIT).map_err(|error| format!("a program cannot be written: {error}"))?;
    // While it is open for writing it cannot be run; its lock says that it is in use.
    let program = program.into_temp_path();
    let held = std::fs::File::open(&program).and_then(|file| Ok(file.try_lock().map(|()| file)?));
    let index = published.join(format!("{rootimg}.index"));
    let ran = Command::new(&program).arg("unpack").arg(&index).arg(published.join(rootimg)).arg(into).output();
    drop(held);
    let ran = ran.map_err(|error| format!("`{}` cannot be run: {error}", program.display()))?;
    if ran.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ran.stdout).trim().trim_start_matches("imgbuild: ").to_owned();
    Err(format!("`{}` cannot be unpacked: {said}", published.join(rootimg).display()))
}
