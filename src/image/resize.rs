use std::path::Path;

use super::Error;
use super::tool::Tool;

/// Gives a disk another size, in bytes; what is cut off is lost, so `shrink` must say so.
pub fn resize(path: &Path, format: &str, size: u64, shrink: bool) -> Result<(), Error> {
    let tool = Tool::new("resize", "resize", path).args(["-q", "-f", format]);
    let tool = match shrink {
        true => tool.arg("--shrink"),
        false => tool,
    };
    tool.file(path)?.arg(size.to_string()).run().map(drop)
}
