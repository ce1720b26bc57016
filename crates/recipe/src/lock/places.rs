//! Where things stand in a lock's text, by the spans of TOML's own reader.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

#[derive(Debug, Clone, Copy)]
pub enum LockItem<'a> {
    Epoch,
    User(&'a str),
    Group(&'a str),
    Release(&'a str),
    Package {
        pass: &'a str,
        name: &'a str,
    },
    /// The same for a package whose name begins so.
    PackageLike {
        pass: &'a str,
        start: &'a str,
    },
}

pub struct LockPlaces<'a> {
    text: &'a str,
    table: Option<DeTable<'a>>,
}

fn items<'t, 'a>(table: &'t DeTable<'a>, key: &str) -> impl Iterator<Item = (&'t DeTable<'a>, usize)> {
    let list = table.get(key).and_then(|value| value.get_ref().as_array());
    list.into_iter().flat_map(|list| list.iter()).filter_map(|item: &Spanned<DeValue<'a>>| {
        let table = item.get_ref().as_table()?;
        Some((table, item.span().start))
    })
}

fn name<'t>(table: &'t DeTable<'_>) -> &'t str {
    table.get("name").and_then(|value| value.get_ref().as_str()).unwrap_or_default()
}

impl<'a> LockPlaces<'a> {
    /// Reads a text; of one that is not TOML no place is known.
    pub fn of(text: &'a str) -> Self {
        Self { text, table: DeTable::parse(text).ok().map(Spanned::into_inner) }
    }

    pub fn offset(&self, item: LockItem<'_>) -> Option<usize> {
        let table = self.table.as_ref()?;
        let named = |list: &str, wanted: &str| items(table, list).find(|(one, _)| name(one) == wanted).map(|one| one.1);
        let package = |pass: &str, is: &dyn Fn(&str) -> bool| {
            let of = |is_pass: &dyn Fn(&str) -> bool| {
                let passes = items(table, "pass").filter(|(one, _)| is_pass(name(one)));
                let mut all = passes.flat_map(|(one, _)| items(one, "packages").collect::<Vec<_>>());
                all.find(|(one, _)| is(name(one))).map(|one| one.1)
            };
            of(&|one| one == pass).or_else(|| of(&|_| true))
        };
        match item {
            LockItem::Epoch => table.get_key_value("epoch").map(|(key, _)| key.span().start),
            LockItem::User(wanted) => named("users", wanted),
            LockItem::Group(wanted) => named("groups", wanted),
            LockItem::Release(wanted) => items(table, "pass")
                .filter_map(|(one, _)| one.get("kernel_releases")?.get_ref().as_array())
                .flat_map(|list| list.iter())
                .find(|one| one.get_ref().as_str() == Some(wanted))
                .map(|one| one.span().start),
            LockItem::Package { pass, name } => package(pass, &|one| one == name),
            LockItem::PackageLike { pass, start } => package(pass, &|one| one.starts_with(start)),
        }
    }

    /// The line on which an item stands, from 1.
    pub fn line(&self, item: LockItem<'_>) -> Option<usize> {
        let at = self.offset(item)?;
        Some(1 + self.text.get(..at)?.matches('\n').count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_found_however_the_text_is_laid_out() {
        let text = "format = 1\nepoch = 2\nusers = [{ name = \"a\", uid = 1 },\n  { uid = 2, name = \"b\" }]\ngroups = [\n  { name = \"a\" }]\n\
                    [[pass]]\nname = \"tools\"\npackages = [\n  { name = \"x\", version = \"1\" },\n]\n\
                    [[pass]]\nname = \"base\"\npackages = [\n  # x\n  { version = \"2\", name = \"x\" },\n  { name = \"linux-image-6\" }]\n";
        let places = LockPlaces::of(text);
        for (item, line) in [
            (LockItem::Epoch, Some(2)),
            (LockItem::User("b"), Some(4)),
            (LockItem::Group("a"), Some(6)),
            (LockItem::Group("b"), None),
            (LockItem::Package { pass: "base", name: "x" }, Some(16)),
            (LockItem::Package { pass: "other", name: "x" }, Some(10)),
            (LockItem::PackageLike { pass: "kernel", start: "linux-image-" }, Some(17)),
            (LockItem::Package { pass: "base", name: "y" }, None),
        ] {
            assert_eq!(places.line(item), line, "{item:?}");
        }
        assert!(LockPlaces::of("[").line(LockItem::Epoch).is_none());
    }
}
