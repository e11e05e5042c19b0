//! The file in which a run is written down.
//!
//! Lines are only added, whole, and are on the disk when [`Journal::append`] returns. A last line
//! that was torn by a crash is taken off; any other line that can't be read is an error. Once a
//! line couldn't be written nothing is written any more.

use std::collections::HashMap;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use log::Level;
use parking_lot::Mutex;

use crate::error::{Error, ErrorKind};
use crate::logging::log;
use crate::rows::record::{Parts, Record, VERSION};
use crate::rows::state::RowState;

pub(super) struct Journal {
    path: PathBuf,
    /// Tells this journal's idempotency keys from another's.
    id: String,
    file: Mutex<Lines>,
}

/// What a journal knows of each row.
pub(super) type States = HashMap<String, RowState>;

struct Lines {
    file: File,
    length: u64,
    error: Option<String>,
    /// Whether the error was told.
    told: bool,
}

impl Journal {
    /// Opens a journal that is bound to these parts, and reads it.
    pub(super) fn open(path: &Path, parts: &Parts) -> Result<(Self, States), Error> {
        let failed = |what: &str, error: std::io::Error| {
            let shown = path.display();
            Error::new(ErrorKind::Io, format_args!("can't {what} the journal {shown}: {error}"))
        };
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|error| failed("open", error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(
                    ErrorKind::Io,
                    format_args!("the journal {} is in use", path.display()),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", error)),
        }
        let mut lines = Lines { file, length: 0, error: None, told: false };
        let (id, states) = lines.read(path, parts, &failed)?;
        let journal = Self {
            path: path.to_owned(),
            id: id.clone().unwrap_or_else(new_id),
            file: Mutex::new(lines),
        };
        if id.is_none() {
            let (id, parts) = (journal.id.clone(), parts.clone());
            journal.append(&Record::Journal { version: VERSION, id, parts })?;
            // The file's name should survive, too; a system that can't sync a folder needn't.
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let synced = File::open(folder.unwrap_or(Path::new("."))).and_then(|f| f.sync_all());
            if let Err(error) = synced {
                log(Level::Debug, format_args!("the journal's folder wasn't synced: {error}"));
            }
        }
        Ok((journal, states))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Writes a line, and waits until it is on the disk.
    pub(super) fn append(&self, record: &Record) -> Result<(), Error> {
        let mut line = serde_json::to_vec(record)
            .map_err(|error| Error::input(format_args!("not to be written down: {error}")))?;
        // A model's message is kept as it came, with the line breaks between its tokens.
        line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        line.push(b'\n');
        let mut lines = self.file.lock();
        if lines.error.is_none() {
            let length = lines.length;
            let written = lines.file.write_all(&line).and_then(|()| lines.file.sync_data());
            match written {
                Ok(()) => lines.length += line.len() as u64,
                Err(error) => {
                    // What was written of the line is a torn one; take it off if that can be done.
                    let mended = lines.file.set_len(length);
                    log(
                        Level::Error,
                        format_args!("the journal {} failed: {error}", self.path.display()),
                    );
                    if let Err(error) = mended {
                        log(Level::Error, format_args!("and its last line is torn: {error}"));
                    }
                    lines.error = Some(error.to_string());
                }
            }
        }
        match &lines.error {
            Some(error) => Err(self.failure(error)),
            None => Ok(()),
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.file.lock().error.is_some()
    }

    /// Why it can't be written any more; told once.
    pub(super) fn take_error(&self) -> Option<Error> {
        let mut lines = self.file.lock();
        let error = lines.error.clone().filter(|_| !lines.told)?;
        lines.told = true;
        Some(self.failure(&error))
    }

    fn failure(&self, error: &str) -> Error {
        let shown = self.path.display();
        Error::new(ErrorKind::Io, format_args!("can't write the journal {shown}: {error}"))
    }
}

/// Whether the first line of a file is a journal's, or torn and may have been one.
fn is_first(line: &[u8]) -> bool {
    const BEGINNING: &[u8] = br#"{"journal":{"version":"#;
    line.starts_with(BEGINNING) || BEGINNING.starts_with(line)
}

/// Unlocked by itself: a program that is being started by another thread may still have the file for
/// a moment, and with it a lock that only closing would end.
impl Drop for Lines {
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            log(Level::Debug, format_args!("a journal wasn't unlocked: {error}"));
        }
    }
}

impl Lines {
    /// Reads all lines; the journal's id, if it has begun, and the rows.
    fn read(
        &mut self,
        path: &Path,
        parts: &Parts,
        failed: &dyn Fn(&str, std::io::Error) -> Error,
    ) -> Result<(Option<String>, States), Error> {
        let shown = path.display();
        let mut states = States::new();
        let mut id = None;
        let mut reader = BufReader::new(&self.file);
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let read =
                reader.read_until(b'\n', &mut line).map_err(|error| failed("read", error))?;
            if number == 1 && read > 0 && !is_first(&line) {
                return Err(Error::input(format_args!("{shown} is no journal")));
            }
            if line.last() != Some(&b'\n') {
                if read > 0 {
                    log(
                        Level::Warn,
                        format_args!(
                            "the last line of the journal {shown} was torn; it is taken off"
                        ),
                    );
                }
                break;
            }
            self.length += read as u64;
            let spoiled = |error: &dyn fmt::Display| {
                Error::input(format_args!(
                    "line {number} of the journal {shown} is damaged, restore it or begin another \
                     journal: {error}"
                ))
            };
            let line = str::from_utf8(&line).map_err(|error| spoiled(&error))?;
            let record = serde_json::from_str::<Record>(line).map_err(|error| spoiled(&error))?;
            match record {
                Record::Journal { version, .. } if version != VERSION => {
                    return Err(Error::input(format_args!(
                        "the journal {shown} is of version {version}, this is {VERSION}"
                    )));
                }
                Record::Journal { parts: begun_with, .. } if begun_with != *parts => {
                    let differ =
                        parts.iter().filter(|(name, is)| begun_with.get(*name) != Some(is));
                    let names: Vec<_> = differ.map(|(name, _)| name.as_str()).collect();
                    return Err(Error::config(format_args!(
                        "the journal {shown} was begun with another {}; finish it as it was begun, or \
                         begin another",
                        names.join(" and another ")
                    )));
                }
                Record::Journal { id: begun, .. } if id.as_ref().is_some_and(|id| *id != begun) => {
                    return Err(Error::input(format_args!(
                        "line {number} of the journal {shown} begins another one, whose calls would \
                         lose their idempotency keys; go on with each by itself"
                    )));
                }
                Record::Journal { id: begun, .. } => id = Some(begun),
                Record::Turn { ref row, .. }
                | Record::Intent { ref row, .. }
                | Record::Result { ref row, .. }
                | Record::Answered { ref row, .. }
                | Record::Failed { ref row, .. } => {
                    states.entry(row.clone()).or_default().take(record);
                }
            }
        }
        let length = self.length;
        self.file.set_len(length).map_err(|error| failed("mend", error))?;
        self.file.seek(SeekFrom::Start(length)).map_err(|error| failed("read", error))?;
        Ok((id, states))
    }
}

fn new_id() -> String {
    // Seeded by the system, anew for each.
    format!("{:016x}", RandomState::new().hash_one(VERSION))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(model: &str) -> Parts {
        Parts::from([("model".to_owned(), model.to_owned())])
    }

    #[test]
    fn a_dropped_journal_is_free_though_its_file_is_still_open_elsewhere() {
        let name = format!("toolpool-journal-{}.jsonl", std::process::id());
        let path = std::env::temp_dir().join(name);
        let (journal, _) = Journal::open(&path, &of("one")).unwrap();
        let elsewhere = journal.file.lock().file.try_clone().unwrap();
        assert!(Journal::open(&path, &of("one")).is_err());
        drop(journal);
        let other = Journal::open(&path, &of("another")).map(|_| ()).unwrap_err();
        assert!(!other.to_string().ends_with("is in use"), "{other}");
        drop(Journal::open(&path, &of("one")).unwrap());
        drop(elsewhere);
        std::fs::remove_file(&path).unwrap();
    }
}
