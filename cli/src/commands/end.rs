//! Why a command that goes on through restarts of the control plane stopped listening to one connection.

use crate::{connect::Failure, report::Error};

pub(super) enum End {
    /// The connection failed: there may be another.
    Failed(Failure),
    /// The command cannot go on: nobody reads, or what was asked for is not there.
    Over(Error),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Over(error)
    }
}
