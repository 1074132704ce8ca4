//! `IPPROTO_UDP`.

use libc::IPPROTO_UDP as UDP;

use super::value::{change, int, int_value, options_of};
use super::{Row, both};
use crate::descriptor::Kind;
use crate::errno::Errno;

pub(super) const ROWS: &[Row] = &[both(
    UDP,
    libc::UDP_SEGMENT,
    |socket| Ok(int_value(options_of(socket).segment_size.into())),
    |socket, value| {
        if !matches!(socket.kind, Kind::Udp(_)) {
            return Err(Errno(libc::ENOPROTOOPT));
        }
        let size = u16::try_from(int(value)?).map_err(|_| Errno(libc::EINVAL))?;
        change(socket, |options| options.segment_size = size)
    },
)];
