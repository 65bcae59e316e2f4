//! PDF: files of other programs, and hostile ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{blocks, check};
use documents::{Error, Extraction, Kind, extract, limits};
use miniz_oxide::deflate::compress_to_vec_zlib;

const ENGLISH: &str = "The tide rises and falls twice a day. It is moved by the moon, and to a lesser degree by the \
    sun; where the two pull together, the tide is highest, and sailors call it a spring tide.";
const UKRAINIAN: &str = "Приплив піднімається двічі на добу. Його рухає місяць.";
const ARABIC: &str = "يرتفع المد مرتين في اليوم. القمر يحركه.";
const CHINESE: &str = "潮水每天涨落两次。月亮推动它。";

fn read(document: &[u8]) -> Extraction {
    let extraction = extract("a.pdf", None, document).unwrap();
    check(&extraction, document);
    assert!(extraction.runs.is_empty());
    assert!(extraction.blocks.iter().all(|block| block.page.is_some()));
    extraction
}

/// A file of these objects, the first of which is the catalog. Without a cross-reference table, as damaged files are.
fn file(objects: &[Vec<u8>]) -> Vec<u8> {
    let mut file = b"%PDF-1.7\n".to_vec();
    for (object, number) in objects.iter().zip(1..) {
        file.extend(format!("{number} 0 obj\n").into_bytes());
        file.extend(object);
        file.extend(b"\nendobj\n");
    }
    file.extend(b"trailer\n<</Root 1 0 R>>\n");
    file
}

fn stream(dictionary: &str, data: &[u8]) -> Vec<u8> {
    let head = format!("<<{dictionary}/Length {}>>\nstream\n", data.len());
    [head.as_bytes(), data, b"\nendstream"].concat()
}

/// A file of one page with this content, these resources and further objects from number 5 on.
fn page(content: Vec<u8>, resources: &str, further: &[Vec<u8>]) -> Vec<u8> {
    let mut objects = vec![
        b"<</Type/Catalog/Pages 2 0 R>>".to_vec(),
        b"<</Type/Pages/Count 1/Kids[3 0 R]>>".to_vec(),
        format!("<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<<{resources}>>>>").into(),
        content,
    ];
    objects.extend_from_slice(further);
    file(&objects)
}

const HELVETICA: &str = "/Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>>>";

fn text(content: &str) -> Vec<u8> {
    page(stream("", content.as_bytes()), HELVETICA, &[])
}

fn refused(document: &[u8], why: &str) {
    let refused = extract("a.pdf", None, document).unwrap_err();
    assert!(matches!(refused, Error::TooLarge(_)), "{refused:?}");
    assert!(refused.to_string().contains(why), "`{refused}` does not say `{why}`");
}

fn malformed(document: &[u8], why: &str) {
    let refused = extract("a.pdf", None, document).unwrap_err();
    assert!(matches!(refused, Error::Malformed(_)), "{refused:?}");
    assert!(refused.to_string().contains(why), "`{refused}` does not say `{why}`");
}

#[test]
fn pdfs_of_reportlab_ghostscript_and_qpdf_are_read() {
    for document in [
        &include_bytes!("files/reportlab.pdf")[..],
        include_bytes!("files/ghostscript.pdf"),
        include_bytes!("files/object-streams.pdf"),
        include_bytes!("files/owner-password.pdf"),
    ] {
        let extraction = read(document);
        assert_eq!(extraction.title.as_deref(), Some("Report on tides"));
        assert_eq!(
            blocks(&extraction),
            [
                (Kind::Heading(1), "Report on tides"),
                (Kind::Paragraph, ENGLISH),
                (Kind::Heading(2), "Observations"),
                (Kind::ListItem, "High water at six in the morning"),
                (Kind::ListItem, "Low water at noon"),
                (Kind::Paragraph, "Port Height"),
                (Kind::Paragraph, "Brest 6.9 m"),
                (Kind::Heading(1), "Second page"),
                (Kind::Paragraph, "It has a page of its own."),
            ]
        );
        let pages: Vec<u32> = extraction.blocks.iter().filter_map(|block| block.page).collect();
        assert_eq!(pages, [1, 1, 1, 1, 1, 1, 1, 2, 2]);
    }
}

#[test]
fn a_pdf_of_libreoffice_is_read() {
    let extraction = read(include_bytes!("files/libreoffice.pdf"));
    assert_eq!(extraction.title.as_deref(), Some("Report on tides"));
    let blocks = blocks(&extraction);
    for expected in [
        (Kind::Heading(1), "Report on tides"),
        (Kind::Paragraph, ENGLISH),
        (Kind::Heading(2), "Languages"),
        (Kind::Paragraph, UKRAINIAN),
        (Kind::Paragraph, ARABIC),
        (Kind::Paragraph, CHINESE),
        (Kind::ListItem, "Low water at noon"),
        (Kind::Paragraph, "Time and tide wait for no man."),
    ] {
        assert!(blocks.contains(&expected), "{expected:?} is not in {blocks:?}");
    }
}

#[test]
fn scripts_of_embedded_fonts_are_read() {
    let extraction = read(include_bytes!("files/fpdf2.pdf"));
    assert_eq!(extraction.title.as_deref(), Some("Мови"));
    let texts: Vec<&str> = blocks(&extraction).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts[..3], [UKRAINIAN, ARABIC, CHINESE]);
    // Shaping moves signs and joins letters, which the font's map to Unicode does not undo; the words remain.
    for word in ["दिन", "दो", "बार", "उठता", "चलाता"] {
        assert!(texts[3].contains(word), "`{word}` is not in `{}`", texts[3]);
    }
}

#[test]
fn a_font_that_is_not_embedded_and_has_no_map_is_read_by_its_encoding() {
    let extraction = read(include_bytes!("files/cid.pdf"));
    assert_eq!(extraction.title.as_deref(), Some("潮水"));
    assert_eq!(blocks(&extraction), [(Kind::Paragraph, CHINESE)]);
}

#[test]
fn a_password_that_is_needed_is_said() {
    assert_eq!(extract("a.pdf", None, include_bytes!("files/encrypted.pdf")), Err(Error::Encrypted));
}

#[test]
fn words_and_paragraphs_are_put_together() {
    let extraction = read(&text(
        "BT /F 12 Tf 50 700 Td [(Hel) 20 (lo) -300 (w) 5 (orld,)] TJ 0 -14 Td (this is exam-) Tj 0 -14 Td \
         (ple text.) Tj 0 -30 Td (Next) Tj 40 0 Td (one.) Tj ET",
    ));
    assert_eq!(
        blocks(&extraction),
        [(Kind::Paragraph, "Hello world, this is example text."), (Kind::Paragraph, "Next one.")]
    );
}

#[test]
fn marked_content_is_taken_for_what_it_says() {
    let extraction = read(&text(
        "BT /F 12 Tf 50 760 Td /Artifact BMC (Page 1) Tj EMC 0 -60 Td /H2 <</MCID 0>> BDC (Marked) Tj EMC 0 -14 Td \
         /P <</MCID 1>> BDC /Span <</ActualText (real)>> BDC (fake) Tj EMC ( text) Tj EMC ET",
    ));
    assert_eq!(blocks(&extraction), [(Kind::Heading(2), "Marked"), (Kind::Paragraph, "real text")]);
}

#[test]
fn text_in_drawings_is_read_and_a_drawing_that_holds_itself_ends() {
    let form = stream(
        &format!("/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<<{HELVETICA}/XObject<</X 5 0 R>>>>"),
        b"BT /F 12 Tf 50 700 Td (inside) Tj ET /X Do",
    );
    let extraction = read(&page(stream("", b"/X Do"), "/XObject<</X 5 0 R>>", &[form]));
    assert!(extraction.text.starts_with("inside"), "{}", extraction.text);
}

#[test]
fn what_is_no_pdf_is_malformed() {
    malformed(b"%PDF-1.7", "cannot be read");
    malformed(b"%PDF-1.7\n1 0 obj\n<</Type/Catalog/Pages 1 0 R>>\nendobj\ntrailer\n<</Root 1 0 R>>\n", "");
    malformed(
        &file(&[b"<</Type/Catalog/Pages 2 0 R>>".to_vec(), b"<</Type/Pages/Count 0/Kids[2 0 R]>>".to_vec()]),
        "no pages",
    );
}

#[test]
fn a_bomb_in_a_page_is_refused() {
    let bomb = compress_to_vec_zlib(&vec![b' '; limits::UNPACKED + 1], 1);
    refused(&page(stream("/Filter/FlateDecode", &bomb), "", &[]), &limits::UNPACKED.to_string());
}

#[test]
fn a_bomb_in_an_object_stream_is_refused() {
    let bomb = compress_to_vec_zlib(&vec![b' '; limits::UNPACKED + 1], 1);
    let objects = stream("/Type/ObjStm/N 1/First 10/Filter/FlateDecode", &bomb);
    refused(&page(stream("", b""), "", &[objects]), &limits::UNPACKED.to_string());
}

#[test]
fn a_bomb_in_a_font_is_refused() {
    let bomb = stream("/Filter/FlateDecode", &compress_to_vec_zlib(&vec![b' '; limits::UNPACKED + 1], 1));
    let font = "/Font<</F<</Type/Font/Subtype/Type1/BaseFont/X/ToUnicode 5 0 R>>>>";
    refused(&page(stream("", b"BT /F 12 Tf (x) Tj ET"), font, &[bomb]), &limits::UNPACKED.to_string());
}

#[test]
fn text_that_is_drawn_over_and_over_is_refused() {
    let drawn = |number: usize, content: &str| {
        let next = format!("/XObject<</X {} 0 R>>", number + 1);
        stream(&format!("/Subtype/Form/BBox[0 0 9 9]/Resources<<{HELVETICA}{next}>>"), content.as_bytes())
    };
    let mut forms: Vec<Vec<u8>> = (5..10).map(|number| drawn(number, &"/X Do ".repeat(20))).collect();
    forms.push(drawn(10, &format!("BT /F 12 Tf ({}) Tj ET", "x".repeat(1000))));
    refused(&page(stream("", b"/X Do"), "/XObject<</X 5 0 R>>", &forms), "characters");
}

#[test]
fn a_font_with_impossible_codes_is_malformed() {
    let content = || stream("", b"BT /F 12 Tf (x) Tj ET");
    let simple = "/Font<</F<</Type/Font/Subtype/TrueType/BaseFont/X/FirstChar 99999999/LastChar 99999999/Widths[1]>>>>";
    malformed(&page(content(), simple, &[]), "99999999");
    let composite = "/Font<</F<</Type/Font/Subtype/Type0/BaseFont/X/Encoding/Identity-H/DescendantFonts[\
        <</Type/Font/Subtype/CIDFontType2/BaseFont/X/W[0 4000000000 500]>>]>>>>";
    malformed(&page(content(), composite, &[]), "4000000000");
}

#[test]
fn deeply_nested_objects_are_read_or_refused() {
    for (open, close) in [("[", "]"), ("<</A ", ">>"), ("(", ")")] {
        let nested = format!("{}{}", open.repeat(20_000), close.repeat(20_000)).into_bytes();
        let _ = extract("a.pdf", None, &page(stream("", b""), "", std::slice::from_ref(&nested)));
        let _ = extract("a.pdf", None, &page(stream("", &nested), "", &[]));
    }
}
