//! Certificate authority, leaves, trust bundles, principals, TLS configurations
