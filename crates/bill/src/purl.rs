//! Package URLs. Source: <https://github.com/package-url/purl-spec>, and for `upstream` what syft writes and grype reads: advisories
//! are by source package, and a package URL has no other place for it.

use std::fmt::Write;

/// A text in which all but letters, digits, `.-_~:` is percent-encoded.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => out.push(char::from(byte)),
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

/// The package URL of something that no package manager knows, by its type. Source: purl-spec, types `golang`, `cargo`, `pypi`,
/// `maven` and `generic`: namespaces are before a slash, Maven's before a colon here.
pub(crate) fn purl_of_type(kind: &str, name: &str, version: &str) -> String {
    let (name, version) = match kind {
        // Go's standard library is numbered without the letter.
        "golang" if name == "stdlib" => (name.to_owned(), version.to_owned()),
        "golang" => (name.to_owned(), format!("v{version}")),
        "maven" => (name.replacen(':', "/", 1), version.to_owned()),
        _ => (name.to_owned(), version.to_owned()),
    };
    let name: Vec<String> = name.split('/').filter(|part| !part.is_empty()).map(encoded).collect();
    format!("pkg:{kind}/{}@{}", name.join("/"), encoded(&version))
}

/// The family of package managers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Deb,
    Rpm,
}

impl Kind {
    /// What package URLs have as the architecture of a source package. Source: purl-spec, types `deb` and `rpm`.
    pub(crate) fn source_architecture(self) -> &'static str {
        match self {
            Self::Deb => "source",
            Self::Rpm => "src",
        }
    }
}

/// The package URL of a package; qualifiers without a value are left out, the others sorted.
pub(crate) fn purl(kind: Kind, namespace: &str, name: &str, version: &str, qualifiers: &[(&str, &str)]) -> String {
    let (kind, epoch, version) = match (kind, version.split_once(':')) {
        (Kind::Rpm, Some((epoch, version))) => ("rpm", epoch, version),
        (Kind::Rpm, None) => ("rpm", "", version),
        (Kind::Deb, _) => ("deb", "", version),
    };
    let mut all: Vec<(&str, &str)> = qualifiers.iter().copied().chain([("epoch", epoch)]).collect();
    all.retain(|(_, value)| !value.is_empty());
    all.sort_unstable();
    let all: Vec<String> = all.into_iter().map(|(key, value)| format!("{key}={}", encoded(value))).collect();
    let mut out = format!("pkg:{kind}/{}/{}", encoded(&namespace.to_lowercase()), encoded(name));
    for (mark, text) in [('@', encoded(version)), ('?', all.join("&"))] {
        if !text.is_empty() {
            out.push(mark);
            out.push_str(&text);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As packageurl-python 0.17.6 writes them.
    #[test]
    fn package_urls_are_those_of_the_specification() {
        let deb = |name, version, qualifiers: &[(&str, &str)]| purl(Kind::Deb, "debian", name, version, qualifiers);
        assert_eq!(
            deb("bash", "5.2.15-2+b7", &[("distro", "debian-12"), ("arch", "amd64")]),
            "pkg:deb/debian/bash@5.2.15-2%2Bb7?arch=amd64&distro=debian-12"
        );
        assert_eq!(
            deb("libpam0g", "1:1.5.2-6+deb12u1", &[("arch", "amd64"), ("upstream", "")]),
            "pkg:deb/debian/libpam0g@1:1.5.2-6%2Bdeb12u1?arch=amd64"
        );
        assert_eq!(
            deb("libstdc++6", "12.2.0-14~a^b", &[("upstream", "gcc-12@12.2.0")]),
            "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14~a%5Eb?upstream=gcc-12%4012.2.0"
        );
        assert_eq!(
            purl(Kind::Rpm, "Rocky", "kernel", "0:5.14.0-427.13.1.el9_4", &[("arch", "x86_64")]),
            "pkg:rpm/rocky/kernel@5.14.0-427.13.1.el9_4?arch=x86_64&epoch=0"
        );
        // Nothing in a version is a qualifier of its own.
        assert_eq!(deb("a", "1?arch=x#y&z/", &[]), "pkg:deb/debian/a@1%3Farch%3Dx%23y%26z%2F");
    }

    #[test]
    fn what_comes_from_no_package_manager_has_the_url_of_its_kind() {
        for (kind, name, version, url) in [
            ("golang", "golang.org/x/net", "0.17.0", "pkg:golang/golang.org/x/net@v0.17.0"),
            ("golang", "stdlib", "1.22.3", "pkg:golang/stdlib@1.22.3"),
            ("cargo", "time", "0.1.40", "pkg:cargo/time@0.1.40"),
            ("maven", "org.apache:log4j-core", "2.14.1", "pkg:maven/org.apache/log4j-core@2.14.1"),
            ("generic", "igb", "5.16.1+x", "pkg:generic/igb@5.16.1%2Bx"),
        ] {
            assert_eq!(purl_of_type(kind, name, version), url);
        }
    }
}
