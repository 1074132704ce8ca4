//! `IPPROTO_UDP`.

use libc::IPPROTO_UDP as UDP;

use super::value::{change, int, int_value, options_of, set_flag, want, wanted};
use super::{Row, both};
use crate::control::Receive;
use crate::descriptor::{Kind, Socket};
use crate::errno::Errno;

pub(super) const ROWS: &[Row] = &[
    both(
        UDP,
        libc::UDP_SEGMENT,
        |socket| Ok(int_value(options_of(socket).segment_size.into())),
        |socket, value| {
            check(socket)?;
            let size = u16::try_from(int(value)?).map_err(|_| Errno(libc::EINVAL))?;
            change(socket, |options| options.segment_size = size)
        },
    ),
    both(
        UDP,
        libc::UDP_GRO,
        |socket| Ok(wanted(socket, Receive::GRO)),
        |socket, value| {
            check(socket)?;
            set_flag(socket, value, |options, on| options.coalesce = on)?;
            want(socket, value, Receive::GRO)
        },
    ),
];

fn check(socket: &Socket) -> Result<(), Errno> {
    if matches!(socket.kind, Kind::Udp(_)) { Ok(()) } else { Err(Errno(libc::ENOPROTOOPT)) }
}
