//! The table of options, and the configuration that it makes.
