//! Referrers: what is about a manifest, by `subject`. Sources: image-spec 1.1, distribution-spec 1.1, "Listing Referrers".

use base::digest::Sha256;

use super::document::{ARTIFACT_LIMIT, Descriptor, EMPTY_CONFIG, Index, MANIFEST, Manifest, Named};

/// How many referrers of an image are looked at: anyone who may push can add some.
const MOST: usize = 64;
/// Bytes of a referrer's manifest at most: it names one file.
const LARGEST: u64 = 64 << 10;

const KIND: &str = "artifactType";

impl Named {
    /// The entry of a referrer in an index.
    pub(crate) fn referrer(about: &Manifest, digest: Sha256, size: u64) -> Self {
        let kind = about.artifact_type.clone().unwrap_or_default();
        let rest = [(KIND.to_owned(), kind.into())].into_iter().collect();
        Self { media_type: MANIFEST.to_owned(), digest, size, annotations: about.annotations.clone(), rest }
    }
}

/// The entries of an index that may be of some kinds, by digest: the same ones whatever the order in which a registry lists them. There
/// are registries whose indices give all of them the kind of the empty config; [`about`] goes by the manifest.
pub(crate) fn chosen(index: &Index, kinds: &[&str]) -> Vec<Descriptor> {
    let is_of = |one: &&Named| {
        one.media_type == MANIFEST
            && one.size <= LARGEST.min(ARTIFACT_LIMIT)
            && one
                .rest
                .get(KIND)
                .and_then(|kind| kind.as_str())
                .is_none_or(|kind| kind == EMPTY_CONFIG || kinds.contains(&kind))
    };
    let mut all: Vec<Descriptor> =
        index.manifests.iter().filter(is_of).map(|one| Descriptor::new(MANIFEST, one.digest, one.size)).collect();
    all.sort_by_key(|one| one.digest.to_string());
    all.dedup();
    all.truncate(MOST);
    all
}

/// A manifest, if it is about this one, and of some kinds.
pub(crate) fn about(bytes: &[u8], subject: &Sha256, kinds: &[&str]) -> Option<Manifest> {
    let manifest = Manifest::parse(bytes).ok()?;
    let is_about = manifest.subject.as_ref().is_some_and(|one| one.digest == *subject);
    let is_of = manifest.artifact_type.as_deref().is_some_and(|kind| kinds.contains(&kind));
    (is_about && is_of).then_some(manifest)
}

#[cfg(test)]
mod tests {
    use super::super::document::EMPTY;
    use super::*;

    #[test]
    fn referrers_are_chosen_by_kind_and_are_about_what_was_asked_for() {
        let subject = Descriptor::of(MANIFEST, b"image");
        let of = |kind: &str| {
            let mut one = Manifest::new(Some(kind), Descriptor::of(EMPTY_CONFIG, EMPTY), Vec::new());
            one.subject = Some(subject.clone());
            one
        };
        let (bill, other) = (of("application/spdx+json"), of("application/x"));
        let mut index = Index { schema_version: 2, ..Index::default() };
        for one in [&bill, &other, &bill] {
            let bytes = one.bytes();
            index.manifests.push(Named::referrer(one, Sha256::of(&bytes), bytes.len() as u64));
        }
        let kinds = ["application/spdx+json"];
        assert_eq!(chosen(&index, &kinds), [Descriptor::of(MANIFEST, &bill.bytes())]);
        assert_eq!(about(&bill.bytes(), &subject.digest, &kinds), Some(bill.clone()));
        assert_eq!(about(&bill.bytes(), &Sha256::of(b"another"), &kinds), None);
        assert_eq!(about(b"{", &subject.digest, &kinds), None);
        assert_eq!(about(&other.bytes(), &subject.digest, &kinds), None);
        // As ghcr.io lists them.
        index.manifests.iter_mut().for_each(|one| drop(one.rest.insert(KIND.to_owned(), EMPTY_CONFIG.into())));
        assert_eq!(chosen(&index, &kinds).len(), 2);
        // What is too large is not looked at, and of many some.
        index.manifests.iter_mut().for_each(|one| one.size = LARGEST + 1);
        assert!(chosen(&index, &kinds).is_empty());
        let many = (0..200).map(|at: u32| Named::referrer(&bill, Sha256::of(&at.to_le_bytes()), 2));
        index.manifests = many.collect();
        assert_eq!(chosen(&index, &kinds).len(), MOST);
        let text = serde_json::to_string(&index.manifests[0]).unwrap();
        assert!(text.contains(r#""artifactType":"application/spdx+json""#), "{text}");
    }
}
