//! Semantic checks beyond the schema: kernel, login, pack, boot, drivers.

use std::path::{Path, PathBuf};

use super::Reader;
use crate::{
    ArchiveKind, BASE_IMAGE_FORMS, BOOT_WORDS, BaseImage, Boot, BootRoot, CACHE_DEVICES, CachePlace, Family, Frames,
    PackCompress, PackProfile, PackedForm, default_drivers, normal_name,
};
use base::source::{Finding, Span, nearest};
use node_words::network;
use xcat::{PackageList, matches};

/// A list of fewer drivers than this is hardly meant to replace the default one.
const FEW_DRIVERS: usize = 8;

/// Debian's name of a CPU; those that are not here have their own.
fn debian_name(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "ppc64le" => "ppc64el",
        other => other,
    }
}

/// Name and architecture of `name:architecture`, whatever version or suite follows.
fn with_architecture(shown: &str) -> Option<(&str, &str)> {
    shown.split(['=', '/']).next().unwrap_or(shown).split_once(':')
}

impl Reader<'_> {
    /// What lists say in the words of the other family, and what an image cannot have.
    pub(super) fn refuse_others_words(&mut self, list: &mut PackageList) {
        for pass in &mut list.passes {
            for item in &pass.install {
                list.findings.extend(self.not_a_name(&item.name, &item.span));
            }
            for item in pass.remove_before.iter_mut().chain(&mut pass.remove_after) {
                list.findings.extend(self.not_a_name(&item.name, &item.span));
                // With the image's own architecture it is the package of that name.
                if let (Family::Debian, Some((name, _))) =
                    (self.model.image.distro.family(), with_architecture(&item.name))
                {
                    item.name = name.to_owned();
                }
            }
        }
    }

    /// The same for fields that name packages.
    pub(super) fn refuse_others_words_in_fields(&mut self) {
        let tools = self.model.postinstall.as_ref().map(|table| &table.tools[..]).unwrap_or_default();
        let fields = [
            ("kernel.firmware_packages", &self.model.kernel.firmware_packages[..]),
            ("initrd.dracut_packages", &self.model.initrd.dracut_packages[..]),
            ("postinstall.tools", tools),
        ];
        let of_fields = fields.into_iter().flat_map(|(field, names)| {
            names.iter().enumerate().map(move |(index, name)| (format!("{field}[{index}]"), name))
        });
        let of_roles = self.model.role.iter().enumerate().flat_map(|(role, table)| {
            let names = table.tools.iter().enumerate();
            names.map(move |(index, name)| (format!("role[{role}].tools[{index}]"), name))
        });
        let package = self.model.kernel.package.iter().map(|name| ("kernel.package".to_owned(), name));
        let found: Vec<Finding> = of_fields
            .chain(of_roles)
            .chain(package)
            .filter_map(|(place, name)| self.not_a_name(name, &self.span(&place)))
            .collect();
        self.findings.extend(found);
    }

    fn not_a_name(&self, shown: &str, span: &Span) -> Option<Finding> {
        match self.model.image.distro.family() {
            Family::Debian => self.not_a_name_of_debian(shown, span),
            Family::RedHat | Family::Suse => self.not_a_name_of_rpm(shown, span),
        }
    }

    /// `name:architecture` of Debian. A module's stream follows a `@`, an epoch is a number.
    fn not_a_name_of_rpm(&self, shown: &str, span: &Span) -> Option<Finding> {
        if shown.starts_with('?') && shown.contains('(') {
            let message = format!("`{shown}` is a pattern of apt, which RPM distributions do not have");
            return Some(
                Finding::error("recipe::not_a_name", span, message).help("name the packages, or write `name*`"),
            );
        }
        let (name, architecture) = with_architecture(shown).filter(|_| !shown.starts_with(['@', '/']))?;
        if shown.contains('(') || architecture.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let message = format!("`{shown}` names an architecture as Debian's lists do");
        let help = match architecture {
            _ if name.is_empty() => "write a package's name".to_owned(),
            "i386" => format!("write `{name}.i686`, or `{name}` for the image's own architecture"),
            _ => format!("write `{name}` for the image's own architecture"),
        };
        Some(Finding::error("recipe::not_a_name", span, message).help(help))
    }

    fn not_a_name_of_debian(&self, shown: &str, span: &Span) -> Option<Finding> {
        if shown.starts_with('@') {
            let finding = Finding::error(
                "recipe::group",
                span,
                format!("`{shown}` is a package group, which Debian does not have"),
            );
            return Some(finding.help("name the packages; `tasksel --task-packages NAME` prints those of a task"));
        }
        if shown.starts_with(['?', '~']) {
            // apt takes what follows the last slash for a suite, wherever it stands.
            let pattern = shown.rsplit_once('/').map_or(shown, |(pattern, _)| pattern);
            let count = |which: char| pattern.matches(which).count();
            let help = "close each parenthesis, and write `/` only before a suite: apt-patterns(7)";
            let message = format!("`{shown}` is not a pattern that apt can read");
            return (count('(') != count(')')).then(|| Finding::error("recipe::not_a_name", span, message).help(help));
        }
        let (message, help) = if shown.starts_with('/') {
            let help = format!(
                "name the package: `dpkg -S {shown}` prints it where it is installed, `apt-file find {shown}` elsewhere"
            );
            (format!("`{shown}` is a file, but apt installs packages by name"), help)
        } else if shown.contains('(') {
            let help = "name the package, for instance libfoo-bar-perl for Perl's Foo::Bar".to_owned();
            (format!("`{shown}` is what an RPM package provides, but Debian's packages provide plain names"), help)
        } else {
            let (name, foreign) = with_architecture(shown)?;
            if name.is_empty() || foreign.is_empty() {
                let missing = if name.is_empty() { "package" } else { "architecture" };
                let help = format!("write `{}`", shown.replace(':', ""));
                return Some(
                    Finding::error("recipe::not_a_name", span, format!("`{shown}` names no {missing}")).help(help),
                );
            }
            if ["any", "native", "all", debian_name(self.model.image.arch.machine())].contains(&foreign) {
                return None;
            }
            let help = format!(
                "write `{name}` for the image's own; for programs of another one, use a synced tree or a postinstall script with all that they need"
            );
            (format!("`{shown}` has the architecture `{foreign}`, but an image has packages of one"), help)
        };
        Some(Finding::error("recipe::not_a_name", span, message).help(help))
    }

    /// The container image that the root file system begins with.
    pub(super) fn check_base_image(&mut self) {
        let Some(from) = &self.model.image.from else { return };
        let refused = |field: &str, problem: String| Finding::error("recipe::base_image", &self.span(field), problem);
        let problem = from.parse::<BaseImage>().err().map(|problem| {
            refused("image.from", format!("`{}` is not a container image: {problem}", from.escape_debug()))
                .help(BASE_IMAGE_FORMS)
        });
        let base = self.spans.get("packages.base").map(|_| {
            let problem =
                "`base` means packages that the root file system begins with, but it begins with a container image";
            refused("packages.base", problem.to_owned()).help("remove this line, or `from` in [image]")
        });
        let found: Vec<Finding> = problem.into_iter().chain(base).collect();
        self.findings.extend(found);
    }

    pub(super) fn check_kernel(&mut self, in_list: Option<&(String, Span)>) {
        if let (Some(package), Some((listed, span))) = (&self.model.kernel.package, in_list)
            && package != listed
        {
            let finding = Finding::error(
                "recipe::kernel_disagrees",
                span,
                format!("the list names the kernel `{listed}`, but ‹[kernel]› has `{package}`"),
            )
            .label("named here")
            .help(format!("remove the line, or write ‹[kernel] package = \"{listed}\"›"));
            self.findings.push(finding);
        }
    }

    /// An empty release cannot be booted, and one with a slash would escape its folder below /lib/modules.
    pub(super) fn check_release(&mut self) {
        let Some(version) = &self.model.kernel.version else { return };
        let is_release = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
        if !is_release {
            let problem = match version.is_empty() {
                true => "the kernel's release is empty".to_owned(),
                false => format!("`{}` is not a kernel release", version.escape_debug()),
            };
            let finding = Finding::error("kernel::version", &self.span("kernel.version"), problem);
            let help = "write what `uname -r` prints there, for instance \"6.1.0-31-amd64\"; or leave the key out for the newest";
            self.findings.push(finding.help(help));
        }
    }

    /// Names that no process could be given, or that no shell could read back.
    pub(super) fn check_environment(&mut self) {
        for (name, value) in &self.model.environment {
            let path = format!("environment.{name}");
            let span = self.spans.get(&format!("{path}#key")).cloned().unwrap_or_else(|| self.span(&path));
            if name.is_empty() || name.contains(|c: char| c == '=' || c.is_whitespace() || c.is_control()) {
                let shown = name.escape_debug();
                let finding =
                    Finding::error("environment::name", &span, format!("`{shown}` is not a valid variable name"));
                let help = "POSIX names are letters, digits and `_`, and do not start with a digit";
                self.findings.push(finding.help(help));
            }
            if value.contains('\0') {
                let problem = format!("the value of `{}` contains a NUL byte", name.escape_debug());
                let finding = Finding::error("environment::value", &span, problem);
                self.findings.push(finding.help("no process can be given one: remove it"));
            }
        }
    }

    pub(super) fn check_login(&mut self, keys: &[(PathBuf, String)], hash: Option<&(PathBuf, String)>) {
        for (index, (path, name)) in keys.iter().enumerate() {
            self.check_authorized_keys(index, path, name);
        }
        if let Some((path, name)) = hash {
            let text = witness::read_to_string(path).unwrap_or_default();
            if !text.trim().starts_with('$') || text.trim().contains([':', '\n']) {
                let span = self.span("system.root_password_hash_file");
                self.findings.push(
                    Finding::error("system::no_hash", &span, format!("`{name}` contains no password hash"))
                        .label("named here")
                        .help("create one with: openssl passwd -6 >FILE"),
                );
            }
        }
        if keys.is_empty() && hash.is_none() {
            let span = self.span("system");
            self.findings.push(
                Finding::warning("system::no_login", &span, "no one can log in: root is locked and has no key")
                    .help("add to the recipe: ‹[system] authorized_keys = [\"keys/admin.pub\"]›"),
            );
        }
    }

    pub(super) fn check_pack(&mut self) {
        let mut made: Vec<PackedForm> = Vec::new();
        for form in self.model.pack.forms() {
            self.check_level(&form);
            self.check_form(&form);
            if let Some(other) = made.iter().find(|other| other.rootimg() == form.rootimg()) {
                let problem = format!(
                    "two image formats would have the same file name: {} is already made for `{}`",
                    form.rootimg(),
                    other.at
                );
                let finding = Finding::error("pack::twice", &self.span(&form.field("archive")), problem);
                self.findings.push(finding.help("remove one of them, or choose another archive or compression"));
            }
            made.push(form);
        }
        let profile = self.model.pack.profile;
        let decides = |form: &PackedForm| form.compress.highest_level() > 0 || profile.block_size(form.archive) > 0;
        if profile != PackProfile::Balanced && !made.iter().any(decides) {
            let name = made[0].compress.name();
            let problem = format!("`profile` has no effect here: ‹compress = \"{name}\"› has no levels");
            let finding = Finding::error("pack::profile", &self.span("pack.profile"), problem);
            self.findings.push(finding.help("remove the line, or choose another compression"));
        }
    }

    fn check_level(&mut self, form: &PackedForm) {
        let most = form.compress.highest_level();
        let name = form.compress.name();
        if let (Some(level), 0) = (form.level, most) {
            let span = self.span(&form.field("level"));
            let problem = format!("‹level = {level}› has no effect here: ‹compress = \"{name}\"› has no levels");
            self.findings.push(Finding::error("pack::level", &span, problem).help("remove the line"));
        } else if let Some(level) = form.level.filter(|level| *level > most) {
            let span = self.span(&form.field("level"));
            self.findings.push(
                Finding::error("pack::level", &span, format!("{name} has no level {level}: its highest is {most}"))
                    .help(format!("write ‹level = {most}›, or leave it out for the default")),
            );
        }
    }

    /// What belongs to a form of the image, and what does not.
    fn check_form(&mut self, form: &PackedForm) {
        let is_cpio = form.archive == ArchiveKind::Cpio;
        let name = form.archive.name();
        let mut refuse = |field: &str, problem: String, help: &str| {
            let span = self.span(&form.field(field));
            self.findings.push(Finding::error("pack::form", &span, problem).help(help));
        };
        if form.frames == Frames::Single && !is_cpio {
            let problem =
                format!("{name} cannot be a single stream that a kernel uses as its initramfs: only cpio can");
            refuse("frames", problem, "remove the line, or write ‹archive = \"cpio\"›");
        }
        if form.frames == Frames::Single && form.compress == PackCompress::Lz4 && is_cpio {
            let problem = "a kernel reads an initramfs only in lz4's legacy format, which imgbuild does not write";
            refuse("compress", problem.to_owned(), "choose one of zstd, gzip, xz, none");
        }
        let is_erofs = form.archive == ArchiveKind::Erofs;
        if is_erofs && !matches!(form.compress, PackCompress::Lz4 | PackCompress::None) {
            let problem = format!("imgbuild does not write erofs with {}", form.compress.name());
            refuse("compress", problem, "choose one of lz4, none; or write ‹archive = \"squashfs\"›, which has all");
        }
        let Some(size) = form.block_size else { return };
        let sizes = match form.archive {
            ArchiveKind::Squashfs => 4096..=1 << 20,
            ArchiveKind::Erofs => 8192..=1 << 19,
            ArchiveKind::Cpio | ArchiveKind::Tar => {
                let problem =
                    format!("block_size belongs to ‹archive = \"squashfs\"› or \"erofs\": {name} has no blocks");
                return refuse("block_size", problem, "remove the line, or choose another archive");
            }
        };
        if !size.is_power_of_two() || !sizes.contains(&size) {
            let problem = format!("{size} is not a power of two from {} to {}", sizes.start(), sizes.end());
            refuse("block_size", problem, "write for instance ‹block_size = 131072›, or leave it out");
        }
    }

    pub(super) fn check_boot(&mut self) {
        let boot = self.model.boot.clone();
        for (path, size) in &boot.tmpfs {
            let span = self.span(&format!("boot.tmpfs.{path}"));
            if !path.starts_with('/') || path == "/" || path.contains("..") || path.contains([' ', '\t', '\n', '\\']) {
                self.findings.push(
                    Finding::error("boot::tmpfs_path", &span, format!("`{path}` is not an absolute path for a tmpfs"))
                        .help("write for instance ‹\"/tmp\" = \"50m\"›; the size of / is ‹[boot]› root_size"),
                );
            }
            let digits = size.trim_end_matches(['k', 'm', 'g', 'K', 'M', 'G', '%']);
            if digits.is_empty() || size.len() - digits.len() > 1 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                self.findings.push(
                    Finding::error("boot::tmpfs_size", &span, format!("`{size}` is not a size"))
                        .help("write for instance \"50m\", \"2g\" or \"25%\""),
                );
            }
        }
        for (index, word) in boot.cmdline.iter().enumerate() {
            if word.contains(['\n', '\t', ' ']) || word.is_empty() {
                let span = self.span(&format!("boot.cmdline[{index}]"));
                self.findings.push(
                    Finding::error("boot::cmdline", &span, "each word of the command line is an item of its own")
                        .help("split it at the spaces"),
                );
            }
        }
        self.check_boot_words();
        self.check_rules();
        self.check_root_words();
        self.check_network_words();
        // The kernel's own limit (COMMAND_LINE_SIZE: 2048 in asm/setup.h of x86, arm64 and powerpc alike); the rest is for URL, digest
        // and BOOTIF.
        let length: usize = boot.cmdline.iter().map(|word| word.len() + 1).sum();
        if length > 2048 - 512 {
            let span = self.span("boot.cmdline");
            self.findings.push(
                Finding::error(
                    "boot::cmdline_length",
                    &span,
                    format!(
                        "the command line has {length} bytes; 2048 is the kernel's limit and imgbuild adds up to 512"
                    ),
                )
                .help("shorten it"),
            );
        }
    }

    /// Rules that no path can match.
    fn check_rules(&mut self) {
        let rules = self.model.workspace.allow.clone();
        for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| !rule.starts_with('/')) {
            let span = self.span(&format!("workspace.allow[{index}]"));
            self.findings.push(
                Finding::error("workspace::allow", &span, format!("`{rule}` is not an absolute path"))
                    .label("it allows nothing")
                    .help("write where it starts at /; in imgbuild.toml paths are also from its directory"),
            );
        }
    }

    /// Words of networks that imgbuild's initrd does not make, and addresses that it cannot read: a node would take what a plain
    /// card gets. The image's own tools may know more of them (systemd-network-generator(8)).
    fn check_network_words(&mut self) {
        for (index, word) in self.model.boot.cmdline.iter().enumerate() {
            let span = self.span(&format!("boot.cmdline[{index}]"));
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            match name {
                "bridge" | "team" => {
                    let message = format!("the initrd makes no bridges and no teams: `{word}` has no effect there");
                    let finding = Finding::warning("boot::network", &span, message).label("here");
                    self.findings.push(finding.help(
                        "use bond= and vlan=, or a plain card with ip=, until the image is running; the image can configure the rest itself",
                    ));
                }
                "ip" | "bond" | "vlan" => {
                    let (read, help) = match name {
                        "ip" => (
                            network::read(value).err(),
                            "write ip=dhcp, ip=auto6, ip=NIC:dhcp, or ip=ADDRESS::GATEWAY:NETMASK:NAME:NIC:none:DNS",
                        ),
                        "bond" => (network::Bond::read(value).err(), "write bond=NAME:NIC,NIC:mode=MODE"),
                        _ => (network::Vlan::read(value).err(), "write vlan=NAME:NIC, where NAME ends in the number"),
                    };
                    if let Some(why) = read {
                        let message = format!("the initrd cannot read `{word}`: {why}");
                        self.findings.push(Finding::error("boot::network", &span, message).label("here").help(help));
                    }
                }
                _ => {}
            }
        }
    }

    /// Words of nodes with disks, which a node that boots an image does not read.
    fn check_root_words(&mut self) {
        // Not `rootflags=` and `rootfstype=`: the kernel reads them for its own tmpfs.
        const OF_DISKS: [&str; 3] = ["root=", "nfsroot=", "resume="];
        for (index, word) in self.model.boot.cmdline.iter().enumerate() {
            // A root over NFS is mounted: docs/statelite.md.
            let is_nfs = word.starts_with("root=nfs:");
            if !is_nfs && OF_DISKS.iter().any(|start| word.starts_with(start)) {
                let span = self.span(&format!("boot.cmdline[{index}]"));
                let message = format!("`{word}` has no effect: the root of the node is the image");
                self.findings.push(
                    Finding::warning("boot::root", &span, message)
                        .help("remove the word; file systems of the node's disks belong in ‹[system]› fstab"),
                );
            }
        }
    }

    /// What imgbuild puts on the command line for other fields, and what a cache of the node needs.
    fn check_boot_words(&mut self) {
        let boot = self.model.boot.clone();
        for (index, word) in boot.cmdline.iter().enumerate() {
            // Lists of xCAT's sites have `rootlimit=`; the others need more than the word.
            let of_cache = BOOT_WORDS.iter().filter(|(_, field)| field.starts_with("boot.cache."));
            let Some((start, field)) = of_cache.clone().find(|(start, _)| word.starts_with(start)) else { continue };
            let span = self.span(&format!("boot.cmdline[{index}]"));
            let message = format!("imgbuild sets `{word}` itself, from {field}");
            let value = word.strip_prefix(start).unwrap_or_default();
            let help = match *field {
                "boot.cache.image" => "remove the word, and write ‹[boot.cache] image = \"cache\"›".to_owned(),
                "boot.cache.writes" => "remove the word, and write ‹[boot.cache] writes = \"cache\"›".to_owned(),
                _ => format!("remove the word, and write ‹[boot.cache] device = \"{value}\"›"),
            };
            self.findings.push(Finding::error("boot::cmdline", &span, message).help(help));
        }
        self.check_lazy_root(&boot);
        let Some(cache) = &boot.cache else { return };
        let name = CACHE_DEVICES.iter().find_map(|start| cache.device.strip_prefix(start));
        if name.is_none_or(|name| name.is_empty() || name.contains(char::is_whitespace)) {
            let span = self.span("boot.cache.device");
            let message = format!("`{}` does not name a disk", cache.device);
            let help = "write ‹device = \"LABEL=nodecache\"›, or begin with UUID=, PARTLABEL= or /dev/; a name contains no spaces";
            self.findings.push(Finding::error("boot::cache", &span, message).help(help));
        }
        let any_packed = self.model.pack.forms().iter().any(|form| form.archive.stays_packed());
        for (field, place) in [("image", cache.image), ("writes", cache.writes)] {
            if place == CachePlace::Cache && !any_packed {
                let span = self.span(&format!("boot.cache.{field}"));
                let message =
                    format!("{field} = \"cache\" is for images that stay packed: this one is unpacked into memory");
                let help = "write ‹[pack] archive = \"squashfs\"› (or \"erofs\"), or remove the line: frames are kept on the disk anyway";
                self.findings.push(Finding::error("boot::cache", &span, message).help(help));
            }
        }
    }

    /// What a root that is read over the network needs.
    fn check_lazy_root(&mut self, boot: &Boot) {
        if boot.root != BootRoot::Lazy {
            let words = boot.cmdline.iter().enumerate();
            for (index, word) in words.filter(|(_, word)| word.starts_with("imgbuild.root=lazy")) {
                let span = self.span(&format!("boot.cmdline[{index}]"));
                let message = format!("`{word}` needs modules that the initrd of this recipe does not get");
                let help = "add ‹[boot] root = \"lazy\"›; the word may stay where it has keep=";
                self.findings.push(Finding::error("boot::cmdline", &span, message).help(help));
            }
            return;
        }
        let span = self.span("boot.root");
        if self.model.pack.forms().first().is_some_and(|form| !form.archive.stays_packed()) {
            let message = "root = \"lazy\" is for images that stay packed: this one is unpacked into memory";
            let help = "write ‹[pack] archive = \"squashfs\"› (or \"erofs\"), or remove the line";
            self.findings.push(Finding::error("boot::lazy", &span, message).help(help));
        }
        if boot.cache.as_ref().is_some_and(|cache| cache.image == CachePlace::Cache) {
            let span = self.span("boot.cache.image");
            let message = "image = \"cache\" brings the whole image onto the disk before the node starts, which root = \"lazy\" does not wait for";
            let help = "remove one of the two: with ‹[boot] root = \"lazy\"› the disk keeps the frames that were read";
            self.findings.push(Finding::error("boot::lazy", &span, message).help(help));
        }
    }

    /// A directory of packages without any is a mistake of its path more often than not.
    pub(super) fn check_other_packages(&mut self, name: &str, directory: Option<&Path>) {
        let Some(directory) = directory else { return };
        let ending = match self.model.image.distro.family() {
            Family::Debian => "deb",
            Family::RedHat | Family::Suse => "rpm",
        };
        let is_package = |path: &Path| path.extension().is_some_and(|one| one == ending);
        let mut files = witness::walk().through(directory).into_iter().flatten();
        if !files.any(|entry| is_package(&entry.path)) {
            let message = format!("there is no .{ending} file in or below `{name}`");
            let help = "put the packages there, or correct ‹[otherpkgs]› dir; it is relative to the recipe's directory";
            let span = self.span("otherpkgs.dir");
            self.findings.push(Finding::warning("otherpkgs::empty", &span, message).label("named here").help(help));
        }
    }

    pub(super) fn check_drivers(&mut self) {
        let drivers = &self.model.kernel.drivers;
        let edits = drivers.iter().filter(|name| name.starts_with(['+', '-'])).count();
        if edits > 0 && edits < drivers.len() {
            let span = self.span("kernel.drivers");
            self.findings.push(
                Finding::error("kernel::drivers", &span, "`drivers` mixes edits and plain names")
                    .label("named here")
                    .help(
                        "either edit the default list (\"+ice\", \"-be2net\"), or give a whole one (\"ice\", \"igb\")",
                    ),
            );
            return;
        }
        let default = default_drivers();
        if edits == 0 && (1..FEW_DRIVERS).contains(&drivers.len()) {
            let span = self.span("kernel.drivers");
            let message = format!("`drivers` replaces the default list of {} network drivers", default.len());
            let added: Vec<String> = drivers.iter().map(|name| format!("\"+{name}\"")).collect();
            let help = format!("to add to the default list: drivers = [{}]", added.join(", "));
            self.findings.push(Finding::note("kernel::drivers", &span, message).label("a whole list").help(help));
        }
        for (index, name) in drivers.iter().enumerate() {
            let Some(pattern) = name.strip_prefix('-').map(normal_name) else { continue };
            if default.iter().any(|one| matches(&pattern, one)) {
                continue;
            }
            let near = nearest(&pattern, default.iter().map(String::as_str));
            let message = format!("`{name}` removes nothing: the default list has no driver `{pattern}`");
            let help = match near.first() {
                Some(near) => format!("did you mean \"-{near}\"? `imgbuild show --effective` prints the default list"),
                None => "remove it; `imgbuild show --effective` prints the default list".to_owned(),
            };
            let span = self.span(&format!("kernel.drivers[{index}]"));
            self.findings.push(Finding::warning("kernel::drivers", &span, message).label("named here").help(help));
        }
    }
}
