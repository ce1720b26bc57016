//! What `push` and `pull` have in common: how a registry is asked, and how the command ends.

use std::path::PathBuf;

use crate::Exit;
use build::CarryError;
use oci::{Access, Archive, Destination, Layout, OciError, Place, Reference, Registry, Source};

/// How a registry is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct RegistryArguments {
    /// Certificates to check the registry's with, instead of the host's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Use HTTP without TLS, as is always done with registries on loopback addresses
    #[arg(long, conflicts_with = "ca")]
    pub plain_http: bool,
}

fn registry(
    arguments: &crate::Arguments,
    reference: &Reference,
    own: &RegistryArguments,
    mounts: Option<&[String]>,
) -> Result<Registry, OciError> {
    let mut access = Access { plain_http: own.plain_http, writes: mounts.is_some(), ..Access::default() };
    if let Some(ca) = &own.ca {
        let path = std::path::absolute(arguments.directory.join(ca)).map_err(OciError::keeping("find", ca))?;
        if !path.is_file() {
            let problem = format!("--ca {} is not a file", ca.display());
            return Err(OciError::Usage { problem, help: "name a file with certificates in PEM form" });
        }
        access.ca = Some(path);
    }
    for name in mounts.unwrap_or_default() {
        if format!("{}/{name}", reference.registry).parse::<Reference>().is_ok_and(|one| one.name == *name) {
            access.mounts.push(name.clone());
        } else {
            let problem = format!("--mount-from {name} is not the name of a repository");
            return Err(OciError::Usage {
                problem,
                help: "write it without the registry and a tag: --mount-from site/compute",
            });
        }
    }
    Registry::new(reference, access)
}

pub(crate) fn destination(
    arguments: &crate::Arguments,
    place: &Place,
    own: &RegistryArguments,
    mounts: &[String],
) -> Result<Box<dyn Destination>, OciError> {
    Ok(match place {
        Place::Registry(reference) if reference.digest.is_some() => {
            let problem = format!("{reference} has a digest, which follows from what is pushed");
            return Err(OciError::Usage { problem, help: "name a tag: oci://REGISTRY/NAME:TAG" });
        }
        Place::Registry(reference) if reference.tag.is_none() => {
            let problem = format!("{reference} has no tag");
            return Err(OciError::Usage { problem, help: "name one: oci://REGISTRY/NAME:TAG" });
        }
        Place::Registry(reference) => Box::new(registry(arguments, reference, own, Some(mounts))?),
        Place::Layout(directory, tag) => Box::new(Layout::make(&arguments.directory.join(directory), tag.as_deref())?),
        Place::Archive(file, tag) => Box::new(Archive::make(&arguments.directory.join(file), tag.as_deref())?),
    })
}

pub(crate) fn source(
    arguments: &crate::Arguments,
    place: &Place,
    own: &RegistryArguments,
) -> Result<Box<dyn Source>, OciError> {
    Ok(match place {
        Place::Registry(reference) => Box::new(registry(arguments, reference, own, None)?),
        Place::Layout(directory, tag) => Box::new(Layout::new(&arguments.directory.join(directory), tag.as_deref())),
        Place::Archive(file, tag) => Box::new(Layout::packed(&arguments.directory.join(file), tag.as_deref())?),
    })
}

pub(crate) fn exit(error: &CarryError) -> Exit {
    match error {
        CarryError::Oci(error) => error.into(),
        CarryError::Stage(error) => error.into(),
        CarryError::NotBuilt { .. } => Exit::Input,
    }
}

pub(crate) fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
