use crate::output::{
    doctor::{Check, Report, State, page, worst},
    json,
};

fn checks() -> Vec<Check> {
    vec![
        Check::ok("programs", "o1ctl 0.1.0"),
        Check::fail(
            "config",
            "only1.yaml is not valid: 2 problems, the first: unknown key `primry`",
            "o1ctl config check only1.yaml says where and what to do",
        ),
        Check::warn(
            "control-plane",
            "nothing listens at http://127.0.0.1:7400: no control plane runs here",
            "`o1ctl up` starts a pair; --control or O1_CONTROL names a control plane elsewhere",
        ),
        Check::ok("ports", "127.0.0.1:8080 is free (clients of the data plane)"),
    ]
}

#[test]
fn each_check_says_how_it_went_and_what_to_do() {
    insta::assert_snapshot!(page(&checks(), Some(80)).paint(false));
    insta::assert_snapshot!(page(&checks(), None).paint(false));
    assert_eq!(worst(&checks()), State::Fail);
    assert_eq!(worst(&checks()[2..]), State::Warn);
}

#[test]
fn the_shape_of_a_check_up_is_stable() {
    insta::assert_snapshot!(json::pretty(&Report { state: State::Warn, checks: &checks()[2..] }));
}

#[test]
fn nothing_to_do_is_said_in_one_line() {
    let all_well = page(&checks()[..1], None).paint(false);
    assert!(all_well.ends_with("\n1 checks, nothing to do\n"), "{all_well}");
}
