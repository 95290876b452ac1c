//! As much of the shell's language as the pages use: where a command ends, and which programs it runs with which words.
//! Expands nothing: `1` stands where a variable or another command's output would.

use std::iter::Peekable;
use std::str::Chars;

/// What is known only when the command runs. A number, since a number is also a name.
const UNKNOWN: &str = "1";
/// Words before a program that are not the program.
const BEFORE: [&str; 9] = ["!", "{", "do", "else", "if", "sudo", "then", "time", "while"];

/// Whether the shell would wait for another line.
pub fn is_unfinished(text: &str) -> bool {
    Scan::of(text).is_unfinished
}

/// The words given to each run of a program in a command: also in a pipe, in `$(...)`, and behind `--` of another program.
pub fn runs_of(program: &str, text: &str) -> Vec<Vec<String>> {
    Scan::of(text).commands.iter().filter_map(|words| words_for(program, words)).collect()
}

fn words_for(program: &str, words: &[String]) -> Option<Vec<String>> {
    let is_before = |word: &&String| {
        let is_variable = word.split_once('=').is_some_and(|(name, _)| !name.is_empty() && !name.contains('-'));
        BEFORE.contains(&word.as_str()) || is_variable
    };
    let words = &words[words.iter().take_while(is_before).count()..];
    if words.first().is_some_and(|first| first == program) {
        return Some(words[1..].to_vec());
    }
    let behind = words.windows(2).position(|pair| pair[0] == "--" && pair[1] == program)?;
    Some(words[behind + 2..].to_vec())
}

/// A text as simple commands, each a list of words.
#[derive(Debug, Default)]
struct Scan {
    commands: Vec<Vec<String>>,
    is_unfinished: bool,
    /// The last thing was a `|` or `&&`.
    awaits_command: bool,
    words: Vec<String>,
    word: Option<String>,
    /// The next word is where input or output goes.
    is_redirection: bool,
    /// The ends of here-documents that begin with the next line.
    documents: Vec<String>,
}

type Text<'a> = Peekable<Chars<'a>>;

impl Scan {
    fn of(text: &str) -> Self {
        let mut scan = Self::default();
        let mut text = text.chars().peekable();
        while let Some(c) = text.next() {
            scan.take(c, &mut text);
        }
        scan.end_command();
        scan.is_unfinished |= scan.awaits_command || !scan.documents.is_empty();
        scan
    }

    fn take(&mut self, c: char, text: &mut Text<'_>) {
        self.awaits_command &= c.is_whitespace() || c == '#';
        match c {
            '\\' => match text.next() {
                // At the end of a line: the next one goes on.
                Some('\n') => {}
                Some(c) => self.push(c),
                None => self.is_unfinished = true,
            },
            '\'' => self.single_quoted(text),
            '"' => self.double_quoted(text),
            '$' => self.variable(text),
            '#' if self.word.is_none() => while text.next_if(|c| *c != '\n').is_some() {},
            ' ' | '\t' => self.end_word(),
            '\n' => {
                self.end_command();
                self.skip_documents(text);
            }
            '|' | '&' => {
                self.end_command();
                let is_double = text.next_if_eq(&c).is_some();
                self.awaits_command = c == '|' || is_double;
            }
            ';' | '(' | ')' => self.end_command(),
            '<' | '>' => self.redirection(c, text),
            c => self.push(c),
        }
    }

    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn single_quoted(&mut self, text: &mut Text<'_>) {
        self.word.get_or_insert_default();
        loop {
            match text.next() {
                Some('\'') => return,
                Some(c) => self.push(c),
                None => break,
            }
        }
        self.is_unfinished = true;
    }

    fn double_quoted(&mut self, text: &mut Text<'_>) {
        self.word.get_or_insert_default();
        loop {
            match text.next() {
                Some('"') => return,
                Some('$') => self.variable(text),
                Some('\\') => match text.next() {
                    Some('\n') | None => {}
                    Some(c) => self.push(c),
                },
                Some(c) => self.push(c),
                None => break,
            }
        }
        self.is_unfinished = true;
    }

    /// Behind a `$`.
    fn variable(&mut self, text: &mut Text<'_>) {
        self.word.get_or_insert_default().push_str(UNKNOWN);
        match text.peek() {
            Some('(') => {
                text.next();
                match enclosed(text) {
                    Some(inner) => self.commands.extend(Self::of(&inner).commands),
                    None => self.is_unfinished = true,
                }
            }
            Some('{') => while text.next().is_some_and(|c| c != '}') {},
            _ => while text.next_if(|c| c.is_alphanumeric() || *c == '_' || *c == '?').is_some() {},
        }
    }

    fn redirection(&mut self, c: char, text: &mut Text<'_>) {
        // The number before it is a stream's.
        if self.word.as_ref().is_some_and(|word| word.chars().all(|c| c.is_ascii_digit())) {
            self.word = None;
        }
        self.end_word();
        if text.next_if_eq(&c).is_none() {
            text.next_if_eq(&'&');
        } else if c == '<' && text.next_if_eq(&'<').is_none() {
            text.next_if_eq(&'-');
            let end = std::iter::from_fn(|| text.next_if(|c| !c.is_whitespace()));
            self.documents.push(end.filter(|c| !['\'', '"'].contains(c)).collect());
            return;
        }
        self.is_redirection = true;
    }

    fn skip_documents(&mut self, text: &mut Text<'_>) {
        while let Some(end) = self.documents.first() {
            if text.peek().is_none() {
                return;
            }
            let line: String = std::iter::from_fn(|| text.next_if(|c| *c != '\n')).collect();
            let is_over = line == *end;
            text.next();
            if is_over {
                self.documents.remove(0);
            }
        }
    }

    fn end_word(&mut self) {
        if let Some(word) = self.word.take() {
            if !self.is_redirection {
                self.words.push(word);
            }
            self.is_redirection = false;
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        if !self.words.is_empty() {
            self.commands.push(std::mem::take(&mut self.words));
        }
    }
}

/// What stands before the bracket that ends this one.
fn enclosed(text: &mut Text<'_>) -> Option<String> {
    let (mut inner, mut depth, mut quote) = (String::new(), 0, None);
    loop {
        let c = text.next()?;
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') if depth == 0 => return Some(inner),
            (None, ')') => depth -= 1,
            _ => {}
        }
        inner.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meshctl(text: &str) -> Vec<String> {
        runs_of("meshctl", text).iter().map(|words| words.join(" ")).collect()
    }

    #[test]
    fn a_command_is_unfinished_where_the_shell_would_wait() {
        for text in ["a \\", "a 'b", "a \"b $(c", "a <<EOF", "a <<'EOF'\nb\nEOFF", "a $(b", "a |", "a && # b", "a ||"] {
            assert!(is_unfinished(text), "{text}");
        }
        for text in [
            "a",
            "a \\\n b",
            "a 'b\nc'",
            "a # it's",
            "a <<EOF\nit's\nEOF",
            "a <<-EOF | b\nEOF",
            "a <<< 'b'",
            "a $(b)",
            "a &",
            "a | b",
        ] {
            assert!(!is_unfinished(text), "{text}");
        }
    }

    #[test]
    fn a_program_is_found_wherever_it_is_run() {
        let cases: [(&str, &[&str]); 6] = [
            ("meshctl status -o json | jq .x   # meshctl no", &["status -o json"]),
            ("A=b meshctl get 'a b' \"c$D\" && sudo meshctl x; echo meshctl", &["get a b c1", "x"]),
            (
                "kubectl exec -n i p -- meshctl token create --peer-id 1 |\n  kubectl exec -i p -- meshctl connect a",
                &["connect a", "token create --peer-id 1"],
            ),
            ("for c in a meshctl; do meshctl check --context $c; done", &["check --context 1"]),
            (
                "X=$(meshctl a \"$(meshctl b)\") meshctl ${c} >f 2>&1 <<EOF\nmeshctl d\nEOF\nmeshctl e",
                &["1", "a 1", "b", "e"],
            ),
            ("cat meshctl; ./meshctl", &[]),
        ];
        for (text, want) in cases {
            let mut found = meshctl(text);
            found.sort();
            assert_eq!(found, want, "{text}");
        }
    }
}
