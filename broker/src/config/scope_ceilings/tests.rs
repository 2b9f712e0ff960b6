use proptest::prelude::*;
use serde_json::json;

use super::*;

fn parse(text: &str) -> Result<ScopeCeilings, String> {
    ScopeCeilings::parse(text.as_bytes()).map_err(|error| error.to_string())
}

fn of(tenancy: &str, ceilings: &serde_json::Value) -> ScopeCeilings {
    parse(&json!({"tenancy": tenancy, "scopeCeilings": ceilings}).to_string()).unwrap()
}

fn strings(scopes: &[&str]) -> Vec<String> {
    scopes.iter().map(|scope| (*scope).to_owned()).collect()
}

#[test]
fn a_bad_file_is_refused_by_entry_problem_and_remedy() {
    let many = |count: usize| json!(vec!["read:orders:1"; count]).to_string();
    let entry = |name: &str, scopes: &str| format!(r#"{{"tenancy":"open","scopeCeilings":{{"{name}":{scopes}}}}}"#);
    let long = format!(r#"["a:b:{}"]"#, "x".repeat(253));
    let table = [
        (String::new(), "must be JSON such as"),
        ("[]".to_owned(), "must be JSON such as"),
        (r#"{"tenancy":"open"}"#.to_owned(), "missing field `scopeCeilings`"),
        (r#"{"scopeCeilings":{}}"#.to_owned(), "missing field `tenancy`"),
        (
            r#"{"tenancy":"closed","scopeCeilings":{}}"#.to_owned(),
            "expected `open` or `strict`",
        ),
        (
            r#"{"tenancy":"open","scopeCeilings":{},"more":1}"#.to_owned(),
            "unknown field `more`",
        ),
        (entry("shop", r#""read:orders:*""#), "scopeCeilings.shop: invalid type"),
        (entry("shop", "[7]"), "scopeCeilings.shop: invalid type"),
        (
            entry("Shop", "[]"),
            "scopeCeilings.Shop must be the name of a namespace",
        ),
        (
            entry("shop", r#"["read:orders"]"#),
            "scopeCeilings.shop: scope \"read:orders\" is not of the form",
        ),
        (
            entry("shop", r#"["admin:x:y"]"#),
            "scopeCeilings.shop: scope \"admin:x:y\" is reserved",
        ),
        (
            entry("shop", &many(257)),
            "scopeCeilings.shop has 257 scopes: at most 256",
        ),
        (
            entry("shop", &long),
            "scopeCeilings.shop[0] is 257 bytes long: at most 256",
        ),
        (
            r#"{"tenancy":"open","scopeCeilings":{"a":["a:b:c"],"a":["d:e:f"]}}"#.to_owned(),
            "scopeCeilings.a is there twice",
        ),
    ];
    for (text, wanted) in table {
        let error = parse(&text).expect_err(&text);
        assert!(error.contains(wanted), "{error} for {text}");
    }
    assert!(parse(&entry("shop", &many(256))).is_ok());
}

#[test]
fn the_file_and_its_namespaces_are_bounded() {
    let names = |count: usize| -> String {
        let all: serde_json::Map<String, serde_json::Value> =
            (0..count).map(|number| (format!("n{number}"), json!([]))).collect();
        json!({"tenancy": "open", "scopeCeilings": all}).to_string()
    };
    assert!(parse(&names(MAX_NAMESPACES)).is_ok());
    assert!(parse(&names(MAX_NAMESPACES + 1)).unwrap_err().contains("at most 4096"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ceilings.json");
    let text = r#"{"tenancy":"open","scopeCeilings":{}}"#;
    for (bytes, fits) in [(1024 * 1024, true), (1024 * 1024 + 1, false)] {
        std::fs::write(&path, format!("{text}{}", " ".repeat(bytes - text.len()))).unwrap();
        assert_eq!(ScopeCeilings::read(&path).is_ok(), fits, "{bytes}");
    }
    let missing = ScopeCeilings::read(&folder.path().join("none")).unwrap_err();
    assert!(missing.to_string().starts_with("can't be read: "), "{missing}");
}

#[test]
fn a_bad_file_of_ceilings_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ceilings.json");
    let name = path.to_str().unwrap();
    let load = |name: &str| {
        crate::config::Config::load(&|setting| match setting {
            "AA_ADMIN_AUTH" => Some("off".to_owned()),
            "AA_SCOPE_CEILINGS_PATH" => Some(name.to_owned()),
            _ => None,
        })
    };
    let missing = load(name).unwrap_err().join("; ");
    assert!(
        missing.starts_with("AA_SCOPE_CEILINGS_PATH=") && missing.contains("can't be read"),
        "{missing}"
    );
    std::fs::write(
        &path,
        r#"{"tenancy":"strict","scopeCeilings":{"shop":["read:orders"]}}"#,
    )
    .unwrap();
    let bad = load(name).unwrap_err().join("; ");
    assert!(bad.contains(name) && bad.contains("scopeCeilings.shop: scope"), "{bad}");
    std::fs::write(
        &path,
        r#"{"tenancy":"strict","scopeCeilings":{"shop":["read:orders:*"]}}"#,
    )
    .unwrap();
    assert!(load(name).unwrap().scope_ceilings.of("bank").forbids_all());
    assert_eq!(load("").unwrap().scope_ceilings.of("bank"), Ceiling::Open);
}

#[test]
fn a_namespace_has_what_is_listed_or_what_tenancy_says() {
    let ceilings = json!({"shop": ["read:orders:*"], "mute": []});
    let (open, strict) = (of("open", &ceilings), of("strict", &ceilings));
    let inside = strings(&["read:orders:1", "read:orders:*"]);
    let outside = strings(&["read:orders:1", "write:orders:1", "nonsense"]);
    for both in [&open, &strict] {
        assert!(both.of("shop").allows(&inside));
        assert_eq!(both.of("shop").beyond(&outside), ["write:orders:1", "nonsense"]);
        assert!(!both.of("mute").allows(&inside) && both.of("mute").forbids_all());
        assert!(!both.of("mute").allows(&[]), "not even an identity");
    }
    assert!(open.of("bank").allows(&outside) && !open.of("bank").forbids_all());
    assert!(!strict.of("bank").allows(&[]) && strict.of("bank").forbids_all());
    assert_eq!(strict.of("bank").beyond(&inside).len(), 2);
    assert!(ScopeCeilings::default().of("bank").allows(&outside));
}

#[test]
fn agents_that_are_of_no_namespace_have_no_ceiling() {
    let strict = of("strict", &json!({"shop": ["read:orders:*"]}));
    let listed = strict.of("shop");
    assert_eq!(strict.of_agent("spiffe://a.b/agent/k8s.shop.orders/pod-1/x"), listed);
    assert_eq!(
        strict.of_agent("spiffe://a.b/agent/k8s.bank.orders/pod-1/x"),
        Ceiling::Unlisted
    );
    for other in ["spiffe://a.b/agent/mine/task/x", "", "admin"] {
        assert_eq!(strict.of_agent(other), Ceiling::Open, "{other}");
    }
}

#[test]
fn the_sentence_names_scopes_ceiling_and_value() {
    let strict = of("strict", &json!({"shop": ["read:orders:*"]}));
    let listed = strict.of("shop").sentence("shop", &["write:orders:1"]);
    for part in ["write:orders:1", "[read:orders:*]", "scopeCeilings.shop"] {
        assert!(listed.contains(part), "{listed}");
    }
    let unlisted = strict.of("bank").sentence("bank", &["write:orders:1"]);
    for part in ["write:orders:1", "tenancy is strict", "scopeCeilings.bank"] {
        assert!(unlisted.contains(part), "{unlisted}");
    }
}

#[test]
fn the_digest_tells_ceilings_apart_and_none_has_none() {
    let shop = |tenancy| of(tenancy, &json!({"shop": ["read:orders:*"]}));
    assert_eq!(of("open", &json!({})).digest(), "");
    assert_eq!(of("open", &json!({})), ScopeCeilings::default());
    assert_eq!(shop("open").digest(), shop("open").digest());
    let all = [
        shop("open"),
        shop("strict"),
        of("strict", &json!({})),
        of("open", &json!({"shop": []})),
        of("open", &json!({"shop": ["read:orders:1"]})),
    ];
    let distinct: std::collections::BTreeSet<&str> = all.iter().map(ScopeCeilings::digest).collect();
    assert_eq!(distinct.len(), all.len());
}

proptest! {
    #[test]
    fn what_a_ceiling_allows_it_covers(
        held in proptest::collection::vec("[ab]:[ab]:([ab*]{1,2})", 0..6),
        asked in proptest::collection::vec("[ab]:[ab]:([ab*]{1,2})", 0..6),
    ) {
        let ceiling = of("open", &json!({"shop": held})).of("shop");
        let covers = ScopeSet::parse(&held).unwrap().covers_all(&ScopeSet::parse(&asked).unwrap());
        prop_assert_eq!(ceiling.allows(&asked), covers && !held.is_empty());
    }
}
