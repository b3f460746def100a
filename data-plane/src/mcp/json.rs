//! Finding and replacing parts of a JSON text by byte range, without building a tree.

use super::scan::Scan;
use bytes::{Bytes, BytesMut};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt, ops::Range};

/// A byte range inside the text that it was found in.
pub type Span = Range<usize>;

/// The text is not JSON, or is not the kind of JSON that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub String);

impl Malformed {
    /// A key stands twice.
    pub(super) fn twice(key: &str) -> Self {
        Self(format!("duplicate key `{key}`"))
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

impl From<serde_json::Error> for Malformed {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

/// The value of `key` in the object at `object`, or `None` when there is no such key. The text was read before:
/// it is JSON.
///
/// # Errors
/// The range holds no object, or the key stands in it twice: two readers could see two different values.
pub fn member(text: &[u8], object: &Span, key: &str) -> Result<Option<Span>, Malformed> {
    let [found] = pick(text, object, [key])?;
    Ok(found)
}

/// The values of several keys of the object at `object`, as [`member`] gives that of one.
///
/// # Errors
/// As [`member`], for any of the keys.
pub fn pick<const N: usize>(
    text: &[u8],
    object: &Span,
    keys: [&str; N],
) -> Result<[Option<Span>; N], Malformed> {
    let mut found = [const { None }; N];
    let mut scan = Scan::new(text, object)?;
    while let Some((name, span)) = scan.next()? {
        if let Some(place) = keys.iter().position(|key| key.as_bytes() == &*name)
            && found[place].replace(span).is_some()
        {
            return Err(Malformed::twice(keys[place]));
        }
    }
    Ok(found)
}

/// Follows `path` through objects. `None` when a step is missing or is not an object.
///
/// # Errors
/// As [`member`].
pub fn find(text: &[u8], start: &Span, path: &[&str]) -> Result<Option<Span>, Malformed> {
    let mut at = start.clone();
    for key in path {
        if text.get(at.start) != Some(&b'{') {
            return Ok(None);
        }
        match member(text, &at, key)? {
            Some(span) => at = span,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// Every key and value of an object, in order, duplicates included.
///
/// # Errors
/// The range holds no object.
pub fn members<'t>(text: &'t [u8], object: &Span) -> Result<Vec<(Cow<'t, str>, Span)>, Malformed> {
    let Members(members) = serde_json::from_slice(slice(text, object)?)?;
    Ok(members.into_iter().map(|(key, raw)| (key, span(text, raw))).collect())
}

/// Every item of an array, in order.
///
/// # Errors
/// The range holds no array.
pub fn items(text: &[u8], array: &Span) -> Result<Vec<Span>, Malformed> {
    let Items(items) = serde_json::from_slice(slice(text, array)?)?;
    Ok(items.into_iter().map(|raw| span(text, raw)).collect())
}

/// The string at `at`, unescaped; `None` when it is no string.
#[must_use]
pub fn string<'t>(text: &'t [u8], at: &Span) -> Option<Cow<'t, str>> {
    let raw = text.get(at.clone())?;
    let plain = |byte: &u8| *byte >= b' ' && *byte != b'"' && *byte != b'\\';
    match raw {
        // All bytes are looked at, whatever the first is like: so many are looked at at once.
        [b'"', inner @ .., b'"'] if inner.iter().fold(true, |all, byte| all & plain(byte)) => {
            std::str::from_utf8(inner).ok().map(Cow::Borrowed)
        }
        _ => serde_json::from_slice::<Text<'t>>(raw).ok().map(|Text(text)| text),
    }
}

/// `value` as a JSON string.
#[must_use]
pub fn quote(value: &str) -> Vec<u8> {
    serde_json::to_vec(value).expect("a string serialises")
}

/// Replaces byte ranges. Ranges must not overlap; their order does not matter.
#[must_use]
pub fn splice(text: &[u8], mut edits: Vec<(Span, Vec<u8>)>) -> Bytes {
    edits.sort_by_key(|(span, _)| (span.start, span.end));
    let grown: usize = edits.iter().map(|(_, new)| new.len()).sum();
    let mut out = BytesMut::with_capacity(text.len() + grown);
    let mut at = 0;
    for (span, new) in edits {
        debug_assert!(at <= span.start && span.start <= span.end, "edits overlap");
        out.extend_from_slice(text.get(at..span.start).unwrap_or_default());
        out.extend_from_slice(&new);
        at = span.end;
    }
    out.extend_from_slice(text.get(at..).unwrap_or_default());
    out.freeze()
}

/// Replacements of byte ranges, for [`splice`].
pub type Edits = Vec<(Span, Vec<u8>)>;

/// Edits that take the members named in `remove` out of an object and put `add` (raw values) at its start. What
/// stays keeps its bytes. No other edit may lie inside a member that is removed.
///
/// # Errors
/// The range holds no object.
pub fn revise(
    text: &[u8],
    object: &Span,
    remove: &[&str],
    add: &[(&str, &[u8])],
) -> Result<Edits, Malformed> {
    let members = members(text, object)?;
    let fate = members.iter().map(|(key, at)| (at.end, !remove.contains(&&**key)));
    let (mut edits, kept) = removals(text, object.start + 1, fate);
    if !add.is_empty() {
        let mut new = Vec::new();
        for (place, (key, value)) in add.iter().enumerate() {
            if place > 0 {
                new.push(b',');
            }
            new.extend_from_slice(&quote(key));
            new.push(b':');
            new.extend_from_slice(value);
        }
        if kept {
            new.push(b',');
        }
        edits.insert(0, (object.start + 1..object.start + 1, new));
    }
    Ok(edits)
}

/// Edits that take the items at `places` out of an array.
///
/// # Errors
/// The range holds no array.
pub fn without_items(text: &[u8], array: &Span, places: &[usize]) -> Result<Edits, Malformed> {
    let items = items(text, array)?;
    let fate = items.iter().enumerate().map(|(place, at)| (at.end, !places.contains(&place)));
    Ok(removals(text, array.start + 1, fate).0)
}

/// Takes out what is not kept of a list whose parts end at the given places, each with the comma that is then
/// one too many. Also says whether anything stays.
fn removals(text: &[u8], start: usize, parts: impl Iterator<Item = (usize, bool)>) -> (Edits, bool) {
    let (mut edits, mut kept, mut from) = (Vec::new(), false, start);
    for (end, keep) in parts {
        if keep {
            (kept, from) = (true, end);
            continue;
        }
        let mut to = end;
        if !kept {
            // The first that stays must not begin with a comma.
            let comma =
                text.get(end..).and_then(|rest| rest.iter().position(|byte| !byte.is_ascii_whitespace()));
            to = comma.map(|at| end + at).filter(|at| text[*at] == b',').map_or(end, |at| at + 1);
        }
        edits.push((from..to, Vec::new()));
        from = to;
    }
    (edits, kept)
}

/// The object at `object` with only the members that `keep` admits, values as they were spelled.
///
/// # Errors
/// The range holds no object.
pub fn filtered(text: &[u8], object: &Span, keep: impl Fn(&str) -> bool) -> Result<Vec<u8>, Malformed> {
    let mut out = vec![b'{'];
    for (key, value) in members(text, object)? {
        if keep(&key) {
            if out.len() > 1 {
                out.push(b',');
            }
            out.extend_from_slice(&quote(&key));
            out.push(b':');
            out.extend_from_slice(slice(text, &value)?);
        }
    }
    out.push(b'}');
    Ok(out)
}

/// The edit that puts members in front of those of the object at `object`. `members` is raw JSON: `"a":1,"b":2`.
///
/// # Errors
/// The range holds no object.
pub fn inserted(text: &[u8], object: &Span, members: &str) -> Result<(Span, Vec<u8>), Malformed> {
    let inside = slice(text, object)?;
    let rest = inside.strip_prefix(b"{").ok_or_else(|| Malformed("not an object".to_owned()))?;
    let comma = if rest.trim_ascii_start().first() == Some(&b'}') { "" } else { "," };
    Ok((object.start + 1..object.start + 1, format!("{members}{comma}").into_bytes()))
}

/// The range of `raw` inside `text`, which it was borrowed from.
pub(super) fn span(text: &[u8], raw: &RawValue) -> Span {
    let start = raw.get().as_ptr().addr() - text.as_ptr().addr();
    start..start + raw.get().len()
}

fn slice<'t>(text: &'t [u8], span: &Span) -> Result<&'t [u8], Malformed> {
    text.get(span.clone()).ok_or_else(|| Malformed("a range outside the text".to_owned()))
}

/// A string that borrows where it can.
struct Text<'t>(Cow<'t, str>);

impl<'de: 't, 't> Deserialize<'de> for Text<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

struct Members<'t>(Vec<(Cow<'t, str>, &'t RawValue)>);

impl<'de: 't, 't> Deserialize<'de> for Members<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Text(key), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    if members.len() == MEMBERS_MAX {
                        return Err(A::Error::custom("an object with too many keys"));
                    }
                    members.push((key, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// Only objects that the gateway looks into are counted; a result of any size passes unread.
const MEMBERS_MAX: usize = 65_536;

struct Items<'t>(Vec<&'t RawValue>);

impl<'de: 't, 't> Deserialize<'de> for Items<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Items<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element::<&'de RawValue>()? {
                    items.push(item);
                }
                Ok(Items(items))
            }
        }
        deserializer.deserialize_seq(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &[u8]) -> Span {
        0..text.len()
    }

    #[test]
    fn finds_a_value_by_path_and_leaves_its_spelling_alone() {
        let text = br#" {"a": {"n" : 1.10, "big":12345678901234567890123}, "\u0062": "x"} "#;
        let n = find(text, &whole(text), &["a", "n"]).unwrap();
        // Leading white space is not an object: callers pass spans of values, not of padded text.
        assert_eq!(n, None);
        let text = text.trim_ascii();
        let n = find(text, &whole(text), &["a", "n"]).unwrap().unwrap();
        assert_eq!(&text[n], b"1.10");
        let big = find(text, &whole(text), &["a", "big"]).unwrap().unwrap();
        assert_eq!(&text[big], b"12345678901234567890123");
        assert!(find(text, &whole(text), &["b"]).unwrap().is_some(), "keys are compared unescaped");
        assert_eq!(find(text, &whole(text), &["a", "n", "deeper"]).unwrap(), None);
    }

    #[test]
    fn a_key_that_stands_twice_is_refused() {
        let text = br#"{"name":"safe","na\u006de":"evil"}"#;
        assert_eq!(member(text, &whole(text), "name").unwrap_err().0, "duplicate key `name`");
    }

    #[test]
    fn splicing_changes_the_named_ranges_and_nothing_else() {
        let text = b"{\"id\": 1 ,\"x\":[ 1.0 ]}";
        let id = find(text, &whole(text), &["id"]).unwrap().unwrap();
        let x = find(text, &whole(text), &["x"]).unwrap().unwrap();
        let out = splice(text, vec![(x, b"null".to_vec()), (id, b"\"seven\"".to_vec())]);
        assert_eq!(&out[..], b"{\"id\": \"seven\" ,\"x\":null}");
    }

    #[test]
    fn members_go_and_come_and_the_rest_keeps_its_bytes() {
        let revised = |text: &str, remove: &[&str], add: &[(&str, &[u8])]| {
            let text = text.as_bytes();
            String::from_utf8(splice(text, revise(text, &whole(text), remove, add).unwrap()).to_vec())
                .unwrap()
        };
        let text = r#"{ "a" : 1 , "b":[1, 2], "c": {} }"#;
        assert_eq!(revised(text, &["a"], &[]), r#"{ "b":[1, 2], "c": {} }"#);
        assert_eq!(revised(text, &["b"], &[]), r#"{ "a" : 1, "c": {} }"#);
        assert_eq!(revised(text, &["c"], &[]), r#"{ "a" : 1 , "b":[1, 2] }"#);
        assert_eq!(revised(text, &["a", "b"], &[("z", b"0")]), r#"{"z":0, "c": {} }"#);
        assert_eq!(revised(text, &["a", "b", "c"], &[("z", b"0"), ("y", b"1")]), r#"{"z":0,"y":1 }"#);
        assert_eq!(revised("{}", &["a"], &[("z", b"0")]), r#"{"z":0}"#);
        let list = b"[1 , [2],3]";
        let without = |places: &[usize]| splice(list, without_items(list, &whole(list), places).unwrap());
        assert_eq!(without(&[0]), " [2],3]".replace(" [2]", "[ [2]"));
        assert_eq!(without(&[1, 2]), "[1]");
        assert_eq!(without(&[0, 1, 2]), "[]");
    }

    proptest::proptest! {
        #[test]
        fn any_choice_of_members_can_go(keep in proptest::collection::vec(proptest::bool::ANY, 0..6), add: bool) {
            let names: Vec<String> = (0..keep.len()).map(|n| format!("k{n}")).collect();
            let text = format!("{{{}}}", names.iter().map(|name| format!(" \"{name}\" : [0] ")).collect::<Vec<_>>().join(","));
            let gone: Vec<&str> = names.iter().zip(&keep).filter(|(_, keep)| !**keep).map(|(name, _)| &**name).collect();
            let added: &[(&str, &[u8])] = if add { &[("new", b"1")] } else { &[] };
            let out = splice(text.as_bytes(), revise(text.as_bytes(), &whole(text.as_bytes()), &gone, added).unwrap());
            let left: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&out).unwrap();
            proptest::prop_assert_eq!(left.len(), keep.iter().filter(|keep| **keep).count() + usize::from(add));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let span = whole(&bytes);
            let _ = (find(&bytes, &span, &["a", "b"]), items(&bytes, &span), string(&bytes, &span));
        }
    }
}
