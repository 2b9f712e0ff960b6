//! The shell blocks of the documents that a test runs, as `scripts/docs-commands.json` lists them.
//!
//! The list is the only one: a test asks for its blocks with `blocks_of(file!())` and runs all of them, and
//! `scripts/docs-commands.py` takes for run what stands there.

use serde::Deserialize;
use serde_json::Value;

const REPO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const LIST: &str = "scripts/docs-commands.json";

#[derive(Deserialize)]
struct List {
    run: Vec<Value>,
}

/// One shell block, and how its test runs it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// The page, from the root of the repository.
    pub page: String,
    /// The first line of the block that is no comment.
    pub first: String,
    /// The test's file, from the root of the repository.
    pub test: String,
    /// Words that must be in what the block prints.
    #[serde(default)]
    pub prints: Vec<String>,
    /// The block doesn't end by itself: the test goes on when it has printed these words.
    #[serde(default)]
    pub until: Option<String>,
    /// Words that the test leaves out of the block.
    #[serde(default)]
    pub without: Option<String>,
    /// Words that the test adds at the end of the block.
    #[serde(default)]
    pub append: Option<String>,
    /// Why the block isn't run exactly as it is written.
    #[serde(default)]
    pub why: Option<String>,
    /// The commands, from the page, with `without` and `append` applied.
    #[serde(skip)]
    pub text: String,
}

impl Block {
    /// Where a reader finds it.
    pub fn place(&self) -> String {
        format!("{}: {:?}", self.page, self.first)
    }

    fn with_text_of(mut self, page: &str) -> Result<Self, String> {
        let fail = |what: &str| Err(format!("{}: {what}", self.place()));
        let mut text = match &shell_blocks(page, &self.first)[..] {
            [text] => text.clone(),
            [] => return fail("no shell block begins with this command"),
            _ => return fail("more than one shell block begins with this command"),
        };
        if let Some(without) = &self.without {
            if !text.contains(without.as_str()) {
                return fail(&format!("{without:?} is not in it, and can't be left out"));
            }
            text = text.replace(without, "");
        }
        if let Some(append) = &self.append {
            text = format!("{} {append}", text.trim_end());
        }
        self.text = text;
        Ok(self)
    }
}

/// The blocks that the list gives to a test, in the order of the list.
///
/// # Errors
///
/// When the list or a page can't be read, a listed block is not in its page, or the test has none.
pub fn blocks_of(test: &str) -> Result<Vec<Block>, String> {
    let read =
        |path: &str| std::fs::read_to_string(format!("{REPO}/{path}")).map_err(|error| format!("{path}: {error}"));
    let list: List = serde_json::from_str(&read(LIST)?).map_err(|error| format!("{LIST}: {error}"))?;
    let mine = list
        .run
        .into_iter()
        .filter(|entry| entry.get("test").is_some_and(|of| of == test));
    let blocks = mine
        .map(|entry| {
            let block: Block = serde_json::from_value(entry).map_err(|error| format!("{LIST}, {test}: {error}"))?;
            let page = read(&block.page)?;
            block.with_text_of(&page)
        })
        .collect::<Result<Vec<_>, _>>()?;
    if blocks.is_empty() {
        return Err(format!("{LIST} lists no block that {test} runs"));
    }
    Ok(blocks)
}

/// The shell blocks of a page whose first command is `first`.
fn shell_blocks(page: &str, first: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside: Option<Vec<&str>> = None;
    for line in page.lines() {
        match (&mut inside, line.trim()) {
            (None, "```sh" | "```bash" | "```shell" | "```console") => inside = Some(Vec::new()),
            (None, _) => {}
            (Some(_), "```") => {
                let lines = inside.take().unwrap_or_default();
                if first_command(&lines) == Some(first) {
                    found.push(lines.join("\n"));
                }
            }
            (Some(lines), _) => lines.push(line),
        }
    }
    found
}

fn first_command<'a>(lines: &[&'a str]) -> Option<&'a str> {
    let mut lines = lines.iter().map(|line| line.trim());
    lines.find(|line| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Page\n\n```sh\n# told\nmake one\nmake two\n```\n\n```yaml\nmake: three\n```\n\n1. Step:\n\n   \
                        ```sh\n   drain NODE -it\n   ```\n\n```sh\ntwice\n```\n\n```sh\ntwice\n```\n";

    fn block(first: &str) -> Block {
        let entry = serde_json::json!({"page": "page.md", "first": first, "test": "t.rs"});
        serde_json::from_value(entry).unwrap()
    }

    #[test]
    fn a_block_is_found_by_its_first_command() {
        let found = block("make one").with_text_of(PAGE).unwrap();
        assert_eq!(found.text, "# told\nmake one\nmake two");
        let indented = block("drain NODE -it").with_text_of(PAGE).unwrap();
        assert_eq!(indented.text.trim(), "drain NODE -it");
    }

    #[test]
    fn a_block_is_changed_only_as_listed() {
        let mut listed = block("drain NODE -it");
        listed.without = Some(" -it".to_owned());
        listed.append = Some("--dry-run=server".to_owned());
        let found = listed.clone().with_text_of(PAGE).unwrap();
        assert_eq!(found.text.trim(), "drain NODE --dry-run=server");
        listed.without = Some("--tty".to_owned());
        let error = listed.with_text_of(PAGE).unwrap_err();
        assert!(error.contains("\"--tty\" is not in it"), "{error}");
    }

    #[test]
    fn a_block_that_is_missing_or_unclear_is_an_error() {
        for (first, problem) in [
            ("make two", "no shell block begins"),
            ("make: three", "no shell block begins"),
            ("twice", "more than one shell block begins"),
        ] {
            let error = block(first).with_text_of(PAGE).unwrap_err();
            assert!(error.contains(problem), "{first}: {error}");
        }
    }

    #[test]
    fn a_test_without_blocks_is_an_error() {
        let error = blocks_of("tests/none.rs").unwrap_err();
        assert!(error.contains("lists no block"), "{error}");
    }
}
