//! How imgbuild knows a document that it wrote: a digest of what it wrote stands in it.
//!
//! BSS and Grendel keep no comments, so the digest is a word of the kernel's command line, which kernel and initrd ignore: the kernel takes
//! a word with a dot for a parameter of a module that is not there (kernel-parameters.txt), imgbuild-init does not know it.

use base::digest::Sha256;

/// The word, without its value.
const MARK: &str = "imgbuild.published=";

/// How many digits of the digest are kept: against changes by hand, not against forgers.
const DIGITS: usize = 16;

/// Who wrote a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kinds) enum Owner {
    Imgbuild,
    /// imgbuild, and it was changed by hand since.
    ChangedByHand,
    Site,
}

/// The digest of a document's fields, shortened; the order of fields counts.
pub(in crate::kinds) fn digest_of<'a>(fields: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for field in fields {
        // Lengths keep apart what a separator could not.
        text.push_str(&format!("{}:{field}", field.len()));
    }
    Sha256::of(text.as_bytes()).to_string().chars().take(DIGITS).collect()
}

/// A command line with the mark; `fields` are what else the document says.
pub(in crate::kinds) fn marked(words: &[String], fields: &[&str]) -> String {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let digest = digest_of(fields.iter().copied().chain(words.iter().copied()));
    format!("{} {MARK}{digest}", words.join(" ")).trim_start().to_owned()
}

/// Who wrote a document with such a command line.
pub(in crate::kinds) fn owner(line: &str, fields: &[&str]) -> Owner {
    let (marks, words): (Vec<&str>, Vec<&str>) =
        line.split(' ').filter(|word| !word.is_empty()).partition(|word| word.starts_with(MARK));
    if marks.is_empty() && !fault::planted("publish-foreign-documents") {
        return Owner::Site;
    }
    let [mark] = marks[..] else { return Owner::ChangedByHand };
    let digest = digest_of(fields.iter().copied().chain(words));
    if mark.strip_prefix(MARK) == Some(digest.as_str()) { Owner::Imgbuild } else { Owner::ChangedByHand }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_knows_who_wrote_it() {
        let words = ["imgurl=http://h/a".to_owned(), "quiet".to_owned()];
        let line = marked(&words, &["kernel", "initrd"]);
        assert_eq!(owner(&line, &["kernel", "initrd"]), Owner::Imgbuild);
        assert_eq!(owner(&line, &["kerneli", "nitrd"]), Owner::ChangedByHand);
        assert_eq!(owner(&format!("{line} debug"), &["kernel", "initrd"]), Owner::ChangedByHand);
        assert_eq!(owner(&format!("{line} {line}"), &["kernel", "initrd"]), Owner::ChangedByHand);
        assert_eq!(owner("imgurl=http://h/a quiet", &["kernel", "initrd"]), Owner::Site);
        assert!(marked(&[], &[]).starts_with(MARK));
    }
}
