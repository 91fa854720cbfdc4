//! Paths in a definition: relative to its file, with `~` and `$VAR`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Where variables come from: the environment, or a test.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

pub(super) fn process_env(name: &str) -> Option<OsString> {
    env::var_os(name)
}

/// The absolute path that `text` means in a file of directory `dir`.
///
/// `~` alone or before a `/` is the home directory, `$VAR` and `${VAR}` are
/// variables, `$$` is a dollar sign.
pub(super) fn expand(text: &str, dir: &Path, env: Env<'_>) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("a path cannot be empty".to_owned());
    }
    let mut path = OsString::new();
    let mut rest = text;
    if let Some(after) = rest.strip_prefix('~') {
        if !after.is_empty() && !after.starts_with('/') {
            return Err(format!(
                "`~` stands for your own home directory only: write the path out, or `./{text}`"
            ));
        }
        path.push(variable("HOME", env)?);
        rest = after;
    }
    while let Some((before, after)) = rest.split_once('$') {
        path.push(before);
        let (value, after) = dollar(after, env)?;
        path.push(value);
        rest = after;
    }
    path.push(rest);
    std::path::absolute(dir.join(path)).map_err(|error| error.to_string())
}

/// What a `$` before `text` stands for, and what is left of `text`.
fn dollar<'a>(text: &'a str, env: Env<'_>) -> Result<(OsString, &'a str), String> {
    if let Some(rest) = text.strip_prefix('$') {
        return Ok(("$".into(), rest));
    }
    let (name, rest) = match text.strip_prefix('{') {
        Some(braced) => braced.split_once('}').ok_or("`${` without its `}`")?,
        None => {
            let end = text
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(text.len());
            text.split_at(end)
        }
    };
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("`$` without the name of a variable: write `$$` for a dollar sign".to_owned());
    }
    Ok((variable(name, env)?, rest))
}

fn variable(name: &str, env: Env<'_>) -> Result<OsString, String> {
    match env(name) {
        Some(value) if !value.is_empty() => Ok(value),
        Some(_) => Err(format!("the environment variable `{name}` is empty")),
        None => Err(format!("the environment variable `{name}` is not set")),
    }
}

/// How a path is written in a definition so that it means itself.
///
/// `None` if it is not UTF-8, which TOML cannot hold.
pub fn path_text(path: &Path) -> Option<String> {
    let text = path.to_str()?.replace('$', "$$");
    Some(if text.starts_with('~') {
        format!("./{text}")
    } else {
        text
    })
}

/// Whether a path names a device node, told from the path alone.
pub fn is_device_node(path: &Path) -> bool {
    path.starts_with("/dev") && !path.starts_with("/dev/shm")
}

/// Whether a program is given by its path rather than looked up in `PATH`.
pub(super) fn has_directory(program: &Path) -> bool {
    program.parent() != Some(Path::new("")) || program.as_os_str() == OsStr::new("")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<OsString> {
        match name {
            "HOME" => Some("/home/me".into()),
            "DISKS" => Some("/disks, all".into()),
            "EMPTY" => Some("".into()),
            _ => None,
        }
    }

    #[test]
    fn paths_expand() {
        for (text, path) in [
            ("root.qcow2", "/vms/root.qcow2"),
            ("../a/./b.raw", "/vms/../a/b.raw"),
            ("/a.raw", "/a.raw"),
            ("~/a.raw", "/home/me/a.raw"),
            ("~", "/home/me"),
            ("./~x", "/vms/~x"),
            ("a~", "/vms/a~"),
            ("$DISKS/a.raw", "/disks, all/a.raw"),
            ("${DISKS}a.raw", "/disks, alla.raw"),
            ("a$$HOME", "/vms/a$HOME"),
            ("$$$$", "/vms/$$"),
            ("%n", "/vms/%n"),
        ] {
            assert_eq!(
                expand(text, Path::new("/vms"), &env),
                Ok(path.into()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_does_not_expand_says_why() {
        for (text, message) in [
            ("", "a path cannot be empty"),
            ("$NOPE/a", "the environment variable `NOPE` is not set"),
            ("${EMPTY}", "the environment variable `EMPTY` is empty"),
            ("${HOME", "`${` without its `}`"),
            (
                "a$",
                "`$` without the name of a variable: write `$$` for a dollar sign",
            ),
            (
                "a$1",
                "`$` without the name of a variable: write `$$` for a dollar sign",
            ),
            (
                "~you/a",
                "`~` stands for your own home directory only: write the path out, or `./~you/a`",
            ),
        ] {
            assert_eq!(
                expand(text, Path::new("/vms"), &env),
                Err(message.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn a_written_path_means_itself() {
        for path in ["/a $HOME/$$.raw", "/~", "~/x", "~", "/a${b}"] {
            let text = path_text(Path::new(path)).unwrap();
            assert_eq!(
                expand(&text, Path::new("/vms"), &env),
                Ok(Path::new("/vms").join(path)),
                "{text}"
            );
        }
    }

    #[test]
    fn device_nodes_are_told_by_their_path() {
        for (path, is) in [
            ("/dev/vg/root", true),
            ("/dev/shm/a.raw", false),
            ("/devices/a", false),
        ] {
            assert_eq!(is_device_node(Path::new(path)), is, "{path}");
        }
    }

    #[test]
    fn a_bare_program_name_is_looked_up() {
        for (program, has) in [
            ("qemu", false),
            ("./qemu", true),
            ("/bin/qemu", true),
            ("~/qemu", true),
            ("", true),
        ] {
            assert_eq!(has_directory(Path::new(program)), has, "{program}");
        }
    }
}
