//! Tar archives without time and owner, so that the same files give the same bytes.

use std::io::{self, Write as _};

use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

/// A file or folder of an archive.
#[derive(Debug, Clone)]
pub struct Entry {
    path: String,
    contents: Option<Vec<u8>>,
    mode: u32,
}

impl Entry {
    /// A file that everybody can read.
    #[must_use]
    pub fn file(path: impl Into<String>, contents: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), contents: Some(contents.into()), mode: 0o644 }
    }

    /// A file that everybody can run.
    #[must_use]
    pub fn program(path: impl Into<String>, contents: impl Into<Vec<u8>>) -> Self {
        Self { mode: 0o755, ..Self::file(path, contents) }
    }

    /// A folder.
    #[must_use]
    pub fn folder(path: impl Into<String>) -> Self {
        Self { path: path.into(), contents: None, mode: 0o755 }
    }

    /// The same in a folder.
    #[must_use]
    pub fn within(self, folder: &str) -> Self {
        Self { path: format!("{folder}/{}", self.path), ..self }
    }
}

/// The archive, in the order of the entries.
///
/// # Errors
///
/// If a path is longer than the format allows, or leads out of the archive.
pub fn tar(entries: &[Entry]) -> io::Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    for Entry { path, contents, mode } in entries {
        let mut header = Header::new_ustar();
        header.set_entry_type(if contents.is_some() { EntryType::Regular } else { EntryType::Directory });
        let contents = contents.as_deref().unwrap_or_default();
        header.set_size(contents.len() as u64);
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        archive.append_data(&mut header, path, contents)?;
    }
    archive.into_inner()
}

/// The bytes compressed with gzip.
///
/// # Errors
///
/// None: nothing is written to the outside.
pub fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    // The operating system 255 is "unknown" (RFC 1952).
    let mut encoder = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}
