//! Artefacts that others made: nothing is written outside, and nothing is published that is not what it says.

use super::{Place, Registry, files, frames, image, refused};
use base::digest::Sha256;
use serde_json::{Value, json};

/// What it is, build.json, the other layers, what becomes of the manifest, and what is said.
type Case<'a> = (&'a str, Value, Vec<Value>, &'a dyn Fn(&mut Value), &'a str);

const ARTIFACT: &str = "application/vnd.imgbuild.image.v1";

fn layer(registry: &Registry, title: Option<&str>, bytes: &[u8]) -> Value {
    let digest = registry.keep(bytes);
    let mut layer = json!({"mediaType": "application/octet-stream", "digest": digest, "size": bytes.len()});
    if let Some(title) = title {
        layer["annotations"] = json!({"org.opencontainers.image.title": title});
    }
    layer
}

/// Keeps a good image's blobs; gives its build.json and its layers but for that.
fn good(registry: &Registry) -> (Value, Vec<Value>) {
    let mut layers = Vec::new();
    let mut build = Value::Null;
    for (name, bytes) in image(&frames(b"ab")) {
        match name.as_str() {
            "build.json" => build = serde_json::from_slice(&bytes).unwrap(),
            "SHA256SUMS" => {}
            "rootimg.cpio.zst" => frames(b"ab").iter().for_each(|frame| layers.push(layer(registry, None, frame))),
            _ => layers.push(layer(registry, Some(&name), &bytes)),
        }
    }
    (build, layers)
}

fn tag(registry: &Registry, build: &Value, mut layers: Vec<Value>, edit: &dyn Fn(&mut Value)) {
    layers.push(layer(registry, Some("build.json"), build.to_string().as_bytes()));
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": ARTIFACT,
        "config": layer(registry, None, b"{}"), "layers": layers,
    });
    edit(&mut manifest);
    registry.state.lock().unwrap().manifests.insert("1".to_owned(), manifest.to_string().into_bytes());
}

#[test]
fn what_leads_outside_or_contradicts_itself_is_refused_and_nothing_is_written() {
    let place = Place::new();
    let registry = &place.registry;
    let (build, layers) = good(registry);
    let titled = |name: &str, title: &str| {
        let mut layers = layers.clone();
        let found = layers.iter_mut().find(|one| one["annotations"]["org.opencontainers.image.title"] == name).unwrap();
        found["annotations"]["org.opencontainers.image.title"] = title.into();
        layers
    };
    let with = |edit: &dyn Fn(&mut Value)| {
        let mut build = build.clone();
        edit(&mut build);
        build
    };
    let none: &dyn Fn(&mut Value) = &|_| {};
    let extra = |title: &str| [layers.clone(), vec![layer(registry, Some(title), b"evil")]].concat();
    let without = |name: &str| -> Vec<Value> {
        let is_it = |one: &&Value| one["annotations"]["org.opencontainers.image.title"] != name;
        layers.iter().filter(is_it).cloned().collect()
    };
    // The index says other frames than there are.
    let lying = |index: Value| {
        let text = index.to_string();
        let mut layers = without("rootimg.cpio.zst.index");
        layers.push(layer(registry, Some("rootimg.cpio.zst.index"), text.as_bytes()));
        let build = with(&|build| {
            let all = build["artefacts"].as_array_mut().unwrap();
            let found = all.iter_mut().find(|one| one["name"] == "rootimg.cpio.zst.index").unwrap();
            found["size"] = text.len().into();
            found["sha256"] = Sha256::of(text.as_bytes()).to_string().into();
        });
        (build, layers)
    };
    let frame = |at: u64, kind: u8| {
        let sha256 = Sha256::of(&frames(&[kind])[0]).to_string();
        json!({"offset": at, "size": 100_000, "unpacked": 1, "sha256": sha256})
    };
    let index = |frames: Vec<Value>| json!({"format": 1, "size": 200_000, "frames": frames});
    let (swapped, swapped_layers) = lying(index(vec![frame(0, b'b'), frame(100_000, b'a')]));
    let (gap, gap_layers) = lying(index(vec![frame(0, b'a'), frame(100_001, b'b')]));
    let (foreign, foreign_layers) = lying(index(vec![frame(0, b'a'), frame(100_000, b'z')]));
    let huge = with(&|build| build["artefacts"][1]["size"] = (1u64 << 62).into());
    let name = |name: &'static str| with(&move |build| build["name"] = name.into());
    let artefact = |name: &'static str| with(&move |build| build["artefacts"][1]["name"] = name.into());
    let cases: Vec<Case<'_>> = vec![
        ("name", name("../evil"), layers.clone(), none, "invalid name"),
        ("absolute name", name("/evil"), layers.clone(), none, "invalid name"),
        ("hidden name", name(".builds"), layers.clone(), none, "invalid name"),
        ("artefact", artefact("../evil"), layers.clone(), none, "unknown artefact"),
        ("lock as an artefact", artefact("image.lock"), layers.clone(), none, "unknown artefact"),
        ("title", build.clone(), extra("../evil"), none, "does not name"),
        ("title of sums", build.clone(), extra("SHA256SUMS"), none, "does not name"),
        ("two of a name", build.clone(), extra("kernel"), none, "two files of the name"),
        ("other name", build.clone(), titled("kernel", "vmlinuz"), none, "does not name"),
        ("no kernel", build.clone(), without("kernel"), none, "lacks a blob of `kernel`"),
        ("frames in another order", swapped, swapped_layers, none, "was expected"),
        ("gap", gap, gap_layers, none, "gap"),
        ("frame of another image", foreign, foreign_layers, none, "lacks a blob"),
        ("size", huge, layers.clone(), none, "more than the file system"),
        ("no build.json", json!([]), layers.clone(), none, "cannot be read"),
        ("later", with(&|build| build["format_version"] = "9.0".into()), layers.clone(), none, "does not support"),
        (
            "kind",
            build.clone(),
            layers.clone(),
            &|it| it["artifactType"] = "application/vnd.x".into(),
            "is not an image of imgbuild",
        ),
        (
            "container",
            build.clone(),
            layers.clone(),
            &|it| drop(it.as_object_mut().unwrap().remove("artifactType")),
            "is not an image of imgbuild",
        ),
        (
            "index",
            build.clone(),
            layers.clone(),
            &|it| *it = json!({"schemaVersion": 2, "manifests": [{}]}),
            "several platforms",
        ),
        (
            "digest",
            build.clone(),
            layers.clone(),
            &|it| it["layers"][0]["digest"] = "md5:00".into(),
            "invalid manifest",
        ),
        ("size of a blob", build.clone(), layers.clone(), &|it| it["layers"][1]["size"] = 1.into(), ""),
    ];
    for (what, build, layers, edit, said) in cases {
        tag(registry, &build, layers, edit);
        let ran = place.pull("x:1");
        assert!(matches!(ran.code, 1 | 3), "{what}: {} {}", ran.code, ran.err);
        refused(&ran, ran.code, &[said]);
        assert!(
            !place.at("there/made-up").exists() && !place.at("evil").exists() && !place.at("there/evil").exists(),
            "{what}"
        );
    }
    // As it is, it is good.
    tag(registry, &build, layers, none);
    place.pull("x:1").good();
    let mut expected = image(&frames(b"ab"));
    expected.retain(|(name, _)| name != "build.json");
    let mut there = place.there();
    there.retain(|(name, _)| name != "build.json");
    assert_eq!(there, expected);
}

#[test]
fn what_others_put_in_the_way_is_not_followed() {
    let place = Place::new();
    place.push("x:1").good();
    place.pull("x:1").good();
    let build = std::fs::read_link(place.at("there/made-up")).unwrap();
    let build = build.file_name().unwrap().to_str().unwrap().to_owned();
    std::fs::remove_dir_all(place.at("there/.builds/made-up").join(&build)).unwrap();
    std::fs::remove_file(place.at("there/made-up")).unwrap();
    // A link in the place where files are collected.
    let victim = place.at("victim");
    std::fs::create_dir(&victim).unwrap();
    let aside = place.at("there/.builds/made-up").join(format!(".pulling-{build}"));
    std::os::unix::fs::symlink(&victim, &aside).unwrap();
    let ran = place.pull("x:1");
    refused(&ran, 3, &["it is a link: nothing is written through it"]);
    std::fs::remove_file(&aside).unwrap();
    std::fs::create_dir(&aside).unwrap();
    std::fs::write(place.at("precious"), "precious").unwrap();
    std::os::unix::fs::symlink(place.at("precious"), aside.join("kernel")).unwrap();
    place.pull("x:1").good();
    assert!(files(&victim).is_empty());
    assert_eq!(std::fs::read_to_string(place.at("precious")).unwrap(), "precious");
    // Where a directory is that imgbuild did not make, nothing is replaced.
    std::fs::remove_file(place.at("there/made-up")).unwrap();
    std::fs::create_dir(place.at("there/made-up")).unwrap();
    std::fs::write(place.at("there/made-up/own"), "own").unwrap();
    let ran = place.pull("x:1");
    refused(&ran, 3, &["imgbuild did not make"]);
    assert_eq!(files(&place.at("there/made-up")).len(), 1);
}
