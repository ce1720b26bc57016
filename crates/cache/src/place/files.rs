//! An address that takes PUT: each file by its name.

use std::path::Path;
use std::time::Instant;

use super::coming::{Problems, Trouble, bring_alone, too_slow};
use super::{ACTIONS, ENTRY_LIMIT, Kept, Shelf, Unsent, Wanted, action_name, key_of};
use super::{missing_of, object_name, signature_name};
use crate::entry::Object;
use crate::rate::Rate;
use crate::{Damage, Mended};
use base::digest::{Digest, Sha256};
use packages::{DistroError, Download, DownloadFault, Fetcher, Progress};
use store::StoreError;

/// Files below an address.
#[derive(Debug)]
pub(super) struct Files {
    /// Without a slash at its end.
    address: String,
    fetcher: Fetcher,
    rate: Rate,
}

impl Files {
    pub(super) fn of(address: String, fetcher: Fetcher, rate: Rate) -> Self {
        Self { address, fetcher, rate }
    }

    fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    fn send(&self, name: &str, file: &Path) -> Result<(), Unsent> {
        let sent = self.fetcher.put(&self.url(name), file, &|bytes| self.rate.spend(bytes));
        sent.map_err(|not| Unsent { problem: not.problem, is_of_one: not.is_too_large })
    }

    fn kept(&self, name: &str) -> Result<Kept, String> {
        match self.fetcher.read(&self.url(name), ENTRY_LIMIT) {
            Ok(bytes) => Ok(Kept::Text(bytes)),
            Err(DistroError::NotThere { .. }) => Ok(Kept::Nothing),
            Err(DistroError::Download { problem, fault: DownloadFault::Larger, .. }) => Ok(Kept::Odd(problem)),
            Err(error) => Err(error.to_string()),
        }
    }

    fn has(&self, object: &Object) -> Result<bool, String> {
        self.fetcher.has(&self.url(&object_name(object))).map_err(|error| error.to_string())
    }

    fn one(&self, one: &Wanted) -> Result<(), Trouble> {
        let download = Download {
            urls: vec![self.url(&object_name(&one.object))],
            size: one.object.size,
            sha256: one.object.sha256,
            destination: one.destination.clone(),
        };
        let began = Instant::now();
        match self.fetcher.clone().within(one.within).fetch_one(&download) {
            Ok(()) => Ok(()),
            Err(DistroError::Store(error)) => Err(Trouble::Store(error)),
            Err(_) if began.elapsed() > one.within => Err(too_slow(one)),
            Err(DistroError::Download { problem, fault, .. }) => Err(match fault {
                DownloadFault::Larger => Trouble::Left(problem),
                DownloadFault::CutOff => Trouble::Cut(problem),
                DownloadFault::Refused | DownloadFault::Other => Trouble::Lost(problem),
            }),
            // What is missing or damaged.
            Err(error) => Err(Trouble::Left(error.to_string())),
        }
    }
}

impl Shelf for Files {
    fn entry(&self, key: &Digest) -> Result<Kept, String> {
        self.kept(&action_name(key))
    }

    fn missing(&self, objects: &[&Object]) -> Result<Vec<Sha256>, String> {
        missing_of(objects, &|object| self.has(object))
    }

    fn bring(&self, wanted: &[Wanted], progress: &dyn Progress) -> Result<Problems, StoreError> {
        bring_alone(wanted, progress, &|one| self.one(one))
    }

    fn put(&self, object: &Object, file: &Path, is_damaged: bool) -> Result<bool, Unsent> {
        if !is_damaged && self.has(object)? {
            return Ok(false);
        }
        self.send(&object_name(object), file)?;
        Ok(true)
    }

    fn put_entry(&self, key: &Digest, text: &Path, _: &[Object]) -> Result<(), Unsent> {
        self.send(&action_name(key), text)
    }

    fn signature(&self, key: &Digest, id: &str) -> Result<Kept, String> {
        self.kept(&signature_name(key, id))
    }

    fn put_signature(&self, key: &Digest, id: &str, text: &Path) -> Result<(), Unsent> {
        self.send(&signature_name(key, id), text)
    }

    fn keys(&self) -> Result<Option<Vec<Digest>>, String> {
        let names = self.fetcher.list(&self.url(ACTIONS))?;
        Ok(names.map(|names| names.iter().filter_map(|name| key_of(name)).collect()))
    }

    fn mend(&self, damage: &Damage) -> Result<Mended, Unsent> {
        let name = match damage {
            Damage::Entry(key, _) => action_name(key),
            Damage::File(object) => object_name(object),
        };
        self.fetcher.delete(&self.url(&name))?;
        Ok(Mended::Removed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{Read, Write};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::PATIENCE;

    struct Quiet;

    impl Progress for Quiet {
        fn downloaded(&self, _: usize, _: usize, _: u64, _: u64) {}
    }

    type Requests = Arc<Mutex<Vec<String>>>;

    /// Answers each GET by how often its path was asked for; other requests with 201.
    fn server(answer: fn(&str, usize) -> Vec<Vec<u8>>) -> (String, Requests) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/x", listener.local_addr().unwrap());
        let requests = Requests::default();
        let noted = Arc::clone(&requests);
        let times: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, noted, times) = (stream.unwrap(), Arc::clone(&noted), Arc::clone(&times));
                std::thread::spawn(move || {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let mut byte = [0];
                        if stream.read_exact(&mut byte).is_err() {
                            return;
                        }
                        head.push(byte[0]);
                    }
                    let head = String::from_utf8(head).unwrap();
                    let line: Vec<&str> = head.split(' ').collect();
                    noted.lock().unwrap().push(format!("{} {}", line[0], line[1]));
                    let length = head
                        .to_lowercase()
                        .split("content-length: ")
                        .nth(1)
                        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
                    let _ = std::io::copy(&mut (&mut stream).take(length), &mut std::io::sink());
                    if line[0] != "GET" {
                        let is_refused = ["413", "500"].into_iter().find(|code| line[1].ends_with(code));
                        let code = is_refused.unwrap_or("201");
                        let _ = stream.write_all(
                            format!("HTTP/1.1 {code} x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").as_bytes(),
                        );
                        return;
                    }
                    let time = {
                        let mut times = times.lock().unwrap();
                        let time = times.entry(line[1].to_owned()).or_default();
                        *time += 1;
                        *time
                    };
                    for part in answer(line[1], time) {
                        if stream.write_all(&part).is_err() {
                            return;
                        }
                        std::thread::sleep(Duration::from_millis(300));
                    }
                });
            }
        });
        (address, requests)
    }

    fn body(text: &str) -> Vec<Vec<u8>> {
        vec![format!("HTTP/1.1 200 x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}", text.len()).into()]
    }

    fn status(code: u16) -> Vec<Vec<u8>> {
        vec![format!("HTTP/1.1 {code} x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").into()]
    }

    fn files_of(address: &str) -> Files {
        let fetcher = Fetcher::with_patience(PATIENCE).trying_once();
        Files::of(address.to_owned(), fetcher, Rate::default())
    }

    #[test]
    fn what_fails_once_is_asked_for_again_and_what_fails_always_costs_one_file() {
        const TEXTS: [&str; 9] = [
            "good",
            "once 503",
            "once dropped",
            "once 403",
            "once cut",
            "always 403",
            "longer",
            "a drip",
            "always cut",
        ];
        let of = |text: &str| Object { size: text.len() as u64, sha256: Sha256::of(text.as_bytes()) };
        let (address, _) = server(|path, time| {
            let is = |text: &&&str| path.ends_with(&Sha256::of(text.as_bytes()).to_string());
            match (*TEXTS.iter().find(is).unwrap(), time) {
                ("once 503", 1) => status(503),
                ("once dropped", 1) => Vec::new(),
                ("once 403", 1) | ("always 403", _) => status(403),
                ("longer", _) => body("longer than it was"),
                ("once cut", 1) | ("always cut", _) => body("cut"),
                ("a drip", _) => {
                    let mut parts = body("a drip");
                    let end = parts[0].len() - 6;
                    let drip = parts[0].split_off(end);
                    parts.extend(drip.into_iter().map(|byte| vec![byte]));
                    parts
                }
                (text, _) => body(text),
            }
        });
        let place = tempfile::tempdir().unwrap();
        let within = |text: &str| Duration::from_millis(if text == "a drip" { 500 } else { 20_000 });
        let wanted: Vec<Wanted> = TEXTS
            .iter()
            .map(|text| Wanted { object: of(text), destination: place.path().join(text), within: within(text) })
            .collect();
        let problems = files_of(&address).bring(&wanted, &Quiet).unwrap();
        assert_eq!(problems.lost, None);
        // What is damaged there is one thing, and what may be as it should be is another.
        let left = |text: &str| problems.of.get(&of(text).sha256).map(String::as_str).unwrap_or_default();
        let unread = |text: &str| problems.unread.get(&of(text).sha256).map(String::as_str).unwrap_or_default();
        assert_eq!((problems.of.len(), problems.unread.len()), (2, 2), "{problems:?}");
        assert!(left("longer").contains("larger") && left("always cut").contains("ended after"), "{problems:?}");
        assert!(unread("always 403").contains("403"), "{problems:?}");
        assert!(unread("a drip").contains("did not come within"), "{problems:?}");
        for text in &TEXTS[..5] {
            assert_eq!(std::fs::read_to_string(place.path().join(text)).unwrap(), **text);
        }
    }

    #[test]
    fn a_file_that_is_too_large_for_a_server_is_its_own_trouble() {
        let (address, _) = server(|_, _| status(404));
        let files = files_of(&address);
        let file = tempfile::NamedTempFile::new().unwrap();
        let sent = |name: &str| files.send(name, file.path()).map_err(|unsent| unsent.is_of_one);
        assert_eq!((sent("v1/200"), sent("v1/413"), sent("v1/500")), (Ok(()), Err(true), Err(false)));
    }

    #[test]
    fn folders_are_made_before_a_file_is_sent_and_once() {
        let (address, requests) = server(|_, _| status(404));
        let files = files_of(&address);
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in ["a", "b", "a"] {
            files.send(&format!("v1/objects/aa/{text}"), file.path()).unwrap();
        }
        let requests = requests.lock().unwrap().clone();
        let of = |verb: &str| requests.iter().filter(|one| one.starts_with(verb)).count();
        assert_eq!((of("MKCOL"), of("PUT")), (1, 3), "{requests:?}");
        assert!(requests[0].starts_with("MKCOL"), "{requests:?}");
    }
}
