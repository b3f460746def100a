//! Who asks, what he may, and what is kept of it: [`identity`] out of a certificate, [`tokens`] out of a file,
//! [`rights`] that each call needs, and [`audit`] of every change and every refusal.
//!
//! It must never decide by what a caller says of himself without proof, and must never show a token.

pub mod audit;
pub mod identity;
pub mod rights;
pub mod tokens;

use o1_process::tls::Peer;
use std::{fmt, net::SocketAddr, sync::Arc};
use tokens::Tokens;

/// What somebody may. Among people each role may what the one before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A data plane: speaks for itself, and for nobody else.
    Node,
    /// Looks.
    Viewer,
    /// Changes the configuration.
    Editor,
    /// Orders failovers, maintenance and purges.
    Operator,
}

impl Role {
    /// All of them, the least first.
    pub const ALL: [Self; 4] = [Self::Node, Self::Viewer, Self::Editor, Self::Operator];

    /// As people write it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Operator => "operator",
        }
    }

    /// The role of this word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }

    /// Whether who has this role may what `needed` may. Nodes and people have nothing in common.
    #[must_use]
    pub fn includes(self, needed: Self) -> bool {
        self == needed || (self != Self::Node && needed != Self::Node && self > needed)
    }
}

/// Whether this can be the name of a node or a person: 1 to 64 letters, digits, `.`, `_`, `-`, `@`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte))
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who he is; `None`: nobody is asked here, and everybody may everything.
    pub known: Option<Known>,
    /// Where from; `None`: unknown.
    pub address: Option<SocketAddr>,
}

/// Who somebody proved to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// His name; that of a node is its id.
    pub name: String,
    /// His role.
    pub role: Role,
    /// By what.
    pub by: Proof,
}

/// By what somebody proved who he is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A certificate.
    Certificate,
    /// A bearer token.
    Token,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate",
            Self::Token => "token",
        })
    }
}

impl Caller {
    /// Somebody whom nobody asked who he is.
    #[must_use]
    pub const fn local(address: Option<SocketAddr>) -> Self {
        Self { known: None, address }
    }

    /// What he is called in histories: his name, or where he comes from.
    #[must_use]
    pub fn actor(&self) -> String {
        match &self.known {
            Some(known) => known.name.clone(),
            None => self.from(),
        }
    }

    /// Where he comes from, for people.
    #[must_use]
    pub fn from(&self) -> String {
        self.address.map_or_else(|| "unknown".to_owned(), |address| address.to_string())
    }

    /// Whether he may what this role may.
    #[must_use]
    pub fn may(&self, needed: Role) -> bool {
        self.known.as_ref().is_none_or(|known| known.role.includes(needed))
    }

    /// Whether he may speak for the node of this id.
    #[must_use]
    pub fn is_node(&self, node_id: &str) -> bool {
        self.known.as_ref().is_none_or(|known| known.role == Role::Node && known.name == node_id)
    }
}

/// By what the control plane knows who asks.
#[derive(Debug, Clone)]
pub struct Access {
    /// The tokens that count; `None`: none does.
    pub tokens: Option<Arc<Tokens>>,
    /// Certificates count.
    pub certificates: bool,
}

impl Access {
    /// Nobody is asked who he is.
    #[must_use]
    pub const fn open() -> Self {
        Self { tokens: None, certificates: false }
    }

    /// Whether anybody is asked.
    #[must_use]
    pub const fn asks(&self) -> bool {
        self.certificates || self.tokens.is_some()
    }

    /// Who asks. A token that is shown decides, also where there is a certificate: who shows one wants to be that one.
    ///
    /// # Errors
    /// It cannot be told; why, for the caller.
    pub fn caller(&self, peer: &Peer, authorization: Option<&[u8]>) -> Result<Caller, String> {
        let address = Some(peer.address);
        if !self.asks() {
            return Ok(Caller::local(address));
        }
        let known = match (authorization, &peer.certificate) {
            (Some(header), _) => self.bearer(header)?,
            (None, Some(certificate)) if self.certificates => {
                let (role, name) = identity::of(&certificate.uris)?;
                Known { name, role, by: Proof::Certificate }
            }
            (None, _) => return Err(format!("say who you are: {}", self.wanted())),
        };
        Ok(Caller { known: Some(known), address })
    }

    fn bearer(&self, header: &[u8]) -> Result<Known, String> {
        let Some(tokens) = &self.tokens else {
            return Err(
                "tokens do not count here: this control plane was started without --tokens".to_owned()
            );
        };
        let token = header.strip_prefix(b"Bearer ").or_else(|| header.strip_prefix(b"bearer "));
        let token = token.ok_or("the authorization is no bearer token")?;
        let (name, role) =
            tokens.find(token).ok_or("the token is none that counts here: it was mistyped or taken back")?;
        Ok(Known { name, role, by: Proof::Token })
    }

    fn wanted(&self) -> &'static str {
        match (self.certificates, self.tokens.is_some()) {
            (true, true) => "show a certificate or a token",
            (true, false) => "show a certificate",
            _ => "show a token",
        }
    }
}

#[cfg(test)]
mod tests;
