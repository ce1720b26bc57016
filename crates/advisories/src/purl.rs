//! Package URLs. Source: github.com/package-url/purl-spec.

/// A package URL; all parts are decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Purl {
    /// `deb`, `rpm`, `generic`, `oci` …
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) qualifiers: Vec<(String, String)>,
}

impl Purl {
    /// Reads `pkg:TYPE/NAMESPACE/NAME@VERSION?KEY=VALUE&..#SUBPATH`; none for other text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("pkg:")?.trim_start_matches('/');
        let rest = rest.split('#').next().unwrap_or_default();
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (kind, path) = rest.split_once('/')?;
        // A version has no slash as it is; behind a scope (`@types/x`) the name follows.
        let (path, version) = match path.rsplit_once('@') {
            Some((path, version)) if !version.contains('/') && !path.is_empty() => (path, Some(decoded(version))),
            _ => (path, None),
        };
        let (namespace, name) = path.rsplit_once('/').unwrap_or(("", path));
        let qualifiers = query.split('&').filter_map(|pair| pair.split_once('='));
        let name = decoded(name);
        (!name.is_empty()).then(|| Self {
            kind: kind.to_ascii_lowercase(),
            namespace: decoded(namespace).to_ascii_lowercase(),
            name,
            version: version.filter(|version| !version.is_empty()),
            qualifiers: qualifiers.map(|(key, value)| (key.to_ascii_lowercase(), decoded(value))).collect(),
        })
    }

    pub(crate) fn qualifier(&self, name: &str) -> Option<&str> {
        self.qualifiers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The version with the epoch that RPM's package URLs keep apart.
    pub(crate) fn full_version(&self) -> Option<String> {
        let version = self.version.as_ref()?;
        Some(match self.qualifier("epoch").filter(|epoch| *epoch != "0") {
            Some(epoch) => format!("{epoch}:{version}"),
            None => version.clone(),
        })
    }

    /// The stream of a module that a package is of: `rpmmod=ruby:2.6` among the qualifiers, or `pkg:rpmmod/redhat/ruby:2.6/ruby`.
    pub(crate) fn stream(&self) -> Option<String> {
        let of_namespace =
            || self.namespace.split_once('/').filter(|_| self.kind == "rpmmod").map(|(_, stream)| stream);
        let text = self.qualifier("rpmmod").or_else(of_namespace)?;
        // Version and context of a build may follow.
        let mut parts = text.split(':');
        Some(format!("{}:{}", parts.next()?, parts.next()?))
    }

    /// Whether it is of a source package.
    pub(crate) fn is_source(&self) -> bool {
        matches!(self.qualifier("arch"), Some("source" | "src"))
    }
}

/// Undoes `%XX`; what is not UTF-8 then is replaced.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (first, digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_parts_are_decoded() {
        let purl = Purl::parse("pkg:deb/debian/bash@5.2.15-2%2Bb7?arch=amd64&distro=debian-12").unwrap();
        assert_eq!((purl.name.as_str(), purl.full_version().as_deref()), ("bash", Some("5.2.15-2+b7")));
        assert_eq!(purl.qualifier("distro"), Some("debian-12"));
        let purl = Purl::parse("pkg:rpm/rocky/bind@9.16-1.el9?arch=src&epoch=32").unwrap();
        assert_eq!((purl.full_version().as_deref(), purl.is_source()), (Some("32:9.16-1.el9"), true));
        let purl = Purl::parse("pkg:deb/debian/libpam0g@1:1.5.2-6%2Bdeb12u1?arch=amd64").unwrap();
        assert_eq!(purl.full_version().as_deref(), Some("1:1.5.2-6+deb12u1"));
        assert_eq!(Purl::parse("pkg:generic/compute").unwrap().namespace, "");
        for (text, stream) in [
            ("pkg:rpmmod/redhat/ruby:2.6/ruby", Some("ruby:2.6")),
            ("pkg:rpm/redhat/ruby?arch=src&rpmmod=ruby:2.6", Some("ruby:2.6")),
            ("pkg:rpm/redhat/ruby?rpmmod=ruby:2.6:8100:ab", Some("ruby:2.6")),
            ("pkg:rpmmod/redhat/ruby@2.6", None),
            ("pkg:rpm/redhat/ruby", None),
        ] {
            assert_eq!(Purl::parse(text).unwrap().stream().as_deref(), stream, "{text}");
        }
        assert!(
            Purl::parse("cpe:/o:x").is_none() && Purl::parse("pkg:deb").is_none() && Purl::parse("pkg:deb/").is_none()
        );
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(text in "pkg:\\PC{0,40}", bytes in "pkg:[%/@?&=a0]{0,30}") {
            let _ = (Purl::parse(&text), Purl::parse(&bytes));
        }
    }
}
