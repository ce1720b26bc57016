use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::check_against_schema;
use crate::front::schema::recipe_schema;
use base::source::Span;

fn file(name: &str, text: &str) -> Arc<SourceFile> {
    SourceFile::new(name, format!("/{name}"), text)
}

#[track_caller]
fn converted(name: &str, text: &str, to: Format) -> String {
    convert(&file(name, text), to).unwrap().text
}

const TOML: &str = r##"# A compute node.

# What it is.
[image]
name = "compute" # xCAT: profile
release = "sid"

# The host's own.
[[repo]]
source = "host"

# The site's.
[[repo]]
uri = "http://x/#y"  # not a # comment
suites = ["sid"]

[packages]
lists = ["a.pkglist"]
# For people.
install = [
    "chrony", # time
    # an editor
    "vim",
    # "emacs",
]

[kernel]
package = "linux-image-amd64"
drivers = ["+ice", "-be2net"] # cards

[boot]
cmdline = ["console=ttyS0"]
tmpfs = { "/tmp" = "50m" }

[users.munge]
uid = 104

# The end.
"##;

#[test]
fn comments_are_carried_into_kdl() {
    insta::assert_snapshot!(converted("image.toml", TOML, Format::Kdl), @r##"
    // A compute node.

    // What it is.
    image {
        name "compute"  // xCAT: profile
        release "sid"
    }

    // The host's own.
    repo source="host"

    // The site's.
    repo {
        uri "http://x/#y"  // not a # comment
        suites "sid"
    }

    packages {
        lists "a.pkglist"
        // For people.
        install {
            - "chrony"  // time
            // an editor
            - "vim"
            // "emacs",
        }
    }

    kernel package="linux-image-amd64" {
        drivers "+ice" "-be2net"  // cards
    }

    boot {
        cmdline "console=ttyS0"
        tmpfs { "/tmp" "50m" }
    }

    users { munge uid=104 }

    // The end.
    "##);
}

#[test]
fn comments_are_carried_back_into_toml() {
    let kdl = converted("image.toml", TOML, Format::Kdl);
    insta::assert_snapshot!(converted("image.kdl", &kdl, Format::Toml), @r##"
    # A compute node.

    # What it is.
    [image]
    name = "compute"  # xCAT: profile
    release = "sid"

    # The host's own.
    [[repo]]
    source = "host"

    # The site's.
    [[repo]]
    uri = "http://x/#y"  # not a # comment
    suites = ["sid"]

    [packages]
    lists = ["a.pkglist"]
    # For people.
    install = [
        "chrony",  # time
        # an editor
        "vim",
        # "emacs",
    ]

    [kernel]
    package = "linux-image-amd64"
    drivers = ["+ice", "-be2net"]  # cards

    [boot]
    cmdline = ["console=ttyS0"]
    tmpfs = { "/tmp" = "50m" }

    [users]
    munge = { uid = 104 }

    # The end.
    "##);
}

#[test]
fn converting_twice_gives_the_same_text() {
    let kdl = converted("image.toml", TOML, Format::Kdl);
    let toml = converted("image.kdl", &kdl, Format::Toml);
    assert_eq!(converted("image.toml", &toml, Format::Kdl), kdl);
    assert_eq!(converted("image.kdl", &kdl, Format::Kdl), kdl);
}

#[test]
fn comments_of_kdl_and_what_is_taken_out() {
    let kdl = "/* A node.\n * Of two lines. */\nimage x release=y // here\n\n/-repo source=host\npackages {\n  install a /- b c // why\n  // last\n}\n";
    let converted = convert(&file("image.kdl", kdl), Format::Toml).unwrap();
    assert_eq!(converted.left_out, 2);
    insta::assert_snapshot!(converted.text, @r##"
    # A node.
    # Of two lines.
    [image]
    name = "x"
    release = "y"  # here

    [packages]
    install = ["a", "c"]  # why
    # last
    "##);
}

#[test]
fn each_example_says_the_same_in_kdl_and_back() {
    for example in ["mini", "compute", "service"] {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../examples/{example}/image.toml"));
        let toml = std::fs::read_to_string(path).unwrap();
        let kdl = converted("image.toml", &toml, Format::Kdl);
        let again = converted("image.kdl", &kdl, Format::Toml);
        let value = |text: &str| ::toml::from_str::<Json>(text).unwrap();
        assert_eq!(value(&toml), value(&again), "{kdl}");
        let comments = |text: &str, mark: &str| text.matches(mark).count();
        assert_eq!(comments(&toml, "# "), comments(&kdl, "// "), "{kdl}");
    }
}

#[test]
fn what_the_other_format_cannot_say_is_refused() {
    let findings = convert(&file("image.toml", "[image]\nfoo = [\"one\"]\n"), Format::Kdl).unwrap_err();
    assert_eq!(findings[0].code, "convert::differs");
    let text = "[image]\nname = \"a\" # \u{202e}turned\n";
    let findings = convert(&file("image.toml", text), Format::Kdl).unwrap_err();
    assert_eq!(findings[0].code, "convert::character");
}

fn any_value(root: &'static Json, schema: &'static Json) -> BoxedStrategy<Json> {
    if let Some(name) = schema["$ref"].as_str() {
        return any_value(root, &root["$defs"][name.trim_start_matches("#/$defs/")]);
    }
    if let Some(options) = schema["anyOf"].as_array() {
        return any_value(root, options.iter().find(|one| one["type"] != "null").unwrap());
    }
    if let Some(options) = schema["oneOf"].as_array() {
        let words: Vec<Json> = options.iter().map(|one| one["const"].clone()).collect();
        return proptest::sample::select(words).boxed();
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or_default();
    match kind {
        "string" => text().prop_map(Json::from).boxed(),
        "boolean" => any::<bool>().prop_map(Json::from).boxed(),
        "integer" => {
            let (least, most) = (schema["minimum"].as_i64().unwrap_or(0), schema["maximum"].as_i64().unwrap_or(9));
            (least..=most).prop_map(Json::from).boxed()
        }
        "array" => proptest::collection::vec(any_value(root, &schema["items"]), 0..4).prop_map(Json::from).boxed(),
        "object" if schema["properties"].is_object() => {
            let required: Vec<&str> =
                schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
            let fields: Vec<_> = schema["properties"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, inner)| {
                    let inner = any_value(root, inner);
                    let value = if required.contains(&name.as_str()) {
                        inner.prop_map(Some).boxed()
                    } else {
                        proptest::option::weighted(0.4, inner).boxed()
                    };
                    value.prop_map(move |value| (name.clone(), value))
                })
                .collect();
            fields
                .prop_map(|fields| fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
                .boxed()
        }
        "object" => proptest::collection::btree_map(text(), any_value(root, &schema["additionalProperties"]), 0..4)
            .prop_map(|map| map.into_iter().collect())
            .boxed(),
        other => panic!("a kind of value that the test does not know: {other} in {schema}"),
    }
}

fn text() -> BoxedStrategy<String> {
    let hard = [
        "", "-", "true", "#true", "null", "1", "+ice", "a b", "{x}", "//x", "/-x", "\"", "\\", "\n", "\u{feff}",
        "\u{2028}", "'", "#", "]",
    ];
    prop_oneof![3 => "[a-z][a-z0-9./-]{0,8}", 2 => proptest::sample::select(hard.map(str::to_owned).to_vec()), 1 => any::<String>()].boxed()
}

/// A document as a front end makes it, without places.
fn node_of(value: &Json, file: &Arc<SourceFile>) -> Node {
    let span = Span::new(file, 0..0);
    let value = match value {
        Json::Null => unreachable!("no null is generated"),
        Json::Bool(truth) => Value::Boolean(*truth),
        Json::Number(number) => Value::Integer(number.as_i64().unwrap()),
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => Value::Array(items.iter().map(|item| node_of(item, file)).collect()),
        Json::Object(map) => {
            Value::Table(map.iter().map(|(name, value)| (name.clone(), span.clone(), node_of(value, file))).collect())
        }
    };
    Node { value, span }
}

fn a_recipe() -> BoxedStrategy<Json> {
    static SCHEMA: std::sync::LazyLock<Json> = std::sync::LazyLock::new(recipe_schema);
    any_value(&SCHEMA, &SCHEMA)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_recipe_is_the_same_model_in_both_formats(value in a_recipe()) {
        let source = file("a", "");
        let node = node_of(&value, &source);
        let model: Model = serde_json::from_value(value).unwrap();
        let schema = recipe_schema();
        for (name, text) in [
            ("image.kdl", kdl_text::text_of(&node, &Comments::default())),
            ("image.toml", toml_text::text_of(&node, &Comments::default())),
        ] {
            let read = document_from(&file(name, &text), &schema).unwrap_or_else(|findings| panic!("{findings:?}\n{text}"));
            let again: Model = serde_json::from_value(read.to_json()).unwrap_or_else(|error| panic!("{error}\n{text}"));
            prop_assert_eq!(&again, &model, "{}", text);
            // A front end gives kinds that the schema accepts; what a text may be is the schema's own affair.
            let kinds = ["recipe::wrong_type", "recipe::unknown_key", "recipe::missing_key"];
            let found = check_against_schema(&read, &schema);
            prop_assert!(found.iter().all(|finding| !kinds.contains(&finding.code)), "{:?}\n{}", found, text);
        }
    }
}

/// Tables in every way in which TOML writes them.
const TABLES: &str = r##"[image]
name = "compute"
release = "sid"

[[repo]]
uri = "http://x"

[[repo]]
uri = "http://y"
suites = [
    "sid",
]

[boot]
tmpfs = { "/tmp" = "50m" }

[users]
slurm = { uid = 2 }

[users.munge]
uid = 1

[kernel]
package = "linux-image-amd64"

[[kernel.build]]
source = "x"

[[kernel.build]]
source = "y"

[variant.big]

[variant.big.pack]
level = 3

[[variant.big.repo]]
source = "host"
"##;

const VALUES: &str = r##"extends = [
    "a.toml",
]
repo = [
    { source = "host" },
    { uri = "http://x", suites = ["sid"] },
]
image = { name = "compute", release = "sid" }
"##;

/// A text with a comment behind each line, or before each.
fn noted(text: &str, mark: &str, is_behind: bool) -> (String, usize) {
    let (mut out, mut count) = (String::new(), 0);
    for line in text.lines() {
        if line.is_empty() {
            out.push('\n');
            continue;
        }
        out.push_str(&if is_behind {
            format!("{line} {mark} c{count}.\n")
        } else {
            format!("{mark} c{count}.\n{line}\n")
        });
        count += 1;
    }
    (out, count)
}

#[test]
fn a_comment_behind_or_before_any_line_is_carried_once() {
    let in_kdl = |text: &str| converted("image.toml", text, Format::Kdl);
    for (name, mark, text) in [
        ("image.toml", "#", TABLES.to_owned()),
        ("image.toml", "#", VALUES.to_owned()),
        ("image.toml", "#", TOML.lines().filter(|line| !line.contains('#')).map(|line| format!("{line}\n")).collect()),
        ("image.kdl", "//", in_kdl(TABLES)),
        ("image.kdl", "//", in_kdl(VALUES)),
    ] {
        for is_behind in [true, false] {
            let (text, count) = noted(&text, mark, is_behind);
            for to in [Format::Kdl, Format::Toml] {
                let written = converted(name, &text, to);
                for number in 0..count {
                    let found = written.matches(&format!(" c{number}.")).count();
                    assert_eq!(found, 1, "c{number} of\n{text}\nin\n{written}");
                }
            }
        }
    }
}
