//! What a repository has, and removing from it. Source: opencontainers/distribution-spec 1.1, "Listing Tags" and "Content Management".

use std::io::Read;

use serde::Deserialize;
use ureq::http::Method;

use super::super::client::{Ask, Payload};
use super::super::error::OciError;
use super::super::reference::is_tag;
use super::{Registry, header};
use base::digest::Sha256;
use packages::Paced;

/// Most bytes of one answer, and how many answers one list has.
const LIST_LIMIT: u64 = 16 << 20;
const MOST_PAGES: usize = 10_000;

#[derive(Deserialize)]
pub(super) struct Tags {
    pub tags: Option<Vec<String>>,
}

impl Registry {
    /// All tags of the repository; none where it does not exist.
    /// Errors: [`OciError::Unreached`], [`OciError::Denied`], [`OciError::Refused`].
    pub fn tags(&self) -> Result<Vec<String>, OciError> {
        let doing = "list tags";
        let mut all: Vec<String> = Vec::new();
        for _ in 0..MOST_PAGES {
            let from = all.last().map(|last| format!("&last={last}")).unwrap_or_default();
            let url = format!("{}/tags/list?n=1000{from}", self.0.base());
            let ask = Ask { method: &Method::GET, url: &url, headers: &[], payload: Payload::None, doing };
            let response = self.0.ask(ask, &[404])?;
            if response.status().as_u16() == 404 {
                return Ok(all);
            }
            let has_more = header(&response, "link").is_some_and(|link| link.contains("rel=\"next\""));
            let mut bytes = Vec::new();
            let body = Paced::new(response.into_body().into_reader(), self.0.patience());
            let read = body.take(LIST_LIMIT).read_to_end(&mut bytes);
            read.map_err(|error| self.0.unreached(doing, error.to_string()))?;
            let tags: Tags =
                serde_json::from_slice(&bytes).map_err(|error| self.0.unreached(doing, error.to_string()))?;
            let before = all.len();
            all.extend(tags.tags.unwrap_or_default().into_iter().filter(|tag| is_tag(tag)));
            if !has_more || all.len() == before {
                return Ok(all);
            }
        }
        Err(self.0.unreached(doing, "its list has no end".to_owned()))
    }

    /// Removes a blob; one that is not there does not count.
    /// Errors: [`OciError::Refused`] where the registry removes nothing, as many do; [`OciError::Denied`], [`OciError::Unreached`].
    pub fn remove_blob(&self, digest: &Sha256) -> Result<(), OciError> {
        self.remove(&self.blob_url(digest), "remove a blob")
    }

    /// Removes the manifest that a tag names, by its digest, and so the tag.
    /// Errors: As [`Registry::remove_blob`].
    pub fn remove_named(&self, tag: &str) -> Result<(), OciError> {
        let version = match self.named(tag) {
            Ok(None) => return Ok(()),
            Ok(Some(bytes)) => format!("sha256:{}", Sha256::of(&bytes)),
            // It is not what its digest says: that is what it is known by.
            Err(OciError::Digest { expected, .. }) => format!("sha256:{expected}"),
            Err(error) => return Err(error),
        };
        self.remove(&format!("{}/manifests/{version}", self.0.base()), "remove a manifest")
    }

    fn remove(&self, url: &str, doing: &str) -> Result<(), OciError> {
        let ask = Ask { method: &Method::DELETE, url, headers: &[], payload: Payload::None, doing };
        self.0.ask(ask, &[404, 410]).map(drop)
    }
}
