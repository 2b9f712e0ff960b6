"""Names of the items in a Rust file, as far as documents name them: `name`, `Type::member`, `From<Error>`.

It reads words and braces, not Rust: enough for formatted files, and quick.
"""

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

# Comments, strings and characters, whose braces and words are not code. A lifetime is not matched: it has no second quote.
NO_CODE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|b?r(?P<hashes>\#*)".*?"(?P=hashes)|b?"(?:\\.|[^"\\])*"|b?'(?:\\(?:x..|u\{\w+\}|.)|[^'\\])'""",
    re.DOTALL,
)
TESTS = re.compile(r"#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([^)]*\))? )?(?:mod|impl|fn|use)\b[^;{]*(?P<end>[;{])")
ITEM = re.compile(r"(?<!['\w])(?:fn|const(?! fn\b)|static|struct|enum|union|trait|type|macro_rules!)\s+(?:mut\s+)?(?P<name>[A-Za-z]\w*)")
# What the table `settings!` makes a constant of.
MADE = re.compile(r"^ {4}(?P<name>[A-Z][A-Z0-9_]+) = +,", re.MULTILINE)
BLOCK = re.compile(r"^[ \t]*(?:pub(?:\([^)]*\))? )?(?:unsafe )?(?P<kind>impl|trait|enum)\b(?P<head>[^;{]*)\{", re.MULTILINE)
VARIANT = re.compile(r"[\s#]*(?P<name>[A-Z]\w*)")


@dataclass
class Items:
    """What a file has: items that stand alone, members of types and traits, and what `From` is there for."""

    free: set[str] = field(default_factory=set)
    members: dict[str, set[str]] = field(default_factory=dict)
    conversions: set[str] = field(default_factory=set)

    def has(self, name: str) -> bool:
        head, _, member = name.partition("::")
        if member:
            return member in self.members.get(head, ())
        return name in self.free or name in self.conversions


def blanked(text: str) -> str:
    return NO_CODE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def end_of_block(code: str, opening: int) -> int:
    depth = 0
    for found in re.compile(r"[{}]").finditer(code, opening):
        depth += 1 if found[0] == "{" else -1
        if depth == 0:
            return found.start()
    return len(code)


def without_tests(code: str) -> str:
    while found := TESTS.search(code):
        end = end_of_block(code, found.start("end")) if found["end"] == "{" else found.end("end")
        code = code[: found.start()] + code[end + 1 :]
    return code


def without_generics(head: str) -> str:
    head = head.replace("->", "  ").replace("=>", "  ")
    while (shorter := re.sub(r"<[^<>]*>", " ", head)) != head:
        head = shorter
    return head


def top_level(body: str) -> str:
    """What stands in no braces or brackets of a body."""
    kept, depth = [], 0
    for character in body:
        if character in "{([":
            depth += 1
        elif character in "})]":
            depth -= 1
        elif depth == 0:
            kept.append(character)
    return "".join(kept)


def items(text: str, *, tests: bool = False) -> Items:
    """The items of a file, with or without those of its tests."""
    code = blanked(text)
    code = code if tests else without_tests(code)
    found = Items()
    inside: set[int] = set()
    for block in BLOCK.finditer(code):
        opening = block.end() - 1
        body = code[opening + 1 : end_of_block(code, opening)]
        head = re.split(r"\bwhere\b", without_generics(block["head"]))[0]
        words = re.findall(r"\w+", re.split(r"\bfor\b", head)[-1] if block["kind"] == "impl" else head)
        if not words:
            continue
        owner = words[0] if block["kind"] != "impl" else words[-1]
        members = found.members.setdefault(owner, set())
        if block["kind"] == "enum":
            members |= {variant["name"] for part in top_level(body).split(",") if (variant := VARIANT.match(part))}
            continue
        if converted := re.search(r"\bFrom<(?:\w+::)*(\w+)", block["head"]):
            found.conversions.add(f"From<{converted[1]}>")
        depth, marks = 0, {item.start(): item for item in ITEM.finditer(body)}
        for at, character in enumerate(body):
            depth += {"{": 1, "}": -1}.get(character, 0)
            if depth == 0 and at in marks:
                members.add(marks[at]["name"])
                inside.add(opening + 1 + at)
    found.free = {item["name"] for item in ITEM.finditer(code) if item.start() not in inside}
    found.free |= {item["name"] for item in MADE.finditer(code)}
    return found


@cache
def of_file(path: Path, *, tests: bool) -> Items:
    return items(path.read_text(), tests=tests) if path.is_file() else Items()


SAMPLE = """
const LIMIT: usize = 3; // fn in_comment() {}
pub const fn alone<'a>(text: &'a str) -> char { const INNER: &str = "} fn in_string() {"; '{' }
#[derive(Debug)]
pub enum Kind { #[error("a, B")] One, Two(u8, u8), Three { inner: Four } }
impl<T: Into<String>> From<crate::Wrong<T>> for Kind { fn from(_: Wrong<T>) -> Self { Self::One } }
#[async_trait]
impl<'a> Command for Kind
where
    for<'b> Self: Fn(&'b str) -> Other,
{
    const RETRIES: u8 = 1;
    async fn run(&self) { fn deeper() {} }
}
#[cfg(test)]
impl Kind { fn for_tests() {} }
#[cfg(test)]
mod tests { fn tested() {} }
pub trait Last { type Output; fn finish(self); }
"""


def selftest() -> list[str]:
    """What is wrong with this module, seen by a sample."""
    there = ["LIMIT", "alone", "INNER", "Kind", "Kind::One", "Kind::Two", "Kind::Three", "From<Wrong>", "Kind::from", "Kind::RETRIES", "Kind::run"]
    there += ["deeper", "Last", "Last::Output", "Last::finish"]
    absent = ["in_comment", "in_string", "run", "from", "RETRIES", "finish", "B", "Kind::B", "Kind::inner", "Kind::Four", "Kind::deeper", "Other::run", "From<Kind>"]
    of_tests = ["tested", "Kind::for_tests"]
    code, all_of_it = items(SAMPLE), items(SAMPLE, tests=True)
    found = [f"rust_items doesn't find {name}" for name in there if not code.has(name)]
    found += [f"rust_items finds {name}" for name in absent + of_tests if code.has(name)]
    return found + [f"rust_items doesn't find {name} of tests" for name in of_tests if not all_of_it.has(name)]
