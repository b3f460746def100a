//! Tokens that clients carry for us: session ids, cursors, request states, task ids. What is inside is
//! encrypted and authenticated, for one purpose and one principal; to anybody else a token is as unknown as
//! one that never was. Any node with the keys can open what another sealed.
//!
//! It must never log a key, nor what is inside a token.

use crate::principal::Principal;
use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use std::sync::Arc;

/// What a token is for. A token of one purpose does not open as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// `Mcp-Session-Id`.
    Session = 1,
    /// `nextCursor` of a list over several upstreams.
    Cursor = 2,
    /// `requestState` of a multi-round-trip request.
    RequestState = 3,
    /// `taskId`.
    Task = 4,
}

/// A secret that nodes share.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Stands in the token, so that the right key is found after a rotation.
    pub id: [u8; KEY_ID],
    /// 256 random bits.
    pub secret: [u8; 32],
}

const KEY_ID: usize = 4;
const NONCE: usize = 24;
/// The layout: this byte, key id, nonce, ciphertext with its tag; base64url without padding.
const LAYOUT: u8 = 1;

/// The keys in force: the first seals, each of them opens.
pub struct Keyring {
    entries: ArcSwap<Vec<Entry>>,
    /// Of this process alone. Seals until there are others, and opens what it sealed for as long as it lives.
    local: Entry,
}

#[derive(Clone)]
struct Entry {
    id: [u8; KEY_ID],
    cipher: XChaCha20Poly1305,
}

impl Keyring {
    /// A ring with one random key of this process, until the control plane distributes shared ones.
    #[must_use]
    pub fn local() -> Arc<Self> {
        let (mut id, mut secret) = ([0; KEY_ID], [0; 32]);
        random(&mut id);
        random(&mut secret);
        let local = entry(&Key { id, secret });
        Arc::new(Self { entries: ArcSwap::from_pointee(vec![local.clone()]), local })
    }

    /// Takes other keys, the one that seals first. An empty slice changes nothing.
    pub fn replace(&self, keys: &[Key]) {
        if !keys.is_empty() {
            let entries = keys.iter().map(entry).chain([self.local.clone()]).collect();
            self.entries.store(Arc::new(entries));
        }
    }

    /// A token with `inside`, for `principal` alone.
    ///
    /// # Panics
    /// Beyond 256 GiB, which no token reaches.
    #[must_use]
    pub fn seal(&self, purpose: Purpose, principal: &Principal, inside: &[u8]) -> String {
        let keys = self.entries.load();
        let key = keys.first().expect("a keyring is never empty");
        let mut token = Vec::with_capacity(1 + KEY_ID + NONCE + inside.len() + 16);
        token.push(LAYOUT);
        token.extend_from_slice(&key.id);
        let mut nonce = [0; NONCE];
        random(&mut nonce);
        token.extend_from_slice(&nonce);
        let payload = Payload { msg: inside, aad: &bound(purpose, principal) };
        let sealed = key.cipher.encrypt(&XNonce::from(nonce), payload).expect("far below the cipher's limit");
        token.extend_from_slice(&sealed);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// What is inside a token; `None` for anything that this ring did not seal for this purpose and principal.
    #[must_use]
    pub fn open(&self, purpose: Purpose, principal: &Principal, token: &str) -> Option<Vec<u8>> {
        let token = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (&LAYOUT, rest) = token.split_first()? else { return None };
        let (id, rest) = rest.split_first_chunk::<KEY_ID>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>()?;
        let keys = self.entries.load();
        let key = keys.iter().find(|key| key.id == *id)?;
        let payload = Payload { msg: sealed, aad: &bound(purpose, principal) };
        key.cipher.decrypt(&XNonce::from(*nonce), payload).ok()
    }
}

fn entry(key: &Key) -> Entry {
    Entry { id: key.id, cipher: XChaCha20Poly1305::new(&key.secret.into()) }
}

/// What a token is bound to beside its content.
fn bound(purpose: Purpose, principal: &Principal) -> Vec<u8> {
    let mut bound = Vec::with_capacity(1 + principal.id.len());
    bound.push(purpose as u8);
    bound.extend_from_slice(principal.id.as_bytes());
    bound
}

fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system has random numbers");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::Access;

    fn principal(id: &str) -> Principal {
        Principal { id: id.into(), access: Access::everything() }
    }

    fn key(n: u8) -> Key {
        Key { id: [n; KEY_ID], secret: [n; 32] }
    }

    #[test]
    fn only_the_same_purpose_and_principal_open_a_token() {
        let (ring, a, b) = (Keyring::local(), principal("token:a"), principal("token:b"));
        let token = ring.seal(Purpose::Session, &a, b"inside");
        assert!(token.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "{token}");
        assert_eq!(ring.open(Purpose::Session, &a, &token).as_deref(), Some(&b"inside"[..]));
        assert_eq!(ring.open(Purpose::Session, &b, &token), None);
        assert_eq!(ring.open(Purpose::Cursor, &a, &token), None);
        assert_eq!(Keyring::local().open(Purpose::Session, &a, &token), None);
        assert_ne!(ring.seal(Purpose::Session, &a, b"inside"), token);
    }

    #[test]
    fn a_rotated_key_still_opens_until_it_is_gone() {
        let (ring, who) = (Keyring::local(), principal(""));
        ring.replace(&[key(1)]);
        let old = ring.seal(Purpose::Task, &who, b"x");
        ring.replace(&[key(2), key(1)]);
        let new = ring.seal(Purpose::Task, &who, b"y");
        assert!(ring.open(Purpose::Task, &who, &old).is_some());
        ring.replace(&[]);
        assert!(ring.open(Purpose::Task, &who, &old).is_some(), "no keys are no reason to forget any");
        ring.replace(&[key(3), key(2)]);
        assert!(ring.open(Purpose::Task, &who, &old).is_none());
        assert!(ring.open(Purpose::Task, &who, &new).is_some());
    }

    #[test]
    fn what_was_sealed_before_the_shared_keys_came_still_opens_and_is_sealed_no_more() {
        let (ring, other, who) = (Keyring::local(), Keyring::local(), principal(""));
        let alone = ring.seal(Purpose::Session, &who, b"x");
        for ring in [&ring, &other] {
            ring.replace(&[key(1)]);
        }
        assert!(ring.open(Purpose::Session, &who, &alone).is_some());
        assert!(other.open(Purpose::Session, &who, &ring.seal(Purpose::Session, &who, b"y")).is_some());
    }

    proptest::proptest! {
        #[test]
        fn a_changed_token_never_opens(at in 0_usize..100, flip in 1_u8..=255, text in ".{0,40}") {
            let (ring, who) = (Keyring::local(), principal(""));
            let token = ring.seal(Purpose::Cursor, &who, b"a cursor of some length");
            let mut raw = URL_SAFE_NO_PAD.decode(&token).unwrap();
            let at = at % raw.len();
            raw[at] ^= flip;
            proptest::prop_assert!(ring.open(Purpose::Cursor, &who, &URL_SAFE_NO_PAD.encode(raw)).is_none());
            proptest::prop_assert!(ring.open(Purpose::Cursor, &who, &text).is_none());
        }
    }
}
