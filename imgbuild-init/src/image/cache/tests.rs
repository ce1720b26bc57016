use super::*;

/// An index of frames with these bytes.
fn index(frames: &[&[u8]]) -> Index {
    let mut offset = 0;
    let frames: Vec<Frame> = frames
        .iter()
        .map(|bytes| {
            let frame = Frame { offset, size: bytes.len() as u64, sha256: sha256(bytes) };
            offset += frame.size;
            frame
        })
        .collect();
    let digest = sha256(frames.iter().map(|frame| frame.sha256.as_str()).collect::<String>().as_bytes());
    Index {
        format: 1,
        archive: "squashfs".into(),
        compress: "zstd".into(),
        size: offset,
        memory: 0,
        inodes: 0,
        frames,
        xattrs: vec![],
        labels: BTreeMap::new(),
        digest,
    }
}

/// A folder that is removed in the end.
struct Disk(PathBuf);

impl Disk {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("imgbuild-init-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn open(&self, index: &Index, whole: bool) -> Cache {
        Cache::read_from(&self.0, index, whole).unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn frames_are_kept_checked_and_forgotten_with_the_last_image_but_one() {
    let disk = Disk::new("frames");
    let images = [index(&[b"one", b"two"]), index(&[b"one", b"three"]), index(&[b"four"])];
    let contents: [&[&[u8]]; 3] = [&[b"one", b"two"], &[b"one", b"three"], &[b"four"]];
    for (index, contents) in images.iter().zip(contents) {
        let mut cache = disk.open(index, false);
        for (frame, bytes) in index.frames.iter().zip(contents) {
            if cache.read(frame).is_none() {
                cache.keep(frame, bytes);
            }
        }
        cache.settle().unwrap();
    }
    let mut cache = disk.open(&images[0], false);
    // `two` was of the image before the last one but one.
    assert_eq!(cache.read(&images[0].frames[0]).as_deref(), Some(&b"one"[..]));
    assert!(!cache.claims(&images[0].frames[1]));
    assert_eq!(cache.read(&images[1].frames[1]).as_deref(), Some(&b"three"[..]));
    // A frame that is damaged is not there, and is kept again when it was fetched.
    let frame = &images[2].frames[0];
    let file = cache.known[&frame.sha256][0].file.clone();
    std::fs::write(&file, "flip").unwrap();
    assert!(cache.claims(frame) && cache.read(frame).is_none() && !cache.claims(frame) && !file.exists());
    assert_eq!(cache.damaged, 1);
    cache.keep(frame, b"four");
    assert_eq!(disk.open(&images[2], false).read(frame).as_deref(), Some(&b"four"[..]));
}

#[test]
fn an_image_on_the_disk_takes_what_the_one_before_has_and_is_mended() {
    let disk = Disk::new("images");
    let contents: [&[&[u8]]; 2] = [&[b"head", b"same", b"old"], &[b"h", b"same", b"new!"]];
    let images = contents.map(index);
    for (index, contents) in images.iter().zip(contents) {
        let mut cache = disk.open(index, true);
        let mut image = cache.image(index).unwrap();
        let had: Vec<bool> = index.frames.iter().map(|frame| cache.read(frame).is_some()).collect();
        assert_eq!(had, [false, index.digest == images[1].digest, false]);
        for (frame, bytes) in index.frames.iter().zip(contents) {
            image.put(frame, bytes).unwrap();
            cache.keep(frame, bytes);
        }
        let mut found = Vec::new();
        io::Read::read_to_end(&mut image.whole().unwrap(), &mut found).unwrap();
        assert_eq!(found, contents.concat());
        assert!(names(&disk.0.join("imgbuild-cache/1/frames")).is_empty(), "the image itself is what is kept");
        cache.settle().unwrap();
    }
    let path = disk.0.join("imgbuild-cache/1/images").join(&images[1].digest);
    let file = File::options().write(true).open(&path).unwrap();
    // The second frame is also in the first image.
    file.write_all_at(b"X", 2).unwrap();
    file.write_all_at(b"X", 6).unwrap();
    let mut cache = disk.open(&images[1], true);
    let there: Vec<bool> = images[1].frames.iter().map(|frame| cache.read(frame).is_some()).collect();
    assert_eq!((there, cache.damaged), (vec![true, true, false], 1));
    // A third image makes the first one go.
    let third = index(&[b"third"]);
    let mut cache = disk.open(&third, true);
    cache.image(&third).unwrap().put(&third.frames[0], b"third").unwrap();
    cache.settle().unwrap();
    assert!(!disk.0.join("imgbuild-cache/1/images").join(&images[0].digest).exists() && path.exists());
}

#[test]
fn strange_things_on_the_disk_do_no_harm() {
    let disk = Disk::new("strange");
    let index = index(&[b"bytes"]);
    drop(disk.open(&index, true));
    let own = disk.0.join("imgbuild-cache/1");
    std::fs::write(own.join("images/x.frames"), "not a line\n").unwrap();
    let lines = format!("{} 5 99999\nabc 1 2\n{} -1 0\n\u{0}\n", index.frames[0].sha256, "a".repeat(64));
    std::fs::write(own.join(format!("images/{}.frames", "b".repeat(64))), lines).unwrap();
    std::fs::create_dir_all(own.join("frames/zz/deep")).unwrap();
    std::fs::write(own.join("frames/zz/.begun"), "").unwrap();
    std::fs::write(own.join("current"), [0xff, 0xfe]).unwrap();
    // Room that no one filled, and bytes of something else.
    std::fs::write(own.join("images").join("b".repeat(64)), [0; 200]).unwrap();
    let lines = format!("{} 5 0\n", index.frames[0].sha256);
    std::fs::write(own.join(format!("images/{}.frames", "c".repeat(64))), lines).unwrap();
    std::fs::write(own.join("images").join("c".repeat(64)), "other").unwrap();
    let mut cache = disk.open(&index, true);
    assert!(cache.claims(&index.frames[0]) && cache.read(&index.frames[0]).is_none());
    assert!(!cache.claims(&index.frames[0]) && cache.damaged == 1);
    cache.image(&index).unwrap().put(&index.frames[0], b"bytes").unwrap();
    cache.settle().unwrap();
    assert_eq!(disk.open(&index, true).read(&index.frames[0]).as_deref(), Some(&b"bytes"[..]));
    // Where the image belongs, a folder or a pipe is not opened, and not removed either.
    let path = own.join("images").join(&index.digest);
    for make in [&["mkdir"][..], &["mkfifo"]] {
        let _ = std::fs::remove_file(&path);
        assert!(std::process::Command::new(make[0]).arg(&path).status().unwrap().success());
        let mut cache = disk.open(&index, true);
        assert!(cache.image(&index).is_err() && cache.read(&index.frames[0]).is_none() && path.exists());
        if make[0] == "mkdir" {
            std::fs::remove_dir(&path).unwrap();
        }
    }
    for name in ["current", "before", &format!("images/{}.frames", "d".repeat(64))] {
        let path = own.join(name);
        let _ = std::fs::remove_file(&path);
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    }
    disk.open(&index, true).settle().unwrap();
    // A link where a folder belongs is not followed: neither that of all frames nor one of them.
    let other = Disk::new("other");
    std::fs::write(other.0.join("file"), "").unwrap();
    std::os::unix::fs::symlink(&other.0, own.join("frames/aa")).unwrap();
    drop(disk.open(&index, true));
    assert!(other.0.join("file").exists());
    std::fs::remove_dir_all(own.join("frames")).unwrap();
    std::os::unix::fs::symlink("/", own.join("frames")).unwrap();
    assert!(Cache::read_from(&disk.0, &index, true).is_err());
}

#[test]
fn an_image_that_was_begun_does_not_hide_what_the_one_before_has() {
    let disk = Disk::new("begun");
    let (before, after) = (index(&[b"head", b"same", b"old"]), index(&[b"h", b"new!", b"same", b"more"]));
    let mut cache = disk.open(&before, true);
    let mut image = cache.image(&before).unwrap();
    for (frame, bytes) in before.frames.iter().zip([&b"head"[..], b"same", b"old"]) {
        image.put(frame, bytes).unwrap();
    }
    cache.settle().unwrap();
    // The power goes after the first frame of the next image.
    let mut cache = disk.open(&after, true);
    cache.image(&after).unwrap().put(&after.frames[0], b"h").unwrap();
    drop(cache);
    let mut cache = disk.open(&after, true);
    let claims: Vec<bool> = after.frames.iter().map(|frame| cache.claims(frame)).collect();
    assert_eq!(claims, [true, false, true, false]);
    let has: Vec<bool> = after.frames.iter().map(|frame| cache.read(frame).is_some()).collect();
    assert_eq!((has, cache.damaged), (claims, 0));
}

#[test]
fn frames_that_were_kept_make_room_for_the_image() {
    let disk = Disk::new("room");
    let index = index(&[b"one", b"two"]);
    let mut cache = disk.open(&index, false);
    for (frame, bytes) in index.frames.iter().zip([b"one", b"two"]) {
        cache.keep(frame, bytes);
    }
    cache.settle().unwrap();
    let own = disk.0.join("imgbuild-cache/1");
    assert_eq!(kept_files(&own).len(), 2);
    // First all that is not needed goes, then what is kept twice; after that there is nothing.
    let mut cache = disk.open(&index, true);
    assert!(cache.make_room() && kept_files(&own).len() == 2);
    let mut image = cache.image(&index).unwrap();
    for (frame, bytes) in index.frames.iter().zip([b"one", b"two"]) {
        assert_eq!(cache.read(frame).as_deref(), Some(&bytes[..]));
        image.put(frame, bytes).unwrap();
    }
    cache.settle().unwrap();
    assert!(kept_files(&own).is_empty() && own.join("images").join(&index.digest).exists());
    assert!(cache.make_room() && !cache.make_room());
    // Where the image went into memory after all, kept frames stay.
    let mut cache = disk.open(&index, false);
    cache.keep(&index.frames[0], b"one");
    let mut cache = disk.open(&index, true);
    drop(cache.image(&index).unwrap());
    cache.without_image();
    cache.settle().unwrap();
    assert_eq!(kept_files(&own).len(), 1);
}

#[test]
fn what_a_node_wrote_is_gone_at_the_next_boot() {
    let disk = Disk::new("writes");
    let index = index(&[b"one"]);
    let written = PathBuf::from(disk.open(&index, true).writes().unwrap());
    std::fs::create_dir_all(written.join("upper/deep")).unwrap();
    std::fs::write(written.join("upper/deep/file"), "text").unwrap();
    std::fs::create_dir(written.with_extension("7")).unwrap();
    let mut cache = disk.open(&index, true);
    assert!(!written.exists() && !written.with_extension("7").exists());
    assert!(names(Path::new(&cache.writes().unwrap())).is_empty());
}
