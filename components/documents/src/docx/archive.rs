//! The zip archive around a document's parts. The directory and the sizes in it are the sender's word: what is
//! unpacked is counted as it comes.

use crate::decode;
use crate::extraction::Error;
use crate::limits;
use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_with_limit};
use rawzip::{CompressionMethod, ZipArchive, ZipArchiveEntryWayfinder, ZipSliceArchive};
use std::collections::BTreeMap;

/// An archive, and how much more may be unpacked from it.
pub struct Archive<'a> {
    zip: ZipSliceArchive<&'a [u8]>,
    entries: BTreeMap<Vec<u8>, Entry>,
    left: usize,
}

struct Entry {
    place: ZipArchiveEntryWayfinder,
    method: CompressionMethod,
    is_encrypted: bool,
}

impl<'a> Archive<'a> {
    /// Reads the directory.
    pub fn open(bytes: &'a [u8]) -> Result<Self, Error> {
        let zip = ZipArchive::from_slice(bytes).map_err(|error| broken(&error))?;
        let mut entries = BTreeMap::new();
        let mut directory = zip.entries();
        let mut count = 0;
        while let Some(entry) = directory.next_entry().map_err(|error| broken(&error))? {
            count += 1;
            if count > limits::ENTRIES {
                return Err(Error::too_large("the zip archive", limits::ENTRIES, "files"));
            }
            entries.entry(entry.file_path().as_bytes().to_vec()).or_insert(Entry {
                place: entry.wayfinder(),
                method: entry.compression_method(),
                is_encrypted: entry.flags().is_encrypted(),
            });
        }
        Ok(Self { zip, entries, left: limits::UNPACKED })
    }

    /// Unpacks a part as text, if there is one of this name.
    pub fn part(&mut self, name: &str) -> Result<Option<String>, Error> {
        let Some(entry) = self.entries.get(name.as_bytes()) else {
            return Ok(None);
        };
        if entry.is_encrypted {
            return Err(Error::Encrypted);
        }
        let packed = self.zip.get_entry(entry.place).map_err(|error| broken_part(name, &error))?;
        let unpacked = unpack(name, entry.method, packed.data(), self.left)?;
        std::io::copy(&mut packed.verifying_reader(&unpacked[..]), &mut std::io::sink())
            .map_err(|error| broken_part(name, &error))?;
        self.left -= unpacked.len();
        Ok(Some(decode::decode(&unpacked).text.into_owned()))
    }
}

fn unpack(name: &str, method: CompressionMethod, packed: &[u8], left: usize) -> Result<Vec<u8>, Error> {
    let too_large = || Error::too_large(format_args!("what `{name}` unpacks to"), limits::UNPACKED, "bytes");
    match method {
        CompressionMethod::STORE if packed.len() > left => Err(too_large()),
        CompressionMethod::STORE => Ok(packed.to_vec()),
        CompressionMethod::DEFLATE => decompress_to_vec_with_limit(packed, left).map_err(|error| match error.status {
            TINFLStatus::HasMoreOutput => too_large(),
            _ => broken_part(name, &"its compressed data is damaged"),
        }),
        other => Err(Error::Unsupported(format!("`{name}` is compressed by method {}", other.as_u16()))),
    }
}

fn broken(error: &dyn std::fmt::Display) -> Error {
    Error::Malformed(format!("the zip archive cannot be read: {error}"))
}

fn broken_part(name: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Malformed(format!("`{name}` in the zip archive cannot be read: {error}"))
}
