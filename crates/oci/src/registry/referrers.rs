//! What is about a manifest, in a registry. Source: opencontainers/distribution-spec 1.1, "Pushing Manifests with Subject", "Listing
//! Referrers", "Referrers Tag Schema".

use std::io::Read;

use ureq::http::Method;

use super::super::client::{Ask, Payload};
use super::super::document::{ARTIFACT_LIMIT, INDEX, Index, MANIFEST, Manifest, Named};
use super::super::error::OciError;
use super::super::referrers::{about, chosen};
use super::Registry;
use base::digest::Sha256;
use packages::Paced;

/// The tag under which a registry without the API has the referrers.
fn fallback(subject: &Sha256) -> String {
    format!("sha256-{subject}")
}

/// Reads an index of referrers; what is not known of it is kept.
/// Errors: A text about what it is instead: a manifest has the same fields but one.
fn index_of(bytes: &[u8]) -> Result<Index, String> {
    let index: Index = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match index.rest.get("mediaType").map(|kind| kind.as_str().unwrap_or_default()) {
        Some(kind) if kind != INDEX => Err(format!("it is of the kind `{}`", kind.escape_debug())),
        _ if ["config", "layers", "fsLayers"].iter().any(|field| index.rest.contains_key(*field)) => {
            Err("it is the manifest of an image".to_owned())
        }
        _ => Ok(index),
    }
}

impl Registry {
    /// Pushes a manifest that is about another, by its digest. A registry that does not say that it has seen the subject does not know
    /// referrers: there they are listed under a tag.
    /// Errors: [`OciError`].
    pub(super) fn refer(&self, about: &Manifest) -> Result<(), OciError> {
        let bytes = about.bytes();
        let digest = Sha256::of(&bytes);
        let knows = self.put(&bytes, digest, &format!("sha256:{digest}"), MANIFEST)?;
        let Some(subject) = about.subject.as_ref().filter(|_| !knows) else { return Ok(()) };
        let tag = fallback(&subject.digest);
        let mut index = self.listed(&tag)?;
        let own = Named::referrer(about, digest, bytes.len() as u64);
        if index.manifests.iter().any(|one| one.digest == own.digest) {
            return Ok(());
        }
        index.schema_version = 2;
        index.rest.entry("mediaType").or_insert_with(|| INDEX.into());
        index.manifests.push(own);
        let bytes = serde_json::to_vec(&index).unwrap_or_default();
        self.put(&bytes, Sha256::of(&bytes), &tag, INDEX).map(drop)
    }

    /// The index under a tag; an empty one where the registry has nothing there.
    /// Errors: [`OciError::NotAnIndex`] for anything else: it is not overwritten.
    fn listed(&self, tag: &str) -> Result<Index, OciError> {
        let Some(bytes) = self.named_in(tag, &[INDEX])? else { return Ok(Index::default()) };
        index_of(&bytes).map_err(|problem| OciError::NotAnIndex { place: self.0.place(), tag: tag.to_owned(), problem })
    }

    /// The manifests that are about another.
    /// Errors: [`OciError`].
    pub(super) fn referrers(&self, subject: &Sha256, kinds: &[&str]) -> Result<Vec<Manifest>, OciError> {
        let url = format!("{}/referrers/sha256:{subject}", self.0.base());
        let doing = "list what is about the image";
        let headers = &[("accept", INDEX)];
        let ask = Ask { method: &Method::GET, url: &url, headers, payload: Payload::None, doing };
        // Registries of before answer with what they have for an unknown address.
        let response = self.0.ask(ask, &[400, 404, 405])?;
        let mut index = Index::default();
        if response.status().as_u16() == 200 {
            let mut bytes = Vec::new();
            let body = Paced::new(response.into_body().into_reader(), self.0.patience());
            let read = body.take(ARTIFACT_LIMIT).read_to_end(&mut bytes);
            read.map_err(|error| self.0.unreached(doing, error.to_string()))?;
            index = serde_json::from_slice(&bytes).map_err(|error| self.0.unreached(doing, error.to_string()))?;
        }
        // One that has the API since yesterday may not list what was pushed before.
        if index.manifests.is_empty() {
            index = self.listed(&fallback(subject))?;
        }
        let mut all = Vec::new();
        for one in chosen(&index, kinds) {
            // One that was removed meanwhile does not count.
            let bytes = self.named_in(&format!("sha256:{}", one.digest), &[MANIFEST])?;
            all.extend(bytes.and_then(|bytes| about(&bytes, subject, kinds)));
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_an_index_is_not_taken_for_an_empty_one() {
        let digest = Sha256::of(b"x");
        let good = format!(
            r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{MANIFEST}","digest":"sha256:{digest}","size":1}}],"annotations":{{"a":"b"}}}}"#
        );
        let index = index_of(good.as_bytes()).unwrap();
        assert_eq!((index.manifests.len(), index.rest.contains_key("annotations")), (1, true));
        assert!(index_of(br#"{"schemaVersion":2,"manifests":[]}"#).is_ok());
        for bad in [
            String::new(),
            "<html>".to_owned(),
            // A digest that this program does not know.
            good.replace("sha256:", "sha512:"),
            good.replace(INDEX, MANIFEST),
            good.replace("\"annotations\"", "\"config\""),
            good.replace(&format!("\"{INDEX}\""), "7"),
        ] {
            assert!(index_of(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
