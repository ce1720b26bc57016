//! Groups and environments of a repository (`group` or `group_gz` in repomd.xml). Source: rpm-software-management/comps.

use base::xml::{Event, Reader};

/// Largest comps.xml that is read, unpacked.
pub(in crate::rpm) const COMPS_LIMIT: u64 = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PackageKind {
    /// Always installed with the group.
    Mandatory,
    /// Installed unless it is taken out.
    Default,
    /// Installed only when all is asked for.
    Optional,
    /// Installed when another package is.
    Conditional,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPackage {
    pub name: String,
    pub kind: PackageKind,
    pub requires: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// What `@id` names.
    pub id: String,
    /// What `@"Name"` names, not translated.
    pub name: String,
    pub default: bool,
    pub visible: bool,
    /// The only language it is for.
    pub language: Option<String>,
    /// Its packages, in the file's order.
    pub packages: Vec<GroupPackage>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// What `@id` names.
    pub id: String,
    /// What `@"Name"` names, not translated.
    pub name: String,
    pub groups: Vec<String>,
    /// Groups that may be added, and whether they are by default.
    pub options: Vec<(String, bool)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comps {
    /// In the file's order.
    pub groups: Vec<Group>,
    /// In the file's order.
    pub environments: Vec<Environment>,
}

impl Comps {
    /// The group of an id, or else of a name.
    pub fn group(&self, wanted: &str) -> Option<&Group> {
        let by_name = || self.groups.iter().find(|group| group.name == wanted);
        self.groups.iter().find(|group| group.id == wanted).or_else(by_name)
    }

    /// The environment of an id, or else of a name.
    pub fn environment(&self, wanted: &str) -> Option<&Environment> {
        let by_name = || self.environments.iter().find(|environment| environment.name == wanted);
        self.environments.iter().find(|environment| environment.id == wanted).or_else(by_name)
    }

    /// Reads an unpacked comps.xml. Groups and environments of one id that stand twice are merged, as yum's tools do.
    pub fn parse(data: impl std::io::BufRead) -> Result<Self, String> {
        let mut reader = Reader::new(data);
        let mut comps = Self::default();
        let mut group: Option<Group> = None;
        let mut environment: Option<Environment> = None;
        let mut package: Option<GroupPackage> = None;
        let mut option: Option<bool> = None;
        let mut plain = true;
        let mut in_options = false;
        while let Some(event) = reader.event()? {
            match event {
                Event::Start { name, attributes } => match name {
                    "group" => group = Some(Group { visible: true, ..Group::default() }),
                    "environment" | "category" => environment = Some(Environment::default()),
                    "packagereq" => {
                        let kind = match attributes.get("type") {
                            Some("default") => PackageKind::Default,
                            Some("optional") => PackageKind::Optional,
                            Some("conditional") => PackageKind::Conditional,
                            // Where nothing is said libcomps takes it so.
                            _ => PackageKind::Mandatory,
                        };
                        let requires = attributes.get("requires").filter(|name| !name.is_empty()).map(str::to_owned);
                        package = Some(GroupPackage { name: String::new(), kind, requires });
                    }
                    "optionlist" => in_options = true,
                    "groupid" => option = Some(attributes.get("default") == Some("true")),
                    // Translations have `xml:lang`.
                    "name" | "description" => plain = attributes.get("xml:lang").is_none(),
                    _ => {}
                },
                Event::End { name, text } => {
                    let text = text.trim();
                    match name {
                        "group" => comps.add_group(group.take()),
                        "environment" => comps.add_environment(environment.take()),
                        "category" => environment = None,
                        "optionlist" => in_options = false,
                        "packagereq" => {
                            if let (Some(group), Some(mut package)) = (group.as_mut(), package.take()) {
                                package.name = text.to_owned();
                                if !text.is_empty() {
                                    group.packages.push(package);
                                }
                            }
                        }
                        "groupid" => {
                            if let (Some(environment), Some(default)) = (environment.as_mut(), option.take()) {
                                if in_options {
                                    environment.options.push((text.to_owned(), default));
                                } else {
                                    environment.groups.push(text.to_owned());
                                }
                            }
                        }
                        "id" | "name" => {
                            let place = match (&mut group, &mut environment) {
                                (Some(group), _) if name == "id" => Some(&mut group.id),
                                (Some(group), _) => Some(&mut group.name),
                                (None, Some(environment)) if name == "id" => Some(&mut environment.id),
                                (None, Some(environment)) => Some(&mut environment.name),
                                (None, None) => None,
                            };
                            if let Some(place) = place.filter(|_| plain || name == "id") {
                                text.clone_into(place);
                            }
                        }
                        "default" => set(group.as_mut().map(|group| &mut group.default), text),
                        "uservisible" => set(group.as_mut().map(|group| &mut group.visible), text),
                        "langonly" => {
                            if let Some(group) = group.as_mut() {
                                group.language = Some(text.to_owned());
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
        reader.ended_within("comps")?;
        Ok(comps)
    }

    fn add_group(&mut self, group: Option<Group>) {
        let Some(group) = group else { return };
        match self.groups.iter_mut().find(|known| known.id == group.id) {
            Some(known) => {
                for package in group.packages {
                    if !known.packages.iter().any(|other| other.name == package.name) {
                        known.packages.push(package);
                    }
                }
            }
            None => self.groups.push(group),
        }
    }

    fn add_environment(&mut self, environment: Option<Environment>) {
        let Some(environment) = environment else { return };
        match self.environments.iter_mut().find(|known| known.id == environment.id) {
            Some(known) => {
                for group in environment.groups {
                    if !known.groups.contains(&group) {
                        known.groups.push(group);
                    }
                }
                for option in environment.options {
                    if !known.options.iter().any(|(id, _)| *id == option.0) {
                        known.options.push(option);
                    }
                }
            }
            None => self.environments.push(environment),
        }
    }
}

fn set(place: Option<&mut bool>, text: &str) {
    if let Some(place) = place {
        *place = text == "true";
    }
}
