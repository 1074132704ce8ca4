use super::*;
use crate::network::veth::{Veth, VethRequest};

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root to make network namespaces");
    }
    root
}

/// Runs `test` on a thread with a namespace of its own, which is gone afterwards.
fn in_own_namespace(test: impl FnOnce() + Send) {
    namespace::in_new_net_namespace(|| -> io::Result<()> {
        test();
        Ok(())
    })
    .unwrap();
}

#[test]
fn an_interface_is_taken_over_and_given_back() {
    if !is_root() {
        return;
    }
    in_own_namespace(|| {
        // The host end of the pair plays the container's interface.
        let veth = Veth::create(&VethRequest {
            name: "eth0".to_owned(),
            host: ("10.7.0.1".parse().unwrap(), 24),
            guest: ("10.7.0.2".parse().unwrap(), 24),
            mtu: 1400,
        })
        .unwrap();
        let mut netlink = Netlink::open().unwrap();
        let index = netlink.link_named("eth0").unwrap().unwrap().header.index;
        let anywhere = ("0.0.0.0".parse().unwrap(), 0);
        netlink.add_route(index, anywhere, "10.7.0.254".parse().unwrap()).unwrap();

        let taken = take_over_here(Path::new("/proc/thread-self/ns/net")).unwrap();
        taken.take_addresses_here().unwrap();
        let [link] = taken.links.as_slice() else { panic!("{:?}", taken.links) };
        assert_eq!((link.name.as_str(), link.mtu, link.index), ("eth0", 1400, index));
        let address = IpAddress { address: "10.7.0.1".parse().unwrap(), prefix_len: 24 };
        assert_eq!(link.addresses, [address]);
        let default = taken.routes.iter().find(|route| route.destination.prefix_len == 0).unwrap();
        assert_eq!(default.gateway, Some("10.7.0.254".parse().unwrap()));
        let left = netlink.addresses().unwrap();
        assert!(left.iter().all(|message| message.header.index != index), "{left:?}");

        for (index, addresses) in &taken.to_restore.addresses {
            for address in addresses {
                netlink.add_address(*index, (address.address, address.prefix_len)).unwrap();
            }
        }
        let back = netlink.addresses().unwrap();
        assert!(back.iter().any(|message| ip_address(message) == Some(address)), "{back:?}");
        drop(veth);
    });
}

#[test]
fn a_namespace_with_a_loopback_only_has_nothing_to_take() {
    if !is_root() {
        return;
    }
    in_own_namespace(|| {
        let taken = take_over_here(Path::new("/proc/thread-self/ns/net")).unwrap();
        taken.take_addresses_here().unwrap();
        assert!(taken.links.is_empty());
        assert!(taken.routes.is_empty());
    });
}

#[test]
fn a_missing_namespace_is_not_found() {
    let error = take_over(Path::new("/run/netns/there-is-none")).unwrap_err();
    assert!(matches!(error, ScrapeError::Io(error) if error.kind() == io::ErrorKind::NotFound));
}
