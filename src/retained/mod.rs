//! PURE: retained messages.
