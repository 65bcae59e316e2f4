//! Markdown, HTML and plain text: structure, and places in the document.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{blocks, check, check_bytes, source_of};
use documents::{Error, Extraction, Kind, extract, limits};
use proptest::prelude::*;

fn read(name: &str, document: &[u8]) -> Extraction {
    let extraction = extract(name, None, document).unwrap();
    check(&extraction, document);
    extraction
}

#[test]
fn markdown_gives_its_structure() {
    let document = "---\ntitle: \"From the front\"\nauthor: x\n---\n# One\n\nA *first* paragraph\nof `two` lines.\n\n\
        - item\n- another\n\n  in two\n\n> quoted\n\n```rust\nfn main() {\n    x();\n}\n```\n\n\
        | a | b |\n|---|---|\n| c | d |\n\n## Two\n\n![a picture](x.png) [link](y) text[^1]\n\n[^1]: The note.\n";
    let extraction = read("a.md", document.as_bytes());
    check_bytes(&extraction, document.as_bytes());
    assert_eq!(extraction.media_type, "text/markdown");
    assert_eq!(extraction.title.as_deref(), Some("From the front"));
    assert_eq!(
        blocks(&extraction),
        [
            (Kind::Heading(1), "One"),
            (Kind::Paragraph, "A first paragraph of two lines."),
            (Kind::ListItem, "item"),
            (Kind::ListItem, "another"),
            (Kind::ListItem, "in two"),
            (Kind::Quote, "quoted"),
            (Kind::Code, "fn main() {\n    x();\n}"),
            (Kind::Cell, "a"),
            (Kind::Cell, "b"),
            (Kind::Cell, "c"),
            (Kind::Cell, "d"),
            (Kind::Heading(2), "Two"),
            (Kind::Paragraph, "link text"),
            (Kind::Paragraph, "The note."),
        ]
    );
    let (start, end) = source_of(&extraction, "first paragraph of two lines.");
    assert_eq!(&document[start..end], "first* paragraph\nof `two` lines.");
}

#[test]
fn markdown_without_a_stated_title_takes_its_first_heading() {
    assert_eq!(read("a.md", b"text\n\n# The *title*\n\n# Other").title.as_deref(), Some("The title"));
    assert_eq!(read("a.md", b"## Only a section\n").title, None);
}

#[test]
fn html_in_markdown_is_read_as_html() {
    let document = "<p align=\"center\">\n<img src=x> Fish &amp; chips\n</p>\n\nMore<br>text &lt;here\\*.\n";
    let extraction = read("a.md", document.as_bytes());
    assert_eq!(blocks(&extraction), [(Kind::Paragraph, "Fish & chips"), (Kind::Paragraph, "More text <here*.")]);
    assert_eq!(source_of(&extraction, "& chips"), (document.find("&amp;").unwrap(), document.find("\n</p>").unwrap()));
    assert_eq!(source_of(&extraction, "<"), (document.find("&lt;").unwrap(), document.find("here").unwrap()));
}

#[test]
fn html_gives_its_structure() {
    let document = "<!DOCTYPE html><html><head><title>The &eacute;tude</title><style>p { x }</style>\
        <script>if (a < b) { alert('<p>no</p>') }</script></head><body><nav>Home</nav>\
        <h1>Head<b>ing</b></h1><p>One\n  two &amp; <a href=x>three</a>.<p hidden>not shown<p>shown\
        <ul><li>item<li><p>other</p></ul><blockquote>said</blockquote><pre>  a\n  b</pre>\
        <table><tr><th>x<td>1 &#60; 2</table><template>no</template><!-- no --></body></html>";
    let extraction = read("", document.as_bytes());
    check_bytes(&extraction, document.as_bytes());
    assert_eq!(extraction.media_type, "text/html");
    assert_eq!(extraction.title.as_deref(), Some("The étude"));
    assert_eq!(
        blocks(&extraction),
        [
            (Kind::Paragraph, "Home"),
            (Kind::Heading(1), "Heading"),
            (Kind::Paragraph, "One two & three."),
            (Kind::Paragraph, "shown"),
            (Kind::ListItem, "item"),
            (Kind::ListItem, "other"),
            (Kind::Quote, "said"),
            (Kind::Code, "  a\n  b"),
            (Kind::Cell, "x"),
            (Kind::Cell, "1 < 2"),
        ]
    );
    let (start, end) = source_of(&extraction, "two & three");
    assert_eq!(&document[start..end], "two &amp; <a href=x>three");
    let (start, end) = source_of(&extraction, "1 < 2");
    assert_eq!(&document[start..end], "1 &#60; 2");
}

#[test]
fn plain_text_is_the_document() {
    let document = "\u{feff}First line\nof two.\r\n\r\n\n  Перший абзац.\n";
    let extraction = read("a.txt", document.as_bytes());
    check_bytes(&extraction, document.as_bytes());
    assert_eq!(blocks(&extraction), [(Kind::Paragraph, "First line\nof two."), (Kind::Paragraph, "  Перший абзац.")]);
    let (start, end) = source_of(&extraction, "Перший абзац.");
    assert_eq!(&document[start..end], "Перший абзац.");
}

#[test]
fn other_encodings_keep_their_places() {
    let text = "Naïve café.\n\nZweiter Satz über Öl.";
    let wide: Vec<u8> = [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_be_bytes).collect();
    let extraction = read("a.txt", &wide);
    assert_eq!(blocks(&extraction)[0].1, "Naïve café.");
    let (start, end) = source_of(&extraction, "Zweiter Satz");
    let units: Vec<u16> = wide[start..end].chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    assert_eq!(String::from_utf16(&units).unwrap().trim_end(), "Zweiter Satz");

    let latin: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let extraction = read("a.md", &latin);
    assert_eq!(extraction.text, "Naïve café.\nZweiter Satz über Öl.");
    let (start, end) = source_of(&extraction, "Satz über");
    assert_eq!(&latin[start..end], b"Satz \xfcber");
}

#[test]
fn a_broken_byte_does_not_change_the_encoding() {
    let mut document = "Добрий день, світе.".as_bytes().to_vec();
    document[4] = 0xff;
    let extraction = read("a.txt", &document);
    assert!(extraction.text.contains("день, світе."), "{}", extraction.text);
    assert!(extraction.text.contains('\u{fffd}'), "{}", extraction.text);
}

#[test]
fn a_document_beyond_the_bound_is_refused() {
    let refused = extract("a.txt", None, &vec![b'a'; limits::INPUT + 1]);
    assert!(matches!(&refused, Err(Error::TooLarge(why)) if why.contains(&limits::INPUT.to_string())), "{refused:?}");
    assert!(extract("a.txt", None, &vec![b'a'; limits::INPUT]).is_ok());
}

#[test]
fn deep_nesting_is_read() {
    for (name, piece) in [("a.html", "<div><blockquote><ul><li>"), ("a.md", "> "), ("a.md", "- "), ("a.md", "[")] {
        let document = piece.repeat(20_000) + "x";
        read(name, document.as_bytes());
    }
}

#[test]
fn an_empty_document_has_no_text() {
    for name in ["a.txt", "a.md", "a.html"] {
        assert_eq!(read(name, b"").text, "");
        assert_eq!(read(name, b" \n\n").text, "");
    }
}

/// Text made of what Markdown and HTML give a meaning to, and of characters of several lengths.
fn marked_up() -> impl Strategy<Value = String> {
    let pieces = [
        "#",
        " ",
        "\n",
        "\r\n",
        "\t",
        "*",
        "_",
        "`",
        "```",
        "> ",
        "- ",
        "1. ",
        "|",
        "---",
        "[",
        "](",
        ")",
        "!",
        "\\",
        "<p>",
        "</p>",
        "<li>",
        "<b>",
        "<!--",
        "-->",
        "<title>",
        "</title>",
        "<pre>",
        "<script>",
        "</script>",
        "<p hidden>",
        "<td>",
        "</",
        "<",
        ">",
        "&amp;",
        "&#1;",
        "&#x10ffff;",
        "&",
        "&notit",
        "a",
        "word",
        "é",
        "日本",
        "😀",
        "\u{a0}",
        "\0",
        "\u{2028}",
        "[^1]",
        "[^1]: ",
        "~~",
        "http://a.b",
        "<br/>",
        "<plaintext>",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_keeps_the_invariants(text in marked_up(), name in prop::sample::select(vec!["a.md", "a.html", "a.txt"])) {
        if let Ok(extraction) = extract(name, None, text.as_bytes()) {
            check(&extraction, text.as_bytes());
            check_bytes(&extraction, text.as_bytes());
        }
    }

    #[test]
    fn arbitrary_unicode_keeps_the_invariants(text in "\\PC*", name in prop::sample::select(vec!["a.md", "a.html", "a.txt"])) {
        let extraction = extract(name, None, text.as_bytes()).unwrap();
        check(&extraction, text.as_bytes());
        check_bytes(&extraction, text.as_bytes());
    }

    #[test]
    fn arbitrary_bytes_give_a_result_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        mark in prop::sample::select(vec![&b""[..], b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf"]),
        name in prop::sample::select(vec!["a.md", "a.html", "a.txt"]),
    ) {
        let document = [mark, &bytes].concat();
        if let Ok(extraction) = extract(name, None, &document) {
            check(&extraction, &document);
        }
    }

    #[test]
    fn words_of_markdown_are_found_in_the_document(words in prop::collection::vec("[a-zа-я]{1,8}", 1..30)) {
        let document = format!("# {}\n\n*{}*\n", words.join(" "), words.join("\n"));
        let extraction = extract("a.md", None, document.as_bytes()).unwrap();
        let (start, end) = source_of(&extraction, &words.join(" "));
        prop_assert_eq!(&document[start..end], words.join(" "));
    }
}
