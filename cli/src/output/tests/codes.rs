use crate::output::codes::{Found, page, report, troubleshooting};
use std::{env, fs, path::Path};

fn text(word: &str, columns: Option<usize>) -> String {
    page(&Found::of(word).unwrap(), columns).paint(false)
}

#[test]
fn a_code_is_explained_by_number_word_and_kind() {
    insta::assert_snapshot!(text("-33004", Some(80)));
    assert_eq!(text("-33004", None), text("upstream_read_only", None));
    assert_eq!(
        text("-33004", None),
        text("read-only", None),
        "as in metrics, whatever stands between the words"
    );
    assert!(text("unknown_resource", None).contains("-32002"), "each code that it may end in");
    assert!(Found::of("-1").is_none() && Found::of("weather").is_none() && Found::of("").is_none());
}

#[test]
fn a_rule_is_explained_by_its_id() {
    insta::assert_snapshot!(text("prefix-clash", Some(80)));
    assert!(text("no-upstreams", None).contains("a warning of the configuration"));
}

#[test]
fn the_shape_of_an_explanation_is_stable() {
    let json = |word| crate::output::json::pretty(&report(&Found::of(word).unwrap()));
    insta::assert_snapshot!(json("-33004"));
    insta::assert_snapshot!(json("prefix-clash"));
}

/// Between these lines the page belongs to the table of codes.
const BEGIN: &str = "<!-- generated from proto/src/codes.rs and proto/src/manifest/rules.rs -->\n";
const END: &str = "<!-- end of what is generated -->\n";

#[test]
fn the_page_of_troubleshooting_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/troubleshooting.md");
    let found = fs::read_to_string(&path).expect("docs/troubleshooting.md is there");
    let (before, rest) = found.split_once(BEGIN).expect("it says where the generated part begins");
    let (_, after) = rest.split_once(END).expect("and where it ends");
    let page = format!("{before}{BEGIN}\n{}\n{END}{after}", troubleshooting());
    if env::var_os("O1_BLESS").is_some() {
        fs::write(&path, &page).expect("docs/ is writable");
        return;
    }
    assert!(
        found == page,
        "docs/troubleshooting.md is out of date: run `O1_BLESS=1 cargo test -p o1ctl codes`"
    );
}
