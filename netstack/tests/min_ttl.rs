//! Connections that packets may not reach from too far away (RFC 5082), over Ethernet, where segments take the short ways.

mod common;

use std::time::Duration;

use common::{Wire, read_available};

#[test]
fn only_the_socket_that_asks_for_it_ignores_what_comes_from_far() {
    for (server, options) in [("10.0.0.2:80", false), ("[fd00::2]:80", true)] {
        let mut wire = Wire::new();
        let listener = wire.b.listen(server, 4);
        let connect = |wire: &mut Wire| {
            let client = wire.a.connect(server);
            wire.settle();
            (client, listener.try_accept().unwrap().0)
        };
        let (near, of_near) = connect(&mut wire);
        let (far, of_far) = connect(&mut wire);
        let limit = |socket: &netstack::TcpSocket, hops: u8| {
            socket.set_options(|of_socket| match options {
                false => of_socket.min_ttl = hops,
                true => of_socket.min_hop_limit = hops,
            });
        };
        // All packets have 64.
        limit(&of_near, 64);
        limit(&of_far, 65);
        let drops = |wire: &Wire| wire.b.stack.stats().tcp_min_ttl_drops;
        // Small and alone, and more than one segment in a batch.
        for len in [10, 5000] {
            near.try_send(&mut &vec![7; len][..]).unwrap();
            far.try_send(&mut &vec![7; len][..]).unwrap();
            wire.settle();
            assert_eq!(read_available(&of_near).len(), len);
            assert_eq!(read_available(&of_far).len(), 0);
        }
        let before = drops(&wire);
        assert!(before >= 2, "{before}");
        // What was lost is repeated once it may come.
        limit(&of_far, 0);
        wire.run(Duration::from_secs(2));
        assert_eq!((read_available(&of_far).len(), drops(&wire) > before), (5010, false));
        // A FIN is ignored like data, and so are SYNs to a listener.
        limit(&of_far, 200);
        limit(&listener, 200);
        let late = wire.a.connect(server);
        far.close();
        wire.settle();
        assert!(listener.try_accept().is_err());
        assert!(drops(&wire) >= before + 2);
        drop(late);
    }
}
