//! A node is ordered to take no new sessions, and to take them again.

use crate::{failing_over::ready, harness::*};
use o1_proto::wire::{
    Heartbeat, NodeState, SetNodeDrainRequest, SetNodeDrainResponse,
    admin_service_client::AdminServiceClient, sync_request, sync_response::Msg,
};
use tonic::{Code, Status};

async fn order(plane: &Plane, node_id: &str, drain: bool) -> Result<SetNodeDrainResponse, Status> {
    let reason = "it gets a new disk".to_owned();
    let request = SetNodeDrainRequest { node_id: node_id.to_owned(), drain, reason };
    AdminServiceClient::new(plane.channel().await)
        .set_node_drain(request)
        .await
        .map(tonic::Response::into_inner)
}

/// The node hears this, past acknowledgements of heartbeats.
async fn hears(node: &mut Node) -> bool {
    loop {
        match node.next().await {
            Ok(Some(Msg::Drain(order))) => return order.drain,
            Ok(Some(Msg::HeartbeatAck(_))) => {}
            other => panic!("no order: {other:?}"),
        }
    }
}

async fn beat(node: &Node, drain: bool) {
    let beat = Heartbeat { seq: 1, draining: drain, drain_ordered: drain, ..Default::default() };
    node.say(sync_request::Msg::Heartbeat(beat)).await;
}

#[tokio::test]
async fn an_order_reaches_the_node_shows_in_the_list_and_can_be_taken_back() {
    let plane = Plane::with(&document(3101)).await;
    let mut node = ready(plane.listen, 1).await;
    let ordered = order(&plane, "n1", true).await.unwrap();
    assert_eq!((ordered.no_op, ordered.drain.unwrap().reason.as_str()), (false, "it gets a new disk"));
    assert!(hears(&mut node).await);
    beat(&node, true).await;
    let seen = plane.sees(1, |node| node.state() == NodeState::Draining).await;
    assert_eq!(seen.drain.unwrap().reason, "it gets a new disk");
    let again = order(&plane, "n1", true).await.unwrap();
    assert!(again.no_op && again.drain.is_some());
    let ended = order(&plane, "n1", false).await.unwrap();
    assert_eq!((ended.no_op, ended.drain), (false, None));
    assert!(!hears(&mut node).await);
    beat(&node, false).await;
    plane.sees(1, |node| node.state() == NodeState::Connected && node.drain.is_none()).await;
    assert!(order(&plane, "n1", false).await.unwrap().no_op);
}

#[tokio::test]
async fn an_order_outlives_the_control_plane_and_the_node() {
    let plane = Plane::with(&document(3101)).await;
    let node = ready(plane.listen, 1).await;
    order(&plane, "n1", true).await.unwrap();
    drop(node);
    let plane = Plane::over(plane.stop().await).await;
    let (mut node, _) = Node::join(plane.listen, hello(1)).await;
    assert!(hears(&mut node).await, "before its configuration");
    node.config().await;
    drop(node);
    order(&plane, "n1", false).await.unwrap();
    let plane = Plane::over(plane.stop().await).await;
    let (mut node, _) = Node::join(plane.listen, hello(1)).await;
    node.config().await;
}

#[tokio::test]
async fn an_order_for_nobody_or_without_a_reason_is_refused() {
    let plane = Plane::with(&document(3101)).await;
    let _node = ready(plane.listen, 1).await;
    let status = order(&plane, "n9", true).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("n9") && status.message().contains("n1"), "{status:?}");
    let request = SetNodeDrainRequest { node_id: "n1".to_owned(), drain: true, reason: " ".to_owned() };
    let mut client = AdminServiceClient::new(plane.channel().await);
    assert_eq!(client.set_node_drain(request).await.unwrap_err().code(), Code::InvalidArgument);
    plane.sees(1, |node| node.drain.is_none()).await;
}
