//! What changes write, and that they have the effect that they report.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::file::effective::Given;
use base::source::SourceFile;

const TEXT: &str = "# Ours.\n[group.compute]\nnodes = \"cn[1-4]\"   # all\nimage = \"a\"  # tested\n\n[node.\"cn[1-4]\"]\nkernel_args = [\"quiet\"]\n\n[node.cn1]  # the first\nmac = \"52:54:00:00:00:01\"\nimage = \"b\"\n";

fn nodes() -> Nodes {
    Nodes::of_file(&SourceFile::new("nodes.toml", "/nodes.toml", TEXT)).unwrap()
}

fn edited(range: &str, edits: &[&str], unset: &[&str]) -> Result<String, String> {
    let nodes = nodes();
    let target = match range.strip_prefix('@') {
        Some(group) => Target::Group(group.to_owned()),
        None => Target::Nodes(nodes.select(range).unwrap()),
    };
    let mut all: Vec<Edit> = edits.iter().map(|text| Edit::parse(text).unwrap()).collect();
    let path = |text: &&str| recipe::FieldPath::parse(text).unwrap();
    all.extend(unset.iter().map(|text| Edit { path: path(text), change: Change::Unset }));
    let text = changed(&nodes, &target, &all)?.text;
    // What was written is good, and comments are still there.
    Nodes::of_file(&SourceFile::new("nodes.toml", "/nodes.toml", text.as_str()))
        .map_err(|found| format!("{found:?}\n{text}"))?;
    for comment in ["# Ours.", "# all", "# the first"] {
        assert!(text.contains(comment), "{text}");
    }
    Ok(text)
}

#[test]
fn a_change_is_written_where_it_is_said_and_counts_for_all_of_the_range() {
    assert_eq!(edited("@compute", &["image=c"], &[]).unwrap(), TEXT.replace("\"a\"", "\"c\""));
    // cn1 has its own, the others get a table.
    let text = edited("cn[1-2]", &["image=c"], &[]).unwrap();
    assert_eq!(text, format!("{}\n[node.cn2]\nimage = \"c\"\n", TEXT.replace("\"b\"", "\"c\"")));
    let text = edited("cn[1-4]", &["kernel_args+=nosmt", "kernel_args-=quiet", "console=[\"ttyS0\"]"], &[]).unwrap();
    assert_eq!(text, TEXT.replace("[\"quiet\"]", "[\"nosmt\"]\nconsole = [\"ttyS0\"]"), "{text}");
    // Some of a table: what they inherit is taken out by a word.
    let text = edited("cn[2-3]", &["kernel_args-=quiet", "variables.rack=r1"], &[]).unwrap();
    assert!(
        text.ends_with("\n[node.\"cn[2-3]\"]\nkernel_args = [\"~quiet\"]\nvariables = { rack = \"r1\" }\n"),
        "{text}"
    );
    let text = edited("cn[2-3]", &["ip=10.0.0.[2-3]"], &[]).unwrap();
    assert!(text.ends_with("\n[node.\"cn[2-3]\"]\nip = \"10.0.0.[2-3]\"\n"), "{text}");
    assert_eq!(edited("cn1", &[], &["image"]).unwrap(), TEXT.replace("image = \"b\"\n", ""));
    assert_eq!(
        edited("@compute", &["nodes-=cn4", "priority=3"], &[]).unwrap(),
        TEXT.replace("cn[1-4]\"   # all\n", "cn[1-3]\"   # all\n").replace("# tested\n", "# tested\npriority = 3\n")
    );
}

#[test]
fn what_cannot_be_changed_is_refused() {
    for (range, edit, said) in [
        ("cn1", "imag=x", "`imag` is not a key of a node; did you mean `image`?"),
        (
            "cn1",
            "kernel_args=x",
            "`kernel_args` is a list: write 'kernel_args=[\"x\"]', or 'kernel_args+=x' to add an item",
        ),
        ("cn1", "image+=x", "`image` is not a list: write image=x"),
        ("cn1", "image-=x", "`image` is not a list: write --unset image"),
        ("cn1", "kernel_args-=x", "none of these nodes has `x` in `kernel_args`"),
        ("@compute", "kernel_args-=x", "no node of the group has `x` in `kernel_args`"),
        (
            "cn[1-2]",
            "ip=10.0.0.1",
            "`ip` has 1 value for 2 nodes\n  help: write a range with 2 numbers, for instance \"10.0.0.[1-2]\", or a table for each node",
        ),
        ("@compute", "mac=x", "each node has its own `mac`: a group cannot have one"),
        ("cn1", "variables=x", "name the variable: variables.NAME=VALUE"),
        ("cn1", "image.x=y", "`image` is not a table: it has no `x`"),
        ("@compute", "nodes+=cn9", "there is no node `cn9` in nodes.toml"),
    ] {
        assert_eq!(edited(range, &[edit], &[]).unwrap_err(), said, "{range} {edit}");
    }
    let said = edited("cn2", &[], &["image"]).unwrap_err();
    assert_eq!(said, "`image` of these nodes is inherited: it is written at nodes.toml:4");
}

/// Sets, groups and own tables that speak of the same keys.
const BASE: &str = include_str!("base.toml");
/// What a row of changes made of it, each of which was reported as done.
const AFTER_ELEVEN: &str = include_str!("after_eleven.toml");

fn of(text: &str) -> Result<Nodes, String> {
    let file = SourceFile::new("nodes.toml", "/nodes.toml", text);
    Nodes::of_file(&file).map_err(|found| format!("{found:?}"))
}

/// What each node has, key by key.
fn values(nodes: &Nodes, name: &str) -> BTreeMap<(Attr, String), Vec<String>> {
    let mut found = BTreeMap::new();
    for (attr, given) in nodes.get(name).unwrap().values {
        match given {
            Given::Text(text) => drop(found.insert((attr, String::new()), vec![text.value])),
            Given::List(items) => {
                let items: Vec<String> = items.into_iter().map(|item| item.value).collect();
                if !items.is_empty() {
                    found.insert((attr, String::new()), items);
                }
            }
            Given::Map(all) => found.extend(all.into_iter().map(|(name, one)| ((attr, name), vec![one.value]))),
        }
    }
    found
}

/// What is wrong with what a node has after a change.
fn wrong(edit: &Edit, attr: Attr, before: &[String], after: &[String]) -> bool {
    let sorted = |items: &[String]| items.iter().cloned().collect::<BTreeSet<_>>();
    let is_adding = attr.merging() == Merging::Adding;
    let (mut wanted, now) = (sorted(before), sorted(after));
    match &edit.change {
        Change::Unset => return false,
        Change::Set(text) if attr.is_list() => {
            let list: Vec<String> = toml_items(text);
            return if is_adding { !list.iter().all(|item| after.contains(item)) } else { after != list };
        }
        Change::Set(text) => return after != [text.as_str()],
        Change::Append(item) | Change::Take(item) if item.starts_with('~') => {
            let is_in = now.contains(&item[1..]);
            wanted.remove(&item[1..]);
            return sorted(after).into_iter().filter(|one| *one != item[1..]).collect::<BTreeSet<_>>() != wanted
                || matches!(edit.change, Change::Append(_)) && is_in;
        }
        Change::Append(item) => drop(wanted.insert(item.clone())),
        Change::Take(item) => drop(wanted.remove(item)),
    }
    wanted != now
}

fn toml_items(text: &str) -> Vec<String> {
    let list: toml_edit::Value = text.parse().unwrap();
    list.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

const RANGES: [&str; 12] =
    ["n1", "n5", "n9", "n[1-3]", "n[1,4]", "n[2-3]", "n[5-6]", "n[1-9]", "n[4-9]", "n[1-3,9]", "@g1", "@g2"];
const EDITS: [&str; 41] = [
    "nic=eth7",
    "nic=mac",
    "nic!",
    "arch=aarch64",
    "arch!",
    "kernel_args+=g1",
    "kernel_args-=g1",
    "kernel_args+=s1",
    "kernel_args-=s1",
    "kernel_args+=d1",
    "kernel_args-=d1",
    "kernel_args+=d2",
    "kernel_args-=d2",
    "kernel_args+=~s1",
    "kernel_args-=~s1",
    "kernel_args+=own",
    "kernel_args-=own",
    "kernel_args=[\"x\", \"g1\"]",
    "kernel_args!",
    "console=[\"ttyS0\"]",
    "console=[\"ttyS0\", \"ttyS1\"]",
    "console+=ttyS1",
    "console-=ttyS0",
    "console-=ttyS1",
    "variables.rack=7",
    "variables.rack!",
    "variables.u=2",
    "comment=new",
    "ip!",
    "loader=grub",
    "image=other",
    "image!",
    "ip=10.9.9.9",
    "mac=52:54:00:00:09:09",
    "mac!",
    "serial=S9",
    "serial!",
    "postscripts+=tune fast",
    "postscripts-=tune fast",
    "postscripts+=~tune fast",
    "variables.u!",
];

/// Makes a change, or says why not; panics where it had another effect than it reported.
fn checked(text: &str, range: &str, edit: &str) -> Result<String, String> {
    let before = of(text)?;
    let edit = match edit.strip_suffix('!') {
        Some(path) => Edit { path: recipe::FieldPath::parse(path).unwrap(), change: Change::Unset },
        None => Edit::parse(edit).unwrap(),
    };
    let set = before.select(range).unwrap();
    let target = match range.strip_prefix('@') {
        Some(group) => Target::Group(group.to_owned()),
        None => Target::Nodes(set.clone()),
    };
    let is_group = matches!(target, Target::Group(_));
    let after = changed(&before, &target, std::slice::from_ref(&edit))?;
    let now = of(&after.text);
    let whole = after.after.unwrap().whole();
    assert_eq!(whole.is_ok(), now.is_ok(), "{}", after.text);
    let now = now?;
    let (attr, inner) = key_of(&edit).unwrap();
    let key = (attr, inner.unwrap_or_default().to_owned());
    let context =
        |name: &str| format!("{range} {edit:?} {name}\n{text}\n-- becomes --\n{}\n{:?}", after.text, after.notes);
    for name in before.names() {
        let (mut old, mut new) = (values(&before, name), values(&now, name));
        let (old_one, new_one) = (old.remove(&key).unwrap_or_default(), new.remove(&key).unwrap_or_default());
        assert_eq!(old, new, "{}", context(name));
        if !set.contains(name) {
            assert_eq!(old_one, new_one, "{}", context(name));
        } else if wrong(&edit, attr, &old_one, &new_one) {
            assert!(is_group && !after.notes.is_empty(), "{}", context(name));
        }
    }
    Ok(after.text)
}

#[test]
fn a_change_has_the_effect_that_it_reports() {
    for (range, edit) in
        [("n[1-3]", "kernel_args-=g1"), ("n1", "kernel_args-=g1"), ("n[1-9]", "nic=eth0"), ("n5", "kernel_args+=s1")]
    {
        for text in [BASE, AFTER_ELEVEN] {
            assert!(checked(text, range, edit).is_ok(), "{range} {edit}");
        }
    }
    for range in RANGES {
        for edit in EDITS {
            for text in [BASE, AFTER_ELEVEN] {
                let done = checked(text, range, edit);
                // A value and an item more can be given to any nodes.
                if !range.starts_with('@') && (edit.contains("kernel_args+") || edit.contains("=eth7")) {
                    done.unwrap_or_else(|problem| panic!("{range} {edit}: {problem}"));
                }
            }
        }
    }
}

proptest::proptest! {
    #[test]
    fn rows_of_changes_have_the_effects_that_they_report(row in proptest::collection::vec((0..RANGES.len(), 0..EDITS.len()), 1..14)) {
        let mut text = BASE.to_owned();
        for (range, edit) in row {
            if let Ok(after) = checked(&text, RANGES[range], EDITS[edit]) {
                text = after;
            }
        }
    }
}

#[test]
fn a_group_says_which_nodes_do_not_follow() {
    let before = of(BASE).unwrap();
    let edit = Edit::parse("nic=eth9").unwrap();
    let after = changed(&before, &Target::Group("g1".to_owned()), &[edit]).unwrap();
    assert_eq!(after.notes, ["n[2-3,5] do not follow in `nic`: nodes.toml:22 counts more"]);
}

#[test]
fn own_addresses_are_given_to_some_nodes_of_a_table() {
    let before = of(BASE).unwrap();
    let edit = Edit::parse("ip=10.1.0.[2-3]").unwrap();
    let set = before.select("n[2-3]").unwrap();
    let after = of(&changed(&before, &Target::Nodes(set), &[edit]).unwrap().text).unwrap();
    let ip = |name: &str| after.get(name).unwrap().ip().unwrap().to_string();
    assert_eq!(
        (ip("n1"), ip("n2"), ip("n3"), ip("n4")),
        ("10.0.0.1".into(), "10.1.0.2".into(), "10.1.0.3".into(), "10.0.0.4".into())
    );
}
