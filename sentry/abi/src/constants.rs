//! A macro for lists of ABI constants whose names say everything.

/// Declares `pub const NAME: type = value;` for each line, without a doc comment of its own: the names are those of
/// the header that the surrounding module names.
macro_rules! constants {
    ($ty:ty; $($(#[$meta:meta])* $name:ident = $value:expr),* $(,)?) => {
        $(
            $(#[$meta])*
            #[allow(missing_docs, reason = "the names are those of the header")]
            pub const $name: $ty = $value;
        )*
    };
}
pub(crate) use constants;
