//! Shutdown, drain, readiness, admin HTTP, telemetry. Knows no mesh word
