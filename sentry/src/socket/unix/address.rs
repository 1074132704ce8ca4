//! `struct sockaddr_un` and the names in it.

use std::sync::Arc;

use sentry_abi::socket::{AF_UNIX, UNIX_PATH_MAX};

use crate::errno::Errno;
use crate::socket::ops::RawAddr;

/// What a guest asked to bind or connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Only a family: bind to a name that the kernel picks.
    Any,
    /// A path of the file system.
    Path(Vec<u8>),
    /// A name of the abstract namespace, without its leading NUL.
    Abstract(Vec<u8>),
}

/// The name that a socket is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// A path, as it was given to `bind(2)`.
    Path(Arc<[u8]>),
    /// An abstract name, without its leading NUL.
    Abstract(Arc<[u8]>),
}

impl Wanted {
    /// Decodes an address (`unix_validate_addr` of Linux, then the rules of unix(7)).
    ///
    /// # Errors
    /// `EINVAL` for another family or a length that no such address has.
    pub(super) fn decode(address: &[u8]) -> Result<Self, Errno> {
        if address.len() < 2 || address.len() > 2 + UNIX_PATH_MAX {
            return Err(Errno::EINVAL);
        }
        let (family, name) = address.split_at(2);
        if family != AF_UNIX.to_ne_bytes() {
            return Err(Errno::EINVAL);
        }
        match name {
            [] => Ok(Self::Any),
            [0, rest @ ..] => Ok(Self::Abstract(rest.to_vec())),
            path => {
                let end = path.iter().position(|b| *b == 0).unwrap_or(path.len());
                Ok(Self::Path(path[..end].to_vec()))
            }
        }
    }
}

impl Name {
    /// The address of a socket bound to `name`: a path ends with a NUL (unix(7)).
    #[must_use]
    pub fn encode(name: Option<&Self>) -> RawAddr {
        let mut address = RawAddr::from_slice(&AF_UNIX.to_ne_bytes());
        match name {
            None => {}
            Some(Self::Path(path)) => {
                address.extend_from_slice(path);
                address.push(0);
            }
            Some(Self::Abstract(name)) => {
                address.push(0);
                address.extend_from_slice(name);
            }
        }
        address
    }

    /// The name as `/proc/net/unix` and `ss` show it: `@` for the NULs of abstract names.
    #[must_use]
    pub fn display(&self) -> String {
        match self {
            Self::Path(path) => String::from_utf8_lossy(path).into_owned(),
            Self::Abstract(name) => {
                let shown: Vec<u8> = name.iter().map(|b| if *b == 0 { b'@' } else { *b }).collect();
                format!("@{}", String::from_utf8_lossy(&shown))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_end_at_a_nul_and_abstract_names_do_not() {
        assert_eq!(Wanted::decode(b"\x01\0"), Ok(Wanted::Any));
        assert_eq!(Wanted::decode(b"\x01\0/a\0junk"), Ok(Wanted::Path(b"/a".to_vec())));
        assert_eq!(Wanted::decode(b"\x01\0\0a\0b"), Ok(Wanted::Abstract(b"a\0b".to_vec())));
        assert_eq!(Wanted::decode(b"\x02\0/a"), Err(Errno::EINVAL));
        assert_eq!(Wanted::decode(b"\x01"), Err(Errno::EINVAL));
        assert_eq!(Wanted::decode(&[1; 111]), Err(Errno::EINVAL));
    }

    #[test]
    fn encoded_paths_are_terminated() {
        let path = Name::Path(b"/a".as_slice().into());
        assert_eq!(Name::encode(Some(&path)).as_slice(), b"\x01\0/a\0");
        let name = Name::Abstract(b"a".as_slice().into());
        assert_eq!(Name::encode(Some(&name)).as_slice(), b"\x01\0\0a");
        assert_eq!(Name::encode(None).as_slice(), b"\x01\0");
    }
}
