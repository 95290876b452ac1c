//! The project's own protocol: agent stream, admin API, join
