internal import CForkGuardTesting

/// A way to make the child.
///
/// After a raw method the body runs on the thread that forked, which is the child's only one. The methods that go around libc run no
/// `pthread_atfork` handler, and repair neither malloc nor stdio: a body that allocates may hang there when a hammer was allocating.
public enum ForkMethod: String, Sendable, CaseIterable, CustomStringConvertible {
    /// `ForkGuard.fork`: the body runs on a fresh thread of the child.
    case forkGuard
    /// `ForkGuard.fork` with `.onCallingThread`.
    case forkGuardOnCallingThread
    /// libc's `fork()`.
    case rawFork
    /// libc's `_Fork()`: glibc 2.34, musl 1.2.3 and later.
    case underscoreFork
    /// `syscall(SYS_fork)`, where the architecture has it: not on arm64.
    case systemCallFork
    /// `syscall(SYS_clone)` without flags.
    case rawClone
    /// `syscall(SYS_clone3)` without flags. Sandboxes often refuse it.
    case rawClone3
    /// `syscall(SYS_clone, CLONE_FILES)`: the child uses the runner's table of descriptors. What it prints is not captured.
    case rawCloneSharingFiles

    /// Whether this platform, libc and kernel have it. A trial with one that is not available is refused.
    public var isAvailable: Bool { rawMethod.map(fgt_method_available) ?? true }

    /// Those that are available here.
    public static var available: [ForkMethod] { allCases.filter(\.isAvailable) }

    /// Whether libc, and so its `pthread_atfork` handlers, see the fork.
    public var runsForkHandlers: Bool {
        switch self {
        case .forkGuard, .forkGuardOnCallingThread, .rawFork: true
        case .underscoreFork, .systemCallFork, .rawClone, .rawClone3, .rawCloneSharingFiles: false
        }
    }

    /// The case's name.
    public var description: String { rawValue }

    /// What `fgt_fork` calls it; nil for those that go through ForkGuard.
    var rawMethod: Int32? {
        switch self {
        case .forkGuard, .forkGuardOnCallingThread: nil
        case .rawFork: Int32(FGT_FORK)
        case .underscoreFork: Int32(FGT_UNDERSCORE_FORK)
        case .systemCallFork: Int32(FGT_SYSTEM_CALL_FORK)
        case .rawClone: Int32(FGT_CLONE)
        case .rawClone3: Int32(FGT_CLONE3)
        case .rawCloneSharingFiles: Int32(FGT_CLONE_SHARING_FILES)
        }
    }
}
