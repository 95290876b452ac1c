//! Which words of an export Kubernetes takes in the objects that are made of it. Pure.
//!
//! Neither the CRD of ServiceExports nor a peer keeps anybody from exporting others: such a word is left out alone, or the API
//! server would refuse the whole object for it, in every cluster.

/// Of names and values of labels, and of the second part of a qualified name.
const MOST: usize = 63;
/// Of the first part of a qualified name.
const MOST_OF_PREFIX: usize = 253;

/// Name of a label or an annotation, or a protocol of applications: `name` or `example.org/name`.
pub(super) fn is_qualified(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_word(name),
        None => is_word(text),
    }
}

pub(super) fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_word(text)
}

/// RFC 1123; empty is a port without a name.
pub(super) fn is_port_name(text: &str) -> bool {
    text.is_empty() || is_dns_label(text)
}

fn is_word(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.len() <= MOST && text.bytes().all(is_inner) && ends_well(text)
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= MOST_OF_PREFIX && text.split('.').all(is_dns_label)
}

fn is_dns_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.len() <= MOST && text.bytes().all(is_inner) && ends_well(text)
}

fn ends_well(text: &str) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    is_end(text.as_bytes().first()) && is_end(text.as_bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_that_an_api_server_takes() {
        for good in ["a", "A.b_c-1", "example.org/tier", "kubernetes.io/h2c"] {
            assert!(is_qualified(good), "{good}");
        }
        for bad in ["", "-a", "a b", "a/b/c", "/a", "a/", "Example.org/a", "a..b/c", &"x".repeat(64)] {
            assert!(!is_qualified(bad), "{bad}");
        }
        assert!(is_label_value("") && is_label_value("back.end") && !is_label_value("back end"));
        assert!(is_port_name("") && is_port_name("http-1") && !is_port_name("HTTP") && !is_port_name("a.b"));
    }
}
