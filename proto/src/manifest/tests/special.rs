//! Documents that no text file can hold: foreign bytes, line ends, and sizes beyond the limits.

use super::said_of;

/// Documents, and the beginning of something that is said about each.
pub(super) fn documents() -> Vec<(Vec<u8>, &'static str)> {
    let nested = format!("{}{}", "[".repeat(33), "]".repeat(33));
    let many = format!("[{}]", "a,".repeat(100_000));
    let unknown: String = (0..1_002).map(|number| format!("k{number}k: 1\n")).collect();
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..20 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let mut tower = String::from("a0: &a0 []\n");
    for level in 1..40 {
        tower.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    vec![
        (
            b"a: b\nc: \xc3\xa9\xff".to_vec(),
            "t.yaml:2:5: yaml-encoding: byte 0xff is not UTF-8 (save the file as UTF-8)",
        ),
        (vec![b' '; (1 << 20) + 1], "t.yaml: yaml-size: the document has 1048577 bytes, more than 1048576"),
        (nested.into_bytes(), "t.yaml:1:33: yaml-size: lists and mappings are nested more than 32 deep"),
        (many.into_bytes(), "t.yaml:1:200000: yaml-size: the document has more than 100000 values"),
        (laughs.into_bytes(), "t.yaml:5:40: yaml-size: the document has more than 100000 values"),
        (tower.into_bytes(), "t.yaml:32:12: yaml-size: lists and mappings are nested"),
        (unknown.into_bytes(), "t.yaml: too-many-problems: 2 more problems are not listed"),
        (
            b"\xef\xbb\xbfclients:\r\n  max_body: 1MB\r\n".to_vec(),
            "t.yaml:2:13: size-syntax: clients.max_body: `1MB` is not a size",
        ),
        ("ä: {ö: 1}".as_bytes().to_vec(), "t.yaml:1:1: unknown-key: \"ä\": unknown key `ä`"),
        (
            b"clients: {max_body: \"\\e[31m1MiB\"}".to_vec(),
            "t.yaml:1:21: size-syntax: clients.max_body: `\\u{1b}[31m1MiB`",
        ),
    ]
}

#[test]
fn foreign_bytes_and_sizes_are_refused_in_their_place() {
    for (document, expected) in documents() {
        let found = said_of(&document);
        let said = found.iter().any(|line| line.starts_with(expected));
        assert!(said, "expected {expected}\nfound {found:#?}");
    }
}
