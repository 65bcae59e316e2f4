//! Markdown, read by pulldown-cmark, whose events carry their place in the source.

use crate::builder::Builder;
use crate::decode::Decoded;
use crate::extraction::{self, Extraction, Kind};
use crate::html;
use pulldown_cmark::{Event, MetadataBlockKind, Options, Parser, Tag, TagEnd};
use std::ops::Range;

/// Reads Markdown.
pub fn extract(document: &Decoded<'_>) -> Extraction {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    let mut reader = Reader { source: &document.text, ..Reader::default() };
    for (event, range) in Parser::new_ext(&document.text, options).into_offset_iter() {
        reader.event(event, range);
    }
    let heading = reader.heading;
    let mut extraction = reader.builder.finish(reader.title);
    if extraction.title.is_none() {
        let first = extraction.blocks.iter().find(|block| block.kind == Kind::Heading(1)).filter(|_| heading);
        extraction.title = first.and_then(|block| extraction::title(&extraction.text[block.start..block.end]));
    }
    extraction.runs = document.locate(extraction.runs);
    extraction
}

#[derive(Default)]
struct Reader<'a> {
    source: &'a str,
    builder: Builder,
    title: Option<String>,
    /// Whether there is a heading of the first level.
    heading: bool,
    /// The quotations and list items around the reader; the innermost names the block.
    containers: Vec<Kind>,
    /// What text is for, where it is not running text.
    within: Within,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Within {
    #[default]
    Text,
    Code,
    /// A description of an image, which is markup rather than text of the document.
    Image(usize),
    Metadata,
}

impl Reader<'_> {
    fn event(&mut self, event: Event<'_>, range: Range<usize>) {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => self.text(&text, range),
            Event::Code(text) | Event::InlineMath(text) | Event::DisplayMath(text) => self.code(&text, range),
            Event::Html(_) => html::fragment(&mut self.builder, &self.source[range.clone()], range.start),
            Event::SoftBreak | Event::HardBreak => self.line_end(range),
            Event::Rule => self.builder.end(),
            Event::InlineHtml(tag) if tag.to_ascii_lowercase().starts_with("<br") => self.builder.space(None),
            Event::InlineHtml(_) | Event::FootnoteReference(_) | Event::TaskListMarker(_) => {}
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::Heading { level, .. } => {
                self.heading |= *level as u8 == 1;
                self.builder.begin(Kind::Heading(*level as u8));
            }
            Tag::Paragraph => self.begin(),
            Tag::BlockQuote(_) => self.enter(Kind::Quote),
            Tag::Item => self.enter(Kind::ListItem),
            Tag::TableCell => self.builder.begin(Kind::Cell),
            Tag::CodeBlock(_) => {
                self.builder.begin(Kind::Code);
                self.within = Within::Code;
            }
            Tag::Image { .. } => {
                self.within = Within::Image(if let Within::Image(depth) = self.within { depth + 1 } else { 1 });
            }
            Tag::MetadataBlock(MetadataBlockKind::YamlStyle | MetadataBlockKind::PlusesStyle) => {
                self.builder.end();
                self.within = Within::Metadata;
            }
            Tag::List(_) | Tag::HtmlBlock | Tag::FootnoteDefinition(_) | Tag::Table(_) => self.builder.end(),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::BlockQuote(_) | TagEnd::Item => {
                self.builder.end();
                self.containers.pop();
            }
            TagEnd::Image => {
                self.within = match self.within {
                    Within::Image(depth) if depth > 1 => Within::Image(depth - 1),
                    _ => Within::Text,
                };
            }
            TagEnd::CodeBlock | TagEnd::MetadataBlock(_) => {
                self.builder.end();
                self.within = Within::Text;
            }
            TagEnd::Heading(_)
            | TagEnd::Paragraph
            | TagEnd::TableCell
            | TagEnd::HtmlBlock
            | TagEnd::FootnoteDefinition => self.builder.end(),
            _ => {}
        }
    }

    fn enter(&mut self, kind: Kind) {
        self.builder.end();
        self.containers.push(kind);
    }

    /// Begins a block of the kind that what it stands in gives it.
    fn begin(&mut self) {
        self.builder.begin(self.containers.last().copied().unwrap_or(Kind::Paragraph));
    }

    fn text(&mut self, text: &str, range: Range<usize>) {
        match self.within {
            Within::Image(_) => {}
            Within::Metadata => self.metadata(text),
            Within::Code => self.place(text, range, Builder::verbatim),
            Within::Text => {
                // The text of a tight list item comes without a paragraph around it.
                if !self.builder.is_open() {
                    self.begin();
                }
                self.place(text, range, Builder::flow);
            }
        }
    }

    /// Text that stands in the source as it is keeps its exact place; a character reference has the reference's.
    fn place(&mut self, text: &str, range: Range<usize>, add: fn(&mut Builder, &str, usize)) {
        match self.source.get(range.clone()) {
            Some(source) if source == text => add(&mut self.builder, text, range.start),
            _ => self.builder.replaced(text, range.start, range.end),
        }
    }

    /// Code within a line: its range includes the marks around it.
    fn code(&mut self, text: &str, range: Range<usize>) {
        if self.within != Within::Text {
            return;
        }
        if !self.builder.is_open() {
            self.begin();
        }
        let inner = self.source.get(range.clone()).and_then(|source| source.find(text));
        match inner {
            Some(offset) => self.builder.flow(text, range.start + offset),
            None => self.builder.replaced(text, range.start, range.end),
        }
    }

    fn line_end(&mut self, range: Range<usize>) {
        if self.within == Within::Text {
            let feed = self.source.get(range.clone()).and_then(|source| source.find('\n'));
            self.builder.space(Some(range.start + feed.unwrap_or(0)));
        }
    }

    /// The front matter states a title as a line of its own; the rest of it is no text of the document.
    fn metadata(&mut self, text: &str) {
        let stated = text.lines().find_map(|line| line.strip_prefix("title:"));
        let title = stated.map(|title| title.trim().trim_matches(['"', '\'']));
        self.title = self.title.take().or_else(|| title.and_then(extraction::title));
    }
}
