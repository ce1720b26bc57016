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
    assert_eq!(nodes.select_xcat("compute,-gpu", crate::xcat_range::Files::Any).unwrap().folded(), "cn[001-002]");
    assert_eq!(nodes.select_xcat("nodetype.provmethod==gpu", crate::xcat_range::Files::Any).unwrap().folded(), "cn003");
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
    let found = problems(&format!("[node.\"n[1-5000]\"]\n{groups}"));
    assert_eq!(found[0], "43: up to here groups have more than 100,000 nodes together");
}

#[test]
fn what_is_a_nodes_own_is_that_of_its_nearest_table() {
    let set = "[node.\"cn[1-3]\"]\nmac = \"52:54:00:00:00:0[1-3]\"\nmacs = [\"52:54:00:00:01:0[1-3]\"]\nip = \"10.0.0.[1-3]\"\n";
    let own = "[node.cn2]\nmac = \"52:54:00:00:00:09\"\nmacs = []\nip = \"10.0.0.9\"\n";
    for text in [format!("{set}{own}"), format!("{own}{set}")] {
        let nodes = read(&text).unwrap();
        let two = nodes.get("cn2").unwrap();
        let macs: Vec<String> = two.macs().iter().map(ToString::to_string).collect();
        assert_eq!(
            (macs, two.ip().unwrap().to_string()),
            (vec!["52:54:00:00:00:09".to_owned()], "10.0.0.9".to_owned())
        );
        assert_eq!(nodes.by_mac("52:54:00:00:00:02".parse().unwrap()), None, "{text}");
        assert_eq!(nodes.by_mac("52:54:00:00:01:03".parse().unwrap()), Some("cn3"));
    }
    // Two tables of one kind that say the same text, and mean two values by it; two tables of one node.
    let two = "[node.\"cn[1-2]\"]\nip = \"10.0.0.[1-2]\"\n[node.\"cn[2-3]\"]\nip = \"10.0.0.[1-2]\"\n";
    assert!(
        problems(two).contains(
            &"4: the table of `cn[1-2]` and the table of `cn[2-3]` say different things of `ip` of `cn2`".to_owned()
        ),
        "{:?}",
        problems(two)
    );
    let one = "[node.cn1]\nnic = \"a\"\n[node.\"cn[1]\"]\nnic = \"b\"\n";
    assert_eq!(problems(one), ["4: the table of `cn1` and the table of `cn1` say different things of `nic` of `cn1`"]);
}

/// A cluster whose every node has its part in each kind of table.
fn large(count: usize) -> String {
    let mut text = format!(
        "[defaults]\nkernel_args = [\"a\", \"b\"]\n[group.all]\nnodes = \"cn[1-{count}]\"\nkernel_args = [\"~a\"]\n[node.\"cn[1-{count}]\"]\nnic = \"eth0\"\nip = \"10.0.[0-{}].[1-100]\"\nmac = \"52:54:00:[10-{}]:[10-59]:[10-29]\"\n",
        count / 100 - 1,
        10 + count / 1_000 - 1
    );
    for number in 1..=count {
        text.push_str(&format!("[node.cn{number}]\nnic = \"eth1\"\nkernel_args = [\"~b\"]\n"));
    }
    text
}

/// Nanoseconds of this thread alone: what else the machine does is not counted. Source: kernel, scheduler/sched-stats.
fn spent() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// What it takes to read a text, and to put together what a node has.
fn time(text: &str) -> u64 {
    let before = spent();
    let nodes = read(text);
    let _ = nodes.as_ref().map(|nodes| nodes.get("cn1"));
    spent() - before
}

#[test]
fn twice_the_nodes_take_twice_the_time() {
    let time = |count: usize| {
        let text = large(count);
        assert_eq!(read(&text).unwrap().len(), count);
        time(&text)
    };
    let (small, large) = (time(2_000).min(time(2_000)), time(8_000));
    // Four times the nodes: what is quadratic takes sixteen times as long.
    assert!(large < small * 9, "{small:?} {large:?}");
}

/// What a form of a file has for a number, over and over.
fn many(count: usize, first: &str, one: impl Fn(usize) -> String) -> String {
    (1..=count).fold(first.replace("COUNT", &count.to_string()), |text, number| text + &one(number))
}

#[test]
fn twice_the_tables_and_groups_take_twice_the_time() {
    type Form = fn(usize) -> String;
    let forms: [(&str, Form); 7] = [
        ("tables of one node", |count| {
            many(count, "", |number| format!("[node.\"cn[1-1/{number}]\"]\nnic = \"a\"\nip = \"10.0.0.1\"\n"))
        }),
        ("sets that name one node behind tables of it alone", |count| {
            many(count, "", |number| {
                format!("[node.\"cn[1-1/{number}]\"]\n[node.\"cn[1,{}]\"]\nnic = \"a\"\n", number + 1)
            })
        }),
        ("groups of one node", |count| {
            many(count, "[node.cn1]\n", |number| format!("[group.g{number}]\nnodes = \"cn1\"\nimage = \"a\"\n"))
        }),
        ("groups of one node that disagree", |count| {
            many(count, "[node.cn1]\n", |number| format!("[group.g{number}]\nnodes = \"cn1\"\nimage = \"a{number}\"\n"))
        }),
        ("groups of unknown nodes and groups", |count| {
            many(count, "[node.\"cn[1-COUNT]\"]\n", |number| {
                format!("[group.g{number}]\nnodes = \"x{number},@y{number}\"\n")
            })
        }),
        ("groups that take out nothing", |count| {
            let first = "[node.\"cn[1-COUNT]\"]\n";
            many(count, first, |number| {
                format!("[group.g{number}]\nnodes = \"cn{number}\"\nkernel_args = [\"~a{number}\"]\n")
            })
        }),
        ("sets that disagree with a large one", |count| {
            let first = "[node.\"cn[1-COUNT],dn[1-COUNT/2]\"]\nnic = \"a\"\n";
            many(count - 1, first, |number| format!("[node.\"cn[{number},{}]\"]\nnic = \"b\"\n", number + 1))
        }),
    ];
    for (what, form) in forms {
        let of = |count: usize| time(&form(count));
        let (small, large) = (of(1_000).min(of(1_000)), of(4_000));
        assert!(large < small * 9, "{what}: {small:?} {large:?}");
    }
}

#[test]
fn lists_and_groups_that_cost_more_than_they_are_have_a_bound_with_a_line() {
    let list = many(1001, "", |number| format!("[node.\"cn[1-1/{number}]\"]\nkernel_args = [\"a{number}\"]\n"));
    assert_eq!(problems(&list), ["2002: up to here `kernel_args` of `cn1` has more than 1,000 items"]);
    // Each looks at all nodes, and has one.
    let tail = ".x".repeat(108);
    let first = format!("[node.\"n[1-1000]{tail}\"]\n");
    let each = |number: usize| format!("[group.g{number}]\nnodes = \"n{number}{tail}&*\"\n");
    let found = problems(&many(200, &first, each));
    assert!(found[0].ends_with(": up to here groups look at too many nodes too often"), "{}", found[0]);
    assert_eq!(found.iter().filter(|line| !line.contains("in no group")).count(), 1);
    // A group that names all groups is in itself, which is said once of each.
    let all = problems(&many(300, "[node.cn1]\n", |number| format!("[group.g{number}]\nnodes = \"@group:*,cn1\"\n")));
    assert!(all.len() <= 300 && all[0].ends_with("is in itself, by the groups that it names"), "{}", all.len());
    // One that takes nodes out, one by one, and one that turns them around.
    for operator in ['!', '^'] {
        let group = |count: usize| {
            let out: String = (1..=count).map(|number| format!("{operator}cn{number}")).collect();
            time(&format!("[node.\"cn[1-{count}]\"]\n[group.g]\nnodes = \"cn[1-{count}]{out}\"\n"))
        };
        let (small, large) = (group(1_000).min(group(1_000)), group(4_000));
        assert!(large < small * 9, "{operator}: {small:?} {large:?}");
    }
}

#[test]
fn a_name_that_is_twice_in_a_table_is_no_matter_of_the_next_one() {
    assert_eq!(problems("[node.\"cn1,cn1\"]\n[node.cn1]\n"), ["1: `cn1,cn1` names `cn1` twice"]);
    // The nearest table counts, whatever their order.
    for text in [
        "[node.\"cn[1-2]\"]\nnic = \"a\"\n[node.cn1]\nnic = \"b\"\n",
        "[node.cn1]\nnic = \"b\"\n[node.\"cn[1-2]\"]\nnic = \"a\"\n",
    ] {
        assert_eq!(read(text).unwrap().get("cn1").unwrap().text(Attr::Nic), Some("b"));
    }
}

#[test]
fn names_and_addresses_that_mean_something_else_are_refused() {
    let with_mac = |name: &str, mac: &str| format!("[node.\"{name}\"]\nmac = \"52:54:00:00:00:{mac}\"\n");
    for name in ["12", "5m", "5M", "7w", "0", "infinite", "Ignore", "12.site", "30s.site"] {
        let short = name.split('.').next().unwrap();
        let said = format!(
            "1: `{name}` cannot be the name of a node that boots by DHCP: dnsmasq reads `{short}` as a word of its own"
        );
        assert_eq!(problems(&with_mac(name, "01")), [said]);
        // What no DHCP server hears is what it likes.
        assert!(problems(&format!("[node.\"{name}\"]\n")).is_empty());
    }
    for name in ["m", "cn12", "12n", "5mm", "infinite1", "a5m"] {
        assert!(problems(&with_mac(name, "01")).is_empty(), "{name}");
    }
    for (one, two) in [("cn1.a", "cn1.b"), ("CN1", "cn1"), ("cn1", "cn1.site")] {
        let text = with_mac(one, "01") + &with_mac(two, "02");
        let said = problems(&text);
        assert!(said.len() == 1 && said[0].ends_with("are one name to a DHCP server: `cn1`"), "{said:?}");
    }
    for (key, url) in
        [("url", "http://10.0.0.1/x"), ("report", "http://10.0.0.1:8080"), ("url", "http://[fd00::1]:80/")]
    {
        let ip = if url.contains("fd00") { "fd00::1" } else { "10.0.0.1" };
        let text = format!("[nodeset]\n{key} = \"{url}\"\n[node.cn1]\nip = \"{ip}\"\n");
        let said = format!("`{ip}` of `cn1` is that of the server in ‹[nodeset] {key}›");
        assert_eq!(problems(&text), [format!("4: {said}")]);
        assert_eq!(read(&text).unwrap_err().len(), 1, "{text}");
        // A service node is a node, and nodes find images there.
        let server = url.replace("/x", "");
        let servers = format!("[nodeset]\nservers = [\"http://10.0.0.9\", \"{server}\"]\n");
        let text = text.replace("[nodeset]\n", &servers);
        assert_eq!(problems(&text), [format!("5: {said}")]);
        assert!(read(&text).is_ok(), "{text}");
    }
    let nodes = read("[node.\"cn[1-4]\"]\nip = \"10.0.0.[0-3]\"\n").unwrap();
    let taken = |server: &str, mask: &str| {
        let found = nodes.taken_addresses(server.parse().unwrap(), mask.parse().unwrap());
        found.iter().map(|finding| finding.message.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        taken("10.0.0.2", "255.255.255.252"),
        [
            "`10.0.0.2` of `cn3` is that of this server, 10.0.0.2",
            "`10.0.0.0` of `cn1` is that of the network 10.0.0.0/30 itself",
            "`10.0.0.3` of `cn4` is the broadcast address of the network 10.0.0.0"
        ]
    );
    assert_eq!(taken("10.0.0.9", "255.255.255.254").len(), 0);
    let args = "[defaults]\nkernel_args = [\"a=${net0/mac}\"]\n[node.cn1]\n[node.cn2]\nloader = \"xnba\"\n";
    let said = problems(args);
    assert!(said.len() == 1 && said[0].starts_with("2: `a=${net0/mac}`: iPXE replaces"), "{said:?}");
    let grub = "[defaults]\nloader = \"grub\"\nkernel_args = [\"a=${x}\"]\n[node.cn1]\n";
    assert!(problems(grub).is_empty());
}
