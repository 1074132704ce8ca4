//! Timers and options of the user.
