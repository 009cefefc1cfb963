internal import CForkGuard

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// Why ForkGuard refused.
public enum ForkError: Error, Equatable, Sendable {
    /// This belongs to another process: the parent, most likely. What it is, and of which generation.
    case staleGeneration(String, generation: UInt64)
    /// The named lock's data was left half changed by a thread that did not survive the fork.
    case tornByFork(String)
    /// The deadline passed while waiting for this.
    case timedOut(waitingFor: String)
    /// The calling thread holds these registered locks, by name, or by place where they have none; see ``ForkOptions/onCallingThread``.
    case holdingLocks([String])
    /// Called inside the hook of this name.
    case insideHook(String)
    /// A thread that is blocked for as long as this one waits is inside these locks: the child would find them torn.
    case wouldTear([String])
    /// What was to be registered or made cannot be: what, where, and why.
    case refused(String)
    /// fork(2) failed.
    case forkFailed(errno: Int32)
    /// What this is about has ended.
    case closed(String)
    /// A system call failed.
    case system(call: String, errno: Int32)
}

extension ForkError {
    /// From what forkguard_fork set errno to; must be called on the thread that forked.
    init(forkErrno error: Int32) {
        switch error {
        case EBUSY:
            let held = ForkError.heldLockNames()
            // Locks that are not ours are known only to the fork that found them.
            self = .holdingLocks(held.isEmpty ? ForkGuard.lastReport?.tornHolders.map(\.lockOrThread) ?? [] : held)
        case EDEADLK:
            self = .insideHook(forkguard_current_hook().map { String(cString: $0) } ?? "a hook")
        case ETIMEDOUT:
            // A fork that did not get its turn leaves no report.
            if let report = ForkGuard.lastReport, report.error == ETIMEDOUT, let late = report.tornHolders.first ?? report.heldUpBy {
                self = .timedOut(waitingFor: late.description)
            } else if let hook = forkguard_running_hook() {
                self = .timedOut(waitingFor: "the hook '\(String(cString: hook))' of another fork")
            } else {
                self = .timedOut(waitingFor: "another fork")
            }
        case EPERM:
            self = .wouldTear(ForkGuard.lastReport?.tornHolders.map(\.lockOrThread) ?? [])
        default:
            self = .forkFailed(errno: error)
        }
    }

    private static func heldLockNames() -> [String] {
        var locks = [forkguard_lock_t](repeating: forkguard_lock_t(), count: Int(FORKGUARD_LOCKS_REMEMBERED))
        let held = forkguard_held_locks(&locks, locks.count)
        // Counted by ForkGuardRuntime, and nameless.
        if held == 0 && forkguard_sections_held() != 0 { return ["a lock of the process's: a pthread mutex, or a lazy global's"] }
        return locks.prefix(held).map { lock in
            lock.name.map { String(cString: $0) } ?? lock.file.map { "\(String(cString: $0)):\(lock.line)" } ?? "a lock without a name"
        }
    }
}

extension ForkError: CustomStringConvertible {
    /// What was wrong, and what to do.
    public var description: String {
        switch self {
        case .staleGeneration(let what, let generation):
            "\(what) belongs to generation \(generation), and this process is a fork with another one: make a new one here"
        case .tornByFork(let name):
            "'\(name)' is torn: a thread that was inside did not survive the fork"
        case .timedOut(let what):
            "the deadline passed while waiting for \(what)"
        case .holdingLocks(let names):
            "this thread holds registered locks (\(names.joined(separator: ", "))): unlock them first, or fork with .onCallingThread"
        case .insideHook(let name):
            "fork was called inside the hook '\(name)': a hook cannot fork"
        case .wouldTear(let names):
            "a thread that is blocked until this fork is over is inside \(names.joined(separator: ", ")): unlock what it waits for first"
        case .refused(let why):
            "ForkGuard refuses \(why)"
        case .forkFailed(let error):
            "fork failed: \(String(cString: strerror(error)))"
        case .closed(let what):
            "\(what) has ended"
        case .system(let call, let error):
            "\(call) failed: \(String(cString: strerror(error)))"
        }
    }
}
