//! Where no byte can be written nothing is, and the same command does its work once there is room.

use crate::all_or_nothing::{tree, without_room};
use crate::support::Space;

pub(super) fn nothing_or_all(space: &Space, words: &[&str]) {
    let into = space.path().join("new");
    let words = [&["import"], words, &["--into", into.to_str().unwrap()]].concat();
    let words: Vec<String> =
        words.iter().map(|word| word.replace("./", &format!("{}/", space.path().display()))).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let before = tree(space.path());
    let ran = without_room(space, "ulimit -f 0; ", &words);
    assert_eq!(ran.code, 3, "{words:?}: {}\n{}", ran.out, ran.err);
    assert_eq!(tree(space.path()), before, "{words:?}");
    space.run(&words).good();
    assert!(into.join("imgbuild.toml").exists(), "{words:?}");
}
