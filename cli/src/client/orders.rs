//! Orders of failover.

use super::{Client, failover::failover};
use crate::{
    connect::Failure,
    failover::{DecisionState, Failover, Mode},
    orders::{Drained, OrderStore, Ordered, SetMaintenance, SetMode},
};
use o1_proto::{
    convert::{self, from_duration},
    wire,
};

impl Client {
    /// Orders a store.
    ///
    /// # Errors
    /// Why it is not carried out.
    pub async fn order_store(&mut self, order: OrderStore) -> Result<Ordered, Failure> {
        let request = wire::OrderStoreRequest {
            upstream: order.upstream,
            target: convert::from_store(order.target),
            if_term: order.if_term,
            force: order.force,
            request_id: order.signed.request_id,
            reason: order.signed.reason,
            dry_run: order.dry_run,
        };
        let answer = self.link.answer(self.admin.order_store(request)).await?;
        Ok(Ordered {
            term: answer.term,
            decision_id: answer.decision_id,
            nodes: answer.nodes,
            journal_pending: answer.journal_pending,
            warnings: answer.warnings,
            no_op: answer.no_op,
        })
    }

    /// Pins an upstream, or ends that. What becomes of it, where the control plane says so.
    ///
    /// # Errors
    /// Why it is not carried out.
    pub async fn set_mode(&mut self, order: SetMode) -> Result<Option<Failover>, Failure> {
        let mode = match order.mode {
            Mode::Auto => wire::UpstreamMode::Auto,
            Mode::PinPrimary => wire::UpstreamMode::PinPrimary,
            Mode::PinBackup => wire::UpstreamMode::PinBackup,
        };
        let request = wire::SetUpstreamModeRequest {
            upstream: order.upstream,
            mode: mode.into(),
            expires_in: order.expires_in.map(from_duration),
            request_id: order.signed.request_id,
            reason: order.signed.reason,
        };
        let answer = self.link.answer(self.admin.set_upstream_mode(request)).await?;
        Ok(answer.failover.map(failover))
    }

    /// Lets a node take no new sessions, or take them again.
    ///
    /// # Errors
    /// Why it is not carried out.
    pub async fn drain(&mut self, node: &str, drain: bool, reason: &str) -> Result<Drained, Failure> {
        let request =
            wire::SetNodeDrainRequest { node_id: node.to_owned(), drain, reason: reason.to_owned() };
        let answer = self.link.answer(self.admin.set_node_drain(request)).await?;
        Ok(Drained { no_op: answer.no_op, order: answer.drain.map(super::drain_order) })
    }

    /// Begins or ends maintenance. Whether the control plane decides now.
    ///
    /// # Errors
    /// Why it is not carried out.
    pub async fn set_maintenance(&mut self, order: SetMaintenance) -> Result<Option<DecisionState>, Failure> {
        let request = wire::SetMaintenanceRequest {
            enabled: order.enabled,
            expires_in: order.expires_in.map(from_duration),
            request_id: order.signed.request_id,
            reason: order.signed.reason,
        };
        let answer = self.link.answer(self.admin.set_maintenance(request)).await?;
        Ok(convert::decision_state(answer.decisions))
    }
}
