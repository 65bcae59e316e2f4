//! The tools as a component: what they are called, what they may do, and which function serves each.

mod failure;
mod files;
mod roots;

use std::fmt::Debug;

use schemars::JsonSchema;
use serde::Serialize;

use crate::arguments::{self, ArgumentsError, MOST_BYTES, MOST_ENTRIES, MOST_MATCHES, Mode};
use crate::media_type;
use crate::path::{join, normalise};
use crate::report::{Entry, Kind, Listing, Match, Matches, Status, Written};
use crate::search::{Query, is_binary};

use bindings::exports::witan::tools::tool::{Content, Description, Error, Guest};
use bindings::wasi::filesystem::types::{DescriptorFlags, OpenFlags};
use bindings::witan::tools::types::{Blob, Effects};
use failure::failed;
use roots::{Located, Roots};

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: [
            "../../wit/deps/clocks.wit",
            "../../wit/deps/filesystem.wit",
            "../../wit/component",
            "../../wit/tools",
        ],
        inline: "
            package witan:components;
            world tool-files {
                import wasi:filesystem/types@0.3.0;
                import wasi:filesystem/preopens@0.3.0;
                export witan:tools/tool@0.1.0-draft;
            }
        ",
        world: "witan:components/tool-files",
        generate_all,
    });
}

/// How much of a file `search` looks at.
const MOST_SEARCHED: u64 = 16 * 1024 * 1024;

/// How many failures `search` names, so that a folder without permissions does not fill the answer.
const MOST_SKIPPED: usize = 20;

struct Component;

impl Guest for Component {
    async fn describe() -> Vec<Description> {
        vec![
            describe::<arguments::Read>(
                "read",
                "Reads a file and gives its bytes with their media type. Use `offset` and `length` for a part of it.",
                Effects::READS,
            ),
            describe::<arguments::List>(
                "list",
                "Lists the files and folders in a folder, with their paths and kinds.",
                Effects::READS,
            ),
            describe::<arguments::Stat>(
                "stat",
                "Says of a file or folder what it is, how large, and when it last changed.",
                Effects::READS,
            ),
            describe::<arguments::Search>(
                "search",
                "Finds the lines of text files that contain a text or match a regular expression.",
                Effects::READS,
            ),
            describe::<arguments::Write>(
                "write",
                "Writes a file: creates it, replaces its content, or adds to its end. Replaced content is lost.",
                Effects::WRITES | Effects::IRREVERSIBLE,
            ),
        ]
    }

    async fn invoke(name: String, arguments: String) -> Result<Vec<Content>, Error> {
        let content = match name.as_str() {
            "read" => read(arguments::parse(&arguments)?).await?,
            "list" => json(&list(arguments::parse(&arguments)?).await?)?,
            "stat" => json(&stat(arguments::parse(&arguments)?).await?)?,
            "search" => json(&search(arguments::parse(&arguments)?).await?)?,
            "write" => json(&write(arguments::parse(&arguments)?).await?)?,
            _ => return Err(Error::NotFound(format!("there is no tool `{name}`"))),
        };
        Ok(vec![content])
    }
}

fn describe<T: JsonSchema>(name: &str, summary: &str, effects: Effects) -> Description {
    let parameters = arguments::schema::<T>();
    Description { name: name.to_owned(), summary: summary.to_owned(), parameters, effects }
}

fn json(answer: &(impl Serialize + Debug)) -> Result<Content, Error> {
    serde_json::to_string(answer).map(Content::Json).map_err(|error| Error::Failed(error.to_string()))
}

async fn read(arguments: arguments::Read) -> Result<Content, Error> {
    let path = normalise(&arguments.path)?;
    if let Some(length) = arguments.length {
        arguments::at_most("length", length, MOST_BYTES)?;
    }
    let roots = Roots::open();
    let file = roots.file(&path, OpenFlags::empty(), DescriptorFlags::READ).await?;
    let size = file.stat().await.map_err(|code| failed(&path, &code))?.size;
    let rest = size.saturating_sub(arguments.offset);
    let length = arguments.length.map_or(rest, |length| length.min(rest));
    if length > MOST_BYTES {
        let advice = "read it in parts with `offset` and `length`";
        return Err(Error::Failed(format!("`{path}` has {size} bytes, and one read gives {MOST_BYTES}; {advice}")));
    }
    let data = files::read(&file, arguments.offset, length).await.map_err(|code| failed(&path, &code))?;
    Ok(Content::Blob(Blob { media_type: media_type::guess(&path).to_owned(), data }))
}

async fn list(arguments: arguments::List) -> Result<Listing, Error> {
    let limit = arguments::at_most("limit", arguments.limit, MOST_ENTRIES)? as usize;
    let path = normalise(&arguments.path)?;
    let roots = Roots::open();
    let mut listing = match roots.locate(&path) {
        Err(_) if path == "/" => Listing { entries: roots.entries(), truncated: false },
        located => entries(located?, arguments.recursive).await?,
    };
    listing.truncated |= listing.entries.len() > limit;
    listing.entries.truncate(limit);
    Ok(listing)
}

async fn stat(arguments: arguments::Stat) -> Result<Status, Error> {
    let path = normalise(&arguments.path)?;
    let roots = Roots::open();
    let stat = roots.locate(&path)?.stat().await?;
    let kind = files::kind(&stat.type_);
    let media_type = (kind == Kind::File).then(|| media_type::guess(&path));
    let modified = stat.data_modification_timestamp.map(|time| time.seconds);
    Ok(Status { path, kind, size: stat.size, modified, media_type })
}

async fn search(arguments: arguments::Search) -> Result<Matches, Error> {
    let limit = arguments::at_most("limit", arguments.limit, MOST_MATCHES)? as usize;
    let query = Query::new(&arguments)?;
    let path = normalise(&arguments.path)?;
    let roots = Roots::open();
    let located = roots.locate(&path)?;
    let mut found = Matches { matches: Vec::new(), files: 0, truncated: false, skipped: Vec::new() };
    let paths = match files::kind(&located.stat().await?.type_) {
        Kind::Folder => {
            let listing = entries(located, true).await?;
            found.truncated = listing.truncated;
            let files = listing.entries.into_iter().filter(|entry| entry.kind == Kind::File);
            files.map(|entry| entry.path).collect()
        }
        _ => vec![path],
    };
    for path in paths {
        if found.matches.len() > limit {
            break;
        }
        search_file(&roots, path, &query, limit, &mut found).await;
    }
    found.truncated |= found.matches.len() > limit;
    found.matches.truncate(limit);
    Ok(found)
}

/// Adds the matches in one file to those found, up to one more than `limit`, which tells that there are more.
async fn search_file(roots: &Roots, path: String, query: &Query, limit: usize, found: &mut Matches) {
    let data = match read_start(roots, &path).await {
        Ok(data) => data,
        Err(error) => {
            if found.skipped.len() < MOST_SKIPPED {
                found.skipped.push(message(error));
            }
            return;
        }
    };
    found.files += 1;
    if is_binary(&data) {
        return;
    }
    found.truncated |= data.len() as u64 == MOST_SEARCHED;
    let room = (limit + 1).saturating_sub(found.matches.len());
    let matches = query.lines(&data).take(room);
    found.matches.extend(matches.map(|(line, text)| Match { path: path.clone(), line, text }));
}

async fn read_start(roots: &Roots, path: &str) -> Result<Vec<u8>, Error> {
    let file = roots.file(path, OpenFlags::empty(), DescriptorFlags::READ).await?;
    let size = file.stat().await.map_err(|code| failed(path, &code))?.size;
    files::read(&file, 0, size.min(MOST_SEARCHED)).await.map_err(|code| failed(path, &code))
}

/// Replaces in place, so that who reads meanwhile may see a part. A new file in the old one's place would be whole at
/// once, but WASI has no file modes: a private file would become readable by others, and a program would no longer run.
async fn write(arguments: arguments::Write) -> Result<Written, Error> {
    let path = normalise(&arguments.path)?;
    let data = arguments.data()?;
    let open = match arguments.mode {
        Mode::Create => OpenFlags::CREATE | OpenFlags::EXCLUSIVE,
        Mode::Replace => OpenFlags::CREATE | OpenFlags::TRUNCATE,
        Mode::Append => OpenFlags::CREATE,
    };
    let bytes = data.len() as u64;
    let file = Roots::open().file(&path, open, DescriptorFlags::WRITE).await?;
    let written = match arguments.mode {
        Mode::Append => files::append(&file, data).await,
        Mode::Create | Mode::Replace => files::write(&file, data).await,
    };
    written.map_err(|code| failed(&path, &code))?;
    Ok(Written { path, bytes })
}

/// The entries of a folder and, if `recursive`, of the folders in it, in the order of their paths. All are read before
/// some are chosen, so that the same folder gives the same list; past [`MOST_ENTRIES`], or where a folder inside may
/// not be read, the list is truncated.
async fn entries(folder: Located<'_>, recursive: bool) -> Result<Listing, Error> {
    let most = MOST_ENTRIES as usize;
    let mut found = Vec::new();
    let mut truncated = false;
    let mut waiting = vec![(folder.relative.to_owned(), folder.path.to_owned())];
    while let Some((relative, path)) = waiting.pop()
        && found.len() <= most
    {
        let read = match files::read_folder(folder.root, &relative, most + 1 - found.len()).await {
            Ok(read) => read,
            Err(code) if path == folder.path => return Err(failed(&path, &code)),
            Err(_) => {
                truncated = true;
                continue;
            }
        };
        for (name, kind) in read {
            let path = join(&path, &name);
            if recursive && kind == Kind::Folder {
                waiting.push((join(&relative, &name), path.clone()));
            }
            found.push(Entry { path, kind });
        }
    }
    truncated |= found.len() > most;
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found.truncate(most);
    Ok(Listing { entries: found, truncated })
}

/// What an error says, for a list of what was skipped.
fn message(error: Error) -> String {
    match error {
        Error::NotFound(text) | Error::InvalidArguments(text) | Error::Denied(text) | Error::Failed(text) => text,
        Error::CallFailed(failure) => format!("{failure:?}"),
    }
}

impl From<ArgumentsError> for Error {
    fn from(error: ArgumentsError) -> Self {
        Self::InvalidArguments(error.to_string())
    }
}

impl From<crate::path::PathError> for Error {
    fn from(error: crate::path::PathError) -> Self {
        Self::InvalidArguments(error.to_string())
    }
}

bindings::export!(Component with_types_in bindings);
