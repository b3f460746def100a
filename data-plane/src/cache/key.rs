//! What tells one question from another: a hash over everything that may change its answer.
//!
//! Owns what counts and what does not. It must never let two questions share a key whose answers may differ: what
//! it does not understand (malformed, doubled, too deep, too large) has no key and is not cached. Every part is
//! written with its kind and its length, so that no two different questions give the same text to hash.

use crate::{
    call::{Call, Caller, Serial},
    mcp::{self, Message, era, header},
    plan::Upstream,
};
use http::{HeaderMap, HeaderName};
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// Bytes of `params` beyond which a request has no key.
const SOURCE_MAX: usize = 64 << 10;
/// Objects and arrays within each other beyond which a request has no key.
const DEPTH_MAX: usize = 32;

/// Members of `_meta` that do not change an answer: where progress goes, how the call is traced, who calls, what
/// it wants logged.
const IGNORED: [&str; 6] =
    ["progressToken", "traceparent", "tracestate", "baggage", era::META_CLIENT_INFO, era::META_LOG_LEVEL];

/// A question, hashed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key([u8; 32]);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

/// Among whom an answer is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partition<'a> {
    /// All callers.
    Everybody,
    /// The callers of one principal, by its id.
    Principal(&'a str),
    /// One legacy session.
    Session(&'a Serial),
}

impl Key {
    /// The key of a question whoever asks it; it is also its key among [`Partition::Everybody`]. `message` is what
    /// the upstream would get. `None`: the question has no key.
    ///
    /// It holds the upstream in its configuration, method and `params` (in whatever order, spacing and escapes;
    /// numbers as they are spelled; without what [`IGNORED`] names), the caller's revision and capabilities, and
    /// every header of the caller that the upstream may act on.
    #[must_use]
    pub fn base(call: &Call, message: &Message, upstream: &Upstream) -> Option<Self> {
        let params = message.params().unwrap_or(b"{}");
        if params.len() > SOURCE_MAX {
            return None;
        }
        let mut canon = Canon::new(params.len() + 256);
        canon.out.extend_from_slice(&upstream.key);
        canon.text(message.method().as_bytes());
        match &call.caller {
            // Revision and capabilities stand in `_meta`.
            Caller::Modern => canon.out.push(b'm'),
            Caller::Legacy(None) => canon.out.push(b'l'),
            Caller::Legacy(Some(session)) => {
                canon.out.push(b's');
                canon.text(session.version.as_bytes());
                let capabilities = session.initialize.param(&["capabilities"]).ok()?;
                canon
                    .whole(capabilities.map_or(b"{}", |at| &session.initialize.bytes()[at]), Place::Within)?;
            }
        }
        canon.headers(&call.headers);
        canon.whole(params, Place::Params)?;
        Some(Self(blake3::hash(&canon.out).into()))
    }

    /// From a key of [`Key::base`] of an upstream that has two stores, the key of the same question after so many moves
    /// between them: what one store answered, the other did not.
    #[must_use]
    pub fn after(&self, moves: u64) -> Self {
        if moves == 0 { *self } else { Self(blake3::keyed_hash(&self.0, &moves.to_le_bytes()).into()) }
    }

    /// The key of a question in a snapshot, whoever asks it: like [`Key::base`], but the upstream counts by its identity
    /// alone, so that neither a new timeout nor a restart nor a move between stores makes it another; and so that a
    /// session counts as much as none does, what the caller is able to do does not count where `exactly` is false.
    #[must_use]
    pub fn lasting(call: &Call, message: &Message, upstream: &Upstream, exactly: bool) -> Option<Self> {
        let params = message.params().unwrap_or(b"{}");
        if params.len() > SOURCE_MAX {
            return None;
        }
        let mut canon = Canon::new(params.len() + 256);
        canon.any_caller = !exactly;
        canon.out.extend_from_slice(&upstream.identity);
        canon.text(message.method().as_bytes());
        canon.revision(call);
        if let (true, Some(session)) = (exactly, call.session()) {
            let capabilities = session.initialize.param(&["capabilities"]).ok()?;
            canon.whole(capabilities.map_or(b"{}", |at| &session.initialize.bytes()[at]), Place::Within)?;
        }
        canon.headers(&call.headers);
        canon.whole(params, Place::Params)?;
        Some(Self(blake3::hash(&canon.out).into()))
    }

    /// The key of what an upstream says of itself to callers of a revision, in a snapshot.
    #[must_use]
    pub fn introduction(call: &Call, upstream: &Upstream) -> Self {
        let mut canon = Canon::new(128);
        canon.out.extend_from_slice(&upstream.identity);
        canon.revision(call);
        Self(blake3::hash(&canon.out).into())
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// From a key of [`Key::base`], the key of the same question within a partition.
    #[must_use]
    pub fn within(&self, partition: Partition<'_>) -> Self {
        let (kind, name) = match partition {
            Partition::Everybody => return *self,
            Partition::Principal(id) => (b'p', id.as_bytes()),
            Partition::Session(serial) => (b's', serial.as_slice()),
        };
        let mut question = self.0;
        question[0] ^= kind; // a hash of its own for each kind
        Self(blake3::keyed_hash(&question, name).into())
    }

    /// A small number that is spread evenly over keys.
    pub(super) fn shard(&self, of: usize) -> usize {
        usize::from(self.0[31]) % of
    }
}

/// Whether the upstream may answer by this header of the caller. The others repeat the message, name what the
/// gateway replaces, or only say how the answer is to be carried.
fn counts(name: &HeaderName) -> bool {
    name.as_str().starts_with("mcp-")
        && ![header::PROTOCOL_VERSION, header::METHOD, header::NAME, header::SESSION_ID].contains(name)
        && header::reaches_upstream(name)
}

/// Where a value stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Params,
    Meta,
    Within,
}

/// A canonical text under construction.
struct Canon {
    out: Vec<u8>,
    /// Members of the objects that are open, innermost last.
    members: Vec<Member>,
    /// Where members are put in order.
    sorted: Vec<u8>,
    /// What the caller is able to do leaves no trace either.
    any_caller: bool,
}

/// A member of an object as it stands in the canonical text: its key, a string like any other, from `start` to `key`,
/// its value to `end`.
#[derive(Clone, Copy)]
struct Member {
    start: usize,
    key: usize,
    end: usize,
}

/// What is still to be read.
struct Source<'t> {
    text: &'t [u8],
    at: usize,
}

const LENGTH: usize = size_of::<u32>();
/// What stands before the characters of a string: its kind and its length.
const STRING: usize = 1 + LENGTH;

impl Canon {
    fn new(capacity: usize) -> Self {
        let (out, members) = (Vec::with_capacity(capacity), Vec::with_capacity(16));
        Self { out, members, sorted: Vec::new(), any_caller: false }
    }

    /// A text with its length in front.
    fn text(&mut self, text: &[u8]) {
        let at = self.open();
        self.out.extend_from_slice(text);
        self.close(at);
    }

    /// Leaves room for a length.
    fn open(&mut self) -> usize {
        self.out.extend_from_slice(&[0; LENGTH]);
        self.out.len()
    }

    /// Writes the length of what came since [`Canon::open`].
    fn close(&mut self, from: usize) {
        let length = u32::try_from(self.out.len() - from).unwrap_or(u32::MAX).to_le_bytes();
        self.out[from - LENGTH..from].copy_from_slice(&length);
    }

    /// The revision that a caller speaks, in a session or without one. A legacy caller that names none speaks the last
    /// one that had no header for it.
    fn revision(&mut self, call: &Call) {
        match &call.caller {
            Caller::Modern => self.out.push(b'm'),
            Caller::Legacy(session) => {
                self.out.push(b'l');
                let named = call.headers.get(header::PROTOCOL_VERSION).map(|value| value.as_bytes());
                let named = named.unwrap_or(era::LEGACY[2].as_bytes());
                self.text(session.as_ref().map_or(named, |session| session.version.as_bytes()));
            }
        }
    }

    fn headers(&mut self, headers: &HeaderMap) {
        if headers.keys().any(counts) {
            let mut counted: Vec<_> = headers.iter().filter(|(name, _)| counts(name)).collect();
            counted.sort_by_key(|(name, _)| name.as_str()); // stable: lines of one name keep their order
            for (name, value) in counted {
                self.out.push(b'h');
                self.text(name.as_str().as_bytes());
                self.text(value.as_bytes());
            }
        }
        self.out.push(b'.');
    }

    /// One value and nothing after it.
    fn whole(&mut self, text: &[u8], place: Place) -> Option<()> {
        let mut source = Source { text, at: 0 };
        self.value(&mut source, place, 0)?;
        source.peek().is_none().then_some(())
    }

    fn value(&mut self, source: &mut Source<'_>, place: Place, depth: usize) -> Option<()> {
        match source.peek()? {
            b'{' if depth < DEPTH_MAX => self.object(source, place, depth),
            b'[' if depth < DEPTH_MAX => self.array(source, depth),
            b'"' => self.string(source),
            b'-' | b'0'..=b'9' => {
                self.out.push(b'0');
                self.text(source.number());
                Some(())
            }
            _ => {
                let word = [&b"true"[..], b"false", b"null"]
                    .into_iter()
                    .find(|word| source.text[source.at..].starts_with(word))?;
                source.at += word.len();
                self.out.push(word[0]);
                Some(())
            }
        }
    }

    fn array(&mut self, source: &mut Source<'_>, depth: usize) -> Option<()> {
        self.out.push(b'[');
        source.at += 1;
        if !source.take(b']') {
            loop {
                self.value(source, Place::Within, depth + 1)?;
                if source.take(b']') {
                    break;
                }
                source.take(b',').then_some(())?;
            }
        }
        self.out.push(b']');
        Some(())
    }

    fn object(&mut self, source: &mut Source<'_>, place: Place, depth: usize) -> Option<()> {
        self.out.push(b'{');
        source.at += 1;
        let (start, first) = (self.out.len(), self.members.len());
        // Which members came that leave no trace below: they must not come twice either.
        let mut dropped = 0_u8;
        if !source.take(b'}') {
            loop {
                let bit = self.member(source, place, depth)?;
                (dropped & bit == 0).then_some(())?;
                dropped |= bit;
                if source.take(b'}') {
                    break;
                }
                source.take(b',').then_some(())?;
            }
        }
        self.order(start, first)?;
        self.out.push(b'}');
        Some(())
    }

    /// One member. Gives a bit that stands for its key if it is one of those that may leave no trace.
    fn member(&mut self, source: &mut Source<'_>, place: Place, depth: usize) -> Option<u8> {
        let start = self.out.len();
        (source.peek()? == b'"').then_some(())?;
        self.string(source)?;
        let key = self.out.len();
        source.take(b':').then_some(())?;
        let name = &self.out[start + STRING..key];
        let ignored = IGNORED.iter().position(|one| place == Place::Meta && one.as_bytes() == name);
        let ignored = ignored.or_else(|| {
            let is_ability = place == Place::Meta && name == era::META_CAPABILITIES.as_bytes();
            (self.any_caller && is_ability).then_some(IGNORED.len() + 1)
        });
        let is_meta = place == Place::Params && name == b"_meta";
        self.value(source, if is_meta { Place::Meta } else { Place::Within }, depth + 1)?;
        if ignored.is_some() || is_meta && self.out[key..] == *b"{}" {
            self.out.truncate(start);
        } else {
            self.members.push(Member { start, key, end: self.out.len() });
        }
        Some(ignored.map_or(0, |at| 1 << at) | if is_meta { 1 << IGNORED.len() } else { 0 })
    }

    /// Puts the members of the innermost object in the order of their keys; `None` when two are the same.
    fn order(&mut self, start: usize, first: usize) -> Option<()> {
        let Self { out, members, sorted, .. } = self;
        let own = &mut members[first..];
        let key = |member: &Member| &out[member.start + STRING..member.key];
        if !own.is_sorted_by(|one, next| key(one) < key(next)) {
            own.sort_unstable_by(|one, next| key(one).cmp(key(next)));
            own.is_sorted_by(|one, next| key(one) < key(next)).then_some(())?;
            sorted.clear();
            sorted.reserve(out.len() - start);
            own.iter().for_each(|member| sorted.extend_from_slice(&out[member.start..member.end]));
            out[start..].copy_from_slice(sorted);
        }
        members.truncate(first);
        Some(())
    }

    /// A string, unescaped, with its kind and its length in front. `None` when it is malformed or no Unicode.
    fn string(&mut self, source: &mut Source<'_>) -> Option<()> {
        source.at += 1;
        self.out.push(b'"');
        let from = self.open();
        loop {
            let rest = &source.text[source.at..];
            let plain = mcp::quote_or_escape(rest)?;
            self.out.extend_from_slice(&rest[..plain]);
            source.at += plain + 1;
            if rest[plain] == b'"' {
                break;
            }
            let escaped = source.escaped()?;
            self.out.extend_from_slice(escaped.encode_utf8(&mut [0; 4]).as_bytes());
        }
        self.close(from);
        Some(())
    }
}

impl<'t> Source<'t> {
    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.get(self.at) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    /// Steps over the next byte that is no white space if it is this one.
    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    /// The spelling of a number; that it is one, whoever parsed the message saw.
    fn number(&mut self) -> &'t [u8] {
        let rest = &self.text[self.at..];
        let part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let length = rest.iter().position(|byte| !part(byte)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// What stands behind a backslash.
    fn escaped(&mut self) -> Option<char> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        Some(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => match self.unit()? {
                high @ 0xd800..=0xdbff => {
                    self.text[self.at..].starts_with(b"\\u").then(|| self.at += 2)?;
                    let low = self.unit()?;
                    char::decode_utf16([high, low]).next()?.ok()?
                }
                unit => char::from_u32(u32::from(unit))?,
            },
            _ => return None,
        })
    }

    fn unit(&mut self) -> Option<u16> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        digits.iter().try_fold(0, |unit: u16, digit| {
            let digit = char::from(*digit).to_digit(16)?;
            Some(unit << 4 | u16::try_from(digit).ok()?)
        })
    }
}

/// Keys are hashes already: eight bytes of one serve in a table.
pub(super) type Hashed = BuildHasherDefault<FirstBytes>;

#[derive(Default)]
pub(super) struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            let _ = Canon::new(0).whole(&bytes, Place::Params);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]{}\",:\\\\u0-9a-fntrue d8]{0,60}") {
            let _ = Canon::new(0).whole(text.as_bytes(), Place::Params);
        }
    }
}
