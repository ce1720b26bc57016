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
    let file = cache.known[&frame.sha256].file.clone();
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
    file.write_all_at(b"X", 2).unwrap();
    let mut cache = disk.open(&images[1], true);
    let there: Vec<bool> = images[1].frames.iter().map(|frame| cache.read(frame).is_some()).collect();
    assert_eq!(there, [true, false, true]);
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
    let mut cache = disk.open(&index, true);
    assert!(cache.claims(&index.frames[0]) && cache.read(&index.frames[0]).is_none());
    cache.image(&index).unwrap().put(&index.frames[0], b"bytes").unwrap();
    cache.settle().unwrap();
    assert_eq!(disk.open(&index, true).read(&index.frames[0]).as_deref(), Some(&b"bytes"[..]));
    // A link where a folder belongs is not followed, and a folder where the image belongs is not removed.
    std::fs::remove_dir_all(own.join("frames")).unwrap();
    std::os::unix::fs::symlink("/", own.join("frames")).unwrap();
    assert!(Cache::read_from(&disk.0, &index, true).is_err());
}
