//! Looking for members of a modern request: what the ladder picks of it, beside a list of all there is.

use bytes::Bytes;
use criterion::Criterion;
use o1_data_plane::mcp::{Message, era, json};
use std::hint::black_box;

/// A request as clients of 2026-07-28 send it.
fn read() -> Message {
    let text = r#"{"jsonrpc":"2.0","id":1000000007,"method":"resources/read","params":{"_meta":{"io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"io.modelcontextprotocol/protocolVersion":"2026-07-28"},"uri":"load://resources/3"}}"#;
    Message::parse(&Bytes::from_static(text.as_bytes())).expect("a request is a message")
}

pub(crate) fn members(criterion: &mut Criterion) {
    let (message, keys) = (read(), [era::META_VERSION, era::META_CAPABILITIES]);
    let text = message.bytes();
    let meta = || message.param(&["_meta"]).expect("no key stands twice").expect("it has an envelope");
    let mut group = criterion.benchmark_group("members");
    group.bench_function("uri", |bencher| bencher.iter(|| black_box(&message).param(&["uri"])));
    group.bench_function("envelope", |bencher| bencher.iter(|| json::pick(black_box(text), &meta(), keys)));
    group.bench_function("list of the envelope", |bencher| {
        bencher.iter(|| json::members(black_box(text), &meta()));
    });
    group.finish();
}
