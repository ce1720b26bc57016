//! What xCAT's own module gave for these; `?x` is a name that it warns of, and `!` what is an error here.

use super::*;
use crate::set::parse;

struct Vectors;

struct NoGroups;

impl Groups for NoGroups {
    fn all(&self) -> NodeSet {
        NodeSet::default()
    }
    fn group(&self, _: Option<&str>, _: &str) -> Result<Option<NodeSet>, Vec<String>> {
        Ok(None)
    }
    fn names(&self, _: Option<&str>) -> Result<Vec<String>, Vec<String>> {
        Ok(Vec::new())
    }
}

fn set(text: &str) -> NodeSet {
    parse(text, &NoGroups).unwrap().set
}

impl Tables for Vectors {
    fn has(&self, node: &str) -> bool {
        self.all().contains(node)
    }

    fn all(&self) -> NodeSet {
        set("n[01-12],login[1-2],r[1-2]c[1-2],node[1-3],node10,a-1-x,a-2-x,a-3-x,web[1-3].site,compute1")
    }

    fn group(&self, name: &str) -> Option<NodeSet> {
        Some(match name {
            "compute" => set("n[01-12]"),
            "rack1" => set("n[01-06]"),
            "rack2" => set("n[07-12]"),
            "odd" => set("n[01,03,05,07,09,11]"),
            "login" => set("login[1-2]"),
            "dyn" => set("n[01-09]"),
            "empty" => NodeSet::default(),
            "all" => self.all(),
            _ => return None,
        })
    }

    fn value(&self, node: &str, table: &str, column: &str) -> Option<String> {
        Some(match (table, column) {
            ("nodelist", "groups") => {
                let own = ["compute", "rack1", "rack2", "odd", "login"];
                let own = own.into_iter().filter(|group| self.group(group).unwrap().contains(node));
                own.chain(["all"]).collect::<Vec<_>>().join(",")
            }
            ("nodetype", "os") if set("n[01-09]").contains(node) => "rhels9.4".to_owned(),
            ("nodetype", "os") if set("n[10-12]").contains(node) => "rhels8.9".to_owned(),
            ("nodehm", "mgt") if !node.starts_with("login") => "ipmi".to_owned(),
            ("nodetype", "os") | ("nodehm", "mgt") => String::new(),
            _ => return None,
        })
    }

    fn read(&self, path: &str) -> Result<String, String> {
        match path {
            "f" => Ok("n01\nn02: x\n#n03\n^/o\nn04 n05\nlogin\n".to_owned()),
            _ => Err("not there".to_owned()),
        }
    }
}

/// The nodes that a text means, in words as in the vectors.
fn means(text: &str) -> String {
    match nodes(text, &Vectors) {
        Err(_) => "!".to_owned(),
        Ok(found) => {
            let names = found.set.iter().map(str::to_owned);
            names.chain(found.unknown.iter().map(|name| format!("?{name}"))).collect::<Vec<_>>().join(" ")
        }
    }
}

#[test]
fn ranges_mean_what_they_mean_to_xcat() {
    let spell = |text: &str| set(text).iter().map(str::to_owned).collect::<Vec<_>>().join(" ");
    for (text, wanted) in [
        ("n03,n01,n01", "n[01,03]"),
        ("compute,-n[01-03],n02", "n[04-12]"),
        ("n01-n04", "n[01-04]"),
        ("n[01-04]", "n[01-04]"),
        ("n01+3", "n[01-04]"),
        ("-n01,compute", "n[02-12]"),
        ("compute,-n01-n05", "n[06-12]"),
        ("rack1@odd", "n[01,03,05]"),
        ("compute@odd@rack2", "n[07,09,11]"),
        ("n[01-02,05]", "n[01-02,05]"),
        ("login,rack1@odd", "login[1-2],n[01,03,05]"),
        ("n01:n03", "n[01-03]"),
        ("n[01:03]", "n[01-03]"),
        ("n09+2", "n[09-11]"),
        ("(rack1,login)@odd", "n[01,03,05]"),
        ("r[1-2]c[1-2]", "r[1-2]c[1-2]"),
        ("r1c1-r2c1", "r[1-2]c1"),
        ("compute@(n01,n02,n11)", "n[01-02,11]"),
        ("/n.*1", "n[01,11],node1"),
        ("1-3", "node[1-3]"),
        ("10", "node10"),
        ("nodetype.os==rhels9.4", "n[01-09]"),
        ("dyn", "n[01-09]"),
        ("nodetype.os=~/^rhels9/", "n[01-09]"),
        ("a-1-x-a-3-x", "a-1-x,a-2-x,a-3-x"),
        ("a-1-x:a-3-x", "a-1-x,a-2-x,a-3-x"),
        (
            "nodetype.os!=rhels9.4",
            "n[10-12],login[1-2],r[1-2]c[1-2],node[1-3],node10,a-1-x,a-2-x,a-3-x,web[1-3].site,compute1",
        ),
        ("web[1-3].site", "web[1-3].site"),
        ("web1.site+2", "web[1-3].site"),
        ("mgt==", "login[1-2]"),
        ("\"n01,n02\"", "n[01-02]"),
        ("'n01',n02", "n[01-02]"),
        ("n01,,n02", "n[01-02]"),
        ("n01,-", "n01"),
        ("rack2@nodetype.os==rhels8.9", "n[10-12]"),
        ("^f", "login[1-2],n[01-02,04]"),
        ("compute1", "compute1"),
    ] {
        assert_eq!(means(text), spell(wanted), "{text}");
    }
    let all = Vectors.all();
    assert_eq!(nodes("all,-(rack1,rack2)", &Vectors).unwrap().set, all.minus(&set("n[01-12]")));
    // Cut at the comma: what is left of the range is a group. Those whose groups are `all` alone.
    let only = nodes("groups==all,login", &Vectors).unwrap().set;
    assert!(only.contains("compute1") && only.contains("login1") && !only.contains("n01"));
    // What it warns of.
    for (text, wanted) in [
        ("n01-04", "?n01-04"),
        ("n[1-4]", "?n1 ?n2 ?n3 ?n4"),
        ("r1c1-r2c2", "?r1c1-r2c2"),
        ("[1-3]", "?[1-3]"),
        ("rack1)", "?rack1)"),
        ("nosuch", "?nosuch"),
        ("empty", ""),
        ("n01 , n02", "?n01  ? n02"),
        ("x8-x11", "?x8 ?x9 ?x10 ?x11"),
        ("x08-x11", "?x08 ?x09 ?x10 ?x11"),
        ("x[1,3-4]-ib", "?x1-ib ?x3-ib ?x4-ib"),
        ("x1-y2", "?x1-y2"),
        ("x[1-2", "?x[1-2"),
    ] {
        assert_eq!(means(text), wanted, "{text}");
    }
}

#[test]
fn what_xcat_takes_as_nothing_or_as_too_much_is_an_error() {
    for (text, message) in [
        ("n01-n4", "`n01-n4` counts from 2 digits to 1"),
        ("n03-n01", "`n03-n01` counts backwards"),
        ("(rack1", "`(` without `)`"),
        ("rack1@-odd", "`@-odd`: xCAT takes no notice of the `-`"),
        ("compute,-@odd", "`@odd` has nothing before the `@`: xCAT takes it for no node"),
        ("n01,@rack1", "`@rack1` has nothing before the `@`: xCAT takes it for no node"),
        ("@rack1", "`@rack1` has nothing before the `@`: xCAT takes it for no node"),
        ("os==x", "`os` is not a column of a table"),
        ("nodetype.nocol==x", "there is no column `nodetype.nocol`"),
        ("compute,-^f", "`-^f` cannot be taken out"),
        ("^nofile", "`nofile` cannot be read: not there"),
        ("/n[", "`^(?:n[)$` is not a regular expression: unclosed character class"),
        ("x[a-c]", "`x[a-c]` counts from `a` to `c`"),
        ("n1-n99999999", "`n1-n99999999` means more than 1,000,000 nodes"),
        ("x+2", "`x` has no number to count on from"),
    ] {
        assert_eq!(nodes(text, &Vectors).unwrap_err().message, message, "{text}");
    }
    assert!(nodes(&"(".repeat(1000), &Vectors).is_err());
    assert!(nodes(&format!("{}n01{}", "(".repeat(1000), ")".repeat(1000)), &Vectors).is_err());
}

struct Many(NodeSet);

impl Tables for Many {
    fn has(&self, node: &str) -> bool {
        self.0.contains(node)
    }
    fn all(&self) -> NodeSet {
        self.0.clone()
    }
    fn group(&self, name: &str) -> Option<NodeSet> {
        (name == "all").then(|| self.all())
    }
    fn value(&self, _: &str, _: &str, _: &str) -> Option<String> {
        None
    }
    fn read(&self, _: &str) -> Result<String, String> {
        Err("not there".to_owned())
    }
}

/// What a hostile range may cost: an answer, soon, that does not fill the screen.
#[test]
fn no_range_takes_all_time_or_memory() {
    let began = std::time::Instant::now();
    let many = Many((0..1000).map(|number| Name(format!("n{number}"))).collect());
    for text in [
        format!("n{}1-n{}2", "0".repeat(70_000), "0".repeat(70_000)),
        format!("n{}1+3", "0".repeat(70_000)),
        format!("n[{}1-{}2]", "0".repeat(70_000), "0".repeat(70_000)),
        format!("{}n01{}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("n{}", "[1-2]".repeat(100)),
        format!("n[1-999999]{}", "x".repeat(100_000)),
        "all@".repeat(2_000_000),
        "/.*,".repeat(2_000_000),
    ] {
        let error = nodes(&text, &many).map(|found| found.set.len()).unwrap_err();
        assert!(error.message.len() + error.help.len() < 1000, "{} {}", error.message.len(), error.help.len());
    }
    // Deep, and yet but one name; many names that no one has.
    assert_eq!(nodes(&format!("n{}", "[1]".repeat(100_000)), &many).unwrap().unknown.len(), 1);
    let names: String = (0..200_000).map(|number| format!("x{number},")).collect();
    assert_eq!(nodes(&names, &many).unwrap().unknown.len(), 200_000);
    assert!(began.elapsed().as_secs() < 300, "{:?}", began.elapsed());
}

struct Nested;

impl Tables for Nested {
    fn has(&self, node: &str) -> bool {
        node == "n1"
    }
    fn all(&self) -> NodeSet {
        NodeSet::of(["n1"])
    }
    fn group(&self, _: &str) -> Option<NodeSet> {
        None
    }
    fn value(&self, _: &str, _: &str, _: &str) -> Option<String> {
        None
    }
    fn read(&self, path: &str) -> Result<String, String> {
        Ok(match path.parse::<u32>() {
            Ok(0) => "n1\n".to_owned(),
            // Each names the next one often.
            Ok(number) if number < 19 => format!("(^{0})\n", number - 1).repeat(50),
            _ => "(^self)\n".to_owned(),
        })
    }
}

#[test]
fn a_file_is_read_once_and_never_by_itself() {
    assert_eq!(nodes("^8", &Nested).unwrap().set, NodeSet::of(["n1"]));
    assert!(nodes("^self", &Nested).unwrap_err().message.contains("names itself"));
    assert!(nodes("^18", &Nested).is_err(), "it is too deep");
}

#[test]
fn a_range_of_a_list_reads_nothing_outside_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("workspace")).unwrap();
    std::fs::write(at("secret"), "root:secret\n").unwrap();
    std::fs::write(at("workspace/few"), "n1\n").unwrap();
    std::os::unix::fs::symlink(at("secret"), at("workspace/link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, at("workspace/pipe"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    let workspace = at("workspace");
    let below = Files::Below(&workspace);
    assert_eq!(text_of(Path::new("few"), below), Ok("n1\n".to_owned()));
    assert_eq!(text_of(&at("workspace/few"), below), Ok("n1\n".to_owned()));
    // The same words for what is there and for what is not.
    let outside = text_of(&at("secret"), below).unwrap_err();
    for path in [at("workspace/link"), at("workspace/../secret"), at("nothing"), "../secret".into(), "/dev/zero".into()]
    {
        assert_eq!(text_of(&path, below).unwrap_err(), outside, "{path:?}");
    }
    assert!(text_of(Path::new("pipe"), below).unwrap_err().contains("regular"));
    assert!(text_of(Path::new("/dev/zero"), Files::Any).unwrap_err().contains("regular"));
    assert!(text_of(&at("secret"), Files::Any).is_ok());
}
