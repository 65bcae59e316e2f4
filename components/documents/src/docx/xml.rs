//! Walks a part's XML. Entities that a document defines itself are refused, so that none can grow.

use crate::extraction::Error;
use crate::limits;
use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use std::fmt::Display;

/// What a reader of a part does with what it meets. Names come without their namespace's prefix.
pub trait Handler {
    /// An element begins.
    fn start(&mut self, element: &Element<'_>);

    /// An element of this name ends.
    fn end(&mut self, _name: &str) {}

    /// Text, references resolved.
    fn text(&mut self, _text: &str) {}
}

/// An element that begins.
pub struct Element<'a>(&'a BytesStart<'a>);

impl Element<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        self.0.local_name().into_inner()
    }

    /// The value of the attribute of this name, if it is there and well formed.
    pub fn attribute(&self, name: &str) -> Option<String> {
        let mut attributes = self.0.attributes();
        let attribute = attributes.with_checks(false).flatten().find(|a| a.key.local_name().as_ref() == name)?;
        attribute.normalized_value(XmlVersion::Explicit1_0).ok().map(Into::into)
    }
}

/// Walks all of `part`, which is called `path` in errors.
pub fn walk(path: &str, part: &str, handler: &mut impl Handler) -> Result<(), Error> {
    let mut reader = Reader::from_str(part);
    let mut depth = 0;
    loop {
        let event = reader.read_event().map_err(|error| broken(path, reader.error_position(), &error))?;
        match event {
            Event::Start(start) => {
                depth += 1;
                if depth > limits::DEPTH {
                    return Err(Error::too_large(format_args!("`{path}`"), limits::DEPTH, "elements within elements"));
                }
                handler.start(&Element(&start));
            }
            Event::Empty(start) => {
                handler.start(&Element(&start));
                handler.end(start.local_name().into_inner());
            }
            Event::End(end) => {
                depth = depth.saturating_sub(1);
                handler.end(end.local_name().into_inner());
            }
            Event::Text(text) => handler.text(&text.xml10_content()),
            Event::CData(text) => handler.text(&text.xml10_content()),
            Event::GeneralRef(reference) => {
                let at = reader.buffer_position();
                match reference.resolve_char_ref().map_err(|error| broken(path, at, &error))? {
                    Some(character) => handler.text(character.encode_utf8(&mut [0; 4])),
                    None => handler.text(predefined(path, at, &reference.xml10_content())?),
                }
            }
            Event::DocType(_) => {
                return Err(broken(path, reader.buffer_position(), &"document type definitions are not allowed"));
            }
            Event::Eof if depth > 0 => {
                return Err(broken(path, reader.buffer_position(), &"it ends within an element"));
            }
            Event::Eof => return Ok(()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
}

fn predefined(path: &str, at: u64, name: &str) -> Result<&'static str, Error> {
    resolve_predefined_entity(name).ok_or_else(|| broken(path, at, &format_args!("unknown entity `{name}`")))
}

fn broken(path: &str, at: u64, error: &dyn Display) -> Error {
    Error::Malformed(format!("`{path}` is not well-formed XML at byte {at}: {error}"))
}
