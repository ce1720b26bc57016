//! Why no machine boots.

use miette::Diagnostic;
use thiserror::Error;

#[derive(Debug, Error, Diagnostic)]
pub enum BootError {
    #[error("`{program}` is not installed")]
    #[diagnostic(code(boot::no_qemu), help("install it: the package {packages}"))]
    NoQemu { program: String, packages: &'static str },
    #[error("there is no UEFI firmware for machines of {machine}")]
    #[diagnostic(code(boot::no_firmware), help("install it: the package {packages}"))]
    NoFirmware { machine: &'static str, packages: &'static str },
    #[error("machines of {machine} have no UEFI")]
    #[diagnostic(code(boot::no_uefi), help("remove --uefi"))]
    NoUefi { machine: &'static str },
    #[error("cannot copy the firmware's variables `{path}`: {source}")]
    #[diagnostic(code(boot::variables))]
    Variables { path: &'static str, source: std::io::Error },
    #[error("QEMU cannot be started: {0}")]
    #[diagnostic(code(boot::qemu))]
    Start(std::io::Error),
}
