//! Finding the QEMU that a definition names.

use std::env;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
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

/// Where only root puts programs.
const OF_ROOT: [&str; 7] = [
    "/usr",
    "/opt",
    "/bin",
    "/snap",
    "/nix/store",
    "/gnu/store",
    "/run/current-system",
];

/// Whether a program that a definition names can be asked what it knows, as nobody has
/// asked for the VM to run yet: it is called as QEMU is, and either found in `$PATH` or
/// installed by root.
pub fn is_asked(binary: &Path, program: &Path) -> bool {
    let Ok(program) = program.canonicalize() else {
        return false;
    };
    let name = binary.file_name().unwrap_or_default().to_string_lossy();
    let is_qemu = name.starts_with("qemu-system-") || name == "qemu-kvm";
    let is_named = binary.components().count() == 1;
    let is_roots = std::fs::metadata(&program)
        .is_ok_and(|file| file.uid() == 0 && file.mode() & 0o022 == 0)
        && OF_ROOT.iter().any(|dir| program.starts_with(dir));
    is_qemu && (is_named || is_roots)
}

fn is_program(file: &Path) -> bool {
    std::fs::metadata(file)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_asked_only_where_it_is_qemu_and_nobody_else_s() {
        let dir = tempfile::tempdir().unwrap();
        let mine = dir.path().join("qemu-system-x86_64");
        std::fs::copy("/bin/true", &mine).unwrap();
        assert!(!is_asked(&mine, &mine));
        let installed = find(Path::new("qemu-system-x86_64")).unwrap();
        assert!(is_asked(&installed, &installed));
        assert!(is_asked(Path::new("qemu-system-x86_64"), &mine));
        for other in ["/bin/true", "true", "/usr/bin/qemu-img"] {
            let other = Path::new(other);
            assert!(
                !is_asked(other, &find(other).unwrap()),
                "{}",
                other.display()
            );
        }
    }

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
