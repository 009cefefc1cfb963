#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif
public import CForkGuard

/// A multi-threaded process survives `fork(2)`, whoever calls it.
///
/// Link the library and protect shared state with ``ForkMutex``: at a fork no other thread is inside any critical section, and the
/// child finds every mutex free. Conform what holds connections, threads or descriptors to ``ForkSafe`` and register it: the child drops what it
/// inherited before `fork()` returns there.
public enum ForkGuard {
    /// Which process this is: never 0, one more in a child than in its parent, and different from every generation that a child can find in
    /// inherited memory, also after a fork that went around libc. One load and one compare.
    ///
    /// Any thread, any side of a fork, also in hooks.
    @inlinable
    public static var generation: UInt64 { forkguard_generation() }

    /// Whether `generation` is this process's. One load and one compare when it is.
    @inlinable
    public static func isCurrent(_ generation: UInt64) -> Bool { forkguard_is_current(generation) }

    /// The exit status of a child whose body threw an error (`EX_SOFTWARE` of sysexits(3)).
    public static let bodyThrewStatus: Int32 = 70

    /// The exit status of a child that could make no thread for its body (`EX_OSERR`).
    public static let noThreadStatus: Int32 = 71

    /// Forks a child that runs `body` and ends with its result as exit status.
    ///
    /// Unlike a raw `fork()`, it refuses, without forking, where the child would find a torn lock. Standard output and standard error are flushed
    /// before; what other threads print meanwhile is dropped in the child; the child's own is flushed when the body ends. The child ends with
    /// `_exit`: no `atexit` handler of the parent's runs there.
    ///
    /// `body` runs on a new thread of the child, because the Swift runtime caches thread ids and the forking thread keeps the parent's: the first
    /// contended `Synchronization.Mutex` there traps. With ``ForkOptions/onCallingThread`` it runs on the forking thread itself. An error that it throws is
    /// printed to standard error, and the child ends with ``bodyThrewStatus``.
    ///
    /// Any thread, in a child too; not in hooks or signal handlers.
    ///
    /// - Throws: ``ForkError/holdingLocks(_:)``, ``ForkError/insideHook(_:)``, ``ForkError/timedOut(waitingFor:)``,
    ///   ``ForkError/wouldTear(_:)``, ``ForkError/forkFailed(errno:)``.
    public static func fork(
        options: ForkOptions = [], _ body: @escaping @Sendable () throws -> Int32
    ) throws(ForkError) -> ChildProcess {
        if let child = try fork(options) { return child }
        if options.runsOnCallingThread { forkguard_child_exit(status(of: body)) }
        runOnFreshThread { forkguard_child_exit(status(of: body)) }
    }

    /// Forks a child that runs `body`, which may suspend, as a task, and ends with its result as exit status. Everything else is as with a
    /// body that does not suspend: errors, output, exit statuses, and that a thread or a task, anywhere, may call it; it does not suspend
    /// itself.
    ///
    /// The task is a new, detached one, on the child's own threads: of the calling task it has no cancellation, priority or task-local
    /// values. The forking thread only waits.
    ///
    /// Link the product ForkGuardRuntime. Without it Swift concurrency belongs to the process that used it first: in a child of one that has,
    /// `body` may hang before its first line, and in any child it hangs where it calls into `MainActor`. With it (``runtimeSupport``:
    /// `dispatch` and `concurrency`) both work; what is on the main actor runs on threads of the pool.
    ///
    /// - Throws: ``ForkError/refused(_:)`` with ``ForkOptions/onCallingThread``, which a task cannot keep to; and what the other one
    ///   throws.
    public static func fork(
        options: ForkOptions = [], _ body: @escaping @Sendable () async throws -> Int32
    ) throws(ForkError) -> ChildProcess {
        if options.runsOnCallingThread { throw .refused("a body that suspends on the calling thread: a task runs where it is resumed") }
        if let child = try fork(options) { return child }
        runOnFreshThread {
            Task.detached {
                let status: Int32
                do { status = try await body() } catch { status = Self.status(for: error) }
                forkguard_child_exit(status)
            }
            while true { pause() }
        }
    }

    /// Registers a resource, weakly: the registration lives as long as the resource, not as long as the returned value.
    ///
    /// - Parameters:
    ///   - resource: is told about forks from the next one on.
    ///   - name: names it in reports; its type's name if left out.
    ///   - discard: when the child calls `discardAfterFork()`.
    @discardableResult
    public static func register(
        _ resource: some ForkSafe, name: String? = nil, discard: ForkDiscard = .beforeForkReturns
    ) -> ForkRegistration {
        WeakResource(resource).register(name: name ?? "\(type(of: resource))", discard: discard)
    }

    /// Registers closures for the three phases of a fork, by their pthread_atfork(3) names: `prepare` runs newest first, `parent` (also when the
    /// fork failed) and `child` oldest first, on the forking thread. A closure that throws stops nobody; the report names it.
    ///
    /// The closures are kept until ``ForkRegistration/cancel()``.
    @discardableResult
    public static func onFork(
        name: String? = nil,
        prepare: (@Sendable () throws -> Void)? = nil,
        parent: (@Sendable () throws -> Void)? = nil,
        child: (@Sendable () throws -> Void)? = nil,
        file: StaticString = #fileID, line: UInt = #line
    ) -> ForkRegistration {
        HookClosures(prepare: prepare, parent: parent, child: child).register(name: name ?? "\(file):\(line)")
    }

    /// Runs `body` while no fork can happen: a fork waits for it, at most until the deadline. For what must not be half done in a child and takes no
    /// ``ForkMutex``: `getaddrinfo`, `setlocale`, a C library with locks of its own.
    ///
    /// Any thread, any side of a fork. A fork by `body` itself is not held off.
    @inlinable
    public static func withForkPrevented<Result: ~Copyable, Failure: Error>(
        _ body: () throws(Failure) -> Result, name: StaticString = "withForkPrevented", file: StaticString = #fileID, line: UInt32 = #line
    ) throws(Failure) -> Result {
        // A lock of its own that nobody else ever wants: what remains of it is the gated section, and its name in reports.
        let lock = UnsafeMutablePointer<forkguard_lock_t>.allocate(capacity: 1)
        forkguard_lock_init(lock, name.cString, file.cString, line)
        _ = forkguard_lock(lock)
        defer {
            forkguard_unlock(lock)
            lock.deallocate()
        }
        return try body()
    }

    /// Runs `body` now, with forks held off: touch lazy globals in it, so that no thread can vanish in the middle of initialising one. A child would
    /// wait for that thread for ever.
    public static func preload(_ body: () -> Void) { withForkPrevented(body, name: "preload") }

    /// What the last fork did that this process was parent or child of; `nil` before the first.
    public static var lastReport: ForkReport? {
        var raw = forkguard_report()
        return forkguard_last_report(&raw) == 0 ? ForkReport(raw) : nil
    }

    /// How long preparing a fork may take. The environment's `FORKGUARD_DEADLINE_MS` sets it at start. Values outside 1 millisecond to one hour
    /// are refused: the process ends with a message that names them.
    public static var deadline: Duration {
        get { .milliseconds(Int64(forkguard_deadline_ms())) }
        set {
            // Not a precondition, whose message a release build leaves out.
            guard newValue >= .milliseconds(1), newValue <= .seconds(3600) else {
                fatalError("ForkGuard.deadline was set to \(newValue); it must be from 1 millisecond to 1 hour")
            }
            _ = forkguard_set_deadline_ms(UInt32(newValue.clampedNanoseconds / 1_000_000))
        }
    }

    /// `nil` in the child.
    private static func fork(_ options: ForkOptions) throws(ForkError) -> ChildProcess? {
        let flags = options.runsOnCallingThread ? FORKGUARD_FORK_HOLDING_LOCKS.rawValue : 0
        let child = options.kept.map { forkguard_fork_closing(flags, Array($0), $0.count) } ?? forkguard_fork(flags)
        let error = errno
        if child == 0 { return nil }
        if child < 0 { throw ForkError(forkErrno: error) }
        return ChildProcess(pid: child)
    }

    private static func runOnFreshThread(_ body: @escaping @Sendable () -> Void) -> Never {
        // This thread only waits from here on.
        forkguard_survivor_rests()
        do {
            try SystemThread(body).join()
        } catch {
            printError("ForkGuard: the child could make no thread for its body: \(error)\n")
        }
        forkguard_child_exit(noThreadStatus)
    }

    private static func status(of body: () throws -> Int32) -> Int32 {
        do { return try body() } catch { return status(for: error) }
    }

    private static func status(for error: any Error) -> Int32 {
        printError("ForkGuard: the body of the child threw \(error)\n")
        return bodyThrewStatus
    }

    private static func printError(_ message: String) {
        var message = message
        message.withUTF8 { bytes in _ = write(STDERR_FILENO, bytes.baseAddress, bytes.count) }
    }
}

extension StaticString {
    /// The address of the literal, which lives as long as the program.
    @inlinable
    var cString: UnsafePointer<CChar> { UnsafeRawPointer(utf8Start).assumingMemoryBound(to: CChar.self) }
}
