//! PURE: the queue and in-flight window of one persistent session.
