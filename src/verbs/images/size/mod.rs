//! `imgbuild size`: where the bytes of the packed image are.

mod excluded;
mod html;
mod lazy;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::Exit;
use crate::output::harmless::one_line;
use crate::output::render;
use crate::published::{Place, places};
use crate::setup::{Setup, chosen_to_look, published_image, store_directory};
use base::digest::Digest;
use build::{SizedFile, lists_files, package_owners, published, sized_tree, sizes};
use recipe::Recipe;
use store::Store;

/// Arguments of `size`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Images, by name or glob [default: the recipe in the current directory, or all in the workspace]; with a
    /// slash in it: any directory or archive (cpio, tar)
    #[arg(value_name = "IMAGE|PATH")]
    pub images: Vec<String>,
    /// How to group files
    #[arg(long, value_name = "WHAT", default_value = "directory")]
    pub by: By,
    /// Print JSON: all rows, nothing folded
    #[arg(long, conflicts_with = "html")]
    pub json: bool,
    /// Print one page for a browser, with a treemap
    #[arg(long)]
    pub html: bool,
    /// Show what each line of the recipe's current exclude list removes from the last build's tree
    #[arg(long, conflicts_with_all = ["by", "html"])]
    pub excluded: bool,
    /// Where artefacts are [default: `out` next to the recipe]
    #[arg(long, value_name = "DIR")]
    pub out: Option<std::path::PathBuf>,
}

/// How files are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// By package
    Package,
    /// By directory
    Directory,
    /// By file extension
    Extension,
}

impl By {
    fn name(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::Directory => "directory",
            Self::Extension => "extension",
        }
    }
}

/// What no package brought.
const NO_PACKAGE: &str = "(no package)";
/// What has no ending.
const NO_EXTENSION: &str = "(none)";

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Row {
    pub name: String,
    pub files: usize,
    /// Bytes before compression.
    pub raw: u64,
    /// Share of the compressed bytes.
    pub packed: u64,
}

/// One image's files with what they are put together by, part by part.
pub(crate) struct Sized {
    pub image: String,
    pub by: By,
    /// Path of each file in the treemap, and the file.
    pub files: Vec<(Vec<String>, SizedFile)>,
    /// What it means that nodes read their root over the network, if they do.
    pub lazy: Option<lazy::LazyRoot>,
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Exit {
    if own.excluded {
        return preview(arguments, own).unwrap_or_else(|exit| exit);
    }
    match sized(arguments, own) {
        Ok(all) => {
            if own.json {
                render::print_json(&json(&all));
                return Exit::Done;
            }
            render::print(&if own.html {
                html::page(&all)
            } else {
                all.iter().map(|one| text(one, arguments.verbose)).collect::<Vec<_>>().join("\n")
            });
            Exit::Done
        }
        Err(exit) => exit,
    }
}

/// Shows what the exclude list takes away.
fn preview(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    let recipes = chosen_to_look(arguments, &own.images)?;
    let store = Store::existing(&store_directory(arguments)?);
    let mut all = Vec::new();
    for recipe in &recipes {
        let name = &recipe.model.image.name;
        let layers = layers(own, recipe).ok_or_else(|| not_built(name))?;
        let lines = build::excluded(recipe, &store, &layers).map_err(render::failed)?;
        all.push((name.clone(), lines));
    }
    if own.json {
        render::print_json(&excluded::json(&all));
    } else {
        let texts: Vec<String> = all.iter().map(|(name, lines)| excluded::text(name, lines)).collect();
        render::print(&texts.join("\n"));
    }
    Ok(Exit::Done)
}

fn layers(own: &Arguments, recipe: &Recipe) -> Option<Vec<Digest>> {
    let out = own.out.clone().unwrap_or_else(|| recipe.out.clone());
    let (_, info) = published(&out, &recipe.model.image.name)?;
    Some(info.layers.iter().filter_map(|(_, hex)| Digest::parse(hex).ok()).collect())
}

fn not_built(name: &str) -> Exit {
    render::say(&format!("error: `{name}` is not built here: run `imgbuild build` first"));
    Exit::Input
}

fn sized(arguments: &crate::Arguments, own: &Arguments) -> Result<Vec<Sized>, Exit> {
    // No image's name has a slash.
    let (paths, names): (Vec<&String>, Vec<&String>) =
        own.images.iter().partition(|text| text.contains('/') || *text == "." || *text == "..");
    if !paths.is_empty() && names.is_empty() {
        return paths.iter().map(|text| of_path(arguments, own, text)).collect();
    }
    if let Some(path) = paths.first() {
        render::say(&format!(
            "error: `{path}` is a path and cannot be combined with image names: ask for each separately"
        ));
        return Err(Exit::Usage);
    }
    let places = places(arguments, &own.images, true)?;
    let store = Store::existing(&store_directory(arguments)?);
    let one = |place: &Place| match &place.recipe {
        Some(recipe) => of_recipe(arguments, own, recipe, &store),
        None => of_published(arguments, own, &place.name, &place.out),
    };
    places.iter().map(one).collect()
}

/// An image by what is published of it alone.
fn of_published(arguments: &crate::Arguments, own: &Arguments, name: &str, out: &Path) -> Result<Sized, Exit> {
    let not_built = || not_built(name);
    let (directory, info) = published_image(own.out.as_deref().unwrap_or(out), name)?.ok_or_else(not_built)?;
    let packed = info.forms().first().map(|form| directory.join(form)).ok_or_else(not_built)?;
    let path = std::path::absolute(&packed).unwrap_or(packed);
    let lazy = lazy::of(&directory, &info);
    Ok(Sized { image: name.to_owned(), lazy, ..of_path(arguments, own, &path.to_string_lossy())? })
}

fn of_recipe(arguments: &crate::Arguments, own: &Arguments, recipe: &Recipe, store: &Store) -> Result<Sized, Exit> {
    let name = &recipe.model.image.name;
    let failed = render::failed::<build::StageError>;
    let not_built = || not_built(name);
    let root = store.root(&recipe.directory, name).filter(|root| !root.frames.is_empty()).ok_or_else(not_built)?;
    // Frames of a squashfs do not say where a file ends: the published file does.
    if !lists_files(store, &root) {
        return of_published(arguments, own, name, &recipe.out);
    }
    let files = sizes(store, &root).map_err(failed)?;
    let owners = if own.by == By::Package {
        let layers = layers(own, recipe).ok_or_else(not_built)?;
        let setup = Setup::open(arguments)?;
        package_owners(recipe, store, &setup.namespace, &root, &layers).map_err(failed)?
    } else {
        BTreeMap::new()
    };
    let files = files.into_iter().map(|file| (place(own.by, &file.path, &owners), file)).collect();
    let out = own.out.as_deref().unwrap_or(&recipe.out);
    let lazy = published(out, name).and_then(|(directory, info)| lazy::of(&directory, &info));
    Ok(Sized { image: name.clone(), by: own.by, files, lazy })
}

/// Any tree: a directory or an archive.
fn of_path(arguments: &crate::Arguments, own: &Arguments, text: &str) -> Result<Sized, Exit> {
    let tree = sized_tree(&arguments.directory.join(text)).map_err(|error| render::refused(Exit::Input, error))?;
    if own.by == By::Package && !tree.has_packages {
        render::say(&format!("note: `{text}` has no package database of dpkg or rpm"));
    }
    if !tree.is_packed {
        render::say(&format!("note: `{text}` is not packed: `packed` is what each file takes by itself with zstd -1"));
    }
    let files = tree.files.into_iter().map(|file| (place(own.by, &file.path, &tree.owners), file)).collect();
    Ok(Sized { image: text.to_owned(), by: own.by, files, lazy: None })
}

fn place(by: By, path: &str, owners: &BTreeMap<String, String>) -> Vec<String> {
    let parts: Vec<String> = path.split('/').map(str::to_owned).collect();
    let group = match by {
        By::Directory => return parts,
        By::Package => owners.get(path).map_or(NO_PACKAGE, String::as_str),
        By::Extension => extension(path),
    };
    vec![group.to_owned(), path.to_owned()]
}

/// The ending of a name: what follows the last dot, but for a dot in front. Versions of libraries are no endings.
fn extension(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    if name.split('.').skip(1).any(|part| part == "so") {
        return ".so";
    }
    match name.rfind('.') {
        Some(at)
            if at > 0
                && at + 1 < name.len()
                && name[at + 1..].bytes().any(|byte| byte.is_ascii_alphabetic())
                && name.len() - at <= 12 =>
        {
            &name[at..]
        }
        _ => NO_EXTENSION,
    }
}

impl Sized {
    /// Rows by so many parts of the place, largest first.
    fn rows(&self, parts: impl Fn(&[String]) -> String) -> Vec<Row> {
        let mut sums: BTreeMap<String, (usize, u64, f64)> = BTreeMap::new();
        for (place, file) in &self.files {
            let sum = sums.entry(parts(place)).or_default();
            *sum = (sum.0 + 1, sum.1 + file.raw, sum.2 + file.packed);
        }
        let mut rows: Vec<Row> = sums
            .into_iter()
            .map(|(name, (files, raw, packed))| Row { name, files, raw, packed: packed.round() as u64 })
            .collect();
        rows.sort_by(|a, b| b.packed.cmp(&a.packed).then_with(|| a.name.cmp(&b.name)));
        rows
    }

    fn total(&self) -> Row {
        let packed: f64 = self.files.iter().map(|(_, file)| file.packed).sum();
        let raw = self.files.iter().map(|(_, file)| file.raw).sum();
        Row { name: self.image.clone(), files: self.files.len(), raw, packed: packed.round() as u64 }
    }
}

fn json(all: &[Sized]) -> String {
    let image = |one: &Sized| {
        let rows = one.rows(|place| match (one.by, place) {
            (By::Directory, [folders @ .., _]) => format!("/{}", folders.join("/")),
            (_, [group, ..]) => group.clone(),
            _ => String::new(),
        });
        let total = one.total();
        let mut image = serde_json::json!({
            "name": one.image, "by": one.by.name(), "files": total.files, "raw": total.raw, "packed": total.packed, "rows": rows
        });
        if let (Some(lazy), Some(fields)) = (&one.lazy, image.as_object_mut()) {
            fields.insert("lazy_root".to_owned(), serde_json::json!(lazy));
        }
        image
    };
    let images: Vec<serde_json::Value> = all.iter().map(image).collect();
    format!("{:#}\n", serde_json::json!({"format_version": "1.0", "images": images}))
}

/// Rows that are shown before the rest is folded, and the share below which one is folded in any case.
const SHOWN: usize = 25;
const SMALL: f64 = 0.005;

fn text(one: &Sized, verbose: u8) -> String {
    let total = one.total();
    let rows = one.rows(|place| match (one.by, place) {
        (By::Directory, [only]) => format!("/{only}"),
        (By::Directory, [first, second, _, ..]) => format!("/{first}/{second}"),
        (By::Directory, [first, ..]) => format!("/{first}"),
        (_, [group, ..]) => group.clone(),
        _ => String::new(),
    });
    let mut text =
        format!("{}: {} packed, {} unpacked\n", one.image, render::bytes(total.packed), render::bytes(total.raw));
    text.extend(one.lazy.as_ref().map(lazy::LazyRoot::text));
    text.push_str(&format!("  {:>9} {:>9} {:>6}  {}\n", "packed", "unpacked", "share", one.by.name()));
    let share = |row: &Row| row.packed as f64 / (total.packed.max(1)) as f64;
    let line = |row: &Row, name: &str| {
        let share = format!("{:.1} %", share(row) * 100.0);
        let name = one_line(name);
        format!("  {:>9} {:>9} {share:>6}  {name}\n", render::bytes(row.packed), render::bytes(row.raw))
    };
    let mut rest = Row::default();
    let mut folded = 0;
    for (index, row) in rows.iter().enumerate() {
        if verbose > 0 || index < SHOWN && share(row) >= SMALL {
            text.push_str(&line(row, &row.name));
        } else {
            folded += 1;
            rest.packed += row.packed;
            rest.raw += row.raw;
        }
    }
    if folded > 0 {
        text.push_str(&line(&rest, &format!("{folded} others (-v shows all)")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_those_that_people_mean() {
        for (path, ending) in [
            ("usr/lib/libc.so.6", ".so"),
            ("usr/lib/libz.so.1.2.13", ".so"),
            ("lib/a.ko", ".ko"),
            ("etc/.bashrc", "(none)"),
            ("usr/bin/python3.11", "(none)"),
            ("a/x.tar.gz", ".gz"),
            ("a/name.", "(none)"),
            ("a.d/file", "(none)"),
            ("a/x.é", "(none)"),
        ] {
            assert_eq!(extension(path), ending, "{path}");
        }
    }

    #[test]
    fn small_rows_are_folded_and_nothing_is_lost() {
        let file = |path: &str, raw, packed| {
            (place(By::Directory, path, &BTreeMap::new()), SizedFile { path: path.to_owned(), raw, packed })
        };
        let mut files =
            vec![file("usr/lib/big", 1000, 600.4), file("usr/lib/b/c", 300, 300.0), file("etc/x", 100, 97.6)];
        files.push(file("small", 9, 2.0));
        let one = Sized { image: "i".to_owned(), by: By::Directory, files, lazy: None };
        insta::assert_snapshot!(text(&one, 0), @r"
        i: 1.0 kB packed, 1.4 kB unpacked
             packed  unpacked  share  directory
              900 B    1.3 kB 90.0 %  /usr/lib
               98 B     100 B  9.8 %  /etc
                2 B       9 B  0.2 %  1 others (-v shows all)
        ");
        let document: serde_json::Value = serde_json::from_str(&json(&[one])).unwrap();
        let rows = document["images"][0]["rows"].as_array().unwrap();
        let sum: u64 = rows.iter().map(|row| row["raw"].as_u64().unwrap()).sum();
        assert_eq!((rows.len(), sum), (4, 1409));
    }
}
