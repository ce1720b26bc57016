//! Groups, environments and streams of modules of real distributions, as dnf's own libraries list them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use packages::rpm::{Comps, PackageKind, Repository, StreamChoice, hide_modular};

use super::corpus;
use super::metadata::stream;
use crate::e2e::closure::{Random, read_all};
use crate::support::collected;

/// Runs a script with the libraries of dnf; what it prints is JSON.
fn asked(script: &str, arguments: &[&str]) -> serde_json::Value {
    let output = Command::new("/usr/bin/python3").arg("-c").arg(script).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

const LIBCOMPS: &str = "
import json, libcomps, sys
comps = libcomps.Comps()
comps.fromxml_f(sys.argv[1])
kinds = {libcomps.PACKAGE_TYPE_MANDATORY: 'mandatory', libcomps.PACKAGE_TYPE_DEFAULT: 'default',
         libcomps.PACKAGE_TYPE_OPTIONAL: 'optional', libcomps.PACKAGE_TYPE_CONDITIONAL: 'conditional'}
groups = [[g.id, g.name or '', g.default, g.uservisible, [[p.name, kinds.get(p.type, 'default'), p.requires or ''] for p in g.packages]]
          for g in comps.groups]
environments = [[e.id, e.name or '', [i.name for i in e.group_ids], [[i.name, i.default] for i in e.option_ids]]
                for e in comps.environments]
json.dump({'groups': groups, 'environments': environments}, sys.stdout)
";

fn own(comps: &Comps) -> serde_json::Value {
    let kind = |kind: PackageKind| match kind {
        PackageKind::Mandatory => "mandatory",
        PackageKind::Default => "default",
        PackageKind::Optional => "optional",
        PackageKind::Conditional => "conditional",
    };
    let groups = comps.groups.iter().map(|group| {
        let packages = group.packages.iter();
        let packages: Vec<_> =
            packages.map(|one| (&one.name, kind(one.kind), one.requires.clone().unwrap_or_default())).collect();
        serde_json::json!([group.id, group.name, group.default, group.visible, packages])
    });
    let environments =
        comps.environments.iter().map(|one| serde_json::json!([one.id, one.name, one.groups, one.options]));
    serde_json::json!({"groups": groups.collect::<Vec<_>>(), "environments": environments.collect::<Vec<_>>()})
}

#[test]
fn groups_and_environments_are_those_that_libcomps_reads() {
    if collected("corpus/rpm").is_none() {
        return;
    }
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in ["comps", "repodata"] {
        for entry in walkdir::WalkDir::new(corpus().join(folder)).sort_by_file_name() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy();
            if name.contains("comps") && (name.contains(".xml")) && entry.file_type().is_file() {
                files.push(entry.path().to_owned());
            }
        }
    }
    assert!(files.len() > 15, "{files:?}");
    let place = tempfile::tempdir().unwrap();
    let (mut groups, mut environments) = (0, 0);
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let plain = match bytes.starts_with(&[0x1f, 0x8b]) {
            true => std::io::read_to_string(flate2::read::MultiGzDecoder::new(&bytes[..])).unwrap().into_bytes(),
            false => bytes,
        };
        let to = place.path().join("comps.xml");
        std::fs::write(&to, &plain).unwrap();
        let comps = Comps::parse(&plain[..]).unwrap_or_else(|problem| panic!("{}: {problem}", file.display()));
        groups += comps.groups.len();
        environments += comps.environments.len();
        let (own, theirs) = (own(&comps), asked(LIBCOMPS, &[to.to_str().unwrap()]));
        for kind in ["groups", "environments"] {
            let (own, theirs) = (own[kind].as_array().unwrap(), theirs[kind].as_array().unwrap());
            for (own, theirs) in own.iter().zip(theirs) {
                assert_eq!(own, theirs, "{}", file.display());
            }
            assert_eq!(own.len(), theirs.len(), "{kind} of {}", file.display());
        }
    }
    println!("{groups} groups, {environments} environments");
    assert!(groups > 500 && environments > 50, "{groups} {environments}");
}

const DNF: &str = "
import dnf, dnf.module.module_base, json, sys
place, chosen, repositories = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:]
answers = []
for streams in chosen:
    base = dnf.Base()
    base.conf.installroot, base.conf.cachedir, base.conf.persistdir = place + '/root', place + '/cache', place + '/persist'
    base.conf.pluginpath, base.conf.reposdir = [], []
    base.conf.module_platform_id = 'platform:el9'
    base.conf.releasever = '9'
    base.conf.substitutions['arch'] = 'x86_64'
    base.conf.substitutions['basearch'] = 'x86_64'
    base.conf.best = True
    for index, path in enumerate(repositories):
        repo = base.repos.add_new_repo('r%d' % index, base.conf, baseurl=['file://' + path])
        repo.gpgcheck = False
    base.fill_sack(load_system_repo=False)
    try:
        if streams:
            dnf.module.module_base.ModuleBase(base).enable(streams)
        answers.append(sorted('%s %s' % (p.reponame, p) for p in base.sack.query().available() if p.arch != 'src'))
    except dnf.exceptions.Error as error:
        answers.append(str(error))
    base.close()
json.dump(answers, sys.stdout)
";

#[test]
fn of_stream_9_the_packages_are_seen_that_dnf_sees_with_whatever_streams() {
    if collected("corpus/rpm").is_none() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let repositories = stream(place.path());
    let mut read: Vec<Repository> = read_all(place.path(), &repositories);
    let streams: Vec<(String, String)> = read
        .iter()
        .filter_map(|one| one.modules.as_ref())
        .flat_map(|modules| &modules.streams)
        .map(|one| (one.module.clone(), one.stream.clone()))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    assert!(streams.len() >= 15, "{streams:?}");
    // Nothing, each stream by itself, and pairs.
    let mut sets: Vec<Vec<(String, String)>> = vec![Vec::new()];
    sets.extend(streams.iter().map(|one| vec![one.clone()]));
    let mut random = Random(0x7172_7374);
    for _ in 0..6 {
        let (one, other) = (&streams[random.below(streams.len())], &streams[random.below(streams.len())]);
        if one.0 != other.0 {
            sets.push(vec![one.clone(), other.clone()]);
        }
    }
    let words: Vec<Vec<String>> =
        sets.iter().map(|set| set.iter().map(|(module, stream)| format!("{module}:{stream}")).collect()).collect();
    let paths: Vec<&str> = repositories.iter().map(|(_, path)| path.to_str().unwrap()).collect();
    let chosen = serde_json::to_string(&words).unwrap();
    let arguments = [&[place.path().to_str().unwrap(), &chosen][..], &paths].concat();
    let answers = asked(DNF, &arguments);
    let mut hidden = BTreeSet::new();
    for (set, answer) in sets.iter().zip(answers.as_array().unwrap()) {
        let chosen: Vec<StreamChoice> = set
            .iter()
            .map(|(module, stream)| StreamChoice { module: module.clone(), stream: Some(stream.clone()) })
            .collect();
        let Some(theirs) = answer.as_array() else { panic!("dnf says of {set:?}: {answer}") };
        hide_modular(&mut read, &chosen).unwrap_or_else(|problem| panic!("{set:?}: {problem}; dnf takes it"));
        let mut own: Vec<String> = Vec::new();
        for (index, repository) in read.iter().enumerate() {
            hidden.insert(repository.hidden.len());
            for (at, candidate) in repository.candidates.iter().enumerate() {
                if !repository.hidden.contains(&at) && candidate.arch != "src" {
                    let epoch =
                        if candidate.evr.epoch > 0 { format!("{}:", candidate.evr.epoch) } else { String::new() };
                    let (version, release) = (&candidate.evr.version, &candidate.evr.release);
                    own.push(format!("r{index} {}-{epoch}{version}-{release}.{}", candidate.name, candidate.arch));
                }
            }
        }
        let own: BTreeSet<&str> = own.iter().map(String::as_str).collect();
        let theirs: BTreeSet<&str> = theirs.iter().map(|one| one.as_str().unwrap()).collect();
        let difference: Vec<&&str> = own.symmetric_difference(&theirs).take(12).collect();
        assert!(difference.is_empty(), "{set:?}: {} here, {} by dnf: {difference:?}", own.len(), theirs.len());
    }
    // Streams do hide something.
    assert!(hidden.len() > 5, "{hidden:?}");
}
