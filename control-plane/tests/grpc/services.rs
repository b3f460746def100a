//! What else the doors answer: health, reflection, lists, HTTP.

use crate::harness::*;
use o1_proto::wire::{self, GetStatusRequest, ListNodesRequest, ListUpstreamsRequest};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use tonic_types::StatusExt as _;

const SERVICES: [&str; 5] = [
    "o1.control.v1.AdminService",
    "o1.control.v1.ConfigService",
    "o1.control.v1.InspectService",
    "o1.control.v1.NodeService",
    "o1.control.v1.StatusService",
];

#[tokio::test]
async fn health_answers_for_every_service() {
    let plane = Plane::with(&document(3101)).await;
    let mut client = HealthClient::new(plane.channel().await);
    for service in SERVICES.into_iter().chain([""]) {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = client.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
}

#[tokio::test]
async fn reflection_lists_the_services_and_knows_their_files() {
    let plane = Plane::with(&document(3101)).await;
    let mut client = ServerReflectionClient::new(plane.channel().await);
    let requests = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol("o1.control.v1.StatusService".to_owned()),
    ]
    .map(|request| ServerReflectionRequest { host: String::new(), message_request: Some(request) });
    let mut answers = client.server_reflection_info(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list");
    };
    for service in SERVICES.into_iter().chain(["grpc.health.v1.Health"]) {
        assert!(list.service.iter().any(|found| found.name == service), "{list:?}");
    }
    let file = answers.message().await.unwrap().unwrap().message_response;
    assert!(matches!(file, Some(MessageResponse::FileDescriptorResponse(_))), "{file:?}");
}

#[tokio::test]
async fn nodes_are_listed_in_pages_by_id() {
    let plane = Plane::with(&document(3101)).await;
    let target = plane.target().await.unwrap();
    let mut open = Vec::new();
    for uid in [3, 1, 5, 2, 4] {
        open.push(Node::join(plane.listen, running(uid, &target)).await.0);
    }
    let mut client = plane.statuses().await;
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListNodesRequest { page_size: 2, page_token: token, fields: None };
        let page = client.list_nodes(request).await.unwrap().into_inner();
        assert_eq!(page.total_size, 5);
        assert!(page.nodes.len() <= 2);
        seen.extend(page.nodes.into_iter().map(|node| node.node.unwrap().node_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ["n1", "n2", "n3", "n4", "n5"]);
    for page_token in ["x", "node:", "node:zz", "upstream:weather"] {
        let request = ListNodesRequest { page_token: page_token.to_owned(), ..Default::default() };
        let status = client.list_nodes(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{page_token}");
    }
}

#[tokio::test]
async fn upstreams_are_listed_in_pages_by_name() {
    let upstreams: String = ["c", "a", "b"]
        .map(|name| format!("  {name}: {{primary: [{{url: 'http://127.0.0.1:1/{name}'}}]}}\n"))
        .concat();
    let plane = Plane::with(&format!("upstreams:\n{upstreams}")).await;
    let mut client = plane.statuses().await;
    let request = ListUpstreamsRequest { page_size: 2, ..Default::default() };
    let first = client.list_upstreams(request).await.unwrap().into_inner();
    assert_eq!(first.total_size, 3);
    let request = ListUpstreamsRequest { page_size: 2, page_token: first.next_page_token, fields: None };
    let second = client.list_upstreams(request).await.unwrap().into_inner();
    let names: Vec<_> =
        first.upstreams.iter().chain(&second.upstreams).map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(second.next_page_token, "");
    assert_eq!(first.upstreams[0].primary, "http://127.0.0.1:1/a");
    assert_eq!(first.upstreams[0].state(), wire::UpstreamState::Unknown);
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("a head and a body").1
}

#[tokio::test]
async fn the_admin_port_tells_the_same() {
    let plane = Plane::with(&document(3101)).await;
    let target = plane.target().await.unwrap();
    let _node = Node::join(plane.listen, running(1, &target)).await;
    plane.sees(1, |node| node.sync() == wire::SyncState::Synced).await;
    let status: serde_json::Value = serde_json::from_str(body(&plane.get("/status").await)).unwrap();
    assert_eq!(status["fleet"]["nodes"]["synced"], 1);
    assert_eq!(status["fleet"]["control_plane"]["target"]["revision"], 1);
    assert_eq!(status["fleet"]["upstreams"][0]["name"], "weather");
    assert_eq!(status["nodes"][0]["node"]["node_id"], "n1");
    assert_eq!(status["nodes"][0]["sync"], "synced");
    let metrics = plane.get("/metrics").await;
    for line in [
        "o1_control_plane_config_revision 1",
        "o1_control_plane_config_refused 0",
        "o1_control_plane_nodes{state=\"connected\"} 1",
        "o1_control_plane_nodes_sync{sync=\"synced\"} 1",
        "o1_control_plane_upstream_requests_total{upstream=\"weather\"} 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in\n{metrics}");
    }
    let health: serde_json::Value = serde_json::from_str(body(&plane.get("/health").await)).unwrap();
    assert_eq!(health["status"], "ok");
    assert_eq!(body(&plane.get("/readyz").await), "ready\n");
    plane.write(BROKEN);
    plane.refused(true).await;
    let answer = plane.get("/health").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "what runs goes on running: {answer}");
    assert!(body(&answer).contains("degraded") && body(&answer).contains(":3:"), "{answer}");
    assert!(plane.get("/metrics").await.contains("\no1_control_plane_config_refused 1\n"));
}

#[tokio::test]
async fn a_caller_gets_the_fields_it_asks_for_and_hears_which_there_are_not() {
    let plane = Plane::with(&document(3101)).await;
    let target = plane.target().await.unwrap();
    let _node = Node::join(plane.listen, running(1, &target)).await;
    let mut client = plane.statuses().await;
    let fields = |paths: &[&str]| {
        Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
    };
    let request = GetStatusRequest { fields: fields(&["nodes.connected", "upstreams.name"]) };
    let status = client.get_status(request).await.unwrap().into_inner().status.unwrap();
    assert_eq!((status.as_of, status.control_plane.is_none()), (None, true));
    assert_eq!(status.nodes.unwrap().connected, 1);
    assert_eq!((status.upstreams[0].name.as_str(), status.upstreams[0].state), ("weather", 0));
    let request = ListNodesRequest { fields: fields(&["node.node_id"]), ..Default::default() };
    let nodes = client.list_nodes(request).await.unwrap().into_inner().nodes;
    assert_eq!(nodes[0].node.as_ref().unwrap().node_id, "n1");
    assert_eq!((nodes[0].state, nodes[0].applied.clone()), (0, None));
    let request = ListUpstreamsRequest { fields: fields(&["nam"]), ..Default::default() };
    let refused = client.list_upstreams(request).await.unwrap_err();
    let violations = refused.get_details_bad_request().unwrap().field_violations;
    assert_eq!((refused.code(), violations[0].field.as_str()), (tonic::Code::InvalidArgument, "fields"));
    assert!(refused.message().contains("did you mean `name`?"), "{}", refused.message());
}

#[tokio::test]
async fn a_refused_document_names_each_problem_to_programs() {
    let plane = Plane::without_file().await;
    let document = wire::ConfigDocument { content: BROKEN.into(), source: "mine.yaml".to_owned() };
    let request = wire::ApplyConfigRequest { document: Some(document), ..Default::default() };
    let refused = plane.configs().await.apply_config(request).await.unwrap_err();
    let details = refused.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "INVALID_DOCUMENT");
    let violations = &details.bad_request().unwrap().field_violations;
    assert!(violations.iter().any(|one| one.field == "document:upstreams.weather.primry"), "{violations:?}");
    let request = wire::GetConfigRequest { revision: 99 };
    let refused = plane.configs().await.get_config(request).await.unwrap_err();
    assert_eq!(refused.get_details_resource_info().unwrap().resource_name, "99");
}
