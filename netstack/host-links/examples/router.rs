//! A router with a firewall and address translation between two taps: everything between two networks of the host runs
//! in this process.
//!
//! ```text
//! ip netns add inside && ip netns add outside
//! ip netns exec inside ip tuntap add lan0 mode tap && ip netns exec outside ip tuntap add wan0 mode tap
//! ...
//! cargo run -p netstack-host-links --example router -- lan0 10.20.0.1/24,fd20::1/64 wan0 10.21.0.2/24,fd21::2/64 \
//!     10.21.0.1,fd21::1
//! ```
//!
//! The arguments are the device inside with the router's addresses there, the device outside with its addresses, and the
//! gateways outside. Hosts inside reach everything outside and seem to be the router; nobody outside begins anything
//! with those inside.

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netstack::filter::{Chain, ConnState, Hook, Policy, Ports, Rule, Ruleset, Table, Target, Test};
use netstack::options::Family;
use netstack::route::Route;
use netstack::wire::ethernet::MacAddr;
use netstack::{IpCidr, Stack};
use netstack_host_links::{HostLink, Pump, TapLink, TapOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [inside, inside_addresses, outside, outside_addresses, gateways] = &arguments[..] else {
        return Err("usage: router LAN-TAP ADDRESS/LEN,.. WAN-TAP ADDRESS/LEN,.. GATEWAY,..".into());
    };
    let inside = TapLink::open(inside, TapOptions::tap(INSIDE_MAC))?;
    let outside = TapLink::open(outside, TapOptions::tap(OUTSIDE_MAC))?;
    let sides = [Side::new(inside, inside_addresses)?, Side::new(outside, outside_addresses)?];
    let gateways: Vec<IpAddr> = gateways.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let (stack, mut pump) = router(sides, &gateways)?;
    let mut told = Instant::now();
    loop {
        pump.turn(Some(Duration::from_secs(10)))?;
        if told.elapsed() >= Duration::from_secs(10) {
            told = Instant::now();
            let stats = stack.stats();
            let flows = stack.tracked_flows().len();
            println!(
                "{} packets forwarded, {} dropped, {flows} flows",
                stats.ip_forw_datagrams, stats.filter_dropped
            );
        }
    }
}

/// One network that the router is in.
pub(crate) struct Side {
    link: Arc<dyn HostLink>,
    addresses: Vec<IpCidr>,
}

impl Side {
    /// A link and the router's addresses on it, separated by commas.
    pub(crate) fn new(link: Arc<dyn HostLink>, addresses: &str) -> Result<Self, Box<dyn Error>> {
        let addresses = addresses.split(',').map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { link, addresses })
    }
}

/// Builds the router between the networks inside and outside.
pub(crate) fn router(
    [inside, outside]: [Side; 2],
    gateways: &[IpAddr],
) -> Result<(Stack, Pump), Box<dyn Error>> {
    let stack = Stack::builder().build();
    let mut pump = Pump::new(stack.clone())?;
    for (name, side) in [(INSIDE, inside), (OUTSIDE, outside)] {
        let nic = stack.add_nic(name, Arc::<dyn HostLink>::clone(&side.link))?;
        side.addresses.into_iter().try_for_each(|address| stack.add_address(nic, address))?;
        stack.set_nic_options(nic, |options| {
            (options.forwards_v4, options.forwards_v6) = (true, true);
        })?;
        pump.add(nic, side.link);
    }
    let wan = stack.nic_by_name(OUTSIDE).ok_or("the NIC was just made")?;
    for gateway in gateways {
        let everything = if gateway.is_ipv4() { IpCidr::DEFAULT_V4 } else { IpCidr::DEFAULT_V6 };
        stack.add_route(Route::via(everything, *gateway, wan))?;
    }
    for family in [Family::V4, Family::V6] {
        stack.set_filter(family, rules())?;
    }
    Ok((stack, pump))
}

/// What `iptables-save` would show as: a FORWARD chain that lets answers and what begins inside through, and
/// MASQUERADE for what leaves outside.
fn rules() -> Ruleset {
    let answers = Test::State(ConnState::ESTABLISHED | ConnState::RELATED);
    let forward = Chain::builtin(Table::Filter, Hook::Forward, Policy::Drop)
        .rule(Rule::new(Target::Accept).when(answers))
        .rule(
            Rule::new(Target::Accept)
                .when(Test::InputNic(INSIDE.to_owned()))
                .when(Test::State(ConnState::NEW)),
        );
    let masquerade = Chain::builtin(Table::Nat, Hook::Postrouting, Policy::Accept).rule(
        Rule::new(Target::Masquerade { ports: None, choice: Ports::Near })
            .when(Test::OutputNic(OUTSIDE.to_owned())),
    );
    Ruleset::new().chain(forward).chain(masquerade)
}

/// The names of the NICs within the stack.
const INSIDE: &str = "lan0";
const OUTSIDE: &str = "wan0";
/// The router's stations; any locally administered addresses do.
pub(crate) const INSIDE_MAC: MacAddr = MacAddr([2, 0, 0, 0, 1, 1]);
pub(crate) const OUTSIDE_MAC: MacAddr = MacAddr([2, 0, 0, 0, 2, 1]);
