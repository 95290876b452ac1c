//! The mesh's domain words: ids, labels, prefixes, services, nodes. No I/O
