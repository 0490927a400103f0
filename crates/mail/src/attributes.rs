//! Attributes: what a file carries beside its owner, mode and times: access control lists, and what
//! programs noted.
//!
//! # Invariants
//!
//! * An access control list is never left out in silence: it may say who must not read.
//! * What only the system may set (`security.`, `trusted.`) is left to the system.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Bytes of all names of a file's attributes, and of one value: the kernel's own limits.
const BYTES_MAX: usize = 64 * 1024;

/// Access control lists: of a file, and for what is made in a directory.
const ACCESS_LISTS: &[u8] = b"system.posix_acl_";

/// What programs note.
const NOTES: &[u8] = b"user.";

/// Whether something has attributes of any kind.
pub(crate) fn has_some(of: impl AsFd) -> io::Result<bool> {
    match rustix::fs::flistxattr_query(&of) {
        Err(Errno::NOTSUP) => Ok(false),
        size => Ok(size? > 0),
    }
}

/// Gives `to` the attributes of `from`; whether there were any.
pub(crate) fn copy(from: impl AsFd, to: impl AsFd) -> io::Result<bool> {
    let size = match rustix::fs::flistxattr_query(&from) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(false),
        size => size?.min(BYTES_MAX),
    };
    let mut names = vec![0; size];
    let length = rustix::fs::flistxattr(&from, &mut names)?;
    for name in names.get(..length).unwrap_or_default().split(|byte| *byte == 0) {
        let is_list = name.starts_with(ACCESS_LISTS);
        if !is_list && !name.starts_with(NOTES) {
            continue;
        }
        let mut value = vec![0; rustix::fs::fgetxattr_query(&from, name)?.min(BYTES_MAX)];
        let length = rustix::fs::fgetxattr(&from, name, &mut value)?;
        let value = value.get(..length).unwrap_or_default();
        match rustix::fs::fsetxattr(&to, name, value, XattrFlags::empty()) {
            // A note that this file system cannot keep is not worth the mail.
            Err(Errno::NOTSUP | Errno::PERM) if !is_list => {}
            result => result?,
        }
    }
    Ok(true)
}

#[cfg(test)]
#[expect(clippy::print_stdout, reason = "a test says what it cannot try")]
mod tests {
    use super::*;
    use std::fs::File;

    /// Everybody may read, and user 1234 may not (`linux/posix_acl_xattr.h`, version 2).
    fn access_list() -> Vec<u8> {
        let entry = |tag: u16, bits: u16, id: u32| {
            [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let nobody = u32::MAX;
        [
            2_u32.to_le_bytes().to_vec(),
            entry(0x01, 6, nobody),
            entry(0x02, 0, 1234),
            entry(0x04, 4, nobody),
            entry(0x10, 4, nobody),
            entry(0x20, 4, nobody),
        ]
        .concat()
    }

    #[test]
    fn access_lists_and_notes_go_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = ["from", "to"].map(|name| dir.path().join(name)).into();
        let (from, to) = (File::create(from).unwrap(), File::create(to).unwrap());
        let set = |name: &str, value: &[u8]| {
            rustix::fs::fsetxattr(&from, name, value, XattrFlags::empty())
        };
        let kept =
            [("user.note", b"x".to_vec()), ("system.posix_acl_access", access_list())];
        let possible = kept.iter().all(|(name, value)| set(name, value).is_ok());
        if !possible {
            println!("not tried: this file system keeps no attributes");
            return;
        }

        copy(&from, &to).unwrap();

        for (name, value) in kept {
            let mut found = vec![0; 1000];
            let length = rustix::fs::fgetxattr(&to, name, &mut found).unwrap();
            assert_eq!(found[..length], value, "{name}");
        }
    }
}
