//! What a server gave a client to come back with, a `requestState` or a `taskId`, together with where it came from:
//! sealed for the one client, so that it comes back to the same endpoint and means nothing to anybody else.

use crate::{
    plan::{Endpoint, Upstream},
    principal::Principal,
    seal::{Keyring, Purpose},
};

/// The content address of an endpoint: survives its place in the list, not its URL or command.
pub type EndpointId = [u8; 8];

/// What stands in a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handle {
    /// The upstream's name.
    pub upstream: String,
    /// Which of its endpoints.
    pub endpoint: EndpointId,
    /// What the handle is good for, hashed: a `requestState` belongs to one method and name.
    pub subject: [u8; 16],
    /// The server's own bytes.
    pub original: String,
}

impl Handle {
    /// The token for `principal`.
    #[must_use]
    pub fn seal(&self, keyring: &Keyring, purpose: Purpose, principal: &Principal) -> String {
        let mut inside = Vec::with_capacity(26 + self.upstream.len() + self.original.len());
        // A name has at most 48 characters.
        inside.push(u8::try_from(self.upstream.len()).unwrap_or(u8::MAX));
        inside.extend_from_slice(self.upstream.as_bytes());
        inside.extend_from_slice(&self.endpoint);
        inside.extend_from_slice(&self.subject);
        inside.extend_from_slice(self.original.as_bytes());
        keyring.seal(purpose, principal, &inside)
    }

    /// What is in a token; `None` for anything that was not sealed for this purpose and principal.
    #[must_use]
    pub fn open(keyring: &Keyring, purpose: Purpose, principal: &Principal, token: &str) -> Option<Self> {
        let inside = keyring.open(purpose, principal, token)?;
        let (length, rest) = inside.split_first()?;
        let (upstream, rest) = rest.split_at_checked(usize::from(*length))?;
        let (endpoint, rest) = rest.split_first_chunk()?;
        let (subject, original) = rest.split_first_chunk()?;
        Some(Self {
            upstream: String::from_utf8(upstream.to_vec()).ok()?,
            endpoint: *endpoint,
            subject: *subject,
            original: String::from_utf8(original.to_vec()).ok()?,
        })
    }
}

/// The name of an endpoint in handles.
#[must_use]
pub fn endpoint_id(endpoint: &Endpoint) -> EndpointId {
    let mut hasher = blake3::Hasher::new();
    match endpoint {
        Endpoint::Http { url, .. } => drop(hasher.update(url.to_string().as_bytes())),
        Endpoint::Stdio { command, .. } => {
            for part in command {
                hasher.update(&(part.len() as u64).to_be_bytes()).update(part.as_bytes());
            }
        }
    }
    first(&hasher)
}

/// What a `requestState` is good for.
#[must_use]
pub fn subject(method: &str, name: &str) -> [u8; 16] {
    first(blake3::Hasher::new().update(method.as_bytes()).update(b"\0").update(name.as_bytes()))
}

/// The place of an endpoint among those of its upstream.
#[must_use]
pub fn place(upstream: &Upstream, id: &EndpointId) -> Option<usize> {
    upstream.endpoints.iter().position(|endpoint| endpoint_id(endpoint) == *id)
}

fn first<const N: usize>(hasher: &blake3::Hasher) -> [u8; N] {
    *hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::Principal;

    #[test]
    fn a_handle_comes_back_as_it_was_and_to_its_owner_only() {
        let keyring = Keyring::local();
        let anonymous = Principal::anonymous();
        let handle = Handle {
            upstream: "weather".into(),
            endpoint: [7; 8],
            subject: subject("tools/call", "echo"),
            original: "v1.é\"".into(),
        };
        let token = handle.seal(&keyring, Purpose::Task, &anonymous);
        assert_eq!(Handle::open(&keyring, Purpose::Task, &anonymous, &token), Some(handle.clone()));
        assert_eq!(Handle::open(&keyring, Purpose::RequestState, &anonymous, &token), None);
        assert_eq!(Handle::open(&Keyring::local(), Purpose::Task, &anonymous, &token), None);
        assert_ne!(subject("tools/call", "echo"), subject("prompts/get", "echo"));
    }
}
