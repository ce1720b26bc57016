//! Manifests: what has a name.

use std::io::Read;

use ureq::http::Method;

use super::super::client::{Ask, Payload, Trouble};
use super::super::document::{ARTIFACT_LIMIT, INDEX, MANIFEST};
use super::super::error::OciError;
use super::super::reference::is_tag;
use super::keeping::Tags;
use super::{Registry, header};
use base::digest::Sha256;
use packages::{Paced, pause};

/// How many tags a message names.
const TAGS: usize = 12;

impl Registry {
    pub fn named(&self, version: &str) -> Result<Option<Vec<u8>>, OciError> {
        self.named_in(version, &[MANIFEST, INDEX])
    }

    /// What it was opened for: a digest, or else a tag.
    pub(crate) fn version(&self) -> String {
        self.0.reference.version()
    }

    /// The document of one of some kinds that has a name.
    pub(crate) fn named_in(&self, version: &str, kinds: &[&str]) -> Result<Option<Vec<u8>>, OciError> {
        let url = format!("{}/manifests/{version}", self.0.base());
        let asked = version.strip_prefix("sha256:").and_then(|hex| Sha256::parse(hex).ok());
        let accept = kinds.join(", ");
        let doing = "get the manifest";
        let mut last = String::new();
        for attempt in 0..self.0.tries() {
            pause(attempt);
            let headers = &[("accept", accept.as_str())];
            let ask = Ask { method: &Method::GET, url: &url, headers, payload: Payload::None, doing };
            let response = match self.0.once(ask, &[404]) {
                Ok(response) if response.status().as_u16() == 404 => return Ok(None),
                Ok(response) => response,
                Err(Trouble::Last(error)) => return Err(error),
                Err(Trouble::Again(problem)) => {
                    last = problem;
                    continue;
                }
            };
            let said = header(&response, "docker-content-digest").map(str::to_owned);
            let mut bytes = Vec::new();
            let body = Paced::new(response.into_body().into_reader(), self.0.patience());
            if let Err(error) = body.take(ARTIFACT_LIMIT + 1).read_to_end(&mut bytes) {
                last = error.to_string();
                continue;
            }
            if bytes.len() as u64 > ARTIFACT_LIMIT {
                let problem = format!("has a manifest of more than {ARTIFACT_LIMIT} bytes");
                return Err(OciError::NotAnImage { place: self.0.place(), problem });
            }
            let found = Sha256::of(&bytes);
            let said = said.and_then(|text| text.strip_prefix("sha256:").and_then(|hex| Sha256::parse(hex).ok()));
            if let Some(expected) = asked.or(said).filter(|expected| *expected != found) {
                let what = "the manifest".to_owned();
                return Err(OciError::Digest { what, place: self.0.place(), expected, found });
            }
            return Ok(Some(bytes));
        }
        Err(self.0.unreached(doing, last))
    }

    /// Gives a manifest a name; what it names is there.
    pub fn name(&self, manifest: &[u8], digest: Sha256, version: &str) -> Result<(), OciError> {
        self.put(manifest, digest, version, MANIFEST).map(drop)
    }

    /// The same of a document of a kind. Gives whether the registry has seen its subject.
    pub(super) fn put(&self, manifest: &[u8], digest: Sha256, version: &str, kind: &str) -> Result<bool, OciError> {
        if manifest.len() as u64 > ARTIFACT_LIMIT {
            let problem = format!("the manifest has {} bytes; registries take {ARTIFACT_LIMIT}", manifest.len());
            return Err(OciError::Usage {
                problem,
                help: "choose a format with fewer frames: ‹[pack] archive = \"squashfs\"›",
            });
        }
        let url = format!("{}/manifests/{version}", self.0.base());
        let ask = Ask {
            method: &Method::PUT,
            url: &url,
            headers: &[("content-type", kind)],
            payload: Payload::Bytes(manifest),
            doing: "take the manifest",
        };
        let response = self.0.ask(ask, &[])?;
        let expected = format!("sha256:{digest}");
        match header(&response, "docker-content-digest") {
            Some(other) if other != expected => {
                let found = other.strip_prefix("sha256:").and_then(|hex| Sha256::parse(hex).ok());
                let what = "the manifest".to_owned();
                let found = found.unwrap_or(Sha256([0; 32]));
                Err(OciError::Digest { what, place: self.0.place(), expected: digest, found })
            }
            _ => Ok(header(&response, "oci-subject").is_some()),
        }
    }

    /// An error for a name that is missing, with the names that there are.
    pub(crate) fn no_such_tag(&self) -> OciError {
        let url = format!("{}/tags/list", self.0.base());
        let doing = "list tags";
        let ask = Ask { method: &Method::GET, url: &url, headers: &[], payload: Payload::None, doing };
        let listed = self.0.once(ask, &[]).ok().and_then(|response| {
            let mut bytes = Vec::new();
            response.into_body().into_reader().take(1 << 20).read_to_end(&mut bytes).ok()?;
            serde_json::from_slice::<Tags>(&bytes).ok()?.tags
        });
        let mut tags: Vec<String> = listed.unwrap_or_default().into_iter().filter(|tag| is_tag(tag)).collect();
        tags.sort();
        let more = if tags.len() > TAGS { ", .." } else { "" };
        tags.truncate(TAGS);
        let help = match tags.is_empty() {
            true => "push it first: imgbuild push oci://REGISTRY/NAME:TAG; or check the name".to_owned(),
            false => format!("name one of its tags: {}{more}", tags.join(", ")),
        };
        OciError::NotThere { place: self.0.place(), answer: "the registry answers 404".to_owned(), help }
    }
}
