//! Classic BPF: the checker takes whatever it gets, and what it passes runs to its end over any bytes.

use netstack::bpf::{Instruction, Program};

use crate::input::Input;

/// A program and the bytes that it runs over. Half of the operation codes are taken as they are, the others are brought
/// near to those that exist.
pub fn bpf(data: &[u8]) {
    let mut input = Input::new(data);
    let count = usize::from(input.u8());
    let source: Vec<_> = (0..count).map(|_| instruction(&mut input)).collect();
    let Ok(program) = Program::new(&source) else { return };
    assert_eq!(program.instructions(), source);
    assert!(matches!(source.last(), Some(Instruction { code: 0x06 | 0x16, .. })));
    let bytes = input.take(4096);
    let first = program.run_on_bytes(bytes);
    assert_eq!(first, program.run_on_bytes(bytes), "programs keep nothing");
    // What a program returns is a number of its own, its scratch memory included: bytes that it cannot reach do not count.
    if source.iter().all(|instruction| matches!(instruction.code & 7, 0x05..=0x07)) {
        assert_eq!(first, program.run_on_bytes(&[]));
    }
}

fn instruction(input: &mut Input<'_>) -> Instruction {
    let code = match input.u8() {
        code @ 0..128 => u16::from(CODES[usize::from(code) % CODES.len()]),
        _ => input.u16(),
    };
    let (jt, jf) = (input.u8() % 8, input.u8() % 8);
    let k = match input.u8() % 4 {
        0 => u32::from(input.u8() % 64),
        1 => 0xffff_f000_u32.wrapping_add(u32::from(input.u8())),
        2 => 0xffe0_0000_u32.wrapping_add(u32::from(input.u8()) << 16),
        _ => input.u32(),
    };
    Instruction { code, jt, jf, k }
}

/// All that exist (`<linux/bpf_common.h>`).
const CODES: [u8; 48] = [
    0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x80, 0x00, 0x60, 0xb1, 0x81, 0x01, 0x61, 0x02, 0x03, 0x04, 0x0c,
    0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c, 0x94, 0x9c, 0x44, 0x4c, 0x54, 0x5c, 0xa4, 0xac, 0x64, 0x6c, 0x74,
    0x7c, 0x84, 0x05, 0x15, 0x1d, 0x25, 0x2d, 0x35, 0x3d, 0x45, 0x4d, 0x07, 0x87, 0x16,
];
