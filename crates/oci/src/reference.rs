//! Names of what registries and layouts have.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use base::digest::Sha256;

/// Longest name of a repository, and longest tag. Source: distribution-spec, "Pulling manifests".
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;

/// What Docker's own registry is called, and where it answers.
const DOCKER: &str = "docker.io";
const DOCKER_HOST: &str = "registry-1.docker.io";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Host, with a port where one is named.
    pub registry: String,
    pub name: String,
    pub tag: Option<String>,
    pub digest: Option<Sha256>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Registry(Reference),
    /// A directory in OCI's layout, and the name there.
    Layout(PathBuf, Option<String>),
    Archive(PathBuf, Option<String>),
}

const FORMS: &str = "write oci://REGISTRY/NAME:TAG, oci-layout:DIR:TAG or oci-archive:FILE:TAG";

impl Reference {
    pub fn host(&self) -> &str {
        if self.registry == DOCKER { DOCKER_HOST } else { &self.registry }
    }

    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.registry)
    }

    /// What its manifest is asked by: a digest, or else a tag.
    pub fn version(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => format!("sha256:{digest}"),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    #[must_use]
    pub fn at(&self, digest: Sha256) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci://{}/{}", self.registry, self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@sha256:{digest}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, path, tag) = match self {
            Self::Registry(reference) => return reference.fmt(f),
            Self::Layout(path, tag) => ("oci-layout", path, tag),
            Self::Archive(path, tag) => ("oci-archive", path, tag),
        };
        write!(f, "{kind}:{}", path.display())?;
        tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (registry, rest) = text.split_once('/').ok_or_else(|| format!("it names no repository; {FORMS}"))?;
        if registry.contains('@') {
            return Err("it has a user or a password: `podman login REGISTRY` keeps them apart".to_owned());
        }
        if !is_registry(registry) {
            return Err(format!("`{registry}` is not the name of a host; {FORMS}"));
        }
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => {
                let hex = digest.strip_prefix("sha256:").and_then(|hex| Sha256::parse(hex).ok());
                let digest = hex.ok_or_else(|| format!("`{digest}` is not sha256: and 64 hexadecimal digits"))?;
                (rest, Some(digest))
            }
            None => (rest, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(format!("`{tag}` is not a tag: letters, digits, `.`, `_` and `-`, at most {LONGEST_TAG}"));
        }
        if !is_name(name) {
            return Err(format!(
                "`{name}` is not the name of a repository: lower-case letters, digits, and `.`, `_`, `-` or `/` between them"
            ));
        }
        let name = match registry == DOCKER && !name.contains('/') {
            true => format!("library/{name}"),
            false => name.to_owned(),
        };
        Ok(Self { registry: registry.to_owned(), name, tag: tag.map(str::to_owned), digest })
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("oci://") {
            return rest.parse().map(Self::Registry);
        }
        let (kind, rest) = text.split_once(':').ok_or_else(|| FORMS.to_owned())?;
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if is_tag(tag) => (path, Some(tag.to_owned())),
            _ => (rest, None),
        };
        if path.is_empty() {
            return Err(FORMS.to_owned());
        }
        match kind {
            "oci-layout" => Ok(Self::Layout(path.into(), tag)),
            "oci-archive" => Ok(Self::Archive(path.into(), tag)),
            _ => Err(FORMS.to_owned()),
        }
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_host = match text.starts_with('[') {
        true => host.parse::<std::net::Ipv6Addr>().is_ok(),
        false => host.chars().all(|letter| letter.is_ascii_alphanumeric() || ".-".contains(letter)),
    };
    is_host && !host.is_empty() && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Whether a host, with or without a port, is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => host,
        None => host.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

pub(crate) fn is_tag(text: &str) -> bool {
    text.len() <= LONGEST_TAG
        && text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter))
}

/// Whether a text can be the name of a repository. Source: distribution-spec, the expression for `<name>`.
pub(crate) fn is_name(text: &str) -> bool {
    let is_plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let is_part = |part: &str| {
        let separators = part.split(is_plain).filter(|between| !between.is_empty());
        part.starts_with(is_plain)
            && part.ends_with(is_plain)
            && separators
                .clone()
                .all(|between| matches!(between, "." | "_" | "__") || between.bytes().all(|b| b == b'-'))
    };
    text.len() <= LONGEST_NAME && text.split('/').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        let digest = "0123456789abcdef".repeat(4);
        for text in [
            "oci://registry.test/compute:1".to_owned(),
            "oci://localhost:5000/a/b-c/d__e.f:v1.2_x".to_owned(),
            format!("oci://[::1]:5000/x@sha256:{digest}"),
            format!("oci://127.0.0.1/x:t@sha256:{digest}"),
            "oci-layout:/srv/a:b:tag".to_owned(),
            "oci-archive:image.tar".to_owned(),
        ] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        let of = |text: &str| text.parse::<Reference>().unwrap();
        assert_eq!((of("docker.io/debian").host(), &of("docker.io/debian").name[..]), (DOCKER_HOST, "library/debian"));
        assert_eq!(of("r/x").version(), "latest");
        for loopback in ["localhost:5000/x", "127.0.0.1/x", "127.9.9.9:1/x", "[::1]/x"] {
            assert!(of(loopback).is_loopback(), "{loopback}");
        }
        for other in ["localhost.test/x", "128.0.0.1/x", "[::2]/x", "host/x"] {
            assert!(!of(other).is_loopback(), "{other}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_reason() {
        for (text, said) in [
            ("oci://registry", "no repository"),
            ("oci://u:p@registry/x:1", "podman login"),
            ("oci://registry/Upper:1", "lower-case"),
            ("oci://registry/a//b", "lower-case"),
            ("oci://registry/../x", "lower-case"),
            ("oci://registry/a.-b", "lower-case"),
            ("oci://registry/x:-", "not a tag"),
            ("oci://registry/x@sha256:12", "64 hexadecimal"),
            ("oci://registry/x@md5:12", "64 hexadecimal"),
            ("oci://host:port/x", "name of a host"),
            ("oci://ho st/x", "name of a host"),
            ("oci://[::1/x", "name of a host"),
            ("docker://x/y", "oci-layout:DIR"),
            ("registry/x", "oci-layout:DIR"),
            ("oci-layout:", "oci-layout:DIR"),
        ] {
            let problem = text.parse::<Place>().unwrap_err();
            assert!(problem.contains(said), "{text}: {problem}");
        }
    }
}
