//! What solvers answered, by all that they were shown and asked.

use super::Store;
use base::digest::Digest;

impl Store {
    /// What was answered to the question of this digest; none where it was not asked, or the answer is damaged.
    pub fn answer(&self, question: &Digest) -> Option<String> {
        let text = std::fs::read_to_string(self.directory().join(Self::solving_name(question))).ok()?;
        let (digest, said) = text.split_once('\n')?;
        (Digest::of(said.as_bytes()).to_string() == digest).then(|| said.to_owned())
    }

    /// Keeps an answer; where that cannot be, the solver is asked again.
    pub fn keep_answer(&self, question: &Digest, said: &str) {
        if self.answer(question).as_deref() == Some(said) {
            return;
        }
        let text = format!("{}\n{said}", Digest::of(said.as_bytes()));
        let _ = self.write_file(&self.directory().join(Self::solving_name(question)), text.as_bytes());
    }
}
