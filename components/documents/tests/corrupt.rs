//! Files of other programs, damaged in many places: each gives text that keeps the invariants, or an error.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use documents::extract;

/// Damages a file at this many places, each in several ways.
fn damage(name: &str, file: &[u8], places: usize) {
    for place in 0..places {
        let at = place * file.len() / places;
        let mut variants = vec![file[..at].to_vec()];
        for value in [0x00, 0xff, b'<', b'9', file[at] ^ 0x01] {
            let mut variant = file.to_vec();
            variant[at] = value;
            variants.push(variant);
        }
        let mut without = file.to_vec();
        without.drain(at..(at + 7).min(file.len()));
        variants.push(without);
        for variant in variants {
            if let Ok(extraction) = extract(name, None, &variant) {
                common::check(&extraction, &variant);
            }
        }
    }
}

macro_rules! damaged {
    ($($test:ident: $file:literal at $places:literal,)*) => {
        $(#[test]
        fn $test() {
            damage($file, include_bytes!(concat!("files/", $file)), $places);
        })*
    };
}

damaged! {
    python_docx: "python-docx.docx" at 100,
    libreoffice_docx: "libreoffice.docx" at 100,
    reportlab: "reportlab.pdf" at 100,
    fpdf2: "fpdf2.pdf" at 60,
    libreoffice_pdf: "libreoffice.pdf" at 30,
    ghostscript: "ghostscript.pdf" at 100,
    cid: "cid.pdf" at 60,
    object_streams: "object-streams.pdf" at 100,
    // Trying a password takes long by design.
    owner_password: "owner-password.pdf" at 8,
}
