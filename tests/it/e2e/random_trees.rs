//! Random trees through each form of an image at once, and back by readers that are not ours.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::forms::{build, image, listed, mounted, similar_asserts};

/// Makes a tree: a seed and the directory. Names have any byte but those that end a line or a column of what is compared.
const RANDOM: &str = r#"
perl - SEED "$1/srv/random" <<'PERL'
use strict;
my ($seed, $top) = @ARGV;
srand $seed;
sub pick { return $_[int rand @_] }
sub bytes { my ($length) = @_; return join '', map { chr int rand 256 } 1 .. $length }
sub name {
    my $length = pick(1, 2, 3, 8, 8, 8, 20, 20, 100, 255);
    my $name = join '', map { chr pick(33 .. 46, 48 .. 91, 93 .. 126, 128 .. 255) } 1 .. $length;
    return $name =~ /^\.{1,2}$/ ? "n$name" : $name;
}
my @sizes = (0, 1, 2, 127, 511, 512, 4095, 4096, 4097, 8192, 65535, 65536, 65537, 131071, 131072, 131073, 262144, 300001);
sub content {
    my $size = pick(@sizes, map { int rand 5000 } 1 .. 30);
    my $kind = int rand 4;
    return "\0" x $size if $kind == 0;
    return substr("the same words over and over. " x (1 + $size / 30), 0, $size) if $kind == 1;
    return bytes($size) if $kind == 2;
    # A hole between bytes.
    return $size < 3 ? 'x' x $size : 'a' . "\0" x ($size - 2) . 'z';
}
sub attribute { my ($path, $name, $value) = @_; syscall(188, $path, $name, $value, length $value, 0) }
mkdir $top or die $!;
my @directories = ($top);
my (@files, @all, @contents);
for my $number (1 .. 700) {
    my $parent = pick(@directories);
    my $path = "$parent/" . name();
    next if length $path > 3500 || -e $path || -l $path;
    my $kind = int rand 20;
    if ($kind < 3) { mkdir $path or die "mkdir: $!"; push @directories, $path; }
    elsif ($kind < 5) { symlink bytes_of_link(), $path or die "symlink: $!"; system('chown', '-h', join(':', pick(0, 33, 65534), pick(0, 7, 1000)), $path) if rand() < 0.2; next }
    elsif ($kind < 6) { system('mkfifo', $path) == 0 or die 'mkfifo' }
    # GNU cpio makes further names of empty files last of all, which changes the times of their directories.
    elsif ($kind < 8 && grep { -s } @files) { link pick(grep { -s } @files), $path or die "link: $!"; next }
    else {
        open my $file, '>', $path or die "open: $!";
        binmode $file;
        # Equal content in some.
        unshift @contents, content() if @contents < 5 || rand() < 0.8;
        print $file pick(@contents[0 .. (@contents < 5 ? $#contents : 4)]);
        close $file or die $!;
        push @files, $path;
    }
    push @all, $path;
}
sub bytes_of_link { return join '', map { chr pick(33 .. 126, 128 .. 255) } 1 .. pick(1, 5, 60, 65, 300, 1000) }
for my $path (reverse @all) {
    if (rand() < 0.3 && -f $path || rand() < 0.2 && -d $path) {
        attribute($path, 'user.' . pick('a', 'note', 'x' x 200), pick('', 'short', bytes(900))) for 1 .. pick(1, 1, 3);
    }
    chown pick(0, 0, 1, 33, 999, 65534), pick(0, 0, 5, 100, 65534), $path or die "chown: $!";
    chmod int(rand 4096), $path or die "chmod: $!";
    my $time = int rand 1_600_000_000;
    utime $time, $time, $path;
}
PERL
"#;

/// All extended attributes of users below a directory, by path.
fn attributes(root: &Path) -> BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>> {
    use std::os::unix::ffi::OsStrExt;
    let mut all = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.unwrap();
        let mut names = vec![0u8; 65536];
        let length = rustix::fs::llistxattr(entry.path(), &mut names).unwrap();
        let names = names[..length].split(|byte| *byte == 0).filter(|name| name.starts_with(b"user."));
        let found: BTreeMap<Vec<u8>, Vec<u8>> = names
            .map(|name| {
                let mut value = vec![0u8; 65536];
                let size = rustix::fs::lgetxattr(entry.path(), name, &mut value).unwrap();
                value.truncate(size);
                (name.to_vec(), value)
            })
            .collect();
        if !found.is_empty() {
            all.insert(entry.path().strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(), found);
        }
    }
    all
}

fn run(script: &str, words: &[&Path]) {
    let ran = Command::new("sh").args(["-c", script, "run"]).args(words).output().unwrap();
    assert!(ran.status.success(), "{script}: {}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn a_random_tree_comes_back_the_same_from_each_form() {
    let seed = match std::env::var("IMGBUILD_SEED") {
        Ok(seed) => seed,
        Err(_) => (std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() % 1_000_000_007).to_string(),
    };
    // Said with what fails: IMGBUILD_SEED tries it again.
    println!("seed {seed}");
    let also = ["tar", "squashfs", "erofs"].map(|form| format!("\n[[pack.also]]\narchive = \"{form}\"\n")).concat();
    let space = image(&format!("compress = \"none\"\n{also}"), &RANDOM.replace("SEED", &seed));
    build(&space);
    let artefact = |name: &str| space.artefact("tiny", name).canonicalize().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let place = |name: &str| {
        let path = scratch.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let cpio = place("cpio");
    run("cd \"$1\" && cpio -idm --quiet <\"$2\"", &[&cpio, &artefact("rootimg.cpio")]);
    let expected = listed(&cpio);
    assert!(expected.matches("srv/random/").count() > 500, "seed {seed}");
    let tar = place("tar");
    run(
        "tar --zstd --numeric-owner --xattrs --xattrs-include='*' -xpf \"$2\" -C \"$1\"",
        &[&tar, &artefact("rootimg.tar.zst")],
    );
    run("fsck.erofs --extract \"$1\"", &[&artefact("rootimg.erofs")]);
    let unpacked = scratch.path().join("sfs");
    run("unsquashfs -no-progress -d \"$1\" \"$2\"", &[&unpacked, &artefact("rootimg.sfs")]);
    let squashfs = mounted(&artefact("rootimg.sfs"), "squashfs");
    let erofs = mounted(&artefact("rootimg.erofs"), "erofs");
    let random = "srv/random";
    let known = attributes(&tar.join(random));
    assert!(known.len() > 20, "seed {seed}: {}", known.len());
    for (name, root) in [("tar", &tar), ("squashfs", &squashfs.path), ("unsquashfs", &unpacked), ("erofs", &erofs.path)]
    {
        similar_asserts(&listed(root), &expected, &format!("{name}, seed {seed}"));
        assert_eq!(attributes(&root.join(random)), known, "{name}, seed {seed}");
    }
}
