//! The envelope of a message as nearly everybody writes it, read in one pass that checks every byte and notes where the
//! parts are. What is unusual or wrong (escapes in a key, a key twice, more depth than has its place in a word) it
//! leaves to serde, which reads whatever is JSON and says what is not.
//!
//! It must never accept what serde refuses, nor see another message in a text than serde does.

use super::{
    json::{Malformed, Span},
    scan::{EACH, zero},
};
use std::sync::Arc;

/// Where the parts of an envelope are. `null` counts as absent where [`super::Message`] says so.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) jsonrpc: Option<Span>,
    pub(super) id: Option<Span>,
    pub(super) method: Option<Span>,
    pub(super) params: Option<Span>,
    pub(super) result: Option<Span>,
    pub(super) error: Option<Span>,
    /// Of `params`; `None`: they are no object, or one that must be looked through.
    pub(super) members: Option<Arc<Members>>,
}

/// The members of an object, all of them: where their keys and values are.
#[derive(Default)]
pub(super) struct Members {
    places: [Member; MEMBERS_MAX],
    count: usize,
}

/// Members of an object that are noted. `params` have `_meta` and two or three more.
const MEMBERS_MAX: usize = 4;

#[derive(Clone, Copy, Default)]
struct Member {
    key: (u32, u32),
    value: (u32, u32),
}

fn span((from, to): (u32, u32)) -> Span {
    from as usize..to as usize
}

impl Members {
    /// As [`super::json::pick`].
    pub(super) fn pick<const N: usize>(
        &self,
        text: &[u8],
        keys: [&str; N],
    ) -> Result<[Option<Span>; N], Malformed> {
        let mut found = [const { None }; N];
        for member in &self.places[..self.count] {
            let name = &text[span(member.key)];
            if let Some(place) = keys.iter().position(|key| key.as_bytes() == name)
                && found[place].replace(span(member.value)).is_some()
            {
                return Err(Malformed::twice(keys[place]));
            }
        }
        Ok(found)
    }
}

/// The parts of a message; `None`: serde knows.
pub(super) fn read(text: &[u8]) -> Option<Parts> {
    // Strings are not looked at again.
    std::str::from_utf8(text).ok()?;
    u32::try_from(text.len()).ok()?;
    let (mut reader, mut parts, mut seen) = (Reader { text, at: 0 }, Parts::default(), 0_u8);
    reader.take(b'{')?;
    if !reader.takes(b'}') {
        loop {
            let key = reader.key()?;
            reader.peek()?;
            let from = reader.at;
            let (bit, place) = match &text[key] {
                b"jsonrpc" => (1, Some(&mut parts.jsonrpc)),
                b"id" => (2, Some(&mut parts.id)),
                b"method" => (4, Some(&mut parts.method)),
                b"params" => (8, Some(&mut parts.params)),
                b"result" => (16, Some(&mut parts.result)),
                b"error" => (32, Some(&mut parts.error)),
                _ => (0, None),
            };
            (seen & bit == 0).then_some(())?;
            seen |= bit;
            let mut members = None;
            if bit == 8 && text[from] == b'{' {
                members = reader.members()?
            } else {
                reader.value()?
            }
            let is_absent = text[from..reader.at] == *b"null" && !matches!(bit, 2 | 16);
            if let Some(place) = place.filter(|_| !is_absent) {
                *place = Some(from..reader.at);
            }
            if let Some(members) = members {
                parts.members = Some(Arc::new(members));
            }
            if !reader.goes_on(b'}')? {
                break;
            }
        }
    }
    (reader.at == text.len()).then_some(parts)
}

struct Reader<'t> {
    text: &'t [u8],
    at: usize,
}

impl Reader<'_> {
    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.get(self.at) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn takes(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        self.takes(byte).then_some(())
    }

    /// After a member or an item: whether another comes, or what they are in `ends`.
    fn goes_on(&mut self, ends: u8) -> Option<bool> {
        let next = self.peek()?;
        self.at += 1;
        match next {
            b',' => Some(true),
            _ if next == ends => Some(false),
            _ => None,
        }
    }

    /// A key without escapes and its colon.
    fn key(&mut self) -> Option<Span> {
        self.take(b'"')?;
        let from = self.at;
        let plain = self.string()?;
        let key = from..self.at - 1;
        self.take(b':')?;
        plain.then_some(key)
    }

    /// An object, with what is in it where all of it can be noted.
    fn members(&mut self) -> Option<Option<Members>> {
        let (mut members, mut fit) = (Members::default(), true);
        self.take(b'{')?;
        if self.takes(b'}') {
            return Some(Some(members));
        }
        loop {
            let key = self.key()?;
            self.peek()?;
            let from = self.at;
            self.value()?;
            let short = |at: usize| u32::try_from(at).ok();
            match members.places.get_mut(members.count) {
                Some(place) => {
                    let (key, value) =
                        ((short(key.start)?, short(key.end)?), (short(from)?, short(self.at)?));
                    *place = Member { key, value };
                    members.count += 1;
                }
                None => fit = false,
            }
            if !self.goes_on(b'}')? {
                return Some(fit.then_some(members));
            }
        }
    }

    fn value(&mut self) -> Option<()> {
        // Under the highest bit, one for each object and array that is open, innermost lowest; set: an object.
        let mut open = 1_u64;
        loop {
            match self.peek()? {
                b'{' => {
                    self.at += 1;
                    if !self.takes(b'}') {
                        open = within(open, 1)?;
                        self.any_key()?;
                        continue;
                    }
                }
                b'[' => {
                    self.at += 1;
                    if !self.takes(b']') {
                        open = within(open, 0)?;
                        continue;
                    }
                }
                b'"' => {
                    self.at += 1;
                    self.string()?;
                }
                b'-' | b'0'..=b'9' => self.number()?,
                _ => self.word()?,
            }
            loop {
                if open == 1 {
                    return Some(());
                }
                let is_object = open & 1 == 1;
                if !self.goes_on(if is_object { b'}' } else { b']' })? {
                    open >>= 1;
                    continue;
                }
                if is_object {
                    self.any_key()?;
                }
                break;
            }
        }
    }

    fn any_key(&mut self) -> Option<()> {
        self.take(b'"')?;
        self.string()?;
        self.take(b':')
    }

    /// The rest of a string behind its first quotation mark; says whether nothing in it is escaped.
    fn string(&mut self) -> Option<bool> {
        let mut plain = true;
        loop {
            self.at += special(self.text.get(self.at..)?)?;
            match self.text[self.at] {
                b'"' => {
                    self.at += 1;
                    return Some(plain);
                }
                b'\\' => self.escape()?,
                _ => return None,
            }
            plain = false;
        }
    }

    fn escape(&mut self) -> Option<()> {
        match self.text.get(self.at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
            b'u' => {
                let digits = self.text.get(self.at + 2..self.at + 6)?;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())?;
                self.at += 6;
            }
            _ => return None,
        }
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        self.at += usize::from(self.text[self.at] == b'-');
        match self.text.get(self.at)? {
            b'0' => self.at += 1,
            _ => self.digits()?,
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            self.at += usize::from(matches!(self.text.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let count = self.text[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        (count > 0).then_some(())
    }

    fn word(&mut self) -> Option<()> {
        let rest = &self.text[self.at..];
        let word = [&b"true"[..], b"false", b"null"].into_iter().find(|word| rest.starts_with(word))?;
        self.at += word.len();
        Some(())
    }
}

fn within(open: u64, bit: u64) -> Option<u64> {
    (open >> 63 == 0).then_some(open << 1 | bit)
}

/// Where the first byte is that ends a string, escapes something in it, or may not stand there.
fn special(text: &[u8]) -> Option<usize> {
    const CONTROL: u64 = EACH * b' ' as u64;
    let (words, rest) = text.as_chunks();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let control = word.wrapping_sub(CONTROL) & !word & (EACH << 7);
        let found = zero(word ^ (EACH * b'"' as u64)) | zero(word ^ (EACH * b'\\' as u64)) | control;
        if found != 0 {
            return Some(at * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let is_special = |byte: &u8| matches!(byte, 0..=0x1f | b'"' | b'\\');
    rest.iter().position(is_special).map(|at| words.len() * 8 + at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::{json, message};
    use proptest::prelude::*;

    fn same(text: &[u8]) -> bool {
        let Some(read) = read(text) else { return false };
        let serde = message::by_serde(text).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(text)));
        let spans = |parts: &Parts| {
            [&parts.jsonrpc, &parts.id, &parts.method, &parts.params, &parts.result, &parts.error]
                .map(Clone::clone)
        };
        assert_eq!(spans(&read), spans(&serde), "{}", String::from_utf8_lossy(text));
        if let (Some(members), Some(params)) = (&read.members, &read.params) {
            let keys = ["a", "_meta", "uri"];
            assert_eq!(members.pick(text, keys).ok(), json::pick(text, params, keys).ok());
        }
        true
    }

    #[test]
    fn what_clients_and_servers_write_is_read_without_serde() {
        for text in [
            r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"f:/a","_meta":{"a":[1,{}]}}}"#,
            "{ \"id\" : \"x\\n\\u00e9\" ,\r\n\t\"result\":{\"n\":-0.5e+3,\"t\":[true,false,null,[],{}]},\"jsonrpc\":\"2.0\"}",
            r#"{"jsonrpc":"2.0","error":{"code":-1,"message":"m"},"params":null,"x":{"id":2},"id":null}"#,
            r#"{"jsonrpc":"2.0","method":"m","params":{"a":1,"b":2,"c":3,"d":4,"uri":5}}"#,
            r#"{"params":{"a":1,"a":2}}"#,
            r#"{"params":[1]}"#,
            "{}",
        ] {
            assert!(same(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_is_no_message_or_an_unusual_one_is_left_to_serde() {
        let deep = format!("{{\"x\":{}1{}}}", "[".repeat(70), "]".repeat(70));
        for text in [
            "",
            "[]",
            "{",
            "{}x",
            "{\"a\":1,}",
            "{,}",
            "{\"a\" 1}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":-}",
            "{\"a\":1e}",
            "{\"a\":tru}",
            "{\"a\":\"\u{1}\"}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12g4\"}",
            "{\"a\":[1}}",
            "{\"a\":{\"b\"}}",
            "{\"id\":1,\"id\":1}",
            "{\"i\\u0064\":1}",
            "{\"a\":\"",
            "{\"a\":[1,]}",
            &deep,
        ] {
            assert!(read(text.as_bytes()).is_none(), "{text}");
        }
        assert!(read(b"{\"a\":\"\xff\"}").is_none());
    }

    proptest! {
        #[test]
        fn no_text_is_read_otherwise_than_by_serde(
            text in "\\{(\"(id|method|params|result|error|jsonrpc|a)\":(null|-?[0-9]{1,2}(\\.[0-9])?|\"[a\\\\n\"\u{1}é]{0,9}\"|\\[[1,]{0,3}\\]|\\{(\"(a|uri)\":[1-3\"{}]{1,3},?){0,6}\\}),? ?){0,5}\\}"
        ) {
            same(text.as_bytes());
        }

        #[test]
        fn a_message_with_some_bytes_changed_is_read_as_serde_reads_it(
            at in proptest::collection::vec((0_usize..110, any::<u8>()), 0..4)
        ) {
            let mut text = br#"{"jsonrpc":"2.0","id":-17.5e2,"method":"a\u00e9b\\","params":{"uri":"f:/a","a":[true,{"b":null}]},"z":[]}"#.to_vec();
            for (at, byte) in at {
                let at = at % text.len();
                text[at] = byte;
            }
            same(&text);
        }
    }
}
