use std::path::Path;

use super::tool::Tool;
use super::{Error, Link};

/// Whether two images read the same, those below them included.
pub fn same_content(a: &Link, b: &Link) -> Result<bool, Error> {
    let path: &Path = &b.path;
    let tool = Tool::new("compare", "compare", path);
    let tool = tool.args(["-q", "-f", &a.format, "-F", &b.format]);
    let (_, status, words) = tool.file(&a.path)?.file(path)?.output()?;
    match status {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => Err(Error::Failed {
            doing: "compare",
            path: path.to_owned(),
            words,
        }),
    }
}
