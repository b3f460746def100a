//! What stands in `examples/` works: the program in Rust (`tests/peers` runs the one in Python).

use o1_tests::{binaries::example, tour::Tour};

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_in_rust_does_what_it_says() {
    Tour::start().await.is_taken(&example("tour"), |_| {}).await;
}
