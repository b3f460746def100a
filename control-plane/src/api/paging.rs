//! Lists in pages. A token names the last item of the page before, so that a page begins where the last one
//! ended whatever was added or removed meanwhile. Pure.

use super::errors::invalid;
use prost::Message;
use tonic::Status;

/// Items of a page when the caller does not say.
const DEFAULT: usize = 100;
/// Items of the largest page.
const MAX: usize = 1000;
/// Bytes of the largest page with more than one item: a message has 4 MiB.
const MAX_BYTES: usize = 3 << 20;

/// The number of items a caller asks for.
///
/// # Errors
/// It is negative.
pub fn size(page_size: i32) -> Result<usize, Status> {
    match usize::try_from(page_size) {
        Ok(0) => Ok(DEFAULT),
        Ok(size) => Ok(size.min(MAX)),
        Err(_) => Err(invalid(format!("page_size: {page_size} is negative"))),
    }
}

/// A token for the page after the item of this key. `kind` keeps tokens of different lists apart.
#[must_use]
pub fn token(kind: &str, key: &str) -> String {
    format!("{kind}:{key}")
}

/// The key in a token; `None`: the first page.
///
/// # Errors
/// It is not a token of this list.
pub fn key<'a>(kind: &str, token: &'a str) -> Result<Option<&'a str>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let key = token.strip_prefix(kind).and_then(|rest| rest.strip_prefix(':'));
    key.map(Some).ok_or_else(|| unknown(token))
}

/// The refusal of a token.
#[must_use]
pub fn unknown(token: &str) -> Status {
    let shown: String = token.chars().take(100).collect();
    invalid(format!("page_token: `{shown}` is not a token of this list: use next_page_token as it came"))
}

/// Cuts a page off the front of what is left. True: there is more.
pub fn cut<M: Message>(items: &mut Vec<M>, size: usize) -> bool {
    let mut bytes = 0;
    let fits = |item: &M| {
        bytes += item.encoded_len();
        bytes <= MAX_BYTES
    };
    let fitting = items.iter().take(size).map(fits).take_while(|fits| *fits).count().max(1);
    let more = items.len() > fitting;
    items.truncate(fitting);
    more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_default_and_a_limit() {
        for (asked, expected) in [(0, 100), (1, 1), (1000, 1000), (1001, 1000), (i32::MAX, 1000)] {
            assert_eq!(size(asked).unwrap(), expected);
        }
        assert_eq!(size(-1).unwrap_err().code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn a_token_comes_back_as_its_key_and_only_to_its_own_list() {
        assert_eq!(key("node", &token("node", "a:b")).unwrap(), Some("a:b"));
        assert_eq!(key("node", "").unwrap(), None);
        for foreign in ["upstream:a", "node", "n", "🦀"] {
            assert_eq!(key("node", foreign).unwrap_err().code(), tonic::Code::InvalidArgument, "{foreign}");
        }
    }

    #[test]
    fn a_page_ends_at_its_size_or_its_bytes_and_is_never_empty_while_there_is_more() {
        let megabytes = |sizes: &[usize]| sizes.iter().map(|size| vec![0_u8; size << 20]).collect::<Vec<_>>();
        let cases: &[(&[usize], usize, usize, bool)] = &[
            (&[], 10, 0, false),
            (&[0, 0, 0], 10, 3, false),
            (&[0, 0, 0], 2, 2, true),
            (&[1, 1, 1, 1], 10, 2, true), // each is a little more than a megabyte
            (&[5, 1], 10, 1, true),
        ];
        for (sizes, page, left, more) in cases {
            let mut items = megabytes(sizes);
            assert_eq!((cut(&mut items, *page), items.len()), (*more, *left), "{sizes:?}");
        }
    }
}
