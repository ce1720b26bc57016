//! One osimage is a row of `osimage` and one of `linuximage`; stanzas have both in one.

use std::collections::BTreeMap;

use super::{Gathered, Site};
use base::source::{Finding, Severity};
use xcat::definitions::{Attribute, Definition, ObjectKind, Row, TableKind, is_plain_path};

pub(super) fn join(gathered: Gathered) -> Site {
    let Gathered { stanzas, tables, mut places, findings } = gathered;
    let mut site = Site { findings, ..Site::default() };
    let mut rows: BTreeMap<String, Definition> = BTreeMap::new();
    for table in &tables {
        for row in table.rows.iter().filter(|row| !row.is_disabled()) {
            match table.kind {
                TableKind::Osimage | TableKind::Linuximage => add_row(&mut rows, table.kind, row),
                TableKind::Litefile | TableKind::Litetree | TableKind::Statelite => {
                    let image = row.get("image").unwrap_or_default().to_owned();
                    places.statelite.entry(table.kind.name()).or_default().push(image);
                    site.statelite.entry(table.kind.name()).or_default().push(row.clone());
                }
                TableKind::Site => match (row.get("key"), row.get("value")) {
                    (Some("installdir"), Some(value)) if is_plain_path(value.trim_end_matches('/')) => {
                        value.trim_end_matches('/').clone_into(&mut places.installdir);
                    }
                    (Some("timezone"), Some(value)) => places.timezone = Some(value.to_owned()),
                    _ => {}
                },
                TableKind::Passwd if (row.get("key"), row.get("username")) == (Some("system"), Some("root")) => {
                    // A password in clear text stays where it is.
                    let hash = row.get("password").filter(|text| is_hash(text));
                    places.root_hash = hash.map(str::to_owned).or(places.root_hash.take());
                }
                TableKind::Passwd => {}
                TableKind::Postscripts => site.postscripts.push(row.clone()),
                TableKind::Other => *site.passed_over.entry("rows of other tables".to_owned()).or_default() += 1,
            }
        }
    }
    let has = |kind: TableKind| tables.iter().any(|table| table.kind == kind);
    site.is_whole = has(TableKind::Osimage);
    for (kind, other) in [(TableKind::Osimage, TableKind::Linuximage), (TableKind::Linuximage, TableKind::Osimage)] {
        if has(kind) && !has(other) {
            // What an image is, the first says; which files it is made of, the second: profiles have default ones.
            site.lacks_linuximage = kind == TableKind::Osimage;
            let severity = if site.lacks_linuximage { Severity::Warning } else { Severity::Error };
            let message = format!("the table {} is present, but {} is missing", kind.name(), other.name());
            let more = if site.lacks_linuximage {
                "; without it, lists are those that xCAT finds for the profile"
            } else {
                ""
            };
            let help = format!(
                "an osimage has a row in each: pass the output of `tabdump {}` too, or its database{more}",
                other.name()
            );
            site.findings.push(Finding::nowhere(severity, "import::half", message).help(help));
        }
    }
    for definition in rows.into_values() {
        put(&mut site, definition);
    }
    for definition in stanzas {
        match &definition.kind {
            ObjectKind::Osimage if matches!(definition.get("disable"), Some("yes" | "1")) => {}
            ObjectKind::Osimage => put(&mut site, definition),
            ObjectKind::Other(kind) => {
                let kind = if kind.is_empty() { "objects without a type" } else { kind };
                *site.passed_over.entry(kind.to_owned()).or_default() += 1;
            }
        }
    }
    site.places = places;
    site
}

/// Whether a text is what crypt(5) calls a hashed passphrase: `$ID$..` of characters that shadow(5) can hold.
fn is_hash(text: &str) -> bool {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    is_plain && text.len() < 384 && text.strip_prefix('$').is_some_and(|rest| rest.matches('$').count() >= 2)
}

fn add_row(rows: &mut BTreeMap<String, Definition>, kind: TableKind, row: &Row) {
    let Some(name) = row.get("imagename").map(str::trim).filter(|name| !name.is_empty()) else { return };
    let definition = rows.entry(name.to_owned()).or_insert_with(|| Definition::osimage(name));
    definition.span = definition.span.take().or_else(|| row.span.clone());
    for (column, value) in &row.values {
        let attribute = match (column.as_str(), kind) {
            ("imagename" | "disable", _) => continue,
            // Both tables have the column; lsdef shows the one of osimage.
            ("comments", TableKind::Linuximage) if definition.get("usercomment").is_some() => continue,
            ("comments", _) => "usercomment",
            (column, _) => column,
        };
        definition.set(attribute, value, row.span.clone());
    }
}

/// Adds an osimage; two sources may both have it if they agree.
fn put(site: &mut Site, definition: Definition) {
    let Some(first) = site.osimages.get(&definition.name) else {
        site.osimages.insert(definition.name.clone(), definition);
        return;
    };
    let plain = |one: &Definition| -> BTreeMap<String, String> {
        let pair = |(name, attribute): (&String, &Attribute)| (name.clone(), attribute.value.clone());
        one.attributes.iter().map(pair).filter(|(name, _)| name != "imagename").collect()
    };
    let (one, other) = (plain(first), plain(&definition));
    let Some(differing) = one.keys().chain(other.keys()).find(|name| one.get(*name) != other.get(*name)) else {
        return;
    };
    let message = format!("`{}` is defined twice, and `{differing}` differs", definition.name);
    let finding = match &definition.span {
        Some(span) => Finding::error("import::twice", span, message),
        None => Finding::nowhere(Severity::Error, "import::twice", message),
    };
    let first = first.span.as_ref().map_or_else(|| "in a database".to_owned(), ToString::to_string);
    site.findings.push(finding.help(format!("the other definition is {first}: give only the newer one")));
}
