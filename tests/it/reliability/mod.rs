//! Faults that the engine must survive, one test for each row of the list of faults, named after it.

mod drawn;
mod language;
mod store;
mod sweeps;
mod walk;
mod worker;
