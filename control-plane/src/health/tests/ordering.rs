//! What operators order.

use super::*;
use o1_proto::model::StoreHealth;

#[test]
fn an_order_needs_no_quorum_and_no_hold() {
    let mut scene = Scene::of(3);
    let ordered = scene.order(Store::Backup).unwrap();
    assert_eq!((ordered.term, ordered.nodes, ordered.no_op), (1, 3, false));
    assert_eq!(ordered.decision_id, scene.decisions.directives()[0].decision_id);
    assert!(scene.decisions.directives()[0].because.ends_with("a drill"));
    let again = scene.order(Store::Backup).unwrap();
    assert_eq!((again.term, again.no_op), (1, true));
    assert_eq!(scene.order(Store::Primary).unwrap().term, 2);
    scene.pass(1.0);
    assert_eq!(scene.status().nodes_on_primary, 3);
}

#[test]
fn after_an_order_it_is_decided_by_itself_again_once_the_hold_is_over() {
    let mut scene = Scene::of(1);
    scene.order(Store::Backup).unwrap();
    assert_eq!(scene.pass(59.0), none());
    assert_eq!(scene.pass(2.0), ["2 primary quorum_recovered"]);
    scene.see(&[1], Down, Up);
    scene.pass(1.0);
    scene.order_with(Store::Primary, |order| order.force = true).unwrap();
    assert_eq!(scene.pass(59.0), none(), "whoever ordered it meant it");
    assert_eq!(scene.pass(2.0).len(), 1);
}

#[test]
fn a_store_that_most_see_broken_has_to_be_forced() {
    let mut scene = Scene::of(3);
    scene.see(&[1, 2], Up, Down);
    let refused = scene.order(Store::Backup);
    let words = "most nodes see the backup unhealthy (connection refused)";
    assert_eq!(refused, Err(OrderError::Unusable(words.to_owned())));
    let ordered = scene.order_with(Store::Backup, |order| order.force = true).unwrap();
    assert!(ordered.warnings[0].contains("unhealthy"), "{:?}", ordered.warnings);
    let mut scene = Scene::of(1);
    scene.see(&[1], Up, Unknown);
    assert!(scene.order(Store::Backup).unwrap().warnings[0].contains("nobody knows"));
}

#[test]
fn an_order_for_another_term_is_refused_and_a_dry_run_does_nothing() {
    let mut scene = Scene::of(1);
    let dry = scene.order_with(Store::Backup, |order| order.dry_run = true).unwrap();
    assert_eq!((dry.term, dry.no_op), (1, false));
    assert!(scene.decisions.directives().is_empty());
    scene.order(Store::Backup).unwrap();
    assert_eq!(scene.order_with(Store::Primary, |order| order.if_term = 7), Err(OrderError::Term(1)));
    assert_eq!(scene.order_with(Store::Primary, |order| order.if_term = 1).unwrap().term, 2);
}

#[test]
fn only_what_is_there_and_has_a_backup_can_be_ordered() {
    let mut scene = Scene::of(1);
    let known = [NAME.to_owned(), "plain".to_owned()].into();
    let unknown = scene.order_with(Store::Backup, |order| order.upstream = "wether".to_owned());
    assert_eq!(unknown, Err(OrderError::UnknownUpstream(known)));
    let plain = scene.order_with(Store::Backup, |order| order.upstream = "plain".to_owned());
    assert_eq!(plain, Err(OrderError::NoBackup));
}

#[test]
fn the_same_request_is_carried_out_once_a_day() {
    let mut scene = Scene::of(1);
    let ask =
        |scene: &mut Scene, target| scene.order_with(target, |order| order.request_id = "r1".to_owned());
    let first = ask(&mut scene, Store::Backup).unwrap();
    scene.order(Store::Primary).unwrap();
    assert_eq!(ask(&mut scene, Store::Backup).unwrap(), first);
    assert_eq!(scene.status().desired, Some(Store::Primary), "and not carried out again");
    assert!(matches!(ask(&mut scene, Store::Primary), Err(OrderError::OtherRequest(_))));
    scene.now.wall += REQUEST_LIFE;
    assert_eq!(ask(&mut scene, Store::Backup).unwrap().term, 3);
}

#[test]
fn dead_letters_stand_in_the_way_until_that_is_accepted() {
    let mut scene = Scene::of(1);
    scene.order(Store::Backup).unwrap();
    scene.change(1, |one| (one.state.dead_letters, one.state.journal_pending) = (2, 5));
    let ordered = scene.order(Store::Primary).unwrap();
    assert_eq!((ordered.term, ordered.journal_pending), (2, 5));
    assert!(ordered.warnings[0].contains("2 entries"), "{:?}", ordered.warnings);
    let forced = scene.order_with(Store::Primary, |order| order.force = true).unwrap();
    assert_eq!((forced.term, forced.no_op), (3, false));
    assert!(scene.decisions.directives()[0].accept_dead_letters);
    assert!(scene.order_with(Store::Primary, |order| order.force = true).unwrap().no_op);
}

#[test]
fn directives_are_sent_again_to_those_that_do_not_follow() {
    let mut scene = Scene::of(2);
    scene.change(2, |one| one.obeys = false);
    scene.order(Store::Backup).unwrap();
    for node in 1..=2 {
        scene.decisions.sent(&key(node), scene.now);
    }
    assert!(scene.decisions.due(scene.now).is_empty());
    scene.pass(30.0);
    assert_eq!(scene.decisions.due(scene.now), [key(2)]);
    scene.decisions.sent(&key(2), scene.now);
    assert!(scene.decisions.due(scene.now).is_empty());
    scene.change(2, |one| one.obeys = true);
    scene.pass(60.0);
    assert!(scene.decisions.due(scene.now).is_empty());
}

#[test]
fn accounts_of_nodes_add_up() {
    let mut scene = Scene::of(2);
    let now = scene.now.wall;
    for (node, since) in [(1, 100), (2, 40)] {
        scene.change(node, |one| {
            one.state.stats.failover_active = true;
            one.state.stats.failover_count = u64::MAX / 2 + 1;
            one.state.stats.finished_failover_time = Duration::from_secs(1000);
            one.state.stats.current_failover_since = Some(now - Duration::from_secs(since));
            one.state.stats.last_backup_sync = Some(now - Duration::from_secs(since));
        });
    }
    let stats = scene.status().stats;
    assert_eq!(stats.total_failover_time(now).as_secs(), 2000 + 100 + 40);
    assert_eq!(stats.last_backup_sync, Some(now - Duration::from_secs(40)));
    assert_eq!((stats.failover_active, stats.failover_count), (true, u64::MAX));
}

#[test]
fn what_changes_nothing_is_no_news() {
    let mut scene = Scene::of(1);
    let seen = |primary| vec![(NAME.to_owned(), health(primary), StoreHealth::default())];
    assert!(scene.decisions.observe(key(1), false, seen(Up), scene.now));
    assert!(!scene.decisions.observe(key(1), false, seen(Up), scene.now));
    assert!(scene.decisions.observe(key(1), false, seen(Down), scene.now));
    let states = vec![(NAME.to_owned(), FailoverState::default())];
    assert!(!scene.decisions.report(key(1), states, scene.now));
}
