//! What a server needs to know from the client before it answers (multi-round-trip requests), as the requests
//! that legacy servers ask in the middle of a call.

use super::{answer, envelope::Profile};
use crate::{
    failure::{Failure, Kind},
    mcp::{
        Message,
        json::{self, Malformed, Span},
        rpc,
    },
};

/// How many questions one answer may hold.
const QUESTIONS_MAX: usize = 64;

/// An `input_required` result.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) questions: Vec<Question>,
    /// The raw JSON string that the retry repeats.
    pub(super) state: Option<Vec<u8>>,
}

/// One of its `inputRequests`.
#[derive(Debug)]
pub(super) struct Question {
    /// Under which key the answer is expected.
    pub(super) key: String,
    pub(super) method: String,
    /// Raw JSON.
    params: Vec<u8>,
}

/// Why a question cannot be put to the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unaskable {
    /// For the client.
    pub(super) what: String,
    /// A client that declares this could be asked; raw JSON of `ClientCapabilities`.
    pub(super) required: Option<&'static str>,
}

/// What can be asked of a client, and what a client must have declared for it.
const ASKABLE: [(&str, &str, &str); 3] = [
    ("elicitation/create", "elicitation", r#"{"elicitation":{}}"#),
    ("sampling/createMessage", "sampling", r#"{"sampling":{}}"#),
    ("roots/list", "roots", r#"{"roots":{}}"#),
];

impl Input {
    /// Reads a result.
    ///
    /// # Errors
    /// It has neither questions nor a state, or too many.
    pub(super) fn read(answer: &Message, result: &Span) -> Result<Self, Failure> {
        let text = answer.bytes();
        let foreign =
            |what: &str| Failure::new(Kind::Protocol, format!("the upstream asked for input {what}"));
        let unread = |malformed: Malformed| foreign("that cannot be read").because(malformed);
        let state =
            json::member(text, result, "requestState").map_err(unread)?.filter(|at| text[at.start] == b'"');
        let state = state.map(|at| text[at].to_vec());
        let requests = json::member(text, result, "inputRequests").map_err(unread)?;
        let mut questions = Vec::new();
        if let Some(requests) = requests.filter(|at| text[at.start] == b'{') {
            for (key, request) in json::members(text, &requests).map_err(unread)? {
                let method = json::find(text, &request, &["method"]).map_err(unread)?;
                let method = method.and_then(|at| json::string(text, &at));
                let method = method.ok_or_else(|| foreign("without a method"))?.into_owned();
                let params = json::find(text, &request, &["params"]).map_err(unread)?;
                let params = params.filter(|at| text[at.start] == b'{');
                let params = params.map_or_else(|| b"{}".to_vec(), |at| text[at].to_vec());
                questions.push(Question { key: key.into_owned(), method, params });
            }
        }
        if questions.len() > QUESTIONS_MAX {
            return Err(foreign("more often at once than the gateway allows"));
        }
        if questions.is_empty() && state.is_none() {
            return Err(foreign("without saying which"));
        }
        Ok(Self { questions, state })
    }
}

impl Question {
    /// The request for the client, under an id of the gateway's.
    ///
    /// # Errors
    /// The client cannot be asked this.
    pub(super) fn request(&self, id: &[u8], profile: &Profile) -> Result<Message, Unaskable> {
        let unreadable = |malformed: Malformed| Unaskable {
            what: format!("the upstream's `{}` cannot be read: {malformed}", self.method),
            required: None,
        };
        let Some((_, capability, required)) = ASKABLE.iter().find(|(method, ..)| *method == self.method)
        else {
            let what = format!("the upstream asked for `{}`, which is nothing to ask a client", self.method);
            return Err(Unaskable { what, required: None });
        };
        if !profile.declares(capability) {
            let what = format!("this needs a client that declares the capability `{capability}`");
            return Err(Unaskable { what, required: Some(required) });
        }
        let (text, whole) = (&self.params, 0..self.params.len());
        let edits = match *capability {
            "elicitation" => self.elicitation(id, profile)?,
            "sampling" => answer::messages(text, &whole, profile.version).map_err(unreadable)?,
            _ => Vec::new(),
        };
        let request = rpc::request(id, &self.method, &json::splice(text, edits));
        Message::parse(&request).map_err(|_| unreadable(Malformed("its parameters are no object".to_owned())))
    }

    /// 2025-11-25 wants an id for an address to visit; before, there were forms and no word for them.
    fn elicitation(&self, id: &[u8], profile: &Profile) -> Result<json::Edits, Unaskable> {
        let (text, whole) = (&self.params, 0..self.params.len());
        let unreadable = |malformed: Malformed| Unaskable {
            what: format!("the upstream's `elicitation/create` cannot be read: {malformed}"),
            required: None,
        };
        let mode = json::member(text, &whole, "mode").map_err(unreadable)?;
        let url = mode.and_then(|at| json::string(text, &at)).is_some_and(|mode| mode == "url");
        match (url, profile.version >= "2025-11-25") {
            (true, false) => Err(Unaskable {
                what: "this needs a client that can visit an address (revision 2025-11-25)".to_owned(),
                required: Some(r#"{"elicitation":{"url":{}}}"#),
            }),
            (true, true) => {
                json::revise(text, &whole, &["elicitationId"], &[("elicitationId", id)]).map_err(unreadable)
            }
            (false, true) => Ok(Vec::new()),
            (false, false) => json::revise(text, &whole, &["mode"], &[]).map_err(unreadable),
        }
    }
}

/// The client's answers, as `inputResponses`.
pub(super) fn responses(answers: &[(String, Vec<u8>)]) -> Vec<u8> {
    let members: Vec<(&str, &[u8])> = answers.iter().map(|(key, answer)| (&**key, &**answer)).collect();
    super::envelope::object(&members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use serde_json::{Value, json};

    fn input(result: &str) -> Result<Input, Failure> {
        let answer =
            Message::parse(&Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#))).unwrap();
        Input::read(&answer, &answer.result().unwrap())
    }

    fn profile(version: &str, capabilities: &str) -> Profile {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{capabilities}}}}}"#
        );
        Profile::of(&Message::parse(&Bytes::from(text)).unwrap()).unwrap()
    }

    const FORM: &str = r#"{"inputRequests":{"k\u0031":{"method":"elicitation/create","params":{"mode":"form","message":"m","n":1.10}}},"requestState":"a\u0062c"}"#;
    const URL: &str = r#"{"inputRequests":{"u":{"method":"elicitation/create","params":{"mode":"url","message":"m","url":"https://x"}}}}"#;

    #[test]
    fn questions_become_requests_and_the_state_keeps_its_spelling() {
        let input = input(FORM).unwrap();
        assert_eq!(input.state.as_deref(), Some(&br#""a\u0062c""#[..]));
        assert_eq!(input.questions[0].key, "k1");
        let ask = |version: &str| {
            let request =
                input.questions[0].request(b"\"o1-1\"", &profile(version, r#"{"elicitation":{}}"#)).unwrap();
            String::from_utf8(request.bytes().to_vec()).unwrap()
        };
        assert!(ask("2025-11-25").contains(r#"{"mode":"form","message":"m","n":1.10}"#));
        assert!(ask("2025-06-18").contains(r#""params":{"message":"m","n":1.10}"#));
        assert_eq!(
            responses(&[("k1".to_owned(), br#"{"action":"decline"}"#.to_vec())]),
            br#"{"k1":{"action":"decline"}}"#
        );
    }

    #[test]
    fn addresses_to_visit_get_an_id_or_are_withheld() {
        let input = input(URL).unwrap();
        let request = input.questions[0]
            .request(b"\"o1-1\"", &profile("2025-11-25", r#"{"elicitation":{"url":{}}}"#))
            .unwrap();
        let value: Value = serde_json::from_slice(request.bytes()).unwrap();
        assert_eq!(
            value["params"],
            json!({"mode": "url", "message": "m", "url": "https://x", "elicitationId": "o1-1"})
        );
        let withheld =
            input.questions[0].request(b"1", &profile("2025-06-18", r#"{"elicitation":{}}"#)).unwrap_err();
        assert_eq!(withheld.required, Some(r#"{"elicitation":{"url":{}}}"#));
    }

    #[test]
    fn a_client_is_asked_only_what_it_declared() {
        for (method, capabilities, required) in [
            ("sampling/createMessage", "{}", Some(r#"{"sampling":{}}"#)),
            ("roots/list", r#"{"sampling":{}}"#, Some(r#"{"roots":{}}"#)),
            ("elicitation/create", r#"{"elicitation":null}"#, Some(r#"{"elicitation":{}}"#)),
            ("tools/list", r#"{"tools":{}}"#, None),
        ] {
            let input = input(&format!(r#"{{"inputRequests":{{"k":{{"method":"{method}"}}}}}}"#)).unwrap();
            let refused = input.questions[0].request(b"1", &profile("2025-11-25", capabilities)).unwrap_err();
            assert_eq!(refused.required, required, "{method}");
        }
    }

    #[test]
    fn input_that_asks_nothing_is_no_input() {
        assert!(input("{}").is_err());
        assert!(input(r#"{"inputRequests":{}}"#).is_err());
        assert!(input(r#"{"inputRequests":{"k":{"params":{}}}}"#).is_err());
        assert!(input(r#"{"requestState":"s"}"#).unwrap().questions.is_empty());
        let many: Vec<_> =
            (0..=QUESTIONS_MAX).map(|n| format!(r#""{n}":{{"method":"roots/list"}}"#)).collect();
        assert!(input(&format!(r#"{{"inputRequests":{{{}}}}}"#, many.join(","))).is_err());
    }
}
