//! Digests that are pinned: another one here means that a format or a key changed, and with it every store, lock and image.
//! Whoever changes one raises the version of what changed, writes it to CHANGELOG.md under Rebuilds, and pins the new one.

use std::collections::BTreeMap;
use std::fmt::Write;

use archive::{Compression, Stream, cut_frames, join_frames};
use base::digest::{Digest, FieldHasher, Sha256};
use plan::{Action, ActionKind, Input, Known, Stage, Upstream, key_and_trace};
use proptest::prelude::*;
use store::{Entry, Kind, Manifest};

use super::{keys_of, lock_of, read, recipe_document, write_files, write_toml};
use crate::support::Space;

struct Fixed;

impl Known for Fixed {
    fn output(&self, action: &str, output: &str) -> Option<String> {
        Some(format!("{output} of {action}"))
    }
}

fn action(inputs: Vec<Input>) -> Action {
    Action {
        id: "rootfs/test".to_owned(),
        stage: Stage::Rootfs,
        kind: ActionKind::Sync,
        version: 7,
        inputs,
        upstream: vec![Upstream { action: "rootfs/base".to_owned(), output: "layer".to_owned() }],
        needs: Vec::new(),
    }
}

#[test]
fn the_key_of_a_fixed_action_stays() {
    let inputs = vec![Input::parameter("level", 3), Input::file("site/motd", 0o644, &Digest::of(b"a node\n"))];
    let (key, trace) = key_and_trace(&action(inputs), &Fixed);
    insta::assert_snapshot!(key.unwrap(), @"138d0158cbe8299db2d46897f1b5bed221c9653b19f80ff2cdf2462132113582");
    insta::assert_debug_snapshot!(trace, @r##"
    [
        (
            "action",
            "sync version 7",
        ),
        (
            "parameter level",
            "3",
        ),
        (
            "file site/motd",
            "0644 339fcee0e15629c4791a2728ce9dfbea549cad4f66b0f1e67c793dbcf6b283f9",
        ),
        (
            "layer rootfs/base",
            "layer of rootfs/base",
        ),
    ]
    "##);
    insta::assert_snapshot!(FieldHasher::new("a context").text("a").field(b"\0").finish(), @"b57bea63ca8d09cec05bc00758e692a1618cf5252710c70d4814cbf4ba13baaa");
}

fn tree() -> Manifest {
    let plain = |kind: Kind, mode: u32| Entry { kind, mode, mtime: 1_700_000_000, ..Entry::whiteout() };
    let file = |text: &str| Kind::File { size: text.len() as u64, digest: Digest::of(text.as_bytes()) };
    let two_names = Entry { link_group: Some("bin/a".to_owned()), ..plain(file("a program\n"), 0o755) };
    let marked = Entry {
        xattrs: BTreeMap::from([("security.capability".to_owned(), vec![1, 0, 2])]),
        uid: 5,
        gid: 6,
        ..plain(file("x"), 0o4755)
    };
    Manifest(BTreeMap::from([
        (".".to_owned(), plain(Kind::Directory, 0o755)),
        ("bin".to_owned(), plain(Kind::Directory, 0o755)),
        ("bin/a".to_owned(), two_names.clone()),
        ("bin/b".to_owned(), two_names),
        ("bin/ping".to_owned(), marked),
        ("bin/sh, a=link".to_owned(), plain(Kind::Symlink("a".to_owned()), 0o777)),
        ("dev/null".to_owned(), plain(Kind::Character(1, 3), 0o666)),
        ("dev/sda".to_owned(), plain(Kind::Block(8, 0), 0o660)),
        ("gone".to_owned(), Entry::whiteout()),
        ("run/pipe".to_owned(), plain(Kind::Fifo, 0o600)),
        ("run/socket".to_owned(), plain(Kind::Socket, 0o600)),
    ]))
}

#[test]
fn the_manifest_of_a_layer_stays() {
    insta::assert_snapshot!(tree().to_text(), @r##"
    imgbuild manifest 1
    .	d	755	0	0	1700000000	-	-	-	-
    bin	d	755	0	0	1700000000	-	-	-	-
    bin/a	f	755	0	0	1700000000	10	2d57a8a578594029e40c4ae3860733e049ad57faffbf168d04c3d6686c7029dd	bin/a	-
    bin/b	f	755	0	0	1700000000	10	2d57a8a578594029e40c4ae3860733e049ad57faffbf168d04c3d6686c7029dd	bin/a	-
    bin/ping	f	4755	5	6	1700000000	1	3ae7d805f6789a6402acb70ad4096a85a56bf6804eaf25c0493ac697548d30b5	-	security.capability=010002
    bin/sh\x2c a\x3dlink	l	777	0	0	1700000000	-	a	-	-
    dev/null	c	666	0	0	1700000000	1:3	-	-	-
    dev/sda	b	660	0	0	1700000000	8:0	-	-	-
    gone	w	0	0	0	0	-	-	-	-
    run/pipe	p	600	0	0	1700000000	-	-	-	-
    run/socket	s	600	0	0	1700000000	-	-	-	-
    "##);
    insta::assert_snapshot!(tree().digest(), @"0635302d7ccf5b786a2d50af0f308523988e10b0d6fcccc5f8e727301edd70e5");
}

#[test]
fn packed_frames_stay() {
    let content = |path: &str| if path == "bin/ping" { &b"x"[..] } else { &b"a program\n"[..] };
    let entries: Vec<_> = tree()
        .0
        .into_iter()
        .filter(|(_, entry)| entry.kind != Kind::Whiteout)
        .map(|(path, entry)| (path, entry, 0))
        .collect();
    let mut table = String::new();
    let whole = join_frames(cut_frames(entries.clone()));
    for (name, frames, compression) in [
        ("many, zstd", cut_frames(entries.clone()), Compression::Zstd(3)),
        ("many, gzip", cut_frames(entries), Compression::Gzip(6)),
        ("single, zstd", whole, Compression::Zstd(19)),
    ] {
        for frame in frames {
            let mut bytes = Vec::new();
            let info = frame
                .write((Stream::Cpio, compression), &mut bytes, &|item| Ok(Box::new(content(&item.path))))
                .unwrap();
            assert_eq!((info.sha256, info.blake3), (Sha256::of(&bytes), Digest::of(&bytes)));
            let key = frame.key(Stream::Cpio, compression).short();
            let _ =
                writeln!(table, "{name}: key {key} {} bytes of {}, {}", info.size, info.unpacked, info.sha256.short());
        }
    }
    insta::assert_snapshot!(table, @r##"
    many, zstd: key bc4a0ad786d5 4096 bytes of 228, 75aaa4368d37
    many, zstd: key a76ec00a11df 4096 bytes of 984, 6a18d02d1f82
    many, zstd: key 0e710f3520d4 86 bytes of 352, 2f9fb3295623
    many, gzip: key a65dcab361f2 63 bytes of 228, 66eed64a6915
    many, gzip: key 5f378b77e5d0 206 bytes of 984, 8af19293da16
    many, gzip: key d6449d2ad991 86 bytes of 352, 3d8a60d771f8
    single, zstd: key c65a732e8fdd 220 bytes of 1336, 4e72a5ea92e2
    "##);
}

#[test]
fn the_text_of_a_lock_stays() {
    let space = Space::new();
    write_files(&space);
    write_toml(&space, &recipe_document());
    let lock = lock_of(&read(space.path()));
    insta::assert_snapshot!(Sha256::of(lock.to_text().as_bytes()), @"871db98a1b35c0b9d4dacb6cf12433ad7d9a31c79e53b64fcf64ad43fc576610");
}

#[test]
fn the_keys_of_a_fixed_recipe_stay() {
    let space = Space::new();
    write_files(&space);
    write_toml(&space, &recipe_document());
    let recipe = read(space.path());
    let keys = keys_of(&recipe, &lock_of(&recipe));
    let table: String = keys.iter().map(|(id, (key, _))| format!("{id} {}\n", key.short())).collect();
    insta::assert_snapshot!(table, @r##"
    initrd/stateless f43c4f8b1b17
    initrd/stateless-gzip 30d1f522b2b9
    kernel/build-1 952aaf1d959a
    kernel/payload 296063a74f72
    pack/rootimg 74692ac65153
    pack/rootimg-gzip de2c4e2f0921
    rootfs/base 34a5e035e813
    rootfs/gate bcf36343844f
    rootfs/kernel 03638e92a961
    rootfs/otherpkgs-1 0356a8082784
    rootfs/packages-1 c7464f69781f
    rootfs/postinstall c05a5ee1149b
    rootfs/services af4e11aa41f4
    rootfs/sync 6e5cf200859b
    rootfs/system 7c32da47d15b
    rootfs/tools 9635dfb793d9
    rootfs/tools-driver f602ed7e6609
    rootfs/tools-postinstall 5424949ae8e1
    "##);
}

/// Names and values with what could separate them.
fn word() -> impl Strategy<Value = String> {
    let pieces = ["a", "b", " ", "=", "\n", "\0", "\u{1}", "file", "layer ", "1", "", "é"];
    proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..4).prop_map(|all| all.concat())
}

/// Two lists of inputs that are the same, or as near as can be: words moved over the boundaries, pairs split and joined.
fn two_lists() -> impl Strategy<Value = [Vec<(String, String)>; 2]> {
    proptest::collection::vec((word(), word()), 0..5)
        .prop_flat_map(|one| {
            let flat: Vec<String> = one.iter().flat_map(|(name, value)| [name.clone(), value.clone()]).collect();
            let all: String = flat.concat();
            let cuts = proptest::collection::vec(0..=all.chars().count(), flat.len().saturating_sub(1));
            let recut = cuts.prop_map(move |mut cuts| {
                cuts.sort_unstable();
                let letters: Vec<char> = all.chars().collect();
                let ends: Vec<usize> = cuts.iter().copied().chain([letters.len()]).collect();
                let starts = std::iter::once(0).chain(cuts.iter().copied());
                let words: Vec<String> =
                    starts.zip(&ends).map(|(from, to)| letters[from..*to].iter().collect()).collect();
                words.chunks(2).filter(|pair| pair.len() == 2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
            });
            let same = Just(one.clone());
            let other = proptest::collection::vec((word(), word()), 0..5);
            (Just(one), prop_oneof![same, recut, other])
        })
        .prop_map(|(one, other)| [one, other])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn keys_are_equal_exactly_when_the_plaintexts_are(lists in two_lists()) {
        let [one, other] = lists.map(|list| {
            let inputs = list.into_iter().map(|(name, value)| Input::new(name, value)).collect();
            let (key, trace) = key_and_trace(&action(inputs), &Fixed);
            (key.unwrap(), trace)
        });
        prop_assert_eq!(one.0 == other.0, one.1 == other.1);
    }
}
