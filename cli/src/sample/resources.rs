//! What can be read? One page about the instance that answers.

use super::{
    Sample,
    answer::{Answer, text},
    envelope::{Fault, RESOURCE_NOT_FOUND},
};
use serde_json::{Map, Value, json};

const ABOUT: &str = "sample://about";
/// The page counts notes, so it does not hold for long.
const ABOUT_MS: u64 = 1000;

/// The catalogue.
pub(super) fn list() -> Value {
    json!([{
        "uri": ABOUT,
        "name": "about",
        "title": "About this instance",
        "description": "Which instance of the sample answers, and since when it runs",
        "mimeType": "text/plain",
    }])
}

/// Reads a resource. A URI that leads nowhere is [`RESOURCE_NOT_FOUND`]; eras may say it differently.
pub(super) fn read(sample: &Sample, params: &Map<String, Value>) -> Result<Answer, Fault> {
    let uri = text(params, "uri")?;
    if uri != ABOUT {
        let fault = Fault::new(RESOURCE_NOT_FOUND, format!("resource not found: {uri}"));
        return Err(fault.with(json!({ "uri": uri })));
    }
    let about = format!(
        "only1 sample server, version {}\ninstance: {}\nprocess: {}\nrunning since: {}\nnotes: {}\n",
        o1_process::VERSION,
        sample.name,
        std::process::id(),
        sample.started,
        sample.notes.all().len(),
    );
    let contents = json!([{ "uri": ABOUT, "mimeType": "text/plain", "text": about }]);
    Ok(Answer::lasting(json!({ "contents": contents }), ABOUT_MS))
}
