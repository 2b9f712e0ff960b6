//! Scope grammar, covering, SPIFFE ids and app names.

use agentwrit_broker::parsers::parse_scope;
use agentwrit_protocol::apps::AppName;
use agentwrit_protocol::{Scope, ScopeSet, SpiffeId};

/// Every line is a text that may be a scope, an id or a name.
pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let lines: Vec<&str> = text.split('\n').collect();
    for line in &lines {
        scope(line);
        spiffe_id(line);
        if let Ok(name) = line.parse::<AppName>() {
            assert_eq!(name.as_str(), *line);
            assert!((1..=3).contains(&name.abbreviation().len()), "{line:?}");
        }
    }
    covering(&lines);
}

fn scope(text: &str) {
    let Ok(scope) = text.parse::<Scope>() else {
        let parts: Vec<&str> = text.splitn(3, ':').collect();
        assert!(
            parts.len() < 3 || parts.iter().any(|part| part.is_empty()),
            "{text:?} is a scope"
        );
        assert!(
            parse_scope(text).is_none(),
            "{text:?}: policies take more than the grammar"
        );
        return;
    };
    assert_eq!(scope.as_str(), text);
    let parts = [scope.action(), scope.resource(), scope.identifier()];
    assert!(parts.iter().all(|part| !part.is_empty()));
    assert_eq!(parts.join(":"), text);
    assert!(scope.covers(&scope));
    assert_eq!(
        scope.is_reserved(),
        text.starts_with("admin:") || text.starts_with("app:")
    );
}

/// Covering is transitive, and a set covers what one of its members covers.
fn covering(lines: &[&str]) {
    let scopes: Vec<Scope> = lines.iter().take(8).filter_map(|line| line.parse().ok()).collect();
    let set: ScopeSet = scopes.iter().cloned().collect();
    assert!(set.covers_all(&set));
    for a in &scopes {
        for b in &scopes {
            if a.covers(b) {
                assert!((a.action(), a.resource()) == (b.action(), b.resource()));
                assert!(a == b || a.identifier() == "*");
                for c in scopes.iter().filter(|c| b.covers(c)) {
                    assert!(a.covers(c), "{a} covers {b} covers {c}");
                }
            }
        }
    }
}

fn spiffe_id(text: &str) {
    if let Ok(id) = SpiffeId::parse(text) {
        assert_eq!(id.as_str(), text);
        assert!(text.starts_with("spiffe://") && text.len() <= 2048);
    }
    let mut parts = text.splitn(2, ' ');
    let (orch, task) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if let Ok(id) = SpiffeId::agent("agentwrit.local", &orch.into(), &task.into(), "4f2a9c071be6d853") {
        assert_eq!((id.orch_id(), id.task_id()), (orch, task));
        assert_eq!(SpiffeId::parse(id.as_str()).unwrap(), id);
    }
}
