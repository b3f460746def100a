//! `AdminService`: what operators order, passed on to the nodes, and what came of it, passed back.

use super::{
    answers::{Answers, Asker, encode, picked, some},
    audit::{self, Changes},
    door,
    drain::Drains,
    errors, orders,
};
use crate::{
    access::audit::Deed,
    clock::Now,
    fleet::{AskError, Hub},
    stats::UpstreamLedger,
    store::Store,
};
use futures_util::{StreamExt as _, stream};
use o1_proto::{
    convert::tier,
    model::Tier,
    wire::{
        ListAuditRequest, ListAuditResponse, OrderStoreRequest, OrderStoreResponse, PurgeCacheRequest,
        PurgeCacheResponse, PurgeQuery, QueryFailure, QueryFailureReason, SetMaintenanceRequest,
        SetMaintenanceResponse, SetNodeDrainRequest, SetNodeDrainResponse, SetUpstreamModeRequest,
        SetUpstreamModeResponse, admin_service_server::AdminService, purge_cache_response::Said, query::Ask,
        query_answer::Part,
    },
};
use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// How long a node may take to forget: less than people wait for an answer, so that they hear of the others.
const WITHIN: Duration = Duration::from_secs(4);

/// See the module.
pub struct Admin {
    asker: Asker,
    drains: Arc<Drains>,
    changes: Changes,
}

impl Admin {
    pub(super) fn new(
        hub: Arc<Hub>,
        store: Arc<dyn Store>,
        changes: Changes,
        stop: CancellationToken,
    ) -> Self {
        Self { asker: Asker::new(hub, stop), drains: Arc::new(Drains::new(store)), changes }
    }

    /// Refuses the name of an upstream that neither the target nor a node knows.
    fn known(&self, upstream: &str) -> Result<(), Status> {
        let known: BTreeSet<String> = self.asker.hub.look(|registry, ledger| {
            let target = registry.target().into_iter().flat_map(|target| &target.fleet.upstreams);
            let reported = ledger.upstreams().filter(|(_, one)| UpstreamLedger::latest(one).next().is_some());
            target.map(|one| one.name.clone()).chain(reported.map(|(name, _)| name.to_owned())).collect()
        });
        if known.contains(upstream) {
            return Ok(());
        }
        Err(errors::unknown_upstream(upstream, &known))
    }
}

/// Whom an order for every node reached.
struct Numbers {
    asked: usize,
    busy: usize,
    away: usize,
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, busy, away } = self;
        write!(f, "{asked} nodes asked, {away} away")?;
        if *busy > 0 { write!(f, ", {busy} busy") } else { Ok(()) }
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    type PurgeCacheStream = Answers<PurgeCacheResponse>;

    async fn purge_cache(
        &self,
        request: Request<PurgeCacheRequest>,
    ) -> Result<Response<Self::PurgeCacheStream>, Status> {
        let caller = door::caller(&request);
        let PurgeCacheRequest { node_id, upstream, tier: number } = request.into_inner();
        let tier = tier(number)
            .map_err(|number| errors::invalid(format!("tier: {number} is none that this build knows")))?;
        if !upstream.is_empty() {
            self.known(&upstream)?;
        }
        let all = |name: &str| some(name).unwrap_or("all").to_owned();
        let deed = Deed {
            action: "AdminService/PurgeCache",
            subject: format!(
                "upstream {}, tier {}, node {}",
                all(&upstream),
                tier.map_or("all", Tier::word),
                all(&node_id)
            ),
            ..Deed::default()
        };
        let (asker, actor) = (self.asker.clone(), caller.actor());
        let change = async move { purge(&asker, &node_id, &upstream, tier, number, &actor) };
        let told = |(_, numbers): &(_, Numbers)| numbers.to_string();
        let (answers, _) = self.changes.noted(&caller, deed, change, told).await?;
        Ok(Response::new(answers))
    }
    async fn order_store(
        &self,
        request: Request<OrderStoreRequest>,
    ) -> Result<Response<OrderStoreResponse>, Status> {
        orders::store(&self.asker.hub, &self.changes, request).await
    }

    async fn set_upstream_mode(
        &self,
        request: Request<SetUpstreamModeRequest>,
    ) -> Result<Response<SetUpstreamModeResponse>, Status> {
        orders::mode(&self.asker.hub, &self.changes, request).await
    }

    async fn set_maintenance(
        &self,
        request: Request<SetMaintenanceRequest>,
    ) -> Result<Response<SetMaintenanceResponse>, Status> {
        orders::maintenance(&self.asker.hub, &self.changes, request).await
    }

    async fn list_audit(
        &self,
        request: Request<ListAuditRequest>,
    ) -> Result<Response<ListAuditResponse>, Status> {
        Ok(Response::new(audit::list(self.changes.audit(), request.into_inner()).await?))
    }

    async fn set_node_drain(
        &self,
        request: Request<SetNodeDrainRequest>,
    ) -> Result<Response<SetNodeDrainResponse>, Status> {
        let caller = door::caller(&request);
        let mut asked = request.into_inner();
        asked.reason = orders::reason(asked.reason)?;
        let deed = Deed {
            action: "AdminService/SetNodeDrain",
            subject: format!("{}: {}", asked.node_id, if asked.drain { "drain" } else { "end it" }),
            why: asked.reason.clone(),
            ..Deed::default()
        };
        let change = self.drains.clone().set(self.asker.hub.clone(), asked, caller.actor());
        let told = |done: &Response<SetNodeDrainResponse>| match done.get_ref().no_op {
            true => "it was so already".to_owned(),
            false => String::new(),
        };
        self.changes.noted(&caller, deed, change, told).await
    }
}

/// The answers to come, and the nodes in numbers.
fn purge(
    asker: &Asker,
    node_id: &str,
    upstream: &str,
    tier: Option<Tier>,
    number: i32,
    actor: &str,
) -> Result<(Answers<PurgeCacheResponse>, Numbers), Status> {
    let (hub, only, now) = (&asker.hub, some(node_id), Now::read());
    let question =
        encode(Ask::Purge(PurgeQuery { upstream: upstream.to_owned(), tier: number }), Some(WITHIN));
    let away = hub.away(only, now);
    let asked = match hub.ask_all(only, &question, now) {
        Err(AskError::NotConnected) if !away.is_empty() => Vec::new(),
        asked => asked.map_err(|error| errors::ask(&error, node_id))?,
    };
    let busy = asked.iter().filter(|asked| asked.is_err()).count();
    let numbers = Numbers { asked: asked.len() - busy, busy, away: away.len() };
    tracing::info!(
        actor,
        upstream = some(upstream).unwrap_or("all"),
        tier = tier.map_or("all", Tier::word),
        node = only.unwrap_or("all"),
        asked = numbers.asked,
        busy,
        away = numbers.away,
        "somebody asked to purge the cache"
    );
    let away = stream::iter(away).map(|node_id| (node_id, Err(not_connected())));
    let answers = asked.into_iter().map(|asked| asker.answers(asked, Some(WITHIN)).map(said));
    let answers = stream::select_all(answers.map(Box::pin));
    Ok((Box::pin(away.chain(answers).map(response)), numbers))
}

type Done = Result<o1_proto::wire::PurgePart, QueryFailure>;

fn said((node_id, part): (String, Result<Part, Status>)) -> (String, Done) {
    let done = picked(&node_id, part, |part| match part {
        Part::Purged(purged) => Some(purged),
        _ => None,
    });
    (node_id, done)
}

fn not_connected() -> QueryFailure {
    let message = "it is not connected: it keeps what it has, until that has expired".to_owned();
    QueryFailure { reason: QueryFailureReason::Gone.into(), message }
}

fn response((node_id, done): (String, Done)) -> Result<PurgeCacheResponse, Status> {
    let said = match done {
        Ok(purged) => {
            tracing::info!(
                node_id,
                entries = purged.entries,
                bytes = purged.bytes,
                "a node purged its cache"
            );
            Said::Purged(purged)
        }
        Err(failure) => {
            tracing::warn!(node_id, problem = failure.message, "a node did not purge its cache");
            Said::Failure(failure)
        }
    };
    Ok(PurgeCacheResponse { node_id, said: Some(said) })
}
