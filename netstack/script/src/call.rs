//! Calls: from names and values to types.

use crate::backend::SocketId;
use crate::value::Value;

/// A call on sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// `socket(tcp)`, `socket(udp)`.
    Socket(Protocol),
    /// `bind(s, port)`.
    Bind(SocketId, u16),
    /// `listen(s, backlog)`.
    Listen(SocketId, u32),
    /// `accept(s)`.
    Accept(SocketId),
    /// `connect(s, port)`: to the peer.
    Connect(SocketId, u16),
    /// `send(s, len, flags)`.
    Send(SocketId, Vec<u8>, Flags),
    /// `sendto(s, len, port, flags)`: to the peer.
    SendTo(SocketId, Vec<u8>, u16, Flags),
    /// `recv(s, len, flags)`.
    Recv(SocketId, usize, Flags),
    /// `shutdown(s, how)`.
    Shutdown(SocketId, How),
    /// `close(s)`.
    Close(SocketId),
    /// `setsockopt(s, name, value)`.
    SetOption(SocketId, String, Value),
    /// `getsockopt(s, name)`.
    GetOption(SocketId, String),
    /// `poll(s, events)`.
    Poll(SocketId, Vec<String>),
}

impl Call {
    /// The socket that it is about.
    #[must_use]
    pub fn socket(&self) -> Option<SocketId> {
        match self {
            Self::Socket(_) => None,
            Self::Bind(socket, _)
            | Self::Listen(socket, _)
            | Self::Accept(socket)
            | Self::Connect(socket, _)
            | Self::Send(socket, ..)
            | Self::SendTo(socket, ..)
            | Self::Recv(socket, ..)
            | Self::Shutdown(socket, _)
            | Self::Close(socket)
            | Self::SetOption(socket, ..)
            | Self::GetOption(socket, _)
            | Self::Poll(socket, _) => Some(*socket),
        }
    }
}

/// What a socket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Which direction to shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// `SHUT_RD`.
    Read,
    /// `SHUT_WR`.
    Write,
    /// `SHUT_RDWR`.
    Both,
}

/// Flags of send and receive calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// `MSG_OOB`.
    pub oob: bool,
    /// `MSG_PEEK`.
    pub peek: bool,
    /// `MSG_WAITALL`.
    pub wait_all: bool,
    /// `MSG_MORE`.
    pub more: bool,
    /// `MSG_FASTOPEN`.
    pub fast_open: bool,
}

/// Makes a call of its name and arguments. `data` gives the bytes that a socket sends next.
///
/// # Errors
/// A text that says what is wrong.
pub fn decode(name: &str, args: &[Value], data: impl Fn(SocketId, usize) -> Vec<u8>) -> Result<Call, String> {
    let args = Args { name, args };
    let call = match name {
        "socket" => Call::Socket(match args.name_at(0)? {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => return Err(format!("`{other}` is no protocol: tcp or udp")),
        }),
        "bind" => Call::Bind(args.socket()?, args.number(1, "a port")?),
        "listen" => Call::Listen(args.socket()?, args.number(1, "a backlog")?),
        "accept" => Call::Accept(args.socket()?),
        "connect" => Call::Connect(args.socket()?, args.number(1, "a port")?),
        "send" => {
            let (socket, len) = (args.socket()?, args.number(1, "a length")?);
            Call::Send(socket, data(socket, len), args.flags(2)?)
        }
        "sendto" => {
            let (socket, len) = (args.socket()?, args.number(1, "a length")?);
            Call::SendTo(socket, data(socket, len), args.number(2, "a port")?, args.flags(3)?)
        }
        "recv" => Call::Recv(args.socket()?, args.number(1, "a length")?, args.flags(2)?),
        "shutdown" => Call::Shutdown(
            args.socket()?,
            match args.name_at(1)? {
                "RD" => How::Read,
                "WR" => How::Write,
                "RDWR" => How::Both,
                other => return Err(format!("`{other}` is no direction: RD, WR or RDWR")),
            },
        ),
        "close" => Call::Close(args.socket()?),
        "setsockopt" => {
            let value = args.args.get(2).ok_or("setsockopt needs a value")?;
            Call::SetOption(args.socket()?, args.name_at(1)?.to_owned(), value.clone())
        }
        "getsockopt" => Call::GetOption(args.socket()?, args.name_at(1)?.to_owned()),
        "poll" => {
            let events = args.name_at(1)?.split('|').map(str::to_owned).collect();
            Call::Poll(args.socket()?, events)
        }
        other => return Err(format!("there is no call `{other}`")),
    };
    Ok(call)
}

struct Args<'a> {
    name: &'a str,
    args: &'a [Value],
}

impl<'a> Args<'a> {
    fn socket(&self) -> Result<SocketId, String> {
        match self.args.first() {
            Some(Value::Socket(id)) => Ok(*id),
            Some(Value::Name(name)) => {
                Err(format!("`{name}` is not a socket (was its call expected to fail?)"))
            }
            Some(other) => {
                Err(format!("the first argument of {} is {}, not a socket", self.name, other.kind()))
            }
            None => Err(format!("{} needs a socket", self.name)),
        }
    }

    fn number<T: TryFrom<i64>>(&self, at: usize, what: &str) -> Result<T, String> {
        let error = || format!("{} needs {what} as argument {}", self.name, at + 1);
        match self.args.get(at) {
            Some(Value::Int(number)) => T::try_from(*number).map_err(|_| error()),
            _ => Err(error()),
        }
    }

    fn name_at(&self, at: usize) -> Result<&'a str, String> {
        match self.args.get(at) {
            Some(Value::Name(name)) => Ok(name),
            _ => Err(format!("{} needs a name as argument {}", self.name, at + 1)),
        }
    }

    fn flags(&self, at: usize) -> Result<Flags, String> {
        let mut flags = Flags::default();
        if self.args.len() <= at {
            return Ok(flags);
        }
        for name in self.name_at(at)?.split('|') {
            match name {
                "MSG_OOB" => flags.oob = true,
                "MSG_PEEK" => flags.peek = true,
                "MSG_WAITALL" => flags.wait_all = true,
                "MSG_MORE" => flags.more = true,
                "MSG_FASTOPEN" => flags.fast_open = true,
                other => return Err(format!("unknown flag `{other}`")),
            }
        }
        Ok(flags)
    }
}
