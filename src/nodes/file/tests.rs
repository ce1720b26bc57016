//! What is inherited, and what is refused.

use super::*;

fn read(text: &str) -> Result<Nodes, Vec<Finding>> {
    Nodes::of_file(&SourceFile::new("nodes.toml", "/w/nodes.toml", text))
}

/// `line: message` of what is wrong.
fn problems(text: &str) -> Vec<String> {
    let findings = match read(text) {
        Ok(nodes) => nodes.findings,
        Err(findings) => findings,
    };
    let line = |finding: &Finding| finding.span.as_ref().map_or(0, Span::line);
    findings.iter().map(|finding| format!("{}: {}", line(finding), finding.message)).collect()
}

const SITE: &str = r#"[defaults]
image = "compute"
kernel_args = ["quiet", "console=tty0"]
postscripts = ["syslog", "ssh"]
variables = { rack = "none", site = "north" }

[group.compute]
nodes = "cn[001-004]"
kernel_args = ["~quiet", "nosmt"]

[group.gpu]
nodes = "cn[003-004]"
priority = 10
image = "gpu"
postscripts = ["nvidia", "ssh"]
variables = { rack = "gpu" }

[node."cn[001-004]"]
ip = "10.0.0.[11-14]"
console = ["ttyS0,115200"]

[node.cn004]
mac = "52:54:00:00:00:04"
image = "test"
postscripts = ["~syslog"]
uuid = "4c4c4544-0043-4810-8057-B4C04F4D3232"
serial = "ABC123"
"#;

#[test]
fn a_node_has_what_it_inherits_each_value_with_its_line() {
    let nodes = read(SITE).unwrap();
    assert_eq!((nodes.len(), nodes.findings.len()), (4, 0));
    let one = nodes.get("cn001").unwrap();
    assert_eq!((one.image(), one.ip().unwrap().to_string().as_str()), (Some("compute"), "10.0.0.11"));
    assert_eq!(one.kernel_words(), ["console=ttyS0,115200", "console=tty0", "nosmt"]);
    assert_eq!(one.span(Attr::Image).unwrap().line(), 2);
    let three = nodes.get("cn003").unwrap();
    assert_eq!((three.image(), three.groups.join(",").as_str()), (Some("gpu"), "compute,gpu"));
    assert_eq!(three.list(Attr::Postscripts), ["syslog", "ssh", "nvidia"]);
    assert_eq!(three.variables().into_iter().collect::<Vec<_>>(), [("rack", "gpu"), ("site", "north")]);
    let four = nodes.get("cn004").unwrap();
    assert_eq!((four.image(), four.list(Attr::Postscripts)), (Some("test"), vec!["ssh", "nvidia"]));
    assert_eq!(four.span(Attr::Image).unwrap().line(), 24);
    assert_eq!(nodes.by_mac("52-54-00-00-00-04".parse().unwrap()), Some("cn004"));
    assert_eq!(nodes.by_ip("10.0.0.12".parse().unwrap()), Some("cn002"));
    assert_eq!(nodes.by_uuid("4C4C4544-0043-4810-8057-b4c04f4d3232"), Some("cn004"));
    assert_eq!((nodes.by_serial("abc123"), nodes.by_serial("x")), (Some("cn004"), None));
    assert!(nodes.get("cn005").is_none());
    // Sets, and groups by what nodes have.
    let of = |text: &str| nodes.select(text).unwrap().folded();
    assert_eq!(of("@compute!@gpu"), "cn[001-002]");
    assert_eq!(of("@image:compute"), "cn[001-002]");
    assert_eq!(of("@*!@image:test"), "cn[001-003]");
    assert_eq!(
        nodes.select_xcat("compute,-gpu", crate::nodes::xcat_range::Files::Any).unwrap().folded(),
        "cn[001-002]"
    );
    assert_eq!(
        nodes.select_xcat("nodetype.provmethod==gpu", crate::nodes::xcat_range::Files::Any).unwrap().folded(),
        "cn003"
    );
}

#[test]
fn kdl_says_the_same() {
    let text = "defaults {\n    image compute\n    kernel_args quiet\n}\ngroup gpu priority=10 {\n    nodes \"cn[1-2]\"\n    image gpu\n}\n\
        node \"cn[1-2]\" ip=\"10.0.0.[1-2]\"\nnode cn1 mac=\"52:54:00:00:00:01\" {\n    kernel_args a b\n    variables rack=\"r1\"\n}\nnode login\n";
    let nodes = Nodes::of_file(&SourceFile::new("nodes.kdl", "/w/nodes.kdl", text)).unwrap();
    let one = nodes.get("cn1").unwrap();
    assert_eq!((one.image(), one.kernel_words().join(" ")), (Some("gpu"), "quiet a b".to_owned()));
    assert_eq!((one.span(Attr::Mac).unwrap().line(), nodes.len()), (10, 3));
    assert_eq!(one.variables().get("rack"), Some(&"r1"));
}

#[test]
fn all_that_is_wrong_is_told_in_one_go() {
    let text = "[group.a]\nnodes = \"cn[1-3],cn9,@nosuch\"\nimage = \"x\"\n[group.b]\nnodes = \"@a\"\nimage = \"y\"\n\
        [node.cn1]\nmac = \"52:54:00:00:00:01\"\nip = \"10.0.0.1\"\n[node.cn2]\nmac = \"52-54-00-00-00-01\"\nip = \"10.0.0.1\"\n\
        [node.cn3]\nmac = \"52:54:00:00:00\"\nip = \"10.0.0.1/24\"\n[node.\"cn[4-5]\"]\nip = \"10.0.0.9\"\n[node.\"cn 6\"]\n[node.\"@a\"]\n\
        [node.cn7]\nkernel_args = [\"a b\"]\nbond = \"eno1\"\nuuid = \"1\"\nconsole = [\"console=ttyS0\"]\n";
    insta::assert_snapshot!(problems(text).join("\n"));
    // The schema comes first: what is no key has no meaning that could be checked.
    insta::assert_snapshot!(
        problems("[node.cn1]\nmacc = \"x\"\nloader = \"ipxee\"\nkernel_args = \"quiet\"\n[group.x]\n[groups.y]\n").join("\n"),
        @r"
    2: `macc` is not a key of ‹[node.cn1]›
    3: `node.cn1.loader` cannot be `ipxee`
    4: `node.cn1.kernel_args` must be a list, not a string
    5: `group.x.nodes` is missing
    6: `groups` is not a key of nodes.toml
    "
    );
}

#[test]
fn groups_that_disagree_are_told_once_unless_one_counts_more() {
    let text = |priority: &str, own: &str| {
        format!(
            "[group.a]\nnodes = \"cn[1-9]\"\nimage = \"x\"\n[group.b]\nnodes = \"cn[1-9]\"\nimage = \"y\"\n{priority}[node.\"cn[1-9]\"]\n{own}"
        )
    };
    assert_eq!(
        problems(&text("", "")),
        ["6: the group `a` and the group `b` say different things of `image` of `cn1`"]
    );
    assert!(problems(&text("priority = 1\n", "")).is_empty());
    assert!(problems(&text("", "image = \"z\"\n")).is_empty());
    let sets = "[node.\"cn[1-3]\"]\nimage = \"x\"\n[node.\"cn[3-4]\"]\nimage = \"y\"\n";
    let message = "4: the table of `cn[1-3]` and the table of `cn[3-4]` say different things of `image` of `cn3`";
    assert_eq!(problems(sets), [message]);
    assert!(problems(&format!("{sets}[node.cn3]\nimage = \"x\"\n")).is_empty());
}

#[test]
fn what_is_odd_is_a_warning() {
    let text = "[group.a]\nnodes = \"cn1\"\nkernel_args = [\"~quiet\"]\n[node.\"cn[1-2]\"]\n";
    assert_eq!(
        problems(text),
        ["3: `~quiet` takes out nothing: no farther table has it in `kernel_args`", "4: in no group: cn2"]
    );
    assert!(read(text).is_ok());
    let circle = "[group.a]\nnodes = \"@b\"\n[group.b]\nnodes = \"@a\"\n[node.cn1]\n";
    assert_eq!(problems(circle)[0], "2: the group `a` is in itself, by the groups that it names");
}

#[test]
fn ranges_that_mean_nothing_are_refused_with_what_was_meant() {
    let nodes = read(SITE).unwrap();
    let said = |text: &str| {
        let finding = nodes.select(text).unwrap_err().remove(0);
        format!("{}; {}", finding.message, finding.help.unwrap_or_default())
    };
    assert_eq!(
        said("cn001,cn0004"),
        "there is no node `cn0004` in nodes.toml; did you mean `cn004`? `imgbuild nodes` lists them"
    );
    assert_eq!(said("compute"), "there is no node `compute` in nodes.toml; a group has `@` before it: @compute");
    assert_eq!(said("@compote"), "there is no group `compote`; did you mean `@compute`?");
    assert_eq!(
        said("cn001!cn001"),
        "`cn001!cn001` means no node; name nodes or groups: cn[001-040], @compute, or `*` for all"
    );
    assert_eq!(said(""), "`` means no node; name nodes or groups: cn[001-040], @compute, or `*` for all");
    assert_eq!(said("x*"), "`x*` matches no node; `imgbuild nodes` lists them");
    assert!(said("cn[1-").starts_with("`cn[1-` is not a set of nodes: `[` without `]`"));
    assert!(said("@rack:1").contains("there is no group source `rack`; sources are group, arch, image, loader"));
    assert!(said("cn[1000-2000]").contains("1001 nodes are not in nodes.toml: cn[1000-2000]"));
}

#[test]
fn tables_and_groups_have_a_bound_together() {
    let table = problems("[node.\"n[1-600000],m[1-600000]\"]\n");
    assert!(table[0].ends_with("is not a set of nodes: these are more than 1,000,000 nodes"), "{table:?}");
    let groups: String = (0..30).map(|number| format!("[group.g{number}]\nnodes = \"*\"\n")).collect();
    let found = problems(&format!("[node.\"n[1-100000]\"]\n{groups}"));
    assert_eq!(found[0], "43: up to here groups have more than 2,000,000 nodes together");
}
