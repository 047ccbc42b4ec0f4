//! Names of users, from /etc/passwd.
//!
//! Not through the C library: a static build would load the name service's shared libraries, of another C library maybe, and crash. A
//! user whom only a directory service knows has a number here.
use std::path::Path;

/// Octets of the file that are read.
const OCTETS: u64 = 4 << 20;
const FILE: &str = "/etc/passwd";

/// A user, as passwd(5) has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

fn parse(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let (name, _password) = (fields.next()?, fields.next()?);
    let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    (!name.is_empty()).then(|| User { name: name.into(), uid, gid })
}

fn find(file: &Path, is_meant: impl Fn(&User) -> bool) -> Option<User> {
    let mut octets = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(std::fs::File::open(file).ok()?, OCTETS), &mut octets).ok()?;
    String::from_utf8_lossy(&octets).lines().filter_map(parse).find(is_meant)
}

/// The user of that name.
#[must_use]
pub fn by_name(name: &str) -> Option<User> {
    find(Path::new(FILE), |user| user.name == name)
}

/// A user's name, or "uid N" where it has none.
#[must_use]
pub fn name_of(uid: u32) -> String {
    find(Path::new(FILE), |user| user.uid == uid).map_or_else(|| format!("uid {uid}"), |user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_passwd() {
        let root = User { name: "root".into(), uid: 0, gid: 0 };
        assert_eq!(parse("root:x:0:0:root:/root:/bin/bash"), Some(root.clone()));
        for line in ["", "root", "root:x:0", ":x:0:0", "root:x:-1:0", "+nis::::::", "# root:x:0"] {
            assert_eq!(parse(line), None, "{line}");
        }
        assert_eq!(by_name("root"), Some(root));
        assert_eq!(name_of(0), "root");
        assert_eq!(name_of(u32::MAX), "uid 4294967295");
    }
}
