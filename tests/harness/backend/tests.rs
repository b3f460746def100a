use super::*;
use crate::{Legacy, Modern, http::member};

const ODD: &str = r#"{"z":12345678901234567890123,"a":1.10,"u":"\u00e9"}"#;
const TOOLS_CHANGED: &str = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;

#[tokio::test]
async fn both_eras_get_their_bytes_back() {
    let backend = Backend::start().await;
    let legacy = Legacy::open(backend.address, "/mcp").await;
    let modern = Modern::new(backend.address, "/mcp");
    for sse in [false, true] {
        if sse {
            backend.answer_by_sse();
        }
        for reply in [legacy.call("echo", ODD).await, modern.call("echo", ODD).await] {
            assert_eq!(reply.header("content-type") == "text/event-stream", sse);
            assert_eq!(member(&reply.result_bytes(), "structuredContent").as_deref(), Some(ODD));
        }
    }
    assert_eq!(legacy.tools().await, ["echo"]);
    assert_eq!(modern.tools().await, ["echo"]);
    assert_eq!(backend.received_of("tools/call").len(), 4);
    assert_eq!(member(&backend.last("tools/call").member("params"), "arguments").as_deref(), Some(ODD));
}

#[tokio::test]
async fn sessions_are_forgotten_and_eras_refused_as_real_servers_do() {
    let backend = Backend::with(Era::Legacy).await;
    let client = Legacy::open(backend.address, "/mcp").await;
    assert_eq!(backend.sessions(), 1);
    backend.forget_sessions();
    assert_eq!(client.call("echo", "{}").await.status, 404);
    assert_eq!(Modern::new(backend.address, "/mcp").request("server/discover", "{}").await.status, 400);

    let modern = Backend::with(Era::Modern).await;
    let reply = crate::Http::new(modern.address)
        .send("POST", "/mcp", &crate::mcp::JSON, crate::mcp::initialize("2025-11-25", "{}"))
        .await;
    assert_eq!((reply.status, reply.error_code()), (400, Some(-32022)));
}

#[tokio::test]
async fn notifications_reach_streams_and_the_subscriptions_that_asked() {
    let backend = Backend::start().await;
    let client = Legacy::open(backend.address, "/mcp").await;
    let mut stream = client.listen().await;
    let modern = Modern::new(backend.address, "/mcp");
    let listen = r#"{"notifications":{"toolsListChanged":true}}"#;
    let mut subscription = modern.stream("subscriptions/listen", listen).await;
    let limit = Duration::from_secs(10);
    subscription.notification("notifications/subscriptions/acknowledged", limit).await;
    backend.notify(r#"{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}"#);
    backend.notify(TOOLS_CHANGED);
    stream.notification("notifications/prompts/list_changed", limit).await;
    stream.notification("notifications/tools/list_changed", limit).await;
    let first = subscription.event().await.unwrap();
    let first: Value = serde_json::from_str(&first.data).unwrap();
    assert_eq!(first["method"], "notifications/tools/list_changed");
    assert_eq!(first["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 7);
}

#[tokio::test]
async fn it_can_stop_and_resume_where_it_was() {
    let mut backend = Backend::start().await;
    let client = Legacy::open(backend.address, "/mcp").await;
    backend.stop().await;
    let again = client.http.try_send("POST", "/mcp", &crate::mcp::JSON, "{}").await;
    assert!(again.is_err_and(|error| error.is_connect()));
    backend.resume().await;
    assert_eq!(client.call("echo", "{}").await.status, 200, "sessions are kept unless they are forgotten");
}

#[tokio::test]
async fn streams_come_step_by_step_and_hangups_have_no_answer() {
    let backend = Backend::start().await;
    let step = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":TOKEN,"progress":1}}"#;
    let steps = vec![(Duration::from_millis(5), step.to_owned())];
    backend.tool("steps", Answer::Stream(steps, Box::new(Answer::text("done"))));
    backend.tool("hangup", Answer::Hangup);
    let client = Legacy::open(backend.address, "/mcp").await;
    let reply = client.request("tools/call", r#"{"name":"steps","_meta":{"progressToken":"t"}}"#).await;
    let messages = reply.messages();
    assert_eq!(messages.len(), 2);
    assert!(messages[0].contains(r#""progressToken":"t""#), "{messages:?}");
    assert_eq!(reply.result()["content"][0]["text"], "done");
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"hangup"}}"#;
    assert!(client.http.try_send("POST", "/mcp", &client.headers(), body).await.is_err());
}
