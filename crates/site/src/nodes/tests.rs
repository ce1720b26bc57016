//! What other tools wrote becomes a file that says the same.

use super::*;
use nodes::Nodes;

fn of(files: &[(&str, &str)]) -> ImportedNodes {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<_> = files
        .iter()
        .map(|(name, text)| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        })
        .collect();
    read(&paths).unwrap()
}

/// The file that is written is good.
fn nodes(found: &ImportedNodes) -> Nodes {
    let text = nodes_file_text(found);
    Nodes::of_file(&SourceFile::new("nodes.toml", "/nodes.toml", text.as_str()))
        .unwrap_or_else(|found| panic!("{found:?}\n{text}"))
}

const STANZAS: &str = "# <xCAT data object stanza file>\n\ncompute:\n    objtype=group\n    grouptype=static\n    members=n01,n02\n    postscripts=syslog,otherpkgs\n    provmethod=img\n\n\
n01:\n    objtype=node\n    groups=compute,all\n    ip=10.0.0.1\n    mac=aa:bb:cc:00:00:01!n01|aa:bb:cc:00:01:01!*NOIP*\n    netboot=xnba\n    addkcmdline=quiet R::a=1 nosmt\n    serialport=0\n    serialspeed=115200\n    postscripts=syslog,otherpkgs\n    provmethod=img\n    bmc=10.1.0.1\n    status=booted\n\n\
n02:\n    objtype=node\n    groups=compute,all\n    mac=aa:bb:cc:00:00:02\n    netboot=xnba\n    postscripts=syslog,extra\n    provmethod=other\n\nimg:\n    objtype=osimage\n    osvers=rocky9\n";

#[test]
fn xcats_objects_come_in_and_go_back() {
    let mut found = of(&[("nodes.stanza", STANZAS)]);
    assert_eq!(found.left.keys().collect::<Vec<_>>(), ["bmc"]);
    insta::assert_snapshot!("stanzas", nodes_file_text(&found));
    let nodes = nodes(&found);
    let one = nodes.get("n01").unwrap();
    assert_eq!(one.macs().len(), 2);
    let back: Vec<String> = xcat::attributes(&one).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        back,
        [
            "addkcmdline=quiet nosmt",
            "groups=compute",
            "ip=10.0.0.1",
            "mac=aa:bb:cc:00:00:01|aa:bb:cc:00:01:01",
            "netboot=xnba",
            "postscripts=syslog,otherpkgs",
            "provmethod=img",
            "serialport=0",
            "serialspeed=115200"
        ]
    );
    assert_eq!(nodes.get("n02").unwrap().list(Attr::Postscripts), ["syslog", "extra"]);
    found.only_images(&["img".to_owned()]);
    assert!(found.notes[0].contains("`other`"), "{:?}", found.notes);
}

#[test]
fn xcats_tables_come_in() {
    let found = of(&[
        (
            "nodelist.csv",
            "#node,groups,status,statustime,appstatus,appstatustime,primarysn,hidden,updatestatus,updatestatustime,zonename,comments,disable\n\"n01\",\"compute,all\",\"booted\",,,,,,,,,,\n\"n02\",\"compute,all\",,,,,,,,,,\"a \"\"b\"\"\n, c\",\n\"gone\",\"all\",,,,,,,,,,,\"yes\"\n",
        ),
        ("mac.csv", "#node,interface,mac,comments,disable\n\"n01\",,\"aa:bb:cc:00:00:01\",,\n"),
        ("noderes.csv", "#node,servicenode,netboot,tftpserver\n\"compute\",,\"grub2-http\",\n"),
        (
            "postscripts.csv",
            "#node,postscripts,postbootscripts,comments,disable\n\"xcatdefaults\",\"syslog,custom/a  b,syslog\",\"otherpkgs\",,\n",
        ),
    ]);
    let nodes = nodes(&found);
    assert_eq!(nodes.names().collect::<Vec<_>>(), ["n01", "n02"]);
    let two = nodes.get("n02").unwrap();
    assert_eq!(
        (two.text(Attr::Loader), two.list(Attr::Postscripts), two.list(Attr::Postbootscripts)),
        (Some("grub"), vec!["syslog", "custom/a b"], vec!["otherpkgs"])
    );
    assert_eq!(nodes.get("n01").unwrap().macs()[0].to_string(), "aa:bb:cc:00:00:01");
}

#[test]
fn hosts_ethers_and_warewulf_come_in() {
    let found = of(&[
        (
            "hosts",
            "127.0.0.1 localhost\n::1 ip6-localhost\n10.0.0.1 n01.site n01 # the first\n10.0.0.2\tn02\nff02::1 ip6-allnodes\n",
        ),
        ("ethers", "aa:bb:cc:00:00:01 n01.site\naa:bb:cc:00:00:02 n02\n"),
    ]);
    let both = nodes(&found);
    assert_eq!(both.names().collect::<Vec<_>>(), ["n01.site", "n02"]);
    assert_eq!(both.get("n02").unwrap().ip().unwrap().to_string(), "10.0.0.2");
    let found = of(&[(
        "nodes.conf",
        "nodeprofiles:\n  default:\n    image name: compute\n    runtime overlay: [hosts]\n    kernel: {args: [quiet, console=ttyS0]}\nnodes:\n  n01:\n    profiles: [default]\n    network devices:\n      default: {device: eth0, hwaddr: aa:bb:cc:00:00:01, ipaddr: 10.0.0.11}\n    kernel: {args: [nosmt]}\n",
    )]);
    assert_eq!(found.left.keys().collect::<Vec<_>>(), ["runtime overlay"]);
    let warewulf = nodes(&found);
    let one = warewulf.get("n01").unwrap();
    assert_eq!((one.image(), one.list(Attr::KernelArgs)), (Some("compute"), vec!["quiet", "console=ttyS0", "nosmt"]));
    assert_eq!(one.ip().unwrap().to_string(), "10.0.0.11");
}

#[test]
fn what_is_no_file_of_nodes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (text, said) in [
        ("nothing here\n", "has no nodes"),
        ("#node,groups\n\"n01", "has a quote that is not closed"),
        ("#node,groups\nn01,a,b\n", "has 3 fields in row 1, and 2 columns"),
        ("nodes:\n  n01: [\n", "is not well-formed YAML"),
    ] {
        let path = folder.path().join("file");
        std::fs::write(&path, text).unwrap();
        assert!(read(&[&path]).unwrap_err().contains(said), "{text}");
    }
}

#[test]
fn many_groups_take_no_more_than_their_nodes() {
    let began = std::time::Instant::now();
    let mut found = ImportedNodes::default();
    for number in 0..30_000 {
        found.nodes.entry(Name(format!("cn{number}"))).or_default().1.push(format!("g{number}"));
        found.node(&format!("-{number}"));
    }
    found.finish();
    let text = nodes_file_text(&found);
    assert!(text.contains("[group.g29999]\nnodes = \"cn29999\"\n"), "{}", text.len());
    assert!(found.notes.len() < 1000);
    // Each group with each node takes minutes.
    assert!(began.elapsed().as_secs() < 300, "{:?}", began.elapsed());
}

/// One node in 30,000 groups, 30,000 groups that no one can name, and profiles that name each other: each is looked at once.
#[test]
fn many_groups_of_one_node_are_looked_at_once() {
    let began = std::time::Instant::now();
    let groups: Vec<String> = (0..30_000).map(|number| format!("g{number}")).collect();
    let list = groups.join(",");
    let mut text = format!("#node,groups\n\"n01\",\"{list},{list}\"\n");
    (0..30_000).for_each(|number| text.push_str(&format!("\"m{number}\",\"odd|{number},g7\"\n")));
    let mut found = of(&[("nodelist", &text)]);
    let own = &found.nodes[&Name("n01".to_owned())].1;
    assert_eq!((own.len(), own.first(), own.last()), (30_000, groups.first(), groups.last()));
    assert!(found.groups.len() == 30_000 && found.nodes[&Name("m5".to_owned())].1 == ["g7"]);
    found.notes.clear();
    let mut profiles = "nodeprofiles:\n".to_owned();
    for number in 0..30_000 {
        profiles.push_str(&format!("  p{number}:\n    profiles: [p{}]\n", number + 1));
    }
    let found = of(&[("nodes.conf", &format!("{profiles}  p30000: {{}}\nnodes:\n  n01:\n    profiles: [p0]\n"))]);
    assert_eq!(found.nodes[&Name("n01".to_owned())].1.len(), 30_001);
    assert!(began.elapsed().as_secs() < 300, "{:?}", began.elapsed());
}

fn corpus(name: &str) -> String {
    let tables = [("stanza", include_str!("examples/nodes.stanza")), ("conf", include_str!("examples/nodes.conf"))];
    tables.into_iter().find(|(known, _)| *known == name).unwrap().1.to_owned()
}

/// What a node has in one of its lists, in words.
fn list(nodes: &Nodes, name: &str, attr: Attr) -> String {
    nodes.get(name).unwrap().list(attr).join(" ")
}

#[test]
fn the_first_group_of_a_node_counts_as_for_xcat() {
    let nodelist = (
        "nodelist.csv",
        "#node,groups\n\"cn1\",\"rack1,compute,all\"\n\"cn2\",\"compute,rack1,all\"\n\"cn3\",\"rack1\"\n\"cn4\",\"all\"\n",
    );
    let boot = (
        "bootparams.csv",
        "#node,kernel,initrd,kcmdline,addkcmdline\n\"compute\",,,,\"a=1 b=2\"\n\"rack1\",,,,\"b=2 c=3\"\n\"all\",,,,\"of=all\"\n\"cn1\",,,,\"d=4\"\n",
    );
    let noderes = ("noderes.csv", "#node,servicenode,netboot\n\"compute\",,\"xnba\"\n\"rack1\",,\"grub2\"\n");
    let scripts = (
        "postscripts.csv",
        "#node,postscripts,postbootscripts\n\"xcatdefaults\",\"syslog\",\n\"compute\",\"one,two\",\n\"rack1\",\"two,one\",\n",
    );
    // Whatever is read first.
    for files in [[nodelist, boot, noderes, scripts], [scripts, noderes, boot, nodelist]] {
        let found = of(&files);
        let nodes = nodes(&found);
        let args = ["cn1", "cn2", "cn3", "cn4"].map(|name| list(&nodes, name, Attr::KernelArgs));
        assert_eq!(args, ["d=4", "a=1 b=2", "b=2 c=3", "of=all"], "{}", nodes_file_text(&found));
        let loaders =
            ["cn1", "cn2", "cn3"].map(|name| nodes.get(name).unwrap().text(Attr::Loader).map(str::to_owned).unwrap());
        assert_eq!(loaders, ["grub", "xnba", "grub"]);
        let scripts = ["cn1", "cn2", "cn4"].map(|name| list(&nodes, name, Attr::Postscripts));
        assert_eq!(scripts, ["syslog two one", "syslog one two", "syslog"]);
    }
}

#[test]
fn what_cannot_be_taken_over_is_said() {
    let found = of(&[("nodes.stanza", &corpus("stanza"))]);
    let nodes = nodes(&found);
    assert_eq!(list(&nodes, "cn1", Attr::KernelArgs), "mitigations=off");
    assert_eq!(list(&nodes, "cn2", Attr::KernelArgs), "quiet");
    assert_eq!(nodes.get("cn2").unwrap().ip().unwrap().to_string(), "10.0.0.12");
    let said = found.notes.join("\n");
    assert!(said.contains("80:00:00:48:fe:80:00:00:00:00:00:00:00:02:c9:03:00:31:78:f2` is the address of an InfiniBand card, of 20 bytes, and nodes boot by one of 6: left out of `cn2`"), "{said}");
    assert!(said.contains("`10.1.0.12` is a further one: left out of `cn2`"), "{said}");
    let found = of(&[("a.stanza", "n1:\n    objtype=node\n    ip=10.0.0.300\n    mac=aa:bb\n")]);
    assert_eq!(
        found.notes,
        ["`10.0.0.300` is not an address: left out of `n1`", "`aa:bb` is not a MAC address: left out of `n1`"]
    );
}

#[test]
fn profiles_within_profiles_and_later_ones_count_as_for_warewulf() {
    let found = of(&[("nodes.conf", &corpus("conf"))]);
    let one = nodes(&found);
    let n1 = one.get("n1").unwrap();
    assert_eq!(
        (n1.image(), list(&one, "n1", Attr::KernelArgs)),
        (Some("gpuimg"), "crashkernel=no nouveau.modeset=0".to_owned())
    );
    assert_eq!(
        (n1.macs()[0].to_string(), n1.ip().unwrap().to_string()),
        ("aa:bb:cc:00:00:01".to_owned(), "10.0.0.1".to_owned())
    );
    assert_eq!(one.get("n2").unwrap().image(), Some("compute"));
    assert!(found.notes.contains(&"`10.0.0.300` is not an address: left out of `n2`".to_owned()), "{:?}", found.notes);
    let left: Vec<&str> = found.left.keys().map(String::as_str).collect();
    assert_eq!(left, ["asset key", "network devices: eth9", "network devices: tags", "system overlay", "tags"]);
    let text = "nodeprofiles:\n  base:\n    image name: a\n    kernel: {args: [quiet, x]}\n  gpu:\n    profiles: [base]\n    image name: b\n    kernel: {args: [y]}\n    primary network: ib\n  off:\n    profiles: [gpu]\n    kernel: {args: [\"~x\"]}\nnodes:\n  n1:\n    profiles: [off]\n    network devices:\n      a: {hwaddr: aa:bb:cc:00:00:01}\n      ib: {hwaddr: \"80:00:00:48:fe:80:00:00:00:00:00:00:00:02:c9:03:00:31:78:f2\"}\n  n2:\n    profiles: [off, \"~gpu\"]\n    network devices:\n      b: {hwaddr: aa:bb:cc:00:00:03}\n      a: {hwaddr: aa:bb:cc:00:00:02}\n";
    let found = of(&[("nodes.conf", text)]);
    let two = nodes(&found);
    assert_eq!((two.get("n1").unwrap().image(), list(&two, "n1", Attr::KernelArgs)), (Some("b"), "quiet y".to_owned()));
    assert_eq!((two.get("n2").unwrap().image(), list(&two, "n2", Attr::KernelArgs)), (Some("a"), "quiet".to_owned()));
    assert_eq!(two.get("n2").unwrap().macs()[0].to_string(), "aa:bb:cc:00:00:02");
    assert!(found.notes[0].contains("of 20 bytes") && two.get("n1").unwrap().macs().is_empty(), "{:?}", found.notes);
}

#[test]
fn names_of_hosts_and_ethers_mean_one_node() {
    let hosts = (
        "hosts",
        "127.0.0.1 localhost\n10.0.0.11 cn1.site cn1\n10.0.0.12 cn2.site cn2 two\n10.0.0.300 cn3\n10.1.0.12 cn2.site\n",
    );
    let ethers = ("ethers", "52:54:0:0:0:1 cn1\n52:54:00:00:00:02 two\n");
    for files in [[hosts, ethers], [ethers, hosts]] {
        let found = of(&files);
        let nodes = nodes(&found);
        let all: Vec<_> = nodes
            .names()
            .filter_map(|name| nodes.get(name))
            .map(|node| format!("{:?} {:?}", node.macs(), node.ip()))
            .collect();
        assert_eq!(all, ["[52:54:00:00:00:01] Some(10.0.0.11)", "[52:54:00:00:00:02] Some(10.0.0.12)"], "{found:?}");
        assert_eq!(
            found.notes,
            ["line 4: `10.0.0.300` is neither an address nor a MAC address: left out", &found.notes[1]],
            "{found:?}"
        );
        assert!(found.notes[1].contains("`10.1.0.12` is a further one"), "{found:?}");
    }
    // A short name of two nodes is neither's.
    let found = of(&[("hosts", "10.0.0.1 a.x a\n10.0.0.2 a.y a\n"), ("ethers", "52:54:0:0:0:1 a\n")]);
    assert_eq!(found.nodes.len(), 3);
    assert!(found.notes[0].contains("`a` is a name of several nodes"), "{:?}", found.notes);
}
