//! What keeps things from following by themselves.

use super::*;
use o1_proto::model::DecisionState;

#[test]
fn missing_data_decides_nothing() {
    let mut scene = Scene::of(3);
    for node in 1..=3 {
        scene.change(node, |one| one.talks = false);
    }
    assert_eq!(scene.pass(300.0), none());
    let status = scene.status();
    assert_eq!((status.observers, status.primary), (0, Unknown));
    // Two of three see it down, and the third is silent: it may be the one that sees it.
    for node in 1..=2 {
        scene.change(node, |one| one.talks = true);
    }
    scene.see(&[1, 2], Down, Up);
    assert_eq!(scene.pass(60.0), none());
    scene.away(3);
    assert_eq!(scene.pass(1.0), ["1 backup quorum_unhealthy"], "it is not there to see anything");
}

#[test]
fn an_old_view_does_not_bring_the_primary_back() {
    let mut scene = Scene::of(1);
    scene.failed_over();
    scene.pass(60.0);
    scene.see(&[1], Up, Up);
    scene.change(1, |one| one.talks = false);
    scene.pass(29.0);
    assert_eq!(scene.pass(300.0), none());
    scene.change(1, |one| one.talks = true);
    assert_eq!(scene.pass(31.0), ["2 primary quorum_recovered"]);
}

#[test]
fn whoever_suspects_himself_or_drains_is_not_asked() {
    let drain: fn(&mut Scene) = |scene| {
        scene.decisions.place(key(3), "n3", Presence::Draining, scene.now);
    };
    let suspect: fn(&mut Scene) = |scene| scene.change(3, |one| one.suspect = true);
    for excuse in [drain, suspect] {
        let mut scene = Scene::of(3);
        scene.see(&[3], Down, Up);
        excuse(&mut scene);
        assert_eq!(scene.pass(5.0), none());
        assert_eq!((scene.status().observers, scene.status().observers_unhealthy), (2, 0));
        scene.see(&[1, 2], Down, Up);
        assert_eq!(scene.pass(1.0), ["1 backup quorum_unhealthy"], "the other two are enough");
    }
}

#[test]
fn a_backup_that_most_see_broken_is_never_ordered_by_itself() {
    for (broken, over) in [(&[1, 2][..], false), (&[1][..], true), (&[1, 2, 3][..], false)] {
        let mut scene = Scene::of(3);
        scene.see(&[1, 2, 3], Down, Up);
        scene.see(broken, Down, Down);
        assert_eq!(!scene.pass(60.0).is_empty(), over, "{broken:?}");
    }
    let mut scene = Scene::of(1);
    scene.see(&[1], Down, Down);
    scene.flee(1);
    assert_eq!(scene.pass(60.0), none(), "not even if a node is there already");
}

#[test]
fn a_new_process_waits_for_the_nodes_that_were_there() {
    let mut scene = Scene::of(3);
    scene.restart(5, &[1, 2, 3]);
    assert_eq!(scene.decisions.state(), DecisionState::WarmingUp);
    assert!(scene.decisions.because().contains("n1, n2, n3"), "{}", scene.decisions.because());
    let all = Puppet { primary: Down, ..Puppet::default() };
    scene.join(1, all.clone());
    scene.nodes.retain(|node, _| *node == 1);
    assert_eq!(scene.pass(29.0), none());
    assert_eq!(scene.pass(2.0), ["1 backup quorum_unhealthy"], "it has waited for long enough");
    scene.restart(5, &[1]);
    scene.rejoin();
    scene.pass(0.5);
    assert_eq!(scene.decisions.state(), DecisionState::Active, "everybody is back");
    scene.restart(5, &[]);
    assert_eq!(scene.decisions.state(), DecisionState::Active, "nobody was ever there");
}

#[test]
fn a_node_that_is_back_and_has_not_said_what_it_sees_is_waited_for() {
    let mut scene = Scene::of(1);
    scene.restart(1, &[1]);
    scene.join(1, Puppet { talks: false, ..Puppet::default() });
    scene.pass(10.0);
    assert_eq!(scene.decisions.state(), DecisionState::WarmingUp);
    scene.change(1, |one| one.talks = true);
    scene.pass(0.5);
    assert_eq!(scene.decisions.state(), DecisionState::Active);
}

#[test]
fn decisions_freeze_when_most_nodes_are_gone_or_suspect_themselves() {
    // Nodes; those that go away; those that suspect themselves; frozen.
    let cases: [(u8, u8, u8, bool); 7] = [
        (3, 2, 0, false),
        (4, 2, 0, false),
        (4, 3, 0, true),
        (9, 5, 0, true),
        (3, 0, 3, false),
        (4, 0, 3, true),
        (9, 0, 4, false),
    ];
    for (nodes, away, suspect, frozen) in cases {
        let mut scene = Scene::of(nodes);
        scene.pass(1.0);
        (1..=away).for_each(|node| scene.away(node));
        (1..=suspect).for_each(|node| scene.change(node, |one| one.suspect = true));
        scene.pass(0.5);
        let found = scene.decisions.state() == DecisionState::Frozen;
        assert_eq!(found, frozen, "{away} away and {suspect} suspect of {nodes}");
        if frozen && away > 0 {
            let rest: Vec<u8> = scene.nodes.keys().copied().collect();
            scene.see(&rest, Down, Up);
            assert_eq!(scene.pass(60.0), none());
            // Whoever is away for long is not missed any more.
            assert_eq!(scene.pass(600.0), ["1 backup quorum_unhealthy"]);
        }
    }
}

#[test]
fn nodes_that_were_away_before_this_process_began_are_not_missed() {
    let mut scene = Scene::of(2);
    for node in 3..=9 {
        scene.decisions.place(key(node), "gone", Presence::Away, scene.now);
    }
    scene.see(&[1, 2], Down, Up);
    assert_eq!(scene.pass(1.0), ["1 backup quorum_unhealthy"]);
}

#[test]
fn maintenance_freezes_everything_but_orders_and_ends_by_itself() {
    let mut scene = Scene::of(1);
    scene.maintenance(true, Some(100));
    scene.see(&[1], Down, Up);
    assert_eq!(scene.pass(99.0), none());
    assert_eq!(scene.decisions.state(), DecisionState::Maintenance);
    assert_eq!(scene.order(Store::Backup).unwrap().term, 1);
    scene.pass(0.5);
    assert_eq!(scene.status().nodes_on_backup, 1);
    scene.see(&[1], Up, Up);
    assert_eq!(scene.pass(70.0), ["2 primary quorum_recovered"]);
    scene.maintenance(true, None);
    scene.see(&[1], Down, Up);
    assert_eq!(scene.pass(1000.0), none());
    scene.maintenance(false, None);
    assert_eq!(scene.pass(1.0), ["3 backup quorum_unhealthy"]);
}

#[test]
fn a_shadow_says_what_it_would_do_and_tells_nobody() {
    let mut scene = Scene::with(3, Kept::default(), Vec::new(), true);
    scene.see(&[1, 2, 3], Down, Up);
    assert_eq!(scene.pass(30.0), ["shadow 1 backup quorum_unhealthy"], "once");
    assert!(scene.decisions.directives().is_empty() && scene.disk.is_empty());
    scene.see(&[1, 2, 3], Up, Up);
    assert_eq!(scene.pass(60.0), ["shadow 1 primary quorum_recovered"]);
    assert_eq!(scene.order(Store::Backup).unwrap().term, 1);
    assert_eq!(scene.decisions.directives()[0].target, Store::Backup, "an order is an order");
    scene.pass(0.5);
    assert_eq!(scene.status().nodes_on_backup, 3);
}

#[test]
fn a_pin_keeps_the_store_until_it_expires() {
    let mut scene = Scene::of(1);
    scene.mode(Mode::PinPrimary, Some(100));
    let told = scene.decisions.directives();
    assert_eq!((told[0].term, told[0].target, told[0].pinned), (1, Store::Primary, true));
    scene.see(&[1], Down, Up);
    assert_eq!(scene.pass(99.0), none());
    assert_eq!(scene.pass(2.0), ["2 backup quorum_unhealthy"]);
    assert_eq!(scene.status().mode, Mode::Auto);
    scene.mode(Mode::PinBackup, None);
    scene.see(&[1], Up, Up);
    assert_eq!(scene.pass(1000.0), none());
    scene.mode(Mode::Auto, None);
    assert_eq!(scene.pass(31.0), ["3 primary quorum_recovered"]);
    scene.mode(Mode::PinBackup, None);
    scene.pass(0.5);
    assert_eq!(scene.status().nodes_on_backup, 1, "a pin orders what it pins to");
    assert_eq!(scene.order(Store::Primary), Err(OrderError::Pinned(Store::Backup)));
}

#[test]
fn a_pin_alone_is_kept_and_told_under_the_same_term() {
    let mut scene = Scene::of(1);
    scene.order(Store::Backup).unwrap();
    scene.store_works = false;
    scene.mode(Mode::PinBackup, None);
    let records = scene.decisions.take_change().kept.records;
    assert_eq!((records.len(), records[0].mode), (1, Mode::PinBackup));
    assert!(scene.decisions.kept(&records, scene.now));
    let directives = scene.decisions.directives();
    assert_eq!((directives.len(), directives[0].term, directives[0].pinned), (1, records[0].term, true));
    assert!(!scene.decisions.kept(&records, scene.now), "once is enough");
}

#[test]
fn a_node_that_leaves_the_pinned_primary_is_sent_back() {
    let mut scene = Scene::of(2);
    scene.mode(Mode::PinPrimary, None);
    scene.see(&[1, 2], Down, Up);
    scene.flee(1);
    assert_eq!(scene.pass(50.0), none(), "the pin itself was an order");
    assert_eq!(scene.pass(15.0), ["2 primary manual"]);
    scene.flee(1);
    assert_eq!(scene.pass(50.0), none(), "not over and over");
    assert_eq!(scene.pass(15.0), ["3 primary manual"]);
}

#[test]
fn a_restart_keeps_the_term_the_hold_and_the_flaps() {
    let mut scene = Scene::of(1);
    scene.failed_over();
    scene.pass(20.0);
    scene.restart(10, &[1]);
    scene.rejoin();
    scene.see(&[1], Up, Up);
    let hold = scene.status().hold_until.expect("it runs").duration_since(scene.now.wall).unwrap();
    assert!((26..=30).contains(&hold.as_secs()), "{hold:?}");
    assert_eq!(scene.pass(35.0), ["2 primary quorum_recovered"]);
    scene.restart(10, &[1]);
    scene.rejoin();
    scene.see(&[1], Down, Up);
    assert_eq!(scene.pass(1.5), ["3 backup quorum_unhealthy"]);
    let hold = scene.status().hold_until.expect("it runs").duration_since(scene.now.wall).unwrap();
    assert!((115..=120).contains(&hold.as_secs()), "{hold:?}");
}

#[test]
fn nothing_goes_out_that_is_not_on_disk_and_the_term_is_free_until_it_is() {
    let mut scene = Scene::of(1);
    scene.store_works = false;
    scene.see(&[1], Down, Up);
    assert_eq!(scene.pass(1.0), ["1 backup quorum_unhealthy"]);
    scene.pass(60.0);
    assert!(scene.decisions.directives().is_empty());
    scene.store_works = true;
    scene.pass(1.0);
    assert_eq!(scene.decisions.directives()[0].term, 1);
    assert_eq!(scene.status().nodes_on_backup, 1);
}

#[test]
fn what_is_kept_of_an_upstream_that_has_left_and_come_back_is_not_sent() {
    let mut scene = Scene::of(1);
    scene.store_works = false;
    scene.order(Store::Backup).unwrap();
    let records = scene.decisions.take_change().kept.records;
    scene.decisions.configure(&fleet(&[]), scene.now);
    scene.decisions.configure(&fleet(&[NAME]), scene.now);
    assert!(!scene.decisions.kept(&records, scene.now));
    assert!(scene.decisions.directives().is_empty());
    assert_eq!(scene.order(Store::Backup).unwrap().term, 2);
}

#[test]
fn an_upstream_that_comes_back_does_not_use_a_term_again() {
    let mut scene = Scene::of(1);
    scene.failed_over();
    scene.see(&[1], Up, Up);
    scene.decisions.configure(&fleet(&["other"]), scene.now);
    scene.keep();
    assert!(scene.decisions.directives().is_empty());
    assert_eq!(scene.decisions.status(NAME, scene.now), None);
    let blank = Record { upstream: NAME.to_owned(), term: 1, ..Record::default() };
    assert_eq!(scene.disk[NAME], blank);
    for restart in [false, true] {
        if restart {
            scene.restart(1, &[]);
            scene.rejoin();
        }
        scene.decisions.configure(&fleet(&[NAME]), scene.now);
        assert_eq!((scene.status().term, scene.status().desired), (1, None));
    }
    // The node is still where it was told to be, and that is news now.
    scene.see(&[1], Down, Up);
    assert_eq!(scene.pass(1.0), ["2 backup adopt_local"]);
}
