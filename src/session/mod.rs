//! PURE: one connected client: (event, now) -> actions.
