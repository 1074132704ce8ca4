//! The options of IPv4 that guests send with (`IP_OPTIONS`, `IP_RETOPTS`): checked once, as Linux's `ip_options_get` does.

use netstack::options::Ipv4Options;
use netstack::wire::ipv4::options::{self, MAX_LEN};

use crate::errno::Errno;

/// Options for datagrams, padded to whole words; `None` for none.
///
/// # Errors
/// `EINVAL` when they are too long or make no sense. Source routes are not sent, as they are not received: `EINVAL`, too.
pub fn parse(bytes: &[u8]) -> Result<Option<Ipv4Options>, Errno> {
    if bytes.len() > MAX_LEN {
        return Err(Errno::EINVAL);
    }
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(4), 0);
    options::check(&padded).map_err(|_| Errno::EINVAL)?;
    end(&mut padded);
    Ok(Ipv4Options::new(&padded).filter(|_| !padded.is_empty()))
}

/// Clears what is behind the end of the list (`ip_options_compile`).
fn end(list: &mut [u8]) {
    let mut at = 0;
    while let Some(&kind) = list.get(at) {
        at += match kind {
            END => break,
            NO_OPERATION => 1,
            // Checked before: at least two.
            _ => list.get(at + 1).map_or(list.len(), |&len| usize::from(len.max(2))),
        };
    }
    list.get_mut(at..).unwrap_or_default().fill(END);
}

/// What an answer would be sent with (`IP_RETOPTS` of what was received).
#[must_use]
pub fn to_echo(received: &[u8]) -> Vec<u8> {
    let (buffer, len) = options::to_echo(received);
    buffer[..len].to_vec()
}

const END: u8 = 0;
const NO_OPERATION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_padded_and_what_follows_their_end_is_cleared() {
        assert_eq!(parse(&[]), Ok(None));
        assert_eq!(parse(&[1, 1]), Ok(Ipv4Options::new(&[1, 1, 0, 0])));
        assert_eq!(parse(&[1, 0, 7, 7]), Ok(Ipv4Options::new(&[1, 0, 0, 0])));
        let record_route = [7, 7, 4, 0, 0, 0, 0];
        let padded = [7, 7, 4, 0, 0, 0, 0, 0];
        assert_eq!(parse(&record_route), Ok(Ipv4Options::new(&padded)));
        for bad in [&[7, 2][..], &[7, 60, 4], &[1; 41], &[131, 7, 4, 10, 0, 0, 1]] {
            assert_eq!(parse(bad), Err(Errno::EINVAL), "{bad:?}");
        }
    }
}
