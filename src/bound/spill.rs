//! The file that holds the whole of a cut result.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use log::Level;

use crate::logging::log;

/// A file being written. Dropped before [`keep`](Spill::keep), it is removed: half a result would
/// be taken for the whole.
#[derive(Debug)]
pub(super) struct Spill {
    path: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Spill {
    /// A new file in `directory` that only this user can read. A failure is logged, and nothing
    /// is written then: a result that can be told is worth more than its file.
    pub(super) fn create(directory: &Path) -> Option<Self> {
        match new_file(directory) {
            Ok((path, file)) => Some(Self { path, file: Some(BufWriter::new(file)) }),
            Err(error) => {
                log(
                    Level::Warn,
                    format_args!("no file for a long result in {}: {error}", directory.display()),
                );
                None
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes more, or gives up and removes the file.
    pub(super) fn write(mut self, bytes: &[u8]) -> Option<Self> {
        let written = self.file.as_mut()?.write_all(bytes);
        self.unless_failed(written)
    }

    /// The path of the finished file.
    pub(super) fn keep(mut self) -> Option<PathBuf> {
        let written = self.file.as_mut()?.flush();
        let mut written = self.unless_failed(written)?;
        written.file = None;
        Some(std::mem::take(&mut written.path))
    }

    fn unless_failed(self, written: io::Result<()>) -> Option<Self> {
        match written {
            Ok(()) => Some(self),
            Err(error) => {
                log(
                    Level::Warn,
                    format_args!("the file {} was not written: {error}", self.path.display()),
                );
                None
            }
        }
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            remove(&self.path);
        }
    }
}

/// Removes the file of a result that nobody gets.
pub(super) fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        log(Level::Warn, format_args!("the file {} was not removed: {error}", path.display()));
    }
}

/// Whether files can be made in a directory: makes one, and removes it.
pub(crate) fn check_directory(directory: &Path) -> io::Result<()> {
    let (path, file) = new_file(directory)?;
    drop(file);
    std::fs::remove_file(path)
}

fn new_file(directory: &Path) -> io::Result<(PathBuf, File)> {
    let mut tries = 4;
    loop {
        let random = RandomState::new().hash_one(0);
        let path = directory.join(format!("result-{random:016x}.txt"));
        tries -= 1;
        match options().open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries > 0 => {}
            other => return other.map(|file| (path, file)),
        }
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
