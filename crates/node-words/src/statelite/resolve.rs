//! From entries to actions, in their order.

use super::list::Entry;
use super::paths::{holds, plain};
use super::rules::MTAB;
use super::way::Way;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// The root that the node is to run.
    Root,
    /// The image, as it was before anything was done.
    Image,
    Memory,
    State,
    Disk,
    Tree(usize),
}

/// A path of an area; absolute there, without a slash at its end; empty for all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub area: Area,
    pub path: String,
}

impl Place {
    pub fn new(area: Area, path: &str) -> Self {
        Self { area, path: plain(path).to_owned() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Nothing,
    /// A file, a link, a device.
    File,
    /// A directory without entries.
    EmptyFolder,
    /// A directory with entries.
    Folder,
}

pub trait View {
    fn look(&self, place: &Place) -> Seen;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Copies a file or a tree: what is there already and is not in it stays.
    Copy { from: Place, to: Place },
    /// Writes files one behind the other, mode 0644.
    Concatenate {
        /// Which, in order.
        from: Vec<Place>,
        to: Place,
    },
    /// Mounts a file or a directory over another.
    Bind { from: Place, on: Place, read_only: bool },
    /// Joins directories; what is written lies in the upper one.
    Overlay {
        /// The directories below, the first one first.
        lowers: Vec<Place>,
        upper: Place,
        on: Place,
    },
    /// Makes a link in memory.
    Link { at: Place, to: Place },
    /// Makes the link to what the kernel says is mounted.
    Mounts(Place),
    /// Puts a link into the root that leads to the same path in memory.
    Redirect(String),
    /// Nothing has this path: a line on the console.
    Missing(String),
}

struct Resolver<'a> {
    entries: &'a [Entry],
    trees: usize,
    view: &'a dyn View,
    actions: Vec<Action>,
    /// What was copied to an area that keeps it.
    brought: Vec<(Place, Place)>,
}

/// Resolves entries without conflicts: those that lie below no other one first, then what is below them, each in the order of
/// paths; links of the root are made last.
pub fn resolve(entries: &[Entry], trees: usize, view: &dyn View) -> Vec<Action> {
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    let mut resolver = Resolver { entries, trees, view, actions: Vec::new(), brought: Vec::new() };
    let folder = |entry: &Entry| {
        let above = entries.iter().filter(|folder| holds(&folder.path, &entry.path));
        above.max_by_key(|folder| folder.path.len())
    };
    for entry in sorted.iter().filter(|entry| folder(entry).is_none()) {
        resolver.entry(entry, None);
    }
    for entry in &sorted {
        if let Some(above) = folder(entry) {
            resolver.entry(entry, Some(above.way));
        }
    }
    let (last, first): (Vec<Action>, Vec<Action>) =
        resolver.actions.into_iter().partition(|action| matches!(action, Action::Redirect(_)));
    first.into_iter().chain(last).collect()
}

impl Resolver<'_> {
    /// What lies at a place, once what was brought there is.
    fn seen(&self, place: &Place) -> Seen {
        match self.view.look(place) {
            Seen::Nothing => {}
            seen => return seen,
        }
        let from = self.brought.iter().rev().find_map(|(to, from)| {
            let rest = place.path.strip_prefix(&to.path).filter(|_| to.area == place.area)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| Place::new(from.area, &format!("{}{rest}", from.path)))
        });
        from.map_or(Seen::Nothing, |from| self.view.look(&from))
    }

    /// Whether a tree has a path. An empty directory does not count.
    fn has(&self, tree: usize, path: &str) -> bool {
        matches!(self.view.look(&Place::new(Area::Tree(tree), path)), Seen::File | Seen::Folder)
    }

    fn in_trees(&self, path: &str) -> Vec<Place> {
        let trees = (0..self.trees).filter(|tree| self.has(*tree, path));
        trees.map(|tree| Place::new(Area::Tree(tree), path)).collect()
    }

    fn in_image(&self, path: &str) -> Option<Place> {
        let place = Place::new(Area::Image, path);
        (self.view.look(&place) != Seen::Nothing).then_some(place)
    }

    /// Where a path comes from: the first tree that has it, else the image. A tree's directory with something that has an entry of
    /// its own directly below is passed over.
    fn source(&self, path: &str) -> Option<Place> {
        let is_next = |child: &&Entry| holds(path, &child.path) && !plain(&child.path)[path.len()..].contains('/');
        let next: Vec<&Entry> = self.entries.iter().filter(is_next).collect();
        let usable = |tree: &usize| {
            self.has(*tree, path)
                && next.iter().all(|child| self.view.look(&Place::new(Area::Tree(*tree), &child.path)) == Seen::Nothing)
        };
        let tree = (0..self.trees).find(usable);
        tree.map(|tree| Place::new(Area::Tree(tree), path)).or_else(|| self.in_image(path))
    }

    fn copy(&mut self, path: &str, to: &Place) -> bool {
        match self.source(path) {
            Some(from) => {
                self.actions.push(Action::Copy { from, to: to.clone() });
                true
            }
            None => {
                self.actions.push(Action::Missing(path.to_owned()));
                false
            }
        }
    }

    /// Copies to an area that keeps it, unless it is there already.
    fn keep(&mut self, path: &str, to: &Place) -> bool {
        if self.seen(to) != Seen::Nothing {
            return true;
        }
        let source = self.source(path);
        let kept = self.copy(path, to);
        if let Some(from) = source {
            self.brought.push((to.clone(), from));
        }
        kept
    }

    fn bind(&mut self, from: Place, on: Place, read_only: bool) {
        self.actions.push(Action::Bind { from, on, read_only });
    }

    fn entry(&mut self, entry: &Entry, above: Option<Way>) {
        let path = entry.path.as_str();
        let at = |area: Area| Place::new(area, path);
        let (memory, root) = (at(Area::Memory), at(Area::Root));
        if path == MTAB {
            self.actions.push(Action::Mounts(memory));
            // What is above it in memory shows it already.
            if !matches!(above, Some(Way::Tmpfs | Way::Link)) {
                self.actions.push(Action::Redirect(path.to_owned()));
            }
            return;
        }
        // What lies above it in memory is mounted, and shows what comes into it.
        let is_shown = matches!(above, Some(Way::Tmpfs));
        match entry.way {
            Way::Tmpfs => {
                if self.copy(path, &memory) && !is_shown {
                    self.bind(memory, root, false);
                }
            }
            Way::Link => {
                if self.copy(path, &memory) && above.is_none() {
                    self.actions.push(Action::Redirect(path.to_owned()));
                }
            }
            Way::Persistent | Way::Localdisk => {
                let kept = at(if entry.way == Way::Persistent { Area::State } else { Area::Disk });
                if self.keep(path, &kept) {
                    self.bind(kept, root, false);
                }
            }
            Way::LinkPersistent => {
                let kept = at(Area::State);
                if !self.keep(path, &kept) {
                    return;
                }
                match above {
                    None => {
                        self.actions.push(Action::Link { at: memory, to: kept });
                        self.actions.push(Action::Redirect(path.to_owned()));
                    }
                    // The folder's link leads into the state already.
                    Some(Way::LinkPersistent) => {}
                    Some(_) => self.bind(kept, memory, false),
                }
            }
            Way::Ro => match self.source(path) {
                Some(from) => self.bind(from, root, true),
                None => self.actions.push(Action::Missing(path.to_owned())),
            },
            Way::LinkRo => match self.source(path) {
                // The image's own is there.
                Some(Place { area: Area::Image, .. }) => {}
                Some(to) if above.is_none() => {
                    self.actions.push(Action::Link { at: memory, to });
                    self.actions.push(Action::Redirect(path.to_owned()));
                }
                Some(_) => {}
                None => self.actions.push(Action::Missing(path.to_owned())),
            },
            Way::Con | Way::LinkCon => self.concatenated(entry.way, path, above),
            Way::Overlay | Way::OverlayPersistent | Way::OverlayLocaldisk => {
                let mut lowers = self.in_trees(path);
                lowers.extend(self.in_image(path));
                if lowers.is_empty() {
                    self.actions.push(Action::Missing(path.to_owned()));
                    return;
                }
                let upper = at(match entry.way {
                    Way::OverlayPersistent => Area::State,
                    Way::OverlayLocaldisk => Area::Disk,
                    _ => Area::Memory,
                });
                self.actions.push(Action::Overlay { lowers, upper, on: root });
            }
        }
    }

    fn concatenated(&mut self, way: Way, path: &str, above: Option<Way>) {
        let (memory, root) = (Place::new(Area::Memory, path), Place::new(Area::Root, path));
        let of_trees = self.in_trees(path);
        let is_of_trees = !of_trees.is_empty();
        let from = if is_of_trees { of_trees } else { Vec::from_iter(self.in_image(path)) };
        if from.is_empty() {
            self.actions.push(Action::Missing(path.to_owned()));
            return;
        }
        self.actions.push(Action::Concatenate { from, to: memory.clone() });
        match way {
            Way::LinkCon if above.is_none() => self.actions.push(Action::Redirect(path.to_owned())),
            // The image's own is there already.
            Way::Con if is_of_trees && above != Some(Way::Tmpfs) => self.bind(memory, root, false),
            _ => {}
        }
    }
}
