//! Where writes are kept for the primary while it is away: what the data path may ask of the failover path.

use crate::failure::Failure;
use bytes::Bytes;
use futures_util::future::BoxFuture;

/// A write that is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its place in the journal of its upstream.
    pub seq: u64,
    /// What tells the primary that it had it already.
    pub key: String,
}

/// The journal of every upstream.
pub trait Journal: Send + Sync + 'static {
    /// Keeps a call of a tool; durable when it returns. `params` are the raw ones; `key` is what the client calls the
    /// write, if it does.
    ///
    /// # Errors
    /// It is not kept: the disk failed or is full.
    fn keep<'a>(
        &'a self,
        upstream: &'a str,
        tool: &'a str,
        params: Bytes,
        principal: &'a str,
        key: Option<String>,
    ) -> BoxFuture<'a, Result<Kept, Failure>>;

    /// Nobody accepted it after all: it is not replayed.
    fn withdraw(&self, upstream: &str, seq: u64, why: &str);
}
