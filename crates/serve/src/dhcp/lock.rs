//! Which server answers for the nodes of a state: one at a time.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::Places;
use crate::error::ServeError;

/// Held as long as the server runs: the kernel lets go of it whatever ends the process.
pub(super) struct Lock {
    #[allow(dead_code, reason = "what counts is that it is open")]
    file: File,
}

impl Lock {
    /// Takes it for a server at an address, and says who has it otherwise.
    /// Errors: Another server answers for the same nodes, or the file cannot be made.
    pub(super) fn take(places: &Places, address: &str) -> Result<Self, ServeError> {
        let path = places.home.join("serving");
        let failed = |error: std::io::Error| super::process::cannot_write("its lock", &error);
        std::fs::create_dir_all(&places.home).map_err(failed)?;
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(taken(&mut file, &path));
        }
        let text = format!("{address} (process {})\n", std::process::id());
        file.set_len(0).and_then(|()| file.write_all(text.as_bytes())).map_err(failed)?;
        Ok(Self { file })
    }
}

fn taken(file: &mut File, path: &Path) -> ServeError {
    let mut text = String::new();
    let _ = file.take(200).read_to_string(&mut text);
    let who = text
        .lines()
        .next()
        .filter(|line| !line.is_empty())
        .unwrap_or("it has not yet said where")
        .escape_debug()
        .to_string();
    ServeError::dhcp_machine(
        format!("another server already answers for these nodes by dnsmasq: {who}"),
        format!(
            "end that one first, or serve files and boot scripts alone: `imgbuild serve` without --dnsmasq, with another --listen; {} is held by it",
            path.display()
        ),
    )
}
