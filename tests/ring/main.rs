//! The rings over real shared memory, against a model, against loom's schedules, and against SIGKILL.

mod hostile;
mod kill;
mod members;
mod mesh;
mod model;
mod schedules;
