//! Whose answer is whose.

use super::*;
use crate::{failure::Kind as Why, mcp::Era};
use tokio::sync::broadcast::error::RecvError;

async fn legacy() -> (Arc<Supervisor>, Arc<Conversation>) {
    let supervisor = supervise(python("legacy", &[]));
    let conversation = supervisor.shared(Era::Legacy).await.unwrap();
    (supervisor, conversation)
}

async fn modern() -> (Arc<Supervisor>, Arc<Conversation>) {
    let supervisor = supervise(python("modern", &[]));
    let conversation = supervisor.shared(Era::Modern).await.unwrap();
    (supervisor, conversation)
}

#[tokio::test]
async fn colliding_ids_and_tokens_come_back_as_they_were_spelled() {
    let (_supervisor, conversation) = legacy().await;
    let ids = ["1", "1", "\"1\"", "0", "-7", "\"\\u0061\"", "12345678901234567890123", "\"\""];
    let mut held = Vec::new();
    for id in ids {
        let params = format!(r#"{{"_meta":{{"progressToken": {id} }}}}"#);
        held.push(conversation.request(&request(id, "hold", &params)).await.unwrap());
    }
    ask(&conversation, "1", "release", "{}").await;
    for (id, replies) in ids.into_iter().zip(held) {
        let (notes, end) = all(replies).await;
        assert_eq!(end.unwrap().id().unwrap(), id.as_bytes());
        assert_eq!(notes.len(), 1, "{id}");
        assert!(notes[0].contains(&format!(r#""progressToken": {id}, "#)), "{id}: {}", notes[0]);
    }
}

#[tokio::test]
async fn nothing_but_id_and_token_changes_on_the_way_and_line_breaks_become_spaces() {
    let (_supervisor, conversation) = legacy().await;
    let sent = "{\"z\" : 1.10,\n  \"id\": \"x\",\r\n \"jsonrpc\": \"2.0\", \"method\":\"echo\", \"params\": \
                {\"big\":12345678901234567890123, \"_meta\" :{\"progressToken\":\"t\",\"vendor\":\"\\n\"}}}";
    let replies = conversation.request(&message(sent)).await.unwrap();
    let answer = all(replies).await.1.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(answer.bytes()).unwrap();
    let line = answer["result"]["line"].as_str().unwrap();
    // The handshake was request 1.
    let expected = sent.replace(['\n', '\r'], " ").replace("\"x\"", "2").replace("\"t\"", "2");
    assert_eq!(line, expected);
}

#[tokio::test]
async fn results_pass_byte_for_byte() {
    let (_supervisor, conversation) = legacy().await;
    let body = r#" { "result" : {"n":1.10,"big":12345678901234567890123,"u":"é"},"x":[ ], "id": ID ,"jsonrpc":"2.0"} "#;
    let params = serde_json::json!({ "text": body }).to_string();
    let answer = ask(&conversation, "\"é\"", "raw", &params).await;
    assert_eq!(answer, body.trim().replace("ID", "\"é\""));
    let bytes = 3 << 20;
    let answer = ask(&conversation, "9", "big", &format!(r#"{{"bytes":{bytes}}}"#)).await;
    assert_eq!(
        answer,
        format!(r#"{{"jsonrpc": "2.0", "id": 9, "result": {{"text": "{}"}}}}"#, "x".repeat(bytes))
    );
}

#[tokio::test]
async fn a_response_that_is_none_fails_its_call_and_no_other() {
    let (_supervisor, conversation) = legacy().await;
    let held = conversation.request(&request("1", "hold", "{}")).await.unwrap();
    let bad = conversation.request(&request("1", "bad answer", "{}")).await.unwrap();
    assert_eq!(all(bad).await.1.unwrap_err().kind, Why::Protocol);
    ask(&conversation, "1", "release", "{}").await;
    all(held).await.1.unwrap();
}

#[tokio::test]
async fn garbage_on_stdout_is_skipped_and_stderr_is_kept() {
    let spec = python("legacy", &[]);
    let log = spec.log.clone();
    let supervisor = supervise(spec);
    let conversation = supervisor.shared(Era::Legacy).await.unwrap();
    assert_eq!(ask(&conversation, "1", "noise", "{}").await, r#"{"jsonrpc": "2.0", "id": 1, "result": {}}"#);
    until("the line on stderr", || said(&log) == ["a line on stderr"]).await;
    assert_eq!(log.tail()[0].pid, conversation.pid().unwrap());
}

#[tokio::test]
async fn a_shared_process_may_ask_nothing_but_ping() {
    let (_supervisor, conversation) = legacy().await;
    let mut unsolicited = conversation.unsolicited();
    let answer = ask(&conversation, "1", "ask", "{}").await;
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let answers = &answer["result"]["answers"];
    assert_eq!(answers[0], r#"{"jsonrpc":"2.0","id":"ping of the server","result":{}}"#);
    let refused: serde_json::Value = serde_json::from_str(answers[1].as_str().unwrap()).unwrap();
    assert_eq!(refused["id"], "roots/list of the server");
    assert_eq!(refused["error"]["code"], -32601);
    let before = soon(unsolicited.recv()).await.unwrap();
    assert_eq!(before.method(), "notifications/tools/list_changed", "sent before the handshake was answered");
    assert!(unsolicited.try_recv().is_err(), "requests of the server are not forwarded");
}

#[tokio::test]
async fn a_process_of_its_own_asks_its_client() {
    let supervisor = supervise(python("legacy", &[]));
    let initialize = r#"{"jsonrpc":"2.0","id":"i-0","method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{"roots":{}},"vendor":1.10}}"#;
    let conversation = soon(supervisor.own(&message(initialize))).await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(conversation.handshake().bytes()).unwrap();
    assert_eq!(answer["id"], "i-0");
    assert_eq!(answer["result"]["seen"]["vendor"], 1.10, "the client's own request reached the server");
    let mut unsolicited = conversation.unsolicited();
    let replies = conversation.request(&request("0", "ask", "{}")).await.unwrap();
    assert_eq!(soon(unsolicited.recv()).await.unwrap().method(), "notifications/tools/list_changed");
    let asked = soon(unsolicited.recv()).await.unwrap();
    assert_eq!((asked.method(), asked.id()), ("roots/list", Some(&b"\"roots/list of the server\""[..])));
    let answer =
        message("{\"jsonrpc\":\"2.0\",\n\"id\":\"roots/list of the server\",\"result\":{\"roots\":[]}}");
    conversation.send(&answer).await.unwrap();
    let end = text(&all(replies).await.1.unwrap());
    assert!(end.contains(r#"\"result\":{\"roots\":[]}"#), "{end}");
}

#[tokio::test]
async fn a_slow_reader_of_notifications_holds_up_nobody_and_learns_its_loss() {
    let (_supervisor, conversation) = legacy().await;
    let mut slow = conversation.unsolicited();
    assert_eq!(soon(slow.recv()).await.unwrap().method(), "notifications/tools/list_changed");
    ask(&conversation, "1", "flood", r#"{"count":1000}"#).await;
    match soon(slow.recv()).await {
        Err(RecvError::Lagged(lost)) => assert_eq!(lost, 1000 - 256),
        other => panic!("{other:?}"),
    }
    assert!(text(&soon(slow.recv()).await.unwrap()).contains("test://744"));
}

#[tokio::test]
async fn a_burst_of_progress_reaches_its_caller_whole() {
    let (_supervisor, conversation) = legacy().await;
    let params = r#"{"count":1000,"_meta":{"progressToken":"p"}}"#;
    let replies = conversation.request(&request("1", "progress", params)).await.unwrap();
    let (notes, end) = all(replies).await;
    end.unwrap();
    assert_eq!(notes.len(), 1000);
    assert!(notes[999].contains(r#""progressToken": "p", "progress": 999"#), "{}", notes[999]);
}

#[tokio::test]
async fn a_subscription_gets_its_notifications_under_its_own_id() {
    let (_supervisor, conversation) = modern().await;
    let mut unsolicited = conversation.unsolicited();
    let other = conversation.request(&request("\"L1\"", "subscriptions/listen", "{}")).await.unwrap();
    let one =
        conversation.request(&request("\"L1\"", "subscriptions/listen", r#"{"end":true}"#)).await.unwrap();
    let (notes, end) = all(one).await;
    let tag = r#""_meta": {"io.modelcontextprotocol/subscriptionId": "L1"}"#;
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(notes[0].contains("subscriptions/acknowledged") && notes[0].contains(tag), "{}", notes[0]);
    assert!(notes[1].contains("tools/list_changed") && notes[1].contains(tag), "{}", notes[1]);
    assert!(notes[2].contains(r#""requestId": "L1""#), "{}", notes[2]);
    let end = text(&end.unwrap());
    assert!(end.contains(r#""id": "L1""#) && end.contains(tag), "{end}");
    assert!(unsolicited.try_recv().is_err());
    drop(other);
}

#[tokio::test]
async fn a_subscription_that_is_not_read_ends_with_a_failure() {
    let (_supervisor, conversation) = modern().await;
    let listen = request("1", "subscriptions/listen", r#"{"count":5000}"#);
    let replies = conversation.request(&listen).await.unwrap();
    ask(&conversation, "2", "echo", "{}").await;
    let (notes, end) = all(replies).await;
    assert!(notes.len() <= 1024, "{}", notes.len());
    assert!(end.unwrap_err().public().contains("subscribe again"));
    assert_eq!(conversation.in_flight(), 0);
}

#[tokio::test]
async fn a_modern_log_line_goes_to_the_one_request_that_asked_for_logs() {
    let (_supervisor, conversation) = modern().await;
    let asks = r#"{"_meta":{"io.modelcontextprotocol/logLevel":"info"}}"#;
    let quiet = conversation.request(&request("1", "hold", "{}")).await.unwrap();
    let replies = conversation.request(&request("2", "log", asks)).await.unwrap();
    assert_eq!(all(replies).await.0.len(), 1);
    let second = conversation.request(&request("3", "hold", asks)).await.unwrap();
    let replies = conversation.request(&request("4", "log", asks)).await.unwrap();
    assert_eq!(all(replies).await.0.len(), 0, "whose line it is cannot be known");
    ask(&conversation, "5", "release", "{}").await;
    assert_eq!(all(quiet).await.0.len() + all(second).await.0.len(), 0);
}

#[tokio::test]
async fn dropping_a_modern_request_cancels_it() {
    let (_supervisor, conversation) = modern().await;
    let asks = r#"{"_meta":{"io.modelcontextprotocol/logLevel":"info"}}"#;
    let watcher = conversation.request(&request("1", "hold", asks)).await.unwrap();
    let dropped = conversation.request(&request("1", "hold", "{}")).await.unwrap();
    drop(dropped);
    assert_eq!(conversation.in_flight(), 1);
    // The server tells in a log line which cancellation it got.
    ask(&conversation, "2", "release", "{}").await;
    let (notes, _) = all(watcher).await;
    assert_eq!(notes.len(), 1);
    assert!(notes[0].contains(r#"{\"requestId\":3}"#), "{}", notes[0]);
}

#[tokio::test]
async fn dropping_a_legacy_request_cancels_nothing_and_cancelling_it_does() {
    let (_supervisor, conversation) = legacy().await;
    let mut unsolicited = conversation.unsolicited();
    assert_eq!(soon(unsolicited.recv()).await.unwrap().method(), "notifications/tools/list_changed");
    drop(conversation.request(&request("1", "hold", "{}")).await.unwrap());
    assert_eq!(conversation.in_flight(), 1, "it runs on");
    let mut cancelled = conversation.request(&request("1", "hold", "{}")).await.unwrap();
    cancelled.cancel();
    assert!(soon(cancelled.next()).await.is_none());
    assert_eq!(conversation.in_flight(), 1);
    let told = text(&soon(unsolicited.recv()).await.unwrap());
    assert!(told.contains(r#"{\"requestId\":3}"#), "{told}");
    ask(&conversation, "2", "release", "{}").await;
    assert_eq!(conversation.in_flight(), 0, "late answers are dropped");
}
