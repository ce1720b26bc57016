//! Databases of SQLite that others wrote, and rpm's among them, the form of RHEL 9 and Fedora. Source: rpm's
//! lib/backend/sqlite.c: the table `Packages`, a header in each row's `blob`; sqlite.org/security.html, "Untrusted SQLite Database Files".

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use files::sweep::Held;

/// Longest text or blob, in bytes.
const LONGEST_VALUE: i32 = 64 << 20;
/// Memory that SQLite may take, in bytes.
const MEMORY: u32 = 256 << 20;
/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens a database of others: nothing that its schema computes is believed, and it has bounds of memory and time.
pub fn open_database(path: &Path, flags: OpenFlags) -> Result<Connection, String> {
    let said = |error: rusqlite::Error| error.to_string();
    let mut database = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(said)?;
    for (limit, value) in [
        (Limit::SQLITE_LIMIT_LENGTH, LONGEST_VALUE),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, 1 << 20),
        (Limit::SQLITE_LIMIT_COLUMN, 200),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, 50),
        (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 3),
        (Limit::SQLITE_LIMIT_VDBE_OP, 25_000),
        (Limit::SQLITE_LIMIT_FUNCTION_ARG, 8),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 10),
    ] {
        database.set_limit(limit, value).map_err(said)?;
    }
    let began = Instant::now();
    database.progress_handler(10_000, Some(move || began.elapsed() > PATIENCE)).map_err(said)?;
    let pragmas = format!(
        "pragma hard_heap_limit = {MEMORY}; pragma trusted_schema = off; pragma cell_size_check = on; pragma mmap_size = 0"
    );
    database.execute_batch(&pragmas).map_err(said)?;
    Ok(database)
}

/// The columns of a table that are stored in it; none where there is no table of that name. What is computed (a view, a generated
/// column) is refused.
pub fn stored_columns(database: &Connection, table: &str) -> Result<Vec<String>, String> {
    let said = |error: rusqlite::Error| problem_of(&error);
    let find = "select type from sqlite_schema where name = ?1 and type in ('table', 'view')";
    let mut query = database.prepare(find).map_err(said)?;
    let mut rows = query.query([table]).map_err(said)?;
    let Some(row) = rows.next().map_err(said)? else { return Ok(Vec::new()) };
    if row.get_ref(0).map_err(said)? != ValueRef::Text(b"table") {
        return Err(format!("`{table}` is a view, which computes what it has: it is not read"));
    }
    let mut query = database.prepare("select name, hidden from pragma_table_xinfo(?1)").map_err(said)?;
    let mut rows = query.query([table]).map_err(said)?;
    let mut columns = Vec::new();
    while let Some(row) = rows.next().map_err(said)? {
        let name = match row.get_ref(0).map_err(said)? {
            ValueRef::Text(bytes) => std::str::from_utf8(bytes),
            _ => Ok(""),
        };
        let name = name.map_err(|_| format!("a column of `{table}` has a name that is not UTF-8"))?.to_owned();
        if row.get::<_, i64>(1).map_err(said)? != 0 {
            return Err(format!("the column `{}` of `{table}` is computed: it is not read", name.escape_debug()));
        }
        columns.push(name);
    }
    Ok(columns)
}

/// An error with the name of the limit, where it is one.
pub fn problem_of(error: &rusqlite::Error) -> String {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::OutOfMemory) => format!("the limit of {MEMORY} bytes of memory is reached"),
        Some(ErrorCode::TooBig) => format!("the limit of {LONGEST_VALUE} bytes of one value is reached"),
        Some(ErrorCode::OperationInterrupted) => format!("the limit of {} seconds is reached", PATIENCE.as_secs()),
        _ => error.to_string(),
    }
}

/// Gives each header; `wal` is what was not yet written into the database when the tree was read.
pub(super) fn headers(
    bytes: &[u8],
    wal: Option<&[u8]>,
    take: &mut dyn FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    let folder = Held::below(&std::env::temp_dir(), "imgbuild-rpmdb-").map_err(failed)?;
    let path = folder.path().join("rpmdb.sqlite");
    std::fs::write(&path, bytes).map_err(failed)?;
    if let Some(wal) = wal.filter(|wal| !wal.is_empty()) {
        std::fs::write(folder.path().join("rpmdb.sqlite-wal"), wal).map_err(failed)?;
    }
    let wrong = |problem: String| format!("is damaged: {problem}");
    let damaged = |error: rusqlite::Error| wrong(problem_of(&error));
    // A copy of our own: SQLite brings what is in the log into it.
    let database = open_database(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(wrong)?;
    if !stored_columns(&database, "Packages").map_err(wrong)?.iter().any(|name| name == "blob") {
        return Err("is damaged: it has no table of packages".to_owned());
    }
    let mut query = database.prepare("select blob from Packages").map_err(damaged)?;
    let mut rows = query.query([]).map_err(damaged)?;
    while let Some(row) = rows.next().map_err(damaged)? {
        let blob = row.get_ref(0).map_err(damaged)?;
        take(blob.as_blob().map_err(|error| format!("is damaged: {error}"))?)?;
    }
    Ok(())
}
