//! JSON-RPC arrays, which servers of 2025-03-26 may take: lists of one session that come within the batching window
//! are one POST, whoever asks for them.

use crate::config;
use o1_tests::{
    Answer, Backend, Gateway, Legacy,
    backend::{Arrays, Era},
    http::Http,
    until,
};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
const REVISION: &str = "2025-03-26";
const LISTS: [&str; 4] = ["prompts/list", "resources/list", "resources/templates/list", "tools/list"];
const TOOLS_CHANGED: &str = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;

/// A server with something on every list, and a gateway in front of it.
async fn behind(arrays: Arrays, window: &str) -> (Backend, Gateway) {
    let backend = Backend::with(Era::Legacy).await;
    backend.take_arrays(arrays);
    for (method, items) in [
        ("prompts/list", r#"{"prompts":[{"name":"greet"}]}"#),
        ("resources/list", r#"{"resources":[{"uri":"test://r","name":"r"}]}"#),
        ("resources/templates/list", r#"{"resourceTemplates":[{"uriTemplate":"test://{t}","name":"t"}]}"#),
    ] {
        backend.answer(method, Answer::Result(items.to_owned()));
    }
    let text = format!("{}batching: {{window: {window}}}\n", config([backend.upstream("a")]));
    let gateway = Gateway::start(&text).await;
    (backend, gateway)
}

async fn client(gateway: &Gateway) -> Legacy {
    Legacy::open_with(Http::new(gateway.address()), "/mcp", REVISION, "{}").await
}

/// What a client sees: tools, prompts, resources and templates.
async fn seen(client: &Legacy) -> Vec<String> {
    let mut names = client.tools().await;
    for (method, key, name) in [
        ("prompts/list", "prompts", "name"),
        ("resources/list", "resources", "uri"),
        ("resources/templates/list", "resourceTemplates", "uriTemplate"),
    ] {
        let result = client.request(method, "{}").await.result();
        let items = result[key].as_array().expect("a list");
        names.extend(items.iter().map(|item| item[name].as_str().expect("a name").to_owned()));
    }
    names
}

const EVERYTHING: [&str; 4] = ["a__echo", "a__greet", "test://r", "test://{t}"];

/// Requests for lists that came alone.
fn alone(backend: &Backend) -> usize {
    LISTS.iter().map(|method| backend.received_of(method).len()).sum()
}

/// Each array with its methods sorted.
fn arrays(backend: &Backend) -> Vec<Vec<String>> {
    let mut arrays = backend.arrays();
    arrays.iter_mut().for_each(|methods| methods.sort());
    arrays
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lists_of_a_view_are_one_post_however_they_are_answered() {
    for how in [Arrays::Answered, Arrays::Streamed] {
        let (backend, gateway) = behind(how, "50ms").await;
        let client = client(&gateway).await;
        assert_eq!(seen(&client).await, EVERYTHING, "{how:?}");
        assert_eq!(
            (arrays(&backend), alone(&backend)),
            (vec![LISTS.map(String::from).to_vec()], 0),
            "{how:?}"
        );
        let metrics = Http::new(gateway.data.admin).get("/metrics").await.text();
        let sum = metrics.lines().find_map(|line| line.strip_prefix(r#"o1_batch_size_sum{upstream="a"} "#));
        assert!(sum.is_some_and(|sum| sum.parse::<f64>().is_ok_and(|sum| sum >= 4.0)), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_arrays_is_asked_one_by_one_and_never_again_in_one() {
    for how in [Arrays::Refused, Arrays::Misread] {
        let (backend, gateway) = behind(how, "50ms").await;
        let client = client(&gateway).await;
        assert_eq!(seen(&client).await, EVERYTHING, "{how:?}");
        assert_eq!((arrays(&backend).len(), alone(&backend)), (1, 4), "{how:?}");
        backend.tool("more", Answer::text("x"));
        until("the new tool", SOON, || async {
            backend.notify(TOOLS_CHANGED);
            (client.tools().await == ["a__echo", "a__more"]).then_some(())
        })
        .await;
        assert_eq!(arrays(&backend).len(), 1, "{how:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_leaves_out_of_an_array_harms_no_other_list() {
    let (backend, gateway) = behind(Arrays::Without("prompts/list"), "50ms").await;
    let client = client(&gateway).await;
    assert_eq!(client.tools().await, ["a__echo"]);
    let resources = client.request("resources/list", "{}").await.result();
    assert_eq!(resources["resources"][0]["uri"], "test://r");
    assert_eq!(arrays(&backend).len(), 1);
    until("the prompts, asked for alone", SOON, || async {
        backend.notify(TOOLS_CHANGED);
        (seen(&client).await == EVERYTHING).then_some(())
    })
    .await;
    assert_eq!(arrays(&backend).len(), 1, "it gets no array any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_session_is_opened_again_and_the_lists_come_in_one_array() {
    let (backend, gateway) = behind(Arrays::Answered, "50ms").await;
    let client = client(&gateway).await;
    assert_eq!(seen(&client).await, EVERYTHING);
    let before = backend.received_of("initialize").len();
    backend.forget_sessions();
    backend.tool("more", Answer::text("x"));
    until("the new tool", SOON, || async {
        backend.notify(TOOLS_CHANGED);
        (client.tools().await == ["a__echo", "a__more"]).then_some(())
    })
    .await;
    assert!(backend.received_of("initialize").len() > before, "the session was opened again");
    assert_eq!(alone(&backend), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_window_or_with_another_revision_there_are_no_arrays() {
    let (backend, gateway) = behind(Arrays::Answered, "0ms").await;
    assert_eq!(seen(&client(&gateway).await).await, EVERYTHING);
    assert_eq!((arrays(&backend).len(), alone(&backend)), (0, 4));

    let (backend, gateway) = behind(Arrays::Answered, "50ms").await;
    let newer = Legacy::open_with(Http::new(gateway.address()), "/mcp", "2025-06-18", "{}").await;
    assert_eq!(seen(&newer).await, EVERYTHING);
    assert_eq!((arrays(&backend).len(), alone(&backend)), (0, 4));
}
