//! Every input that was ever worth keeping, on any toolchain.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use agentwrit_fuzz_targets::{TARGETS, Target, bodies, finish};

fn crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The most files of a target in its corpus folder; `pick.py` keeps so many.
const LIMIT: usize = 50;

/// The files of a target: seeds, written by hand, and corpus, found by libFuzzer.
fn inputs(target: &Target) -> Vec<PathBuf> {
    let folders = ["seeds", "corpus"].map(|kind| crate_folder().join(kind).join(target.name));
    let mut files: Vec<PathBuf> = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

fn replay(name: &str) {
    let target = TARGETS
        .iter()
        .find(|target| target.name == name)
        .expect("a target of this name");
    let files = inputs(target);
    for kind in ["seeds", "corpus"] {
        let folder = crate_folder().join(kind).join(name);
        assert!(
            files.iter().any(|file| file.starts_with(&folder)),
            "nothing in {}",
            folder.display()
        );
    }
    for file in files {
        // Told only when it fails: which one it was.
        println!("{}", file.display());
        (target.run)(&std::fs::read(&file).unwrap());
    }
    finish();
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name));
            }
        )*

        #[test]
        fn every_target_is_replayed_and_has_a_binary() {
            let here = BTreeSet::from([$(stringify!($name).to_owned()),*]);
            let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
            let binaries: BTreeSet<String> = std::fs::read_dir(crate_folder().join("cargo-fuzz/fuzz_targets"))
                .unwrap()
                .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
                .collect();
            assert_eq!(here, targets);
            assert_eq!(binaries, targets);
        }
    };
}

replays! { audit_query bodies config json jwt policies requests scopes }

/// Git and every test run carry them: `scripts/fuzz.sh merge` keeps those that reach most.
#[test]
fn the_corpus_of_a_target_is_small() {
    for target in TARGETS {
        let folder = crate_folder().join("corpus").join(target.name);
        let count = std::fs::read_dir(&folder).unwrap().count();
        assert!(count <= LIMIT, "{}: {count} files, more than {LIMIT}", folder.display());
    }
}

/// A new endpoint gets its bodies fuzzed too.
#[test]
fn every_documented_endpoint_is_among_the_bodies() {
    let document: serde_json::Value = serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap();
    for (template, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let known = bodies::ENDPOINTS.iter().any(|(given, path, _)| {
                let (wanted, path): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
                given.eq_ignore_ascii_case(method)
                    && wanted.len() == path.len()
                    && wanted
                        .iter()
                        .zip(&path)
                        .all(|(wanted, given)| wanted == given || wanted.starts_with('{'))
            });
            assert!(known, "{method} {template} is not in bodies::ENDPOINTS");
        }
    }
}
