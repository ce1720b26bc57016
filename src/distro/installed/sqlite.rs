//! rpm's database as SQLite, the form of RHEL 9 and Fedora. Source: rpm's lib/backend/sqlite.c: the table `Packages`, a header
//! in each row's `blob`.

use rusqlite::{Connection, OpenFlags};

/// Gives each header; `wal` is what was not yet written into the database when the tree was read.
pub fn headers(
    bytes: &[u8],
    wal: Option<&[u8]>,
    take: &mut dyn FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    let folder = tempfile::tempdir().map_err(failed)?;
    let path = folder.path().join("rpmdb.sqlite");
    std::fs::write(&path, bytes).map_err(failed)?;
    if let Some(wal) = wal.filter(|wal| !wal.is_empty()) {
        std::fs::write(folder.path().join("rpmdb.sqlite-wal"), wal).map_err(failed)?;
    }
    let damaged = |error: rusqlite::Error| format!("is damaged: {error}");
    // A copy of our own: SQLite brings what is in the log into it.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(&path, flags).map_err(damaged)?;
    // A view could be anything.
    database.execute_batch("pragma trusted_schema = off; pragma cell_size_check = on").map_err(damaged)?;
    let is_table = "select count(*) from sqlite_schema where type = 'table' and name = 'Packages'";
    let tables: i64 = database.query_row(is_table, [], |row| row.get(0)).map_err(damaged)?;
    if tables != 1 {
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
