//! What is known about the language of a text: how its words are reduced to stems, which words mean little, and where
//! its full stops end no sentence.

use rust_stemmers::{Algorithm, Stemmer};
use whatlang::Lang;

/// How much text is looked at to recognise its language. More changes nothing but the time it takes.
const SAMPLE: usize = 16 * 1024;

/// A language, known or not.
pub struct Language {
    code: Option<String>,
    stemmer: Option<Stemmer>,
    stop_words: Vec<&'static str>,
}

impl Language {
    /// The language with this ISO 639-3 code.
    #[must_use]
    pub fn new(code: &str) -> Self {
        let mut stop_words = two_letters(code).and_then(stop_words::lookup).unwrap_or_default().to_vec();
        stop_words.sort_unstable();
        Self { code: Some(code.to_owned()), stemmer: algorithm(code).map(Stemmer::create), stop_words }
    }

    /// A language of which nothing is known: words are taken as they are.
    #[must_use]
    pub fn unknown() -> Self {
        Self { code: None, stemmer: None, stop_words: Vec::new() }
    }

    /// The language of `texts`, by their beginnings, if it can be told.
    #[must_use]
    pub fn recognise<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut sample = String::new();
        for text in texts {
            let room = SAMPLE.saturating_sub(sample.len());
            if room == 0 {
                break;
            }
            sample.push_str(&text[..text.floor_char_boundary(room)]);
            sample.push(' ');
        }
        let told = whatlang::detect(&sample).filter(|info| info.is_reliable());
        told.map_or_else(Self::unknown, |info| Self::new(info.lang().code()))
    }

    /// Its ISO 639-3 code, if it is known.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The stem of a word in small letters, or none if the word means little.
    #[must_use]
    pub fn stem(&self, word: &str) -> Option<String> {
        if self.stop_words.binary_search(&word).is_ok() {
            return None;
        }
        match &self.stemmer {
            Some(stemmer) => Some(stemmer.stem(word).into_owned()),
            None => Some(word.to_owned()),
        }
    }

    /// Whether a number with a full stop is an ordinal in this language, so that the stop need not end a sentence.
    #[must_use]
    pub fn has_ordinal_stops(&self) -> bool {
        const ORDINAL_STOPS: [&str; 16] = [
            "ces", "dan", "deu", "est", "fin", "hrv", "hun", "isl", "lav", "nno", "nob", "pol", "slk", "slv", "srp",
            "tur",
        ];
        self.code().is_some_and(|code| ORDINAL_STOPS.contains(&code))
    }
}

/// The Snowball algorithm for a language.
fn algorithm(code: &str) -> Option<Algorithm> {
    Some(match Lang::from_code(code)? {
        Lang::Ara => Algorithm::Arabic,
        Lang::Dan => Algorithm::Danish,
        Lang::Nld => Algorithm::Dutch,
        Lang::Eng => Algorithm::English,
        Lang::Fin => Algorithm::Finnish,
        Lang::Fra => Algorithm::French,
        Lang::Deu => Algorithm::German,
        Lang::Ell => Algorithm::Greek,
        Lang::Hun => Algorithm::Hungarian,
        Lang::Ita => Algorithm::Italian,
        Lang::Nob => Algorithm::Norwegian,
        Lang::Por => Algorithm::Portuguese,
        Lang::Ron => Algorithm::Romanian,
        Lang::Rus => Algorithm::Russian,
        Lang::Spa => Algorithm::Spanish,
        Lang::Swe => Algorithm::Swedish,
        Lang::Tam => Algorithm::Tamil,
        Lang::Tur => Algorithm::Turkish,
        _ => return None,
    })
}

/// The ISO 639-1 code under which the lists of stop words know a language.
fn two_letters(code: &str) -> Option<&'static str> {
    const CODES: [(&str, &str); 47] = [
        ("afr", "af"),
        ("ara", "ar"),
        ("ben", "bn"),
        ("bul", "bg"),
        ("cat", "ca"),
        ("ces", "cs"),
        ("dan", "da"),
        ("deu", "de"),
        ("ell", "el"),
        ("eng", "en"),
        ("epo", "eo"),
        ("est", "et"),
        ("fin", "fi"),
        ("fra", "fr"),
        ("guj", "gu"),
        ("heb", "he"),
        ("hin", "hi"),
        ("hrv", "hr"),
        ("hun", "hu"),
        ("hye", "hy"),
        ("ind", "id"),
        ("ita", "it"),
        ("lat", "la"),
        ("lav", "lv"),
        ("lit", "lt"),
        ("mar", "mr"),
        ("nld", "nl"),
        ("nob", "no"),
        ("pes", "fa"),
        ("pol", "pl"),
        ("por", "pt"),
        ("ron", "ro"),
        ("rus", "ru"),
        ("slk", "sk"),
        ("slv", "sl"),
        ("sna", "sn"),
        ("spa", "es"),
        ("swe", "sv"),
        ("tgl", "tl"),
        ("tur", "tr"),
        ("ukr", "uk"),
        ("urd", "ur"),
        ("vie", "vi"),
        ("zul", "zu"),
        ("eus", "eu"),
        ("gle", "ga"),
        ("glg", "gl"),
    ];
    CODES.iter().find(|(own, _)| *own == code).map(|(_, short)| *short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_language_has_stems_and_stop_words() {
        let english = Language::new("eng");
        assert_eq!(english.stem("composing"), english.stem("composed"));
        assert_eq!(english.stem("the"), None);
        assert_eq!(Language::new("rus").stem("не"), None);
    }

    #[test]
    fn an_unknown_language_keeps_its_words() {
        assert_eq!(Language::unknown().stem("the").as_deref(), Some("the"));
        assert_eq!(Language::new("xyz").stem("the").as_deref(), Some("the"));
        assert_eq!(Language::new("xyz").code(), Some("xyz"));
    }

    #[test]
    fn languages_are_recognised_and_nonsense_is_not() {
        let code = |text| Language::recognise([text].into_iter()).code().map(str::to_owned);
        let german =
            "Der Bericht beschreibt, wie die Stadt ihre Brücken prüft und welche davon erneuert werden müssen.";
        assert_eq!(code(german).as_deref(), Some("deu"));
        assert_eq!(code("橋を調べる作業は毎年春に始まります。").as_deref(), Some("jpn"));
        assert_eq!(code("12 34 -- 56"), None);
        assert_eq!(code(""), None);
    }

    #[test]
    fn every_stop_word_list_that_is_named_exists() {
        for code in ["eng", "deu", "rus", "ara", "hin", "fra", "spa", "ukr", "vie", "nob", "pes", "gle"] {
            assert!(!Language::new(code).stop_words.is_empty(), "{code}");
        }
    }
}
