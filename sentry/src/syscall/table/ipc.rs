//! Rows about System V and POSIX IPC, futexes.

use crate::syscall::ipc as i;
use crate::syscall::table::{Syscall, row};

/// The rows of this family, ascending.
pub(crate) const SYSCALLS: &[Syscall] = &[
    row!(SHMGET, "shmget", [Hex, Uint, Hex], i::shm::sys_shmget, Partial("no huge pages")),
    row!(SHMAT, "shmat", [Int, Ptr, Hex], i::shm::sys_shmat, Full),
    row!(SHMCTL, "shmctl", [Int, Int, Ptr], i::shm::sys_shmctl, Full),
    row!(SEMGET, "semget", [Hex, Int, Hex], i::sem::sys_semget, Full),
    row!(SEMOP, "semop", [Int, Ptr, Uint], i::sem::sys_semop, Full),
    row!(SEMCTL, "semctl", [Int, Int, Int, Ptr], i::sem::sys_semctl, Full),
    row!(SHMDT, "shmdt", [Ptr], i::shm::sys_shmdt, Full),
    row!(MSGGET, "msgget", [Hex, Hex], i::msg::sys_msgget, Full),
    row!(MSGSND, "msgsnd", [Int, Ptr, Uint, Hex], i::msg::sys_msgsnd, Full),
    row!(MSGRCV, "msgrcv", [Int, Ptr, Uint, Int, Hex], i::msg::sys_msgrcv, Full),
    row!(MSGCTL, "msgctl", [Int, Int, Ptr], i::msg::sys_msgctl, Full),
    row!(
        FUTEX,
        "futex",
        [Ptr, Hex, Uint, Ptr, Ptr, Uint],
        i::futex::sys_futex,
        Partial("no requeue to PI futexes, no priority boosting")
    ),
    row!(SEMTIMEDOP, "semtimedop", [Int, Ptr, Uint, Ptr], i::sem::sys_semtimedop, Full),
    row!(MQ_OPEN, "mq_open", [Str, Hex, Mode, Ptr], i::mq::sys_mq_open, Full),
    row!(MQ_UNLINK, "mq_unlink", [Str], i::mq::sys_mq_unlink, Full),
    row!(MQ_TIMEDSEND, "mq_timedsend", [Fd, Ptr, Uint, Uint, Ptr], i::mq::sys_mq_timedsend, Full),
    row!(MQ_TIMEDRECEIVE, "mq_timedreceive", [Fd, Ptr, Uint, Ptr, Ptr], i::mq::sys_mq_timedreceive, Full),
    row!(MQ_NOTIFY, "mq_notify", [Fd, Ptr], i::mq_notify::sys_mq_notify, Full),
    row!(MQ_GETSETATTR, "mq_getsetattr", [Fd, Ptr, Ptr], i::mq::sys_mq_getsetattr, Full),
    row!(SET_ROBUST_LIST, "set_robust_list", [Ptr, Uint], i::robust_list::sys_set_robust_list, Full),
    row!(GET_ROBUST_LIST, "get_robust_list", [Int, Ptr, Ptr], i::robust_list::sys_get_robust_list, Full),
];
