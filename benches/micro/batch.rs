//! Splitting the answer to a JSON-RPC array among those who wait for it.

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use o1_data_plane::backend::portions;
use std::hint::black_box;

/// Answers of 1 KiB to `count` requests, the last first, and the ids of the requests.
fn reply(count: usize) -> (Bytes, Vec<String>) {
    let text = "y".repeat(1 << 10);
    let ids: Vec<_> = (0..count).map(|at| format!(r#""o1:tools/list:0:{at}""#)).collect();
    let answer =
        |id: &String| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"tools":[],"x":"{text}"}}}}"#);
    let answers: Vec<_> = ids.iter().rev().map(answer).collect();
    (Bytes::from(format!("[{}]", answers.join(","))), ids)
}

pub fn split(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch answer");
    for count in [1, 4, 10, 100] {
        let (reply, ids) = reply(count);
        let waiting: Vec<_> = ids.iter().map(|id| Some(id.as_bytes())).collect();
        assert_eq!(portions(&reply, &waiting).answers.len(), count, "each has its answer");
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("among {count}"), |bencher| {
            bencher.iter(|| portions(black_box(&reply), black_box(&waiting)));
        });
    }
    group.finish();
}
