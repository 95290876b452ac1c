//! Whether what came is what a page shows. One rule: every line that came stands in the page, in that order, and every line of
//! the page came. Lines are compared word by word, so that columns may be of any width. In the page `...` as a line of its
//! own stands for any lines, and `…` within a line for any text. Lines without words count on neither side.

const ANY_LINES: &str = "...";
const ANY_TEXT: char = '…';

/// Where both first differ, in the words of a person; `None` where they do not.
pub fn difference(shown: &[String], came: &str) -> Option<String> {
    let shown: Vec<String> = shown.iter().map(|line| words(line)).filter(|line| !line.is_empty()).collect();
    let came: Vec<String> = came.lines().map(words).filter(|line| !line.is_empty()).collect();
    let mut reached = 0;
    if is_match(&shown, &came, 0, &mut reached) {
        return None;
    }
    Some(match shown.get(reached) {
        Some(line) => format!("nothing that came is, at its place: {line}"),
        None => "more came than the page shows".to_owned(),
    })
}

/// `reached` becomes the first line of the page that was matched nowhere.
fn is_match(shown: &[String], came: &[String], at: usize, reached: &mut usize) -> bool {
    *reached = (*reached).max(at);
    match shown.get(at).map(String::as_str) {
        None => came.is_empty(),
        Some(ANY_LINES) => (0..=came.len()).any(|skipped| is_match(shown, &came[skipped..], at + 1, reached)),
        Some(pattern) => match came.split_first() {
            Some((line, rest)) => is_line(pattern, line) && is_match(shown, rest, at + 1, reached),
            None => false,
        },
    }
}

/// Runs of space are one.
fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_line(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split(ANY_TEXT);
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differs(shown: &str, came: &str) -> Option<String> {
        difference(&shown.lines().map(str::to_owned).collect::<Vec<_>>(), came)
    }

    #[test]
    fn columns_compare_by_words_and_blank_lines_do_not_count() {
        assert_eq!(differs("NAME  ID\na  1", "NAME ID\n\na    1  \n"), None);
        assert!(differs("NAME ID", "NAME IDS").is_some());
        assert!(differs("NAME ID", "NAMEID").is_some());
    }

    #[test]
    fn dots_stand_for_lines_and_an_ellipsis_for_text() {
        assert_eq!(differs("...\nb\n...", "a\nb\nc"), None);
        assert_eq!(differs("...\nb\n...", "b"), None);
        assert_eq!(differs("a … c 1…s", "a x y c 12 ms"), None);
        assert_eq!(differs("[…] ok", "[1/4] ok"), None);
        assert!(differs("a … c", "a x d").is_some());
        assert!(differs("…", "").is_some(), "a line has to be there");
    }

    #[test]
    fn a_lie_is_found_and_named() {
        assert_eq!(differs("a\nb", "a\nc").unwrap(), "nothing that came is, at its place: b");
        assert_eq!(differs("...\nb\nd", "a\nb\nc\nb").unwrap(), "nothing that came is, at its place: d");
        assert_eq!(differs("a", "a\nb").unwrap(), "more came than the page shows");
        assert!(differs("a\nb", "b\na").is_some(), "their order counts");
        assert!(differs("a\n...", "").is_some());
        assert!(differs("aba…ba", "aba").is_some(), "text is not used twice");
    }
}
