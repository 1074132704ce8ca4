//! The texts against the columns that programs parse.

use netstack::Stack;
use sentry_abi::socket::Ucred;

use super::*;
use crate::socket::inet::{InetSocket, Transport};
use crate::socket::{Socket, SocketFile};
use crate::vfs::OpenFlags;

const ME: Ucred = Ucred { pid: 7, uid: 1000, gid: 100 };

fn text(namespace: &Arc<NetNamespace>, name: &str) -> String {
    let files = files(namespace);
    let (_, render) = files.iter().find(|(file, _)| *file == name).expect(name);
    render()
}

#[test]
fn a_listener_is_a_line_of_tcp() {
    let namespace = NetNamespace::new(Stack::builder().build());
    let socket = InetSocket::new(namespace.clone(), Family::V4, Transport::Tcp, 6, ME);
    let tcp = socket.tcp().unwrap();
    tcp.bind("127.0.0.1:80".parse().unwrap()).unwrap();
    tcp.listen(1).unwrap();
    let file = SocketFile::open(socket.clone(), &namespace, OpenFlags::empty());
    let lines = text(&namespace, "tcp");
    let fields: Vec<&str> = lines.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(fields[..4], ["0:", "0100007F:0050", "00000000:0000", "0A"]);
    assert_eq!((fields[7], fields[9]), ("1000", socket.base().ino().to_string().as_str()));
    assert_eq!(text(&namespace, "udp").lines().count(), 1);
    drop(file);
    assert_eq!(text(&namespace, "tcp").lines().count(), 1);
}

#[test]
fn interfaces_and_their_addresses_are_listed() {
    let namespace = NetNamespace::new(Stack::builder().build());
    assert_eq!(text(&namespace, "if_inet6"), "00000000000000000000000000000001 01 80 10 80       lo\n");
    let dev = text(&namespace, "dev");
    let fields: Vec<&str> = dev.lines().nth(2).unwrap().split_whitespace().collect();
    assert_eq!((fields[0], fields.len()), ("lo:", 17));
    assert_eq!(text(&namespace, "route").lines().count(), 1, "the loopback's routes are local ones");
}

#[test]
fn counters_have_a_name_each() {
    let namespace = NetNamespace::new(Stack::builder().build());
    for name in ["snmp", "netstat"] {
        let text = text(&namespace, name);
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.chunks(2) {
            assert_eq!(pair[0].split(' ').count(), pair[1].split(' ').count(), "{}", pair[0]);
        }
    }
}
