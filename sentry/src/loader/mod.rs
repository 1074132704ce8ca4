//! Loading programs: ELF, scripts, the initial stack, the vDSO (`execve(2)`).

mod elf;
mod image;
mod script;
mod segment;
mod stack;
mod vdso;
mod vdso_image;

pub use elf::{Elf, ElfKind};
pub use image::{Addresses, FindCredentials, Image, LoadRequest, OpenProgram, load};
pub(crate) use vdso::Parameters;
pub use vdso::Vdso;
