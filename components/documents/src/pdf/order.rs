//! The order of reading within a line. A page says where characters stand, and scripts that are written from the
//! right stand in it from right to left, with numbers and Latin words in them from left to right.

/// What a piece of a line says of its direction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strength {
    Left,
    Right,
    Neutral,
}

/// Whether any of the text is written from the right.
pub fn has_right_to_left<'t>(texts: impl IntoIterator<Item = &'t str>) -> bool {
    texts.into_iter().any(|text| strength(text) == Strength::Right)
}

/// Puts pieces that stand from left to right into the order in which they are read.
pub fn read(pieces: Vec<String>) -> Vec<String> {
    // Digits do not say in which direction a line is read.
    let count = |wanted| pieces.iter().filter(|p| strength(p) == wanted && !p.contains(char::is_numeric)).count();
    if count(Strength::Right) >= count(Strength::Left) {
        let mut pieces = pieces;
        pieces.reverse();
        turn_stretches(pieces, Strength::Left)
    } else {
        turn_stretches(pieces, Strength::Right)
    }
}

/// Turns round every stretch that begins and ends with pieces of the strength `of` and holds none of the other.
fn turn_stretches(mut pieces: Vec<String>, of: Strength) -> Vec<String> {
    let mut stretch: Option<(usize, usize)> = None;
    for index in 0..=pieces.len() {
        let strength = pieces.get(index).map(|piece| strength(piece));
        match (strength, stretch) {
            (Some(found), Some((start, _))) if found == of => stretch = Some((start, index + 1)),
            (Some(found), None) if found == of => stretch = Some((index, index + 1)),
            (Some(Strength::Neutral), _) => {}
            (_, Some((start, end))) => {
                pieces[start..end].reverse();
                stretch = None;
            }
            (_, None) => {}
        }
    }
    pieces
}

fn strength(piece: &str) -> Strength {
    let strong = piece.chars().find(|c| c.is_alphanumeric());
    match strong {
        // Digits go from left to right in every script.
        Some(digit) if digit.is_numeric() => Strength::Left,
        Some('\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{feff}' | '\u{1e800}'..='\u{1efff}') => {
            Strength::Right
        }
        Some(_) => Strength::Left,
        None => Strength::Neutral,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(visual: &str) -> String {
        read(visual.chars().map(String::from).collect()).concat()
    }

    #[test]
    fn text_from_the_right_is_turned_round() {
        assert_eq!(read_text("ملاس"), "سالم");
    }

    #[test]
    fn numbers_and_latin_within_it_are_not() {
        assert_eq!(read_text(".בג PDF 12.5 אבג"), "גבא PDF 12.5 גב.");
    }

    #[test]
    fn a_word_from_the_right_within_latin_is_turned_round() {
        assert_eq!(read_text("the word אב is here"), "the word בא is here");
    }
}
