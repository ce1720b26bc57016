//! What servers of files have, and removing from them: WebDAV (RFC 4918) and S3.

use std::io::{BufReader, Read};

use ureq::Body;
use ureq::http::Response;

use super::credentials::address::split_user;
use super::credentials::s3::{self, Verb};
use super::fetcher::{Client, Fetcher};
use super::pace::Paced;
use base::xml::{Event, Reader};

/// Most bytes of one answer, and how many answers one list has.
const LIST_LIMIT: u64 = 64 << 20;
const MOST_PAGES: usize = 10_000;

impl Fetcher {
    /// Asks without a body, by any method; of a bucket, the signed address is asked.
    pub(super) fn ask(
        &self,
        method: &str,
        (url, signed): (&str, Option<String>),
        headers: &[(&str, &str)],
    ) -> Result<Response<Body>, String> {
        let Client { agent, authorization, .. } = self.client(url)?;
        let mut request = ureq::http::Request::builder().method(method).uri(signed.as_deref().unwrap_or(url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let request = request.body(()).map_err(|error| error.to_string())?;
        let request = agent.configure_request(request).allow_non_standard_methods(true).build();
        agent.run(request).map_err(|error| error.to_string())
    }

    /// Removes a file of a server; one that is not there does not count.
    /// Errors: What the server answers, in words.
    pub fn delete(&self, url: &str) -> Result<(), String> {
        let url = split_user(url).0;
        let status = self.ask("DELETE", (&url, s3::signed(Verb::Delete, &url)), &[])?.status().as_u16();
        match status {
            200..300 | 404 | 410 => Ok(()),
            401 | 403 | 405 | 501 => Err(format!("the server removes no files (it answers {status})")),
            _ => Err(format!("the server answers {status}")),
        }
    }

    /// The names of all files in folders of two digits below an address; nothing where the server gives no lists.
    /// Errors: What the server answers, in words.
    pub fn list(&self, url: &str) -> Result<Option<Vec<String>>, String> {
        let url = split_user(url).0;
        if let Some(names) = self.bucket(&url)? {
            return Ok(Some(names));
        }
        let Some(folders) = self.folder(&url)? else { return Ok(None) };
        let mut names = Vec::new();
        // A folder names itself, too.
        for folder in folders.iter().filter(|name| name.len() == 2 && name.bytes().all(|one| one.is_ascii_hexdigit())) {
            let all = self.folder(&format!("{url}/{folder}"))?.unwrap_or_default();
            names.extend(all.into_iter().filter(|name| name != folder));
        }
        Ok(Some(names))
    }

    /// What is in a folder by PROPFIND. Source: RFC 4918, 9.1 and 14.7.
    fn folder(&self, url: &str) -> Result<Option<Vec<String>>, String> {
        let response = self.ask("PROPFIND", (&format!("{url}/"), None), &[("depth", "1")])?;
        match response.status().as_u16() {
            207 => Ok(Some(self.texts(response, "href")?.0)),
            404 | 410 => Ok(Some(Vec::new())),
            // One that takes files and knows nothing of folders.
            200 | 400 | 405 | 501 => Ok(None),
            status => Err(format!("the server answers {status}")),
        }
    }

    /// What is in a bucket below a prefix. Source: docs.aws.amazon.com, ListObjectsV2.
    fn bucket(&self, url: &str) -> Result<Option<Vec<String>>, String> {
        let (mut names, mut token) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let Some(signed) = s3::listed(url, token.as_deref()) else { return Ok(None) };
            let response = self.ask("GET", (url, Some(signed)), &[])?;
            let status = response.status().as_u16();
            if status != 200 {
                return Err(format!("the server answers {status}{}", s3::hint(url, status).unwrap_or_default()));
            }
            let (some, next) = self.texts(response, "Key")?;
            names.extend(some);
            token = next;
            if token.is_none() {
                return Ok(Some(names));
            }
        }
        Err("its list has no end".to_owned())
    }

    /// The last part of each name in elements of a kind, and where the next answer goes on.
    fn texts(&self, response: Response<Body>, wanted: &str) -> Result<(Vec<String>, Option<String>), String> {
        let body = Paced::new(response.into_body().into_reader(), self.patience()).take(LIST_LIMIT);
        let mut reader = Reader::new(BufReader::new(body)).without_doctype();
        let (mut names, mut next) = (Vec::new(), None);
        while let Some(event) = reader.event().map_err(|problem| format!("its list {problem}"))? {
            match event {
                Event::End { name, text } if name == wanted => {
                    names.extend(text.trim().trim_end_matches('/').rsplit('/').next().map(str::to_owned));
                }
                Event::End { name: "NextContinuationToken", text } => next = Some(text.to_owned()),
                _ => {}
            }
        }
        Ok((names, next.filter(|token| !token.is_empty())))
    }
}
