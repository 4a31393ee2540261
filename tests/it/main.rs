//! Small stories about what users see.

mod language;
