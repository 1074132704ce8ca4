//! Programs against what Linux says about them.

use super::*;
use crate::packet::{AddressedTo, Packet};

fn op(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

fn parse(text: &str) -> Vec<Instruction> {
    let number = |text: &str| u32::from_str_radix(text, 16).unwrap();
    let instruction = |text: &str| {
        let fields: Vec<u32> = text.split(',').map(number).collect();
        let (jt, jf) = (u8::try_from(fields[1]).unwrap(), u8::try_from(fields[2]).unwrap());
        Instruction { code: u16::try_from(fields[0]).unwrap(), jt, jf, k: fields[3] }
    };
    text.split_whitespace().map(instruction).collect()
}

/// Random programs over random bytes. Each line of the file is what a local datagram socket of Linux 6.18 did with the
/// program attached: `refused`, or the length that its reader got, zero for a dropped datagram.
#[test]
fn programs_do_what_they_do_on_linux() {
    let mut seen = [0; 3];
    for line in include_str!("vectors.txt").lines() {
        let [expected, data, program] = line.split('|').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let byte = |at: usize| u8::from_str_radix(&data[2 * at..2 * at + 2], 16).unwrap();
        let data: Vec<u8> = (0..data.len() / 2).map(byte).collect();
        let got = match Program::new(&parse(program)) {
            Err(_) => "refused".to_owned(),
            Ok(program) => data.len().min(program.run_on_bytes(&data) as usize).to_string(),
        };
        assert_eq!(got, expected, "{line}");
        seen[match expected {
            "refused" => 0,
            "0" => 1,
            _ => 2,
        }] += 1;
    }
    assert!(seen.iter().all(|&count| count >= 50), "{seen:?}");
}

#[test]
fn programs_are_refused_for_the_right_reason() {
    let memory = [op(0x60, 3), op(0x16, 0)];
    let too_long = vec![op(0x06, 0); MAX_INSTRUCTIONS + 1];
    let jump_out = [Instruction { code: 0x15, jt: 1, jf: 0, k: 0 }, op(0x06, 0)];
    for (program, expected) in [
        (&[][..], ProgramError::Length(0)),
        (&too_long[..], ProgramError::Length(MAX_INSTRUCTIONS + 1)),
        (&[op(0x34, 0), op(0x06, 0)], ProgramError::Instruction(0)),
        (&[op(0x20, 0xffff_f001), op(0x06, 0)], ProgramError::Instruction(0)),
        (&[op(0x02, 16), op(0x06, 0)], ProgramError::Instruction(0)),
        (&jump_out, ProgramError::Jump(0)),
        (&[op(0x05, u32::MAX), op(0x06, 0)], ProgramError::Jump(0)),
        (&memory, ProgramError::Unwritten(0)),
        (&[op(0x00, 1)], ProgramError::NoReturn),
    ] {
        assert_eq!(Program::new(program), Err(expected));
    }
    assert!(Program::new(&vec![op(0x06, 0); MAX_INSTRUCTIONS]).is_ok());
}

/// An Ethernet frame with IPv4 and UDP, of which the program's data begins at the transport header.
#[test]
fn what_is_beside_the_bytes_can_be_loaded() {
    let mut frame = vec![0xaa; 14];
    frame.extend([0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0, 53, 0, 54, 0, 12, 0, 0, 1, 2, 3, 4]);
    let mut packet = Packet::from_frame(frame.into());
    packet.meta.mark = 77;
    let nic = crate::NicId::from_index(3).unwrap();
    let subject = Subject::new(&packet, 34)
        .on(nic, crate::link::Medium::Loopback, AddressedTo::Outgoing)
        .of_protocol(netstack_wire::ethernet::EtherType::IPV4)
        .with_headers(Some(0), 14);
    let run = |load: Instruction| Program::new(&[load, op(0x16, 0)]).unwrap().run(&subject);
    const ANCILLARY: u32 = 0xffff_f000;
    for (number, expected) in [(0, 0x0800), (4, 4), (8, 3), (20, 77), (28, 772), (52, 8), (44, 0)] {
        assert_eq!(run(op(0x20, ANCILLARY + number)), expected, "{number}");
    }
    // The destination port, and the same from the other headers.
    assert_eq!(run(op(0x28, 2)), 54);
    assert_eq!(run(op(0x28, 0xfff0_0000 + 22)), 54);
    assert_eq!(run(op(0x28, 0xffe0_0000 + 36)), 54);
    assert_eq!((run(op(0x80, 0)), run(op(0x20, 9))), (12, 0));
}

#[test]
fn words_are_read_in_the_order_of_the_machine_and_only_whole() {
    let load = |code, k| {
        let program = [Instruction { code, jt: 0, jf: 0, k }, Instruction { code: 0x16, jt: 0, jf: 0, k: 0 }];
        Program::new(&program).unwrap().run_on_words(&[0x0102_0304, 7])
    };
    assert_eq!(load(0x20, 0), 0x0102_0304);
    assert_eq!(load(0x20, 4), 7);
    assert_eq!(load(0x80, 0), 8);
    // Misaligned, behind the end, a byte, what only packets have: no answer.
    for (code, k) in [(0x20, 2), (0x20, 8), (0x30, 0), (0x20, 0xffff_f000)] {
        assert_eq!(load(code, k), 0);
    }
}
