//! Lists on the aggregated route are memory, too: on an order to forget lists they are fetched again.

use super::Router;
use crate::{
    call::Upstreams,
    purge::{Forget, Order, Purged},
};
use o1_proto::model::Tier;
use std::time::Duration;

/// How long an order waits for lists that are fetched again for its sake.
const AGAIN_WITHIN: Duration = Duration::from_secs(2);

impl<N: Upstreams + Forget> Router<N> {
    /// Forgets what is kept, below and here. Lists stand until they were fetched again, and so do those of an
    /// upstream that does not answer: waits for the others, for a moment.
    pub async fn purge(&self, order: &Order) -> Purged {
        let purged = self.next.purge(order);
        if order.includes(Tier::Catalogue) {
            self.catalogue.again(|upstream| order.concerns(&upstream.name), AGAIN_WITHIN).await;
        }
        purged
    }
}
