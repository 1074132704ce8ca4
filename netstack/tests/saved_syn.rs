//! `TCP_SAVE_SYN`: a listener keeps the headers of the SYNs that its connections began with.

mod common;

use common::{Wire, family_of};
use netstack::TcpSocket;
use netstack::tcp::SaveSyn;

/// The second SYN of a host, and the ones behind it, may come in a shorter way than the first.
#[test]
fn each_connection_of_a_host_has_its_syn() {
    for server in ["10.0.0.2:80", "[fd00::2]:80"] {
        let mut wire = Wire::new();
        let listener = TcpSocket::new(&wire.b.stack, family_of(server.parse().unwrap()));
        listener.set_tcp_options(|options| options.save_syn = SaveSyn::Network);
        listener.bind(server.parse().unwrap()).unwrap();
        listener.listen(16).unwrap();
        for _ in 0..4 {
            let client = wire.a.connect(server);
            wire.settle();
            let (accepted, _) = listener.try_accept().unwrap();
            let saved = accepted.saved_syn().expect("the headers");
            let (version, at) = if server.starts_with('[') { (6, 40) } else { (4, 20) };
            assert_eq!(saved[0] >> 4, version);
            let port = client.local_addr().port().to_be_bytes();
            assert_eq!(saved[at..at + 2], port, "{server}");
            // SYN alone.
            assert_eq!(saved[at + 13] & 0x3f, 2);
            drop((client, accepted));
            wire.settle();
        }
    }
}
