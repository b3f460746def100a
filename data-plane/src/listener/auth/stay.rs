//! Event streams without an end of their own, GET streams and subscriptions: who opened one was let in by the rules
//! of that moment. Once other rules would not let them in, or as somebody who may use something else, the stream ends;
//! its client comes back and hears why.

use super::{Authentication, Denied, Place};
use crate::{listener::respond::ResponseBody, plan::Plan, principal::Principal};
use futures_util::StreamExt as _;
use http::{HeaderMap, Response, header};
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use std::{future::pending, sync::Arc};
use tokio::sync::watch;

/// How somebody was let in.
pub(in crate::listener) struct Stay<F> {
    pub(in crate::listener) auth: Arc<Authentication>,
    pub(in crate::listener) plans: watch::Receiver<Arc<Plan>>,
    /// Whether this caller may go on, who shows the same as then.
    pub(in crate::listener) goes_on: F,
    /// What was shown: see [`shown`].
    pub(in crate::listener) shown: HeaderMap,
    pub(in crate::listener) host: Option<String>,
    pub(in crate::listener) path: String,
    pub(in crate::listener) loopback: bool,
}

/// What of a request says who asks.
pub(in crate::listener) fn shown(headers: &HeaderMap) -> HeaderMap {
    let mut shown = HeaderMap::new();
    for line in headers.get_all(header::AUTHORIZATION) {
        shown.append(header::AUTHORIZATION, line.clone());
    }
    shown
}

impl<F: Fn(&Plan, &Arc<Principal>) -> bool + Send + 'static> Stay<F> {
    /// The response, for as long as the caller may have it.
    pub(in crate::listener) fn hold(self, response: Response<ResponseBody>) -> Response<ResponseBody> {
        response.map(|body| {
            let frames = BodyStream::new(body).take_until(Box::pin(self.over()));
            StreamBody::new(frames).boxed_unsync()
        })
    }

    async fn over(mut self) {
        loop {
            let plan = self.plans.borrow_and_update().clone();
            let place = Place::new(&plan.auth, || self.host.as_deref(), &self.path);
            match self.auth.caller(&plan, &self.shown, &place, self.loopback).await {
                Ok(caller) if (self.goes_on)(&plan, &caller.principal) => {}
                // That says nothing about the token.
                Err(Denied::NoKeys) => {}
                _ => return,
            }
            if self.plans.changed().await.is_err() {
                // The process ends, and its streams with it.
                return pending().await;
            }
        }
    }
}
