//! What a paragraph's style makes of it.

use super::xml::{Element, Handler, walk};
use crate::extraction::{Error, Kind};
use std::collections::BTreeMap;

/// Steps that are followed from a style to the one it is based on; Word allows about ten.
const STEPS: usize = 16;

/// The outline level that stands for running text.
const BODY_LEVEL: u8 = 9;

/// The paragraph styles of a document.
#[derive(Default)]
pub struct Styles {
    styles: BTreeMap<String, Style>,
    /// The style that is being read.
    current: Option<(String, Style)>,
}

#[derive(Default)]
struct Style {
    name: String,
    based_on: Option<String>,
    outline: Option<u8>,
    is_list: bool,
}

/// What a style says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The title of the document.
    Title,
    /// A block of this kind.
    Block(Kind),
}

impl Styles {
    /// Reads the part that defines the styles.
    pub fn read(path: &str, part: &str) -> Result<Self, Error> {
        let mut styles = Self::default();
        walk(path, part, &mut styles)?;
        Ok(styles)
    }

    /// What the style `id`, or the first it is based on that says anything, makes of a paragraph.
    pub fn meaning(&self, id: &str) -> Option<Meaning> {
        let mut next = self.styles.get(id);
        for _ in 0..STEPS {
            let style = next?;
            if let Some(meaning) = style.meaning() {
                return Some(meaning);
            }
            next = self.styles.get(style.based_on.as_ref()?);
        }
        None
    }
}

impl Style {
    fn meaning(&self) -> Option<Meaning> {
        let name = self.name.to_lowercase();
        if name == "title" {
            return Some(Meaning::Title);
        }
        let numbered = name.strip_prefix("heading ").and_then(|level| level.parse().ok());
        let kind = match name.as_str() {
            _ if numbered.is_some_and(|level| (1..=9).contains(&level)) => numbered.map(Kind::Heading),
            "quote" | "intense quote" | "block text" | "quotations" => Some(Kind::Quote),
            "html preformatted" | "preformatted text" | "source code" | "plain text" => Some(Kind::Code),
            _ => heading(self.outline).or_else(|| self.is_list.then_some(Kind::ListItem)),
        };
        kind.map(Meaning::Block)
    }
}

/// The heading of an outline level, which counts from 0.
pub fn heading(outline: Option<u8>) -> Option<Kind> {
    outline.filter(|level| *level < BODY_LEVEL).map(|level| Kind::Heading(level + 1))
}

impl Handler for Styles {
    fn start(&mut self, element: &Element<'_>) {
        if element.name() == "style" {
            self.current = element.attribute("styleId").map(|id| (id, Style::default()));
        }
        let Some((_, style)) = &mut self.current else {
            return;
        };
        match element.name() {
            "name" => style.name = element.attribute("val").unwrap_or_default(),
            "basedOn" => style.based_on = element.attribute("val"),
            "outlineLvl" => style.outline = element.attribute("val").and_then(|level| level.parse().ok()),
            "numId" => style.is_list = element.attribute("val").is_some_and(|id| id != "0"),
            _ => {}
        }
    }

    fn end(&mut self, name: &str) {
        if name == "style"
            && let Some((id, style)) = self.current.take()
        {
            self.styles.insert(id, style);
        }
    }
}
