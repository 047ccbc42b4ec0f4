//! The system calls left to the daemon.
//!
//! Everything that is not listed fails with EPERM: among it all that enters or makes namespaces (setns, unshare, clone
//! with CLONE_NEW*), starts programs or processes (execve, fork), looks into others (ptrace, process_vm_readv), loads
//! code into the kernel (bpf), changes mounts, and makes sockets other than unix ones and
//! the streams and datagrams of IP in which containers' flows end (so no raw, packet or netlink socket). The flags of clone3 are in
//! memory, where a filter cannot look, so a second filter answers ENOSYS, for which the C library has a fallback:
//! clone. Where two filters disagree the kernel takes the stricter answer, and of two errors the later filter's.
//!
//! Source: seccomp(2); the numbers are libc's for the target, so an architecture without a call lists none.

use super::Denied;
use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Op, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

/// What may be asked of a file, by any argument.
const FILES: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_umask,
    libc::SYS_openat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_mkdirat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_utimensat,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
];

/// Calls that newer architectures no longer have.
#[cfg(target_arch = "x86_64")]
const OLD: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_chmod,
    libc::SYS_dup2,
    libc::SYS_poll,
    libc::SYS_epoll_wait,
    libc::SYS_time,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[c_long] = &[];

/// Sockets that exist (passed, or unix ones), and waiting for them.
const SOCKETS: &[c_long] = &[
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_connect,
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_signalfd4,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
];

/// Memory, threads, signals, time and facts about ourselves.
const PROCESS: &[c_long] = &[
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_brk,
    libc::SYS_membarrier,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_getcpu,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getgroups,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_times,
    libc::SYS_pidfd_open,
];

/// Requests for ioctl(2): TAPs, plain facts of an interface, and what the standard library asks of any fd. SIOCGIFINDEX is for an
/// uplink whose interface comes back as another: its index to bind to, by a name that we know.
/// TUNGETDEVNETNS (0x54e3, linux/if_tun.h) gives a namespace's fd, which is of no use without setns.
#[allow(clippy::unnecessary_cast)] // an int with some C libraries
const IOCTLS: &[u64] = &[
    libc::TUNGETIFF as u64,
    libc::TUNSETOFFLOAD as u64,
    libc::TUNGETVNETHDRSZ as u64,
    libc::TUNSETVNETHDRSZ as u64,
    0x54e3,
    libc::SIOCGIFMTU as u64,
    libc::SIOCGIFFLAGS as u64,
    libc::SIOCGIFNAME as u64,
    libc::SIOCGIFINDEX as u64,
    libc::FIONBIO as u64,
    libc::FIOCLEX as u64,
    libc::FIONREAD as u64,
    libc::TCGETS as u64,
];

/// PR_SET_VMA (linux/prctl.h): the allocator names its memory.
const PR_SET_VMA: u64 = 0x5356_4d41;

/// Requests for prctl(2): names only.
const PRCTLS: &[u64] = &[libc::PR_SET_NAME as u64, libc::PR_GET_NAME as u64, PR_SET_VMA];

/// Flags of clone(2) that make namespaces.
const CLONE_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// A thread of ours: what clone(2) may make.
const CLONE_THREAD: u64 = libc::CLONE_THREAD as u64;

/// The part of socket(2)'s second argument that is no flag (SOCK_TYPE_MASK, linux/net.h).
const SOCKET_KIND: u64 = 0xf;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// One rule: argument number `argument` passes `op` against `value` (its lower 32 bits: all those used are ints).
fn rule(argument: u8, op: Op, value: u64) -> seccompiler::Result<SeccompRule> {
    let condition = SeccompCondition::new(argument, Width::Dword, op, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

/// One rule for each value that argument number `argument` may have.
fn one_of(argument: u8, values: &[u64]) -> seccompiler::Result<Vec<SeccompRule>> {
    values.iter().map(|value| rule(argument, Op::Eq, *value)).collect()
}

/// The allow-list.
fn rules() -> seccompiler::Result<Rules> {
    let mut rules = Rules::new();
    for call in [FILES, OLD, SOCKETS, PROCESS].into_iter().flatten() {
        rules.insert(*call, Vec::new());
    }
    let unix = libc::AF_UNIX as u64;
    let mut sockets = one_of(0, &[unix])?;
    for family in [libc::AF_INET, libc::AF_INET6] {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            sockets.push(SeccompRule::new(vec![
                SeccompCondition::new(0, Width::Dword, Op::Eq, family as u64)?,
                SeccompCondition::new(1, Width::Dword, Op::MaskedEq(SOCKET_KIND), kind as u64)?,
            ])?);
        }
    }
    rules.insert(libc::SYS_socket, sockets);
    rules.insert(libc::SYS_socketpair, one_of(0, &[unix])?);
    rules.insert(libc::SYS_ioctl, one_of(1, IOCTLS)?);
    rules.insert(libc::SYS_prctl, one_of(0, PRCTLS)?);
    // Our own limits, by pid 0.
    rules.insert(libc::SYS_prlimit64, one_of(0, &[0])?);
    // abort() and panics: signals to ourselves only.
    rules.insert(libc::SYS_tgkill, one_of(0, &[u64::from(std::process::id())])?);
    // Signal 0 asks whether an fd is a pidfd and sends nothing.
    rules.insert(libc::SYS_pidfd_send_signal, one_of(1, &[0])?);
    // Threads. clone3 is passed on to the second filter.
    let thread = rule(0, Op::MaskedEq(CLONE_NAMESPACES | CLONE_THREAD), CLONE_THREAD)?;
    rules.insert(libc::SYS_clone, vec![thread]);
    rules.insert(libc::SYS_clone3, Vec::new());
    Ok(rules)
}

/// Compiles rules for this machine's architecture.
fn compile(rules: Rules, otherwise: SeccompAction, matched: SeccompAction) -> seccompiler::Result<BpfProgram> {
    let arch = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, otherwise, matched, arch)?.try_into()?)
}

/// Installs both filters for this thread and those it makes.
///
/// # Errors
/// The kernel has no seccomp filters, or the architecture is none that seccompiler knows.
pub(super) fn install(denied: Denied) -> seccompiler::Result<()> {
    let errno = |e: i32| SeccompAction::Errno(e.unsigned_abs());
    let otherwise = match denied {
        Denied::Refused => errno(libc::EPERM),
        Denied::Fatal => SeccompAction::KillProcess,
    };
    let allowed = compile(rules()?, otherwise, SeccompAction::Allow)?;
    let clone3 = Rules::from([(libc::SYS_clone3, Vec::new())]);
    let no_clone3 = compile(clone3, SeccompAction::Allow, errno(libc::ENOSYS))?;
    // The list last, or it would forbid the second seccomp(2) call: of the two errors for clone3 only this one is given.
    apply_filter(&no_clone3)?;
    apply_filter(&allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_compiles_and_has_no_doubles() {
        let list: Vec<c_long> = [FILES, OLD, SOCKETS, PROCESS].into_iter().flatten().copied().collect();
        let rules = rules().unwrap();
        // socket, socketpair, ioctl, prctl, prlimit64, tgkill, pidfd_send_signal, clone, clone3
        assert_eq!(rules.len(), list.len() + 9);
        compile(rules, SeccompAction::Errno(1), SeccompAction::Allow).unwrap();
    }

    #[test]
    fn what_must_not_be_there() {
        let rules = rules().unwrap();
        for call in [
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_bpf,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_kill,
            libc::SYS_io_uring_setup,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_getfd,
            libc::SYS_keyctl,
            libc::SYS_seccomp,
        ] {
            assert!(!rules.contains_key(&call), "{call}");
        }
    }
}
