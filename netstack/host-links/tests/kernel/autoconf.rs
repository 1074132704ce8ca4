//! radvd announces to a host of ours: routers, prefixes, name servers.

use integration_tests::wait_until;
use netstack::autoconf::AutoconfOptions;
use nix::sys::signal::Signal;

use crate::common::{LIMIT, Net, Way};
use crate::require_tools;

const CONFIGURATION: &str = "
interface k0 {
    AdvSendAdvert on;
    MinRtrAdvInterval 3;
    MaxRtrAdvInterval 4;
    AdvDefaultLifetime 600;
    AdvDefaultPreference high;
    AdvLinkMTU 1400;
    AdvCurHopLimit 33;
    AdvOtherConfigFlag on;
    prefix 2001:db8:77::/64 { AdvPreferredLifetime 600; AdvValidLifetime 1200; };
    prefix 2001:db8:78::/64 { AdvAutonomous off; };
    route 2001:db8:79::/48 { AdvRoutePreference low; AdvRouteLifetime 600; };
    RDNSS 2001:db8:77::53 2001:db8:77::54 { AdvRDNSSLifetime 300; };
    DNSSL example.org sub.example.org { AdvDNSSLLifetime 300; };
};
";

#[test]
fn radvd_configures_the_stack() {
    require_tools!("radvd");
    let net = Net::new(Way::Tap, 1500);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("radvd.conf");
    std::fs::write(&file, CONFIGURATION).unwrap();
    // It announces only where the kernel is a router.
    net.kernel.inside(|| std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")).unwrap();
    net.kernel.ip(&["addr", "add", "2001:db8:77::1/64", "dev", "k0", "nodad"]);
    let pid_file = folder.path().join("pid");
    let radvd =
        net.start(&format!("radvd -n -C {} -p {} -m stderr -d 1", file.display(), pid_file.display()));

    let nic = net.stack.nic_by_name("eth0").unwrap();
    net.stack.start_autoconf(nic, AutoconfOptions::default()).unwrap();
    let learned = || net.stack.autoconf(nic).unwrap();
    wait_until("an address", LIMIT, || !learned().addresses.is_empty());
    let info = learned();
    let [own] = info.addresses[..] else { panic!("{info:?}") };
    assert_eq!(own.address.segments()[..4], [0x2001, 0xdb8, 0x77, 0]);
    assert!(own.preferred_until < own.valid_until && own.preferred_until.is_some(), "{own:?}");
    let servers: Vec<_> = info.dns_servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["2001:db8:77::53", "2001:db8:77::54"]);
    assert_eq!(info.dns_search, ["example.org", "sub.example.org"]);
    assert!(info.has_other_config && !info.is_managed);
    let [router] = info.routers[..] else { panic!("{info:?}") };
    assert_eq!(router.preference, netstack::wire::ndp::Preference::High);
    let on_link: Vec<_> = info.prefixes.iter().map(|(prefix, _)| prefix.to_string()).collect();
    assert!(on_link.contains(&"2001:db8:78::/64".to_owned()), "{on_link:?}");
    let routes: Vec<_> = net.stack.routes().iter().map(|route| route.destination.to_string()).collect();
    assert!(
        ["::/0", "2001:db8:79::/48"].iter().all(|wanted| routes.iter().any(|had| had == wanted)),
        "{routes:?}"
    );

    // The address works, once nobody else has it.
    wait_until("an answer", LIMIT, || net.run(&format!("ping -n -c 1 -W 1 {}", own.address)).status == 0);
    // The hop limit that was announced, and the MTU.
    let ping = net.run(&format!("ping -n -c 1 -W 5 {}", own.address)).ok();
    assert!(ping.out().contains("ttl=33"), "{}", ping.out());

    // It says good-bye with a lifetime of zero; the address stays.
    radvd.signal(Signal::SIGTERM);
    wait_until("the end of the router", LIMIT, || learned().routers.is_empty());
    assert_eq!(learned().addresses.len(), 1);
    drop(radvd);
}
