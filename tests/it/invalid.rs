//! Each bad recipe with its rendered message; all problems of a recipe at once, before anything runs.

use crate::support::{Space, without_paths};

/// Checks a recipe that is bad, and gives what is said.
#[track_caller]
fn said(files: &[(&str, &str)]) -> String {
    let space = Space::new();
    for (name, text) in files {
        space.write(name, text);
    }
    let ran = space.run(&["check"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(!space.store().exists(), "check made a store");
    without_paths(&ran.err, &space)
}

const HEAD: &str = "[image]\nname = \"x\"\nrelease = \"bookworm\"\n\n[system]\nauthorized_keys = [\"k.pub\"]\n\n";
const KEY: (&str, &str) =
    ("k.pub", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty x\n");

fn with(more: &str) -> String {
    format!("{HEAD}{more}")
}

#[test]
fn suites_of_the_hosts_archives_are_those_of_the_release() {
    let repo = |suites: &str| {
        let space = Space::new();
        let image = "[image]\nname = \"x\"\nrelease = \"trixie\"\n\n[[repo]]\nsource = \"host\"\n";
        space.write("image.toml", &format!("{image}suites = [{suites}]\n"));
        space.run(&["check"])
    };
    repo("\"trixie\", \"trixie-security\"").good();
    let ran = repo("\"trixie\", \"bookworm-updates\"");
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("`bookworm-updates` is not a suite of the release `trixie`"), "{}", ran.err);
    assert!(ran.err.contains("image.toml:5:"), "{}", ran.err);
}

#[test]
fn a_missing_recipe_says_how_to_make_one() {
    insta::assert_snapshot!(said(&[]));
}

#[test]
fn misspelt_keys_wrong_types_and_values_come_all_at_once() {
    let recipe = "[image]\nname = \"x\"\nrelase = \"bookworm\"\n\n[packages]\nlist = [\"a.pkglist\"]\ninstall = \"vim\"\nbase = \"minbas\"\n\n[pack]\nlevel = 99\ncompress = 3\n\n[kernell]\n";
    insta::assert_snapshot!(said(&[("image.toml", recipe)]));
}

#[test]
fn a_syntax_error_has_its_place() {
    insta::assert_snapshot!(said(&[("image.toml", "[image\nname = \"x\"\nrelease = bookworm\n")]));
}

#[test]
fn missing_files_come_all_at_once() {
    let recipe = with(
        "[packages]\nlists = [\"no.pkglist\"]\n\n[exclude]\nlists = [\"no.exlist\"]\n\n[sync]\nlists = [\"a.synclist\"]\n\n[postinstall]\nscript = \"no.sh\"\n",
    );
    insta::assert_snapshot!(said(&[("image.toml", &recipe), KEY, ("a.synclist", "site/no -> /etc/no\n")]));
}

#[test]
fn an_include_cycle_shows_its_chain() {
    let recipe = with("[packages]\nlists = [\"a.pkglist\"]\n");
    insta::assert_snapshot!(said(&[
        ("image.toml", &recipe),
        KEY,
        ("a.pkglist", "bash\n#INCLUDE:b.pkglist#\n"),
        ("b.pkglist", "vim\n#INCLUDE:a.pkglist#\n")
    ]));
}

#[test]
fn a_path_that_escapes_is_refused_with_the_line_to_add() {
    let recipe =
        with("[packages]\nlists = [\"../../../../../../../../etc/hostname\"]\n\n[sync]\nlists = [\"a.synclist\"]\n");
    insta::assert_snapshot!(said(&[("image.toml", &recipe), KEY, ("a.synclist", "/etc/passwd -> /etc/passwd\n")]));
}

#[test]
fn a_script_that_cannot_run_is_found_before_anything_runs() {
    let recipe = with("[postinstall]\nscript = \"p.sh\"\n");
    insta::assert_snapshot!(said(&[("image.toml", &recipe), KEY, ("p.sh", "echo hello\n")]));
}

#[test]
fn a_private_key_never_gets_into_an_image() {
    insta::assert_snapshot!(said(&[("image.toml", HEAD), ("k.pub", "-----BEGIN OPENSSH PRIVATE KEY-----\n")]));
}

#[test]
fn two_kernels_are_one_too_many() {
    let recipe = with("[packages]\nlists = [\"a.pkglist\"]\n\n[kernel]\npackage = \"linux-image-amd64\"\n");
    insta::assert_snapshot!(said(&[("image.toml", &recipe), KEY, ("a.pkglist", "bash\nlinux-image-cloud-amd64\n")]));
}

#[test]
fn sizes_and_command_lines_are_checked() {
    let recipe = with(
        "[boot]\ncmdline = [\"quiet splash\"]\ntmpfs = { \"tmp\" = \"50m\", \"/var/tmp\" = \"fifty\" }\nroot_size = \"big\"\n",
    );
    insta::assert_snapshot!(said(&[("image.toml", &recipe), KEY]));
    let recipe =
        with("[boot]\ncmdline = [\"quiet splash\"]\ntmpfs = { \"tmp\" = \"50m\", \"/var/tmp\" = \"fifty\" }\n");
    insta::assert_snapshot!(said(&[("image.toml", &recipe), KEY]));
}

#[test]
fn words_of_nodes_with_disks_are_told() {
    let recipe =
        with("[boot]\ncmdline = [\"root=/dev/sda1\", \"rootflags=mpol=interleave\", \"resume=/dev/sda2\", \"a b\"]\n");
    insta::assert_snapshot!(said(&[("image.toml", &recipe), KEY]));
}

#[test]
fn a_disk_of_the_node_is_named_and_only_holds_what_stays_packed() {
    let recipe = with(
        "[boot]\ncmdline = [\"imgcache=LABEL=a\", \"rootlimit=2g\"]\n\n[boot.cache]\ndevice = \"sda1\"\nimage = \"cache\"\n",
    );
    insta::assert_snapshot!(said(&[("image.toml", &recipe), KEY]));
}

#[test]
fn a_root_over_the_network_stays_packed() {
    let said_of = |table: &str| said(&[("image.toml", &with(table)), KEY]);
    let found = said_of("[boot]\nroot = \"lazy\"\n");
    assert!(found.contains("this one is unpacked into memory") && found.contains("archive = \"squashfs\""), "{found}");
    let found = said_of("[boot]\ncmdline = [\"imgbuild.root=lazy,keep=300M\"]\n");
    assert!(found.contains("needs modules that the initrd") && found.contains("root = \"lazy\""), "{found}");
    let packed = "[pack]\narchive = \"erofs\"\n\n[boot]\nroot = \"lazy\"\n";
    let found = said_of(&format!("{packed}\n[boot.cache]\ndevice = \"LABEL=a\"\nimage = \"cache\"\n"));
    assert!(found.contains("the disk keeps the frames that were read"), "{found}");
    let space = Space::new();
    space.write("image.toml", &with(packed));
    space.write(KEY.0, KEY.1);
    let ran = space.run(&["check"]);
    assert!(!ran.err.contains("lazy"), "{}", ran.err);
}

#[test]
fn drivers_are_edits_or_a_list() {
    let recipe = with(
        "[kernel]\ndrivers = [\"+ice\", \"igb\"]\n\n[[repo]]\nsource = \"host\"\nuri = \"http://x\"\n\n[[repo]]\nuri = \"ftp://x\"\n",
    );
    insta::assert_snapshot!(said(&[("image.toml", &recipe), KEY]));
}

#[test]
fn what_only_dracut_understands_needs_dracut() {
    let recipe = with("[initrd]\ndracut_modules = [\"lvm\"]\ndracut_packages = [\"lvm2\"]\n");
    insta::assert_snapshot!(said(&[("image.toml", &recipe), KEY]));
    let recipe = with(
        "[initrd]\ngenerator = \"dracut\"\ndracut_modules = [\"lvm\", \"-lvm\", \"-base\"]\ndracut_conf = [\"site\"]\n",
    );
    insta::assert_snapshot!(said(&[("image.toml", &recipe), KEY, ("site", "")]));
}

#[test]
fn a_unit_is_in_one_list_and_has_a_name() {
    let recipe = with(
        "[services]\nenable = [\"ssh\", \"getty@tty1\", \"nfs-*\"]\ndisable = [\"dhcpd\", \"dhcpd.service\"]\nmask = [\"ssh.service\", \"/etc/x.timer\"]\n",
    );
    insta::assert_snapshot!(said(&[("image.toml", &recipe), KEY]));
}

#[test]
fn lines_of_fstab_and_exports_are_checked() {
    let recipe = with(
        "fstab = [\n    \"proc /proc proc\",\n    \"none /tmp/ tmpfs size=10m\",\n    \"sysfs sys sysfs rw 0 0\",\n    \"x /a ext4 rw 0 no\",\n    \"x /b ext4 rw 0 0 0\",\n    \"y /c ext4 rw\",\n    \"z /c ext4 rw\",\n]\nexports = [\n    \"/install * (ro)\",\n    \"install *(ro)\",\n]\n\n[boot]\ntmpfs = { \"/tmp\" = \"50m\" }\n",
    );
    insta::assert_snapshot!(said(&[("image.toml", &recipe), KEY]));
}

#[test]
fn warnings_alone_are_no_failure() {
    let space = Space::new();
    space.write("image.toml", "[image]\nname = \"x\"\nrelease = \"bookworm\"\n\n[exclude]\nlists = [\"x.exlist\"]\n");
    space.write("x.exlist", "/usr/share/doc*\n./tmp/\n");
    let ran = space.run(&["check"]);
    assert_eq!(ran.code, 0);
    insta::assert_snapshot!(without_paths(&ran.err, &space));
}

#[test]
fn no_recipe_makes_the_program_panic() {
    for text in [
        "",
        "\u{0}",
        "a=1\n[",
        "image=3",
        "[[image]]\n[[image]]",
        "[image]\nname=[[[[[[[[[[]]]]]]]]]]",
        "[repo]\nx=1",
        "\u{feff}[image]",
    ] {
        let space = Space::new();
        space.write("image.toml", text);
        let ran = space.run(&["check"]);
        assert_eq!(ran.code, 1, "{text:?}: {}", ran.err);
        assert!(!ran.err.contains("panicked"), "{text:?}: {}", ran.err);
    }
}

#[test]
fn node_support_says_what_is_missing_of_the_sites_files() {
    let recipe = with("[xcat]\nnode_support = true\n");
    insta::assert_snapshot!(said(&[("image.toml", &recipe), KEY]));
    let recipe = with("[xcat]\nnode_support = true\npostscripts = \"/etc/../etc\"\n");
    insta::assert_snapshot!(said(&[("image.toml", &recipe), KEY]));
    let recipe = with("[xcat]\nnode_support = true\npostscripts = \"site\"\n");
    insta::assert_snapshot!(said(&[
        ("image.toml", &recipe),
        KEY,
        ("site/xcatdsklspost", "#!/bin/sh\n"),
        ("site/_ssh/id_rsa", "-----BEGIN OPENSSH PRIVATE KEY-----\n"),
    ]));
}

#[test]
fn very_long_lines_are_cut_around_what_is_wrong_with_them() {
    let long = format!("{} = 1 1\n", "x".repeat(70_000));
    let items = "\"vim\", ".repeat(20_000);
    let toml = with(&format!("[packages]\ninstall = [{items}\"a;b\"]\n"));
    let kdl = format!(
        "image {{ name \"x\"; release \"bookworm\"; }}\npackages {{ install {}\"a;b\"; }}\n",
        items.replace(',', "")
    );
    let images = format!("images = [{}\"..\"]\n", "\"images/*\", ".repeat(20_000));
    for (name, text, place) in [
        ("image.toml", with(&long), "image.toml:8:70004]"),
        ("image.toml", toml, "image.toml:9:140012]"),
        ("image.kdl", kdl, "image.kdl:2:120020]"),
        ("imgbuild.toml", images, "imgbuild.toml:1:240011]"),
    ] {
        let said = said(&[(name, &text), KEY]);
        assert!(said.contains(place), "{name}: {place} is not in {:.3000}", said);
        assert!(said.lines().all(|line| line.len() < 1000), "{name}");
    }
}

#[test]
fn names_that_are_no_utf8_are_told_where_they_are_asked_for() {
    use std::os::unix::ffi::OsStrExt;
    let recipe = with("[sync]\nlists = [\"a.synclist\"]\n\n[postinstall]\nscript = \"a.sh\"\ninputs = [\"site/**\"]\n");
    let space = Space::new();
    space.write("image.toml", &recipe).write("k.pub", KEY.1).write("a.sh", "#!/bin/sh\n").write("site/good", "");
    space.write("a.synclist", "site/* -> /etc/\nsite -> /srv\n");
    let odd = space.path().join("site").join(std::ffi::OsStr::from_bytes(b"mo\xfft\xc3\xa9d"));
    std::fs::write(odd, "x").unwrap();
    let ran = space.run(&["check"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    let said: String = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(said.matches(r"mo\xfftéd` is not UTF-8").count(), 3, "{}", ran.err);
    for place in ["a.synclist:1:", "a.synclist:2:", "image.toml:13:"] {
        assert!(said.contains(place), "{place}: {}", ran.err);
    }
}

#[test]
fn nothing_that_a_recipe_names_is_obeyed_by_the_terminal() {
    let recipe =
        with("[environment]\nA = \"\\u001b[2Jx\"\n\n[postinstall]\nscript = \"a.sh\"\ninputs = [\"site/**\"]\n");
    let space = Space::new();
    space.write("image.toml", &recipe).write("k.pub", KEY.1).write("a.sh", "#!/bin/sh\n");
    space.write("site/a\n  pack     keep", "").write("site/\u{1b}[31mred", "");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(space.path().join("a.sh"), mode).unwrap();
    for arguments in [&["plan", "-v"][..], &["show", "."], &["check", "-v"]] {
        let ran = space.run(arguments).good();
        assert!(!ran.out.contains('\u{1b}') && !ran.err.contains('\u{1b}'), "{arguments:?}: {}", ran.out);
        assert!(!ran.out.contains("\n  pack     keep"), "{arguments:?}: {}", ran.out);
    }
    space.edit("image.toml", "release = \"bookworm\"", "release = \"book\\u001b[31m\\nworm\"");
    let ran = space.run(&["check"]);
    assert!(!ran.err.contains('\u{1b}') && ran.err.contains(r"\u{1b}"), "{}", ran.err);
}

/// The places and texts of all that is wrong with a recipe.
#[track_caller]
fn problems(more: &str) -> Vec<(String, String)> {
    let space = Space::new();
    space.write("image.toml", &with(more)).write(KEY.0, KEY.1).write("a.pkglist", "vim\nhtop=\n=3, tree=2.1.0-1\n=\n");
    let ran = space.run(&["check", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let errors = document["findings"].as_array().unwrap().iter().filter(|one| one["severity"] == "error");
    let told = |one: &serde_json::Value| {
        assert!(one["help"].is_string(), "{one}");
        let place = format!("{}:{}:{}", one["file"].as_str().unwrap(), one["line"], one["column"]);
        (place, one["message"].as_str().unwrap().to_owned())
    };
    let found: Vec<_> = errors.map(told).collect();
    assert_eq!(ran.code, i32::from(!found.is_empty()), "{}", ran.out);
    found
}

#[test]
fn a_package_with_half_a_version_is_refused() {
    insta::assert_debug_snapshot!(problems(
        "[packages]\nlists = [\"a.pkglist\"]\ninstall = [\"jq=\", \"=1\", \"jq=1.6-2\"]\n"
    ));
}

#[test]
fn variables_have_names_that_a_process_can_have() {
    let table = "[environment]\nSITE = \"a\"\n\"\" = \"b\"\n\"A=B\" = \"c\"\n\"A B\" = \"d\"\n\"A\\u0007\" = \"e\"\nZERO = \"a\\u0000b\"\n";
    insta::assert_debug_snapshot!(problems(table));
}

#[test]
fn an_empty_kernel_release_is_refused() {
    insta::assert_debug_snapshot!(problems("[kernel]\nversion = \"\"\n"));
}

#[test]
fn a_group_has_one_number() {
    insta::assert_debug_snapshot!(problems("[users]\nslurm = { uid = 901, gid = 901 }\n\n[groups]\nslurm = 333\n"));
    assert_eq!(problems("[users]\nslurm = { uid = 901, gid = 905 }\n\n[groups]\nslurm = 333\nhpc = 905\n"), []);
    assert_eq!(problems("[users]\nslurm = { uid = 901 }\n\n[groups]\nslurm = 333\n"), []);
}

#[test]
fn what_a_form_of_the_image_does_not_have_is_refused_with_what_it_has() {
    for (pack, words) in [
        (
            "archive = \"erofs\"\ncompress = \"zstd\"",
            &["imgbuild does not write erofs with zstd", "choose one of lz4, none"][..],
        ),
        ("archive = \"tar\"\nframes = \"single\"", &["tar cannot be a single stream", "archive = \"cpio\""]),
        (
            "frames = \"single\"\ncompress = \"lz4\"",
            &["only in lz4's legacy format", "choose one of zstd, gzip, xz, none"],
        ),
        ("block_size = 8192", &["belongs to archive = \"squashfs\" or \"erofs\": cpio has no blocks"]),
        ("archive = \"erofs\"\nblock_size = 4096", &["4096 is not a power of two from 8192 to 524288"]),
        ("archive = \"squashfs\"\nblock_size = 5000", &["5000 is not a power of two from 4096 to 1048576"]),
        ("archive = \"erofs\"\nlevel = 3", &["compress = \"lz4\" has no levels"]),
        (
            "compress = \"none\"\nprofile = \"small\"",
            &["`profile` has no effect here: compress = \"none\" has no levels", "remove the line"],
        ),
        ("profile = \"tiny\"", &["it can be \"fast\", \"balanced\", \"small\""]),
    ] {
        let text = said(&[("image.toml", &with(&format!("[pack]\n{pack}\n"))), KEY]);
        let text = text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
    let good = Space::new();
    good.write("image.toml", &with("[pack]\narchive = \"erofs\"\nblock_size = 524288\n")).write(KEY.0, KEY.1);
    good.run(&["check"]).good();
    good.write("image.toml", &with("[pack]\narchive = \"erofs\"\nprofile = \"small\"\n"));
    good.run(&["check"]).good();
}

/// Checks a recipe with a role, whose playbook is `play/site.yml`.
#[track_caller]
fn role(playbook: &str, table: &str, files: &[(&str, &str)]) -> String {
    let recipe = with(&format!("[[role]]\nansible = \"play/site.yml\"\n{table}"));
    let mut all = vec![("image.toml", recipe.as_str()), KEY, ("play/site.yml", playbook)];
    all.extend_from_slice(files);
    said(&all).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn roles_are_refused_with_what_to_do_before_anything_runs() {
    let good = "- hosts: all\n  tasks: []\n";
    let said = role(good, "\n[[role]]\nansible = \"no/site.yml\"\n", &[]);
    assert!(said.contains("`no/site.yml` cannot be read") && said.contains("image.toml:"), "{said}");
    let said = role(good, "\n[[role]]\nansible = \"other/site.yml\"\n", &[("other/site.yml", good)]);
    assert!(said.contains("two roles have the name `site`: play/site.yml and other/site.yml"), "{said}");
    let said = role("- hosts: db\n  tasks: []\n", "groups = [\"web\"]\n", &[]);
    assert!(said.contains("`db` matches no host") && said.contains("play/site.yml:1:10"), "{said}");
    let said = role(good, "groups = [\"all\", \"a b\"]\n", &[]);
    assert!(said.contains("each inventory has") && said.contains("`a b` is not a name of a group"), "{said}");
    let said = role(good, "", &[("play/ansible.cfg", "[defaults]\nvault_password_file = ~/.vault\n")]);
    assert!(said.contains("password of a vault") && said.contains("ansible.cfg:2:1"), "{said}");
    let wanted = "collections:\n  - name: ansible.posix\n";
    let said = role(good, "", &[("play/requirements.yml", wanted)]);
    assert!(said.contains("the collection `ansible.posix` is not in the repository"), "{said}");
    assert!(said.contains("cd play && ansible-galaxy collection install -p collections -r requirements.yml"), "{said}");
    let said = role(good, "vars = { ports = [80] }\n", &[]);
    assert!(said.contains("`role[0].vars.ports` must be a string or a whole number"), "{said}");
    let said = role(good, "inputs = [\"../../outside/**\"]\ntools = [\"x:arm64\"]\n", &[]);
    assert!(said.contains("x:arm64"), "{said}");
}

#[test]
fn a_good_role_is_checked_without_a_word() {
    let space = Space::new();
    let recipe = with("[[role]]\nansible = \"play/site.yml\"\n");
    space.write("image.toml", &recipe).write(KEY.0, KEY.1);
    space.write("play/site.yml", "- hosts: all\n  roles: [web]\n").write("roles/web/tasks/main.yml", "[]\n");
    space.write("play/requirements.yml", "collections:\n  - ansible.posix\n");
    space.write("play/collections/ansible_collections/ansible/posix/MANIFEST.json", "{}\n");
    let ran = space.run(&["check"]).good();
    assert!(!ran.err.contains("role::"), "{}", ran.err);
    // What a role asks for and gets nothing of is a warning.
    space.edit("image.toml", "site.yml\"", "site.yml\"\ninputs = [\"nothing/**\"]");
    let ran = space.run(&["check"]).good();
    assert!(ran.err.contains("`nothing/**` matches no file"), "{}", ran.err);
}
