use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::*;
use packages::Progress;
use store::{Outputs, Store};

struct Quiet;

impl Progress for Quiet {
    fn downloaded(&self, _: usize, _: usize, _: u64, _: u64) {}
}

struct NoLayers;

impl Saver for NoLayers {
    fn save(&self, _: &Digest) -> Result<PathBuf, String> {
        Err("there are no layers".to_owned())
    }

    fn packages(&self, _: &str) -> Vec<(Object, PathBuf)> {
        Vec::new()
    }

    fn done(&self, _: &Path) {}
}

/// A cache in a directory, and machines that use it.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(site.cache()).unwrap();
        site.set(&site.cache(), 0o755);
        site
    }

    fn set(&self, path: &Path, mode: u32) {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    fn cache(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap().join("cache")
    }

    fn store(&self, name: &str) -> Store {
        let ids = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        Store::open(&self.0.path().join(name), "uid 0 gid 0", ids).unwrap()
    }

    fn key(&self, number: u8) -> (PathBuf, String) {
        let path = self.0.path().join(format!("{number}.key"));
        let key = SigningKey::from_bytes(&[number; 32]);
        std::fs::write(&path, secret(&key)).unwrap();
        self.set(&path, 0o600);
        (path, public(&key.verifying_key()))
    }

    fn of(&self, key: Option<u8>, trust: &[String]) -> Cache {
        let settings = Settings { key: key.map(|key| self.key(key).0), trust: trust.to_vec(), ..Settings::default() };
        Cache::of(&[self.cache().display().to_string()], &settings).unwrap()
    }
}

/// An action that made one file.
fn action(store: &Store, name: &str, bytes: &[u8]) -> ActionRecord {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let blob = store.ensure_blob_of(file.path()).unwrap();
    let record = ActionRecord {
        format: 1,
        key: Digest::of(name.as_bytes()),
        action: name.to_owned(),
        inputs: Vec::new(),
        outputs: Outputs { blobs: [("file".to_owned(), blob)].into(), ..Outputs::default() },
        milliseconds: 1,
        differing: None,
        differs_in: None,
        believed: None,
        digest: None,
    };
    store.commit(record).unwrap()
}

fn fill(cache: &Cache, store: &Store, record: &ActionRecord, has_run: bool) -> Vec<String> {
    let said = Mutex::new(Vec::new());
    let say = |text: String| said.lock().unwrap().push(text);
    cache.fill(store, &[(record.clone(), has_run)], &NoLayers, &|_| true, &say).unwrap();
    said.into_inner().unwrap()
}

fn bring(cache: &Cache, store: &Store, keys: &[Digest]) -> (Brought, Vec<String>) {
    let said = Mutex::new(Vec::new());
    let say = |text: String| said.lock().unwrap().push(text);
    let found: Vec<Found> = keys.iter().filter_map(|key| cache.find(key, &say)).collect();
    let brought = cache.bring(store, &found, &|_| Err("no layers".to_owned()), &Quiet, &say).unwrap();
    (brought, said.into_inner().unwrap())
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let walk = walkdir::WalkDir::new(directory).sort_by_file_name().into_iter().flatten();
    walk.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

#[test]
fn one_bad_file_costs_one_file_and_who_writes_replaces_it() {
    let site = Site::new();
    let (first, second) = (site.store("first"), site.store("second"));
    let good = action(&first, "good", b"good");
    let records: Vec<ActionRecord> =
        ["a", "b", "c"].map(|name| action(&first, name, format!("result of {name}").as_bytes())).into();
    let own = site.of(None, &[]);
    for record in records.iter().chain([&good]) {
        assert!(fill(&own, &first, record, true).is_empty());
    }
    let keys: Vec<Digest> = records.iter().chain([&good]).map(|record| record.key).collect();
    let objects = files(&site.cache().join("v1/objects"));
    let before: Vec<Vec<u8>> = objects.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let mut bad = objects.iter().zip(&before).filter(|(_, bytes)| **bytes != b"good");
    let mut next = || bad.next().unwrap().0;
    std::fs::write(next(), "short").unwrap();
    std::fs::write(next(), "much longer than it was").unwrap();
    std::fs::write(next(), "result of ?").unwrap();
    // A pipe in an entry's place costs that entry.
    let entry = site.cache().join(place::action_name(&Digest::of(b"entry")));
    std::fs::create_dir_all(entry.parent().unwrap()).unwrap();
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, &entry, kind, mode, 0).unwrap();
    let cache = site.of(None, &[]);
    let (brought, said) = bring(&cache, &second, &[&keys[..], &[Digest::of(b"entry")]].concat());
    assert_eq!((brought.actions, brought.bytes), (1, 4), "{said:?}");
    assert_eq!(said.iter().filter(|text| text.contains("are missing or damaged")).count(), 3, "{said:?}");
    assert!(!said.iter().any(|text| text.contains("is not used:")), "{said:?}");
    // They are built, and written there again; the entry in whose place something else is, too.
    let mut made: Vec<ActionRecord> =
        ["a", "b", "c"].map(|name| action(&second, name, format!("result of {name}").as_bytes())).into();
    made.push(action(&second, "entry", b"entry"));
    for record in &made {
        assert_eq!(fill(&cache, &second, record, true), Vec::<String>::new());
    }
    assert_eq!(objects.iter().map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>(), before);
    let (brought, said) = bring(&site.of(None, &[]), &site.store("third"), &[&keys[..], &[made[3].key]].concat());
    assert_eq!((brought.actions, said.len()), (5, 0), "{said:?}");
}

#[test]
fn keys_rotate_and_no_holder_rewrites_what_another_wrote() {
    let site = Site::new();
    let (first, second) = (site.store("first"), site.store("second"));
    let (old, new, third) = (site.key(1).1, site.key(2).1, site.key(3).1);
    let record = action(&first, "a", b"result");
    let is_found = |trust: &str| site.of(None, &[trust.to_owned()]).find(&record.key, &|_| {}).is_some();
    fill(&site.of(Some(1), &[]), &first, &record, true);
    let entry = site.cache().join(place::action_name(&record.key));
    let text = std::fs::read(&entry).unwrap();
    assert!(is_found(&old) && !is_found(&new));
    // Who has the new key trusts the old one still: what that signed is signed by the new one, beside it.
    fill(&site.of(Some(2), std::slice::from_ref(&old)), &second, &record, false);
    assert!(is_found(&old) && is_found(&new) && !is_found(&third));
    // Who made the same and trusts no one else signs it, too.
    let same = action(&second, "a", b"result");
    fill(&site.of(Some(3), &[]), &second, &same, true);
    assert!(is_found(&old) && is_found(&new) && is_found(&third));
    assert_eq!(std::fs::read(&entry).unwrap(), text);
    // The two lines are those that imgbuild before this one reads.
    let trusted = [parse_public(&old).unwrap()];
    assert!(Entry::parse(&text, &record.key, &trusted).is_ok());
    let beside = files(&site.cache().join("v1/signatures"));
    assert_eq!(beside.len(), 2);
    let contents = Contents::of(&site.cache()).unwrap();
    assert_eq!((contents.signers().0.len(), contents.signers().1), (3, 0));
    assert!(contents.wrong(&|_| {}).is_empty() && contents.foreign().is_empty());
    // A signature of something else, or one that was altered, does not count.
    let other = action(&first, "b", b"other");
    fill(&site.of(Some(1), &[]), &first, &other, true);
    let of_other = site.cache().join(place::action_name(&other.key));
    let mut lines = String::from_utf8(std::fs::read(&of_other).unwrap()).unwrap();
    let at = lines.trim_end().len() - 1;
    let digit = if lines.as_bytes()[at] == b'0' { "1" } else { "0" };
    lines.replace_range(at..=at, digit);
    std::fs::write(&of_other, lines).unwrap();
    std::fs::write(&beside[0], std::fs::read(&beside[1]).unwrap()).unwrap();
    let wrong = Contents::of(&site.cache()).unwrap().wrong(&|_| {});
    assert!(wrong.iter().any(|one| one.problem.contains("its signature is not valid")), "{wrong:?}");
    // What another made and no trusted key signed is replaced by who made something else.
    let mine = action(&second, "b", b"mine");
    fill(&site.of(Some(3), &[]), &second, &mine, true);
    assert!(site.of(None, &[third]).find(&mine.key, &|_| {}).is_some());
    // What is left over of signatures goes with their entries.
    std::fs::remove_file(&entry).unwrap();
    let old = std::time::SystemTime::now() + Duration::from_secs(7200);
    Contents::of(&site.cache()).unwrap().shrink(u64::MAX, old).unwrap();
    assert!(files(&site.cache().join("v1/signatures")).is_empty());
}

#[test]
fn what_was_only_believed_is_given_to_no_one() {
    let site = Site::new();
    let (first, second) = (site.store("first"), site.store("second"));
    let record = action(&first, "a", b"result");
    fill(&site.of(None, &[]), &first, &record, true);
    let outputs_only = [OUTPUTS_ONLY.to_owned()];
    let (brought, _) = bring(&site.of(None, &outputs_only), &second, &[record.key]);
    assert_eq!((brought.actions, brought.unsigned), (1, 1));
    let believed = second.record(&record.key).unwrap();
    assert_eq!(believed.believed.as_deref(), site.cache().to_str());
    assert_eq!(second.believed().count(), 1);
    // Neither signed nor written anywhere.
    std::fs::remove_dir_all(site.cache().join("v1")).unwrap();
    fill(&site.of(Some(1), &outputs_only), &second, &believed, false);
    assert!(!site.cache().join("v1").exists());
    // Between machines that work on one build it goes along, as what it is.
    fill(&Cache::of_directory(&site.cache()).unwrap(), &second, &believed, false);
    let (there, given) = (site.store("there"), site.store("given"));
    bring(&Cache::of_directory(&site.cache()).unwrap(), &there, &[record.key]);
    bring(&Cache::none().with_results(&site.cache()), &given, &[record.key]);
    assert_eq!((there.believed().count(), given.believed().count()), (1, 1));
    // What another cache says of that is its own matter.
    let stranger = site.store("stranger");
    bring(&site.of(None, &[]), &stranger, &[record.key]);
    assert_eq!((stranger.records().count(), stranger.believed().count()), (1, 0));
    // What ran here counts, whatever was believed.
    let mut own = record.clone();
    own.outputs = action(&second, "b", b"another").outputs;
    assert_eq!(second.commit(own.clone()).unwrap().outputs, own.outputs);
    assert_eq!(second.believed().count(), 0);
    // What a trusted key signed is not marked.
    let third = site.store("third");
    std::fs::remove_dir_all(site.cache().join("v1")).unwrap();
    fill(&site.of(Some(1), &[]), &first, &record, true);
    bring(&site.of(None, &[site.key(1).1]), &third, &[record.key]);
    assert_eq!((third.records().count(), third.believed().count()), (1, 0));
}

#[test]
fn who_is_believed_is_asked_for_and_said() {
    let site = Site::new();
    let address = site.cache().display().to_string();
    let of = |trust: &[&str], key: Option<PathBuf>| {
        let trust = trust.iter().map(|text| (*text).to_owned()).collect();
        Cache::of(std::slice::from_ref(&address), &Settings { key, trust, ..Settings::default() })
    };
    let (file, public) = site.key(1);
    assert!(of(&[], None).unwrap().notes.is_empty());
    for mode in [0o777, 0o1777] {
        site.set(&site.cache(), mode);
        assert!(matches!(of(&[], None), Err(CacheError::Open { .. })), "{mode:o}");
        // With a key it does not matter, and where the workspace says so.
        assert!(of(&[&public], None).unwrap().notes.is_empty() && of(&["unsigned"], None).unwrap().notes.is_empty());
        assert_eq!(of(&["outputs-only"], None).unwrap().notes.len(), 1);
    }
    site.set(&site.cache(), 0o755);
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(site.cache(), Some(1234), None).unwrap();
        assert!(of(&[], None).unwrap().notes[0].contains("user 1234"));
        assert!(of(&["unsigned"], None).unwrap().notes.is_empty());
    }
    let server = |trust: &str| {
        let settings = Settings { trust: vec![trust.to_owned()], ..Settings::default() };
        Cache::of(&["http://localhost:1/x".to_owned()], &settings)
    };
    assert!(matches!(
        Cache::of(&["http://localhost:1/x".to_owned()], &Settings::default()),
        Err(CacheError::NoKey { .. })
    ));
    assert!(server("unsigned").unwrap().notes.is_empty() && server("outputs-only").unwrap().notes.len() == 1);
    // A key that others can read signs nothing.
    assert!(of(&[], Some(file.clone())).is_ok());
    for mode in [0o640, 0o604] {
        site.set(&file, mode);
        assert!(matches!(of(&[], Some(file.clone())), Err(CacheError::OpenKey { .. })), "{mode:o}");
    }
}

#[test]
fn what_others_can_write_is_remembered_as_believed() {
    let site = Site::new();
    let first = site.store("first");
    let record = action(&first, "a", b"result");
    fill(&site.of(Some(1), &[]), &first, &record, true);
    let mut stores = 0..;
    let mut believed = |cache: &Cache| {
        let store = site.store(&format!("store-{}", stores.next().unwrap()));
        let (brought, _) = bring(cache, &store, &[record.key]);
        assert_eq!((brought.actions, brought.unsigned), (1, store.believed().count()));
        store.believed().count() == 1
    };
    let unsigned = [UNSIGNED.to_owned()];
    // No one else can write there.
    assert!(!believed(&site.of(None, &[])) && !believed(&site.of(None, &unsigned)));
    for mode in [0o777, 0o1777] {
        site.set(&site.cache(), mode);
        assert!(believed(&site.of(None, &unsigned)), "{mode:o}");
    }
    site.set(&site.cache(), 0o755);
    site.set(&site.cache().join("v1/actions"), 0o777);
    assert!(believed(&site.of(None, &unsigned)));
    // Any holder's, this program's own, and what was given for this build.
    assert!(!believed(&site.of(None, &[site.key(1).1])));
    assert!(!believed(&Cache::of_directory(&site.cache()).unwrap()));
    assert!(!believed(&Cache::none().with_results(&site.cache())));
    site.set(&site.cache().join("v1/actions"), 0o755);
    if rustix::process::geteuid().is_root() {
        site.set(&site.cache(), 0o2775);
        assert!(believed(&site.of(None, &[])));
        site.set(&site.cache(), 0o755);
        std::os::unix::fs::chown(site.cache(), Some(1234), None).unwrap();
        assert!(believed(&site.of(None, &[])));
    }
}

#[test]
fn a_key_signs_only_what_its_holder_has_too() {
    let site = Site::new();
    let (first, second) = (site.store("first"), site.store("second"));
    let (record, other) = (action(&first, "a", b"result"), action(&second, "a", b"another"));
    let old = site.key(1).1;
    fill(&site.of(Some(1), &[]), &first, &record, true);
    let rotating = site.of(Some(2), std::slice::from_ref(&old));
    let beside = || files(&site.cache().join("v1/signatures")).len();
    for has_run in [false, true] {
        let said = fill(&rotating, &second, &other, has_run);
        assert!(said.len() == 1 && said[0].contains("another result of a"), "{said:?}");
        assert_eq!(beside(), 0);
    }
    // A frame's name says nothing of its content: the text beside it does.
    let frame = Digest::of(b"frame");
    let (file, info) = (site.0.path().join("frame"), |store: &Store| {
        store.directory().join(format!("{}.info", Store::frame_name(&frame)))
    });
    std::fs::write(&file, "frame").unwrap();
    let mut packed = action(&second, "packed", b"x");
    packed.outputs = Outputs { frames: vec![frame], ..Outputs::default() };
    let object = Object { size: 5, sha256: base::digest::Sha256::of(b"frame") };
    let mut entry = Entry::of(&packed).unwrap();
    entry.frames.insert(frame, Frame { object: object.clone(), info: "theirs".to_owned() });
    let place = Place::of(&site.cache().display().to_string(), true, Rate::default()).unwrap();
    place.put(&object, &file).unwrap();
    let text = site.0.path().join("entry");
    std::fs::write(&text, entry.to_text(Some(&SigningKey::from_bytes(&[1; 32]))).unwrap()).unwrap();
    place.put_entry(&packed.key, &text, &[]).unwrap();
    std::fs::create_dir_all(info(&second).parent().unwrap()).unwrap();
    for (own, signed) in [(None, 0), (Some("own"), 0), (Some("theirs"), 1)] {
        own.iter().for_each(|own| std::fs::write(info(&second), own).unwrap());
        fill(&rotating, &second, &packed, false);
        assert_eq!(beside(), signed, "{own:?}");
    }
}

#[test]
fn what_was_too_slow_is_not_damaged() {
    let site = Site::new();
    let first = site.store("first");
    let record = action(&first, "a", b"result");
    fill(&site.of(None, &[]), &first, &record, true);
    let place = Place::of(&site.cache().display().to_string(), true, Rate::default()).unwrap();
    let object = Object { size: 6, sha256: base::digest::Sha256::of(b"result") };
    let within = |within| Wanted { object: object.clone(), destination: site.0.path().join("here"), within };
    let sound = || place.is_sound(&record.key, std::slice::from_ref(&object));
    let problems = place.bring(&[within(Duration::ZERO)], &Quiet).unwrap();
    assert!(problems.unread.len() == 1 && problems.of.is_empty() && sound(), "{problems:?}");
    std::fs::write(site.cache().join(object_name(&object)), "RESULT").unwrap();
    let problems = place.bring(&[within(Duration::from_secs(60))], &Quiet).unwrap();
    assert!(problems.of.len() == 1 && problems.unread.is_empty() && !sound(), "{problems:?}");
}

#[test]
fn one_refusal_is_one_and_several_in_a_row_are_all() {
    let site = Site::new();
    let place = Place::of(&site.cache().display().to_string(), true, Rate::default()).unwrap();
    let unsent = |is_of_one| place::Unsent { problem: "no".to_owned(), is_of_one };
    let (key, file) = (Digest::of(b"a"), site.0.path().join("file"));
    std::fs::write(&file, "text").unwrap();
    for _ in 0..3 {
        assert!(
            !place.is_to_rest(&unsent(true)) && !place.is_to_rest(&unsent(true)) && !place.is_to_rest(&unsent(true))
        );
        // What it takes in between.
        place.put_entry(&key, &file, &[]).unwrap();
    }
    let rests: Vec<bool> = (0..4).map(|_| place.is_to_rest(&unsent(true))).collect();
    assert_eq!(rests, [false, false, false, true]);
    place.put_entry(&key, &file, &[]).unwrap();
    assert!(place.is_to_rest(&unsent(false)));
}

#[test]
fn a_name_that_another_machine_wrote_moves_no_terminal() {
    assert_eq!(crate::shown_name("rootfs/base\n\u{1b}[2Jerror: done\t"), "rootfs/base??[2Jerror: done?");
}
