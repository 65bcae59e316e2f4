//! Reading and writing through the streams of WASI 0.3.

use wit_bindgen::{StreamReader, StreamResult};

use super::bindings::wasi::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorType, ErrorCode, OpenFlags, PathFlags,
};
use super::bindings::wit_stream;
use crate::report::Kind;

/// How many entries are taken from the host at a time.
const ENTRIES: usize = 256;

/// `length` bytes of `file` from `offset` on, or fewer where it ends before.
pub(super) async fn read(file: &Descriptor, offset: u64, length: u64) -> Result<Vec<u8>, ErrorCode> {
    let length = usize::try_from(length).map_err(|_| ErrorCode::Overflow)?;
    let (mut stream, verdict) = file.read_via_stream(offset);
    let (data, ended) = take(&mut stream, length).await;
    drop(stream);
    // Where the file holds more, the host is stopped by dropping the stream, which is no verdict on the file.
    if ended {
        verdict.await?;
    }
    Ok(data)
}

/// Writes `data` from the start of `file` on.
pub(super) async fn write(file: &Descriptor, data: Vec<u8>) -> Result<(), ErrorCode> {
    let (mut writer, reader) = wit_stream::new();
    let verdict = file.write_via_stream(reader, 0);
    writer.write_all(data).await;
    drop(writer);
    verdict.await
}

/// Writes `data` after the end of `file`.
pub(super) async fn append(file: &Descriptor, data: Vec<u8>) -> Result<(), ErrorCode> {
    let (mut writer, reader) = wit_stream::new();
    let verdict = file.append_via_stream(reader);
    writer.write_all(data).await;
    drop(writer);
    verdict.await
}

/// The names and kinds of at most `limit` entries of a folder.
pub(super) async fn read_folder(
    root: &Descriptor,
    relative: &str,
    limit: usize,
) -> Result<Vec<(String, Kind)>, ErrorCode> {
    let read = DescriptorFlags::READ;
    let folder = root.open_at(PathFlags::SYMLINK_FOLLOW, relative.to_owned(), OpenFlags::DIRECTORY, read).await?;
    let (mut stream, verdict) = folder.read_directory();
    let mut entries = Vec::new();
    while entries.len() < limit {
        let room = ENTRIES.min(limit - entries.len());
        let (status, batch) = stream.read(Vec::with_capacity(room)).await;
        entries.extend(batch.into_iter().map(|entry| (entry.name, kind(&entry.type_))));
        if status == StreamResult::Dropped {
            verdict.await?;
            break;
        }
    }
    Ok(entries)
}

/// What the host calls a kind of file, in the words of the answers.
pub(super) fn kind(type_: &DescriptorType) -> Kind {
    match type_ {
        DescriptorType::RegularFile => Kind::File,
        DescriptorType::Directory => Kind::Folder,
        DescriptorType::SymbolicLink => Kind::Link,
        _ => Kind::Other,
    }
}

/// At most `length` bytes, and whether the stream ended.
async fn take(stream: &mut StreamReader<u8>, length: usize) -> (Vec<u8>, bool) {
    let mut data = Vec::with_capacity(length);
    while data.len() < length {
        let (status, filled) = stream.read(data).await;
        data = filled;
        if status == StreamResult::Dropped {
            return (data, true);
        }
    }
    data.truncate(length);
    (data, false)
}
