//! The interleavings that must hold, each as a script named after its number.
