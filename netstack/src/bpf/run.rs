//! Running a checked program.

use super::MEMORY_WORDS;
use super::op::{Ancillary, Compute, Op, Operand, Place, Size, Test};
use super::subject::Subject;

/// What a program looks at.
pub(super) trait Data {
    /// How long it is.
    fn len(&self) -> u32;

    /// What is at an offset; `None` if it is not all there.
    fn load(&self, size: Size, offset: u32) -> Option<u32>;

    /// What is known beside; `None` for what only a packet on a link has.
    fn ancillary(&self, what: Ancillary, a: u32, x: u32) -> Option<u32>;
}

/// A structure of words in the byte order of the machine.
pub(super) struct Words<'a>(pub(super) &'a [u32]);

impl Data for Words<'_> {
    fn len(&self) -> u32 {
        // Callers have a few words.
        u32::try_from(size_of_val(self.0)).unwrap_or(u32::MAX)
    }

    fn load(&self, size: Size, offset: u32) -> Option<u32> {
        let is_whole = size == Size::Word && offset.is_multiple_of(4);
        self.0.get(usize::try_from(offset / 4).ok()?).copied().filter(|_| is_whole)
    }

    fn ancillary(&self, _: Ancillary, _: u32, _: u32) -> Option<u32> {
        None
    }
}

/// The answer of a program about a packet. Every jump goes forward, so it takes at most one step per instruction.
pub(super) fn run(ops: &[Op], subject: &impl Data) -> u32 {
    // A program that reads what is not there, or divides by nothing, wants no byte.
    Machine { a: 0, x: 0, memory: [0; MEMORY_WORDS], subject }.run(ops).unwrap_or(0)
}

struct Machine<'a, D> {
    a: u32,
    x: u32,
    memory: [u32; MEMORY_WORDS],
    subject: &'a D,
}

impl<D: Data> Machine<'_, D> {
    /// `None` where the program ends without an answer of its own.
    fn run(&mut self, ops: &[Op]) -> Option<u32> {
        let mut at = 0;
        loop {
            let op = *ops.get(at)?;
            at += 1;
            match op {
                Op::Load(size, place) => self.a = self.load(size, place)?,
                Op::LoadAncillary(what) => match self.subject.ancillary(what, self.a, self.x) {
                    Some(value) => self.a = value,
                    // Linux leaves a program that asks for the link of a packet without one, with A as it was.
                    None => return Some(self.a),
                },
                Op::LoadLen => self.a = self.subject.len(),
                Op::LoadConstant(k) => self.a = k,
                Op::LoadMemory(word) => self.a = *self.memory.get(usize::from(word))?,
                Op::IndexHeaderLen(k) => self.x = (self.load(Size::Byte, Place::At(k))? & 0xf) * 4,
                Op::IndexLen => self.x = self.subject.len(),
                Op::IndexConstant(k) => self.x = k,
                Op::IndexMemory(word) => self.x = *self.memory.get(usize::from(word))?,
                Op::Store(word) => *self.memory.get_mut(usize::from(word))? = self.a,
                Op::StoreIndex(word) => *self.memory.get_mut(usize::from(word))? = self.x,
                Op::Compute(what, operand) => self.a = compute(what, self.a, self.value(operand))?,
                Op::Negate => self.a = self.a.wrapping_neg(),
                Op::Jump(distance) => at += distance,
                Op::Branch { test, operand, if_true, if_false } => {
                    let holds = compare(test, self.a, self.value(operand));
                    at += usize::from(if holds { if_true } else { if_false });
                }
                Op::ToIndex => self.x = self.a,
                Op::FromIndex => self.a = self.x,
                Op::ReturnConstant(k) => return Some(k),
                Op::Return => return Some(self.a),
            }
        }
    }

    fn value(&self, operand: Operand) -> u32 {
        match operand {
            Operand::Constant(k) => k,
            Operand::Index => self.x,
        }
    }

    fn load(&self, size: Size, place: Place) -> Option<u32> {
        let offset = match place {
            Place::At(k) => k,
            Place::FromIndex(k) => self.x.wrapping_add(k),
        };
        self.subject.load(size, offset)
    }
}

impl Data for Subject<'_> {
    fn len(&self) -> u32 {
        Subject::len(self)
    }

    fn load(&self, size: Size, offset: u32) -> Option<u32> {
        Some(match size {
            Size::Word => u32::from_be_bytes(self.read(offset)?),
            Size::Half => u16::from_be_bytes(self.read(offset)?).into(),
            Size::Byte => u8::from_be_bytes(self.read(offset)?).into(),
        })
    }

    fn ancillary(&self, what: Ancillary, a: u32, x: u32) -> Option<u32> {
        let subject = self;
        match what {
            Ancillary::Protocol => Some(subject.protocol().into()),
            Ancillary::PacketType => Some(subject.packet_type().into()),
            Ancillary::Nic => subject.nic(),
            Ancillary::NetlinkAttribute => Some(subject.netlink_attribute(a, x)),
            Ancillary::NestedNetlinkAttribute => Some(subject.nested_netlink_attribute(a, x)),
            Ancillary::Mark => Some(subject.mark()),
            Ancillary::HardwareType => subject.hardware_type().map(u32::from),
            Ancillary::XorIndex => Some(a ^ x),
            Ancillary::PayloadOffset => Some(subject.payload_offset()),
            Ancillary::Random => Some(subject.random()),
            // There is one queue, links compute no hashes, and tags of VLANs stay in the frame.
            Ancillary::Queue
            | Ancillary::FlowHash
            | Ancillary::Processor
            | Ancillary::VlanTag
            | Ancillary::HasVlanTag
            | Ancillary::VlanProtocol => Some(0),
        }
    }
}

fn compute(what: Compute, a: u32, operand: u32) -> Option<u32> {
    Some(match what {
        Compute::Add => a.wrapping_add(operand),
        Compute::Sub => a.wrapping_sub(operand),
        Compute::Mul => a.wrapping_mul(operand),
        Compute::Div => a.checked_div(operand)?,
        Compute::Mod => a.checked_rem(operand)?,
        Compute::Or => a | operand,
        Compute::And => a & operand,
        Compute::Xor => a ^ operand,
        // As the processor that Linux hands it to: only the low five bits of the distance count.
        Compute::ShiftLeft => a.wrapping_shl(operand),
        Compute::ShiftRight => a.wrapping_shr(operand),
    })
}

fn compare(test: Test, a: u32, operand: u32) -> bool {
    match test {
        Test::Equal => a == operand,
        Test::Greater => a > operand,
        Test::GreaterOrEqual => a >= operand,
        Test::AnyBit => a & operand != 0,
    }
}
