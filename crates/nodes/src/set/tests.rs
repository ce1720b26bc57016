//! What ClusterShell 1.9.1 and 1.10.1 gave for these.

use super::*;

struct Vectors;

impl Groups for Vectors {
    fn all(&self) -> NodeSet {
        set("n[1-12],login[1-2]")
    }

    fn group(&self, source: Option<&str>, name: &str) -> Result<Option<NodeSet>, Vec<String>> {
        Ok(match (source, name) {
            (None, "rack1") => Some(set("n[1-6]")),
            (None, "rack2") => Some(set("n[7-12]")),
            (None, "odd") => Some(set("n[1,3,5,7,9,11]")),
            (None, "all") => Some(self.all()),
            (None, "nested") => Some(parse("@rack1,login1", self).unwrap().set),
            (Some("grp"), "x") => Some(set("n[2-3]")),
            (None | Some("grp"), _) => None,
            _ => return Err(vec!["grp".to_owned()]),
        })
    }

    fn names(&self, source: Option<&str>) -> Result<Vec<String>, Vec<String>> {
        let names: &[&str] = match source {
            None => &["rack1", "rack2", "odd", "all", "nested"],
            Some("grp") => &["x"],
            Some(_) => return Err(vec!["grp".to_owned()]),
        };
        Ok(names.iter().map(|name| (*name).to_owned()).collect())
    }
}

fn set(text: &str) -> NodeSet {
    parse(text, &Vectors).unwrap().set
}

/// The order of names, word by word: what [`natural`] finds from the first byte that differs.
fn word_by_word(a: &str, b: &str) -> Ordering {
    if a.is_empty() || b.is_empty() {
        return a.len().cmp(&b.len());
    }
    let ((one, rest_a), (two, rest_b)) = (token(a), token(b));
    let is_number = |text: &str| text.starts_with(|one: char| one.is_ascii_digit());
    let order = match (is_number(one), is_number(two)) {
        (true, true) => one.len().cmp(&two.len()).then_with(|| one.cmp(two)),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => one.cmp(two),
    };
    order.then_with(|| word_by_word(rest_a, rest_b))
}

proptest::proptest! {
    #[test]
    fn names_are_in_the_order_of_their_words(start in "[a1é0-]{0,4}", one in "[a-b0-2é.-]{0,5}", two in "[a-b0-2é.-]{0,5}") {
        let (one, two) = (format!("{start}{one}"), format!("{start}{two}"));
        assert_eq!(natural(&one, &two), word_by_word(&one, &two), "{one:?} {two:?}");
    }
}

#[test]
fn sets_mean_what_they_mean_to_clustershell() {
    for (text, folded) in [
        ("n1,n3,n2", "n[1-3]"),
        ("n[1-10/3]", "n[1,4,7,10]"),
        ("n[1-5]!n[2-3]", "n[1,4-5]"),
        ("n[1-5]&n[4-9]", "n[4-5]"),
        ("n[1-5]^n[4-9]", "n[1-3,6-9]"),
        ("n[1-5]!n[1-2],n1", "n[1,3-5]"),
        ("n[01,1]", "n[1,01]"),
        ("n[09-11]", "n[09-11]"),
        ("n[9-11]", "n[9-11]"),
        ("r[1-2]c[1-2]", "r[1-2]c[1-2]"),
        ("n[1-2]-ib", "n[1-2]-ib"),
        ("n[1-2].site", "n[1-2].site"),
        ("n1-n3", "n1-n3"),
        ("n[1-4]!n[1-4]", ""),
        ("", ""),
        ("@rack1", "n[1-6]"),
        ("@rack[1-2]", "n[1-12]"),
        ("@rack1&@odd", "n[1,3,5]"),
        ("@rack1!@odd", "n[2,4,6]"),
        ("@rack1^@odd", "n[2,4,6-7,9,11]"),
        ("@odd&@rack2!n7", "n[9,11]"),
        ("n[1-3],@odd!n3", "n[1-2,5,7,9,11]"),
        ("@nested", "login1,n[1-6]"),
        ("*", "login[1-2],n[1-12]"),
        ("@*", "login[1-2],n[1-12]"),
        ("n?", "n[1-9]"),
        ("n1*", "n[1,10-12]"),
        ("@grp:x", "n[2-3]"),
        ("@@grp", "x"),
        // Spaces separate, also around operators.
        ("n1 n2", "n[1-2]"),
        (" n[1-4] ! n2 ", "n[1,3-4]"),
        // Padding of each place stays with several numbers (issue 293 there).
        ("r[1-2]c[01-02],r[1-2]c[1-2]", "r[1-2]c[1-2,01-02]"),
        ("r1c1,r1c2,r2c1", "r1c[1-2],r2c1"),
        ("n[8-12],n[098-101]", "n[8-12,098-101]"),
    ] {
        assert_eq!(set(text).folded(), folded, "{text}");
        assert_eq!(set(folded), set(text), "{text}");
    }
    for text in ["@nosuch", "@grp:nosuch", "x*"] {
        let parsed = parse(text, &Vectors).unwrap();
        assert!(parsed.set.is_empty() && parsed.nothing.len() == 1 && parsed.nothing[0].0 == text, "{text}");
    }
    let groups = [("rack1".to_owned(), set("@rack1")), ("odd".to_owned(), set("@odd"))];
    assert_eq!(set("n[1-6]").regrouped(&groups), "@rack1");
    assert_eq!(set("n[1-6],n8").regrouped(&groups), "@rack1,n8");
}

#[test]
fn what_clustershell_refuses_is_refused_with_its_place() {
    for (text, at, message) in [
        ("n[3-1]", 2..5, "`3-1` counts backwards"),
        ("n[001-3]", 2..7, "`001-3` has numbers of 3 and 1 digits"),
        ("n[1-3", 1..5, "`[` without `]`"),
        ("n[a-c]", 2..5, "`a-c` is not a range of numbers"),
        ("n[1-2][3-4]", 6..7, "a bracket directly after another"),
        ("n[1,,2]", 4..5, "an empty place in brackets"),
        ("n1,!n1", 3..4, "no nodes before `!`"),
        ("n1,", 2..3, "no nodes after `,`"),
        ("!n1", 0..1, "no nodes before `!`"),
        ("@nos:x", 0..6, "there is no group source `nos`"),
        ("n]", 1..2, "`]` without `[`"),
        ("n[]", 2..3, "an empty place in brackets"),
        ("n[1-5/0]", 2..7, "`1-5/0` has no step after `/`"),
        ("n[1-2000000]", 2..11, "these are more than 1,000,000 nodes"),
        ("n[0-9999]c[0-9999]", 0..18, "these are more than 1,000,000 nodes"),
        ("n[1-99999999999999999999]", 2..24, "`1-99999999999999999999` is not a range of numbers"),
        ("@", 0..1, "`@` without the name of a group"),
    ] {
        let error = parse(text, &Vectors).unwrap_err();
        assert_eq!((error.message.as_str(), error.at), (message, at), "{text}");
    }
}

#[test]
fn names_are_in_the_order_in_which_people_count() {
    let names: Vec<String> = set("cn10,cn9,cn009,a,10,9").iter().map(str::to_owned).collect();
    assert_eq!(names, ["9", "10", "a", "cn9", "cn10", "cn009"]);
    assert_eq!(natural("r1c2", "r1c10"), Ordering::Less);
}

struct Long;

impl Groups for Long {
    fn all(&self) -> NodeSet {
        NodeSet::of((0..1000).map(|number| format!("n{number}{}", "x".repeat(2000))))
    }
    fn group(&self, _: Option<&str>, _: &str) -> Result<Option<NodeSet>, Vec<String>> {
        Ok(Some(self.all()))
    }
    fn names(&self, _: Option<&str>) -> Result<Vec<String>, Vec<String>> {
        Ok(vec!["a".to_owned(); 1000])
    }
}

/// What is looked at often costs as much as what is many.
#[test]
fn no_set_takes_all_time_or_memory() {
    for text in ["*,".repeat(100_000) + "n", "@a,".repeat(100_000) + "n", "@*[1-9999],".repeat(1000) + "n"] {
        let error = parse(&text, &Long).unwrap_err();
        assert!(error.message.contains("too many nodes too often"), "{}", error.message);
    }
    assert!(parse("*,@a,@*", &Long).is_ok());
}
