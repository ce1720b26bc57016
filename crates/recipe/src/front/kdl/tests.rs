use super::*;
use crate::Spans;
use crate::front::schema::recipe_schema;

fn document(text: &str) -> (Node, Vec<Finding>) {
    read(&SourceFile::new("image.kdl", "/image.kdl", text), &recipe_schema())
}

fn json(text: &str) -> serde_json::Value {
    let (node, findings) = document(text);
    assert!(findings.is_empty(), "{findings:?}");
    node.to_json()
}

fn problems(text: &str) -> Vec<String> {
    let line = |finding: &Finding| format!("{}: {}", finding.span.as_ref().unwrap(), finding.message);
    document(text).1.iter().map(line).collect()
}

#[test]
fn nodes_read_as_the_model_wants_them() {
    let text = r#"
image compute release=sid
repo source=host
repo uri="http://x" suites="sid" { components main contrib }
packages {
    lists "compute.pkglist"
    install chrony "htop"
    install vim
}
kernel package="linux-image-amd64" {
    drivers "+ice" "-be2net"
    build "mlnx" { make "-C" "{build}" }
}
initrd {
    modes
    dracut_modules {
        - lvm  // needs lvm2
        - "-plymouth"
    }
}
boot { tmpfs "/tmp"="50m" { "/var/tmp" "50m" } }
users { munge 104 gid=110 }
groups munge=110
xcat node_support=#true
pack level=3
"#;
    assert_eq!(
        json(text),
        serde_json::json!({
            "image": {"name": "compute", "release": "sid"},
            "repo": [{"source": "host"}, {"uri": "http://x", "suites": ["sid"], "components": ["main", "contrib"]}],
            "packages": {"lists": ["compute.pkglist"], "install": ["chrony", "htop", "vim"]},
            "kernel": {"package": "linux-image-amd64", "drivers": ["+ice", "-be2net"], "build": [{"source": "mlnx", "make": ["-C", "{build}"]}]},
            "initrd": {"modes": [], "dracut_modules": ["lvm", "-plymouth"]},
            "boot": {"tmpfs": {"/tmp": "50m", "/var/tmp": "50m"}},
            "users": {"munge": {"uid": 104, "gid": 110}},
            "groups": {"munge": 110},
            "xcat": {"node_support": true},
            "pack": {"level": 3},
        })
    );
}

#[test]
fn spans_are_those_of_the_kdl_text() {
    let text =
        "image é {\n    release  \"sid\"\n}\nkernel package = \"linux\" {\n    drivers \"+ice\" \"-é\" \"+igb\"\n}\n";
    let (node, findings) = document(text);
    assert!(findings.is_empty(), "{findings:?}");
    let spans = Spans::of(&node);
    let at = |path: &str| {
        let span = spans.get(path).unwrap();
        format!("{}:{}", span.line(), span.text())
    };
    assert_eq!(at("image.name"), "1:é");
    assert_eq!(at("image.release"), "2:\"sid\"");
    assert_eq!(at("image.release#key"), "2:release");
    assert_eq!(at("kernel.package"), "4:\"linux\"");
    assert_eq!(at("kernel.drivers[2]"), "5:\"+igb\"");
    assert_eq!(at("kernel.drivers"), "5:drivers \"+ice\" \"-é\" \"+igb\"");
}

#[test]
fn what_cannot_be_meant_is_told_at_its_place() {
    let text = "(image)image x release=y release=z\nimage w\nkernel \"linux\"\npackages install=\"vim\" { install \"htop\" }\nboot { tmpfs \"/tmp\" }\n\
                pack { level 3 4 }\npack2 { }\nsystem { fstab a { - b }; exports { x }; hostname #null; locale }\nxcat path_map=x\nsync { lists a=b }\nservices { enable (u)\"x\" }\n";
    insta::assert_snapshot!(problems(text).join("\n"), @r#"
    image.kdl:1:2: the type annotation `(image)` has no effect in a recipe
    image.kdl:1:26: `release` is written twice
    image.kdl:2:1: `image` is written twice
    image.kdl:3:8: `kernel` is a table, but "linux" has no key
    image.kdl:5:14: `tmpfs` is a table, but "/tmp" has no key
    image.kdl:6:16: `level` is one value, but 2 are given
    image.kdl:8:10: `fstab` has items after its name and in a block
    image.kdl:8:37: the block of `exports` contains items, each as - "ITEM"
    image.kdl:8:51: #null is not a value in a recipe
    image.kdl:8:58: `locale` has no value
    image.kdl:9:6: `path_map` is a table and cannot be one value
    image.kdl:10:14: `lists` is a list and has no keys
    image.kdl:11:20: the type annotation `(u)` has no effect in a recipe
    "#);
}

#[test]
fn syntax_errors_have_places_and_words_of_kdl_1_a_remedy() {
    let (_, findings) = document("image \"x\" release=\"y\"\nxcat { node_support true }\n");
    assert_eq!(findings[0].span.as_ref().unwrap().line(), 2);
    assert!(findings.iter().any(|finding| finding.help.as_deref() == Some("write #true")), "{findings:?}");
    assert!(!problems("image {\n  name \"x\"\n").is_empty());
}

#[test]
fn hostile_texts_neither_hang_nor_overflow() {
    let begun = std::time::Instant::now();
    for text in [
        "a /-{ ".repeat(22),
        "a /-{".repeat(1000),
        "{".repeat(100_000),
        "a{".repeat(2000),
        "a{".repeat(64) + &"}".repeat(64),
        "/*".repeat(10_000),
        "(".repeat(100_000),
        "a ".repeat(10_000),
        "a#\"x\"y".to_owned() + &"{".repeat(4000) + "\"#",
        "a \u{1}\u{feff}\u{202e}".to_owned(),
        "a 1e999999999 0xffffffffffffffffffffffffffffffffffffffff".to_owned(),
        "\"\"\"\n\"\"\"".repeat(2000),
        "/- ".repeat(2000),
        "/- ".repeat(256),
        "a /-b ".repeat(2000),
    ] {
        let _ = document(&text);
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn the_example_of_the_documentation_is_good() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/kdl.md");
    let text = std::fs::read_to_string(path).unwrap();
    let example = text.split("```kdl\n").nth(1).unwrap().split("```").next().unwrap();
    let (node, findings) = document(example);
    assert!(findings.is_empty(), "{findings:?}");
    let findings = crate::check_against_schema(&node, &recipe_schema());
    assert!(findings.is_empty(), "{findings:?}");
}

/// The schema of files that inherit: keys around the model, and tables of any parts of it.
fn schema_with_kin() -> Json {
    let mut schema = recipe_schema();
    let mut variant = schema["properties"].clone();
    variant["extends"] = serde_json::json!({"type": ["string", "array"], "items": {"type": "string"}});
    variant["remove"] = serde_json::json!({"type": "object", "additionalProperties": {}});
    for key in ["extends", "remove"] {
        schema["properties"][key] = variant[key].clone();
    }
    schema["$defs"]["Variant"] = serde_json::json!({"type": "object", "properties": variant});
    schema["properties"]["variant"] =
        serde_json::json!({"type": "object", "additionalProperties": {"$ref": "#/$defs/Variant"}});
    schema
}

#[test]
fn inheritance_reads_as_the_rest() {
    let text = r#"
extends "../base/image.kdl"
remove {
    packages { install vim }
    kernel drivers=#true
    repo #true
    users { munge #true }
}
variant gpu {
    extends "a" "b"
    kernel { updates "nvidia" }
    packages { install "cuda" }
}
variant "big" {
    remove system=#true
    boot { cmdline quiet }
}
"#;
    let (node, findings) = read(&SourceFile::new("image.kdl", "/image.kdl", text), &schema_with_kin());
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(
        node.to_json(),
        serde_json::json!({
            "extends": "../base/image.kdl",
            "remove": {"packages": {"install": ["vim"]}, "kernel": {"drivers": true}, "repo": true, "users": {"munge": true}},
            "variant": {
                "gpu": {"extends": ["a", "b"], "kernel": {"updates": ["nvidia"]}, "packages": {"install": ["cuda"]}},
                "big": {"remove": {"system": true}, "boot": {"cmdline": ["quiet"]}},
            },
        })
    );
    let twice = "variant a { kernel version=x }\nvariant a { kernel version=y }\nusers munge uid=1\nusers munge 2\n";
    let (_, findings) = read(&SourceFile::new("image.kdl", "/image.kdl", twice), &schema_with_kin());
    let messages: Vec<&str> = findings.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(
        messages,
        ["`a` is written twice", "`users munge` is one table, and has one name", "`munge` is written twice"]
    );
}
