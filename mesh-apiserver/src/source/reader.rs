//! One object's text, already taken apart into a tree or still JSON, to an [`Object`], or why not. Pure.
//!
//! The only place where an object is turned away for what it is; which file or watch it came from is its source's to say.

use serde::{Deserialize, Deserializer};

use crate::objects::{Kind, Meta, Namespace, Object, ObjectKey};

/// Reads an object of a kind; fields that the mesh does not use are passed over without being kept.
pub(super) fn object<'de, D: Deserializer<'de>>(kind: Kind, from: D) -> Result<Object, D::Error> {
    Ok(match kind {
        Kind::Namespace => Object::Namespace(Deserialize::deserialize(from)?),
        Kind::Node => Object::Node(Deserialize::deserialize(from)?),
        Kind::Pod => Object::Pod(Deserialize::deserialize(from)?),
        Kind::Service => Object::Service(Deserialize::deserialize(from)?),
        Kind::EndpointSlice => Object::EndpointSlice(Deserialize::deserialize(from)?),
        Kind::ServiceExport => Object::ServiceExport(Deserialize::deserialize(from)?),
        Kind::ServiceImport => Object::ServiceImport(Deserialize::deserialize(from)?),
    })
}

/// What stands for a Namespace that cannot be read: without it, what the Namespace keeps from other clusters would be
/// theirs as long as the mistake lasts.
pub(super) fn stand_in(kind: Kind, name: &str) -> Option<Object> {
    let metadata = Meta { name: name.to_owned(), ..Meta::default() };
    let object = Object::Namespace(Namespace::unreadable(metadata));
    let is_named = kind == Kind::Namespace && !name.is_empty() && unusable_name(&object.key()).is_none();
    is_named.then_some(object)
}

/// Names become parts of keys, so a `/` in one would name another object's key.
pub(super) fn unusable_name(key: &ObjectKey) -> Option<String> {
    let bad = |text: &str| text.contains('/') || text.chars().any(char::is_whitespace);
    (bad(&key.name) || bad(&key.namespace)).then(|| "names may not hold '/' or blanks".to_owned())
}
