//! The supervisor: privilege.
