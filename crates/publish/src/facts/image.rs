//! The image that is published: files of one build with their digests, and the words that boot it.

use std::path::PathBuf;

use base::digest::Sha256;

/// CPU of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    X86_64,
    Aarch64,
    Ppc64le,
    Riscv64,
}

impl Arch {
    /// By the last word of build.json's `target`: the kernel's name of the CPU, or Debian's.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "x86_64" | "amd64" => Self::X86_64,
            "aarch64" | "arm64" => Self::Aarch64,
            "ppc64le" | "ppc64el" => Self::Ppc64le,
            "riscv64" => Self::Riscv64,
            _ => return None,
        })
    }

    /// As `uname -m` prints it.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::Ppc64le => "ppc64le",
            Self::Riscv64 => "riscv64",
        }
    }
}

/// One file of the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name beside build.json, for instance `rootimg.cpio.zst`.
    pub name: String,
    /// Where it is on this machine.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Digest of its content, as build.json says it.
    pub sha256: Sha256,
}

/// Archive or file system of a packed image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootKind {
    Cpio,
    Tar,
    Squashfs,
    Erofs,
}

impl RootKind {
    /// By the name of the file.
    pub fn of(rootimg: &str) -> Option<Self> {
        let parts = [
            ("rootimg.cpio", Self::Cpio),
            ("rootimg.tar", Self::Tar),
            ("rootimg.sfs", Self::Squashfs),
            ("rootimg.squashfs", Self::Squashfs),
            ("rootimg.erofs", Self::Erofs),
        ];
        parts.into_iter().find(|(start, _)| rootimg.starts_with(start)).map(|(_, kind)| kind)
    }

    /// As a recipe says it in `[pack] archive`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpio => "cpio",
            Self::Tar => "tar",
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
        }
    }
}

/// One packed form of the image, with its index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    pub kind: RootKind,
    pub rootimg: File,
    pub index: File,
    /// The kernel's command line with imgbuild's initrd: `imgurl={url}/..` first, then `imgdigest=`, `imgbuild.*` words, then the recipe's.
    /// `{url}` stands for the directory of the files on the server.
    pub words: Vec<String>,
}

impl Form {
    /// The command line with imgbuild's initrd, the files being served at `url` (without a slash at its end).
    pub fn boot_words(&self, url: &str) -> Vec<String> {
        self.words.iter().map(|word| word.replace("{url}", url)).collect()
    }

    /// The words that any initrd leaves to the kernel or to the image: without what imgbuild's initrd alone reads.
    pub fn plain_words(&self) -> Vec<String> {
        let starts =
            || ["imgurl=", "imgdigest=", "imgbuild."].into_iter().chain(recipe::BOOT_WORDS.map(|(word, _)| word));
        let ours = |word: &&String| !starts().any(|start| word.starts_with(start));
        self.words.iter().filter(ours).cloned().collect()
    }

    /// Digest of the index: what `imgdigest=` says, and what names the same image for every provisioner.
    pub fn digest(&self) -> Sha256 {
        self.index.sha256
    }
}

/// A build of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub name: String,
    /// SHA-256 of build.json, shortened: names the build in `out/.builds/NAME/`.
    pub build: String,
    /// Directory of the build.
    pub directory: PathBuf,
    pub arch: Arch,
    /// Distribution and release as build.json's `target` says it, for instance `debian 12 amd64`.
    pub target: String,
    /// What `uname -r` prints on the node.
    pub kernel_release: String,
    pub kernel: File,
    /// imgbuild's own initrd.
    pub initrd: File,
    /// Packed forms, the one first that nodes boot.
    pub forms: Vec<Form>,
    /// Every other file that nodes may ask for: `statelite.json`, `initrd-kdump`, device trees.
    pub others: Vec<File>,
}

impl Image {
    /// The form that nodes boot.
    /// Errors: none where build.json names no form; readers refuse such a build before.
    pub fn first(&self) -> Option<&Form> {
        self.forms.first()
    }

    pub fn form(&self, kind: RootKind) -> Option<&Form> {
        self.forms.iter().find(|form| form.kind == kind)
    }

    /// All files, each once.
    pub fn files(&self) -> Vec<&File> {
        let forms = self.forms.iter().flat_map(|form| [&form.rootimg, &form.index]);
        [&self.kernel, &self.initrd].into_iter().chain(forms).chain(&self.others).collect()
    }
}
