//! Tables as `tabdump` writes and `tabrestore` reads them (section 1.2).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{LINUXIMAGE_COLUMNS, OSIMAGE_COLUMNS};
use base::source::{Finding, SourceFile, Span};

/// Which table of xCAT's a header belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TableKind {
    Osimage,
    Linuximage,
    Litefile,
    Litetree,
    Statelite,
    Site,
    Postscripts,
    Passwd,
    /// One that says nothing of images.
    Other,
}

impl TableKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Osimage => "osimage",
            Self::Linuximage => "linuximage",
            Self::Litefile => "litefile",
            Self::Litetree => "litetree",
            Self::Statelite => "statelite",
            Self::Site => "site",
            Self::Postscripts => "postscripts",
            Self::Passwd => "passwd",
            Self::Other => "other",
        }
    }

    /// The table that has these columns; by columns that no other has, as older releases of xCAT have fewer.
    fn of(columns: &[&str]) -> Self {
        let has = |all: &[&str]| all.iter().all(|name| columns.contains(name));
        match () {
            () if has(&["imagename", "provmethod"]) || has(&["imagename", "imagetype"]) => Self::Osimage,
            () if has(&["imagename", "rootimgdir"]) || has(&["imagename", "pkglist"]) => Self::Linuximage,
            () if has(&["image", "file", "options"]) => Self::Litefile,
            () if has(&["image", "priority", "directory"]) => Self::Litetree,
            () if has(&["image", "node", "statemnt"]) => Self::Statelite,
            () if has(&["node", "postscripts"]) => Self::Postscripts,
            () if has(&["key", "username", "password"]) => Self::Passwd,
            () if has(&["key", "value"]) && !has(&["username"]) => Self::Site,
            () => Self::Other,
        }
    }

    /// The columns that are known of it; none where any will do.
    fn columns(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Osimage => Some(&OSIMAGE_COLUMNS),
            Self::Linuximage => Some(&LINUXIMAGE_COLUMNS),
            _ => None,
        }
    }
}

/// One row: its values by column, empty ones left out, and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub values: BTreeMap<String, String>,
    pub span: Option<Span>,
}

impl Row {
    pub fn get(&self, column: &str) -> Option<&str> {
        self.values.get(column).map(String::as_str)
    }

    pub fn is_disabled(&self) -> bool {
        matches!(self.get("disable"), Some("yes" | "1"))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub kind: TableKind,
    /// Its rows, in order.
    pub rows: Vec<Row>,
}

/// One field of a line, and whether the line ends behind it.
struct Field {
    text: String,
    next: usize,
    is_last: bool,
}

/// Reads a field that begins at an offset.
fn field(text: &str, at: usize) -> Result<Field, &'static str> {
    let rest = &text[at..];
    let ended = |value: String, mut next: usize| {
        let behind = text[next..].strip_prefix('\r').map_or(&text[next..], |behind| {
            next += 1;
            behind
        });
        match behind.bytes().next() {
            None => Ok(Field { text: value, next, is_last: true }),
            Some(b'\n') => Ok(Field { text: value, next: next + 1, is_last: true }),
            Some(b',') => Ok(Field { text: value, next: next + 1, is_last: false }),
            Some(_) => Err("text after a closing quote: a quote in a value is written twice"),
        }
    };
    if !rest.starts_with('"') {
        let end = rest.find([',', '\n']).unwrap_or(rest.len());
        let value = rest[..end].trim_end_matches('\r');
        return ended(value.trim().to_owned(), at + value.len());
    }
    let mut value = String::new();
    let mut from = at + 1;
    loop {
        let Some(quote) = text[from..].find('"') else { return Err("a quote that is not closed") };
        value.push_str(&text[from..from + quote]);
        from += quote + 1;
        if text[from..].starts_with('"') {
            value.push('"');
            from += 1;
            continue;
        }
        return ended(value, from);
    }
}

/// Columns that earlier releases of xCAT did not have, the newer ones first.
const LATER: [&str; 2] = ["nfsrootopts", "environvar"];

/// The columns of a row of `osimage` without its header, by their number: where the values are such as these columns have.
fn headless(text: &str, mut at: usize) -> Option<Vec<String>> {
    let mut values = Vec::new();
    loop {
        let one = field(text, at).ok()?;
        at = one.next;
        values.push(one.text);
        if one.is_last {
            break;
        }
    }
    let lacks = OSIMAGE_COLUMNS.len().checked_sub(values.len())?;
    let later = LATER.get(..lacks)?;
    let columns: Vec<&str> = OSIMAGE_COLUMNS.into_iter().filter(|name| !later.contains(name)).collect();
    let value = |name: &str| columns.iter().position(|column| *column == name).map_or("", |at| values[at].as_str());
    let is_one_of = |name: &str, known: &[&str]| known.contains(&value(name));
    let is_osimage = !value("imagename").is_empty()
        && is_one_of("imagetype", &["linux", "AIX", "windows", "NX"])
        && is_one_of("provmethod", &["install", "netboot", "statelite", "sysclone", "raw", "nim", "boottarget", ""])
        && is_one_of("osname", &["Linux", "AIX", "Windows", ""]);
    is_osimage.then(|| columns.into_iter().map(str::to_owned).collect())
}

/// Reads the tables of a text: each begins with a line of columns, `#imagename,groups,...`.
pub fn parse_tables(file: &Arc<SourceFile>) -> (Vec<Table>, Vec<Finding>) {
    let text = file.text.as_str();
    let mut tables: Vec<(Table, Vec<String>)> = Vec::new();
    let mut findings = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let line_end = text[at..].find('\n').map_or(text.len(), |end| at + end);
        let line = text[at..line_end].trim_end_matches('\r');
        let span = Span::new(file, at..at + line.len());
        if line.trim().is_empty() {
            at = line_end + 1;
            continue;
        }
        if let Some(header) = line.strip_prefix('#') {
            at = line_end + 1;
            // A comment of a person has blanks in it, a row that someone put out has quotes.
            if (header.contains(' ') && !header.contains(',')) || header.contains('"') {
                continue;
            }
            let columns: Vec<String> = header.split(',').map(|name| name.trim().to_owned()).collect();
            let names: Vec<&str> = columns.iter().map(String::as_str).collect();
            let kind = TableKind::of(&names);
            let wrong = kind.columns().and_then(|known| {
                names.iter().find(|name| !known.contains(name) && **name != "disable").map(|name| (*name, known))
            });
            if let Some((name, known)) = wrong {
                let near = base::source::nearest(name, known.iter().copied());
                let near = near.first().map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                findings.push(
                    Finding::error("csv::column", &span, format!("table {} has no column `{name}`", kind.name()))
                        .label("tabrestore would refuse it")
                        .help(format!("the first line names the table's columns{near}")),
                );
            }
            tables.push((Table { kind, rows: Vec::new() }, columns));
            continue;
        }
        if tables.is_empty()
            && let Some(columns) = headless(text, at)
        {
            findings.push(
                Finding::warning("csv::header", &span, "this table has no header line")
                    .label(format!(
                        "taken as a row of osimage with the {} columns of its release of xCAT",
                        columns.len()
                    ))
                    .help("`tabdump osimage` prints that line first: pass all of its output"),
            );
            tables.push((Table { kind: TableKind::Osimage, rows: Vec::new() }, columns));
        }
        let Some((table, columns)) = tables.last_mut() else {
            findings.push(
                Finding::error("csv::header", &span, "a table starts with its header line")
                    .label("this is a row")
                    .help("put the header line that tabdump writes before it, for instance `#imagename,groups,...`"),
            );
            return (Vec::new(), findings);
        };
        let mut values = BTreeMap::new();
        let mut count = 0;
        let problem = loop {
            match field(text, at) {
                Ok(one) => {
                    at = one.next;
                    if let Some(column) = columns.get(count)
                        && !one.text.is_empty()
                    {
                        values.insert(column.clone(), one.text);
                    }
                    count += 1;
                    if one.is_last {
                        break None;
                    }
                }
                Err(problem) => break Some(problem),
            }
        };
        if let Some(problem) = problem {
            findings.push(
                Finding::error("csv::quote", &span, problem)
                    .label("in the row that begins here")
                    .help("write values in double quotes, a quote in one twice, and separate them by commas"),
            );
            break;
        }
        if count > columns.len() {
            findings.push(
                Finding::error(
                    "csv::fields",
                    &span,
                    format!("the row has {count} fields, the table {} columns", columns.len()),
                )
                .label("tabrestore would refuse it"),
            );
        }
        table.rows.push(Row { values, span: Some(span) });
    }
    (tables.into_iter().map(|(table, _)| table).collect(), findings)
}

/// A table as `tabdump` writes it; rows have values by column.
pub fn write_rows<'a>(columns: &[&str], rows: impl Iterator<Item = &'a BTreeMap<String, String>>) -> String {
    let mut text = format!("#{}\n", columns.join(","));
    for row in rows {
        let fields: Vec<String> = columns
            .iter()
            .map(|column| match row.get(*column) {
                Some(value) if !value.is_empty() => format!("\"{}\"", value.replace('"', "\"\"")),
                _ => String::new(),
            })
            .collect();
        text.push_str(&format!("{}\n", fields.join(",")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<Table>, Vec<String>) {
        let (tables, findings) = parse_tables(&SourceFile::new("t", "/t", text));
        let messages =
            findings.into_iter().map(|one| format!("{}: {}", one.span.unwrap().line(), one.message)).collect();
        (tables, messages)
    }

    #[test]
    fn quotes_lines_and_missing_fields() {
        let header = format!("#{}\n", OSIMAGE_COLUMNS.join(","));
        let (tables, messages) =
            read(&format!("{header}\"i\",,\"compute\",\"linux\",\"a \"\"b\"\" c\nd\",bare\n\n\"j\"\r\n"));
        assert!(messages.is_empty(), "{messages:?}");
        let rows = &tables[0].rows;
        assert_eq!((tables[0].kind, rows.len()), (TableKind::Osimage, 2));
        assert_eq!((rows[0].get("description"), rows[0].get("provmethod")), (Some("a \"b\" c\nd"), Some("bare")));
        assert_eq!((rows[0].get("groups"), rows[1].get("imagename")), (None, Some("j")));
        let (tables, _) = read("#image,file,options,comments,disable\n\"ALL\",\"/etc/ssh/\",\"\",,\n");
        assert_eq!((tables[0].kind, tables[0].rows[0].get("options")), (TableKind::Litefile, None));
    }

    #[test]
    fn what_tabrestore_would_refuse_is_told_with_its_line() {
        assert_eq!(read("\"i\",\n").1, ["1: a table starts with its header line"]);
        assert_eq!(read("#imagename,imagetype,profil\n\"i\"\n").1, ["1: table osimage has no column `profil`"]);
        assert_eq!(read("#key,value\n\"a\",\"b\",\"c\"\n").1, ["2: the row has 3 fields, the table 2 columns"]);
        assert_eq!(read("#key,value\n\"a\",\"b\n").1, ["2: a quote that is not closed"]);
        assert!(read("#key,value\n\"a\"x,\"b\"\n").1[0].contains("closing quote"));
    }

    #[test]
    fn rows_of_osimage_without_their_header_are_known_by_their_values() {
        // As documents of xCAT 2.8 show them, and as later releases print them.
        for (row, columns) in [
            (
                "\"i\",,\"compute\",\"linux\",,\"netboot\",,\"rhels7.1-x86_64\",,,\"Linux\",\"rhels7.1\",\"x86_64\",,,,,,,,\n",
                21,
            ),
            (
                "\"i\",,\"compute\",\"linux\",,\"netboot\",,\"rhels7.1-x86_64\",,,\"Linux\",\"rhels7.1\",\"x86_64\",,,,,,,,,\n",
                22,
            ),
            (
                "\"i\",,\"compute\",\"linux\",,\"netboot\",,,\"rhels7.1-x86_64\",,,\"Linux\",\"rhels7.1\",\"x86_64\",,,,,,,,,\n",
                23,
            ),
        ] {
            let (tables, messages) = read(&format!("{row}{}", row.replace("\"i\"", "\"j\"")));
            assert_eq!(messages, ["1: this table has no header line"]);
            let rows = &tables[0].rows;
            let get = |name: &str| rows[1].get(name).unwrap();
            assert_eq!(row.matches(',').count() + 1, columns);
            assert_eq!((rows.len(), get("imagename"), get("osvers"), get("osarch")), (2, "j", "rhels7.1", "x86_64"));
            assert_eq!(get("osdistroname"), "rhels7.1-x86_64");
        }
        // Another table's, or moved by a column.
        let moved = "\"i\",\"compute\",\"linux\",,\"netboot\",,\"rhels7.1-x86_64\",,,\"Linux\",\"rhels7.1\",\"x86_64\",,,,,,,,,\n";
        for row in [moved, "\"i\",,,\n", "\"a\",\"b\"\n"] {
            assert_eq!(read(row).1, ["1: a table starts with its header line"], "{row}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_again(values in proptest::collection::vec("[ -~\\n]{0,12}", 23)) {
            let row: BTreeMap<String, String> = OSIMAGE_COLUMNS.iter().map(|name| (*name).to_owned())
                .zip(values).filter(|(_, value)| !value.is_empty()).collect();
            let text = write_rows(&OSIMAGE_COLUMNS, std::iter::once(&row));
            let (tables, messages) = read(&text);
            if !row.is_empty() {
                proptest::prop_assert!(messages.is_empty(), "{:?}", messages);
                proptest::prop_assert_eq!(&tables[0].rows[0].values, &row);
            }
        }

        #[test]
        fn no_text_panics(text in "([a-z,\"#\\n\\r]|é|#imagename,imagetype\\n){0,60}") {
            read(&text);
        }
    }
}
