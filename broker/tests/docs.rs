//! Reference pages that are generated from the source stay equal to it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write;
use std::path::Path;

use agentwrit_protocol::k8s::DenialKind;

const BEGIN: &str = "<!-- denial-kinds:begin -->\n";
const END: &str = "<!-- denial-kinds:end -->\n";

#[test]
fn the_page_of_refusals_lists_every_kind() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/refusals.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has the begin marker");
    let (_, after) = rest.split_once(END).expect("the page has the end marker");
    let mut table = String::from("| error_kind | answered as | what it means |\n|---|---|---|\n");
    for kind in DenialKind::ALL {
        let (code, text) = (kind.code(), kind.describe());
        writeln!(table, "| `{}` | {} `{code}` | {text} |", kind.as_str(), code.status()).unwrap();
    }
    let wanted = format!("{before}{BEGIN}{table}{END}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap();
    assert!(
        page == wanted,
        "docs/refusals.md differs; run UPDATE_DOCS=1 cargo test -p agentwrit-broker --test docs"
    );
}
