//! The closure of a tools root, compared with what libsolv chooses on the same random repositories.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use base::digest::Sha256;
use packages::rpm::{Repository, RepositorySource, closure, fetch_repository};
use packages::{Fetcher, Progress};
use store::Store;

/// Takes news of downloads and says nothing.
pub struct Silent;

impl Progress for Silent {
    fn downloaded(&self, _: usize, _: usize, _: u64, _: u64) {}
}

/// xorshift: the same packages on each machine.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

const NAMES: usize = 260;
const VIRTUALS: usize = 40;
const VERSIONS: [&str; 9] = ["1.0", "1.0~rc1", "1.0^git1", "1.1", "2.0", "2.01", "2.1a", "10.0", "3"];

/// What a dependency may name: a package, a virtual name, a file; sometimes with versions, sometimes boolean.
fn plain(random: &mut Random, limit: usize) -> (String, String) {
    let versions = |random: &mut Random, chance: usize| {
        if !random.chance(chance) {
            return String::new();
        }
        let flags = random.pick(&["GE", "GE", "GE", "LE", "EQ", "LT", "GT"]);
        let version = random.pick(&VERSIONS[..6]);
        let release = if random.chance(20) { " rel=\"1\"" } else { "" };
        format!(" flags=\"{flags}\" epoch=\"0\" ver=\"{version}\"{release}")
    };
    match random.below(100) {
        0..50 => {
            let number = random.below(limit);
            (format!("p{number}"), versions(random, 25))
        }
        50..85 => {
            let number = random.below(VIRTUALS);
            (format!("virtual({number})"), versions(random, 20))
        }
        _ => {
            let number = random.below(limit);
            // Those below /usr/share are in filelists alone.
            let place = random.pick(&["/usr/bin", "/usr/share/data"]);
            (format!("{place}/f{number}"), String::new())
        }
    }
}

fn as_text((name, attributes): &(String, String)) -> String {
    let value = |key: &str| {
        let start = attributes.find(&format!("{key}=\""))? + key.len() + 2;
        Some(attributes[start..].split('"').next().unwrap().to_owned())
    };
    match value("flags") {
        None => name.clone(),
        Some(flags) => {
            let sign = match flags.as_str() {
                "GE" => "&gt;=",
                "LE" => "&lt;=",
                "EQ" => "=",
                "LT" => "&lt;",
                _ => "&gt;",
            };
            let release = value("rel").map(|release| format!("-{release}")).unwrap_or_default();
            format!("{name} {sign} {}{release}", value("ver").unwrap())
        }
    }
}

fn rich(random: &mut Random, limit: usize, depth: usize) -> String {
    let operand = |random: &mut Random| {
        if depth < 2 && random.chance(25) { rich(random, limit, depth + 1) } else { as_text(&plain(random, limit)) }
    };
    let (one, two) = (operand(random), operand(random));
    match random.below(9) {
        0 | 1 => format!("({one} or {two})"),
        2 => format!("({one} and {two})"),
        3 => format!("({one} if {two})"),
        4 => format!("({one} if {two} else {})", operand(random)),
        5 => format!("({one} unless {two})"),
        6 => format!("({one} unless {two} else {})", operand(random)),
        // These are of one package, so that their operands are plain.
        7 => format!("({} with {})", as_text(&plain(random, limit)), as_text(&plain(random, limit))),
        _ => format!("({} without {})", as_text(&plain(random, limit)), as_text(&plain(random, limit))),
    }
}

fn entry((name, attributes): &(String, String)) -> String {
    format!("      <rpm:entry name=\"{name}\"{attributes}/>\n")
}

fn list(kind: &str, entries: &str) -> String {
    if entries.is_empty() { String::new() } else { format!("    <rpm:{kind}>\n{entries}    </rpm:{kind}>\n") }
}

/// One repository: primary, filelists, repomd.xml.
fn write_repository(random: &mut Random, directory: &Path, packages: usize, richness: usize) {
    let (mut primary, mut filelists) = (String::new(), String::new());
    for at in 0..packages {
        // Most names appear once in a repository, some in several versions.
        let number = if at < NAMES && packages >= NAMES { at } else { random.below(NAMES) };
        let name = format!("p{number}");
        let arch = random.pick(&["x86_64", "x86_64", "x86_64", "noarch", "i686"]);
        let (version, release) = (random.pick(&VERSIONS), random.pick(&["1", "2", "10"]));
        let epoch = usize::from(random.chance(5));
        // Most needs lead to lower numbers, so that most packages can be installed.
        let limit = if random.chance(90) { number.max(3) } else { NAMES };
        let own = format!(" flags=\"EQ\" epoch=\"{epoch}\" ver=\"{version}\" rel=\"{release}\"");
        let mut provides = entry(&(name.clone(), own));
        for _ in 0..random.below(3) {
            let with = random.pick(&[
                "",
                " flags=\"EQ\" epoch=\"0\" ver=\"1.0\"",
                " flags=\"EQ\" epoch=\"0\" ver=\"2.0\" rel=\"1\"",
            ]);
            provides += &entry(&(format!("virtual({})", random.below(VIRTUALS)), with.to_owned()));
        }
        let mut requires = String::new();
        for _ in 0..random.below(4) {
            requires += &if random.chance(richness) {
                entry(&(rich(random, limit, 0), String::new()))
            } else {
                entry(&plain(random, limit))
            };
        }
        if random.chance(10) {
            requires += &entry(&(
                "rpmlib(FileDigests)".to_owned(),
                " flags=\"LE\" epoch=\"0\" ver=\"4.6.0\" rel=\"1\"".to_owned(),
            ));
        }
        let some = |random: &mut Random, chance: usize| {
            if random.chance(chance) { entry(&plain(random, NAMES)) } else { String::new() }
        };
        let conflicts =
            if random.chance(richness / 4) { entry(&(rich(random, NAMES, 1), String::new())) } else { some(random, 6) };
        let obsoletes = some(random, 4);
        let (recommends, suggests) = (some(random, 8), some(random, 5));
        let (supplements, enhances) = (some(random, 4), some(random, 3));
        let digest = Sha256::of(format!("{}{at}", directory.display()).as_bytes());
        let binary = format!("/usr/bin/f{number}");
        let data = format!("/usr/share/data/f{number}");
        let dependencies = [
            list("provides", &provides),
            list("requires", &requires),
            list("conflicts", &conflicts),
            list("obsoletes", &obsoletes),
            list("recommends", &recommends),
            list("suggests", &suggests),
            list("supplements", &supplements),
            list("enhances", &enhances),
        ];
        write!(
            primary,
            "<package type=\"rpm\">\n  <name>{name}</name>\n  <arch>{arch}</arch>\n  \
             <version epoch=\"{epoch}\" ver=\"{version}\" rel=\"{release}\"/>\n  \
             <checksum type=\"sha256\" pkgid=\"YES\">{digest}</checksum>\n  <summary>s</summary>\n  \
             <size package=\"1\" installed=\"1\" archive=\"1\"/>\n  <location href=\"{name}-{at}.rpm\"/>\n  <format>\n{}    \
             <file>{binary}</file>\n  </format>\n</package>\n",
            dependencies.concat()
        )
        .unwrap();
        write!(
            filelists,
            "<package pkgid=\"{digest}\" name=\"{name}\" arch=\"{arch}\">\n  \
             <version epoch=\"{epoch}\" ver=\"{version}\" rel=\"{release}\"/>\n  <file>{binary}</file>\n  <file>{data}</file>\n</package>\n"
        )
        .unwrap();
    }
    let header = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
    let primary = format!(
        "{header}<metadata xmlns=\"http://linux.duke.edu/metadata/common\" \
         xmlns:rpm=\"http://linux.duke.edu/metadata/rpm\" packages=\"{packages}\">\n{primary}</metadata>\n"
    );
    let filelists = format!(
        "{header}<filelists xmlns=\"http://linux.duke.edu/metadata/filelists\" packages=\"{packages}\">\n{filelists}</filelists>\n"
    );
    std::fs::create_dir_all(directory.join("repodata")).unwrap();
    let mut repomd = format!("{header}<repomd xmlns=\"http://linux.duke.edu/metadata/repo\"><revision>1</revision>\n");
    for (kind, text) in [("primary", &primary), ("filelists", &filelists)] {
        std::fs::write(directory.join(format!("repodata/{kind}.xml")), text).unwrap();
        writeln!(
            repomd,
            "<data type=\"{kind}\"><checksum type=\"sha256\">{}</checksum><location href=\"repodata/{kind}.xml\"/><size>{}</size></data>",
            Sha256::of(text.as_bytes()),
            text.len()
        )
        .unwrap();
    }
    repomd += "</repomd>\n";
    std::fs::write(directory.join("repodata/repomd.xml"), repomd).unwrap();
}

/// Answers each line of seeds with the packages that libsolv chooses, or `-`.
const LIBSOLV: &str = r#"
import sys, solv
pool = solv.Pool()
pool.setdisttype(solv.Pool.DISTTYPE_RPM)
pool.setarch("x86_64")
for argument in sys.argv[1:]:
    priority, directory = argument.split(":", 1)
    repo = pool.add_repo(directory)
    repo.priority = -int(priority)
    for kind, flags in (("primary", 0), ("filelists", solv.Repo.REPO_EXTEND_SOLVABLES)):
        assert repo.add_rpmmd(solv.xfopen(directory + "/repodata/" + kind + ".xml"), None, flags)
lines = [line.split() for line in sys.stdin]
# libsolv looks only for files that some package needs.
extra = pool.add_repo("extra").add_solvable()
extra.name, extra.evr, extra.arch = "needs-files", "1-1", "noarch"
for path in sorted({seed for line in lines for seed in line if seed.startswith("/")}):
    extra.add_deparray(solv.SOLVABLE_REQUIRES, pool.Dep(path))
pool.set_considered_list([s.id for s in pool.solvables if s.arch in ("x86_64", "noarch")])
pool.addfileprovides()
pool.createwhatprovides()
names = {s.name for s in pool.solvables if s.arch != "i686"}
for line in lines:
    jobs = []
    for seed in line:
        select = solv.Job.SOLVER_SOLVABLE_NAME if seed in names else solv.Job.SOLVER_SOLVABLE_PROVIDES
        jobs.append(pool.Job(solv.Job.SOLVER_INSTALL | select, pool.str2id(seed)))
    solver = pool.Solver()
    solver.set_flag(solv.Solver.SOLVER_FLAG_IGNORE_RECOMMENDED, 1)
    problems = solver.solve(jobs)
    if problems:
        print("-", "; ".join(str(p) for p in problems))
    else:
        print(" ".join(sorted(str(s) + ":" + s.repo.name for s in solver.transaction().newsolvables())))
"#;

fn libsolv(directory: &Path, repositories: &[(u32, std::path::PathBuf)], sets: &[Vec<String>]) -> Vec<String> {
    let script = directory.join("libsolv.py");
    std::fs::write(&script, LIBSOLV).unwrap();
    let lines: String = sets.iter().map(|set| set.join(" ") + "\n").collect();
    let input = directory.join("sets");
    std::fs::write(&input, lines).unwrap();
    let output = Command::new("/usr/bin/python3")
        .arg(&script)
        .args(repositories.iter().map(|(priority, path)| format!("{priority}:{}", path.display())))
        .stdin(std::fs::File::open(&input).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Compares sets on one kind of repositories: equal ones, solvable ones, and what differs.
fn compare(seed: u64, sets: usize, richness: usize) -> (usize, usize, Vec<String>) {
    let place = tempfile::tempdir().unwrap();
    let mut random = Random(seed | 1);
    let mut repositories = Vec::new();
    for (name, packages, priority) in [("base", 300, 99), ("updates", 160, 99), ("site", 90, 50)] {
        let directory = place.path().join(name);
        write_repository(&mut random, &directory, packages, richness);
        repositories.push((priority, directory));
    }
    let sets: Vec<Vec<String>> = (0..sets)
        .map(|_| {
            let one = |random: &mut Random| match random.below(10) {
                0 => format!("virtual({})", random.below(VIRTUALS)),
                1 => format!("/usr/bin/f{}", random.below(NAMES)),
                _ => format!("p{}", random.below(NAMES)),
            };
            (0..1 + random.below(4)).map(|_| one(&mut random)).collect()
        })
        .collect();
    against_libsolv(place.path(), &repositories, &sets)
}

/// Reads repositories that lie in directories: priority, directory.
pub fn read_all(place: &Path, repositories: &[(u32, std::path::PathBuf)]) -> Vec<Repository> {
    let store = Store::open(&place.join("store"), "", (0, 0)).unwrap();
    repositories
        .iter()
        .map(|(priority, directory)| {
            let source = RepositorySource {
                id: directory.display().to_string(),
                base: vec![format!("file:{}", directory.display())],
                priority: Some(*priority),
                ..RepositorySource::default()
            };
            fetch_repository(&Fetcher::new(), &store, &source, &Silent).unwrap()
        })
        .collect()
}

/// Compares sets on repositories: equal ones, solvable ones, and what differs.
pub fn against_libsolv(
    place: &Path,
    repositories: &[(u32, std::path::PathBuf)],
    sets: &[Vec<String>],
) -> (usize, usize, Vec<String>) {
    let read = read_all(place, repositories);
    let theirs = libsolv(place, repositories, sets);
    assert_eq!(theirs.len(), sets.len());
    let (mut equal, mut solvable, mut differences) = (0, 0, Vec::new());
    for (set, theirs) in sets.iter().zip(&theirs) {
        let ours = match closure(&read, set, "x86_64") {
            Ok(chosen) => {
                let mut names: Vec<String> = chosen
                    .iter()
                    .map(|(one, two)| format!("{}:{}", read[*one].candidates[*two].nevra(), read[*one].id))
                    .collect();
                names.sort();
                names.join(" ")
            }
            Err(error) => format!("- {error}"),
        };
        solvable += usize::from(!theirs.starts_with('-'));
        if ours == *theirs || ours.starts_with('-') && theirs.starts_with('-') {
            equal += 1;
        } else {
            differences.push(difference(set, &ours, theirs, place));
        }
    }
    (equal, solvable, differences)
}

fn difference(set: &[String], ours: &str, theirs: &str, place: &Path) -> String {
    let mut sides: BTreeMap<&str, (bool, bool)> = BTreeMap::new();
    ours.split(' ').for_each(|name| sides.entry(name).or_default().0 = true);
    theirs.split(' ').for_each(|name| sides.entry(name).or_default().1 = true);
    let only = |ours: bool| {
        let names = sides.iter().filter(|(_, sides)| (sides.0 && !sides.1) == ours && sides.0 != sides.1);
        names.map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
    };
    let text = format!("{}\n  ours: {}\n  libsolv: {}", set.join(" "), only(true), only(false));
    text.replace(&format!("{}/", place.display()), "")
}

#[test]
fn the_closure_is_libsolvs_on_200_random_sets() {
    let (mut equal, mut solvable, mut all, mut differences) = (0, 0, 0, Vec::new());
    // In the first one, files that only filelists name and nobody but weak dependencies asks for decide several sets.
    let mut rounds = vec![(0x7780_090a, 60, 0), (0x9abc_def1, 70, 15), (0x5555_1111, 70, 35)];
    // More distributions for a long run, by hand.
    let more = std::env::var("IMGBUILD_TEST_CLOSURES").ok().and_then(|text| text.parse().ok()).unwrap_or(0u64);
    rounds.extend((0..more).map(|at| (0x7777_0001 + at * 0x1_0101, 100, [0, 15, 35][at as usize % 3])));
    for (seed, sets, richness) in rounds {
        let (same, good, different) = compare(seed, sets, richness);
        let different = different.into_iter().map(|text| format!("{seed:#x}, {richness}: {text}"));
        equal += same;
        solvable += good;
        all += sets;
        differences.extend(different);
    }
    println!("{equal} of {all} sets are equal; {solvable} of them can be installed");
    assert!(
        differences.is_empty(),
        "{equal} of {all} sets are equal ({solvable} solvable):\n{}",
        differences.join("\n")
    );
    // Neither all nor none: both kinds of answers are compared.
    assert!(solvable >= 60 && solvable <= all - 20, "{solvable} of {all}");
}
