//! The main part: paragraphs, with what they are and stand in.

use super::styles::{Meaning, Styles, heading};
use super::xml::{Element, Handler, walk};
use crate::builder::Builder;
use crate::extraction::{self, Error, Extraction, Kind};

/// Reads the main part. The document's title is the stated one, or else the paragraph in the style for it.
pub fn read(path: &str, part: &str, styles: &Styles, title: Option<String>) -> Result<Extraction, Error> {
    let mut body = Body::new(styles);
    walk(path, part, &mut body)?;
    if !body.is_document {
        return Err(Error::Unsupported(format!("`{path}` is not the main part of a Word document")));
    }
    let styled = extraction::title(&body.title);
    Ok(body.builder.finish(title.or(styled)))
}

struct Body<'a> {
    styles: &'a Styles,
    builder: Builder,
    is_document: bool,
    /// The paragraphs around the reader: a text box stands within one and holds others.
    paragraphs: Vec<Paragraph>,
    /// Cells around the reader.
    cells: usize,
    /// The element whose content is not read, and how many of its name are open.
    skipped: Option<(String, usize)>,
    in_text: bool,
    title: String,
}

#[derive(Default, Clone)]
struct Paragraph {
    meaning: Option<Meaning>,
    outline: Option<u8>,
    is_list: bool,
}

impl Paragraph {
    fn kind(&self, in_cell: bool) -> Kind {
        match self.meaning {
            _ if in_cell => Kind::Cell,
            _ if self.is_list && !matches!(self.meaning, Some(Meaning::Block(Kind::Heading(_)))) => Kind::ListItem,
            Some(Meaning::Title) => Kind::Heading(1),
            Some(Meaning::Block(kind)) => heading(self.outline).unwrap_or(kind),
            None => heading(self.outline).unwrap_or(Kind::Paragraph),
        }
    }
}

/// What is not the document's text: the other form of what was read already, and text that was moved away.
/// Deleted text needs no entry, as it has an element of its own.
const SKIPPED: &[&str] = &["Fallback", "moveFrom", "del"];

impl<'a> Body<'a> {
    fn new(styles: &'a Styles) -> Self {
        Self {
            styles,
            builder: Builder::default(),
            is_document: false,
            paragraphs: Vec::new(),
            cells: 0,
            skipped: None,
            in_text: false,
            title: String::new(),
        }
    }

    fn property(&mut self, element: &Element<'_>) {
        let Some(paragraph) = self.paragraphs.last_mut() else {
            return;
        };
        let value = element.attribute("val");
        match element.name() {
            "pStyle" => paragraph.meaning = value.and_then(|id| self.styles.meaning(&id)),
            "outlineLvl" => paragraph.outline = value.and_then(|level| level.parse().ok()),
            "numId" => paragraph.is_list = value.is_some_and(|id| id != "0"),
            _ => {}
        }
        if paragraph.meaning == Some(Meaning::Block(Kind::ListItem)) {
            paragraph.is_list = true;
        }
    }

    fn write(&mut self, text: &str) {
        let Some(paragraph) = self.paragraphs.last() else {
            return;
        };
        let kind = paragraph.kind(self.cells > 0);
        if !self.builder.is_open() {
            self.builder.begin(kind);
        }
        if kind == Kind::Code {
            self.builder.unplaced(text);
        } else {
            self.builder.words(text);
        }
        if paragraph.meaning == Some(Meaning::Title) {
            self.title.push_str(text);
        }
    }
}

impl Handler for Body<'_> {
    fn start(&mut self, element: &Element<'_>) {
        let name = element.name();
        if let Some((skipped, depth)) = &mut self.skipped {
            *depth += usize::from(skipped == name);
            return;
        }
        match name {
            _ if SKIPPED.contains(&name) => self.skipped = Some((name.into(), 1)),
            "document" => self.is_document = true,
            "p" => {
                self.builder.end();
                self.paragraphs.push(Paragraph::default());
            }
            "tc" => self.cells += 1,
            "t" => self.in_text = true,
            "tab" | "br" | "cr" | "ptab" if self.builder.is_open() => {
                let is_code = self.paragraphs.last().is_some_and(|p| p.kind(self.cells > 0) == Kind::Code);
                self.write(if is_code && name != "tab" { "\n" } else { " " });
            }
            "noBreakHyphen" => self.write("\u{2011}"),
            _ => self.property(element),
        }
    }

    fn end(&mut self, name: &str) {
        if let Some((skipped, depth)) = &mut self.skipped {
            *depth -= usize::from(skipped == name);
            if *depth == 0 {
                self.skipped = None;
            }
            return;
        }
        match name {
            "p" => {
                self.builder.end();
                self.paragraphs.pop();
            }
            "tc" => self.cells = self.cells.saturating_sub(1),
            "t" => self.in_text = false,
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if self.in_text && self.skipped.is_none() {
            self.write(text);
        }
    }
}
