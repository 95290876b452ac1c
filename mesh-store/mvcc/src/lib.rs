//! Pure etcd semantics: apply(Command) -> (Response, Vec<Event>). No I/O, no clock
