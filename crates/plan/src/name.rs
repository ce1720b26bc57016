//! Names of inputs: a kind, and what it is of that kind. Their text is part of keys and records, and stays as it is.

use std::fmt;

/// What kind of input a name is for. Its text stands before the first blank of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum InputKind {
    Action,
    /// A file: its path in the recipe's directory.
    File,
    /// A package: name and architecture, as [`InputName::package`] gives them.
    Package,
    Layer,
    /// A value that an action gave, as [`InputName::output`] gives it.
    Value,
    Parameter,
    Tools,
    /// A package that is removed: before, after, or with others.
    Remove,
    RemoveAfter,
    RemoveWith,
    /// A package of a container image that goes for others.
    Conflicting,
    /// A package that goes for others by itself.
    Replaced,
    Failing,
    /// A part of the container image below: its manifest, a layer.
    Container,
    Module,
    Dracut,
    Driver,
    /// A set of drivers that is newer than the kernel's.
    Update,
    Device,
    Enable,
    Disable,
    Mask,
    Fstab,
    Exports,
    User,
    Group,
    /// A path of the image that is a node's own, a server's tree of such paths, a place for what stays.
    Path,
    Tree,
    State,
    Synced,
    Placed,
    Exclude,
    Include,
    Word,
    Form,
    /// What a lock has besides.
    Epoch,
    Transaction,
    Repository,
    Suite,
    /// One that this imgbuild does not know, of a record that another one wrote.
    Other,
}

impl InputKind {
    const TEXTS: [(Self, &str); 39] = [
        (Self::Action, "action"),
        (Self::File, "file"),
        (Self::Package, "package"),
        (Self::Layer, "layer"),
        (Self::Value, "value"),
        (Self::Parameter, "parameter"),
        (Self::Tools, "tools"),
        (Self::Remove, "remove"),
        (Self::RemoveAfter, "remove-after"),
        (Self::RemoveWith, "remove-with"),
        (Self::Conflicting, "conflicting"),
        (Self::Replaced, "replaced"),
        (Self::Failing, "failing"),
        (Self::Container, "container"),
        (Self::Module, "module"),
        (Self::Dracut, "dracut"),
        (Self::Driver, "driver"),
        (Self::Update, "update"),
        (Self::Device, "device"),
        (Self::Enable, "enable"),
        (Self::Disable, "disable"),
        (Self::Mask, "mask"),
        (Self::Fstab, "fstab"),
        (Self::Exports, "exports"),
        (Self::User, "user"),
        (Self::Group, "group"),
        (Self::Path, "path"),
        (Self::Tree, "tree"),
        (Self::State, "state"),
        (Self::Synced, "synced"),
        (Self::Placed, "placed"),
        (Self::Exclude, "exclude"),
        (Self::Include, "include"),
        (Self::Word, "word"),
        (Self::Form, "form"),
        (Self::Epoch, "epoch"),
        (Self::Transaction, "transaction"),
        (Self::Repository, "repository"),
        (Self::Suite, "suite"),
    ];

    fn of(text: &str) -> Self {
        Self::TEXTS.iter().find(|(_, known)| *known == text).map_or(Self::Other, |(kind, _)| *kind)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputName<'a> {
    pub kind: InputKind,
    pub word: &'a str,
    /// What it is of that kind; empty where there is no more to say.
    pub bare: &'a str,
}

impl<'a> InputName<'a> {
    pub fn of(name: &'a str) -> Self {
        let (word, bare) = name.split_once(' ').unwrap_or((name, ""));
        Self { kind: InputKind::of(word), word, bare }
    }

    /// What it is of its kind; the whole name where that is all.
    pub fn bare_or_all(self) -> &'a str {
        if self.bare.is_empty() { self.word } else { self.bare }
    }

    pub fn package(self) -> Option<(&'a str, &'a str)> {
        if self.kind != InputKind::Package {
            return None;
        }
        Some(self.bare.split_once(':').unwrap_or((self.bare, "")))
    }

    pub fn file(self) -> Option<&'a str> {
        (self.kind == InputKind::File).then_some(self.bare)
    }

    pub fn parameter(self) -> Option<&'a str> {
        (self.kind == InputKind::Parameter).then_some(self.bare)
    }

    /// Whether it is an output of another action.
    pub fn is_of_above(self) -> bool {
        matches!(self.kind, InputKind::Layer | InputKind::Value)
    }

    /// The action whose output it is, and the output: `layer` or `value NAME`.
    pub fn output(self) -> Option<(&'a str, String)> {
        match self.kind {
            InputKind::Layer => Some((self.bare, "layer".to_owned())),
            InputKind::Value => self.bare.rsplit_once(' ').map(|(value, action)| (action, format!("value {value}"))),
            _ => None,
        }
    }

    /// List and number of an item of a setting: `parameter argument 2`.
    pub fn numbered(self) -> Option<(&'a str, usize)> {
        let (list, number) = self.bare.rsplit_once(' ').filter(|_| self.kind == InputKind::Parameter)?;
        Some((list, number.parse().ok()?))
    }
}

impl fmt::Display for InputName<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bare {
            "" => formatter.write_str(self.word),
            bare => write!(formatter, "{} {bare}", self.word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_by_their_kind() {
        assert_eq!(InputName::of("package libc6:amd64").package(), Some(("libc6", "amd64")));
        assert_eq!(InputName::of("file a b").file(), Some("a b"));
        assert_eq!(InputName::of("layer rootfs/sync").output(), Some(("rootfs/sync", "layer".to_owned())));
        let value = InputName::of("value release kernel/payload");
        assert_eq!(value.output(), Some(("kernel/payload", "value release".to_owned())));
        assert_eq!(InputName::of("parameter argument 2").numbered(), Some(("argument", 2)));
        assert_eq!(InputName::of("parameter level").numbered(), None);
        assert_eq!(InputName::of("action").bare_or_all(), "action");
        assert_eq!(InputName::of("packages x").kind, InputKind::Other);
        let kinds: std::collections::BTreeSet<InputKind> = InputKind::TEXTS.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds.len(), InputKind::TEXTS.len());
    }

    proptest::proptest! {
        #[test]
        fn each_name_is_what_it_was_read_from(name in "[a-z-]{1,8}( [ -~]{1,20})?") {
            proptest::prop_assert_eq!(InputName::of(&name).to_string(), name);
        }
    }
}
