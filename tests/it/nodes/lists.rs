//! Lines of sync lists for some nodes: what `check` takes, `sync` can do.

use super::cluster;
use crate::support::Space;

/// What both say of a list of one line: whether each refuses it for a reason.
fn refused(space: &Space, line: &str, why: &str) -> [bool; 2] {
    space.write("images/compute/a.synclist", &format!("{line}\n"));
    let by_check = space.run(&["check", "compute"]);
    let by_sync = space.run(&["sync", "cn001", "--plan", "--ssh", "/bin/false", "--connect-timeout", "1"]);
    let said = [by_check, by_sync].map(|ran| {
        let is_said = format!("{}{}", ran.out, ran.err).contains(why);
        assert!(!is_said || ran.code != 0, "{line}: {}", ran.err);
        is_said
    });
    assert_eq!(said[0], said[1], "{line}");
    said
}

fn with_list() -> Space {
    let space = cluster();
    let recipe = "[image]\nname = \"compute\"\nrelease = \"bookworm\"\n[sync]\nlists = [\"a.synclist\"]\n";
    space.write("images/compute/image.toml", recipe).write("source", "text\n");
    space.write("hosts.range", "cn001\ncn002:a comment\n").write("circle.range", "(^circle.range)\n");
    space
}

#[test]
fn each_form_of_a_range_is_taken_by_check_and_sync_alike() {
    let space = with_list();
    let source = space.path().join("source");
    let deep = format!("{}cn001{}", "(".repeat(40), ")".repeat(40));
    for (range, is_good) in [
        ("cn001", true),
        ("cn[001-003]", true),
        ("cn001, cn002", true),
        ("@compute!cn002", true),
        ("compute,-cn002", true),
        ("compute@cn001", true),
        ("all,-(login,cn002)", true),
        ("(cn001,cn002)", true),
        ("cn001-cn003", true),
        ("cn001+2", true),
        ("'cn001'", true),
        ("/cn00(1|2)", true),
        ("nodetype.provmethod==compute", true),
        ("mac.mac=~52:54", true),
        ("^hosts.range", true),
        ("compute,-^hosts.range", false),
        ("^missing.range", false),
        ("^circle.range", false),
        ("^/etc/hostname", false),
        ("^../../../../etc/hostname", false),
        ("nodetype.os==x", false),
        ("cn009", false),
        ("nosuch", false),
        ("@nosuch", false),
        ("/cn00[", false),
        ("compute@-cn001", false),
        ("compute,-compute", false),
        ("cn[001-", false),
        ("cn[1-2000000]", false),
        ("cn001+99999999999999999999", false),
        ("cn003-cn001", false),
        (deep.as_str(), false),
        ("", false),
    ] {
        let line = format!("{} -> ({range}) /etc/a", source.display());
        assert_eq!(refused(&space, &line, "the nodes of the line are not known"), [!is_good; 2], "{range}");
    }
    // What is no range at all is refused when the list is read.
    for range in ["(cn001", "cn001)"] {
        let line = format!("{} -> ({range}) /etc/a", source.display());
        assert_eq!(refused(&space, &line, "`)`"), [true; 2], "{range}");
    }
}

#[test]
fn sources_and_scripts_of_lines_for_nodes_are_looked_at_by_check_too() {
    let space = with_list();
    let line = format!("{} -> (cn001) /etc/a", space.path().join("nothing").display());
    assert_eq!(refused(&space, &line, "nothing` "), [true; 2]);
    std::fs::write(space.path().join("program"), b"\x7fELF").unwrap();
    let source = space.path().join("source");
    let line =
        format!("{} -> (cn001) /etc/a\nEXECUTEALWAYS:\n{}", source.display(), space.path().join("program").display());
    assert_eq!(refused(&space, &line, "is a program, not a script"), [true; 2]);
}
