//! Whether KVM works on this host, for `accel = "auto"`.
//!
//! `/dev/kvm` can open, and even make a VM, on a host where no guest gets far: under a hypervisor
//! that lends no virtualization extensions, KVM may interpret guest code, slower than TCG and not
//! all of it. So the only honest question is put to a vCPU: take it from the reset vector to 64-bit
//! mode, as firmware and a kernel would, and see whether it gets there at the speed of a processor.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fmt, process};

/// Why KVM cannot be used.
///
/// Displays as one phrase for people. Causes are part of it, so there is no `source`.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It does not open for reading and writing.
    #[error("/dev/kvm: {}", without_number(.0))]
    Device(io::Error),
    /// The host would not even make the VM: it is short of something, or another hypervisor has
    /// the processor.
    #[error("{call}: {}", without_number(.error))]
    Refused {
        /// What was refused, mostly an ioctl.
        call: &'static str,
        /// With what error.
        error: io::Error,
    },
    /// A vCPU was there, and did not do what a processor does.
    #[error("{}", vcpu_phrase(*.stage, *.fault))]
    Vcpu {
        /// How far it came.
        stage: Stage,
        /// What became of it there.
        fault: Fault,
    },
    /// Nothing is known: the probe slept, starved or was killed.
    #[error("the probe of /dev/kvm gave no answer")]
    NoAnswer,
}

/// How far a vCPU came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Not to its first instruction.
    Setup,
    /// From the reset vector on.
    RealMode,
    /// In 32-bit code.
    ProtectedMode,
    /// In 64-bit code.
    LongMode,
    /// In 64-bit code still, and in the loop that takes the time.
    Loop,
}

impl Stage {
    fn from_number(number: u32) -> Option<Self> {
        [
            Self::Setup,
            Self::RealMode,
            Self::ProtectedMode,
            Self::LongMode,
            Self::Loop,
        ]
        .into_iter()
        .find(|stage| *stage as u32 == number)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Setup => "before its first instruction",
            Self::RealMode => "in real mode",
            Self::ProtectedMode => "in protected mode",
            Self::LongMode | Self::Loop => "in 64-bit mode",
        })
    }
}

/// What became of a vCPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It used up its processor time.
    Hang,
    /// `KVM_RUN` returned with this `exit_reason`, which the guest code gave no cause for.
    Exit(u32),
}

// `exit_reason`, from linux/kvm.h.
const EXIT_SHUTDOWN: u32 = 8;
const EXIT_FAIL_ENTRY: u32 = 9;
const EXIT_INTERNAL_ERROR: u32 = 17;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hang => f.write_str("hangs"),
            Self::Exit(EXIT_SHUTDOWN) => f.write_str("shuts down"),
            Self::Exit(EXIT_FAIL_ENTRY) => f.write_str("cannot be entered"),
            Self::Exit(EXIT_INTERNAL_ERROR) => f.write_str("stops with a KVM internal error"),
            Self::Exit(reason) => write!(f, "stops with KVM exit reason {reason}"),
        }
    }
}

fn vcpu_phrase(stage: Stage, fault: Fault) -> String {
    match (stage, fault) {
        (Stage::Loop, Fault::Hang) => "a vCPU is slower than emulation".to_owned(),
        _ => format!("a vCPU {fault} {stage}"),
    }
}

fn without_number(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_owned(),
        None => text,
    }
}

/// Runs a few instructions on a real vCPU.
///
/// Takes a few milliseconds where KVM works, about 200 ms where a vCPU spins, and never more than
/// two seconds. It forks: the vCPU lives and dies in a child, so nothing of it stays in this process.
///
/// The answer is for this process. A unit of the service manager may have other groups.
pub fn probe() -> Result<(), Unusable> {
    open()?;
    #[cfg(target_arch = "x86_64")]
    x86::ask(x86::boot_code())?;
    Ok(())
}

/// As `probe`, but remembers the answer in `dir` until the next boot.
///
/// `dir` exists, is private to the user, and had better be on a tmpfs. Only what a vCPU did is
/// remembered, good or bad; whether `/dev/kvm` opens is asked every time, and whatever else stood in
/// the way may be gone by the next time. A cache that cannot be read or written is no error.
pub fn usable(dir: &Path) -> Result<(), Unusable> {
    let device = open()?;
    let Ok(key) = key(&device) else {
        return probe();
    };
    if let Some(answer) = recall(dir, &key) {
        return answer;
    }
    let answer = probe();
    if let Some(text) = encode(&answer) {
        // Not remembered: the next call asks again.
        let _ = remember(dir, &key, &text);
    }
    answer
}

fn open() -> Result<File, Unusable> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .map_err(Unusable::Device)
}

/// The other names in the directory may be those of VMs, which never begin with a dot.
const FILE: &str = ".kvm";

/// Changes with the boot, with the permissions of `/dev/kvm`, when the module is loaded anew, and
/// (the number at the front) with what the probe does.
fn key(device: &File) -> io::Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let node = device.metadata()?;
    Ok(format!(
        "1 {} {} {}.{:09}",
        boot.trim_end(),
        node.ino(),
        node.ctime(),
        node.ctime_nsec()
    ))
}

fn recall(dir: &Path, key: &str) -> Option<Result<(), Unusable>> {
    let text = fs::read_to_string(dir.join(FILE)).ok()?;
    decode(
        text.strip_suffix('\n')?
            .strip_prefix(key)?
            .strip_prefix(' ')?,
    )
}

fn remember(dir: &Path, key: &str, answer: &str) -> io::Result<()> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let temp = dir.join(format!(".{FILE}.{}.{count}", process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temp)?;
    file.write_all(format!("{key} {answer}\n").as_bytes())
        .and_then(|()| fs::rename(&temp, dir.join(FILE)))
        .inspect_err(|_| {
            // The first error is the one that counts.
            let _ = fs::remove_file(&temp);
        })
}

/// `None` for an answer that is not to be remembered.
fn encode(answer: &Result<(), Unusable>) -> Option<String> {
    match *answer {
        Ok(()) => Some("ok".to_owned()),
        Err(Unusable::Vcpu { stage, fault }) => Some(match fault {
            Fault::Hang => format!("hang {}", stage as u32),
            Fault::Exit(reason) => format!("exit {} {reason}", stage as u32),
        }),
        Err(_) => None,
    }
}

fn decode(text: &str) -> Option<Result<(), Unusable>> {
    let mut words = text.split(' ');
    let how = words.next()?;
    let numbers: Vec<u32> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
    let (stage, fault) = match (how, &*numbers) {
        ("ok", []) => return Some(Ok(())),
        ("hang", [stage]) => (stage, Fault::Hang),
        ("exit", [stage, reason]) => (stage, Fault::Exit(*reason)),
        _ => return None,
    };
    let stage = Stage::from_number(*stage)?;
    Some(Err(Unusable::Vcpu { stage, fault }))
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! A VM of one vCPU and 64 KiB, in a child process.
    //!
    //! After `fork` in a process with threads only async-signal-safe calls are allowed, so the code
    //! of the child neither allocates nor panics, and talks to the kernel itself.

    use std::ffi::{c_int, c_ulong, c_void};
    use std::io;
    use std::mem::{MaybeUninit, offset_of};
    use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
    use std::ptr::{self, NonNull};
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::{Fault, Stage, Unusable};

    /// Processor time for the vCPU. The loop takes 2 ms of it on a processor, 3 on one that TCG
    /// emulates, 2000 where KVM interprets. What needs more than the limit is slower than TCG.
    const CPU_LIMIT: Duration = Duration::from_millis(200);
    /// For the child as a whole, and again for it to die. Only a vCPU that sleeps, or a host that
    /// has no processor to spare, comes near.
    const WALL_LIMIT: Duration = Duration::from_secs(1);

    // Guest physical memory. The same 64 KiB are at 0 and right below 4 GiB, where a processor
    // begins, just as a PC has the end of its firmware twice.
    const MEMORY: usize = 0x1_0000;
    const HIGH: u64 = 0x1_0000_0000 - MEMORY as u64;
    const GDT: usize = 0x1000;
    const GDTR: usize = 0x1100;
    const PML4: usize = 0x2000;
    const PDPT: usize = 0x3000;
    const PD: usize = 0x4000;
    /// Apart from the page tables, which a KVM without nested paging write-protects.
    const DATA: usize = 0x8000;
    const RESET: usize = 0xfff0;

    /// The guest writes the stage that it has reached here.
    const PORT: u16 = 0x80;
    const DONE: u32 = Stage::Loop as u32 + 1;
    const LOOPS: u32 = 1_000_000;

    // KVM's interpreter has no cmpxchg16b (em_cmpxchg8b in arch/x86/kvm/emulate.c), which every
    // processor with virtualization has, and which Linux needs to set up its allocator. The loop is
    // for an interpreter that has it.
    std::arch::global_asm!(
        ".pushsection .rodata.maqet_kvm_guest, \"a\", @progbits",
        ".globl maqet_kvm_guest, maqet_kvm_guest_end",
        ".hidden maqet_kvm_guest, maqet_kvm_guest_end",
        "maqet_kvm_guest:",
        ".code16",
        "lgdtw {gdtr}",
        "movl %cr0, %eax",
        "orb $1, %al", // PE
        "movl %eax, %cr0",
        "ljmpw $0x08, $(maqet_kvm_guest32 - maqet_kvm_guest)",
        ".code32",
        "maqet_kvm_guest32:",
        "movl $0x10, %eax",
        "movl %eax, %ds",
        "movl %eax, %es",
        "movl %eax, %ss",
        "movb ${protected_mode}, %al",
        "outb %al, ${port}",
        "xorl %eax, %eax",
        "movl ${data}, %edi",
        "movl $0x400, %ecx",
        "rep stosl",
        "movl $0x20, %eax", // PAE
        "movl %eax, %cr4",
        "movl ${pml4}, %eax",
        "movl %eax, %cr3",
        "movl $0xc0000080, %ecx", // EFER
        "rdmsr",
        "orl $0x100, %eax", // LME
        "wrmsr",
        "movl %cr0, %eax",
        "orl $0x80000000, %eax", // PG
        "movl %eax, %cr0",
        "ljmpl $0x18, $(maqet_kvm_guest64 - maqet_kvm_guest)",
        ".code64",
        "maqet_kvm_guest64:",
        "movb ${long_mode}, %al",
        "outb %al, ${port}",
        "movl ${data}, %edi",
        "lock cmpxchg16b (%rdi)",
        "movb ${in_loop}, %al",
        "outb %al, ${port}",
        "movl ${loops}, %ecx",
        "2:",
        "movq %rcx, (%rdi)",
        "addq (%rdi), %rdx",
        "decl %ecx",
        "jnz 2b",
        "movb ${done}, %al",
        "outb %al, ${port}",
        "hlt",
        "maqet_kvm_guest_end:",
        ".popsection",
        gdtr = const GDTR,
        data = const DATA,
        pml4 = const PML4,
        port = const PORT,
        loops = const LOOPS,
        protected_mode = const Stage::ProtectedMode as u32,
        long_mode = const Stage::LongMode as u32,
        in_loop = const Stage::Loop as u32,
        done = const DONE,
        options(att_syntax)
    );

    unsafe extern "C" {
        static maqet_kvm_guest: u8;
        static maqet_kvm_guest_end: u8;
    }

    pub(super) fn boot_code() -> &'static [u8] {
        let (start, end) = (&raw const maqet_kvm_guest, &raw const maqet_kvm_guest_end);
        // SAFETY: both symbols are in the one section above, in this order, and it is never written.
        unsafe { std::slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
    }

    /// Memory that the child shares with us. The mapping begins with the guest's.
    #[repr(C)]
    struct Shared {
        memory: [u8; MEMORY],
        stage: AtomicU32,
        outcome: MaybeUninit<Outcome>,
    }

    /// Written by the child just before it exits with 0, and read after that. It is the same
    /// program, so the `&'static str` means the same to both.
    type Outcome = Result<(), Failure>;

    #[derive(Clone, Copy)]
    enum Failure {
        Refused { call: &'static str, errno: c_int },
        Exit(u32),
    }

    struct Mapping(NonNull<Shared>);

    impl Mapping {
        fn new() -> Result<Self, Unusable> {
            // SAFETY: a new mapping disturbs no other.
            let address = unsafe {
                libc::mmap(
                    ptr::null_mut(),
                    size_of::<Shared>(),
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )
            };
            match NonNull::new(address) {
                Some(address) if address.as_ptr() != libc::MAP_FAILED => Ok(Self(address.cast())),
                _ => Err(refused("mmap", last_errno())),
            }
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: mapped by `new` with this size, and no reference to it outlives `self`.
            unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<Shared>()) };
        }
    }

    /// Runs `code`, which is loaded at 0 and entered in real mode, until it says that it is done.
    pub(super) fn ask(code: &[u8]) -> Result<(), Unusable> {
        let mut mapping = Mapping::new()?;
        // SAFETY: page-aligned, zeroed and large enough, and zeroes are a valid `Shared`. There is no
        // other reference, nor another process yet.
        lay_out(&mut unsafe { mapping.0.as_mut() }.memory, code);

        // SAFETY: `child` keeps to async-signal-safe calls and never returns.
        let pid = match unsafe { libc::fork() } {
            -1 => return Err(refused("fork", last_errno())),
            0 => child(mapping.0.as_ptr()),
            pid => pid,
        };
        let status = wait(pid);

        // SAFETY: as above. Should the child still be there, it writes `stage`, an atomic, and the
        // rest through pointers that are not followed here.
        let stage = unsafe { &(*mapping.0.as_ptr()).stage }.load(Ordering::Relaxed);
        let stage = Stage::from_number(stage).unwrap_or(Stage::Loop);
        match status {
            Some(status) if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 => {
                // SAFETY: the child is gone, and exits with 0 only when it has written `outcome`.
                match unsafe { (*mapping.0.as_ptr()).outcome.assume_init() } {
                    Ok(()) => Ok(()),
                    Err(Failure::Refused { call, errno }) => Err(refused(call, errno)),
                    Err(Failure::Exit(reason)) => Err(Unusable::Vcpu {
                        stage,
                        fault: Fault::Exit(reason),
                    }),
                }
            }
            Some(status)
                if libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGPROF =>
            {
                Err(Unusable::Vcpu {
                    stage,
                    fault: Fault::Hang,
                })
            }
            _ => Err(Unusable::NoAnswer),
        }
    }

    fn refused(call: &'static str, errno: c_int) -> Unusable {
        Unusable::Refused {
            call,
            error: io::Error::from_raw_os_error(errno),
        }
    }

    fn last_errno() -> c_int {
        io::Error::last_os_error().raw_os_error().unwrap_or(0)
    }

    fn lay_out(memory: &mut [u8; MEMORY], code: &[u8]) {
        let mut put = |at: usize, bytes: &[u8]| memory[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, code);
        put(RESET, &[0xea, 0, 0, 0, 0]); // ljmpw $0, $0
        // Flat segments: none, 32-bit code, data, 64-bit code.
        let gdt: [u64; 4] = [
            0,
            0x00cf_9b00_0000_ffff,
            0x00cf_9300_0000_ffff,
            0x00af_9b00_0000_ffff,
        ];
        put(GDT, gdt.map(u64::to_le_bytes).as_flattened());
        put(GDTR, &(size_of_val(&gdt) as u16 - 1).to_le_bytes());
        put(GDTR + 2, &(GDT as u32).to_le_bytes());
        // The first 2 MiB, mapped to themselves. Present and writable, and in the last one a page.
        put(PML4, &(PDPT as u64 | 0x03).to_le_bytes());
        put(PDPT, &(PD as u64 | 0x03).to_le_bytes());
        put(PD, &0x83u64.to_le_bytes());
    }

    /// The wait status, or `None` if there is none to be had.
    fn wait(pid: libc::pid_t) -> Option<c_int> {
        // Without pidfd_open (Linux 5.3) the limit on processor time has to do.
        if let Some(pidfd) = pidfd_open(pid)
            && !exits(&pidfd)
        {
            // SAFETY: `pid` is our child, not reaped yet, so its number is not another's.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            if !exits(&pidfd) {
                // Stuck in the kernel. Better a zombie than a caller that waits for ever.
                return None;
            }
        }
        let mut status = 0;
        loop {
            // SAFETY: `status` is valid for writes.
            match unsafe { libc::waitpid(pid, &mut status, 0) } {
                -1 if last_errno() == libc::EINTR => {}
                // Someone ignores SIGCHLD.
                -1 => return None,
                _ => return Some(status),
            }
        }
    }

    fn pidfd_open(pid: libc::pid_t) -> Option<OwnedFd> {
        // SAFETY: takes two numbers; a result that is not negative is a descriptor of our own.
        unsafe {
            let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
            (fd >= 0).then(|| OwnedFd::from_raw_fd(fd as RawFd))
        }
    }

    /// Whether the process ends within the limit.
    fn exits(pidfd: &OwnedFd) -> bool {
        let deadline = std::time::Instant::now() + WALL_LIMIT;
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            let mut poll = libc::pollfd {
                fd: pidfd.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one `pollfd`, valid for reads and writes.
            match unsafe { libc::poll(&mut poll, 1, left.as_millis() as c_int + 1) } {
                -1 if last_errno() == libc::EINTR => {}
                ready => return ready > 0,
            }
        }
    }

    fn child(shared: *mut Shared) -> ! {
        // SAFETY: these change this process alone, which has one thread; the pointers are to locals
        // that live through the calls. SIGPROF may have been handled or blocked by the parent.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            // Another thread's pipe or lock is not to wait for us.
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
            libc::signal(libc::SIGPROF, libc::SIG_DFL);
            let mut set = MaybeUninit::zeroed();
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), libc::SIGPROF);
            libc::sigprocmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut());
            let mut timer: libc::itimerval = std::mem::zeroed();
            timer.it_value.tv_usec = CPU_LIMIT.as_micros() as libc::suseconds_t;
            libc::setitimer(libc::ITIMER_PROF, &timer, ptr::null_mut());
        }
        let outcome = run(shared);
        // SAFETY: `shared` is mapped, and the parent does not look before we are gone.
        unsafe {
            (&raw mut (*shared).outcome).write(MaybeUninit::new(outcome));
            libc::_exit(0)
        }
    }

    /// The way of a VMM. Whatever it opens and maps goes with the process.
    fn run(shared: *mut Shared) -> Outcome {
        // SAFETY: `shared` is mapped for as long as this process is, and `stage` is an atomic.
        let stage = unsafe { &(*shared).stage };
        // SAFETY: a C string that lives for ever.
        let kvm = check("/dev/kvm", unsafe {
            libc::open(c"/dev/kvm".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC)
        })?;
        let vm = ioctl(kvm, KVM_CREATE_VM, 0)?;
        // An Intel processor that cannot run real mode itself wants a place for this; QEMU's.
        ioctl(vm, KVM_SET_TSS_ADDR, 0xfeff_d000)?;
        for (slot, guest_phys_addr) in [(0, 0), (1, HIGH)] {
            let region = MemoryRegion {
                slot,
                flags: 0,
                guest_phys_addr,
                memory_size: MEMORY as u64,
                userspace_addr: shared as u64,
            };
            ioctl(vm, KVM_SET_USER_MEMORY_REGION, &raw const region as usize)?;
        }
        let vcpu = ioctl(vm, KVM_CREATE_VCPU, 0)?;
        // Without its CPUID the vCPU may not enter 64-bit mode.
        let mut cpuid = Cpuid {
            nent: CPUID_ENTRIES as u32,
            padding: 0,
            entries: [[0; 10]; CPUID_ENTRIES],
        };
        ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &raw mut cpuid as usize)?;
        ioctl(vcpu, KVM_SET_CPUID2, &raw const cpuid as usize)?;

        let size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0)? as usize;
        // SAFETY: a new mapping disturbs no other.
        let exit: *const Exit = match unsafe {
            libc::mmap(
                ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                vcpu,
                0,
            )
        } {
            libc::MAP_FAILED => {
                return Err(Failure::Refused {
                    call: "mmap of a vCPU",
                    errno: last_errno(),
                });
            }
            address => address.cast_const().cast(),
        };

        stage.store(Stage::RealMode as u32, Ordering::Relaxed);
        loop {
            match ioctl(vcpu, KVM_RUN, 0) {
                Err(Failure::Refused {
                    errno: libc::EINTR | libc::EAGAIN,
                    ..
                }) => continue,
                result => result?,
            };
            // SAFETY: mapped, and larger than `Exit`; KVM writes to it only inside KVM_RUN.
            let Exit { reason, io, .. } = unsafe { exit.read_volatile() };
            if reason != EXIT_IO || io.direction != EXIT_IO_OUT || io.port != PORT {
                return Err(Failure::Exit(reason));
            }
            // SAFETY: KVM put the byte that the guest wrote at this offset in the mapping.
            let byte = unsafe {
                exit.byte_add(io.data_offset as usize)
                    .cast::<u8>()
                    .read_volatile()
            };
            if u32::from(byte) == DONE {
                return Ok(());
            }
            stage.store(byte.into(), Ordering::Relaxed);
        }
    }

    /// An ioctl of KVM: its number and its name.
    type Request = (c_ulong, &'static str);

    // linux/kvm.h. Constant since KVM_GET_API_VERSION says 12, which is since 2007.
    const KVM_CREATE_VM: Request = (0xae01, "KVM_CREATE_VM");
    const KVM_GET_VCPU_MMAP_SIZE: Request = (0xae04, "KVM_GET_VCPU_MMAP_SIZE");
    const KVM_GET_SUPPORTED_CPUID: Request = (0xc008_ae05, "KVM_GET_SUPPORTED_CPUID");
    const KVM_CREATE_VCPU: Request = (0xae41, "KVM_CREATE_VCPU");
    const KVM_SET_USER_MEMORY_REGION: Request = (0x4020_ae46, "KVM_SET_USER_MEMORY_REGION");
    const KVM_SET_TSS_ADDR: Request = (0xae47, "KVM_SET_TSS_ADDR");
    const KVM_RUN: Request = (0xae80, "KVM_RUN");
    const KVM_SET_CPUID2: Request = (0x4008_ae90, "KVM_SET_CPUID2");

    const EXIT_IO: u32 = 2;
    const EXIT_IO_OUT: u8 = 1;

    /// struct kvm_userspace_memory_region
    #[repr(C)]
    struct MemoryRegion {
        slot: u32,
        flags: u32,
        guest_phys_addr: u64,
        memory_size: u64,
        userspace_addr: u64,
    }

    /// As many as KVM has at most.
    const CPUID_ENTRIES: usize = 256;

    /// struct kvm_cpuid2, its entries passed on unread
    #[repr(C)]
    struct Cpuid {
        nent: u32,
        padding: u32,
        entries: [[u32; 10]; CPUID_ENTRIES],
    }

    /// The beginning of struct kvm_run
    #[repr(C)]
    struct Exit {
        input: [u8; 8],
        reason: u32,
        state: [u32; 5],
        io: Io,
    }

    #[repr(C)]
    struct Io {
        direction: u8,
        size: u8,
        port: u16,
        count: u32,
        data_offset: u64,
    }

    const _: () = assert!(offset_of!(Exit, io) == 32 && offset_of!(Shared, memory) == 0);

    fn ioctl(fd: c_int, (request, name): Request, argument: usize) -> Result<c_int, Failure> {
        // SAFETY: `run` pairs each request with the argument that it takes: a number, or a pointer
        // to a local of the right layout.
        check(name, unsafe {
            libc::ioctl(fd, request as _, argument as *mut c_void)
        })
    }

    fn check(call: &'static str, result: c_int) -> Result<c_int, Failure> {
        match result {
            -1 => Err(Failure::Refused {
                call,
                errno: last_errno(),
            }),
            result => Ok(result),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// What a vCPU made of `code`, or `None` where there is none to try it on.
        fn vcpu(code: &[u8]) -> Option<(Stage, Fault)> {
            super::super::open().ok()?;
            match ask(code) {
                Err(Unusable::Vcpu { stage, fault }) => Some((stage, fault)),
                Err(_) => None,
                Ok(()) => panic!("{code:x?} does not say that it is done"),
            }
        }

        #[test]
        fn a_vcpu_that_spins_is_ended() {
            let jmp_self = [0xeb, 0xfe];
            if let Some(end) = vcpu(&jmp_self) {
                assert_eq!(end, (Stage::RealMode, Fault::Hang));
            }
        }

        #[test]
        fn a_vcpu_that_stops_early_is_told_from_one_that_spins() {
            let hlt = [0xf4];
            if let Some(end) = vcpu(&hlt) {
                assert_eq!(end, (Stage::RealMode, Fault::Exit(5)));
            }
        }

        #[test]
        fn the_boot_code_ends_below_the_first_table() {
            assert!((1..=GDT).contains(&boot_code().len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn vcpu(stage: Stage, fault: Fault) -> Unusable {
        Unusable::Vcpu { stage, fault }
    }

    fn text(answer: &Result<(), Unusable>) -> String {
        match answer {
            Ok(()) => "ok".to_owned(),
            Err(err) => err.to_string(),
        }
    }

    #[test]
    fn the_probe_ends_in_time_and_leaves_no_child() {
        let begin = Instant::now();
        let answer = probe();
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(30), "{answer:?} after {took:?}");
        // Not every kernel has the file.
        if let Ok(children) = fs::read_to_string("/proc/thread-self/children") {
            assert_eq!(children, "");
        }
    }

    #[test]
    fn a_remembered_answer_is_the_answer() {
        let dir = tempfile::tempdir().unwrap();
        for answer in [
            Ok(()),
            Err(vcpu(Stage::RealMode, Fault::Hang)),
            Err(vcpu(Stage::LongMode, Fault::Exit(17))),
            Err(vcpu(Stage::Loop, Fault::Hang)),
        ] {
            remember(dir.path(), "1 boot", &encode(&answer).unwrap()).unwrap();
            let recalled = recall(dir.path(), "1 boot").unwrap();
            assert_eq!(text(&recalled), text(&answer));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_answer_from_another_boot_or_a_torn_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(recall(dir.path(), "1 boot").is_none());
        for content in [
            "1 tomorrow ok\n",
            "1 boot ok",
            "1 boot\n",
            "1 boot hang\n",
            "1 boot hang 9\n",
            "1 boot exit 3 17 1\n",
            "1 boot ok ok\n",
            "",
        ] {
            fs::write(dir.path().join(FILE), content).unwrap();
            assert!(recall(dir.path(), "1 boot").is_none(), "{content:?}");
        }
    }

    #[test]
    fn only_what_a_vcpu_did_is_remembered() {
        let denied = || io::Error::from_raw_os_error(libc::EACCES);
        let busy = Unusable::Refused {
            call: "KVM_CREATE_VM",
            error: io::Error::from_raw_os_error(libc::EBUSY),
        };
        assert_eq!(encode(&Err(Unusable::Device(denied()))), None);
        assert_eq!(encode(&Err(busy)), None);
        assert_eq!(encode(&Err(Unusable::NoAnswer)), None);
    }

    #[test]
    fn the_cached_answer_agrees_with_the_probe() {
        let dir = tempfile::tempdir().unwrap();
        let asked = usable(dir.path());
        assert_eq!(text(&usable(dir.path())), text(&asked));
        assert_eq!(dir.path().join(FILE).exists(), encode(&asked).is_some());
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(text(&usable(&dir.path().join("none"))), text(&probe()));
    }

    #[test]
    fn many_may_ask_at_once() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| usable(dir.path()).ok());
            }
        });
        assert!(fs::read_dir(dir.path()).unwrap().count() <= 1);
    }

    #[test]
    fn a_reason_is_one_phrase() {
        let denied = io::Error::from_raw_os_error(libc::EACCES);
        for (reason, phrase) in [
            (Unusable::Device(denied), "/dev/kvm: Permission denied"),
            (
                vcpu(Stage::RealMode, Fault::Hang),
                "a vCPU hangs in real mode",
            ),
            (
                vcpu(Stage::LongMode, Fault::Exit(17)),
                "a vCPU stops with a KVM internal error in 64-bit mode",
            ),
            (
                vcpu(Stage::Loop, Fault::Hang),
                "a vCPU is slower than emulation",
            ),
        ] {
            assert_eq!(reason.to_string(), phrase);
        }
    }
}
