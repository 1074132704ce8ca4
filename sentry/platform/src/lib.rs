//! Running guest code: address spaces, contexts, the memory file; systrap and ptrace.
