//! Whatever the bytes: an answer, never a panic.

use crate::{
    manifest::{parse, redact},
    problem::Problem,
};
use proptest::prelude::*;

/// Reads, and checks what holds for every answer.
fn check(document: &[u8]) -> Result<(), TestCaseError> {
    let lines = document.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() + 2;
    let one = |found: &Problem| -> Result<(), TestCaseError> {
        prop_assert!(found.line as usize <= lines, "{found}");
        prop_assert!((found.line == 0) == (found.column == 0), "{found:?}");
        prop_assert!(!found.what.is_empty() && !found.to_string().contains('\n'), "{found:?}");
        Ok(())
    };
    let (problems, warnings) = match parse("t.yaml", document) {
        Ok(manifest) => (Vec::new(), manifest.warnings),
        Err(refused) => {
            prop_assert!(!refused.problems.is_empty());
            (refused.problems, refused.warnings)
        }
    };
    for list in [&problems, &warnings] {
        list.iter().try_for_each(one)?;
        prop_assert!(list.is_sorted_by_key(|found| (found.line, found.column)), "{list:?}");
    }
    prop_assert!(std::str::from_utf8(&redact(document)).is_ok());
    Ok(())
}

/// Pieces that documents are made of, valid or not.
fn pieces() -> impl Strategy<Value = String> {
    let words = [
        "{",
        "}",
        "[",
        "]",
        ", ",
        ": ",
        ":",
        "- ",
        "-",
        "? ",
        "&a ",
        "*a",
        "*b ",
        "!t ",
        "!!str ",
        "|",
        ">",
        "|2-",
        "'",
        "\"",
        "\\x",
        "#",
        " # ",
        "%TAG ",
        "---\n",
        "...\n",
        "\n",
        "\n  ",
        "\n    ",
        "\r\n",
        "\r",
        "\t",
        "\u{feff}",
        "\0",
        "<<",
        "~",
        "null",
        "upstreams",
        "a",
        "primary",
        "url",
        "headers",
        "env",
        "clients",
        "http://x/",
        "5s",
        "10",
        "é",
        "\u{2028}",
        "\u{85}",
        "@",
        "`",
    ];
    proptest::collection::vec(proptest::sample::select(words.to_vec()), 0..60)
        .prop_map(|words| words.concat())
}

/// The full example with some of it cut, doubled, or overwritten.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let text = include_bytes!("../../../../examples/full.yaml");
    let change = (0..text.len(), 0_usize..40, 0_u8..4, any::<u8>());
    proptest::collection::vec(change, 1..6).prop_map(|changes| {
        let mut text = text.to_vec();
        for (start, length, how, byte) in changes {
            let start = start.min(text.len());
            let end = (start + length).min(text.len());
            let middle = match how {
                0 => Vec::new(),
                1 => text[start..end].repeat(2),
                2 => vec![byte; end - start],
                _ => [&[byte][..], &text[start..end]].concat(),
            };
            text.splice(start..end, middle);
        }
        text
    })
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(document in proptest::collection::vec(any::<u8>(), 0..300)) {
        check(&document)?;
    }

    #[test]
    fn any_text_gets_an_answer(document in "\\PC{0,100}") {
        check(document.as_bytes())?;
    }

    #[test]
    fn any_pieces_of_documents_get_an_answer(document in pieces()) {
        check(document.as_bytes())?;
    }

    #[test]
    fn any_change_of_a_valid_document_gets_an_answer(document in mutated()) {
        check(&document)?;
    }
}
