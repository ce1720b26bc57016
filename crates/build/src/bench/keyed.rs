//! What an action is described by: values that its key has. Work is asked for with these, and with nothing else of the recipe.
//!
//! A key is made minutes before its action runs. A file of the build host is described by name, mode and digest. Where the store has that
//! content, it is used; else the file is read once and compared with them: one that someone edits during a build ends the build, and no record
//! names what it became.

use std::io::Read;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use crate::StageError;
use base::digest::Digest;
use plan::{Input, file_input};
use recipe::{Lock, owners};
use store::Store;

/// A value that an action's key has: only a [`Key`] makes one.
#[derive(Debug)]
pub struct Keyed<T>(T);

impl<T> Deref for Keyed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Keyed<T> {
    /// A value that follows from what the same input says.
    pub fn follows<U>(&self, value: U) -> Keyed<U> {
        Keyed(value)
    }
}

/// A value that only decides what is said or refused. What it is compared with is in the key.
#[derive(Debug)]
pub struct Said<T>(pub T);

/// A file of the build host, as a key has it.
#[derive(Debug)]
pub struct InputFile {
    /// How messages and keys call it.
    pub name: String,
    path: PathBuf,
    /// Permission bits that count.
    pub mode: u32,
    pub digest: Digest,
}

/// The inputs of a key, while an action is described.
#[derive(Debug, Default)]
pub struct Key(Vec<Input>);

impl Key {
    /// Keeps a value, with the input that says it.
    pub fn keep<T>(&mut self, value: T, input: impl FnOnce(&T) -> Input) -> Keyed<T> {
        self.0.push(input(&value));
        Keyed(value)
    }

    /// Keeps a value that several inputs say.
    pub fn keep_all<T>(&mut self, value: T, inputs: impl FnOnce(&T) -> Vec<Input>) -> Keyed<T> {
        self.0.extend(inputs(&value));
        Keyed(value)
    }

    /// What is empty, and so has no input.
    pub fn nothing<T: Default>(&mut self) -> Keyed<T> {
        Keyed(T::default())
    }

    /// Keeps each of several values with its input.
    pub fn keep_each<T>(
        &mut self,
        values: impl IntoIterator<Item = T>,
        mut input: impl FnMut(usize, &T) -> Input,
    ) -> Vec<Keyed<T>> {
        values.into_iter().enumerate().map(|(index, value)| self.keep(value, |value| input(index, value))).collect()
    }

    /// Keeps the time that no time of the image is later than.
    pub fn epoch(&mut self, lock: &Lock) -> Keyed<i64> {
        self.keep(lock.epoch, |epoch| Input::parameter("epoch", epoch))
    }

    /// Keeps a file of the build host; `said` gives its place.
    ///
    /// # Errors
    /// [`StageError::Input`] for one that cannot be read.
    pub fn file(
        &mut self,
        name: &str,
        path: &Path,
        said: impl FnOnce(Input) -> Input,
    ) -> Result<Keyed<InputFile>, StageError> {
        let found = file_input(name, path);
        let (input, mode, digest) = found.map_err(|source| StageError::Input { file: name.to_owned(), source })?;
        let file = InputFile { name: name.to_owned(), path: path.to_owned(), mode, digest };
        Ok(self.keep(file, |_| said(input)))
    }

    /// Adds what decides that the work is done again, and that the work itself is not asked with: a version of what does it.
    pub fn also(&mut self, input: Input) {
        self.0.push(input);
    }

    /// All of them.
    pub fn inputs(self) -> Vec<Input> {
        self.0
    }

    /// Each once: several things may be made of one file.
    pub fn each_once(self) -> Vec<Input> {
        let mut seen = std::collections::BTreeSet::new();
        let mut inputs = self.0;
        inputs.retain(|input| seen.insert((input.name.clone(), input.value.clone())));
        inputs
    }

    /// Whether there is an input of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|input| input.name == name)
    }
}

impl InputFile {
    fn said(&self, source: std::io::Error) -> StageError {
        StageError::Input { file: self.name.clone(), source }
    }

    fn compare(&self, digest: &Digest) -> Result<(), StageError> {
        let mode = owners::mode(&self.path).map_err(|source| self.said(source))?;
        match fault::planted("changed-input") || (mode, digest) == (self.mode, &self.digest) {
            true => Ok(()),
            false => Err(StageError::Changed { file: self.name.clone() }),
        }
    }

    /// Has its content in the store; gives the path there, relative to the store's directory. Where it is there already, the file
    /// itself is not looked at again: what it became since then belongs to the next build. What uses the content compares it with its
    /// name; else see [`InputFile::whole_content`].
    /// Errors: [`StageError::Changed`] where it is no longer what the key says, [`StageError::Input`] where it cannot be read.
    pub fn content(&self, store: &Store) -> Result<String, StageError> {
        if !store.blob(&self.digest).is_file() {
            self.take(store)?;
        }
        Ok(Store::blob_name(&self.digest))
    }

    /// The same with content that was compared with its name: one that is damaged is taken from the file once more.
    /// Errors: As [`InputFile::content`].
    pub fn whole_content(&self, store: &Store) -> Result<String, StageError> {
        if !store.is_whole_blob(&self.digest) && !fault::planted("damaged-copy-used") {
            self.take(store)?;
        }
        Ok(Store::blob_name(&self.digest))
    }

    fn take(&self, store: &Store) -> Result<(), StageError> {
        self.compare(&store.ensure_blob_of(&self.path)?.digest)
    }

    /// Its text. It is not kept: it may be a secret.
    ///
    /// # Errors
    /// As [`InputFile::content`].
    pub fn text(&self) -> Result<String, StageError> {
        let mut file = std::fs::File::open(&self.path).map_err(|source| self.said(source))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|source| self.said(source))?;
        self.compare(&Digest::of(&bytes))?;
        String::from_utf8(bytes).map_err(|error| self.said(std::io::Error::new(std::io::ErrorKind::InvalidData, error)))
    }
}
