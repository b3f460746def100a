//! What is kept, for whom and for how long.

use super::*;
use crate::purge::Forget as _;
use o1_proto::model::Share;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn callers_are_told_what_is_left_of_an_answers_life() {
    let rig = Rig::new(CacheRules::default());
    rig.takes(Duration::ZERO);
    rig.says(PUBLIC);
    assert_eq!(ttl(&rig.list("p", 1).await), 60_000);
    sleep(SECOND * 20).await;
    let later = rig.list("q", 2).await;
    assert_eq!((ttl(&later), number(&later)), (40_000, 0));
    assert!(later.contains(r#""cacheScope":"public""#), "the server's hints go through: {later}");
    sleep(SECOND * 39).await;
    assert_eq!(ttl(&rig.list("p", 3).await), 1_000);
    sleep(SECOND).await;
    let again = rig.list("p", 4).await;
    assert_eq!((ttl(&again), number(&again)), (60_000, 1));
    assert_eq!(rig.found(Tier::Catalogue), (2, 0, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn what_has_no_life_goes_out_as_it_came() {
    // agentgateway, landscape row 74: every list left it with `ttlMs: 0` and `private`.
    let rig = Rig::new(CacheRules::default());
    rig.takes(Duration::ZERO);
    for members in [
        r#""ttlMs" : 0 , "cacheScope":"public","x":1.10"#,
        r#""cacheScope":"private""#,
        r#""ttlMs":"5000""#,
        r#""ttlMs":9,"ttlMs":10"#,
    ] {
        rig.answers(move |call, _| Ok(result(call, members)));
        let answer = rig.list("p", 1).await;
        assert_eq!(answer, format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{{members}}}}}"#));
    }
    assert_eq!(rig.counts(Tier::Catalogue).stored, 0);
    assert_eq!(rig.asked().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_operator_overrules_the_server() {
    let rule = |life| CacheRules {
        lists: Some(life),
        resources: BTreeMap::from([
            ("x://*".to_owned(), Life::For(SECOND * 30)),
            ("x://never/*".to_owned(), Life::For(Duration::ZERO)),
        ]),
        ..CacheRules::default()
    };
    let rig = Rig::new(rule(Life::For(SECOND * 5)));
    rig.takes(Duration::ZERO);
    rig.says(NEVER);
    assert_eq!(ttl(&rig.list("p", 1).await), 5_000);
    assert_eq!(ttl(&rig.read("p", 2, "x://a").await), 30_000);
    rig.says(PRIVATE);
    assert_eq!(ttl(&rig.read("p", 3, "x://never/a").await), 60_000);
    assert_eq!(number(&rig.read("p", 4, "x://never/a").await), 3, "the longest pattern says never");
    sleep(SECOND * 6).await;
    assert_eq!(number(&rig.read("p", 5, "x://a").await), 1);
    assert_eq!(number(&rig.list("p", 6).await), 4);
    assert_eq!(rig.found(Tier::Resources), (1, 0, 1, 0), "what must not be kept is not looked up");
}

#[tokio::test(start_paused = true)]
async fn a_life_that_the_server_forgot_is_put_in() {
    let rig = Rig::new(CacheRules { lists: Some(Life::For(SECOND * 5)), ..CacheRules::default() });
    rig.takes(Duration::ZERO);
    for (members, expected) in [(r#""tools":[]"#, r#"{"ttlMs":5000,"tools":[]}"#), ("", r#"{"ttlMs":5000}"#)]
    {
        rig.answers(move |call, _| Ok(result(call, members)));
        let answer = rig.list("p", 1).await;
        assert_eq!(answer, format!(r#"{{"jsonrpc":"2.0","id":1,"result":{expected}}}"#));
        sleep(SECOND * 5).await;
    }
}

#[tokio::test(start_paused = true)]
async fn tools_and_prompts_are_kept_only_where_the_operator_names_them() {
    let rig = Rig::new(CacheRules { tools: rules("read_*"), prompts: rules("p"), ..CacheRules::default() });
    rig.takes(Duration::ZERO);
    rig.says(PUBLIC);
    let ask = |method, name: &str, arguments: &str| {
        let params = format!(r#","name":"{name}","arguments":{{{arguments}}}"#);
        rig.ask(rig.modern("p", 1, method, &params))
    };
    for expected in [0, 0] {
        assert_eq!(number(&ask(method::TOOLS_CALL, "read_file", r#""a":1"#).await), expected);
    }
    assert_eq!(number(&ask(method::TOOLS_CALL, "read_file", r#""a":2"#).await), 1, "other arguments");
    for expected in [2, 4] {
        assert_eq!(number(&ask(method::TOOLS_CALL, "write_file", "").await), expected);
        rig.read("p", 1, "x://a").await;
    }
    assert_eq!(number(&ask(method::PROMPTS_GET, "p", "").await), 5);
    assert_eq!(number(&ask(method::PROMPTS_GET, "p", "").await), 5);
    assert_eq!(number(&ask(method::PROMPTS_GET, "q", "").await), 6);
    assert_eq!(rig.found(Tier::Tools), (1, 0, 2, 0));
    assert_eq!(rig.found(Tier::Resources), (1, 0, 1, 0), "each kind in its own tier");
    assert_eq!(rig.found(Tier::Catalogue), (1, 0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_failed_is_not_kept() {
    let rig = Rig::new(CacheRules { tools: rules("*"), ..CacheRules::default() });
    rig.takes(Duration::ZERO);
    rig.says(r#""content":[],"isError":true"#);
    for expected in [0, 1] {
        let call = rig.modern("p", 1, method::TOOLS_CALL, r#","name":"t""#);
        assert_eq!(number(&rig.ask(call).await), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn legacy_clients_are_cached_for_only_by_rule() {
    let rig = Rig::new(CacheRules::default());
    rig.takes(Duration::ZERO);
    rig.says(PUBLIC);
    let client = session(1, "p");
    for expected in [0, 1] {
        assert_eq!(number(&rig.ask(rig.legacy(&client, 1, method::TOOLS_LIST, "")).await), expected);
    }
    assert_eq!(rig.found(Tier::Catalogue), (0, 0, 0, 0), "they take no part");

    let rules = CacheRules { resources: rules("x://*"), ..CacheRules::default() };
    let rig = Rig::new(rules);
    rig.takes(Duration::ZERO);
    rig.answers(|call, _| Ok(result(call, r#""contents":[]"#)));
    for (serial, principal, asked) in [(1, "p", 1), (1, "p", 1), (2, "p", 1), (3, "q", 2)] {
        let client = session(serial, principal);
        let answer = rig.ask(rig.legacy(&client, 7, method::RESOURCES_READ, r#""uri":"x://a""#)).await;
        assert_eq!(
            answer, r#"{"jsonrpc":"2.0","id":7,"result":{"contents":[]}}"#,
            "only the id is exchanged"
        );
        assert_eq!(rig.asked().len(), asked, "{serial} {principal}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_shares_is_the_operators_word_then_the_servers() {
    for (share, members, sessions, principals, legacy) in [
        (Share::Principal, PRIVATE, 1, 2, 2),
        (Share::Principal, PUBLIC, 1, 1, 2),
        (Share::Session, PUBLIC, 1, 2, 3),
        (Share::Everybody, PRIVATE, 1, 1, 1),
    ] {
        let rule = CacheRules { share, lists: Some(Life::Tier), ..CacheRules::default() };
        let rig = Rig::new(rule.clone());
        rig.takes(Duration::ZERO);
        rig.says(members);
        rig.list("p", 1).await;
        rig.list("p", 2).await;
        assert_eq!(rig.asked().len(), sessions, "{share:?}");
        rig.list("q", 3).await;
        assert_eq!(rig.asked().len(), principals, "{share:?} {members}");

        let rig = Rig::new(rule);
        rig.takes(Duration::ZERO);
        rig.says(members);
        for (serial, principal) in [(1, "p"), (2, "p"), (3, "q"), (1, "p")] {
            rig.ask(rig.legacy(&session(serial, principal), 1, method::TOOLS_LIST, "")).await;
        }
        assert_eq!(rig.asked().len(), legacy, "legacy {share:?} {members}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_public_once_and_is_private_now_is_found_by_its_own_principal_only() {
    let rig = Rig::new(CacheRules::default());
    rig.takes(Duration::ZERO);
    rig.says(PUBLIC);
    rig.list("p", 1).await;
    sleep(SECOND * 60).await;
    rig.says(PRIVATE);
    assert_eq!(number(&rig.list("p", 1).await), 1);
    assert_eq!(number(&rig.list("q", 1).await), 2);
    assert_eq!(number(&rig.list("p", 1).await), 1);
}

#[tokio::test(start_paused = true)]
async fn another_configuration_of_the_upstream_and_of_a_tier_begins_empty() {
    let rig = Rig::new(CacheRules::default());
    rig.takes(Duration::ZERO);
    rig.says(PUBLIC);
    rig.list("p", 1).await;
    rig.read("p", 1, "x://a").await;
    let mut fleet = rig.fleet.clone();
    fleet.caching.resources.entries += 1;
    rig.configure(&fleet);
    sleep(SECOND).await;
    let left = |tier| rig.counts(tier).left[crate::metrics::Cause::Configuration as usize];
    assert_eq!((left(Tier::Catalogue), left(Tier::Resources)), (0, 1));
    assert_eq!(number(&rig.list("p", 1).await), 0, "other tiers stay");
    fleet.upstreams[0].timeouts.idle += SECOND;
    rig.configure(&fleet);
    sleep(SECOND).await;
    assert_eq!((left(Tier::Catalogue), left(Tier::Resources)), (1, 1));
    assert_eq!(number(&rig.list("p", 1).await), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_purged_is_counted_and_asked_for_again() {
    let rig = Rig::new(CacheRules::default());
    rig.takes(Duration::ZERO);
    rig.says(PUBLIC);
    rig.list("p", 1).await;
    let bytes = rig.counts(Tier::Catalogue).bytes;
    rig.read("p", 1, "x://a").await;
    let order =
        |upstream: Option<&str>, tier| crate::purge::Order { upstream: upstream.map(str::to_owned), tier };
    assert_eq!(rig.cache.purge(&order(Some("other"), None)).entries, 0);
    let purged = rig.cache.purge(&order(Some("u"), Some(Tier::Catalogue)));
    assert_eq!((purged.entries, purged.bytes), (1, bytes));
    assert_eq!(rig.counts(Tier::Catalogue).left[crate::metrics::Cause::Purged as usize], 1);
    assert_eq!(number(&rig.list("p", 1).await), 2);
    assert_eq!(number(&rig.read("p", 1, "x://a").await), 1);
    assert_eq!(rig.cache.purge(&order(None, None)).entries, 2);
}

#[tokio::test(start_paused = true)]
async fn notifications_in_a_reply_invalidate() {
    let rig = Rig::new(CacheRules::default());
    rig.takes(Duration::ZERO);
    rig.says(PUBLIC);
    rig.list("p", 1).await;
    rig.read("p", 1, "x://a").await;
    rig.answers(|call, _| {
        let changed = message(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
        let answer = message(std::str::from_utf8(&rpc::result(id_of(call), b"{}")).unwrap());
        Ok(Reply::messages(Box::pin(futures_util::stream::iter([Ok(changed), Ok(answer)]))))
    });
    rig.ask(rig.modern("p", 1, method::TOOLS_CALL, r#","name":"t""#)).await;
    rig.says(PUBLIC);
    assert_eq!(number(&rig.list("p", 1).await), 3);
    assert_eq!(number(&rig.read("p", 1, "x://a").await), 1);
}
