//! The attributes, one by one, in the order of a recipe.

use super::scripts::ScriptReads;
use super::{ListFile, ListKind, Mapper, Mapping, Value, Verdict, release_of};
use crate::definitions::Places;
use node_words::kdump::{Reserve, Target};
use recipe::{Arch, Family, is_image_name};
use xcat::definitions::{Definition, is_plain_path, is_word};

/// Attributes that describe, or that only other commands of xCAT read; all are kept in the stanza beside the recipe.
const DESCRIBE: [(&str, &str); 13] = [
    ("imagetype", ""),
    ("osname", ""),
    ("osdistroname", ""),
    ("groups", "groups of osimages stay in xCAT"),
    ("description", ""),
    ("usercomment", ""),
    ("serverrole", ""),
    ("isdeletable", ""),
    ("osupdatename", ""),
    ("cfmdir", ""),
    ("template", "only for installs on disk"),
    ("winpepath", "only for Windows"),
    ("installto", "only for Windows"),
];

/// Attributes that xCAT's nodeset reads itself, no matter who made the image.
const NODESET: [(&str, &str); 1] =
    [("boottarget", "nodeset takes kernel, initrd and command line from it, and not from this image")];

/// Whether a shell could have a variable of this name.
fn is_variable(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(plain)
}

/// Maps a definition.
/// Errors: Why there can be no recipe.
pub(super) fn of(definition: &Definition, places: &Places) -> Result<Mapping, String> {
    if !is_image_name(&definition.name) {
        return Err(
            "its name has other letters than A-Z, a-z, 0-9, `.`, `_` and `-`: copy it to one without them".to_owned()
        );
    }
    let needed = |attribute: &str| {
        definition.get(attribute).ok_or_else(|| format!("`{attribute}` is not set: genimage would refuse it too"))
    };
    if let Some(other) = definition.get("imagetype").filter(|kind| !kind.eq_ignore_ascii_case("linux")) {
        return Err(format!("imagetype is {other}: only Linux images are built"));
    }
    let is_statelite = match needed("provmethod")? {
        "netboot" => false,
        "statelite" => true,
        other => return Err(format!("provmethod is {other}: only diskless images (netboot, statelite) are built")),
    };
    let (osvers, arch, profile) = (needed("osvers")?, needed("osarch")?, needed("profile")?);
    // They become parts of paths and names.
    for (attribute, value) in [("osvers", osvers), ("osarch", arch), ("profile", profile)] {
        if !is_word(value) {
            return Err(format!(
                "{attribute} is `{}`: only letters, digits, `.`, `_` and `-` can be in it",
                value.escape_debug()
            ));
        }
    }
    if Arch::named(arch).is_none() {
        return Err(format!("osarch is {arch}: images are built for {}", Arch::names()));
    }
    let release = release_of(osvers)?;
    let rootimgdir = definition.get("rootimgdir").map(|path| path.trim_end_matches('/'));
    if let Some(odd) = rootimgdir.filter(|path| !is_plain_path(path)) {
        return Err(format!("rootimgdir is `{}`: it has to be an absolute path without `..`", odd.escape_debug()));
    }
    let by_default = || format!("{}/netboot/{osvers}/{arch}/{profile}", places.installdir);
    let mapping = Mapping {
        name: definition.name.clone(),
        rootimgdir: rootimgdir.map_or_else(by_default, str::to_owned),
        fields: Vec::new(),
        repositories: Vec::new(),
        remarks: Vec::new(),
        lists: Vec::new(),
        named: Vec::new(),
    };
    let mut mapper = Mapper { definition, places, release, arch, osvers, profile, mapping };
    mapper.image(is_statelite);
    mapper.repositories();
    mapper.packages();
    mapper.other_packages();
    mapper.kernel();
    mapper.postinstall();
    mapper.synced();
    mapper.excluded();
    mapper.boot();
    mapper.kdump();
    if is_statelite {
        mapper.statelite();
    }
    mapper.environment();
    mapper.nodes();
    mapper.rest();
    mapper.mapping.remarks.sort_by(|a, b| a.attribute.cmp(&b.attribute));
    Ok(mapper.mapping)
}

impl Mapper<'_> {
    fn image(&mut self, is_statelite: bool) {
        let text = |text: &str| Value::Text(text.to_owned());
        self.set("image", "name", text(&self.definition.name), "imagename");
        self.set("image", "distro", text(self.distro().name()), "osvers");
        let release = self.release.release.clone();
        self.set("image", "release", Value::Text(release), "osvers");
        self.set("image", "arch", text(self.arch), "osarch");
        self.remark("osvers", Verdict::Exact, Some("image.release"), "");
        self.remark("osarch", Verdict::Exact, Some("image.arch"), "");
        if !is_statelite {
            self.remark("provmethod", Verdict::Exact, None, "");
        }
    }

    /// The rows of xCAT's tables are written beside the recipe, which names them.
    fn statelite(&mut self) {
        let groups = self.definition.get("groups").unwrap_or_default().to_owned();
        let of_image = |name: &String| [self.definition.name.as_str(), &groups, "ALL", ""].contains(&name.as_str());
        let has = |table: &str| self.places.statelite.get(table).is_some_and(|images| images.iter().any(of_image));
        if !has("litefile") {
            let reason = "the recipe makes the stateless image: no rows of litefile were given; import again with what `tabdump litefile`, `tabdump litetree` and `tabdump statelite` print";
            self.remark("provmethod", Verdict::Decide, None, reason);
            return;
        }
        let tables: Vec<&'static str> =
            ["litefile", "litetree", "statelite"].into_iter().filter(|table| has(table)).collect();
        let states = tables.contains(&"statelite");
        for table in tables {
            self.set("statelite", table, Value::List(vec![format!("{table}.csv")]), "provmethod");
        }
        if !groups.is_empty() {
            self.set("statelite", "groups", Value::Text(groups), "groups");
        }
        let reason = match states {
            true => {
                "rows of table statelite that name groups or ranges of nodes: say them in nodes.toml, STATEMNT= among kernel_args"
            }
            false => "no rows of table statelite were given: what persists needs [statelite] state",
        };
        self.remark("provmethod", Verdict::Exact, Some("statelite.litefile"), reason);
        let is_in_memory = self.definition.get("rootfstype").is_some_and(|kind| kind.eq_ignore_ascii_case("ramdisk"));
        let reason =
            "nodes of xCAT mount their root over NFS: [statelite] root, and `imgbuild build --publish nfs:DIR`";
        match is_in_memory {
            true => self.remark("rootfstype", Verdict::Exact, None, ""),
            false => self.remark("rootfstype", Verdict::Decide, Some("statelite.root"), reason),
        }
        for (attribute, reason) in [
            (
                "nfsrootopts",
                "options of the root over NFS: write them behind `:ro` of root=nfs: among the node's words",
            ),
            ("permission", "the published tree has the owners and modes of the packages"),
        ] {
            if self.definition.get(attribute).is_some() {
                self.remark(attribute, Verdict::Decide, None, reason);
            }
        }
    }

    fn kernel(&mut self) {
        if let Some(version) = self.definition.get("kernelver").map(str::to_owned) {
            self.set("kernel", "version", Value::Text(version), "kernelver");
            self.remark("kernelver", Verdict::Exact, Some("kernel.version"), "");
            let folder = self.definition.get("kerneldir").map(str::to_owned);
            let folder = folder.unwrap_or_else(|| format!("{}/kernels", self.places.installdir));
            if self.places.here(&folder).is_dir() {
                self.mapping.named.push(folder.clone());
                self.set("kernel", "dir", Value::Text(folder), "kerneldir");
                if self.definition.get("kerneldir").is_some() {
                    self.remark("kerneldir", Verdict::Exact, Some("kernel.dir"), "");
                }
            } else if self.definition.get("kerneldir").is_some() {
                let reason = "not a directory of this host: left out";
                self.remark("kerneldir", Verdict::Decide, Some("kernel.dir"), reason);
            }
        } else if self.definition.get("kerneldir").is_some() {
            self.remark("kerneldir", Verdict::Stays, None, "xCAT looks into it only with a kernelver");
        }
        if self.definition.get("krpmver").is_some() {
            self.remark("krpmver", Verdict::Stays, None, "not needed: the package determines `uname -r`");
        }
        self.drivers();
        let updates = self.definition.list("driverupdatesrc");
        if !updates.is_empty() {
            let file = |item: &String| {
                let (tag, path) = item.split_once(':').unwrap_or(("", item));
                let is_tag = tag.eq_ignore_ascii_case("dud") || tag.eq_ignore_ascii_case("rpm");
                if is_tag { path.to_owned() } else { item.clone() }
            };
            let (there, missing): (Vec<String>, Vec<String>) =
                updates.into_iter().partition(|item| self.places.here(&file(item)).exists());
            self.mapping.named.extend(there.iter().map(file));
            if !there.is_empty() {
                self.set("kernel", "updates", Value::List(there), "driverupdatesrc");
            }
            match missing.is_empty() {
                true => self.remark("driverupdatesrc", Verdict::Exact, Some("kernel.updates"), ""),
                false => {
                    let reason = format!("not found here, left out: {}", missing.join(", "));
                    self.remark("driverupdatesrc", Verdict::Decide, Some("kernel.updates"), reason);
                }
            }
        }
    }

    /// Red Hat's and SUSE's genimage put netdrivers in front of the default ones, Ubuntu's replaces those.
    fn drivers(&mut self) {
        let names = self.definition.list("netdrivers");
        if names.is_empty() {
            return;
        }
        let is_edit = self.family() != Family::Debian;
        let plain = |name: &String| {
            let name = name.trim_end_matches(".ko").to_owned();
            if is_edit { format!("+{name}") } else { name }
        };
        let mut drivers: Vec<String> = Vec::new();
        for name in names.iter().map(plain) {
            if !drivers.contains(&name) {
                drivers.push(name);
            }
        }
        self.set("kernel", "drivers", Value::List(drivers), "netdrivers");
        match is_edit {
            true => {
                let reason = "added to imgbuild's default drivers, which include more than xCAT's";
                self.remark("netdrivers", Verdict::Differs, Some("kernel.drivers"), reason);
            }
            false => self.remark("netdrivers", Verdict::Exact, Some("kernel.drivers"), ""),
        }
    }

    fn postinstall(&mut self) {
        let mut scripts = Vec::new();
        let mut lost = Vec::new();
        for item in self.definition.list("postinstall") {
            let words: Vec<String> = item.split_whitespace().map(str::to_owned).collect();
            let Some(script) = words.first().cloned() else { continue };
            if !is_plain_path(&script) || !self.places.here(&script).is_file() {
                lost.push(script);
                continue;
            }
            self.mapping.lists.push(ListFile { path: script, kind: ListKind::Script });
            scripts.push(words);
        }
        if !lost.is_empty() {
            let reason = match scripts.is_empty() {
                true => "not found here, left out".to_owned(),
                false => format!("not found here, left out: {}", lost.join(", ")),
            };
            self.remark("postinstall", Verdict::Decide, Some("postinstall.script"), reason);
        }
        let field = match scripts.as_slice() {
            [] => return,
            [words] => {
                self.set("postinstall", "script", Value::Text(words[0].clone()), "postinstall");
                if words.len() > 1 {
                    self.set("postinstall", "arguments", Value::List(words[1..].to_vec()), "postinstall");
                }
                "postinstall.script"
            }
            several => {
                let items = several.iter().map(|words| words.join(" ")).collect();
                self.set("postinstall", "scripts", Value::List(items), "postinstall");
                "postinstall.scripts"
            }
        };
        let named: Vec<String> = scripts.iter().map(|words| words[0].clone()).collect();
        let reason = self.inputs(&named);
        self.remark("postinstall", Verdict::Differs, Some(field), reason);
    }

    /// Names what scripts read of the site's own trees; what is to be said of it.
    fn inputs(&mut self, scripts: &[String]) -> String {
        let environment = self.definition.list("environvar");
        let pairs = environment.iter().filter_map(|item| item.split_once('='));
        let environment = pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect();
        let mut reads = ScriptReads::default();
        for script in scripts {
            reads.script(script, &environment, self.places);
        }
        if reads == ScriptReads::default() || reads.inputs.is_empty() && reads.lost.is_empty() && reads.large.is_empty()
        {
            return "scripts run in a sandbox: name what they read in `inputs`, and packages with their commands in `tools`"
                .to_owned();
        }
        let mut reason = "scripts run in a sandbox".to_owned();
        if !reads.inputs.is_empty() {
            self.mapping.lists.extend(reads.paths.into_iter().map(|path| ListFile { path, kind: ListKind::Input }));
            self.set("postinstall", "inputs", Value::List(reads.inputs.into_iter().collect()), "postinstall");
            reason.push_str(", `inputs` lists what they read from the management node, as far as their text shows");
        }
        let listed = |paths: std::collections::BTreeSet<String>| paths.into_iter().collect::<Vec<_>>().join(", ");
        if !reads.lost.is_empty() {
            reason.push_str(&format!("; not found here: {}", listed(reads.lost)));
        }
        if !reads.large.is_empty() {
            reason.push_str(&format!("; too large, name the files: {}", listed(reads.large)));
        }
        reason + "; packages with their commands go into `tools`"
    }

    fn synced(&mut self) {
        if self.definition.get("synclists").is_some() {
            self.lists("synclists", "sync", ListKind::Synced);
            return;
        }
        if let Some((found, _)) = self.searched("synclist") {
            let reason = format!("not set: {found} is what packimage finds for the profile");
            self.mapping.lists.push(ListFile { path: found.clone(), kind: ListKind::Synced });
            self.set("sync", "lists", Value::List(vec![found]), "synclists");
            self.remark("synclists", Verdict::Exact, Some("sync.lists"), reason);
        }
    }

    fn excluded(&mut self) {
        if self.definition.get("exlist").is_some() {
            self.lists("exlist", "exclude", ListKind::Excluded);
        }
    }

    fn boot(&mut self) {
        let Some(line) = self.definition.get("addkcmdline") else { return };
        // R:: is for systems installed on disk.
        let words: Vec<String> =
            line.split_whitespace().filter(|word| !word.starts_with("R::")).map(str::to_owned).collect();
        if !words.is_empty() {
            self.set("boot", "cmdline", Value::List(words), "addkcmdline");
        }
        let reason = "xCAT's nodeset reads it too: without xCAT, boot entries have it from the recipe";
        self.remark("addkcmdline", Verdict::Exact, Some("boot.cmdline"), reason);
    }

    /// Without `dump` xCAT does not read crashkernelsize.
    fn kdump(&mut self) {
        let reserve = self.definition.get("crashkernelsize").map(str::to_owned);
        let Some(place) = self.definition.get("dump").map(str::to_owned) else {
            if reserve.is_some() {
                self.remark("crashkernelsize", Verdict::Stays, None, "xCAT reads it only with `dump`");
            }
            return;
        };
        let is_nfs = place.starts_with("nfs://") && Target::parse(&place).is_ok();
        if !is_nfs {
            let reason = match place.starts_with("fadump") {
                true => "dumps by POWER's firmware are not supported: set [kdump] to, for dumps by a second kernel",
                false => "not a directory of an NFS server: set [kdump] to",
            };
            self.remark("dump", Verdict::Decide, Some("kdump.to"), reason);
            if reserve.is_some() {
                self.remark(
                    "crashkernelsize",
                    Verdict::Decide,
                    Some("kdump.reserve"),
                    "without [kdump] to nothing is reserved",
                );
            }
            return;
        }
        self.set("kdump", "to", Value::Text(place), "dump");
        let reason = "nodes write dumps without the packages of kdump; makedumpfile in the image makes them small";
        self.remark("dump", Verdict::Exact, Some("kdump.to"), reason);
        match reserve {
            Some(size) if Reserve::parse(&size).is_ok() => {
                self.set("kdump", "reserve", Value::Text(size), "crashkernelsize");
                self.remark("crashkernelsize", Verdict::Exact, Some("kdump.reserve"), "");
            }
            Some(_) => {
                let reason = "not a size that the kernel reserves: 256M is reserved";
                self.remark("crashkernelsize", Verdict::Decide, Some("kdump.reserve"), reason);
            }
            None => {}
        }
    }

    fn environment(&mut self) {
        let mut wrong = Vec::new();
        let items = self.definition.list("environvar");
        if items.is_empty() {
            return;
        }
        let mut values: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
        for item in items {
            match item.split_once('=') {
                Some((name, value)) if is_variable(name.trim()) => {
                    if let Some(first) = values.insert(name.trim().to_owned(), value.trim().to_owned()) {
                        wrong.push(format!("{name}={first}, which is set again"));
                    }
                }
                _ => wrong.push(format!("{item}, which is not NAME=value")),
            }
        }
        for (name, value) in values {
            self.set("environment", &name, Value::Text(value), "environvar");
        }
        match wrong.is_empty() {
            true => self.remark("environvar", Verdict::Exact, Some("environment"), ""),
            false => {
                let reason = format!("left out: {}", wrong.join(", "));
                self.remark("environvar", Verdict::Decide, Some("environment"), reason);
            }
        }
    }

    /// What scripts and nodes learn about the osimage.
    fn nodes(&mut self) {
        let text = |text: &str| Value::Text(text.to_owned());
        self.set("xcat", "osvers", text(self.osvers), "osvers");
        self.set("xcat", "profile", text(self.profile), "profile");
        self.remark("profile", Verdict::Exact, Some("xcat.profile"), "");
        let postscripts = format!("{}/postscripts", self.places.installdir);
        if self.places.here(&postscripts).join("xcatdsklspost").is_file() {
            self.mapping.lists.push(ListFile { path: postscripts.clone(), kind: ListKind::Folder });
            self.set("xcat", "node_support", Value::Flag(true), "postscripts");
            self.set("xcat", "postscripts", Value::Text(postscripts), "postscripts");
        }
        for attribute in ["postscripts", "postbootscripts"] {
            if self.definition.get(attribute).is_some() {
                let reason = "nodes get their names from xCAT at boot; the recipe's node_support puts the scripts into the image";
                self.remark(attribute, Verdict::Stays, None, reason);
            }
        }
        if let Some(timezone) = &self.places.timezone {
            let reason =
                format!("site.timezone is {timezone}, which packimage sets: [system] timezone = \"{timezone}\"");
            self.remark("timezone", Verdict::Decide, Some("system.timezone"), reason);
        }
        let reason = match &self.places.root_hash {
            Some(_) => {
                "root's hash of xCAT's passwd table is in keys/root.hash of the workspace, mode 0600 and outside git: [system] root_password_hash_file = \"../../keys/root.hash\""
            }
            None => "root's password is in xCAT's passwd table: set in [system] who may log in",
        };
        self.remark("passwd", Verdict::Decide, Some("system"), reason);
        let reason = match self.definition.get("rootimgdir") {
            Some(_) => format!("imgbuild build --publish xcat:{}", self.mapping.rootimgdir),
            None => String::new(),
        };
        self.remark("rootimgdir", Verdict::Exact, None, reason);
    }

    /// All that was not mapped: nothing is dropped in silence.
    fn rest(&mut self) {
        for (attribute, reason) in DESCRIBE.iter().chain(&NODESET) {
            if self.definition.get(attribute).is_some() {
                self.remark(attribute, Verdict::Stays, None, *reason);
            }
        }
        let reasons = [
            ("nodebootif", "the boot entry names the card (BOOTIF=), so all nodes share one image"),
            (
                "otherifce",
                "further cards are configured by the image's own network files: sync them, or a postscript of xCAT",
            ),
            ("partitionfile", "local disks are not set up by imgbuild's initrd: use a postscript"),
            ("kitcomponents", "kit packages are not added automatically: name them in [otherpkgs]"),
            ("rootfstype", "only for statelite images"),
            ("nfsrootopts", "only for statelite images"),
            ("permission", "only for statelite images"),
        ];
        for (attribute, reason) in reasons {
            let is_said = self.mapping.remarks.iter().any(|one| one.attribute == attribute);
            if self.definition.get(attribute).is_none() || is_said {
                continue;
            }
            let is_inert = ["rootfstype", "nfsrootopts", "permission"].contains(&attribute);
            self.remark(attribute, if is_inert { Verdict::Stays } else { Verdict::Decide }, None, reason);
        }
        let said: Vec<String> = self.mapping.remarks.iter().map(|one| one.attribute.clone()).collect();
        let names: Vec<String> = self.definition.attributes.keys().cloned().collect();
        for name in names.iter().filter(|name| !said.contains(name) && *name != "imagename") {
            self.remark(name, Verdict::Decide, None, "xCAT 2.19 has no such attribute of an osimage");
        }
    }
}
