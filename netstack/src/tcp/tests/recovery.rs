//! Loss recovery, scripted.
