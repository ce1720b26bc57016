//! Bills and statements travel as referrers: by the registry's API, by the tag of registries without it, and in layouts.

use super::{Place, Sha256};
use data_encoding::BASE64;

const PROVENANCE: &str = "provenance.intoto.jsonl";
const SPDX: &str = "sbom.spdx.json";

impl Place {
    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.at(name)).unwrap_or_default()
    }

    /// Writes a bill and a signed statement beside the image, of this build or of another.
    fn describe(&self, who: &str, own: bool) {
        let build = std::fs::read(self.at("out/made-up/build.json")).unwrap();
        let digest = if own { Sha256::of(&build) } else { Sha256::of(b"other") }.to_string();
        let statement =
            serde_json::json!({"subject": [{"name": "build.json", "digest": {"sha256": digest}}], "who": who});
        let payload = BASE64.encode(statement.to_string().as_bytes());
        let envelope =
            serde_json::json!({"payloadType": "application/vnd.in-toto+json", "payload": payload, "signatures": []});
        std::fs::write(self.at("out/made-up").join(PROVENANCE), format!("{envelope}\n")).unwrap();
        let build: serde_json::Value = serde_json::from_slice(&build).unwrap();
        let bill = serde_json::json!({"artefacts": build["artefacts"], "who": who});
        std::fs::write(self.at("out/made-up").join(SPDX), bill.to_string()).unwrap();
    }

    /// What was pushed came: both, as they were.
    #[track_caller]
    fn has_both(&self) {
        for name in [PROVENANCE, SPDX] {
            let own = self.read(&format!("out/made-up/{name}"));
            assert!(!own.is_empty() && self.read(&format!("there/made-up/{name}")) == own, "{name}");
        }
    }
}

#[test]
fn what_is_about_an_image_is_pushed_and_pulled_with_it() {
    for knows in [true, false] {
        let place = Place::new();
        place.registry.state.lock().unwrap().referrers = knows;
        place.describe("first", true);
        place.push("x:1").good();
        let fallback = |place: &Place| -> Vec<String> {
            let state = place.registry.state.lock().unwrap();
            state.manifests.keys().filter(|name| name.starts_with("sha256-")).cloned().collect()
        };
        assert_eq!(fallback(&place).len(), usize::from(!knows));
        // The same again adds nothing.
        let count = place.registry.state.lock().unwrap().manifests.len();
        place.push("x:1").good();
        assert_eq!(place.registry.state.lock().unwrap().manifests.len(), count);
        let ran = place.pull("x:1").good();
        assert!(ran.err.contains("pulled besides: ") && ran.err.contains(PROVENANCE), "{}", ran.err);
        place.has_both();
        // A whole image gets what it lacks, and keeps what it has.
        std::fs::remove_file(place.at("there/made-up").join(SPDX)).unwrap();
        let own = place.read(&format!("there/made-up/{PROVENANCE}"));
        place.pull("x:1").good();
        place.has_both();
        place.describe("second", true);
        place.push("x:1").good();
        place.pull("x:1").good();
        assert_eq!(place.read(&format!("there/made-up/{PROVENANCE}")), own);
        // One that is damaged here is brought again; what is about it stays, even if the registry gives nothing.
        place.registry.state.lock().unwrap().manifests.retain(|_, bytes| super::server::subject(bytes).is_none());
        let kernel = place.at("there/made-up/kernel");
        std::fs::write(&kernel, "x").unwrap();
        place.pull("x:1").good();
        assert_eq!(std::fs::read(&kernel).unwrap(), b"a kernel".repeat(1000));
        assert_eq!(place.read(&format!("there/made-up/{PROVENANCE}")), own);
    }
}

#[test]
fn what_is_about_another_build_is_not_pushed_and_a_refusal_takes_nothing_away() {
    let place = Place::new();
    place.describe("other", false);
    let ran = place.push("x:1").good();
    assert!(ran.err.contains("note: provenance.intoto.jsonl is not pushed"), "{}", ran.err);
    place.pull("x:1").good();
    assert_eq!(place.read(&format!("there/made-up/{PROVENANCE}")), "");
    assert!(!place.read(&format!("there/made-up/{SPDX}")).is_empty());
    // The bill is about the image, and there already.
    let bill = place.read(&format!("out/made-up/{SPDX}"));
    place.describe("own", true);
    std::fs::write(place.at("out/made-up").join(SPDX), bill).unwrap();
    place.push("x:1").good();
    place.pull("x:1").good();
    place.has_both();
    for status in [401, 403, 404] {
        place.registry.fail(&[super::Fault::Status("GET /v2/x/referrers/", status, 99)]);
        let ran = place.pull("x:1").good();
        assert_eq!(ran.err.contains("were not looked for"), status != 404, "{status} {}", ran.err);
        place.has_both();
    }
}

#[test]
fn layouts_and_archives_have_what_is_about_an_image() {
    let place = Place::new();
    place.describe("own", true);
    for (kind, name) in [("oci-layout", "layout"), ("oci-archive", "file.tar")] {
        let to = format!("{kind}:{}:1", place.at(name).display());
        place.run(&["push", &to, "made-up", "--out", place.at("out").to_str().unwrap()]).good();
        let _ = std::fs::remove_dir_all(place.at("there"));
        place.run(&["pull", &to, "there"]).good();
        place.has_both();
    }
}
