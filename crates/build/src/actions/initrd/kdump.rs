//! The initrd of the kernel that writes a dump: what it has besides drivers. The image's makedumpfile and ssh come with their
//! libraries, and nothing else of the image.

use serde::{Deserialize, Serialize};

use super::compose::Tree;
use crate::StageError;
use crate::actions::pack::startable::{Whole, whole};
use crate::actions::reader::Reader;
use crate::actions::reader::work::Above;
use crate::bench::Bench;
use crate::bench::keyed::{InputFile, Key, Keyed};
use crate::bench::report::refuse;
use archive::Body;
use base::digest::Digest;
use base::source::{Finding, Severity};
use node_words::kdump::{
    FORMAT, KEY, KNOWN_HOSTS, LIBRARIES, MAKEDUMPFILE, ORDER, Order, PROGRAMS, Reserve, SSH, Target,
};
use plan::Input;
use recipe::{Family, Kdump, kdump_target};
use store::LayerReader;

/// Part of the keys; raised with what this module adds. 1: first.
const VERSION: u32 = 1;

/// What a kernel needs that is loaded for a crash, and writes a dump. Source: Linux, Documentation/admin-guide/kdump/kdump.rst.
const CONFIG: [&str; 3] = ["CONFIG_KEXEC_FILE", "CONFIG_CRASH_DUMP", "CONFIG_PROC_VMCORE"];

/// What a kernel and its drivers take besides their initrd, in MiB: with 96 MiB and 11 MiB less than this a node ran out of memory.
/// Measured in docs/kdump.md.
const OF_KERNEL: u64 = 80;

/// Libraries that glibc before 2.34 loads when a program asks who root is, and what its threads need to end.
const OF_GLIBC: [&str; 2] = ["libnss_files.so.2", "libnss_dns.so.2"];

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DumpRequest {
    pub layers: Vec<Digest>,
    pub order: String,
    /// The private key and the server's keys, where it goes by ssh.
    pub ssh: Option<(String, String)>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct DumpAnswer {
    /// Options that the kernel was built without.
    pub config: Vec<String>,
    /// A program that is needed, and what it lacks; itself where that is empty.
    pub lacks: Option<(String, String)>,
    pub can_filter: bool,
    /// Libraries that it uses; none of one that needs none.
    pub libraries: Vec<String>,
    /// Bytes of the initrd, as it is loaded and as it is unpacked.
    pub size: u64,
}

impl DumpAnswer {
    /// Whether no dump could be written.
    pub(crate) fn cannot(&self) -> bool {
        !self.config.is_empty() || self.lacks.is_some()
    }
}

fn order_of(table: &Kdump) -> Order {
    let mut filter: Vec<String> = table.compress.option().map(str::to_owned).into_iter().collect();
    filter.extend(["-d".to_owned(), table.level.to_string()]);
    Order {
        format: FORMAT,
        to: table.to.clone(),
        options: table.options.clone().unwrap_or_default(),
        filter,
        cmdline: table.cmdline.clone(),
        afterwards: table.afterwards.ordered(),
    }
}

/// What an initrd that writes a dump has.
#[derive(Debug)]
pub struct Dump {
    pub order: Keyed<Order>,
    /// The private key and the server's keys, where it goes by ssh.
    pub ssh: Option<(Keyed<InputFile>, Keyed<InputFile>)>,
}

/// Describes it, besides what every initrd is made of and the image's layers.
///
/// # Errors
/// [`StageError::Input`] for a file that vanished since the recipe was read.
pub(crate) fn describe(reader: &Reader<'_>, key: &mut Key) -> Result<Option<Dump>, StageError> {
    let recipe = reader.recipe;
    let Some(table) = &recipe.model.kdump else { return Ok(None) };
    let order =
        key.keep_all(order_of(table), |order| {
            let mut inputs = vec![
                Input::parameter("kdump", VERSION),
                reader.setting("to", &order.to, "kdump.to"),
                // Compared with the size of what is made.
                reader.setting("reserve", &table.reserve, "kdump.reserve"),
                reader.setting("options", &order.options, "kdump.options"),
                reader.setting("level", table.level, "kdump.level"),
                reader.setting("dump compress", table.compress.option().unwrap_or("none"), "kdump.compress"),
                reader.setting("afterwards", format!("{:?}", order.afterwards), "kdump.afterwards"),
            ];
            let words = order.cmdline.iter().enumerate();
            inputs.extend(words.map(|(index, word)| {
                Input::new(format!("word {word}"), "").item(&recipe.spans, "kdump.cmdline", index)
            }));
            inputs
        });
    let mut file = |found: &Option<(std::path::PathBuf, String)>, field: &str| {
        let file = found.as_ref().map(|(path, name)| key.file(name, path, |input| input.field(&recipe.spans, field)));
        file.transpose()
    };
    let own = file(&recipe.kdump.key, "kdump.ssh_key")?;
    let ssh = own.zip(file(&recipe.kdump.known_hosts, "kdump.known_hosts")?);
    let is_by_ssh = matches!(kdump_target(&recipe.model), Some(Target::Ssh { .. }));
    Ok(Some(Dump { order, ssh: ssh.filter(|_| is_by_ssh) }))
}

impl Dump {
    /// What it is made from.
    ///
    /// # Errors
    /// [`StageError::Input`] for a file that changed.
    pub fn request(&self, above: &Above<'_>) -> Result<DumpRequest, StageError> {
        let mut order = serde_json::to_string_pretty(&*self.order).unwrap_or_default();
        order.push('\n');
        let ssh =
            self.ssh.as_ref().map(|(key, hosts)| Ok::<_, StageError>((key.text()?, hosts.text()?))).transpose()?;
        Ok(DumpRequest { layers: above.below()?, order, ssh })
    }
}

/// Says what it lacks.
/// Errors: [`StageError::Gate`] where no dump could be written.
pub(crate) fn say(bench: &Bench<'_>, answer: &DumpAnswer, release: &str) -> Result<(), StageError> {
    let recipe = bench.recipe;
    if !answer.config.is_empty() {
        let problem =
            format!("the kernel {release} cannot write a dump: it was built without {}", answer.config.join(", "));
        let help = "choose another kernel: ‹[kernel] package = \"...\"›; or remove ‹[kdump]›".to_owned();
        return Err(refuse(bench.report, recipe, "kdump", problem, help));
    }
    let family = recipe.model.image.distro.family();
    if let Some((program, lacks)) = &answer.lacks {
        let (package, problem) = match (program.as_str(), lacks.is_empty()) {
            (SSH, true) => (
                if family == Family::Debian { "openssh-client" } else { "openssh-clients" },
                "the image has no ssh, which sends its dumps".to_owned(),
            ),
            (_, true) => ("makedumpfile", format!("the image has no {program}")),
            (_, false) => {
                ("", format!("{program} of the image cannot run where dumps are written: it needs `{lacks}`"))
            }
        };
        let help = match package {
            "" => "add the package that provides it: ‹[packages] install = [\"...\"]›".to_owned(),
            package => format!(
                "add it: ‹[packages] install = [\"{package}\"]›; the exclude lists may leave it out of the node's memory"
            ),
        };
        return Err(refuse(bench.report, recipe, "kdump.to", problem, help));
    }
    let reserve = recipe.model.kdump.as_ref().map(|table| table.reserve.as_str()).unwrap_or_default();
    let needs = OF_KERNEL + answer.size.div_ceil(1 << 20);
    if Reserve::parse(reserve).is_ok_and(|reserve| reserve.smallest() >> 20 < needs) {
        let text = format!("`{reserve}` is too small for the kernel that writes dumps: about {needs} MiB are needed");
        let help =
            format!("write ‹[kdump] reserve = \"{}M\"›, or fewer ‹[kernel]› drivers", needs.next_multiple_of(64));
        let mut finding = Finding::nowhere(Severity::Warning, "kdump::reserve", text).help(help);
        finding.span = recipe.spans.nearest("kdump.reserve").cloned();
        bench.report.finding(&finding);
    }
    let compress = recipe.model.kdump.as_ref().map(|table| table.compress).unwrap_or_default();
    if let Some(library) = compress.library().filter(|_| !answer.libraries.is_empty())
        && !answer.libraries.iter().any(|one| one.starts_with(library))
    {
        let problem = format!("makedumpfile of the image was built without {library}: it would compress nothing");
        let help = "choose another one: ‹[kdump] compress = \"lzo\"›, or \"zlib\", which each has".to_owned();
        return Err(refuse(bench.report, recipe, "kdump.compress", problem, help));
    }
    if !answer.can_filter {
        let package = if family == Family::Debian { "makedumpfile" } else { "kexec-tools" };
        let text = "the image has no makedumpfile: dumps contain all memory, and no file of kernel messages";
        let help = format!(
            "add it: ‹[packages] install = [\"{package}\"]›; the exclude lists may leave it out of the node's memory"
        );
        let mut finding = Finding::nowhere(Severity::Warning, "kdump::filter", text).help(help);
        finding.span = recipe.spans.nearest("kdump").cloned();
        bench.report.finding(&finding);
    }
    Ok(())
}

/// Options that the kernel's configuration lacks; none where there is no configuration.
fn lacking(config: &str) -> Vec<String> {
    let has = |option: &&str| config.lines().any(|line| line.strip_prefix(option) == Some("=y"));
    CONFIG.iter().filter(|option| !has(option)).map(|option| (*option).to_owned()).collect()
}

/// Adds it to an initrd; `kernel` has the kernel's layers. Runs inside.
pub(crate) fn add(
    tree: &mut Tree,
    kernel: &LayerReader,
    request: &DumpRequest,
    release: &str,
) -> Result<DumpAnswer, String> {
    let image = LayerReader::open(&request.layers)?;
    let mut answer = DumpAnswer::default();
    for path in [format!("boot/config-{release}"), format!("usr/lib/modules/{release}/config")] {
        let config = match kernel.read(&path)? {
            Some(config) => Some(config),
            None => image.read(&path)?,
        };
        if let Some(config) = config {
            answer.config = lacking(&String::from_utf8_lossy(&config));
            break;
        }
    }
    tree.file(ORDER, 0o600, request.order.as_bytes())?;
    // Programs ask who they are.
    tree.file("etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/sh\n")?;
    tree.file("etc/group", 0o644, b"root:x:0:\n")?;
    tree.file("etc/nsswitch.conf", 0o644, b"passwd: files\ngroup: files\nhosts: files dns\n")?;
    tree.file("etc/hosts", 0o644, b"127.0.0.1 localhost\n::1 localhost\n")?;
    for name in ["dump", "tmp", "root"] {
        tree.parents(&format!("{name}/"))?;
    }
    if let Some((key, hosts)) = &request.ssh {
        tree.file(KEY, 0o600, key.as_bytes())?;
        tree.file(KNOWN_HOSTS, 0o644, hosts.as_bytes())?;
        match whole(&image, SSH, &OF_GLIBC)? {
            Ok(ssh) => program(tree, &image, SSH, &ssh)?,
            Err(lacks) => answer.lacks = Some((SSH.to_owned(), lacks)),
        }
    }
    match whole(&image, MAKEDUMPFILE, &[])? {
        Ok(found) => {
            program(tree, &image, MAKEDUMPFILE, &found)?;
            answer.can_filter = true;
            answer.libraries = found.libraries.keys().cloned().collect();
        }
        // Without it all is written; with half of it the site would believe that it is there.
        Err(lacks) if !lacks.is_empty() => answer.lacks = Some((MAKEDUMPFILE.to_owned(), lacks)),
        Err(_) => {}
    }
    Ok(answer)
}

fn program(tree: &mut Tree, image: &LayerReader, name: &str, found: &Whole) -> Result<(), String> {
    let mut copy = |path: &str, to: &str| match image.read(path)? {
        Some(bytes) => tree.file(to, 0o755, &bytes),
        None => Err(format!("{path} is missing")),
    };
    copy(&found.program, &format!("{PROGRAMS}/{name}"))?;
    for (library, path) in &found.libraries {
        copy(path, &format!("{LIBRARIES}/{library}"))?;
    }
    if let Some((asked, path)) = &found.interpreter {
        // At the path that programs name, for the kernel; and for the libraries that ask for it by its name.
        let asked = asked.trim_start_matches('/');
        copy(path, asked)?;
        let base = asked.rsplit('/').next().unwrap_or(asked);
        tree.add(&format!("{LIBRARIES}/{base}"), 0o777, Body::Symlink(&format!("/{asked}")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_was_built_without_is_found() {
        let config = "CONFIG_KEXEC_FILE=y\n# CONFIG_CRASH_DUMP is not set\nCONFIG_PROC_VMCORE_DEVICE_DUMP=y\n";
        assert_eq!(lacking(config), ["CONFIG_CRASH_DUMP", "CONFIG_PROC_VMCORE"]);
    }
}
