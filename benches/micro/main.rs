//! What one message costs the data path, in nanoseconds: reading its envelope, changing a name or an id,
//! cutting an event stream.

mod balance;
mod batch;
mod cache;
mod members;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use o1_data_plane::mcp::{Message, json, sse};
use std::hint::black_box;

/// A call as clients send it, 64 bytes of argument.
fn call() -> Bytes {
    let argument = "x".repeat(64);
    Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"files__read_text_file","arguments":{{"path":"{argument}"}},"_meta":{{"progressToken":7}}}}}}"#
    ))
}

/// A result with one text of `size` bytes.
fn result(size: usize) -> Bytes {
    let text = "y".repeat(size);
    Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","id":7,"result":{{"content":[{{"type":"text","text":"{text}"}}],"isError":false}}}}"#
    ))
}

fn envelope(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("envelope");
    for (name, bytes) in
        [("call", call()), ("result 1 KiB", result(1 << 10)), ("result 1 MiB", result(1 << 20))]
    {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| Message::parse(black_box(&bytes))));
    }
    group.finish();
}

fn splice(criterion: &mut Criterion) {
    let message = Message::parse(&call()).expect("a call is a message");
    let mut group = criterion.benchmark_group("splice");
    group.bench_function("name", |bencher| {
        bencher.iter(|| {
            let at = message.param(&["name"]).expect("no key stands twice").expect("calls have a name");
            black_box(message.spliced(vec![(at, json::quote("read_text_file"))]))
        });
    });
    group.bench_function("id", |bencher| bencher.iter(|| black_box(message.with_id(b"123456"))));
    group.finish();
}

fn events(criterion: &mut Criterion) {
    let stream = sse::write(&result(1 << 10));
    let mut group = criterion.benchmark_group("events");
    group.throughput(Throughput::Bytes(stream.len() as u64));
    group.bench_function("read 1 KiB", |bencher| {
        bencher.iter_batched_ref(
            || sse::Reader::new(1 << 20),
            |reader| {
                reader.push(black_box(&stream));
                reader.next_event()
            },
            BatchSize::SmallInput,
        );
    });
    let message = result(1 << 10);
    group.bench_function("write 1 KiB", |bencher| bencher.iter(|| sse::write(black_box(&message))));
    group.finish();
}

criterion_group!(
    benches,
    envelope,
    splice,
    events,
    members::members,
    balance::picks,
    batch::split,
    cache::costs
);
criterion_main!(benches);
