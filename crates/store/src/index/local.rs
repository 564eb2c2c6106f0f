use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::schema;
use super::writer::Writer;
use crate::objects::{blocking, private_file};
use crate::{Failure, OpenError};

/// How long SQLite waits for another program's lock, such as a shell in a transaction, before the store counts as away:
/// shorter than the time after which senders give up.
const BUSY: Duration = Duration::from_secs(5);
/// Prepared statements kept for each connection: more than there are in this room, so that none is ever prepared twice.
const STATEMENTS: usize = 64;
/// Reading connections kept open, about 100 KB each. More are opened when more read at once.
const MAX_IDLE_READERS: usize = 16;
/// The write-ahead log is cut back to this many bytes after a burst.
const MAX_IDLE_LOG: i64 = 64 * 1024 * 1024;

/// The index in one SQLite file.
pub(crate) struct LocalIndex {
    pub(super) writer: Writer,
    pub(crate) readers: Arc<Readers>,
}

/// Connections that cannot write. They see only what is committed, and with `synchronous = FULL` what they see is durable:
/// SQLite syncs the log before it shows a commit to others.
pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl LocalIndex {
    /// Opens or makes the index. The file is made first, so that its mode and those of the log beside it are ours.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        private_file()
            .append(true)
            .open(path)
            .map_err(|source| OpenError::Directory { path: path.to_owned(), source })?;
        let connection = open_writing(path).map_err(|error| refused(path, error))?;
        let version = check_schema(path, &connection)?;
        if version != schema::VERSION {
            // One transaction: killed in between, the index is as it was.
            let make = || {
                let transaction = connection.unchecked_transaction()?;
                match version {
                    0 => schema::create(&transaction)?,
                    older => schema::bring_up_to_date(&transaction, older)?,
                }
                transaction.commit()
            };
            make().map_err(|error| refused(path, error))?;
        }
        let writer = Writer::start(connection)
            .map_err(|source| OpenError::Index { path: path.to_owned(), source: source.into() })?;
        let readers = Arc::new(Readers { path: path.to_owned(), idle: Mutex::default() });
        Ok(Self { writer, readers })
    }
}

impl Readers {
    /// Opens an index that must be there already.
    pub(crate) fn open(path: &Path) -> Result<Arc<Self>, OpenError> {
        if !path.exists() {
            return Err(OpenError::Absent { path: path.to_owned() });
        }
        let connection = open_reading(path).map_err(|error| refused(path, error))?;
        match check_schema(path, &connection)? {
            schema::VERSION => {}
            0 => return Err(OpenError::NotAnIndex { path: path.to_owned() }),
            _ => return Err(OpenError::IndexOlder { path: path.to_owned() }),
        }
        Ok(Arc::new(Self { path: path.to_owned(), idle: Mutex::new(vec![connection]) }))
    }

    /// Reads, where blocking is allowed.
    pub(crate) fn read_now<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Failure> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = idle().pop();
        let read = || {
            let connection = taken.map_or_else(|| open_reading(&self.path), Ok)?;
            Ok((work(&connection)?, connection))
        };
        // A connection that failed is not kept: the next one starts afresh.
        let (result, connection) = read().map_err(Failure::away::<rusqlite::Error>("reading the index"))?;
        let mut idle = idle();
        if idle.len() < MAX_IDLE_READERS {
            idle.push(connection);
        }
        Ok(result)
    }

    /// Reads on a blocking thread.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let readers = self.clone();
        blocking("reading the index", move || readers.read_now(work)).await
    }
}

fn open_writing(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // FULL syncs the log at every commit; a receipt depends on it. NORMAL would lose acknowledged rows.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "journal_size_limit", MAX_IDLE_LOG)?;
    Ok(connection)
}

fn open_reading(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn open(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    // NO_MUTEX: a connection is used by one thread at a time, which the borrow checker sees to.
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// The schema's number, at most ours; 0 for a file in which nothing has been made yet.
fn check_schema(path: &Path, connection: &Connection) -> Result<i64, OpenError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let look = || {
        let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
        Ok((pragma("user_version")?, pragma("application_id")?, tables))
    };
    let path = path.to_owned();
    match look().map_err(|error| refused(&path, error))? {
        (0, 0, 0) => Ok(0),
        (found, schema::APPLICATION_ID, _) if found > schema::VERSION => {
            Err(OpenError::IndexNewer { path, found, known: schema::VERSION })
        }
        (found, schema::APPLICATION_ID, _) if found > 0 => Ok(found),
        _ => Err(OpenError::NotAnIndex { path }),
    }
}

fn refused(path: &Path, error: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::IndexLocked { path },
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => OpenError::NotAnIndex { path },
        _ => OpenError::Index { path, source: error.into() },
    }
}
