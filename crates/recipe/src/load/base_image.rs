//! The container image that a root file system begins with, as a recipe writes it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

pub const BASE_IMAGE_FORMS: &str = "write ‹[image] from = \"oci:REGISTRY/NAME:TAG\"›, with @sha256:DIGEST behind it for exactly one image; or ‹[image] from = \"oci:./DIRECTORY\"› for a directory in OCI's layout";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaseImage {
    /// `REGISTRY/NAME[:TAG][@sha256:DIGEST]`.
    Registry(String),
    /// A directory in OCI's layout, from the recipe's directory on, and what follows it: `[:TAG][@sha256:DIGEST]`.
    Layout(PathBuf, String),
}

/// What begins each form, and whether a directory follows whatever it looks like.
const STARTS: [(&str, bool); 3] = [("oci-layout:", true), ("oci://", false), ("oci:", false)];

fn is_directory(rest: &str) -> bool {
    rest.starts_with(['.', '/'])
}

fn split_directory(rest: &str) -> (&str, &str) {
    let end = rest.find("@sha256:").unwrap_or(rest.len());
    let at = rest[..end].rfind(':').filter(|at| !rest[*at..end].contains('/')).unwrap_or(end);
    rest.split_at(at)
}

impl FromStr for BaseImage {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let start = STARTS.iter().find_map(|(start, always)| Some((text.strip_prefix(start)?, *always)));
        let (rest, always) = start.ok_or("it does not begin with `oci:`")?;
        if rest.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
            return Err("it has a space");
        }
        if let Some((_, digest)) = rest.split_once('@')
            && digest.strip_prefix("sha256:").is_none_or(|hex| base::digest::Sha256::parse(hex).is_err())
        {
            return Err(if rest.contains("@sha") {
                "behind the `@` are not `sha256:` and 64 hexadecimal digits"
            } else {
                "it has a user or a password: `podman login REGISTRY` keeps them apart"
            });
        }
        if always || is_directory(rest) {
            let (directory, version) = split_directory(rest);
            if directory.is_empty() {
                return Err("it names no directory");
            }
            return Ok(Self::Layout(directory.into(), version.to_owned()));
        }
        match rest.split_once('/') {
            Some((registry, name)) if !registry.is_empty() && !name.is_empty() => Ok(Self::Registry(rest.to_owned())),
            // As docker has it, where a name without a registry means one that is nowhere said.
            _ => Err("it names no registry: Docker's own is `docker.io/library`"),
        }
    }
}

/// The same text where a relative directory starts in `recipe` instead of `folder`; `path` changes paths.
pub fn moved_base_image(text: &str, path: &dyn Fn(&str) -> String) -> String {
    let Ok(BaseImage::Layout(directory, version)) = text.parse() else { return text.to_owned() };
    let start = STARTS.iter().find(|(start, _)| text.starts_with(start)).map_or("oci:", |(start, _)| start);
    let moved = path(&directory.display().to_string());
    let dot = if is_directory(&moved) || Path::new(&moved).is_absolute() { "" } else { "./" };
    format!("{start}{dot}{moved}{version}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_and_directories_are_told_apart() {
        let digest = "0123456789abcdef".repeat(4);
        let registry = |text: &str| BaseImage::Registry(text.to_owned());
        let layout = |directory: &str, version: &str| BaseImage::Layout(directory.into(), version.to_owned());
        for (text, expected) in [
            ("oci:r.test/a/b:1".to_owned(), registry("r.test/a/b:1")),
            ("oci://r.test:5000/a".to_owned(), registry("r.test:5000/a")),
            (format!("oci:r.test/a:1@sha256:{digest}"), registry(&format!("r.test/a:1@sha256:{digest}"))),
            ("oci:./base".to_owned(), layout("./base", "")),
            ("oci:../base:12".to_owned(), layout("../base", ":12")),
            ("oci:/srv/a:b/base:12".to_owned(), layout("/srv/a:b/base", ":12")),
            ("oci-layout:base:12".to_owned(), layout("base", ":12")),
            (format!("oci:./base@sha256:{digest}"), layout("./base", &format!("@sha256:{digest}"))),
        ] {
            assert_eq!(text.parse::<BaseImage>(), Ok(expected), "{text}");
        }
        for (text, problem) in [
            ("debian:12", "begin with"),
            ("docker://debian", "begin with"),
            ("oci:debian:12", "docker.io/library"),
            ("oci:u:p@r.test/a", "podman login"),
            ("oci:r.test/a@sha256:12", "64 hexadecimal"),
            ("oci:r.test/a b", "space"),
            ("oci-layout:", "no directory"),
            ("oci:", "no registry"),
        ] {
            let said = text.parse::<BaseImage>().unwrap_err();
            assert!(said.contains(problem), "{text}: {said}");
        }
    }

    #[test]
    fn relative_directories_alone_move() {
        let path = |path: &str| {
            crate::between(Path::new("/w/images/a"), &crate::plain(&Path::new("/w/base").join(path)))
                .display()
                .to_string()
        };
        for (text, moved) in [
            ("oci:./x:1", "oci:../../base/x:1"),
            ("oci-layout:x", "oci-layout:../../base/x"),
            ("oci:../images/a/y:2", "oci:./y:2"),
            ("oci:r.test/x:1", "oci:r.test/x:1"),
        ] {
            assert_eq!(moved_base_image(text, &path), moved);
        }
    }
}
