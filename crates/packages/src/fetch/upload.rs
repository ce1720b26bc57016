//! Files that a server is given.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;

use ureq::SendBody;

use super::credentials::address::split_user;
use super::credentials::s3::{self, Verb};
use super::fetcher::{Client, Fetcher};
use crate::DistroError;

/// How many folders are made above a file.
const MOST_FOLDERS: usize = 8;

/// How long a server may take to keep what it was sent.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

struct Counted<'a> {
    file: File,
    moved: &'a dyn Fn(u64),
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        (self.moved)(read as u64);
        Ok(read)
    }
}

fn parent_of(url: &str) -> &str {
    url.trim_end_matches('/').rsplit_once('/').map_or(url, |(parent, _)| parent)
}

/// Why a server did not take a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotPut {
    /// In words.
    pub problem: String,
    /// Whether the server takes smaller ones.
    pub is_too_large: bool,
    /// Whether it would say the same again.
    pub is_refused: bool,
}

impl From<String> for NotPut {
    fn from(problem: String) -> Self {
        Self { problem, is_too_large: false, is_refused: false }
    }
}

impl Fetcher {
    /// Whether a server has something at an address.
    /// Errors: [`DistroError::Download`] where it does not say.
    pub fn has(&self, url: &str) -> Result<bool, DistroError> {
        match self.part(url, 0, 1) {
            // One that gives whole files only has it, too.
            Ok(_) => Ok(true),
            Err(DistroError::NotThere { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives a server a file (PUT); `moved` hears of bytes as they go.
    /// Errors: What the server answers.
    pub fn put(&self, url: &str, file: &Path, moved: &dyn Fn(u64)) -> Result<(), NotPut> {
        let url = split_user(url).0;
        let folder = parent_of(&url);
        let known = || self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the file, which would be sent twice: WebDAV answers 409 where the folder is not there (RFC 4918, 9.7.1). Where folders
        // are not known, nothing comes of it.
        if s3::signed(Verb::Put, &url).is_none() && !known().contains(folder) {
            self.make_folder(folder, MOST_FOLDERS)?;
            known().insert(folder.to_owned());
        }
        let mut status = self.send(&url, file, moved)?;
        // Some say 404; someone may have removed it.
        if matches!(status, 404 | 409) && self.make_folder(folder, MOST_FOLDERS)? {
            status = self.send(&url, file, moved)?;
        }
        let refused = |problem: String, is_too_large| Err(NotPut { problem, is_too_large, is_refused: true });
        match status {
            200..300 => Ok(()),
            300..=403 if let Some(hint) = s3::hint(&url, status) => {
                refused(format!("the server answers {status}{hint}"), false)
            }
            401 | 403 | 405 | 501 => refused(format!("the server takes no files (it answers {status})"), false),
            // RFC 9110, 15.5.14.
            413 => refused(format!("the server answers {status}"), true),
            // It was slow, or has too much to do.
            408 | 425 | 429 => Err(format!("the server answers {status}").into()),
            400..=499 => refused(format!("the server answers {status}"), false),
            _ => Err(format!("the server answers {status}").into()),
        }
    }

    fn send(&self, url: &str, file: &Path, moved: &dyn Fn(u64)) -> Result<u16, String> {
        let Client { agent, authorization, .. } = self.client(url)?;
        let file = File::open(file).map_err(|error| error.to_string())?;
        let mut request = agent.put(s3::signed(Verb::Put, url).unwrap_or_else(|| url.to_owned()));
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        // A server may have much to write before it answers.
        let request = request.config().timeout_recv_response(Some(ANSWERS_WITHIN)).build();
        let size = file.metadata().map_err(|error| error.to_string())?.len();
        let request = request.header("content-length", size.to_string());
        request
            .send(SendBody::from_reader(&mut Counted { file, moved }))
            .map(|response| response.status().as_u16())
            .map_err(|error| error.to_string())
    }

    /// Makes a folder and those above it that are missing (MKCOL, RFC 4918 section 9.3); whether it is there then.
    fn make_folder(&self, url: &str, most: usize) -> Result<bool, String> {
        let ask = || -> Result<u16, String> {
            self.ask("MKCOL", (&format!("{url}/"), None), &[]).map(|response| response.status().as_u16())
        };
        match ask()? {
            // 405: it is there.
            200..300 | 405 => Ok(true),
            404 | 409 if most > 0 => {
                Ok(self.make_folder(parent_of(url), most - 1)? && matches!(ask()?, 200..300 | 405))
            }
            _ => Ok(false),
        }
    }
}
