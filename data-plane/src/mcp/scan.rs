//! Walks over the members of an object without allocating and without checking again what was checked when the
//! message was read: on each call several members are looked for, one inside another.
//!
//! The text is JSON, or the answer is of no use; whatever it is, nothing here panics or reads outside of it.

use super::json::{Malformed, Span};
use memchr::memchr2;
use std::borrow::Cow;

/// A key, unescaped, and where its value is. The bytes of a key are text if the text is.
pub(super) type Member<'t> = (Cow<'t, [u8]>, Span);

/// The members of an object, in order, duplicates included.
pub(super) struct Scan<'t> {
    text: &'t [u8],
    /// Where the next member, its comma or the end of the object is.
    at: usize,
    end: usize,
    first: bool,
}

impl<'t> Scan<'t> {
    /// Of the object at `object`.
    ///
    /// # Errors
    /// The range holds no object.
    pub(super) fn new(text: &'t [u8], object: &Span) -> Result<Self, Malformed> {
        if object.end > text.len() || text.get(object.start) != Some(&b'{') {
            return Err(broken());
        }
        Ok(Self { text, at: object.start + 1, end: object.end, first: true })
    }

    /// The next member; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<Member<'t>>, Malformed> {
        self.blank();
        match (self.byte()?, std::mem::replace(&mut self.first, false)) {
            (b'}', _) => return Ok(None),
            (_, true) => {}
            (b',', false) => {
                self.at += 1;
                self.blank();
            }
            _ => return Err(broken()),
        }
        let key = self.key()?;
        self.blank();
        if self.byte()? != b':' {
            return Err(broken());
        }
        self.at += 1;
        self.blank();
        let start = self.at;
        self.value()?;
        Ok(Some((key, start..self.at)))
    }

    fn byte(&self) -> Result<u8, Malformed> {
        self.text[..self.end].get(self.at).copied().ok_or_else(broken)
    }

    fn blank(&mut self) {
        let rest = &self.text[self.at.min(self.end)..self.end];
        self.at += rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    }

    fn key(&mut self) -> Result<Cow<'t, [u8]>, Malformed> {
        let start = self.at;
        if self.byte()? != b'"' {
            return Err(broken());
        }
        let escaped = self.string()?;
        let text = self.text;
        if escaped {
            let key: String = serde_json::from_slice(&text[start..self.at])?;
            return Ok(Cow::Owned(key.into_bytes()));
        }
        Ok(Cow::Borrowed(&text[start + 1..self.at - 1]))
    }

    /// Goes behind the string that begins here; says whether anything in it is escaped.
    fn string(&mut self) -> Result<bool, Malformed> {
        let mut escaped = false;
        self.at += 1;
        loop {
            let rest = self.text[..self.end].get(self.at..).ok_or_else(broken)?;
            self.at += quote_or_escape(rest).ok_or_else(broken)?;
            if self.text[self.at] == b'"' {
                self.at += 1;
                return Ok(escaped);
            }
            escaped = true;
            self.at += 2;
        }
    }

    /// Goes behind the value that begins here.
    fn value(&mut self) -> Result<(), Malformed> {
        let mut depth = 0_usize;
        loop {
            match self.byte()? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1).ok_or_else(broken)?;
                    self.at += 1;
                }
                _ if depth == 0 => {
                    let rest = &self.text[self.at..self.end];
                    let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace();
                    let length = rest.iter().position(ends).unwrap_or(rest.len());
                    self.at += length;
                    return if length == 0 { Err(broken()) } else { Ok(()) };
                }
                _ => {
                    self.at += 1;
                    continue;
                }
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

/// A one in each byte.
pub(super) const EACH: u64 = u64::from_ne_bytes([1; 8]);

/// The lowest bit that is set belongs to the first byte of the word that is zero.
pub(super) fn zero(word: u64) -> u64 {
    word.wrapping_sub(EACH) & !word & (EACH << 7)
}

/// Where the first quotation mark or backslash is. Most strings of messages are shorter than the way to whoever finds
/// it fast in long ones.
pub(crate) fn quote_or_escape(text: &[u8]) -> Option<usize> {
    const NEAR: usize = 8;
    let (words, _) = text.as_chunks();
    for (at, word) in words.iter().take(NEAR).enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = zero(word ^ (EACH * b'"' as u64)) | zero(word ^ (EACH * b'\\' as u64));
        if found != 0 {
            return Some(at * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let far = words.len().min(NEAR) * 8;
    memchr2(b'"', b'\\', &text[far..]).map(|at| far + at)
}

fn broken() -> Malformed {
    Malformed("not an object".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::json;
    use serde_json::Value;

    fn scanned(text: &[u8]) -> Result<Vec<(String, Span)>, Malformed> {
        let mut scan = Scan::new(text, &(0..text.len()))?;
        let mut found = Vec::new();
        while let Some((key, at)) = scan.next()? {
            found.push((String::from_utf8(key.into_owned()).unwrap(), at));
        }
        Ok(found)
    }

    fn any_json() -> impl proptest::strategy::Strategy<Value = Value> {
        use proptest::{collection, prelude::*};
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[\\PC\"\\\\\n{}\\[\\],:]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                collection::vec(("[a\"\\\\é{\\]:,]{0,4}", inner), 0..5).prop_map(Value::from_iter),
            ]
        })
    }

    #[test]
    fn white_space_and_escapes_are_no_obstacle() {
        let text = br#"{ "a" : "}\"," , "\u0062\\" : [ {"]": 1} , 2 ] ,"c":-1.5e3 }"#;
        let found: Vec<_> = scanned(text).unwrap().into_iter().map(|(key, at)| (key, &text[at])).collect();
        let expected: [(&str, &[u8]); 3] =
            [("a", br#""}\",""#), ("b\\", br#"[ {"]": 1} , 2 ]"#), ("c", b"-1.5e3")];
        assert!(found.iter().map(|(key, value)| (key.as_str(), *value)).eq(expected), "{found:?}");
        assert_eq!(scanned(b"{}").unwrap(), []);
        for broken in [
            "",
            "[]",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":\"",
            "{\"a\":\"\\",
            "{\"a\" 1}",
            "{\"a\":]}",
            "{a:1}",
        ] {
            assert!(scanned(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    proptest::proptest! {
        #[test]
        fn finds_what_a_whole_parser_finds(value in any_json(), pretty: bool) {
            let object = serde_json::json!({ "x": value, "y": 1 });
            let text = if pretty { format!("{object:#}") } else { object.to_string() };
            let text = text.as_bytes();
            let parsed = json::members(text, &(0..text.len())).unwrap();
            let parsed: Vec<_> = parsed.into_iter().map(|(key, at)| (key.into_owned(), at)).collect();
            let found = scanned(text).unwrap();
            proptest::prop_assert_eq!(&found, &parsed);
            // And inside.
            let x = found[0].1.clone();
            if text[x.start] == b'{' {
                let inside = &text[x.clone()];
                let parsed = json::members(inside, &(0..inside.len())).unwrap();
                let parsed: Vec<_> = parsed.into_iter().map(|(key, at)| (key.into_owned(), at)).collect();
                proptest::prop_assert_eq!(scanned(inside).unwrap(), parsed);
            }
        }

        #[test]
        fn the_end_of_a_string_is_where_it_is_whatever_stands_before(
            text in proptest::collection::vec(proptest::num::u8::ANY, 0..90)
        ) {
            let expected = text.iter().position(|byte| matches!(byte, b'"' | b'\\'));
            proptest::prop_assert_eq!(quote_or_escape(&text), expected);
        }

        #[test]
        fn no_bytes_make_it_panic(text in "\\PC{0,8}|[\\{\\[\\]\\}\":,\\\\a ]{0,40}") {
            let _ = scanned(format!("{{{text}").as_bytes());
        }
    }
}
