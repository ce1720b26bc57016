//! Checks whether recorded facts still hold.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::RwLock;

use rayon::prelude::*;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use super::facts::{Fact, Witness, is_settled, need};
use super::read;
use super::stamp::{Seen, Stamp, look, look_through, stamp_at};

/// Whether the same would be seen again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Same,
    /// Yes, but stamps moved: the facts should be rewritten, so that next time nothing is read.
    SameMoved,
    Other,
}

/// What was looked at already while facts of several witnesses are asked again: directories and files that they share.
#[derive(Debug, Default)]
pub struct Looks(RwLock<HashMap<Box<[u8]>, Seen>>);

impl Looks {
    fn look(&self, path: &Path, own: &Own) -> Seen {
        own.look(path, AtFlags::SYMLINK_NOFOLLOW).unwrap_or_else(|| self.at(path))
    }

    fn at(&self, path: &Path) -> Seen {
        let bytes = path.as_os_str().as_bytes();
        if let Ok(known) = self.0.read()
            && let Some(seen) = known.get(bytes)
        {
            return *seen;
        }
        let seen = look(path);
        if let Ok(mut known) = self.0.write() {
            known.insert(bytes.into(), seen);
        }
        seen
    }
}

/// The folder whose files no other witness has, held open: most of what a look costs is the way from the root.
struct Own {
    path: Box<[u8]>,
    place: Option<OwnedFd>,
}

impl Own {
    fn open(folder: &Path) -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let place = rustix::fs::open(folder, flags, Mode::empty()).ok();
        Self { path: folder.as_os_str().as_bytes().into(), place }
    }

    /// Looks at a path below the folder; none for other paths.
    fn look(&self, path: &Path, how: AtFlags) -> Option<Seen> {
        let path = path.as_os_str().as_bytes();
        let name = path.strip_prefix(&*self.path)?.strip_prefix(b"/")?;
        Some(match &self.place {
            Some(place) => stamp_at(place.as_fd(), name, how),
            None => stamp_at(CWD, path, how),
        })
    }
}

/// From how many facts on they are asked by several threads.
const MANY: usize = 400;

impl Witness {
    /// Asks all facts again. `own` is the folder whose files no other witness has: those are not kept in `looks`.
    pub fn ask(&self, own: &Path, looks: &Looks) -> Answer {
        if self.torn || self.variables.iter().any(|(name, was)| std::env::var(name).ok() != *was) {
            return Answer::Other;
        }
        let own = &Own::open(own);
        // Directories that may answer for names in them, each once.
        let mut looked: Vec<Option<Seen>> = vec![None; self.facts.len()];
        for fact in self.facts.iter().filter(|fact| fact.needs & !need::OF_NAMES == 0) {
            if let Some((index, above)) = self.above(fact)
                && let Some(place) = looked.get_mut(index).filter(|place| place.is_none())
            {
                *place = Some(looks.look(&above.path, own));
            }
        }
        let asking = Asking { witness: self, own, looks, looked };
        if self.facts.len() < MANY {
            let mut all = Answer::Same;
            for (index, fact) in self.facts.iter().enumerate() {
                all = worse(all, asking.one(index, fact));
                if all == Answer::Other {
                    break;
                }
            }
            return all;
        }
        self.facts.par_iter().enumerate().map(|(index, fact)| asking.one(index, fact)).reduce(|| Answer::Same, worse)
    }

    /// The fact of the directory that a fact's path lies in, and its place.
    fn above(&self, fact: &Fact) -> Option<(usize, &Fact)> {
        let index = fact.parent? as usize;
        Some((index, self.facts.get(index)?))
    }

    /// The same facts with the stamps of now, after [`Witness::ask`] said [`Answer::SameMoved`]; none if something moved
    /// again meanwhile. `began` is a time before it was asked: what was written since then is read again next time.
    pub fn renewed(&self, began: i64) -> Option<Self> {
        let mut new = Self { began, ..self.clone() };
        for fact in &mut new.facts {
            let path = fact.path.as_path();
            let (own, through) = (look(path), fact.through.map(|_| look_through(path)));
            let same_kind = |a: Seen, b: Seen| a.map(|stamp| stamp.kind()) == b.map(|stamp| stamp.kind());
            if !same_kind(own, fact.own)
                || through.zip(fact.through).is_some_and(|(now, was)| !same_kind(now, was))
                || fact.needs & need::LINK != 0 && own != fact.own
                || fact.needs & need::STAMP != 0 && through.unwrap_or(own) != fact.followed()
            {
                return None;
            }
            (fact.own, fact.through) = (own, through);
        }
        Some(new)
    }
}

fn worse(a: Answer, b: Answer) -> Answer {
    match (a, b) {
        (Answer::Other, _) | (_, Answer::Other) => Answer::Other,
        (Answer::SameMoved, _) | (_, Answer::SameMoved) => Answer::SameMoved,
        _ => Answer::Same,
    }
}

struct Asking<'a> {
    witness: &'a Witness,
    own: &'a Own,
    looks: &'a Looks,
    /// What was seen already, by fact.
    looked: Vec<Option<Seen>>,
}

impl Asking<'_> {
    fn one(&self, index: usize, fact: &Fact) -> Answer {
        let path = fact.path.as_path();
        // Where a directory is unchanged, so are the names in it.
        if fact.needs & !need::OF_NAMES == 0
            && let Some((place, above)) = self.witness.above(fact)
            && above.own.is_ok_and(|stamp| !stamp.is_link())
            && is_settled(&above.own, self.witness.began)
            && self.looked.get(place) == Some(&Some(above.own))
        {
            return Answer::Same;
        }
        let known = self.looked.get(index).copied().flatten();
        let now = known.unwrap_or_else(|| self.looks.look(path, self.own));
        match (now, fact.own) {
            (Err(now), Err(was)) => return if now == was { Answer::Same } else { Answer::Other },
            (Ok(now), Ok(was)) if now.kind() == was.kind() || fault::planted("witness-link-unseen") => {}
            _ => return Answer::Other,
        }
        if fact.needs & !need::KIND == 0 {
            return Answer::Same;
        }
        let mut moved = now != fact.own;
        let settled = is_settled(&fact.own, self.witness.began);
        if fact.needs & need::LINK != 0 && (moved || !settled) {
            return Answer::Other;
        }
        let (now, was) = match fact.through {
            None => (now, fact.own),
            Some(was) if fact.needs & need::THROUGH != 0 => {
                moved = false;
                (self.own.look(path, AtFlags::empty()).unwrap_or_else(|| look_through(path)), was)
            }
            Some(_) => return if moved { Answer::SameMoved } else { Answer::Same },
        };
        moved |= now != was;
        if !moved && is_settled(&was, self.witness.began) {
            return Answer::Same;
        }
        match (now, was) {
            (Err(now), Err(was)) => {
                if now == was {
                    Answer::Same
                } else {
                    Answer::Other
                }
            }
            (Ok(now), Ok(was)) => self.unsettled(path, fact, &now, &was),
            _ => Answer::Other,
        }
    }

    /// The stamp moved, or is too young to count: what was looked at decides.
    fn unsettled(&self, path: &Path, fact: &Fact, now: &Stamp, was: &Stamp) -> Answer {
        let same_mode = (now.mode, now.uid, now.gid) == (was.mode, was.uid, was.gid);
        if now.kind() != was.kind()
            || fact.needs & need::STAMP != 0
            || fact.needs & (need::MODE | need::CONTENT) != 0
                && !same_mode
                && !fault::planted("witness-mode-passed-over")
        {
            return Answer::Other;
        }
        if fact.needs & need::CONTENT != 0
            && (now.size != was.size || read::digest_now(path).ok() != fact.digest || fact.digest.is_none())
        {
            return Answer::Other;
        }
        if fact.needs & need::LIST != 0 && (fact.digest.is_none() || read::list_digest_now(path).ok() != fact.digest) {
            return Answer::Other;
        }
        Answer::SameMoved
    }
}
