//! What takes part, told from the call alone.

use super::*;
use crate::cache::eligible::{Part, Read, part};

/// What a call is: `reads`, `writes` or nothing.
fn word(rig: &Rig, call: &Call) -> &'static str {
    match part(call, &rig.upstream()) {
        Part::Reads(_) => "reads",
        Part::Writes => "writes",
        Part::Nothing => "",
    }
}

#[tokio::test(start_paused = true)]
async fn what_takes_part_depends_on_method_era_and_rules() {
    let none = CacheRules::default();
    let some = CacheRules {
        tools: rules("t*"),
        prompts: rules("p"),
        resources: rules("x://*"),
        lists: Some(Life::Tier),
        ..none.clone()
    };
    // method, params; modern and legacy without rules; modern and legacy with rules
    let table = [
        (method::DISCOVER, "", ["reads", "", "reads", ""]),
        (method::TOOLS_LIST, "", ["reads", "", "reads", "reads"]),
        (method::PROMPTS_LIST, r#","cursor":"c""#, ["reads", "", "reads", "reads"]),
        (method::RESOURCES_LIST, "", ["reads", "", "reads", "reads"]),
        (method::TEMPLATES_LIST, "", ["reads", "", "reads", "reads"]),
        (method::RESOURCES_READ, r#","uri":"x://a""#, ["reads", "", "reads", "reads"]),
        (method::RESOURCES_READ, r#","uri":"y://a""#, ["reads", "", "reads", ""]),
        (method::RESOURCES_READ, r#","uri":7"#, ["", "", "", ""]),
        (method::RESOURCES_READ, r#","uri":"x://a","uri":"x://b""#, ["", "", "", ""]),
        (method::RESOURCES_READ, r#","uri":"x://a","requestState":"s""#, ["", "", "", ""]),
        (method::TOOLS_CALL, r#","name":"tool""#, ["writes", "writes", "reads", "reads"]),
        (method::TOOLS_CALL, r#","name":"other""#, ["writes"; 4]),
        (method::TOOLS_CALL, r#","name":"tool","inputResponses":{}"#, ["writes"; 4]),
        (method::TOOLS_CALL, r#","name":"tool","task":{"ttl":1}"#, ["writes"; 4]),
        (method::PROMPTS_GET, r#","name":"p""#, ["", "", "reads", "reads"]),
        (method::COMPLETE, "", [""; 4]),
        (method::LISTEN, "", [""; 4]),
        (method::PING, "", [""; 4]),
    ];
    let client = session(1, "p");
    for (rules, first) in [(none, 0), (some, 2)] {
        let rig = Rig::new(rules);
        for (method, params, expected) in table {
            let modern = rig.modern("p", 1, method, params);
            let legacy = rig.legacy(&client, 1, method, params.trim_start_matches(','));
            assert_eq!(word(&rig, &modern), expected[first], "modern {method} {params}");
            assert_eq!(word(&rig, &legacy), expected[first + 1], "legacy {method} {params}");
            let nobody = Call { caller: Caller::Legacy(None), ..legacy };
            assert_ne!(word(&rig, &nobody), "reads", "without a session {method}");
        }
        let stream = Call { ask: Ask::Stream, ..rig.modern("p", 1, method::TOOLS_LIST, "") };
        assert_eq!(word(&rig, &stream), "");
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_answer_is_about_is_told_from_what_was_asked() {
    let rig = Rig::new(CacheRules { tools: rules("*"), ..CacheRules::default() });
    for (method, params, tier) in [
        (method::TOOLS_LIST, "", Tier::Catalogue),
        (method::RESOURCES_READ, r#","uri":"x""#, Tier::Resources),
        (method::TOOLS_CALL, r#","name":"x""#, Tier::Tools),
    ] {
        let call = rig.modern("p", 1, method, params);
        let Part::Reads(Read { method: read, subject, .. }) = part(&call, &rig.upstream()) else {
            panic!("{method} takes part")
        };
        assert_eq!((read.tier(), subject.tier(), read.word()), (tier, Some(tier), method));
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_told_apart_passes() {
    let rig = Rig::new(CacheRules { tools: rules("*"), ..CacheRules::default() });
    rig.takes(Duration::ZERO);
    rig.says(PUBLIC);
    let large = format!(r#","name":"t","arguments":{{"x":"{}"}}"#, "x".repeat(65 << 10));
    for params in [r#","name":"t","arguments":{"a":1,"a":2}"#, &large] {
        for _ in 0..2 {
            rig.ask(rig.modern("p", 1, method::TOOLS_CALL, params)).await;
        }
    }
    assert_eq!((rig.asked().len(), rig.found(Tier::Tools)), (4, (0, 0, 0, 0)));
}
