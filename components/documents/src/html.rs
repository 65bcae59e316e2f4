//! HTML, cut into tokens by html5gum as browsers do. Tags decide on blocks by themselves, without a tree: so broken
//! nesting does no harm, and deep nesting costs nothing.

use crate::builder::Builder;
use crate::decode::Decoded;
use crate::extraction::{self, Extraction, Kind};
use html5gum::{Emitter, Error, State, Tokenizer, naive_next_state};
use std::convert::Infallible;

/// Reads a document.
pub fn extract(document: &Decoded<'_>) -> Extraction {
    let mut builder = Builder::default();
    let title = read(&mut builder, &document.text, 0);
    let mut extraction = builder.finish(extraction::title(&title));
    extraction.runs = document.locate(extraction.runs);
    extraction
}

/// Reads HTML that stands within another document, at `offset`.
pub fn fragment(builder: &mut Builder, source: &str, offset: usize) {
    read(builder, source, offset);
}

fn read(builder: &mut Builder, source: &str, offset: usize) -> String {
    let mut page = Page::new(builder, source, offset);
    let Ok(()) = Tokenizer::new_with_emitter(source, Tokens::new(&mut page)).finish();
    page.title
}

/// What the tags so far make of the text that follows.
struct Page<'a> {
    builder: &'a mut Builder,
    source: &'a str,
    /// Where `source` begins in the document.
    offset: usize,
    title: String,
    in_title: bool,
    /// The element whose content is not shown, and how many of its name are open.
    hidden: Option<(Vec<u8>, usize)>,
    preformatted: usize,
    quotes: usize,
    items: usize,
}

impl<'a> Page<'a> {
    fn new(builder: &'a mut Builder, source: &'a str, offset: usize) -> Self {
        Self {
            builder,
            source,
            offset,
            title: String::new(),
            in_title: false,
            hidden: None,
            preformatted: 0,
            quotes: 0,
            items: 0,
        }
    }

    fn start_tag(&mut self, name: &[u8], has_hidden: bool) {
        if let Some((hidden, depth)) = &mut self.hidden {
            if hidden != name {
                return;
            }
            if !has_implied_end(name) {
                *depth += 1;
                return;
            }
            self.hidden = None;
        }
        if NOT_SHOWN.contains(&name) || (has_hidden && !VOID.contains(&name)) {
            self.hidden = Some((name.to_vec(), 1));
            return;
        }
        match name {
            b"title" => self.in_title = self.title.is_empty(),
            b"br" => self.line_break(),
            b"pre" | b"listing" | b"xmp" | b"plaintext" | b"textarea" => {
                self.preformatted += 1;
                self.builder.begin(Kind::Code);
            }
            b"blockquote" => {
                self.quotes += 1;
                self.builder.begin(Kind::Quote);
            }
            b"li" | b"dt" | b"dd" => {
                self.items = 1;
                self.builder.begin(Kind::ListItem);
            }
            b"td" | b"th" => self.builder.begin(Kind::Cell),
            [b'h', level @ b'1'..=b'6'] => self.builder.begin(Kind::Heading(level - b'0')),
            name if BLOCKS.contains(&name) => self.begin(),
            _ => {}
        }
    }

    fn end_tag(&mut self, name: &[u8]) {
        if let Some((hidden, depth)) = &mut self.hidden {
            if hidden == name {
                *depth -= 1;
                if *depth == 0 {
                    self.hidden = None;
                }
            }
            return;
        }
        match name {
            b"title" => self.in_title = false,
            b"pre" | b"listing" | b"xmp" | b"textarea" => {
                self.preformatted = self.preformatted.saturating_sub(1);
                self.builder.end();
            }
            b"blockquote" => {
                self.quotes = self.quotes.saturating_sub(1);
                self.builder.end();
            }
            b"li" | b"dt" | b"dd" | b"ul" | b"ol" | b"dl" => {
                self.items = 0;
                self.builder.end();
            }
            [b'h', b'1'..=b'6'] | b"td" | b"th" => self.builder.end(),
            name if BLOCKS.contains(&name) => self.builder.end(),
            _ => {}
        }
    }

    /// Begins a block of the kind that what it stands in gives it.
    fn begin(&mut self) {
        let kind = match self {
            Self { preformatted: 1.., .. } => Kind::Code,
            Self { items: 1.., .. } => Kind::ListItem,
            Self { quotes: 1.., .. } => Kind::Quote,
            _ => Kind::Paragraph,
        };
        self.builder.begin(kind);
    }

    fn line_break(&mut self) {
        if self.preformatted > 0 {
            self.builder.unplaced("\n");
        } else {
            self.builder.space(None);
        }
    }

    /// Text that stands in the source as it is.
    fn literal(&mut self, start: usize, end: usize) {
        let Some(text) = self.source.get(start..end).filter(|_| self.shows()) else {
            return;
        };
        if self.in_title {
            self.title.push_str(text);
        } else if self.preformatted > 0 {
            self.open();
            self.builder.verbatim(text, self.offset + start);
        } else {
            if !text.trim_ascii().is_empty() {
                self.open();
            }
            self.builder.flow(text, self.offset + start);
        }
    }

    /// Text that the source writes otherwise: a character reference, or a line end.
    fn replaced(&mut self, text: &str, start: usize, end: usize) {
        if !self.shows() {
            return;
        }
        let is_space = text.trim_ascii().is_empty();
        let (start, end) = (self.offset + start, self.offset + end);
        match text {
            // What broken bytes of a page may hold, and no reader shows.
            "\0" => {}
            _ if self.in_title => self.title.push_str(text),
            _ if is_space && self.preformatted == 0 => self.builder.space(Some(start)),
            _ => {
                self.open();
                self.builder.replaced(text, start, end);
            }
        }
    }

    fn shows(&self) -> bool {
        self.hidden.is_none()
    }

    fn open(&mut self) {
        if !self.builder.is_open() {
            self.begin();
        }
    }
}

/// Elements whose content no reader of the page sees.
const NOT_SHOWN: &[&[u8]] = &[
    b"script",
    b"style",
    b"template",
    b"noscript",
    b"iframe",
    b"object",
    b"svg",
    b"math",
    b"select",
    b"noembed",
    b"noframes",
    b"datalist",
];

/// Elements without content, which therefore hide none.
const VOID: &[&[u8]] = &[
    b"area", b"base", b"br", b"col", b"embed", b"hr", b"img", b"input", b"link", b"meta", b"source", b"track", b"wbr",
];

/// Elements that begin and end a block.
const BLOCKS: &[&[u8]] = &[
    b"address",
    b"article",
    b"aside",
    b"body",
    b"caption",
    b"center",
    b"details",
    b"dialog",
    b"div",
    b"dl",
    b"fieldset",
    b"figcaption",
    b"figure",
    b"footer",
    b"form",
    b"head",
    b"header",
    b"hgroup",
    b"hr",
    b"html",
    b"legend",
    b"main",
    b"menu",
    b"nav",
    b"ol",
    b"option",
    b"p",
    b"search",
    b"section",
    b"summary",
    b"table",
    b"tbody",
    b"tfoot",
    b"thead",
    b"tr",
    b"ul",
];

/// Whether the next element of this name ends the one before it.
fn has_implied_end(name: &[u8]) -> bool {
    matches!(name, b"p" | b"li" | b"dt" | b"dd" | b"tr" | b"td" | b"th" | b"option")
}

/// Turns what the tokenizer reports into tags and text with their places.
struct Tokens<'p, 'a> {
    page: &'p mut Page<'a>,
    /// How far the tokenizer has read.
    position: usize,
    /// Where the text or tag that was reported last ended.
    resume: usize,
    /// Text that stands in the source as it is, not yet handed on.
    literal: Option<(usize, usize)>,
    name: Vec<u8>,
    is_end: bool,
    attribute: Vec<u8>,
    has_hidden: bool,
    last_start: Vec<u8>,
}

impl<'p, 'a> Tokens<'p, 'a> {
    fn new(page: &'p mut Page<'a>) -> Self {
        Self {
            page,
            position: 0,
            resume: 0,
            literal: None,
            name: Vec::new(),
            is_end: false,
            attribute: Vec::new(),
            has_hidden: false,
            last_start: Vec::new(),
        }
    }

    fn flush(&mut self) {
        if let Some((start, end)) = self.literal.take() {
            self.page.literal(start, end);
        }
    }

    fn close_attribute(&mut self) {
        self.has_hidden |= self.attribute == b"hidden";
        self.attribute.clear();
    }

    fn init_tag(&mut self, is_end: bool) {
        self.name.clear();
        self.attribute.clear();
        self.has_hidden = false;
        self.is_end = is_end;
    }

    /// The place of `text` where it stands in the source as it is, not before what was reported last.
    fn find(&self, text: &[u8]) -> Option<usize> {
        let start = self.position.checked_sub(text.len()).filter(|start| *start >= self.resume)?;
        (self.page.source.as_bytes().get(start..self.position) == Some(text)).then_some(start)
    }
}

impl Emitter for Tokens<'_, '_> {
    type Token = Infallible;

    fn set_last_start_tag(&mut self, name: Option<&[u8]>) {
        self.last_start = name.unwrap_or_default().to_vec();
    }

    fn emit_eof(&mut self) {
        self.flush();
    }

    fn emit_error(&mut self, _: Error) {}

    fn should_emit_errors(&mut self) -> bool {
        false
    }

    fn pop_token(&mut self) -> Option<Infallible> {
        None
    }

    fn emit_string(&mut self, text: &[u8]) {
        match (self.find(text), &mut self.literal) {
            (Some(start), Some((_, end))) if *end == start => *end = self.position,
            (Some(start), _) => {
                self.flush();
                self.literal = Some((start, self.position));
            }
            (None, _) => {
                self.flush();
                let start = self.resume.min(self.position);
                self.page.replaced(&String::from_utf8_lossy(text), start, self.position);
            }
        }
        self.resume = self.position;
    }

    fn init_start_tag(&mut self) {
        self.init_tag(false);
    }

    fn init_end_tag(&mut self) {
        self.init_tag(true);
    }

    fn init_comment(&mut self) {}

    fn emit_current_tag(&mut self) -> Option<State> {
        self.flush();
        self.close_attribute();
        self.resume = self.position;
        if self.is_end {
            self.page.end_tag(&self.name);
            return None;
        }
        self.page.start_tag(&self.name, self.has_hidden);
        self.last_start.clone_from(&self.name);
        naive_next_state(&self.name)
    }

    fn emit_current_comment(&mut self) {
        self.flush();
        self.resume = self.position;
    }

    fn emit_current_doctype(&mut self) {
        self.flush();
        self.resume = self.position;
    }

    fn set_self_closing(&mut self) {}

    fn set_force_quirks(&mut self) {}

    fn push_tag_name(&mut self, name: &[u8]) {
        self.name.extend(name);
    }

    fn push_comment(&mut self, _: &[u8]) {}

    fn push_doctype_name(&mut self, _: &[u8]) {}

    fn init_doctype(&mut self) {}

    fn init_attribute(&mut self) {
        self.close_attribute();
    }

    fn push_attribute_name(&mut self, name: &[u8]) {
        self.attribute.extend(name);
    }

    fn push_attribute_value(&mut self, _: &[u8]) {}

    fn set_doctype_public_identifier(&mut self, _: &[u8]) {}

    fn set_doctype_system_identifier(&mut self, _: &[u8]) {}

    fn push_doctype_public_identifier(&mut self, _: &[u8]) {}

    fn push_doctype_system_identifier(&mut self, _: &[u8]) {}

    fn current_is_appropriate_end_tag_token(&mut self) -> bool {
        self.is_end && !self.last_start.is_empty() && self.last_start == self.name
    }

    fn move_position(&mut self, by: isize) {
        self.position = self.position.saturating_add_signed(by);
    }
}
