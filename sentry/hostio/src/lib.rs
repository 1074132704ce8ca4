//! Host file descriptors, memfd, seccomp, signals and namespaces behind safe types.
