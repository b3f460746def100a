//! What follows by itself.

use super::*;

#[test]
fn a_lone_node_that_sees_the_primary_down_is_the_quorum() {
    let mut scene = Scene::of(1);
    assert_eq!(scene.pass(5.0), none());
    assert_eq!(scene.stage(), Stage::Healthy);
    scene.see(&[1], Down, Up);
    assert_eq!(scene.pass(0.5), none(), "one evaluation is not enough");
    assert_eq!(scene.stage(), Stage::Suspect);
    assert_eq!(scene.pass(0.5), ["1 backup quorum_unhealthy"]);
    let directive = &scene.decisions.directives()[0];
    assert_eq!((directive.term, directive.target, directive.decision_id.len()), (1, Store::Backup, 16));
    assert_eq!(
        directive.because,
        "1 of 1 fresh observer sees the primary unhealthy: connection refused; backup healthy for 1"
    );
}

#[test]
fn enough_of_the_nodes_must_see_it() {
    // Nodes, of these the ones that see it down, of these the ones that know nothing; whether it fails over.
    let cases: [(u8, &[u8], &[u8], bool); 9] = [
        (2, &[1], &[], false),
        (2, &[1, 2], &[], true),
        (3, &[1], &[], false),
        (3, &[1, 2], &[], true),
        (3, &[1, 2], &[3], true),
        (3, &[1], &[2, 3], false),
        (4, &[1, 2], &[], false),
        (4, &[1, 2, 3], &[], true),
        (9, &[1, 2, 3, 4, 5], &[], false),
    ];
    for (nodes, down, unknown, over) in cases {
        let mut scene = Scene::of(nodes);
        scene.pass(2.0);
        scene.see(unknown, Unknown, Up);
        scene.see(down, Down, Up);
        assert_eq!(!scene.pass(60.0).is_empty(), over, "{down:?} of {nodes}, and {unknown:?} know nothing");
    }
}

#[test]
fn a_failover_is_over_when_all_nodes_are_there_or_after_a_while() {
    let mut scene = Scene::of(3);
    scene.change(3, |one| one.obeys = false);
    scene.see(&[1, 2, 3], Down, Up);
    scene.pass(2.0);
    assert_eq!(scene.stage(), Stage::FailingOver);
    scene.pass(15.0);
    let status = scene.status();
    assert_eq!((status.decision, status.nodes_lagging), (Stage::FailedOver, 1));
    assert_eq!((status.nodes_on_primary, status.nodes_on_backup), (1, 2));
}

#[test]
fn the_way_back_needs_the_hold_and_a_primary_that_stays_well() {
    // When it is well again after the failover; when the primary is ordered.
    for (well_at, back_at) in [(2.0, 60.0), (20.0, 60.0), (40.0, 70.0), (100.0, 130.0)] {
        let mut scene = Scene::of(3);
        scene.failed_over();
        let began = scene.now.uptime - Duration::from_secs(1);
        scene.pass(well_at - 1.0);
        scene.see(&[1, 2, 3], Up, Up);
        while scene.pass(0.5).is_empty() {}
        let took = (scene.now.uptime - began).as_secs_f64();
        assert!((took - back_at).abs() <= 1.0, "well at {well_at}: {took} instead of {back_at}");
        assert_eq!(scene.decisions.directives()[0].term, 2);
    }
}

#[test]
fn an_interruption_begins_the_wait_anew() {
    let mut scene = Scene::of(1);
    scene.failed_over();
    scene.pass(60.0);
    scene.see(&[1], Up, Up);
    assert_eq!(scene.pass(25.0), none());
    scene.see(&[1], Down, Up);
    scene.pass(1.0);
    scene.see(&[1], Up, Up);
    assert_eq!(scene.pass(29.5), none());
    assert_eq!(scene.pass(2.0), ["2 primary quorum_recovered"]);
}

#[test]
fn nine_of_ten_must_see_it_well() {
    let mut scene = Scene::of(10);
    scene.failed_over();
    scene.pass(60.0);
    scene.see(&[1, 2, 3, 4, 5, 6, 7, 8], Up, Up);
    assert_eq!(scene.pass(60.0), none(), "eight of ten do");
    scene.see(&[9], Up, Up);
    assert_eq!(scene.pass(31.0), ["2 primary quorum_recovered"]);
}

#[test]
fn those_that_know_nothing_do_not_stand_in_the_way_back() {
    let mut scene = Scene::of(3);
    scene.failed_over();
    scene.see(&[2, 3], Unknown, Up);
    scene.see(&[1], Up, Up);
    assert_eq!(scene.pass(62.0), ["2 primary quorum_recovered"]);
}

#[test]
fn a_primary_that_fails_while_entries_are_replayed_ends_the_way_back() {
    let mut scene = Scene::of(3);
    scene.failed_over();
    scene.change(2, |one| one.obeys = false);
    scene.see(&[1, 2, 3], Up, Up);
    assert_eq!(scene.pass(61.0), ["2 primary quorum_recovered"]);
    assert_eq!(scene.stage(), Stage::SyncingBack);
    scene.see(&[1, 2, 3], Down, Up);
    assert_eq!(scene.pass(1.0), ["3 backup abort"]);
}

#[test]
fn a_restoration_is_over_when_all_nodes_are_there_or_after_a_while() {
    let mut scene = Scene::of(2);
    scene.failed_over();
    scene.change(2, |one| one.obeys = false);
    scene.see(&[1, 2], Up, Up);
    scene.pass(62.0);
    assert_eq!(scene.stage(), Stage::SyncingBack);
    scene.pass(60.0);
    assert_eq!((scene.stage(), scene.status().nodes_lagging), (Stage::Healthy, 1));
    scene.change(2, |one| one.obeys = true);
    scene.pass(1.0);
    assert_eq!(scene.status().nodes_lagging, 0);
}

#[test]
fn with_neither_store_everything_stays_where_it_is() {
    let mut scene = Scene::of(3);
    scene.see(&[1, 2, 3], Down, Down);
    assert_eq!(scene.pass(100.0), none());
    assert_eq!(scene.stage(), Stage::Blocked);
    scene.see(&[1, 2, 3], Down, Up);
    assert_eq!(scene.pass(1.0), ["1 backup quorum_unhealthy"]);
    scene.see(&[1, 2, 3], Down, Down);
    assert_eq!(scene.pass(1000.0), none());
    assert_eq!(scene.stage(), Stage::Blocked);
    scene.see(&[1, 2, 3], Up, Down);
    assert_eq!(scene.pass(31.0), ["2 primary quorum_recovered"]);
}

#[test]
fn a_backup_of_which_nothing_is_known_is_good_enough() {
    let mut scene = Scene::of(3);
    scene.see(&[1, 2, 3], Down, Unknown);
    assert_eq!(scene.pass(1.0), ["1 backup quorum_unhealthy"]);
}

#[test]
fn repeated_failovers_lengthen_the_hold_up_to_a_quarter_of_an_hour() {
    let mut scene = Scene::of(1);
    let mut holds = Vec::new();
    for _ in 0..7 {
        scene.see(&[1], Down, Up);
        scene.pass(1.0);
        let began = scene.now.uptime;
        scene.see(&[1], Up, Up);
        while scene.pass(0.5).is_empty() {}
        holds.push((scene.now.uptime - began).as_secs());
    }
    assert_eq!(holds, [60, 120, 240, 480, 900, 900, 900]);
}

#[test]
fn a_primary_that_flaps_for_an_hour_fails_over_a_bounded_number_of_times() {
    let mut scene = Scene::of(3);
    let mut failovers = 0;
    for round in 0..720 {
        let verdict = if round % 2 == 0 { Down } else { Up };
        scene.see(&[1, 2, 3], verdict, Up);
        failovers += scene.pass(5.0).iter().filter(|decided| decided.contains("backup")).count();
    }
    assert!((1..=61).contains(&failovers), "{failovers}");
    assert_eq!(scene.status().decision, Stage::FailedOver, "it was never well for long enough");
}

#[test]
fn a_node_that_comes_late_is_told_and_follows() {
    let mut scene = Scene::of(2);
    scene.failed_over();
    scene.join(3, Puppet { primary: Down, ..Puppet::default() });
    assert_eq!(scene.pass(1.0), none());
    assert_eq!(scene.status().nodes_on_backup, 3);
}

#[test]
fn what_a_lone_node_did_is_adopted() {
    let mut scene = Scene::of(1);
    scene.flee(1);
    assert_eq!(scene.pass(0.5), ["1 backup adopt_local"]);
    scene.pass(1.0);
    assert_eq!((scene.stage(), scene.status().nodes_provisional), (Stage::FailedOver, 0));
}

#[test]
fn what_one_of_many_did_is_adopted_once_the_others_see_it_too() {
    let mut scene = Scene::of(3);
    scene.see(&[1], Down, Up);
    scene.flee(1);
    assert_eq!(scene.pass(20.0), none());
    assert_eq!(scene.status().nodes_provisional, 1);
    scene.see(&[2], Down, Up);
    assert_eq!(scene.pass(1.0), ["1 backup adopt_local"]);
}

#[test]
fn one_of_many_that_nobody_follows_is_sent_back() {
    let mut scene = Scene::of(3);
    scene.see(&[1], Down, Up);
    scene.flee(1);
    assert_eq!(scene.pass(29.0), none(), "the others have time to see what it saw");
    assert_eq!(scene.pass(2.0), ["1 primary initial"]);
    assert_eq!(scene.pass(120.0), none());
    assert_eq!(scene.status().nodes_on_primary, 3);
    scene.flee(1);
    assert_eq!(scene.pass(31.0), ["2 primary quorum_recovered"]);
}

#[test]
fn a_larger_term_of_a_node_is_outgrown() {
    let mut scene = Scene::of(1);
    scene.change(1, |one| {
        (one.state.term, one.state.active, one.state.phase) = (41, Store::Backup, Phase::Backup);
    });
    assert_eq!(scene.pass(1.0), ["42 backup adopt_local"]);
    let mut scene = Scene::of(2);
    scene.change(2, |one| one.state.term = 7);
    assert_eq!(scene.pass(60.0), none(), "it serves what it should");
    scene.see(&[1, 2], Down, Up);
    assert_eq!(scene.pass(1.0), ["8 backup quorum_unhealthy"]);
}

#[test]
fn a_node_that_turned_away_from_a_failover_is_told_under_a_term_that_it_cannot_refuse() {
    let mut scene = Scene::of(3);
    scene.failed_over();
    scene.change(1, |one| {
        (one.state.active, one.state.phase) = (Store::Primary, Phase::Primary);
        one.state.local_term = 1;
    });
    assert_eq!(scene.pass(0.5), ["2 backup adopt_local"]);
    assert_eq!(scene.pass(10.0), none());
    assert_eq!(scene.status().nodes_on_backup, 3);
}
