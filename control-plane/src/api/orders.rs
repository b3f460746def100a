//! What operators order about failovers: checked, carried out, and answered once it is on disk.

use super::{audit::Changes, door, encode, errors};
use crate::{
    access::audit::Deed,
    clock::Now,
    fleet::Hub,
    health::{Maintenance, Mode, ModeOrder, Order},
};
use o1_proto::{
    convert,
    wire::{
        OrderStoreRequest, OrderStoreResponse, SetMaintenanceRequest, SetMaintenanceResponse,
        SetUpstreamModeRequest, SetUpstreamModeResponse, UpstreamMode,
    },
};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;
use tonic::{Request, Response, Status};

/// How long an order may take to get to the disk.
const SETTLE: Duration = Duration::from_secs(10);
/// Characters of a reason or a request id.
const MAX_TEXT: usize = 1000;

/// A store should serve.
pub(super) async fn store(
    hub: &Arc<Hub>,
    changes: &Changes,
    request: Request<OrderStoreRequest>,
) -> Result<Response<OrderStoreResponse>, Status> {
    let caller = door::caller(&request);
    let asked = request.into_inner();
    let order = Order {
        target: convert::store(asked.target)
            .ok_or_else(|| errors::invalid("target: say STORE_PRIMARY or STORE_BACKUP"))?,
        reason: reason(asked.reason)?,
        request_id: request_id(asked.request_id)?,
        upstream: asked.upstream,
        if_term: asked.if_term,
        force: asked.force,
        dry_run: asked.dry_run,
    };
    if order.dry_run {
        return order_store(hub.clone(), order, caller.actor()).await;
    }
    let forced = if order.force { ", forced" } else { "" };
    let deed = Deed {
        action: "AdminService/OrderStore",
        subject: format!("{}: {}{forced}", order.upstream, order.target.word()),
        why: order.reason.clone(),
        request_id: order.request_id.clone(),
    };
    let change = order_store(hub.clone(), order, caller.actor());
    changes.noted(&caller, deed, change, |done| format!("term {}", done.get_ref().term)).await
}

async fn order_store(
    hub: Arc<Hub>,
    order: Order,
    actor: String,
) -> Result<Response<OrderStoreResponse>, Status> {
    let answer = given(&hub, |now| hub.order(now, |decisions, moment| decisions.order(&order, moment)))?;
    let Order { upstream, target, force, dry_run, reason, request_id, .. } = order;
    let target = target.word();
    match answer {
        Ok((ordered, decision)) => {
            let (term, decision_id, no_op) = (ordered.term, &ordered.decision_id, ordered.no_op);
            let anew = decision.is_some();
            tracing::warn!(
                actor,
                upstream,
                target,
                force,
                dry_run,
                reason,
                request_id,
                term,
                decision_id,
                no_op,
                anew,
                "somebody ordered a store"
            );
            settled(&hub, dry_run).await?;
            Ok(Response::new(OrderStoreResponse {
                term: ordered.term,
                decision_id: ordered.decision_id,
                nodes: ordered.nodes,
                journal_pending: ordered.journal_pending,
                warnings: ordered.warnings,
                no_op: ordered.no_op,
            }))
        }
        Err(error) => {
            let status = errors::order(&error, &upstream);
            let why = status.message();
            tracing::warn!(actor, upstream, target, force, reason, why, "somebody ordered a store in vain");
            Err(status)
        }
    }
}

/// An upstream is pinned, or no longer.
pub(super) async fn mode(
    hub: &Arc<Hub>,
    changes: &Changes,
    request: Request<SetUpstreamModeRequest>,
) -> Result<Response<SetUpstreamModeResponse>, Status> {
    let caller = door::caller(&request);
    let asked = request.into_inner();
    let mode = match UpstreamMode::try_from(asked.mode) {
        Ok(UpstreamMode::Auto) => Mode::Auto,
        Ok(UpstreamMode::PinPrimary) => Mode::PinPrimary,
        Ok(UpstreamMode::PinBackup) => Mode::PinBackup,
        Ok(UpstreamMode::Unspecified) | Err(_) => {
            return Err(errors::invalid("mode: say AUTO, PIN_PRIMARY or PIN_BACKUP"));
        }
    };
    let order = ModeOrder {
        upstream: asked.upstream,
        mode,
        expires_in: expiry(asked.expires_in.as_ref())?,
        reason: reason(asked.reason)?,
        request_id: request_id(asked.request_id)?,
    };
    let deed = Deed {
        action: "AdminService/SetUpstreamMode",
        subject: format!("{}: {}", order.upstream, mode.word()),
        why: order.reason.clone(),
        request_id: order.request_id.clone(),
    };
    let expires_in = order.expires_in;
    let change = set_mode(hub.clone(), order, caller.actor());
    changes.noted(&caller, deed, change, move |_| until(expires_in)).await
}

async fn set_mode(
    hub: Arc<Hub>,
    order: ModeOrder,
    actor: String,
) -> Result<Response<SetUpstreamModeResponse>, Status> {
    let answer = given(&hub, |now| hub.order(now, |decisions, moment| decisions.set_mode(&order, moment)))?;
    let ModeOrder { upstream, mode, expires_in, reason, request_id } = order;
    let (mode, expires_in) = (mode.word(), expires_in.map(tracing::field::debug));
    if let Err(error) = answer {
        let status = errors::order(&error, &upstream);
        tracing::warn!(actor, upstream, mode, reason, why = status.message(), "somebody set a mode in vain");
        return Err(status);
    }
    tracing::warn!(
        actor,
        upstream,
        mode,
        expires_in,
        reason,
        request_id,
        "somebody set the mode of an upstream"
    );
    settled(&hub, false).await?;
    let now = Now::read();
    let status = hub.look_at_all(now, |_, _, decisions, moment| decisions.status(&upstream, moment));
    let failover = status.map(|status| encode::failover(&upstream, status, now.wall));
    Ok(Response::new(SetUpstreamModeResponse { failover }))
}

/// Nothing is decided by itself, or it is again.
pub(super) async fn maintenance(
    hub: &Arc<Hub>,
    changes: &Changes,
    request: Request<SetMaintenanceRequest>,
) -> Result<Response<SetMaintenanceResponse>, Status> {
    let caller = door::caller(&request);
    let asked = request.into_inner();
    let (reason, request_id) = (reason(asked.reason)?, request_id(asked.request_id)?);
    let (enabled, expires_in) = (asked.enabled, expiry(asked.expires_in.as_ref())?);
    let deed = Deed {
        action: "AdminService/SetMaintenance",
        subject: if enabled { "on" } else { "off" }.to_owned(),
        why: reason.clone(),
        request_id: request_id.clone(),
    };
    let change = set_maintenance(hub.clone(), enabled, expires_in, reason, request_id, caller.actor());
    changes.noted(&caller, deed, change, move |_| until(expires_in)).await
}

async fn set_maintenance(
    hub: Arc<Hub>,
    enabled: bool,
    expires_in: Option<Duration>,
    reason: String,
    request_id: String,
    actor: String,
) -> Result<Response<SetMaintenanceResponse>, Status> {
    let answer = given(&hub, |now| {
        let until = expires_in.and_then(|expires| now.wall.checked_add(expires));
        let maintenance = Maintenance { on: enabled, until, reason: reason.clone() };
        hub.order(now, |decisions, moment| {
            decisions.set_maintenance(maintenance, &request_id, moment).map(|()| decisions.state())
        })
    })?;
    let state = answer.map_err(|error| errors::order(&error, ""))?;
    let expires_in = expires_in.map(tracing::field::debug);
    tracing::warn!(actor, enabled, expires_in, reason, request_id, "somebody set maintenance");
    settled(&hub, false).await?;
    Ok(Response::new(SetMaintenanceResponse { decisions: convert::from_decision_state(state) }))
}

/// Carries an order out, unless the store is so far behind that it could not be kept.
fn given<T>(hub: &Hub, order: impl FnOnce(Now) -> T) -> Result<T, Status> {
    if hub.decision_log().is_full() {
        return Err(errors::unsettled());
    }
    Ok(order(Now::read()))
}

async fn settled(hub: &Hub, dry_run: bool) -> Result<(), Status> {
    if dry_run {
        return Ok(());
    }
    timeout(SETTLE, hub.decision_log().settled()).await.map_err(|_| errors::unsettled())
}

fn until(expires_in: Option<Duration>) -> String {
    expires_in.map_or_else(String::new, |expires| format!("for {expires:?}"))
}

pub(super) fn reason(text: String) -> Result<String, Status> {
    let text = bounded("reason", text)?;
    if text.trim().is_empty() {
        return Err(errors::invalid("reason: say why, for those who read the log"));
    }
    Ok(text)
}

pub(super) fn request_id(text: String) -> Result<String, Status> {
    bounded("request_id", text)
}

pub(super) fn bounded(field: &str, text: String) -> Result<String, Status> {
    if text.chars().count() > MAX_TEXT {
        return Err(errors::invalid(format!("{field}: at most {MAX_TEXT} characters")));
    }
    Ok(text)
}

fn expiry(wire: Option<&prost_types::Duration>) -> Result<Option<Duration>, Status> {
    let Some(wire) = wire else { return Ok(None) };
    match convert::duration(Some(wire)) {
        Some(expires) if !expires.is_zero() => Ok(Some(expires)),
        _ => Err(errors::invalid("expires_in: longer than nothing, or absent for ever")),
    }
}
