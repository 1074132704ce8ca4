//! Instructions, taken apart: what the numbers in a program mean.

use super::{Instruction, MEMORY_WORDS};

/// A decoded instruction. "A" is the accumulator, "X" the index register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    /// A from the packet.
    Load(Size, Place),
    /// A from what is known about the packet.
    LoadAncillary(Ancillary),
    /// A is the length of the packet.
    LoadLen,
    /// A is a constant.
    LoadConstant(u32),
    /// A from the scratch memory.
    LoadMemory(u8),
    /// X is four times the low half of a byte: the length of an IPv4 header.
    IndexHeaderLen(u32),
    /// X is the length of the packet.
    IndexLen,
    /// X is a constant.
    IndexConstant(u32),
    /// X from the scratch memory.
    IndexMemory(u8),
    /// A into the scratch memory.
    Store(u8),
    /// X into the scratch memory.
    StoreIndex(u8),
    /// A is changed by an operand.
    Compute(Compute, Operand),
    /// A is its own negative.
    Negate,
    /// Skips instructions.
    Jump(usize),
    /// Skips instructions, by a comparison of A.
    Branch { test: Test, operand: Operand, if_true: u8, if_false: u8 },
    /// X becomes A.
    ToIndex,
    /// A becomes X.
    FromIndex,
    /// The answer is a constant.
    ReturnConstant(u32),
    /// The answer is A.
    Return,
}

/// How much is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    Word,
    Half,
    Byte,
}

/// Where from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// At an offset.
    At(u32),
    /// At an offset from X.
    FromIndex(u32),
}

/// The second operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    Constant(u32),
    Index,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compute {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Or,
    And,
    Xor,
    ShiftLeft,
    ShiftRight,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
    AnyBit,
}

/// The loads at `SKF_AD_OFF` (`<linux/filter.h>`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ancillary {
    Protocol,
    PacketType,
    Nic,
    NetlinkAttribute,
    NestedNetlinkAttribute,
    Mark,
    Queue,
    HardwareType,
    FlowHash,
    Processor,
    /// Not a load: A is changed by X.
    XorIndex,
    VlanTag,
    HasVlanTag,
    PayloadOffset,
    Random,
    VlanProtocol,
}

/// Decodes an instruction. `None` where Linux refuses it by itself (`bpf_check_classic`); jumps are not followed.
pub(super) fn decode(instruction: Instruction) -> Option<Op> {
    let Instruction { code, jt: if_true, jf: if_false, k } = instruction;
    let memory = || u8::try_from(k).ok().filter(|&word| usize::from(word) < MEMORY_WORDS);
    let operand = if code & SOURCE_X != 0 { Operand::Index } else { Operand::Constant(k) };
    Some(match code {
        0x20 => absolute(Size::Word, k)?,
        0x28 => absolute(Size::Half, k)?,
        0x30 => absolute(Size::Byte, k)?,
        0x40 => Op::Load(Size::Word, Place::FromIndex(k)),
        0x48 => Op::Load(Size::Half, Place::FromIndex(k)),
        0x50 => Op::Load(Size::Byte, Place::FromIndex(k)),
        0x80 => Op::LoadLen,
        0x00 => Op::LoadConstant(k),
        0x60 => Op::LoadMemory(memory()?),
        0xb1 => Op::IndexHeaderLen(k),
        0x81 => Op::IndexLen,
        0x01 => Op::IndexConstant(k),
        0x61 => Op::IndexMemory(memory()?),
        0x02 => Op::Store(memory()?),
        0x03 => Op::StoreIndex(memory()?),
        0x84 => Op::Negate,
        0x07 => Op::ToIndex,
        0x87 => Op::FromIndex,
        0x06 => Op::ReturnConstant(k),
        0x16 => Op::Return,
        // A distance that does not fit leads out of every program.
        0x05 => Op::Jump(usize::try_from(k).ok()?),
        0x15 | 0x1d => Op::Branch { test: Test::Equal, operand, if_true, if_false },
        0x25 | 0x2d => Op::Branch { test: Test::Greater, operand, if_true, if_false },
        0x35 | 0x3d => Op::Branch { test: Test::GreaterOrEqual, operand, if_true, if_false },
        0x45 | 0x4d => Op::Branch { test: Test::AnyBit, operand, if_true, if_false },
        _ => Op::Compute(compute(code, operand)?, operand),
    })
}

fn compute(code: u16, operand: Operand) -> Option<Compute> {
    let is_zero = operand == Operand::Constant(0);
    let shifts_all_out = matches!(operand, Operand::Constant(32..));
    Some(match code & !SOURCE_X {
        0x04 => Compute::Add,
        0x14 => Compute::Sub,
        0x24 => Compute::Mul,
        0x34 if !is_zero => Compute::Div,
        0x94 if !is_zero => Compute::Mod,
        0x44 => Compute::Or,
        0x54 => Compute::And,
        0xa4 => Compute::Xor,
        0x64 if !shifts_all_out => Compute::ShiftLeft,
        0x74 if !shifts_all_out => Compute::ShiftRight,
        _ => return None,
    })
}

/// A load at a fixed offset; the highest offsets are names of what is known beside the bytes.
fn absolute(size: Size, k: u32) -> Option<Op> {
    let Some(number) = k.checked_sub(ANCILLARY) else { return Some(Op::Load(size, Place::At(k))) };
    Some(Op::LoadAncillary(match number {
        0 => Ancillary::Protocol,
        4 => Ancillary::PacketType,
        8 => Ancillary::Nic,
        12 => Ancillary::NetlinkAttribute,
        16 => Ancillary::NestedNetlinkAttribute,
        20 => Ancillary::Mark,
        24 => Ancillary::Queue,
        28 => Ancillary::HardwareType,
        32 => Ancillary::FlowHash,
        36 => Ancillary::Processor,
        40 => Ancillary::XorIndex,
        44 => Ancillary::VlanTag,
        48 => Ancillary::HasVlanTag,
        52 => Ancillary::PayloadOffset,
        56 => Ancillary::Random,
        60 => Ancillary::VlanProtocol,
        _ => return None,
    }))
}

/// `BPF_X`: the operand is the index register.
const SOURCE_X: u16 = 0x08;
/// `SKF_AD_OFF`, -4096.
const ANCILLARY: u32 = 0xffff_f000;
