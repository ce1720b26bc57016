//! Holds the house to its plan: who imports whom, how long files are, where unsafe code stands.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// What each room of the crate `build` may import of the others: those that stand before it, and no other.
const ROOMS_OF_BUILD: [&str; 12] = [
    "error",
    "inside",
    "bench",
    "supply",
    "actions",
    "published",
    "lock",
    "estimate",
    "plan",
    "builder",
    "examine",
    "operations",
];

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Files of a folder; those of the crates belong to `src`.
fn sources(below: &str) -> Vec<(PathBuf, String)> {
    let crates = (below == "src").then_some("crates");
    [below]
        .into_iter()
        .chain(crates)
        .flat_map(|below| walkdir::WalkDir::new(project().join(below)).sort_by_file_name())
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()))
        .collect()
}

/// Paths of `crate::`, and those by `super::` that lead to the crate's root; without `use` trees.
fn named_below(code: &str, depth: usize) -> Vec<&str> {
    let absolute = code.match_indices("crate::").map(|(at, found)| at + found.len());
    // As many steps up as the file is deep, and no more.
    let up = "super::".repeat(depth);
    let relative = code.match_indices(&up).filter(|(at, _)| depth > 0 && !code[..*at].ends_with("super::"));
    let relative = relative.map(|(at, found)| at + found.len()).filter(|at| !code[*at..].starts_with("super::"));
    absolute.chain(relative).map(|at| &code[at..]).collect()
}

#[test]
fn rooms_of_build_import_only_those_below() {
    let place = |room: &str| ROOMS_OF_BUILD.iter().position(|one| *one == room);
    let (mut wrong, mut arrows) = (Vec::new(), 0);
    for (path, text) in sources("crates/build/src") {
        let below = path.strip_prefix(project().join("crates/build/src")).unwrap();
        let own = below.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if own == "lib" {
            continue;
        }
        let at = place(&own).unwrap_or_else(|| panic!("the room `{own}` of build is not in the table"));
        let is_folder = below.ends_with("mod.rs");
        let depth = below.components().count() - usize::from(is_folder);
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for path_there in named_below(code, depth) {
            let name: String = path_there.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            arrows += 1;
            // The error of all, which the folder itself offers, is in a room below all.
            let is_good = name == "StageError" || name == own || place(&name).is_some_and(|there| there < at);
            let of_top = own == "operations" && path_there.starts_with('{');
            wrong.extend((!is_good && !of_top).then(|| {
                let line: String = path_there.chars().take(60).take_while(|c| *c != '\n').collect();
                format!("{} imports {line}", below.display())
            }));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(arrows > 100, "{arrows}");
}

#[test]
fn architecture_names_every_crate() {
    let text = std::fs::read_to_string(project().join("ARCHITECTURE.md")).unwrap();
    for entry in std::fs::read_dir(project().join("crates")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(text.contains(&format!("`{name}`")), "{name}");
        let root = std::fs::read_to_string(project().join("crates").join(&name).join("src/lib.rs")).unwrap();
        assert!(root.starts_with("//! "), "{name}: its lib.rs says what it owns");
    }
}

/// A file that is longer says why on its first line.
const LONGEST: usize = 800;

#[test]
fn files_stay_small_enough_to_hold_in_the_head() {
    for below in ["src", "imgbuild-init/src", "tests"] {
        for (path, text) in sources(below) {
            let lines = text.lines().count();
            assert!(lines <= LONGEST || text.starts_with("// long:"), "{} has {lines} lines", path.display());
        }
    }
}

/// A folder's files and folders besides its `mod.rs`.
const MOST_SIBLINGS: usize = 12;

#[test]
fn folders_hold_no_more_than_one_can_look_over() {
    let mut siblings: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let crates = std::fs::read_dir(project().join("crates")).unwrap().map(|entry| entry.unwrap().path().join("src"));
    let all = crates.chain([project().join("src")]).flat_map(|folder| walkdir::WalkDir::new(folder).min_depth(1));
    for entry in all {
        let entry = entry.unwrap();
        // What editors leave is not part of the house.
        let name = entry.file_name().to_string_lossy().into_owned();
        if !["mod.rs", "lib.rs", "main.rs"].contains(&name.as_str()) && !name.starts_with('.') && !name.ends_with('~') {
            *siblings.entry(entry.path().parent().unwrap().to_owned()).or_default() += 1;
        }
    }
    siblings.retain(|_, count| *count > MOST_SIBLINGS);
    assert!(siblings.is_empty(), "{siblings:#?}");
}

#[test]
fn each_action_has_a_room_with_its_inputs() {
    let actions = project().join("crates/build/src/actions");
    let entries = std::fs::read_dir(&actions).unwrap().map(|entry| entry.unwrap().path());
    // What all inputs are made with is no action.
    let folders = entries.filter(|path| path.is_dir() && !path.ends_with("reader"));
    let lacking: Vec<PathBuf> = folders
        .filter(|folder| ["mod.rs", "inputs.rs", "run.rs"].iter().any(|file| !folder.join(file).is_file()))
        .collect();
    assert!(lacking.is_empty(), "{lacking:?}");
    // What a builder is stands in one place; what works with it takes it as an argument.
    let is_impl =
        |line: &&str| line.starts_with("impl") && line.split([' ', ':']).any(|word| word.starts_with("Builder<"));
    let builders: usize = sources("src").iter().map(|(_, text)| text.lines().filter(is_impl).count()).sum();
    assert_eq!(builders, 1);
}

#[test]
fn unsafe_code_stands_in_three_places_with_its_reason() {
    for below in ["src", "imgbuild-init/src"] {
        for (path, text) in sources(below) {
            let name = path.strip_prefix(project()).unwrap().display().to_string();
            let lines: Vec<&str> = text.lines().collect();
            for (index, line) in lines.iter().enumerate() {
                if !line.contains("unsafe {") && !line.contains("unsafe fn") {
                    continue;
                }
                let may = ["crates/sandbox/src/", "imgbuild-init/src/sys/", "crates/serve/src/sockets/system.rs"];
                assert!(may.iter().any(|place| name.starts_with(place)), "{name}:{}", index + 1);
                let before = &lines[index.saturating_sub(6)..=index];
                assert!(
                    before.iter().any(|line| line.contains("SAFETY:")),
                    "{name}:{} has no SAFETY comment",
                    index + 1
                );
            }
        }
    }
}

#[test]
fn each_file_is_part_of_its_crate() {
    for (path, _) in ["src", "imgbuild-init/src", "tests/it", "tests/fuzz"].into_iter().flat_map(sources) {
        let (folder, name) = (path.parent().unwrap(), path.file_stem().unwrap().to_str().unwrap());
        if ["main", "lib", "mod", "build"].contains(&name) || folder.ends_with("bin") {
            continue;
        }
        let parents = ["mod.rs", "main.rs", "lib.rs"].map(|parent| folder.join(parent)).into_iter();
        let words = [format!("mod {name};"), format!("\"{name}.rs\""), format!("/{name}.rs\"")];
        let has = |parent: PathBuf| {
            std::fs::read_to_string(parent).is_ok_and(|text| words.iter().any(|word| text.contains(word.as_str())))
        };
        assert!(parents.chain([folder.with_extension("rs")]).any(has), "{} is compiled by no one", path.display());
    }
}

#[test]
fn only_the_command_line_prints() {
    for (path, text) in sources("src") {
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let prints = ["println!(", "eprintln!(", "print!(", "dbg!("].iter().any(|word| code.contains(word));
        // Build scripts talk to cargo so.
        let is_program = path.starts_with(project().join("src"))
            || ["fault/src/lib.rs", "build.rs"].iter().any(|end| path.ends_with(end));
        assert!(!prints || is_program, "{} prints", path.display());
    }
}

#[test]
fn no_code_knows_a_release_by_its_name() {
    // The names by which a host's sources are recognised, and the default of `init`.
    let may = ["crates/packages/src/apt/archive/source.rs", "src/verbs/recipe/init.rs"];
    let mut wrong = Vec::new();
    for (path, text) in ["src", "imgbuild-init/src"].into_iter().flat_map(sources) {
        let name = path.strip_prefix(project()).unwrap().to_str().unwrap().to_owned();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let names = ["buster", "bullseye", "bookworm", "trixie", "forky"];
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        let found = lines.filter(|line| names.iter().any(|release| line.contains(release))).count();
        if found > 0 && !may.contains(&name.as_str()) && !name.ends_with("/tests.rs") {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "look at what a release has instead of its name: {wrong:?}");
}

/// Files that name the CPU of a PC, each with what it knows of all CPUs, or why only that one is meant.
const NAME_A_CPU: &[(&str, &str)] = &[
    ("crates/embedded/build.rs", "which programs are compiled for nodes"),
    ("crates/embedded/src/lib.rs", "programs by CPU"),
    ("crates/advisories/src/model.rs", "kernels of Debian by CPU"),
    ("crates/advisories/src/read/csaf.rs", "architectures of packages in names of products"),
    ("crates/boot/src/firmware.rs", "firmware by CPU"),
    ("crates/boot/src/qemu.rs", "machines by CPU"),
    ("crates/publish/src/kinds/cobbler/documents.rs", "Cobbler's names of CPUs"),
    ("crates/publish/src/kinds/servers/fake.rs", "an image of the tests"),
    ("crates/movein/src/plan/commands.rs", "what `dpkg --print-architecture` of an input prints"),
    ("src/help.rs", "an example"),
    ("src/verbs/nodes/nodeset/files.rs", "names of each CPU"),
    ("src/verbs/recipe/init.rs", "a new recipe, to be edited"),
    ("crates/packages/src/apt/archive/named.rs", "Debian's name of the image's CPU, which is one of three"),
    ("crates/packages/src/apt/archive/source.rs", "Debian's names"),
    ("crates/packages/src/apt/bootstrap.rs", "which CPUs have /lib64"),
    ("crates/packages/src/apt/mod.rs", "Debian's name of the image's CPU, which is one of three"),
    ("crates/packages/src/rpm/metadata/samples.rs", "tests"),
    ("crates/packages/src/rpm_family/archive/packages.rs", "programs of 32 bits, which that CPU runs"),
    ("crates/packages/src/rpm_family/mod.rs", "RPM's names"),
    ("crates/nodes/src/model/mod.rs", "values of a field"),
    ("crates/nodes/src/formats/provisioners.rs", "what SMD calls CPUs"),
    ("crates/build/src/published/oci/container.rs", "Go's names"),
    ("crates/publish/src/facts/image.rs", "CPUs of images"),
    ("crates/recipe/src/load/checks.rs", "Debian's names, an example"),
    ("crates/recipe/src/model/mod.rs", "CPUs of recipes"),
    ("crates/sandbox/src/command/uname.rs", "programs of 32 bits, which that CPU runs"),
    ("crates/sandbox/src/emulator.rs", "ELF files by CPU"),
    ("crates/sandbox/src/tree/machine.rs", "/proc/cpuinfo by CPU"),
    ("crates/sandbox/src/filter/mod.rs", "numbers of system calls of the CPU that imgbuild runs on"),
    ("crates/serve/src/dhcp/loaders.rs", "loaders by CPU"),
    ("crates/oci/src/container.rs", "CPUs as containers call them"),
    ("crates/site/src/capture/packages.rs", "kernels of Debian by CPU"),
    ("crates/site/src/media/identify.rs", "names on media"),
    ("crates/site/src/nodes/xcat.rs", "serial lines by CPU"),
    ("crates/build/src/actions/gate/programs.rs", "ELF files by CPU"),
    ("crates/build/src/actions/reader/mod.rs", "microcode, which only that CPU has"),
    ("crates/build/src/inside/init.rs", "programs of the initrd by CPU"),
    ("imgbuild-init/src/sys/reaper.rs", "instructions of the CPU that imgbuild runs on"),
];

#[test]
fn no_code_assumes_the_cpu_of_a_pc() {
    let names = ["x86_64", "X86_64", "amd64", "ttyS0", "EM_X86"];
    let mut found = BTreeSet::new();
    for (path, text) in ["src", "imgbuild-init/src"].into_iter().flat_map(sources) {
        let name = path.strip_prefix(project()).unwrap().to_str().unwrap().to_owned();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let mut lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        if !name.ends_with("/tests.rs") && lines.any(|line| names.iter().any(|cpu| line.contains(cpu))) {
            found.insert(name);
        }
    }
    let may: BTreeSet<String> = NAME_A_CPU.iter().map(|(name, _)| (*name).to_owned()).collect();
    let wrong: Vec<&String> = found.difference(&may).collect();
    assert!(wrong.is_empty(), "ask for the image's CPU, or say in NAME_A_CPU what these know of all: {wrong:?}");
    let gone: Vec<&String> = may.difference(&found).collect();
    assert!(gone.is_empty(), "these name no CPU: {gone:?}");
}

#[test]
fn the_readme_has_two_set_up_commands_and_the_page_of_commands_every_exit_code() {
    let text = std::fs::read_to_string(project().join("README.md")).unwrap();
    let section = text.split("## Two commands").nth(1).unwrap().split("\n## ").next().unwrap();
    assert_eq!(section.matches("```sh").count(), 2);
    // The table moved from README to the page of commands.
    let text = std::fs::read_to_string(project().join("docs/commands.md")).unwrap();
    for code in ["| 0 |", "| 1 |", "| 2 |", "| 3 |", "| 4 |", "| 5 |", "| 64 |", "| 101 |", "| 130 |", "| 143 |"] {
        assert!(text.contains(code), "{code}");
    }
}

#[test]
fn what_builds_leave_is_not_kept_in_git() {
    let Ok(listed) = std::process::Command::new("git").arg("ls-files").current_dir(project()).output() else { return };
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let left = |name: &&str| {
        let endings = ["image.lock", "-snap", ".deb"];
        let of_variant = |name: &str| {
            name.rsplit('/').next().is_some_and(|file| file.starts_with("image.") && file.ends_with(".lock"))
        };
        of_variant(name)
            || name.split('/').any(|part| part == "out")
            || endings.iter().any(|ending| name.ends_with(ending))
    };
    assert_eq!(listed.lines().find(left), None);
}

#[test]
fn what_plans_are_made_of_is_read_through_the_witness() {
    // Rooms and files that planning runs through: what they read past the witness, a memo would not know.
    let all_of = ["crates/recipe/src/", "crates/plan/src/", "crates/build/src/plan/"];
    // What keys are made of; the rest of an action's folder runs.
    let is_inputs = |name: &str| name.starts_with("crates/build/src/actions/") && name.ends_with("/inputs.rs");
    let files = [
        "crates/build/src/actions/reader/graph.rs",
        "crates/build/src/actions/reader/globs.rs",
        "crates/build/src/actions/reader/mod.rs",
        "crates/build/src/lock/state.rs",
        "crates/build/src/lock/repositories.rs",
        "crates/build/src/actions/packages/requests.rs",
        "crates/build/src/bench/history.rs",
        "crates/build/src/published/drift.rs",
        "crates/build/src/actions/kernel/directory.rs",
        "crates/build/src/actions/kernel/drivers/host.rs",
        "crates/build/src/actions/node_support/files.rs",
        "crates/build/src/actions/packages/tools.rs",
        "crates/packages/src/apt/archive/local.rs",
        "crates/packages/src/rpm/metadata/scan.rs",
        "src/plans/planned.rs",
    ];
    let words = [
        "std::fs::",
        "fs::read",
        "File::open",
        "std::env::var",
        "walkdir::",
        "WalkDir",
        ".is_file()",
        ".is_dir()",
        ".exists()",
        ".canonicalize()",
        ".symlink_metadata()",
        ".metadata()",
        ".read_dir()",
        ".read_link()",
        "try_exists",
    ];
    // Reads the packages of otherpkgs for resolving, which no plan does.
    let may = [
        "crates/packages/src/apt/archive/local.rs: let bytes = std::fs::read(&file).map_err(|error| wrong(error.to_string()))?;",
    ];
    // A file that moved would be looked at no more.
    let gone = all_of.iter().chain(&files).find(|name| !project().join(name).exists());
    assert_eq!(gone, None);
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        let name = path.strip_prefix(project()).unwrap().to_str().unwrap().to_owned();
        let is_test = name.ends_with("tests.rs");
        let is_read =
            all_of.iter().any(|room| name.starts_with(room)) || files.contains(&name.as_str()) || is_inputs(&name);
        if is_test || !is_read {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for line in code.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
            let place = format!("{name}: {line}");
            if words.iter().any(|word| line.contains(word)) && !may.contains(&place.as_str()) {
                wrong.push(place);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Modules and functions of the tests of `it`, as their names begin in a test program's list.
fn tests_of_it() -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources("tests/it") {
        let below = path.strip_prefix(project().join("tests/it")).unwrap().with_extension("");
        let parts: Vec<&str> =
            below.iter().map(|part| part.to_str().unwrap()).filter(|part| !matches!(*part, "mod" | "main")).collect();
        let module = parts.join("::");
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        found.extend(words.filter(|word| word.contains('_')).map(|word| format!("it::{module}::{word}")));
    }
    found
}

#[test]
fn each_tier_names_tests_and_sources_that_there_are() {
    let text = std::fs::read_to_string(project().join("tests/gate/tiers.toml")).unwrap();
    let tiers: toml::Table = toml::from_str(&text).unwrap();
    let strings = |value: &toml::Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    };
    let tests = tests_of_it();
    let is_test = |name: &str| match name.strip_suffix("::") {
        Some(_) => tests.iter().any(|test| test.starts_with(name)),
        None => tests.iter().any(|test| test == name),
    };
    let (mut wrong, mut seen, mut held) = (Vec::new(), BTreeSet::new(), strings(&tiers["gate"]["sources"]));
    for group in tiers["group"].as_array().unwrap() {
        let name = group["name"].as_str().unwrap();
        wrong.extend((!seen.insert(name.to_owned())).then(|| format!("two groups are called {name}")));
        for test in strings(&group["tests"]) {
            wrong.extend((!is_test(&test)).then(|| format!("{name}: there is no test {test}")));
            wrong.extend((!seen.insert(test.clone())).then(|| format!("{test} is in two groups")));
        }
        held.extend(strings(&group["sources"]));
    }
    wrong.extend(held.iter().filter(|path| !project().join(path).exists()).map(|path| format!("{path} is not there")));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whatever changes, some test is asked for by it, and how long each test takes is known: by what chooses them.
#[test]
fn each_file_asks_for_a_test_and_each_test_has_its_time() {
    let out = std::process::Command::new("python3")
        .args(["tests/gate/run.py", "untested"])
        .current_dir(project())
        .output()
        .expect("python3 is there");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success() && said.is_empty(), "{said}{}", String::from_utf8_lossy(&out.stderr));
}

/// Words that CONTRIBUTING.md replaces by plainer ones. The account `nobody` is written in quotes.
const REPLACED: [&str; 6] = ["any more", "is none", "nobody", "whoever", "told", "anew"];

/// The first word or phrase of a line that is replaced, or a sentence in it that begins with `Of`.
fn replaced(line: &str) -> Option<&'static str> {
    let lower = line.to_lowercase();
    let at = |phrase: &str| {
        lower.match_indices(phrase).any(|(start, _)| {
            let before = lower[..start].chars().next_back();
            let after = lower[start + phrase.len()..].chars().next();
            let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
            // `users::nobody` is a code; `\\told` is a tab in a text.
            let is_quoted = phrase == "nobody" && before.is_some_and(|c| matches!(c, '`' | '"' | ':'));
            !is_part(before) && !is_part(after) && !is_quoted
        })
    };
    if let Some(phrase) = REPLACED.iter().find(|phrase| at(phrase)) {
        // The constant of the account's number.
        return (!line.contains("NOBODY")).then_some(*phrase);
    }
    let is_word = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase() || matches!(c, '{' | '`'));
    let begins = ["// ", "/// ", "//! ", "- ", "| ", ". "];
    let text = line.trim_start();
    let fronted = text.strip_prefix("Of ").is_some_and(is_word)
        || begins.iter().any(|begin| text.split(&format!("{begin}Of ")).skip(1).any(is_word))
        || ["\"of ", ": of ", "; of "].iter().any(|begin| {
            let is_text = begin.starts_with('"') || !text.starts_with("//") || text.contains('"');
            is_text && text.split(begin).skip(1).any(is_word) && (begin.starts_with('"') || text.contains('"'))
        });
    fronted.then_some("Of ...")
}

#[test]
fn texts_are_in_plain_english() {
    let pages = walkdir::WalkDir::new(project().join("docs")).into_iter().map(|entry| entry.unwrap().into_path());
    let pages = pages.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    let pages = pages.chain(["README.md", "ARCHITECTURE.md"].map(|name| project().join(name)));
    let pages = pages.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()));
    let all = ["src", "imgbuild-init/src"].into_iter().flat_map(sources).chain(pages);
    let mut wrong = Vec::new();
    for (path, text) in all {
        for (at, line) in text.lines().enumerate() {
            let name = path.strip_prefix(project()).unwrap().display();
            wrong.extend(replaced(line).map(|what| format!("{name}:{}: {what}: {}", at + 1, line.trim())));
        }
    }
    assert!(wrong.is_empty(), "CONTRIBUTING.md, Words: {wrong:#?}");
    let bad = [
        "// Of the content.",
        "it is told",
        "Whoever reads",
        "\"of {}, one\"",
        "- Of a file",
        "made anew;",
        "x: no. Of it all",
    ];
    assert!(bad.iter().all(|line| replaced(line).is_some()));
    let good = ["a list of files", "the account `nobody`", "untold", "is_none", "Offset of it", "part: a set of them"];
    assert!(good.iter().all(|line| replaced(line).is_none()));
}
