//! Fonts: which characters a string shows, and how far each goes.

use super::unpack::Budget;
use crate::extraction::Error;
use hayro_cmap::BfString;
use hayro_font::{CMapResolverFn, Font, FontCache, FontGlyph, FontQuery, FontResolverFn};
use hayro_syntax::object::dict::keys::{
    CID_TO_GID_MAP, DESCENDANT_FONTS, ENCODING, FIRST_CHAR, FONT_DESC, FONT_FILE, FONT_FILE2, FONT_FILE3, TO_UNICODE,
    W, W2,
};
use hayro_syntax::object::{Array, Dict, Name, Number, Object, ObjectIdentifier, Stream};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most codes that a font of one byte has, and one of several.
const SIMPLE_CODES: i64 = 255;
const COMPOSITE_CODES: i64 = 65_535;

/// A font as it is used.
#[derive(Clone)]
pub struct Face<'a> {
    font: Font<'a>,
    /// Whether codes are UTF-16 by the font's encoding, which serves where the font has no map to Unicode.
    is_unicode: bool,
    /// Whether the font has such a map. A glyph that it leaves out is a part of the one before: shaping makes several
    /// glyphs of one character.
    is_mapped: bool,
}

/// The fonts of a document.
pub struct Fonts<'a> {
    cache: FontCache<'a>,
    /// Fonts by their object, checked once.
    faces: BTreeMap<ObjectIdentifier, Option<Face<'a>>>,
    programs: FontResolverFn,
    maps: CMapResolverFn,
}

impl Default for Fonts<'_> {
    fn default() -> Self {
        Self {
            cache: FontCache::new(),
            faces: BTreeMap::new(),
            programs: Arc::new(|query| {
                Some(match query {
                    FontQuery::Standard(font) => font.get_font_data(),
                    FontQuery::Fallback(query) => query.pick_standard_font().get_font_data(),
                })
            }),
            maps: Arc::new(hayro_cmap::load_embedded),
        }
    }
}

impl<'a> Fonts<'a> {
    /// The font of a dictionary; none if it cannot be made out.
    pub fn face(&mut self, dict: &Dict<'a>, budget: &mut Budget) -> Result<Option<Face<'a>>, Error> {
        let id = dict.obj_id();
        if let Some(face) = id.and_then(|id| self.faces.get(&id)) {
            return Ok(face.clone());
        }
        check(dict, budget)?;
        let font = self.cache.font(dict, &self.programs, &self.maps);
        let face =
            font.map(|font| Face { font, is_unicode: is_unicode(dict), is_mapped: dict.contains_key(TO_UNICODE) });
        if let Some(id) = id {
            self.faces.insert(id, face.clone());
        }
        Ok(face)
    }
}

impl Face<'_> {
    /// The characters of a string, each with its code, the bytes of it, and how far it goes in thousandths of the
    /// font's size: across, and down for vertical writing.
    pub fn read(&self, string: &[u8], mut each: impl FnMut(Shown)) {
        let mut at = 0;
        while at < string.len() {
            let (code, length) = self.font.read_code(string, at);
            at += length.max(1);
            let advance = self.font.code_advance(code);
            each(Shown {
                text: self.text(code),
                is_space: code == 32 && length == 1,
                across: advance.x,
                down: advance.y,
            });
        }
    }

    /// Whether text goes across the page rather than down.
    pub fn is_horizontal(&self) -> bool {
        self.font.is_horizontal()
    }

    /// A code without a known character becomes the replacement character, rather than a guess.
    fn text(&self, code: u32) -> String {
        let glyph = self.font.glyph(self.font.map_code(code), code);
        let mapped = match &glyph {
            FontGlyph::Outline(glyph) => glyph.as_unicode(),
            FontGlyph::Type3(glyph) => glyph.as_unicode(),
        };
        match mapped {
            Some(BfString::Char(character)) => character.to_string(),
            Some(BfString::String(text)) => text,
            None if self.is_unicode => char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER).to_string(),
            None if self.is_mapped => String::new(),
            None => char::REPLACEMENT_CHARACTER.to_string(),
        }
    }
}

/// A character that is shown.
pub struct Shown {
    /// What it stands for; several characters for a ligature.
    pub text: String,
    /// Whether word spacing applies to it.
    pub is_space: bool,
    /// How far it goes across, in thousandths of the font's size.
    pub across: f64,
    /// How far it goes down, in thousandths of the font's size.
    pub down: f64,
}

/// Pays for what loading the font unpacks, and refuses ranges that no font has, since loading fills them in.
fn check(dict: &Dict<'_>, budget: &mut Budget) -> Result<(), Error> {
    pay(dict, budget)?;
    within(dict.get::<Number>(FIRST_CHAR), SIMPLE_CODES)?;
    let descendants = dict.get::<Array<'_>>(DESCENDANT_FONTS);
    // Only the first is used.
    if let Some(descendant) = descendants.and_then(|fonts| fonts.iter::<Dict<'_>>().next()) {
        pay(&descendant, budget)?;
        for key in [W, W2] {
            for width in descendant.get::<Array<'_>>(key).iter().flat_map(|widths| widths.iter::<Object<'_>>()) {
                within(width.into_number(), COMPOSITE_CODES)?;
            }
        }
    }
    Ok(())
}

fn pay(dict: &Dict<'_>, budget: &mut Budget) -> Result<(), Error> {
    let descriptor = dict.get::<Dict<'_>>(FONT_DESC).unwrap_or_default();
    let own = [TO_UNICODE, ENCODING, CID_TO_GID_MAP].map(|key| dict.get::<Stream<'_>>(key));
    let programs = [FONT_FILE, FONT_FILE2, FONT_FILE3].map(|key| descriptor.get::<Stream<'_>>(key));
    own.into_iter().chain(programs).flatten().try_for_each(|stream| budget.pay(&stream))
}

fn within(number: Option<Number>, most: i64) -> Result<(), Error> {
    match number.map(|number| number.as_i64()) {
        Some(code) if code > most => {
            Err(Error::Malformed(format!("a font of the PDF has the code {code}, where {most} is the greatest")))
        }
        _ => Ok(()),
    }
}

fn is_unicode(dict: &Dict<'_>) -> bool {
    let encoding = dict.get::<Name<'_>>(ENCODING);
    encoding.is_some_and(|name| name.as_str().contains("-UCS2-") || name.as_str().contains("-UTF16-"))
}
