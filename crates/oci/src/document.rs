//! Manifests and what they name. A document that came is never written again: its digest is that of the bytes that came.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use base::digest::Sha256;

/// Kinds of documents and of blobs.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const EMPTY_CONFIG: &str = "application/vnd.oci.empty.v1+json";
pub const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The content of a config that says nothing. Source: image-spec, "Guidance for an Empty Descriptor".
pub const EMPTY: &[u8] = b"{}";

/// Annotation with the name of a file.
pub const TITLE: &str = "org.opencontainers.image.title";

/// Bytes of a manifest at most. Registries need not take more. Source: distribution-spec, "Pushing Manifests".
pub const ARTIFACT_LIMIT: u64 = 4 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    #[serde(with = "prefixed")]
    pub digest: Sha256,
    pub size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, Sha256::of(bytes), bytes.len() as u64)
    }

    pub fn new(media_type: &str, digest: Sha256, size: u64) -> Self {
        Self { media_type: media_type.to_owned(), digest, size, annotations: BTreeMap::new() }
    }

    #[must_use]
    pub fn titled(mut self, name: &str) -> Self {
        self.annotations.insert(TITLE.to_owned(), name.to_owned());
        self
    }

    pub fn title(&self) -> Option<&str> {
        self.annotations.get(TITLE).map(String::as_str)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    /// Older writers leave it out.
    #[serde(default)]
    pub media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    /// What it is about: it is a referrer of that. Source: image-spec 1.1, "Image Manifest", `subject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Makes one of its parts, in OCI's form.
    pub fn new(artifact_type: Option<&str>, config: Descriptor, layers: Vec<Descriptor>) -> Self {
        let artifact_type = artifact_type.map(str::to_owned);
        let annotations = BTreeMap::new();
        let media_type = MANIFEST.to_owned();
        Self { schema_version: 2, media_type, artifact_type, config, layers, subject: None, annotations }
    }

    /// The bytes: fields in a fixed order, annotations sorted.
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what came.
    /// Errors: What it is instead.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Kind {
            #[serde(default)]
            media_type: String,
            #[serde(default)]
            manifests: Vec<serde::de::IgnoredAny>,
        }
        let kind: Kind = serde_json::from_slice(bytes).map_err(|error| format!("has an invalid manifest: {error}"))?;
        if kind.media_type == INDEX || !kind.manifests.is_empty() {
            return Err("is an index of images for several platforms".to_owned());
        }
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|error| format!("has an invalid manifest: {error}"))?;
        if manifest.schema_version != 2 && !fault::planted("oci-any-schema")
            || !["", MANIFEST].contains(&manifest.media_type.as_str())
        {
            return Err(format!("has a manifest of the kind `{}`", manifest.media_type.escape_default()));
        }
        Ok(manifest)
    }
}

/// The document of a layout that names its manifests. What is not known here is kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Index {
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    #[serde(default)]
    pub manifests: Vec<Named>,
    #[serde(flatten)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Named {
    #[serde(rename = "mediaType")]
    pub media_type: String,
    #[serde(with = "prefixed")]
    pub digest: Sha256,
    pub size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(flatten)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}

/// Digests with the name of their kind before them.
mod prefixed {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use base::digest::Sha256;

    pub(super) fn serialize<S: Serializer>(digest: &Sha256, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("sha256:{digest}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sha256, D::Error> {
        let text = String::deserialize(deserializer)?;
        let hex = text.strip_prefix("sha256:").ok_or_else(|| D::Error::custom("a digest is not of SHA-256"))?;
        Sha256::parse(hex).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_have_the_same_bytes_and_are_read_back() {
        let layer = Descriptor::of("application/x", b"text").titled("a");
        let mut manifest =
            Manifest::new(Some("application/vnd.x"), Descriptor::of(EMPTY_CONFIG, EMPTY), vec![layer.clone()]);
        manifest.annotations.insert("b".to_owned(), "2".to_owned());
        manifest.annotations.insert("a".to_owned(), "1".to_owned());
        let bytes = manifest.bytes();
        assert_eq!(bytes, manifest.clone().bytes());
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.starts_with(
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType""#
        ));
        assert!(text.contains("sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"), "{text}");
        assert_eq!(Manifest::parse(&bytes).unwrap(), manifest);
        assert_eq!(Manifest::parse(&bytes).unwrap().layers[0].title(), Some("a"));
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let good =
            String::from_utf8(Manifest::new(None, Descriptor::of(EMPTY_CONFIG, EMPTY), Vec::new()).bytes()).unwrap();
        for (text, said) in [
            ("{".to_owned(), "invalid manifest"),
            (format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[]}}"#), "several platforms"),
            (r#"{"schemaVersion":2,"manifests":[{}]}"#.to_owned(), "several platforms"),
            (good.replace("\"schemaVersion\":2", "\"schemaVersion\":1"), "manifest of the kind"),
            (good.replace(MANIFEST, "application/vnd.docker.distribution.manifest.v1+json"), "manifest of the kind"),
            (good.replace("sha256:", "sha512:"), "not of SHA-256"),
            (good.replace("\"size\":2", "\"size\":-2"), "invalid manifest"),
        ] {
            let problem = Manifest::parse(text.as_bytes()).unwrap_err();
            assert!(problem.contains(said), "{text}: {problem}");
        }
    }
}
