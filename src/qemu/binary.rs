//! Finding the QEMU that a definition names.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// There is no such QEMU.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The definition names a program, and no directory of `$PATH` has it.
    #[error("there is no `{}` in $PATH", .0.display())]
    NotInPath(PathBuf),
    /// The definition names a file, and it is not there, or not a program.
    #[error("{} is not a program", .0.display())]
    NotAProgram(PathBuf),
}

/// The program itself: a name is looked up in `$PATH`, a path is taken as it is.
pub fn find(binary: &Path) -> Result<PathBuf, Error> {
    if binary.components().count() > 1 {
        return match is_program(binary) {
            true => Ok(binary.to_owned()),
            false => Err(Error::NotAProgram(binary.to_owned())),
        };
    }
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    env::split_paths(&path)
        .map(|dir| dir.join(binary))
        .find(|file| is_program(file))
        .ok_or_else(|| Error::NotInPath(binary.to_owned()))
}

fn is_program(file: &Path) -> bool {
    std::fs::metadata(file)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_and_a_path_is_not() {
        assert!(find(Path::new("sh")).unwrap().is_absolute());
        assert_eq!(find(Path::new("/bin/sh")).unwrap(), Path::new("/bin/sh"));
        assert!(matches!(
            find(Path::new("no-such-qemu")),
            Err(Error::NotInPath(_))
        ));
        assert!(matches!(
            find(Path::new("/etc/passwd")),
            Err(Error::NotAProgram(_))
        ));
        assert!(matches!(
            find(Path::new("/no/such/qemu")),
            Err(Error::NotAProgram(_))
        ));
    }
}
