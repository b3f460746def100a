//! Configurations as they come to nodes: what differs, in parts, and whole where that does not fit.

use crate::harness::*;
use o1_proto::{
    digest,
    wire::{self, ConfigUpdate, ResourceKind, sync_response::Msg},
};
use prost::Message as _;
use std::fmt::Write as _;

/// A document with these upstreams, each on a port of its own.
fn document_of(upstreams: &[(&str, u16)]) -> String {
    let mut document = "upstreams:\n".to_owned();
    for (name, port) in upstreams {
        write!(document, "  {name}:\n    primary:\n      - url: http://127.0.0.1:{port}/mcp\n").unwrap();
    }
    document
}

fn keys(update: &ConfigUpdate) -> Vec<(ResourceKind, &str)> {
    let keys = update.resources.iter().map(|one| one.key.as_ref().unwrap());
    keys.map(|key| (key.kind(), key.name.as_str())).collect()
}

#[tokio::test]
async fn a_node_is_sent_what_differs_from_what_it_runs_and_everything_when_that_does_not_fit() {
    let plane = Plane::with(&document_of(&[("a", 3101), ("b", 3102), ("c", 3103)])).await;
    let (mut node, _) = Node::join(plane.listen, hello(1)).await;
    let first = node.config().await;
    assert_eq!((first.base.clone(), first.resources.len()), (None, 4), "three upstreams and the clients");
    node.ack(&first).await;

    plane.write(&document_of(&[("b", 3102), ("c", 3199), ("d", 3104)]));
    let second = node.config().await;
    assert_eq!(second.base, first.to);
    assert_eq!(keys(&second), [(ResourceKind::Upstream, "c"), (ResourceKind::Upstream, "d")]);
    let removed: Vec<_> = second.removed.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(removed, ["a"]);

    let misfit = wire::Rejection {
        reason: wire::RejectionReason::BaseMismatch.into(),
        message: "it is something else".into(),
        ..Default::default()
    };
    node.nack(&second, first.to.as_ref(), vec![misfit]).await;
    let third = node.config().await;
    assert_eq!((third.base.clone(), third.to.clone()), (None, second.to.clone()));
    assert_eq!(digest::root(&third.resources), third.to.as_ref().unwrap().root_digest);
    node.ack(&third).await;

    // Who runs something that is not known any more, too.
    let (mut other, _) = Node::join(plane.listen, running(2, &old(first.to.as_ref().unwrap()))).await;
    assert_eq!(other.config().await.base, None);
}

/// Another content under the name of an older revision.
fn old(version: &wire::ConfigVersion) -> wire::ConfigVersion {
    wire::ConfigVersion { root_digest: vec![9; 32], ..version.clone() }
}

#[tokio::test]
async fn a_large_configuration_comes_in_small_parts_and_its_change_in_one() {
    let names: Vec<String> = (0..900).map(|n| format!("upstream-{n:04}")).collect();
    let mut upstreams: Vec<_> = names.iter().map(|name| (name.as_str(), 3101)).collect();
    let plane = Plane::with(&document_of(&upstreams)).await;
    let (mut node, _) = Node::join(plane.listen, hello(1)).await;
    let mut content = Vec::new();
    let whole = loop {
        let Ok(Some(Msg::ConfigPart(part))) = node.next().await else { panic!("no part") };
        assert!(part.content.len() <= 32 << 10, "{} bytes", part.content.len());
        content.extend_from_slice(&part.content);
        if part.part == part.parts {
            assert!(part.parts > 2, "{} parts", part.parts);
            break ConfigUpdate { nonce: part.nonce, ..ConfigUpdate::decode(content.as_slice()).unwrap() };
        }
    };
    assert_eq!(whole.resources.len(), 901);
    assert_eq!(digest::root(&whole.resources), whole.to.as_ref().unwrap().root_digest);
    node.ack(&whole).await;
    upstreams[7].1 = 3199;
    plane.write(&document_of(&upstreams));
    let change = node.config().await;
    assert_eq!(keys(&change), [(ResourceKind::Upstream, "upstream-0007")]);
    assert!(change.encoded_len() < 500, "{} bytes", change.encoded_len());
}
