//! The worked example in Python: a program against the published protos alone.

use o1_tests::{binaries::root, peers, tour::Tour};

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_in_python_does_what_it_says() {
    let tour = Tour::start().await;
    let script = root().join("examples/python/tour.py");
    // No byte code beside the sources.
    tour.is_taken(&peers::python("python"), |command| {
        command.arg("-B").arg(&script);
    })
    .await;
}
