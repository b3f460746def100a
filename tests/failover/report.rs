//! The table of `docs/failover.md`: what was seen of each fault, in one run on one machine.

use crate::figures::Figures;
use o1_tests::binaries::{root, target_dir};
use std::{fs, io::Write as _};

/// Adds a row; the page is made of all of them by `./tests/run failover`.
pub fn add(figures: &Figures) {
    println!("{}", figures.row());
    if std::env::var_os("O1_REPORT").is_none() {
        return;
    }
    let file = target_dir().join("failover.rows");
    let mut rows = fs::OpenOptions::new().create(true).append(true).open(file).expect("target is ours");
    writeln!(rows, "{}", figures.row()).expect("target is ours");
    page();
}

const BEGIN: &str = "<!-- figures -->\n";
const END: &str = "<!-- end of figures -->";

fn page() {
    let path = root().join("docs/failover.md");
    let page = fs::read_to_string(&path).expect("there is a page");
    let rows = fs::read_to_string(target_dir().join("failover.rows")).unwrap_or_default();
    let (before, rest) = page.split_once(BEGIN).expect("the page has a place for figures");
    let (_, after) = rest.split_once(END).expect("and an end of it");
    let head = "| fault | reads failed | longest gap | failed over after | restored after | acked | lost | twice | failovers | synced back |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
    fs::write(path, format!("{before}{BEGIN}{head}{rows}{END}{after}")).expect("the page can be written");
}
