//! Tables as iptables sets them.

use netstack::options::Family;

use crate::network;

/// Sets a table and has packets meet its rules. The first bit of `data` is the family, the rest `struct ipt_replace` with
/// its entries.
pub fn iptables(data: &[u8]) {
    let Some((&first, request)) = data.split_first() else { return };
    let family = if first & 1 == 0 { Family::V4 } else { Family::V6 };
    let namespace = network::namespace();
    if namespace.replace_ip_table(family, request).is_err() {
        return;
    }
    let name = request.iter().take_while(|byte| **byte != 0).copied().collect();
    let name = String::from_utf8(name).expect("it was found");
    let set = namespace.ip_table_entries(family, &name).expect("it was set");
    // The same entries, but for the counters, which begin at zero.
    assert_eq!(Some(set.len()), size(request), "what is read is what was written");
    network::traffic(namespace.stack());
    let counted = namespace.ip_table_entries(family, &name).expect("it is set");
    assert_eq!(counted.len(), set.len());
    // The same once more: now it replaces itself, so that the number of old entries is the new one's.
    let mut again = request.to_vec();
    again.copy_within(36..40, 84);
    let counters = namespace.replace_ip_table(family, &again).expect("it was accepted before");
    let entries = u32::from_ne_bytes(request[36..40].try_into().expect("four bytes"));
    assert_eq!(u32::try_from(counters.len()), Ok(entries));
}

/// The bytes of the entries, as the structure says.
fn size(request: &[u8]) -> Option<usize> {
    let field = request.get(40..44)?.try_into().ok()?;
    usize::try_from(u32::from_ne_bytes(field)).ok()
}
