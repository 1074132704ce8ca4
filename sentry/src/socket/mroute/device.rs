//! The device that stands for PIM registers, `pimreg` or `pim6reg`: routing programs look for its number.

use std::sync::Arc;

use netstack::link::{Capabilities, Link, LinkError, Medium};
use netstack::options::Family;
use netstack::packet::Packet;
use netstack::{NicId, Stack};
use sentry_abi::mroute::{MRT_TABLE_DEFAULT, MRT6_TABLE_DEFAULT};

/// The device, which is there for as long as this value.
#[derive(Debug)]
pub(super) struct RegisterDevice {
    stack: Stack,
    nic: NicId,
}

impl RegisterDevice {
    /// Makes the one of a table; `None` if there is something of its name.
    pub(super) fn new(stack: &Stack, family: Family, table: u32) -> Option<Self> {
        let (name, default) = match family {
            Family::V4 => ("pimreg", MRT_TABLE_DEFAULT),
            Family::V6 => ("pim6reg", MRT6_TABLE_DEFAULT),
        };
        let name = if table == default { name.to_owned() } else { format!("{name}{table}") };
        let nic = stack.add_nic(&name, Arc::new(Nowhere)).ok()?;
        Some(Self { stack: stack.clone(), nic })
    }

    /// Its number, as the stack has it.
    pub(super) fn nic(&self) -> NicId {
        self.nic
    }

    /// Its number.
    pub(super) fn index(&self) -> u32 {
        self.nic.index()
    }
}

impl Drop for RegisterDevice {
    fn drop(&mut self) {
        // It is gone if somebody else has removed it.
        let _ = self.stack.remove_nic(self.nic);
    }
}

/// What routes would send to the device is lost; what the table of multicast routes sends there goes to the program.
struct Nowhere;

impl Link for Nowhere {
    fn medium(&self) -> Medium {
        Medium::Ip
    }

    fn mtu(&self) -> usize {
        MTU
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn send_batch(&self, packets: &mut [Packet]) -> Result<usize, LinkError> {
        packets.iter_mut().for_each(|packet| drop(std::mem::take(packet)));
        Ok(packets.len())
    }
}

/// `reg_vif_setup`: Ethernet's, less the message's IP header and its own.
const MTU: usize = 1500 - 20 - 8;
