//! The committed schemas are current, and examples and outputs fit them.

use crate::support::{Ran, Space, copy_tree, imgbuild, needed, project};

/// All formats; `imgbuild schema` must know no others.
pub const FORMATS: [&str; 22] = [
    "image",
    "workspace",
    "lock",
    "plan",
    "planfile",
    "log",
    "diff",
    "build",
    "record",
    "list",
    "check",
    "audit",
    "update",
    "progress",
    "import",
    "movein",
    "capture",
    "nodes",
    "nodelist",
    "needs",
    "sync",
    "roll",
];

pub fn schema(format: &str) -> String {
    String::from_utf8(imgbuild().args(["schema", format]).output().unwrap().stdout).unwrap()
}

#[test]
fn committed_schemas_are_current() {
    for format in FORMATS {
        let path = project().join(format!("schemas/{format}.schema.json"));
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(committed, schema(format), "renew it: imgbuild schema {format} >schemas/{format}.schema.json");
    }
}

/// Reads a schema and values, and prints which of them fit it, with what is wrong.
const CHECK: &str = r#"
import json, sys
from jsonschema.validators import validator_for
schema, values = json.load(sys.stdin)
kind = validator_for(schema)
kind.check_schema(schema)
print(json.dumps([[f"{error.json_path}: {error.message}" for error in kind(schema).iter_errors(value)] for value in values]))
"#;

/// What a validator that is not ours finds wrong with values; the schema itself must be one. The validator is Python's, because one in
/// Rust would be compiled for a minute; tests/run installs it. Nothing where it is missing, and where that is said.
#[track_caller]
fn mistakes(format: &str, values: &[&serde_json::Value]) -> Option<Vec<Vec<String>>> {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let python = needed(project().join("target/check-tools/bin/python"), "tests/run installs it")?;
    let mut python = Command::new(python);
    let mut child = python.args(["-c", CHECK]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let schema: serde_json::Value = serde_json::from_str(&schema(format)).unwrap();
    child.stdin.take().unwrap().write_all(&serde_json::to_vec(&(schema, values)).unwrap()).unwrap();
    let answer = child.wait_with_output().unwrap();
    assert!(answer.status.success(), "{format}.schema.json is not a schema");
    Some(serde_json::from_slice(&answer.stdout).unwrap())
}

#[track_caller]
pub fn assert_valid(format: &str, value: &serde_json::Value) {
    let mistakes = mistakes(format, &[value]).unwrap_or_default().concat();
    assert!(mistakes.is_empty(), "{mistakes:?}");
}

#[track_caller]
fn assert_invalid(format: &str, value: &serde_json::Value) {
    let mistakes = mistakes(format, &[value]);
    assert!(mistakes.is_none_or(|mistakes| !mistakes[0].is_empty()), "{value}");
}

#[test]
fn examples_fit_the_schema_and_check() {
    for entry in std::fs::read_dir(project().join("examples")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name == "ci" {
            // Pipelines, which have a test of their own.
            continue;
        }
        if name == "xcat-site" {
            // No recipe before it is imported, which tests/it/xcat_import.rs does.
            continue;
        }
        let space = Space::example(&name);
        for entry in walkdir::WalkDir::new(space.path()).into_iter().flatten() {
            let format = match entry.file_name().to_str() {
                Some("image.toml") => "image",
                Some("imgbuild.toml") => "workspace",
                _ => continue,
            };
            let text = std::fs::read_to_string(entry.path()).unwrap();
            assert_valid(format, &toml::from_str(&text).unwrap());
        }
        // What is not in git; the examples' own scripts make it where they are built.
        match name.as_str() {
            "slurm" => drop(space.write("site/munge.key", "a key\n")),
            "lustre" => drop(space.write("source/lustre-client-modules/dkms.conf", "PACKAGE_NAME=lustre\n")),
            "infiniband" => drop(space.write("source/mlnx-ofed-kernel/dkms.conf", "PACKAGE_NAME=mlnx\n")),
            // It inherits from an example beside it.
            "service-statelite" => {
                let both = Space::new();
                for one in ["service", "service-statelite"] {
                    copy_tree(&project().join("examples").join(one), &both.path().join(one));
                }
                let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_imgbuild"));
                check.arg("-C").arg(both.path().join(&name)).arg("check");
                Ran::from(check.output().unwrap()).good();
                continue;
            }
            _ => {}
        }
        space.run(&["check"]).good();
    }
}

#[test]
fn the_schema_refuses_what_the_program_refuses() {
    for text in [
        "[image]\nname = \"x\"\nrelease = 12\n",
        "[image]\nname = \"x\"\nrelease = \"y\"\nfoo = 1\n",
        "[image]\nname = \"../x\"\nrelease = \"y\"\n",
        "[image]\nname = \"x\"\nrelease = \"y\"\n[pack]\nlevel = 77\n",
    ] {
        assert_invalid("image", &toml::from_str(text).unwrap());
        let space = Space::new();
        space.write("image.toml", text);
        assert_eq!(space.run(&["check"]).code, 1, "{text}");
    }
}

#[test]
fn a_file_may_leave_to_others_what_a_recipe_must_have() {
    for text in [
        "[image]\nname = \"x\"\n",
        "extends = \"a.toml\"\n",
        "extends = [\"a.toml\"]\n[remove]\npackages.install = [\"vim\"]\n",
        "plain = true\n[variant.x.image]\nrelease = \"y\"\n[variant.x.remove]\nkernel = true\n",
    ] {
        assert_valid("image", &toml::from_str(text).unwrap());
    }
    for text in ["extends = 1\n", "[variant.x]\nplain = true\n", "[variant.x.imag]\nname = \"y\"\n"] {
        assert_invalid("image", &toml::from_str(text).unwrap());
    }
}

#[test]
fn a_workspace_fits_its_schema() {
    let text = "images = [\"images/*\", \"!images/old\"]\nout = \"out\"\n[workspace]\nallow = [\"/x\"]\n[xcat]\npath_map = { \"/a\" = \"b\" }\n[nodes]\nstate = \"state\"\n";
    assert_valid("workspace", &toml::from_str(text).unwrap());
}

#[test]
fn a_plan_fits_its_schema() {
    let space = Space::example("mini");
    assert_valid("plan", &space.plan());
    // Causes are typed: what is no cause does not fit.
    let mut plan = space.plan();
    let cause = &mut plan["images"][0]["stages"][0]["causes"][0];
    assert_eq!(cause["reason"], "not-locked");
    cause["reason"] = "inputs-changed".into();
    assert_invalid("plan", &plan);
}

#[test]
fn what_check_and_list_print_fits_their_schemas() {
    let json = |ran: crate::support::Ran| serde_json::from_str::<serde_json::Value>(&ran.out).unwrap();
    let space = Space::example("compute");
    assert_valid("check", &json(space.run(&["check", "--json"])));
    assert_valid("list", &json(space.run(&["list", "--json"])));
    for (kind, file) in [("pkglist", "compute.pkglist"), ("exlist", "compute.exlist"), ("synclist", "compute.synclist")]
    {
        let file = space.path().join(file);
        assert_valid("check", &json(space.run(&["check", "--json", "--as", kind, file.to_str().unwrap()])));
    }
    space.write("image.toml", "[image]\nname = 1\n");
    let ran = space.run(&["check", "--json"]);
    assert_eq!(ran.code, 1);
    assert_valid("check", &json(ran));
}

#[test]
fn every_schema_is_one() {
    for format in FORMATS {
        mistakes(format, &[]);
    }
}
