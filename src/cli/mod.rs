//! The command-line programs.
