//! Follows the drawing instructions of a page, and notes the characters and where they stand.

use super::fonts::{Face, Fonts};
use super::text_string;
use super::unpack::Budget;
use crate::extraction::Error;
use crate::limits;
use hayro_font::kurbo::{Affine, Point, Vec2};
use hayro_syntax::content::TypedIter;
use hayro_syntax::content::ops::TypedInstruction;
use hayro_syntax::object::dict::keys::{ACTUAL_TEXT, CONTENTS, MATRIX, RESOURCES, SUBTYPE};
use hayro_syntax::object::{self, Array, Dict, Name, Number, Object, ObjectIdentifier, Stream, dict_or_stream};
use hayro_syntax::page::{Page, Resources};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Graphics states that are kept; the specification asks for 28.
const SAVED: usize = 512;

/// A character, or several that stand as one, on the page.
#[derive(Debug, Clone)]
pub struct Glyph {
    /// What it stands for; empty for a part of a character that another glyph stands for.
    pub text: String,
    /// Where it begins and ends on its baseline, in points from the page's lower left.
    pub start: Point,
    /// Where the next one would begin.
    pub end: Point,
    /// The direction of writing, of length 1.
    pub direction: Vec2,
    /// The height of the font.
    pub size: f64,
    /// The level, if it is marked as a heading.
    pub heading: Option<u8>,
}

/// Draws the pages of a document.
pub struct Artist<'a, 'b> {
    budget: &'b mut Budget,
    fonts: Fonts<'a>,
    /// Drawings that pages share, unpacked.
    forms: BTreeMap<ObjectIdentifier, Rc<Vec<u8>>>,
    /// Instructions and bytes of text that may still follow.
    instructions: usize,
    text: usize,
    glyphs: Vec<Glyph>,
    marks: Vec<Mark>,
}

/// The part of the graphics state that text depends on.
#[derive(Clone)]
struct State<'a> {
    page: Affine,
    face: Option<Face<'a>>,
    size: f64,
    character_space: f64,
    word_space: f64,
    scale: f64,
    leading: f64,
    rise: f64,
}

/// Content that is marked as something.
#[derive(Default)]
struct Mark {
    /// Not text of the document: page numbers, running titles.
    is_artifact: bool,
    heading: Option<u8>,
    /// What the glyphs stand for, which the content's own characters may not say; and how many came before.
    actual: Option<(String, usize)>,
}

/// Where text goes next, and where its line began.
#[derive(Default, Clone, Copy)]
struct Pen {
    matrix: Affine,
    line: Affine,
}

impl<'a, 'b> Artist<'a, 'b> {
    /// An artist that unpacks within `budget`.
    pub fn new(budget: &'b mut Budget) -> Self {
        Self {
            budget,
            fonts: Fonts::default(),
            forms: BTreeMap::new(),
            instructions: limits::INSTRUCTIONS,
            text: limits::TEXT,
            glyphs: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// The characters of a page in the order in which they are drawn.
    pub fn draw(&mut self, page: &Page<'a>) -> Result<Vec<Glyph>, Error> {
        let dict = page.raw();
        let single = dict.get::<Stream<'_>>(CONTENTS);
        let several = dict.get::<Array<'_>>(CONTENTS);
        for stream in single.into_iter().chain(several.iter().flat_map(|streams| streams.iter::<Stream<'_>>())) {
            self.budget.pay(&stream)?;
        }
        self.marks.clear();
        if let Some(content) = page.page_stream() {
            self.content(content, page.resources(), Affine::IDENTITY, 0)?;
        }
        Ok(std::mem::take(&mut self.glyphs))
    }

    fn content(&mut self, content: &[u8], resources: &Resources<'a>, page: Affine, depth: usize) -> Result<(), Error> {
        let mut state = State::new(page);
        let mut saved = Vec::new();
        let mut pen = Pen::default();
        let marks = self.marks.len();
        let mut instructions = TypedIter::new(content);
        while let Some(instruction) = instructions.next() {
            self.instructions = self
                .instructions
                .checked_sub(1)
                .ok_or_else(|| Error::too_large("the PDF", limits::INSTRUCTIONS, "drawing instructions"))?;
            use TypedInstruction as I;
            match instruction {
                I::SaveState(_) if saved.len() < SAVED => saved.push(state.clone()),
                I::RestoreState(_) => state = saved.pop().unwrap_or(state),
                I::Transform(m) => state.page *= affine([m.0, m.1, m.2, m.3, m.4, m.5]),
                I::BeginText(_) => pen = Pen::default(),
                I::SetTextMatrix(m) => pen.set(affine([m.0, m.1, m.2, m.3, m.4, m.5])),
                I::TextFont(font) => {
                    state.size = font.1.as_f64();
                    state.face = match resources.get_font(font.0) {
                        Some(dict) => self.fonts.face(&dict, self.budget)?,
                        None => None,
                    };
                }
                I::CharacterSpacing(space) => state.character_space = space.0.as_f64(),
                I::WordSpacing(space) => state.word_space = space.0.as_f64(),
                I::HorizontalScaling(scale) => state.scale = scale.0.as_f64() / 100.0,
                I::TextLeading(leading) => state.leading = leading.0.as_f64(),
                I::TextRise(rise) => state.rise = rise.0.as_f64(),
                I::NextLine(by) => pen.move_line(by.0.as_f64(), by.1.as_f64()),
                I::NextLineAndSetLeading(by) => {
                    state.leading = -by.1.as_f64();
                    pen.move_line(by.0.as_f64(), by.1.as_f64());
                }
                I::NextLineUsingLeading(_) => pen.move_line(0.0, -state.leading),
                I::ShowText(shown) => self.show(&state, &mut pen, shown.0)?,
                I::NextLineAndShowText(shown) => {
                    pen.move_line(0.0, -state.leading);
                    self.show(&state, &mut pen, shown.0)?;
                }
                I::ShowTextWithParameters(shown) => {
                    state.word_space = shown.0.as_f64();
                    state.character_space = shown.1.as_f64();
                    pen.move_line(0.0, -state.leading);
                    self.show(&state, &mut pen, shown.2)?;
                }
                I::ShowTexts(shown) => {
                    for piece in shown.0.iter::<Object<'_>>() {
                        match piece {
                            Object::Number(by) => pen.adjust(&state, by.as_f64()),
                            Object::String(string) => self.show(&state, &mut pen, &string)?,
                            _ => {}
                        }
                    }
                }
                I::BeginMarkedContent(mark) => self.begin_mark(mark.0, None),
                I::BeginMarkedContentWithProperties(mark) => {
                    let named = mark.1.clone().into_name().and_then(|name| resources.properties.get(name));
                    let properties = named.or_else(|| dict_or_stream(mark.1).map(|(dict, _)| dict.clone()));
                    self.begin_mark(mark.0, properties.as_ref());
                }
                I::EndMarkedContent(_) if self.marks.len() > marks => self.end_mark(),
                I::XObject(name) => {
                    if let Some(form) = resources.get_x_object(name.0) {
                        self.form(&form, resources, state.page, depth)?;
                    }
                }
                _ => {}
            }
        }
        while self.marks.len() > marks {
            self.end_mark();
        }
        Ok(())
    }

    /// A drawing within the page. One that is too deep in others is left out, as it is when it holds itself.
    fn form(&mut self, form: &Stream<'a>, outer: &Resources<'a>, page: Affine, depth: usize) -> Result<(), Error> {
        let dict = form.dict();
        let is_form = dict.get::<Name<'_>>(SUBTYPE).is_some_and(|name| name.as_str() == "Form");
        if !is_form || depth >= limits::NESTED_FORMS {
            return Ok(());
        }
        let content = match self.forms.get(&form.obj_id()) {
            Some(content) => Rc::clone(content),
            None => {
                self.budget.pay(form)?;
                let content = Rc::new(form.decoded_data().map(|data| data.into_owned()).unwrap_or_default());
                self.forms.insert(form.obj_id(), Rc::clone(&content));
                content
            }
        };
        let matrix = dict.get::<[f64; 6]>(MATRIX).map_or(Affine::IDENTITY, Affine::new);
        let own = dict.get::<Dict<'_>>(RESOURCES).map(Resources::new);
        self.content(&content, own.as_ref().unwrap_or(outer), page * matrix, depth + 1)
    }

    fn show(&mut self, state: &State<'a>, pen: &mut Pen, string: &object::String<'_>) -> Result<(), Error> {
        let Some(face) = &state.face else { return Ok(()) };
        let is_artifact = self.marks.iter().any(|mark| mark.is_artifact);
        let heading = self.marks.iter().rev().find_map(|mark| mark.heading);
        let mut bytes = 0;
        let glyphs = &mut self.glyphs;
        face.read(string.as_bytes(), |shown| {
            let before = state.page * pen.matrix;
            let spacing = state.character_space + if shown.is_space { state.word_space } else { 0.0 };
            let ink = Vec2::new(shown.across, shown.down) / 1000.0 * state.size;
            let (ink, advance) = if face.is_horizontal() {
                (Vec2::new(ink.x * state.scale, 0.0), Vec2::new((ink.x + spacing) * state.scale, 0.0))
            } else {
                (Vec2::new(0.0, ink.y), Vec2::new(0.0, ink.y + spacing))
            };
            pen.matrix *= Affine::translate(advance);
            let start = before * Point::new(0.0, state.rise);
            let end = before * (Point::new(0.0, state.rise) + ink);
            let along = if face.is_horizontal() { Vec2::new(1.0, 0.0) } else { Vec2::new(0.0, -1.0) };
            let direction = turn(before, along * state.size.signum());
            let size = turn_length(before, Vec2::new(0.0, state.size));
            bytes += shown.text.len();
            let is_sound = [start.x, start.y, end.x, end.y, direction.x, size].iter().all(|n| n.is_finite());
            let has_room = glyphs.len() <= limits::CHARACTERS;
            if has_room && !is_artifact && is_sound && size > 0.0 {
                glyphs.push(Glyph { text: shown.text, start, end, direction, size, heading });
            }
        });
        if self.glyphs.len() > limits::CHARACTERS {
            return Err(Error::too_large("a page of the PDF", limits::CHARACTERS, "characters"));
        }
        self.text =
            self.text.checked_sub(bytes).ok_or_else(|| Error::too_large("the PDF", limits::TEXT, "bytes of text"))?;
        Ok(())
    }

    fn begin_mark(&mut self, tag: &Name<'_>, properties: Option<&Dict<'_>>) {
        // Deeper marks count, so that each end finds its beginning, but say nothing.
        let mark = if self.marks.len() < limits::DEPTH {
            let tag = tag.as_str();
            let level = tag.strip_prefix('H').and_then(|level| level.parse().ok());
            let actual = properties.and_then(|dict| dict.get::<object::String<'_>>(ACTUAL_TEXT));
            Mark {
                is_artifact: tag == "Artifact",
                heading: level.filter(|level| (1..=6).contains(level)).or((tag == "Title").then_some(1)),
                actual: actual.map(|text| (text_string(text.as_bytes()), self.glyphs.len())),
            }
        } else {
            Mark::default()
        };
        self.marks.push(mark);
    }

    /// Puts what glyphs stand for in the place of what their codes say.
    fn end_mark(&mut self) {
        let Some((text, from)) = self.marks.pop().and_then(|mark| mark.actual) else { return };
        let glyphs = self.glyphs.get(from..).unwrap_or_default();
        if let [first, .., last] | [first @ last] = glyphs {
            let (start, end) = if (last.end - first.start).dot(first.direction) < 0.0 {
                (last.start, first.end)
            } else {
                (first.start, last.end)
            };
            let glyph = Glyph { text, start, end, ..first.clone() };
            self.glyphs.truncate(from);
            self.glyphs.push(glyph);
        }
    }
}

impl State<'_> {
    fn new(page: Affine) -> Self {
        Self { page, face: None, size: 1.0, character_space: 0.0, word_space: 0.0, scale: 1.0, leading: 0.0, rise: 0.0 }
    }
}

impl Pen {
    fn set(&mut self, matrix: Affine) {
        *self = Self { matrix, line: matrix };
    }

    fn move_line(&mut self, x: f64, y: f64) {
        self.set(self.line * Affine::translate((x, y)));
    }

    /// Moves back by thousandths of the font's size.
    fn adjust(&mut self, state: &State<'_>, by: f64) {
        let by = -by / 1000.0 * state.size;
        let is_horizontal = state.face.as_ref().is_none_or(Face::is_horizontal);
        let by = if is_horizontal { (by * state.scale, 0.0) } else { (0.0, by) };
        self.matrix *= Affine::translate(by);
    }
}

fn affine(numbers: [Number; 6]) -> Affine {
    Affine::new(numbers.map(|number| number.as_f64()))
}

/// A vector as `by` turns it, of length 1.
fn turn(by: Affine, vector: Vec2) -> Vec2 {
    let turned = by * vector.to_point() - by * Point::ORIGIN;
    if turned.hypot() > 0.0 { turned / turned.hypot() } else { Vec2::new(1.0, 0.0) }
}

fn turn_length(by: Affine, vector: Vec2) -> f64 {
    (by * vector.to_point() - by * Point::ORIGIN).hypot()
}
