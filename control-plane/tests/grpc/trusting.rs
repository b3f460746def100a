//! What the control plane takes from whom, by tokens: the same door that certificates go through.

use super::harness::{Plane, SOON, document, hello, identity, token_of};
use o1_proto::wire::{
    self, AppendEventsRequest, EventsOpen, Hello, ReportStatsRequest, SyncRequest, SyncResponse,
    admin_service_client::AdminServiceClient, append_events_request,
    config_service_client::ConfigServiceClient, node_service_client::NodeServiceClient,
    status_service_client::StatusServiceClient, sync_request, sync_response::Msg,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Response, Status, Streaming,
    metadata::{Ascii, MetadataValue},
};

/// A message of somebody.
fn of<T>(who: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value: MetadataValue<Ascii> = format!("Bearer {}", token_of(who)).parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

/// The first answer to a hello, and the end of the stream that keeps it open.
async fn sync(plane: &Plane, who: &str, hello: Hello) -> Result<(Msg, mpsc::Sender<SyncRequest>), Status> {
    let (say, said) = mpsc::channel(4);
    say.try_send(SyncRequest { msg: Some(sync_request::Msg::Hello(hello)) }).unwrap();
    let mut client = NodeServiceClient::new(plane.channel().await);
    let mut hear: Streaming<SyncResponse> =
        client.sync(of(who, ReceiverStream::new(said))).await?.into_inner();
    let first = timeout(SOON, hear.message()).await.unwrap()?;
    Ok((first.unwrap().msg.unwrap(), say))
}

async fn events(plane: &Plane, who: &str, node_id: &str, uid: u8) -> Result<(), Status> {
    let (say, said) = mpsc::channel(4);
    let open =
        EventsOpen { node_id: node_id.to_owned(), node_uid: vec![uid; 16], oldest: None, newest: None };
    say.try_send(AppendEventsRequest { msg: Some(append_events_request::Msg::Open(open)) }).unwrap();
    let mut client = NodeServiceClient::new(plane.channel().await);
    client.append_events(of(who, ReceiverStream::new(said))).await.map(drop)
}

async fn stats(plane: &Plane, who: &str, node: wire::NodeIdentity) -> Result<(), Status> {
    let report = ReportStatsRequest { node: Some(node), seq: 1, ..Default::default() };
    NodeServiceClient::new(plane.channel().await).report_stats(of(who, report)).await.map(drop)
}

fn denied<T>(done: Result<T, Status>, words: &str) {
    let Err(status) = done else { panic!("it was let through, and not: {words}") };
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    assert!(status.message().contains(words), "{words}: {}", status.message());
}

#[tokio::test]
async fn a_node_speaks_for_itself_alone_on_each_of_its_calls() {
    let plane = Plane::asking(&[("n1", "node"), ("n2", "node"), ("ann", "operator")]).await;
    let (first, _stream) = sync(&plane, "n1", hello(1)).await.unwrap();
    assert!(matches!(first, Msg::Welcome(_)), "{first:?}");
    assert!(events(&plane, "n1", "n1", 1).await.is_ok());
    assert!(stats(&plane, "n1", identity(1)).await.is_ok());

    // Under another name.
    denied(sync(&plane, "n2", hello(1)).await, "calls itself `n1`");
    denied(events(&plane, "n2", "n1", 1).await, "that of the node `n2`");
    denied(stats(&plane, "n2", identity(1)).await, "calls itself `n1`");
    // Under its own name, with what the other one minted.
    let stolen = || wire::NodeIdentity { node_id: "n2".to_owned(), ..identity(1) };
    denied(
        sync(&plane, "n2", Hello { node: Some(stolen()), ..Default::default() }).await,
        "belongs to the node `n1`",
    );
    denied(events(&plane, "n2", "n2", 1).await, "belongs to the node `n1`");
    denied(stats(&plane, "n2", stolen()).await, "belongs to the node `n1`");
    // An operator is no node.
    denied(sync(&plane, "ann", hello(1)).await, "NodeService/Sync needs the role node");
    let nodes = StatusServiceClient::new(plane.channel().await);
    let nodes =
        nodes.clone().list_nodes(of("ann", wire::ListNodesRequest::default())).await.unwrap().into_inner();
    let names: Vec<_> = nodes.nodes.iter().map(|node| node.node.as_ref().unwrap().node_id.as_str()).collect();
    assert_eq!(names, ["n1"], "and it is still itself");
}

#[tokio::test]
async fn a_change_is_noted_with_what_came_of_it_and_a_dry_run_is_not() {
    let plane = Plane::asking(&[("ed", "editor"), ("eve", "viewer")]).await;
    let apply = async |who: &str, content: String, dry_run: bool| -> Result<Response<_>, Status> {
        let document =
            Some(wire::ConfigDocument { content: content.into_bytes(), source: "a.yaml".to_owned() });
        let request = wire::ApplyConfigRequest {
            document,
            dry_run,
            request_id: "r-1".to_owned(),
            comment: "because".to_owned(),
            ..Default::default()
        };
        ConfigServiceClient::new(plane.channel().await).apply_config(of(who, request)).await
    };
    denied(apply("eve", document(1), false).await, "the token of `eve` is that of the role viewer");
    apply("ed", document(1), true).await.unwrap();
    apply("ed", document(1), false).await.unwrap();
    assert_eq!(
        apply("ed", "upstreams: 7\n".to_owned(), false).await.unwrap_err().code(),
        Code::InvalidArgument
    );

    let audit = async |kind: wire::AuditKind, page_size, page_token: String| {
        let request =
            wire::ListAuditRequest { kind: kind.into(), page_size, page_token, ..Default::default() };
        let mut client = AdminServiceClient::new(plane.channel().await);
        client.list_audit(of("eve", request)).await.unwrap().into_inner()
    };
    let first = audit(wire::AuditKind::Change, 1, String::new()).await;
    let second = audit(wire::AuditKind::Change, 1, first.next_page_token).await;
    assert_eq!(second.next_page_token, "", "two changes, and no dry run: {:?}", second.entries);
    let [failed, done] = [&first.entries[0], &second.entries[0]];
    assert_eq!((failed.outcome(), done.outcome()), (wire::AuditOutcome::Failed, wire::AuditOutcome::Done));
    for entry in [failed, done] {
        assert_eq!(
            (entry.who.as_str(), entry.role.as_str(), entry.why.as_str()),
            ("ed", "editor", "because")
        );
        assert_eq!((entry.action.as_str(), entry.subject.as_str()), ("ConfigService/ApplyConfig", "a.yaml"));
        assert_eq!(entry.request_id, "r-1");
        assert!(entry.from.starts_with("127.0.0.1:") && entry.at.is_some());
    }
    assert!(
        done.detail.contains("version 1.2") && failed.detail.contains("request_id"),
        "{done:?} {failed:?}"
    );
    let refusals = super::harness::eventually(async || {
        let found = audit(wire::AuditKind::Refusal, 0, String::new()).await.entries;
        if found.is_empty() { Err("nothing yet".to_owned()) } else { Ok(found) }
    })
    .await;
    assert_eq!((refusals[0].who.as_str(), refusals[0].outcome()), ("eve", wire::AuditOutcome::Refused));
}

#[tokio::test]
async fn whoever_is_nobody_learns_what_is_wanted_and_health_answers_all() {
    let plane = Plane::asking(&[("eve", "viewer")]).await;
    let mut statuses = StatusServiceClient::new(plane.channel().await);
    let status = statuses.get_status(wire::GetStatusRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "say who you are: show a token"));
    let status = statuses.get_status(of("mallory", wire::GetStatusRequest::default())).await.unwrap_err();
    assert!(
        status.code() == Code::Unauthenticated && !status.message().contains(&token_of("mallory")),
        "{status:?}"
    );
    assert!(statuses.get_status(of("eve", wire::GetStatusRequest::default())).await.is_ok());
    let mut health = tonic_health::pb::health_client::HealthClient::new(plane.channel().await);
    assert!(health.check(tonic_health::pb::HealthCheckRequest::default()).await.is_ok());
}
