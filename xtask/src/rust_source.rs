//! As much of Rust's lexical structure as the checks need: identifiers, strings and punctuation, with their lines.
//!
//! Comments vanish; what is inside a string is one token. It never fails: source that does not compile is rustc's matter.

/// A token that the checks look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    Ident(String),
    Text(String),
    Punct(char),
    /// Numbers, characters, lifetimes: nothing looks into them.
    Other,
}

/// A token and the line it starts in, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) token: Token,
    pub(crate) line: usize,
}

/// Splits a source file.
pub(crate) fn tokens(source: &str) -> Vec<Placed> {
    let mut scanner = Scanner { chars: source.chars().collect(), at: 0, line: 1 };
    let mut found = Vec::new();
    loop {
        let line = scanner.line_after_blanks();
        match scanner.next() {
            Some(token) => found.push(Placed { token, line }),
            None => return found,
        }
    }
}

struct Scanner {
    chars: Vec<char>,
    at: usize,
    line: usize,
}

impl Scanner {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        self.line += usize::from(c == '\n');
        Some(c)
    }

    /// Skips white space and comments.
    fn line_after_blanks(&mut self) -> usize {
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(c), _) if c.is_whitespace() => drop(self.bump()),
                (Some('/'), Some('/')) => {
                    while self.peek(0).is_some_and(|c| c != '\n') {
                        self.bump();
                    }
                }
                (Some('/'), Some('*')) => self.block_comment(),
                _ => return self.line,
            }
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => depth += 1,
                (Some('*'), Some('/')) => depth -= 1,
                (None, _) => return,
                _ => {
                    self.bump();
                    continue;
                }
            }
            self.bump();
            self.bump();
            if depth == 0 {
                return;
            }
        }
    }

    fn next(&mut self) -> Option<Token> {
        let c = self.peek(0)?;
        if is_word(c) && !c.is_ascii_digit() {
            return Some(self.word());
        }
        if c.is_ascii_digit() {
            while self.peek(0).is_some_and(is_word) {
                self.bump();
            }
            return Some(Token::Other);
        }
        self.bump();
        Some(match c {
            '"' => Token::Text(self.string()),
            '\'' => self.character_or_lifetime(),
            other => Token::Punct(other),
        })
    }

    /// An identifier, or the prefix of a string such as `br#"..."#`.
    fn word(&mut self) -> Token {
        let start = self.at;
        while self.peek(0).is_some_and(is_word) {
            self.at += 1;
        }
        let word: String = self.chars[start..self.at].iter().collect();
        let hashes = self.chars[self.at..].iter().take_while(|c| **c == '#').count();
        match word.as_str() {
            "r" | "br" | "cr" if self.peek(hashes) == Some('"') => {
                self.at += hashes + 1;
                Token::Text(self.raw_string(hashes))
            }
            "b" | "c" if self.peek(0) == Some('"') => {
                self.at += 1;
                Token::Text(self.string())
            }
            "b" if self.peek(0) == Some('\'') => {
                self.at += 1;
                self.character_or_lifetime()
            }
            // A raw identifier: r#type.
            "r" if hashes == 1 => {
                self.at += 1;
                self.word()
            }
            _ => Token::Ident(word),
        }
    }

    fn string(&mut self) -> String {
        let mut text = String::new();
        while let Some(c) = self.bump() {
            match c {
                '"' => break,
                '\\' => text.extend(self.bump()),
                other => text.push(other),
            }
        }
        text
    }

    fn raw_string(&mut self, hashes: usize) -> String {
        let mut text = String::new();
        while let Some(c) = self.bump() {
            if c == '"' && (0..hashes).all(|i| self.peek(i) == Some('#')) {
                self.at += hashes;
                break;
            }
            text.push(c);
        }
        text
    }

    /// After the quote: `'a` without a closing quote is a lifetime.
    fn character_or_lifetime(&mut self) -> Token {
        let is_lifetime = self.peek(0).is_some_and(is_word) && self.peek(1) != Some('\'');
        if is_lifetime {
            while self.peek(0).is_some_and(is_word) {
                self.bump();
            }
            return Token::Other;
        }
        while let Some(c) = self.bump() {
            match c {
                '\\' => drop(self.bump()),
                '\'' => break,
                _ => {}
            }
        }
        Token::Other
    }
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idents(source: &str) -> Vec<String> {
        let ident = |p: Placed| match p.token {
            Token::Ident(name) => Some(name),
            _ => None,
        };
        tokens(source).into_iter().filter_map(ident).collect()
    }

    #[test]
    fn comments_strings_and_characters_hide_their_words() {
        let source = r##"
            // a line
            /* a /* nested */ block */
            let text = "a \" string"; let raw = r#"a "raw" one"#; let bytes = br"x";
            let c = 'q'; let quote = '\''; let newline = b'\n'; fn f<'life>(x: &'life str) {}
            r#type
        "##;
        assert_eq!(
            idents(source),
            [
                "let", "text", "let", "raw", "let", "bytes", "let", "c", "let", "quote", "let", "newline", "fn", "f",
                "x", "str", "type"
            ]
        );
    }

    #[test]
    fn tokens_know_their_lines() {
        let placed = tokens("a\n/* x\n */ b \"t\nu\" c");
        let lines: Vec<_> = placed.iter().map(|p| p.line).collect();
        assert_eq!(lines, [1, 3, 3, 4]);
        assert_eq!(placed[2].token, Token::Text("t\nu".into()));
    }
}
