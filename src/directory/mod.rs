//! PURE: who holds which client id, claims, takeovers, wills.
