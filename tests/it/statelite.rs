//! What `check` says of [statelite], with place and remedy; lists of xCAT's tables.

use crate::support::Space;

const RECIPE: &str = "[image]\nname = \"lite\"\nrelease = \"bookworm\"\n\n[packages]\ninstall = [\"systemd-sysv\"]\n\n[kernel]\npackage = \"linux-image-amd64\"\n\n";

fn checked(space: &Space, table: &str) -> String {
    space.write("image.toml", &format!("{RECIPE}{table}"));
    let ran = space.run(&["check"]);
    format!("{}{}", ran.err, ran.out)
}

#[test]
fn what_cannot_be_is_refused_with_place_and_remedy() {
    let space = Space::new();
    for (table, said, remedy) in [
        (
            "[statelite.files]\n\"/etc/hosts\" = \"tmpsf\"\n",
            "there is no option `tmpsf` of `/etc/hosts`",
            "did you mean `tmpfs`?",
        ),
        ("[statelite.files]\n\"/etc/hosts\" = \"ro,persistent\"\n", "exclude one another", "write one of tmpfs, link"),
        ("[statelite.files]\n\"etc/hosts\" = \"tmpfs\"\n", "is not an absolute path", "begin it with `/`"),
        ("[statelite.files]\n\"/etc/my file\" = \"tmpfs\"\n", "contains a space", "name the folder"),
        ("[statelite.files]\n\"/proc/x\" = \"tmpfs\"\n", "is made at each boot", "remove the entry"),
        ("[statelite.files]\n\"/etc/\" = \"con\"\n", "is a folder, but con concatenates", "name the files"),
        (
            "[statelite]\nstate = \"h:/s\"\n[statelite.files]\n\"/var/\" = \"persistent\"\n\"/var/log/\" = \"tmpfs\"\n",
            "`/var/log/`, tmpfs, cannot be below `/var/`, persistent (image.toml:",
            "write persistent, or name the folder's parts",
        ),
        (
            "[statelite.files]\n\"/var/\" = \"tmpfs\"\n\"/var/log/\" = \"link\"\n",
            "which is not a link",
            "without `link`",
        ),
        (
            "[statelite.files]\n\"/var/log/\" = \"persistent\"\n",
            "is persistent, but no `state` is set",
            "state = \"SERVER:/DIRECTORY\"",
        ),
        (
            "[statelite.files]\n\"/var/log/\" = \"localdisk\"\n",
            "no `local_disk` is set",
            "local_disk = \"LABEL=local\"",
        ),
        (
            "[statelite]\nstate = \"h:/s\"\n[statelite.files]\n\"/var/\" = \"overlay,persistent\"\n",
            "upper directory on NFS",
            "overlay,localdisk",
        ),
        (
            "[statelite]\ntrees = [\"$noderes.nfsserver:/t\"]\n[statelite.files]\n\"/a\" = \"tmpfs\"\n",
            "the variable `$noderes.nfsserver` has no value",
            "[statelite.variables]",
        ),
        (
            "[statelite]\ntrees = [\"h:/p/#CMD=date#\"]\n[statelite.files]\n\"/a\" = \"tmpfs\"\n",
            "`#CMD=` would run on xCAT's management node",
            "write the value that it prints",
        ),
        (
            "[statelite]\nstate = \"/nfs1:/n/$node\"\n[statelite.files]\n\"/a\" = \"persistent\"\n",
            "is neither SERVER:/DIRECTORY",
            "10.0.0.5:/state",
        ),
        (
            "[statelite]\nroot = \"/srv\"\n[statelite.files]\n\"/a\" = \"tmpfs\"\n",
            "is not the directory of a server",
            "publish nfs:DIR",
        ),
        (
            "[statelite]\nlocal_disk = \"sda\"\n[statelite.files]\n\"/a\" = \"localdisk\"\n",
            "`sda` is not a disk",
            "LABEL=",
        ),
        ("[statelite]\n", "names no path of this image", "stateless image"),
    ] {
        let text = checked(&space, table);
        let plain: String = text
            .split_whitespace()
            .map(|word| word.trim_matches(['│', '·', '╰', '─', '▶']))
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        assert!(plain.contains(said), "{said}: {text}");
        assert!(plain.contains(remedy), "{remedy}: {text}");
        assert!(text.contains("image.toml"), "{text}");
    }
}

#[test]
fn lists_are_rows_of_xcats_tables_or_lines() {
    let space = Space::new();
    space.write(
        "lite.csv",
        "#image,file,options,comments,disable\n\"ALL\",\"/etc/ssh/\",\"tmpfs\",,\n\"other\",\"/nothing\",\"bogus\",,\n\"ALL\",\"/off\",\"bogus\",,\"1\"\n\"lite\",\"/etc/ssh/\",\"persistent\",,\n",
    );
    space.write("lines", "# as `litefile NODE` prints them\nn01: tmpfs         /etc/hosts\nlink /etc/resolv.conf\n");
    space.write("tree.csv", "#priority,image,directory,mntopts,comments,disable\n\"10\",\"ALL\",\"h:/b\",,,\n\"2\",,\"h:/a\",\"nfsvers=3\",,\n");
    space.write(
        "state.csv",
        "#node,image,statemnt,mntopts,comments,disable\n\"n01\",,\"h:/s\",,,\n\"n[1-9]\",,\"h:/s\",,,\n",
    );
    let table =
        "[statelite]\nlitefile = [\"lite.csv\", \"lines\"]\nlitetree = [\"tree.csv\"]\nstatelite = [\"state.csv\"]\n";
    let text = checked(&space, table);
    assert!(text.contains("`n[1-9]` is not a node name") && text.contains("state.csv:3"), "{text}");
    space.write("state.csv", "#node,image,statemnt,mntopts,comments,disable\n\"n01\",,\"h:/s\",,,\n");
    let text = checked(&space, table);
    assert!(text.contains("the recipe is good"), "{text}");
    let loaded = recipe::load(space.path());
    let list = loaded.recipe.unwrap().statelite.unwrap().list;
    let entries: Vec<String> =
        list.entries.iter().map(|entry| format!("{} {}", entry.way.name(), entry.path)).collect();
    assert_eq!(entries, ["tmpfs /etc/hosts", "link /etc/resolv.conf", "persistent /etc/ssh/"]);
    let trees: Vec<String> = list.trees.iter().map(|tree| format!("{} {}", tree.source, tree.options)).collect();
    assert_eq!(trees, ["h:/a nfsvers=3", "h:/b "]);
    space.write("lines", "tmpfs /etc/my hosts\n");
    let text = checked(&space, table);
    assert!(text.contains("this is not a line of a list for litefile") && text.contains("lines:1"), "{text}");
    // Another table than the one that is asked for.
    let text = checked(&space, "[statelite]\nlitefile = [\"tree.csv\"]\n");
    assert!(text.contains("this is not the table litefile"), "{text}");
}

#[test]
fn xcats_names_show_the_list_of_an_image_and_of_nodes() {
    let space = Space::new();
    space.write("w/imgbuild.toml", "images = [\"lite\"]\n");
    let table = "[statelite]\ntrees = [\"h:/t/$node\", \"h:/all\"]\n\n[statelite.files]\n\"/etc/hosts\" = \"tmpfs\"\n\"/root/\" = \"link\"\n";
    space.write("w/lite/image.toml", &format!("{RECIPE}{table}"));
    space.write(
        "w/nodes.toml",
        "[group.all]\nnodes = \"n[01-02]\"\nimage = \"lite\"\n\n[node.\"n[01-02]\"]\nip = \"10.0.0.[1-2]\"\n",
    );
    std::fs::create_dir(space.path().join("bin")).unwrap();
    let run = |name: &str, word: &str| {
        let link = space.path().join("bin").join(name);
        let _ = std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_imgbuild"), &link);
        let mut command = std::process::Command::new(&link);
        command.arg(word).env("IMGBUILD_WORKSPACE", space.path().join("w")).env("IMGBUILD_STORE", space.store());
        crate::support::Ran::from(command.output().unwrap())
    };
    assert_eq!(run("ilitefile", "lite").good().out, "lite: tmpfs         /etc/hosts\nlite: link          /root/\n");
    assert_eq!(run("litefile", "n02").good().out, "n02: tmpfs         /etc/hosts\nn02: link          /root/\n");
    assert_eq!(run("litetree", "n01").good().out, "n01: h:/t/n01\nn01: h:/all\n");
    // What nodeset gave a node goes before what its file names.
    space.write("w/imgbuild.toml", "images = [\"lite\", \"other\"]\n");
    let other = RECIPE.replace("name = \"lite\"", "name = \"other\"");
    assert_ne!(other, RECIPE);
    space.write("w/other/image.toml", &format!("{other}[statelite.files]\n\"/opt/\" = \"link\"\n"));
    let assigned = serde_json::json!({"format_version": "1.0", "nodes": {"n01": {
        "boots": "image", "image": "other", "build": "0", "directory": "/b", "loader": "ipxe", "out": "/o", "url": "u", "time": 1
    }}});
    space.write("w/.imgbuild/nodes/assigned.json", &assigned.to_string());
    assert_eq!(run("litefile", "n01").good().out, "n01: link          /opt/\n");
    assert_eq!(run("litefile", "n02").good().out, "n02: tmpfs         /etc/hosts\nn02: link          /root/\n");
    let ran = run("litefile", "n09");
    assert!(ran.code == 1 && ran.err.contains("n09"), "{}", ran.err);
}
