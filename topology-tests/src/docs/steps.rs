//! A block as a row of commands, each with the output that the page shows below it.

use super::markdown::Block;
use super::{Wrong, shell};

const PROMPT: &str = "$ ";

/// A command as a reader types it, of one line or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Of its first line in the page.
    pub line: usize,
    pub command: String,
    /// Empty where the page shows none: then none is looked at.
    pub output: Vec<String>,
}

/// The commands of a block. A line that is neither a command nor below one is refused.
pub fn steps(block: &Block) -> Result<Vec<Step>, Wrong> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = (block.line..).zip(&block.lines);
    while let Some((line, text)) = lines.next() {
        let Some(first) = text.strip_prefix(PROMPT) else {
            let step = steps.last_mut();
            let step = step.ok_or_else(|| Wrong::new(line, format!("a block begins with a command: {PROMPT:?}")))?;
            step.output.push(text.clone());
            continue;
        };
        let mut command = first.to_owned();
        while shell::is_unfinished(&command) {
            let (_, next) = lines.next().ok_or_else(|| Wrong::new(line, "the command does not end with its block"))?;
            command.push('\n');
            command.push_str(next);
        }
        steps.push(Step { line, command, output: Vec::new() });
    }
    if steps.is_empty() {
        return Err(Wrong::new(block.line, "there is no command in the block"));
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<Step>, Wrong> {
        steps(&Block { line: 10, lines: text.lines().map(str::to_owned).collect(), ..Block::default() })
    }

    #[test]
    fn a_command_ends_where_the_shell_would_run_it() {
        let found = of("$ a \\\n    b\n$ c <<EOF\nd: $ e\nEOF\nout\n\nput\n$ f 'g\nh'\n").unwrap();
        let commands: Vec<_> = found.iter().map(|step| (step.line, step.command.as_str())).collect();
        assert_eq!(commands, [(10, "a \\\n    b"), (12, "c <<EOF\nd: $ e\nEOF"), (18, "f 'g\nh'")]);
        assert_eq!(found[1].output, ["out", "", "put"]);
        assert!(found[0].output.is_empty());
    }

    #[test]
    fn output_without_a_command_and_half_a_command_are_refused() {
        assert_eq!(of("out\n$ a\n").unwrap_err().line, 10);
        assert!(of("$ a\n$ b <<EOF\nc\n").unwrap_err().to_string().starts_with("line 11: the command does not end"));
        assert!(of("").unwrap_err().what.contains("no command"));
    }
}
