//! What a legacy server asks of the client in the middle of a call, as the input requests of a modern answer, and
//! the client's answers on their way back. Pure.

use crate::{
    failure::{Failure, Kind},
    mcp::{Message, json, method, rpc},
};
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// One question of the server that waits for the client.
#[derive(Debug, Clone)]
pub(super) struct Input {
    /// Its key among the input requests.
    pub(super) key: String,
    /// The server's id for it, as it was spelled.
    id: Bytes,
    method: String,
    /// As the client sees them.
    params: Vec<u8>,
}

/// True for what a modern answer can ask of a client.
pub(super) fn can_be_asked(method: &str) -> bool {
    matches!(method, method::ELICIT | method::SAMPLE | method::ROOTS_LIST)
}

/// What the client must have declared for this question, if it has not.
pub(super) fn undeclared(request: &Message, declared: &Map<String, Value>) -> Option<Value> {
    let has = |name: &str| declared.get(name).is_some_and(Value::is_object);
    match request.method() {
        method::ELICIT if is_url(request) => {
            let url = declared.get("elicitation").and_then(|elicitation| elicitation.get("url"));
            url.is_none().then(|| json!({"elicitation": {"url": {}}}))
        }
        method::ELICIT => (!has("elicitation")).then(|| json!({"elicitation": {}})),
        method::SAMPLE => (!has("sampling")).then(|| json!({"sampling": {}})),
        _ => (!has("roots")).then(|| json!({"roots": {}})),
    }
}

fn is_url(request: &Message) -> bool {
    matches!(request.param_str(&["mode"]), Ok(Some(mode)) if mode == "url")
}

impl Input {
    /// The question, under a key that none of `others` has. The same question gets the same key each time: a form
    /// with one field is called like the field, everything else like what it is.
    pub(super) fn of(request: &Message, others: &[Self]) -> Self {
        let stem = match request.method() {
            method::ELICIT => only_field(request).unwrap_or_else(|| "elicitation".to_owned()),
            method::SAMPLE => "sampling".to_owned(),
            _ => "roots".to_owned(),
        };
        let taken = |key: &str| others.iter().any(|other| other.key == key);
        let numbered = (2..).map(|number| format!("{stem}-{number}"));
        let key = std::iter::once(stem.clone()).chain(numbered).find(|key| !taken(key)).unwrap_or(stem);
        Self {
            key,
            id: Bytes::copy_from_slice(request.id().unwrap_or_default()),
            method: request.method().to_owned(),
            params: params(request).unwrap_or_else(|_| b"{}".to_vec()),
        }
    }

    /// The client's answer as the response that the server waits for.
    ///
    /// # Errors
    /// It is no answer to such a question.
    pub(super) fn answered(&self, given: &Bytes) -> Result<Message, Failure> {
        let whole = 0..given.len();
        let member = |key: &str| json::find(given, &whole, &[key]).ok().flatten();
        let fits = match self.method.as_str() {
            method::ELICIT => member("action")
                .and_then(|at| json::string(given, &at))
                .is_some_and(|action| matches!(&*action, "accept" | "decline" | "cancel")),
            method::SAMPLE => member("content").is_some() && member("role").is_some(),
            _ => member("roots").is_some_and(|at| given[at.start] == b'['),
        };
        if !fits {
            let words = format!("`inputResponses.{}` is no answer to {}", self.key, self.method);
            return Err(Failure::new(Kind::InvalidParams, words));
        }
        Ok(Message::parse(&rpc::result(&self.id, given)).expect("a result around an object is a message"))
    }
}

/// All of them as the value of `inputRequests`.
pub(super) fn requests(inputs: &[Input]) -> Vec<u8> {
    let mut out = vec![b'{'];
    for input in inputs {
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(&json::quote(&input.key));
        out.extend_from_slice(br#":{"method":"#);
        out.extend_from_slice(&json::quote(&input.method));
        out.extend_from_slice(br#","params":"#);
        out.extend_from_slice(&input.params);
        out.push(b'}');
    }
    out.push(b'}');
    out
}

/// The name of the only field of a form.
fn only_field(request: &Message) -> Option<String> {
    let at = request.param(&["requestedSchema", "properties"]).ok()??;
    match json::members(request.bytes(), &at).ok()?.as_slice() {
        [(name, _)] if !name.is_empty() => Some(name.clone().into_owned()),
        _ => None,
    }
}

/// The parameters without what has no meaning in the modern era.
fn params(request: &Message) -> Result<Vec<u8>, json::Malformed> {
    let Some(at) = request.params() else { return Ok(b"{}".to_vec()) };
    let text = Bytes::copy_from_slice(at);
    let bare = json::filtered(&text, &(0..text.len()), |key| !matches!(key, "elicitationId" | "task"))?;
    let whole = 0..bare.len();
    let Some(meta) = json::find(&bare, &whole, &["_meta"])? else { return Ok(bare) };
    let kept = json::filtered(&bare, &meta, |key| {
        key != "progressToken" && !key.starts_with(crate::mcp::era::META_RESERVED)
    })?;
    Ok(json::splice(&bare, vec![(meta, kept)]).to_vec())
}

/// The gateway's own answer to a request of the server that no client can be asked.
pub(super) fn own_answer(request: &Message) -> Message {
    let id = request.id().unwrap_or_default();
    let bytes = match request.method() {
        method::PING => rpc::result(id, b"{}"),
        method::ROOTS_LIST => rpc::result(id, br#"{"roots":[]}"#),
        _ => rpc::error(Some(id), rpc::METHOD_NOT_FOUND, "no client can be asked this here", None),
    };
    Message::parse(&bytes).expect("an answer of our own is a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, params: &str) -> Message {
        let text = format!(r#"{{"jsonrpc":"2.0","id":"s0","method":"{method}","params":{params}}}"#);
        Message::parse(&Bytes::from(text)).unwrap()
    }

    #[test]
    fn keys_say_what_is_asked_and_never_collide() {
        let form = request(
            "elicitation/create",
            r#"{"message":"m","requestedSchema":{"type":"object","properties":{"user_name":{"type":"string"}}},"task":{},"_meta":{"progressToken":1,"v":2}}"#,
        );
        let wide = request(
            "elicitation/create",
            r#"{"message":"m","requestedSchema":{"properties":{"a":{},"b":{}}}}"#,
        );
        let mut inputs: Vec<Input> = Vec::new();
        for asked in
            [&form, &wide, &form, &request("roots/list", "{}"), &request("sampling/createMessage", "{}")]
        {
            inputs.push(Input::of(asked, &inputs));
        }
        let keys: Vec<_> = inputs.iter().map(|input| input.key.as_str()).collect();
        assert_eq!(keys, ["user_name", "elicitation", "user_name-2", "roots", "sampling"]);
        assert_eq!(
            String::from_utf8(requests(&inputs[..1])).unwrap(),
            r#"{"user_name":{"method":"elicitation/create","params":{"message":"m","requestedSchema":{"type":"object","properties":{"user_name":{"type":"string"}}},"_meta":{"v":2}}}}"#
        );
    }

    #[test]
    fn only_answers_that_fit_reach_the_server() {
        let elicit = Input::of(&request("elicitation/create", "{}"), &[]);
        let answer =
            elicit.answered(&Bytes::from_static(br#"{"action":"accept","content":{"n":1.0}}"#)).unwrap();
        assert_eq!(
            &answer.bytes()[..],
            br#"{"jsonrpc":"2.0","id":"s0","result":{"action":"accept","content":{"n":1.0}}}"#
        );
        for wrong in ["12345", "{}", r#"{"action":"perhaps"}"#, "null"] {
            let given = Bytes::copy_from_slice(wrong.as_bytes());
            assert_eq!(elicit.answered(&given).unwrap_err().kind, Kind::InvalidParams, "{wrong}");
        }
        let roots = Input::of(&request("roots/list", "{}"), &[]);
        assert!(roots.answered(&Bytes::from_static(br#"{"roots":[]}"#)).is_ok());
    }

    #[test]
    fn nobody_is_asked_what_they_did_not_declare() {
        let declared = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        let form = request("elicitation/create", r#"{"message":"m"}"#);
        let url = request("elicitation/create", r#"{"mode":"url"}"#);
        assert_eq!(undeclared(&form, &declared("{}")), Some(json!({"elicitation": {}})));
        assert_eq!(undeclared(&form, &declared(r#"{"elicitation":{}}"#)), None);
        assert!(undeclared(&url, &declared(r#"{"elicitation":{}}"#)).is_some());
        assert_eq!(undeclared(&url, &declared(r#"{"elicitation":{"url":{}}}"#)), None);
    }
}
