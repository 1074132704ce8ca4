//! config.json of a bundle.

/// Reads a config.json and plans its process and mounts.
pub fn config(data: &[u8]) {
    if let Err(error) = runsc::check_config(data) {
        let message = format!("{error:#}");
        assert!(!message.is_empty() && message.len() < 10_000 + 2 * data.len(), "{message}");
    }
}
