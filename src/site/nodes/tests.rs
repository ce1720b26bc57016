//! What other tools wrote becomes a file that says the same.

use super::*;
use crate::nodes::Nodes;

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
        found.nodes.entry(Name(format!("cn{number}"))).or_default().1.insert(format!("g{number}"));
        found.node(&format!("-{number}"));
    }
    found.finish();
    let text = nodes_file_text(&found);
    assert!(text.contains("[group.g29999]\nnodes = \"cn29999\"\n"), "{}", text.len());
    assert!(found.notes.len() < 1000);
    // Each group with each node takes minutes.
    assert!(began.elapsed().as_secs() < 300, "{:?}", began.elapsed());
}
