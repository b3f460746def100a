//! A program against the gRPC API of only1.
//!
//! ```console
//! $ cargo run -p o1-proto --example tour -- 127.0.0.1:7400 only1.yaml weather
//! ```
//!
//! It makes a configuration what the fleet runs and watches it reach the nodes; then it sends the upstream `weather` to
//! its backup, follows what the nodes say of that, and brings the primary back. The control plane must have been
//! started without `--config`, and the upstream needs a `backup`. Copy what you need: each step is a function of its own.
//!
//! A program elsewhere depends on `o1-proto` by its repository, on `tonic` with the feature `channel`, and on `tokio`.
#![expect(clippy::print_stdout, reason = "what it does is for people to read")]

use o1_proto::wire::{
    ApplyConfigRequest, ConfigDocument, EventFilter, EventType, ListEventsRequest, OrderStoreRequest,
    RolloutState, Store, StoredEvent, Verdict, WatchEventsRequest, WatchRolloutRequest, WatchStatusRequest,
    admin_service_client::AdminServiceClient, config_service_client::ConfigServiceClient,
    status_service_client::StatusServiceClient,
};
use std::{error::Error, time::Duration};
use tokio::time::{sleep, timeout};
use tonic::{Code, Request, Status, transport::Channel};

/// For calls that are not streams.
const CALL: Duration = Duration::from_secs(10);
/// The longest that it waits for anything to happen.
const PATIENCE: Duration = Duration::from_secs(120);

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [control, file, upstream] = &arguments[..] else {
        return Err("usage: tour HOST:PORT FILE UPSTREAM".into());
    };
    let channel = Channel::from_shared(format!("http://{control}"))?.connect_timeout(CALL).connect().await?;
    println!("applying {file}");
    if let Some(revision) = apply(&channel, file).await? {
        timeout(PATIENCE, rolled_out(&channel, revision)).await??;
    }
    println!("waiting until the backup of {upstream} is seen to work");
    timeout(PATIENCE, backup_is_seen(&channel, upstream)).await??;
    println!("{upstream} to its backup");
    let to_backup = send_to(&channel, upstream, Store::Backup, EventType::FailoverCommitted);
    timeout(PATIENCE, to_backup).await??;
    println!("{upstream} back to its primary");
    timeout(PATIENCE, send_to(&channel, upstream, Store::Primary, EventType::Restored)).await??;
    println!("done");
    Ok(())
}

/// A request with a limit on the time until its answer.
fn limited<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL);
    request
}

/// Said again with the same id, after a broken connection, an order is still carried out once.
fn request_id() -> String {
    format!("tour-{:032x}", fastrand::u128(..))
}

/// Makes a file the next revision; its number, or `None` if that is what runs already.
async fn apply(channel: &Channel, file: &str) -> Result<Option<u64>, Failure> {
    let document = Some(ConfigDocument { content: std::fs::read(file)?, source: file.to_owned() });
    let (request_id, comment) = (request_id(), "the tour".to_owned());
    let request = ApplyConfigRequest { document, request_id, comment, ..Default::default() };
    let mut configs = ConfigServiceClient::new(channel.clone());
    let answer = configs.apply_config(limited(request)).await?.into_inner();
    for change in &answer.changes {
        let name = change.key.as_ref().map_or("", |key| key.name.as_str());
        println!("  {} {name}", change.change().as_str_name());
    }
    Ok(answer.version.filter(|_| !answer.no_op).map(|version| version.revision))
}

/// Watches a revision reach the nodes, until every node that is there runs it.
async fn rolled_out(channel: &Channel, revision: u64) -> Result<(), Failure> {
    let request = WatchRolloutRequest { revision, ..Default::default() };
    let mut pictures = ConfigServiceClient::new(channel.clone()).watch_rollout(request).await?.into_inner();
    let mut last = None;
    while let Some(picture) = pictures.message().await? {
        let Some(rollout) = picture.rollout else { continue };
        let (state, applied, waiting) = (rollout.state().as_str_name(), rollout.applied, rollout.waiting);
        println!("  {state}, wave {} of {}: {applied} applied, {waiting} wait", rollout.wave, rollout.waves);
        last = Some(rollout);
    }
    // The stream ends with the picture in which it is over.
    let last = last.ok_or("the control plane ended the stream")?;
    if last.state() == RolloutState::Succeeded { Ok(()) } else { Err(last.because.into()) }
}

/// Waits until the nodes have seen that the backup works.
async fn backup_is_seen(channel: &Channel, upstream: &str) -> Result<(), Failure> {
    let mut statuses = StatusServiceClient::new(channel.clone());
    let mut pictures = statuses.watch_status(WatchStatusRequest::default()).await?.into_inner();
    while let Some(picture) = pictures.message().await? {
        let rows = picture.status.map(|status| status.upstreams).unwrap_or_default();
        let failover = rows.into_iter().find(|row| row.name == upstream).and_then(|row| row.failover);
        if failover.is_some_and(|failover| failover.backup() == Verdict::Healthy) {
            return Ok(());
        }
    }
    Err("the control plane ended the stream".into())
}

/// Orders a store and follows the events until every node that was told says that it is so.
async fn send_to(channel: &Channel, upstream: &str, store: Store, wanted: EventType) -> Result<(), Failure> {
    // Whoever reads from the newest event on misses nothing that follows.
    let newest = ListEventsRequest { page_size: 1, newest_first: true, ..Default::default() };
    let mut statuses = StatusServiceClient::new(channel.clone());
    let mut position = statuses.list_events(limited(newest)).await?.into_inner().newest_position;

    let (request_id, reason) = (request_id(), "the tour".to_owned());
    let (upstream, target) = (upstream.to_owned(), store.into());
    let order =
        OrderStoreRequest { upstream: upstream.clone(), target, request_id, reason, ..Default::default() };
    let answer = AdminServiceClient::new(channel.clone()).order_store(limited(order)).await?.into_inner();
    for warning in &answer.warnings {
        println!("  {warning}");
    }
    let mut missing = answer.nodes;
    loop {
        match follow(channel, &mut position, &upstream, |stored| {
            tell(stored);
            if stored.event.as_ref().is_some_and(|event| event.r#type() == wanted) {
                missing = missing.saturating_sub(1);
            }
            missing == 0
        })
        .await
        {
            Ok(true) => return Ok(()),
            // The control plane is away: what happens meanwhile is read when it is back. A connection that breaks in
            // the middle of a message is `Unknown`.
            Err(status) if !matches!(status.code(), Code::Unavailable | Code::Unknown) => {
                return Err(status.into());
            }
            Ok(false) | Err(_) => sleep(Duration::from_secs(1)).await,
        }
    }
}

/// Reads the events of an upstream behind `position`, which moves along, until one of them is the last that is wanted.
/// False: the stream ended before.
async fn follow(
    channel: &Channel,
    position: &mut u64,
    upstream: &str,
    mut is_last: impl FnMut(&StoredEvent) -> bool,
) -> Result<bool, Status> {
    let filter = Some(EventFilter { upstream: upstream.to_owned(), ..Default::default() });
    let request = WatchEventsRequest { after_position: Some(*position), filter };
    let mut stream = StatusServiceClient::new(channel.clone()).watch_events(request).await?.into_inner();
    while let Some(batch) = stream.message().await? {
        for stored in &batch.events {
            if is_last(stored) {
                return Ok(true);
            }
        }
        *position = batch.through_position;
    }
    Ok(false)
}

fn tell(stored: &StoredEvent) {
    let Some(event) = &stored.event else { return };
    let who = if stored.node_id.is_empty() { "control plane" } else { &stored.node_id };
    println!("  {} {who}: {} {}", stored.position, event.r#type().as_str_name(), event.reason);
}
