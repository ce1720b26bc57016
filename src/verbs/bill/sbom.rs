//! `imgbuild sbom`: prints the bill of materials of a published image.

use std::path::PathBuf;

use super::facts::{Which, write};
use crate::Exit;

/// Arguments of `sbom`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    pub which: Which,
    /// The lock that the image was built by [default: image.lock in its directory, or else next to its recipe]
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// Format
    #[arg(long, value_name = "FORMAT", default_value = "spdx")]
    pub format: Format,
    /// Write it to this file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Formats of a bill of materials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// SPDX 2.3, JSON
    Spdx,
    /// CycloneDX 1.6, JSON
    Cyclonedx,
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    let published = own.which.find(arguments)?;
    let lock = published.lock(arguments, own.lock.as_deref())?;
    let (bill, _) = published.bill(lock.as_ref())?;
    let text = bill.document(match own.format {
        Format::Spdx => bill::Format::Spdx,
        Format::Cyclonedx => bill::Format::CycloneDx,
    });
    write(arguments, own.output.as_deref(), &text)
}
