#![doc = include_str!("../README.md")]
#![deny(missing_docs)]
#![expect(non_camel_case_types, reason = "the names are C's")]

mod address;
mod control;
mod descriptor;
mod errno;
mod error_queue;
mod forward;
mod frame;
mod info;
mod interface;
mod message;
mod messages;
mod option;
mod packet;
mod packet_option;
mod poll;
mod socket;
mod stack;
mod transfer;

pub use forward::{
    NS_FORWARD_ECHO, NS_FORWARD_TCP, NS_FORWARD_UDP, ns_forwarder_new, ns_forwarder_next,
    ns_forwarder_sendto, ns_request, ns_request_accept, ns_request_data, ns_request_refuse,
    ns_request_reject,
};
pub use frame::{ns_inject, ns_take};
pub use info::{ns_tcp_get_info, ns_tcp_info};
pub use interface::{ns_address_add, ns_neighbour_add, ns_nic_add_channel, ns_nic_open, ns_route_add};
pub use message::{ns_recvmsg, ns_sendmsg};
pub use messages::{ns_recvmmsg, ns_sendmmsg};
pub use option::{ns_getsockopt, ns_setsockopt};
pub use poll::ns_poll;
pub use socket::{
    ns_accept, ns_bind, ns_close, ns_connect, ns_getpeername, ns_getsockname, ns_listen, ns_set_nonblocking,
    ns_shutdown, ns_socket,
};
pub use stack::{
    ns_config, ns_stack, ns_stack_advance_to, ns_stack_free, ns_stack_new, ns_stack_next_deadline,
    ns_stack_now,
};
pub use transfer::{ns_recv, ns_recvfrom, ns_send, ns_sendto};
