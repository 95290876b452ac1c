//! The blocks of commands in a page, and what the page says of them to the test alone. A block that could slip past the test
//! by the way it is written is refused.

use super::Wrong;

const FENCE: &str = "```";
const LANGUAGE: &str = "console";
/// Commands in these would not be seen.
const OTHER_SHELLS: [&str; 4] = ["bash", "sh", "shell", "zsh"];
const MARK: &str = "<!-- docs-test:";
const MARK_END: &str = "-->";

/// A ```` ```console ```` block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Block {
    /// Of its first line in the page, from 1.
    pub line: usize,
    pub lines: Vec<String>,
    pub marks: Marks,
}

/// What comments before a block say of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Why it is not run.
    pub not_run: Option<String>,
    /// Its commands look at something that changes by itself: they are asked again until they say what is written.
    pub settles: bool,
    /// What each of its commands exits with.
    pub exits: i32,
}

/// Where the reader of a page is.
enum Place {
    Text,
    OtherBlock,
    Console(Block),
}

/// All blocks of a page, in order.
pub fn blocks(page: &str) -> Result<Vec<Block>, Wrong> {
    let mut blocks = Vec::new();
    let mut place = Place::Text;
    let mut marks: Option<(usize, Marks)> = None;
    for (number, line) in (1..).zip(page.lines()) {
        place = match (place, line.trim_end().strip_prefix(FENCE)) {
            (Place::Console(block), Some("")) => {
                blocks.push(block);
                Place::Text
            }
            (Place::OtherBlock, Some("")) => Place::Text,
            (Place::Console(mut block), _) => {
                block.lines.push(line.to_owned());
                Place::Console(block)
            }
            (Place::OtherBlock, _) => Place::OtherBlock,
            (Place::Text, Some(LANGUAGE)) => {
                let marks = marks.take().map(|(_, marks)| marks).unwrap_or_default();
                Place::Console(Block { line: number + 1, lines: Vec::new(), marks })
            }
            (Place::Text, Some(language)) if OTHER_SHELLS.contains(&language) || language.starts_with(LANGUAGE) => {
                return Err(Wrong::new(number, format!("commands are in ```{LANGUAGE} blocks, not in ```{language}")));
            }
            (Place::Text, Some(_)) => {
                belongs_to_a_block(marks.as_ref())?;
                Place::OtherBlock
            }
            (Place::Text, None) => {
                text(number, line.trim(), &mut marks)?;
                Place::Text
            }
        };
    }
    belongs_to_a_block(marks.as_ref())?;
    match place {
        Place::Text => Ok(blocks),
        Place::Console(block) => Err(Wrong::new(block.line, "the block does not end")),
        Place::OtherBlock => Err(Wrong::new(page.lines().count(), "a block does not end")),
    }
}

/// A line outside of blocks: marks gather until their block begins.
fn text(number: usize, line: &str, marks: &mut Option<(usize, Marks)>) -> Result<(), Wrong> {
    if line.is_empty() {
        return Ok(());
    }
    if line.starts_with(FENCE) {
        return Err(Wrong::new(number, "a block in the midst of a line, or indented, is not seen by the test"));
    }
    let Some(said) = line.strip_prefix(MARK) else {
        return belongs_to_a_block(marks.as_ref());
    };
    let Some(said) = said.strip_suffix(MARK_END) else {
        return Err(Wrong::new(number, format!("a mark is one line and ends with {MARK_END}")));
    };
    let (_, marks) = marks.get_or_insert_with(|| (number, Marks::default()));
    match said.trim().split_once(' ').unwrap_or((said.trim(), "")) {
        ("settles", "") => marks.settles = true,
        ("exits", code) => match code.parse() {
            Ok(code) => marks.exits = code,
            Err(_no_number) => return Err(Wrong::new(number, format!("{code:?} is no exit code"))),
        },
        ("not", why) if why.starts_with("run: ") => marks.not_run = Some(why["run: ".len()..].to_owned()),
        _ => {
            return Err(Wrong::new(
                number,
                format!("no mark {:?}; there are: not run: WHY, settles, exits N", said.trim()),
            ));
        }
    }
    Ok(())
}

fn belongs_to_a_block(marks: Option<&(usize, Marks)>) -> Result<(), Wrong> {
    match marks {
        Some((line, _)) => Err(Wrong::new(*line, format!("no ```{LANGUAGE} block follows this mark"))),
        None => Ok(()),
    }
}

/// What stands between single backquotes outside of blocks, with its line.
pub fn spans(page: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut is_block = false;
    for (number, line) in (1..).zip(page.lines()) {
        if line.starts_with(FENCE) {
            is_block = !is_block;
        } else if !is_block {
            let odd = line.split('`').skip(1).step_by(2);
            found.extend(odd.map(|span| (number, span.to_owned())));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_its_line_and_the_marks_before_it() {
        let page = "# T\n<!-- docs-test: settles -->\n<!-- docs-test: exits 2 -->\n\n```console\n$ a\nb\n```\n```yaml\n$ c\n```\n\
                    <!-- docs-test: not run: it pushes -->\n```console\n$ d\n```\n";
        let found = blocks(page).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].line, found[0].lines.join("|").as_str()), (6, "$ a|b"));
        assert_eq!(found[0].marks, Marks { not_run: None, settles: true, exits: 2 });
        assert_eq!(found[1].marks.not_run.as_deref(), Some("it pushes"));
    }

    #[test]
    fn what_would_slip_past_the_test_is_refused_with_its_line() {
        for (page, line, word) in [
            ("```bash\n$ a\n```\n", 1, "console"),
            ("```console title\n$ a\n```\n", 1, "console"),
            ("- x\n  ```console\n  $ a\n  ```\n", 2, "indented"),
            ("```console\n$ a\n", 2, "does not end"),
            ("<!-- docs-test: settles -->\ntext\n", 1, "follows"),
            ("<!-- docs-test: settles -->\n```yaml\n```\n", 1, "follows"),
            ("<!-- docs-test: settles -->\n", 1, "follows"),
            ("<!-- docs-test: exits two -->\n", 1, "exit code"),
            ("<!-- docs-test: skip -->\n", 1, "no mark"),
            ("<!-- docs-test: not run -->\n", 1, "no mark"),
            ("<!-- docs-test: settles\n", 1, "one line"),
        ] {
            let wrong = blocks(page).unwrap_err();
            assert!(wrong.line == line && wrong.what.contains(word), "{page:?}: {wrong}");
        }
    }

    #[test]
    fn spans_are_those_outside_of_blocks() {
        assert_eq!(spans("a `b c` d `e`\n```\n`f`\n```\n`g`"), [(1, "b c".into()), (1, "e".into()), (5, "g".into())]);
    }
}
