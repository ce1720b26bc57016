//! Programs of another CPU that a script or a synclist brought: no node of the image can run them.

use std::io::Read;

use serde::{Deserialize, Serialize};

use base::digest::Digest;
use base::source::{Finding, Severity};
use recipe::Arch;
use sandbox::helper::News;
use store::{Kind, LayerReader};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProgramsRequest {
    /// The layers that no package made.
    pub layers: Vec<Digest>,
    pub arch: Arch,
}

/// Runs inside: paths of programs and libraries for another CPU, in order.
pub(crate) fn inside(request: ProgramsRequest, _: News<'_>) -> Result<Vec<String>, String> {
    let reader = LayerReader::open(&request.layers)?;
    let mut found = Vec::new();
    for (path, one) in &reader.tree.0 {
        let Kind::File { size, digest } = one.entry.kind else { continue };
        // Firmware is often for a CPU of its own.
        if size < 20 || path.starts_with("usr/lib/firmware/") {
            continue;
        }
        let mut head = [0; 20];
        let mut file =
            reader.open_in(one.layer, path, (size, &digest)).map_err(|error| format!("`{path}`: {error}"))?;
        file.read_exact(&mut head).map_err(|error| format!("`{path}`: {error}"))?;
        if is_of_another(&head, request.arch) {
            found.push(path.clone());
        }
    }
    Ok(found)
}

/// Whether the start of a file is that of a program or a library which the CPU does not run. Source: elf(5), linux/elf-em.h.
fn is_of_another(head: &[u8; 20], arch: Arch) -> bool {
    // Executables and shared ones; of CPUs with this order of bytes there are all that images may have.
    let is_program = head.starts_with(b"\x7fELF") && head[5] == 1 && matches!(head[16], 2 | 3) && head[17] == 0;
    let machine = u16::from_le_bytes([head[18], head[19]]);
    let runs: &[u16] = match arch {
        // Those of 32 bits, too: i386, Arm.
        Arch::X86_64 => &[62, 3],
        Arch::Aarch64 => &[183, 40],
        Arch::Ppc64le => &[21],
    };
    // BPF (247) and what accelerators run is data to this CPU.
    is_program && [62, 3, 183, 40, 21, 243].contains(&machine) && !runs.contains(&machine)
}

pub(crate) fn finding(paths: &[String], arch: Arch) -> Option<Finding> {
    let first = paths.first()?;
    let more = if paths.len() > 1 { format!(" and {} more", paths.len() - 1) } else { String::new() };
    let text = format!("/{first}{more} cannot run on nodes: it is a program for a CPU other than {}", arch.machine());
    let help = "bring the one for the image's CPU: a synclist or postinstall script copied it as it is on this host";
    Some(Finding::nowhere(Severity::Warning, "gate::other_cpu", text).help(help.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_of_the_cpu_that_its_first_bytes_name() {
        let head = |kind: u8, machine: u8| {
            let mut head = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\0\0\0\0";
            (head[16], head[18]) = (kind, machine);
            head
        };
        assert!(is_of_another(&head(2, 62), Arch::Aarch64) && is_of_another(&head(3, 183), Arch::X86_64));
        assert!(!is_of_another(&head(3, 62), Arch::X86_64) && !is_of_another(&head(2, 3), Arch::X86_64));
        // Object files (modules have a gate of their own), BPF, texts.
        assert!(!is_of_another(&head(1, 62), Arch::Aarch64) && !is_of_another(&head(3, 247), Arch::X86_64));
        assert!(!is_of_another(b"#!/bin/sh\nexit 0 # x", Arch::Aarch64));
    }
}
