public import CForkGuard

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// A child that ``ForkGuard/fork(options:_:)`` made, as its parent holds it.
///
/// Holds a pidfd where the kernel has them (Linux 5.3): a signal never hits another process that got the child's id. A child that nobody waits for stays
/// a zombie until its parent ends, as with `fork(2)`. Any thread of the process that forked; elsewhere every call throws ``ForkError/staleGeneration(_:generation:)``.
public struct ChildProcess: Sendable {
    /// How a child ended.
    public enum Ending: Sendable, Equatable {
        /// With this exit status.
        case exited(Int32)
        /// By this signal.
        case signalled(Int32)
    }

    private final class Handle: Sendable {
        let token: ForkDescriptor?
        let descriptor: Int32
        let ending = ForkMutex<Ending?>(nil, name: "ChildProcess")

        init(pid: pid_t) {
            var descriptor: Int32 = -1
            token = try? ForkDescriptor(name: "pidfd") {
                descriptor = forkguard_child_open(pid)
                return descriptor
            }
            self.descriptor = descriptor
        }

        deinit { try? token?.close() }
    }

    /// The child's process id.
    public let pid: pid_t

    private let generation: UInt64
    private let handle: Handle

    init(pid: pid_t) {
        self.pid = pid
        generation = ForkGuard.generation
        handle = Handle(pid: pid)
    }

    /// The child's pidfd, or `nil` where there are none. Valid as long as this value.
    public var pidfd: Int32? { handle.descriptor >= 0 ? handle.descriptor : nil }

    /// Waits until the child has ended. Asking again, from any thread, gives the same answer.
    ///
    /// - Parameter timeout: `nil` waits for ever, zero asks.
    /// - Throws: ``ForkError/timedOut(waitingFor:)``, ``ForkError/staleGeneration(_:generation:)``, ``ForkError/system(call:errno:)`` with `ECHILD`
    ///   when somebody else has reaped the child.
    @discardableResult
    public func wait(timeout: Duration? = nil) throws(ForkError) -> Ending {
        try checkGeneration()
        if let ending = handle.ending.withLock({ $0 }) { return ending }
        let waited = forkguard_child_wait(pid, handle.descriptor, timeout.map(\.clampedNanoseconds) ?? -1)
        // Several threads may have waited; one reaps, under the lock, and the others find its answer.
        return try handle.ending.withLock { (ending) throws(ForkError) in
            if let ending { return ending }
            var status: Int32 = 0
            let error = waited == 0 ? forkguard_child_reap(pid, &status) : waited
            if error == ETIMEDOUT { throw .timedOut(waitingFor: "child process \(pid)") }
            if error != 0 { throw .system(call: "waitid", errno: error) }
            let made = Ending(waitStatus: status)
            ending = made
            return made
        }
    }

    /// Sends a signal to the child.
    ///
    /// - Throws: ``ForkError/closed(_:)`` when it has ended, ``ForkError/staleGeneration(_:generation:)``, ``ForkError/system(call:errno:)``.
    public func signal(_ number: Int32) throws(ForkError) {
        try checkGeneration()
        let error = handle.ending.withLock { $0 == nil ? forkguard_child_signal(pid, handle.descriptor, number) : ESRCH }
        if error == ESRCH { throw .closed("child process \(pid)") }
        if error != 0 { throw .system(call: "signal \(number) to child process \(pid)", errno: error) }
    }

    private func checkGeneration() throws(ForkError) {
        guard ForkGuard.isCurrent(generation) else { throw .staleGeneration("child process \(pid)", generation: generation) }
    }
}

extension ChildProcess.Ending {
    // wait(2): the low seven bits are the signal, the next byte the exit status.
    init(waitStatus: Int32) {
        self = waitStatus & 0x7f == 0 ? .exited((waitStatus >> 8) & 0xff) : .signalled(waitStatus & 0x7f)
    }
}

extension Duration {
    var clampedNanoseconds: Int64 {
        let (seconds, attoseconds) = components
        guard seconds >= 0, attoseconds >= 0 else { return 0 }
        guard seconds < Int64.max / 1_000_000_000 else { return Int64.max }
        return seconds * 1_000_000_000 + attoseconds / 1_000_000_000
    }
}
