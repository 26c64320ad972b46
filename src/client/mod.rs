//! PURE client-side state machine, used by the command line and later by bridges.
