internal import CForkGuard

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// Waiting until what a ``ForkMutex`` protects has changed.
///
/// A thread that waits is outside of the mutex: no fork waits for it. In a child nobody waits but the child's own threads; those of the parent's
/// that did are forgotten. Any thread, any side of a fork; do not wait in hooks.
public final class ForkCondition: @unchecked Sendable {
    // @unchecked: the C condition is made for use by several threads; the pointer is a constant.

    private let condition: UnsafeMutablePointer<forkguard_condition_t>

    /// A condition; `name`, `file` and `line` are given in errors and traps.
    public init(name: String? = nil, file: StaticString = #fileID, line: UInt32 = #line) {
        condition = .allocate(capacity: 1)
        condition.initialize(
            to: forkguard_condition_t(
                waiters: 0, signals: 0, line: line, name: name.flatMap { UnsafePointer(strdup($0)) }, file: file.cString, lock: nil))
    }

    deinit {
        free(UnsafeMutableRawPointer(mutating: condition.pointee.name))
        condition.deallocate()
    }

    /// Locks `mutex`, waits until `ready` says so, and runs `body`, in one critical section. `ready` is asked with the mutex locked, at first, after each signal, and
    /// once more at the end; it must not rely on what it saw before.
    ///
    /// It is not a call inside `withLock`, because the value of a mutex changes while its condition is waited for: no `inout` access can last that long.
    ///
    /// - Parameters:
    ///   - timeout: how long to wait at most, not counting the wait for the mutex itself. 0 or less looks once.
    ///   - ready: whether what is waited for is there.
    ///   - body: what to do then.
    /// - Throws: ``ForkError/timedOut(waitingFor:)`` when it was not ready in time, without running `body`; and what `ready` and `body` throw.
    public func wait<Value: ~Copyable, Result: ~Copyable>(
        _ mutex: ForkMutex<Value>, timeout: Duration, until ready: (inout sending Value) throws -> Bool,
        _ body: (inout sending Value) throws -> sending Result
    ) throws -> sending Result {
        guard let result = try wait(mutex, deadline: timeout.deadline, until: ready, body) else {
            throw ForkError.timedOut(waitingFor: description)
        }
        return result
    }

    /// The same with a deadline by forkguard_nanoseconds: `nil` when it was not ready in time.
    @discardableResult
    func wait<Value: ~Copyable, Result: ~Copyable, Failure: Error>(
        _ mutex: ForkMutex<Value>, deadline: UInt64, until ready: (inout sending Value) throws(Failure) -> Bool,
        _ body: (inout sending Value) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result? {
        if _slowPath(forkguard_lock(mutex.lock) != FORKGUARD_LOCKED.rawValue) { mutex.mend() }
        defer { forkguard_unlock(mutex.lock) }
        while !(try ready(&mutex.value.pointee)) {
            if forkguard_condition_wait(condition, mutex.lock, deadline) == ETIMEDOUT {
                if try ready(&mutex.value.pointee) { break }
                return nil
            }
        }
        return try body(&mutex.value.pointee)
    }

    /// Wakes one thread that waits, if any does. With or without the mutex.
    public func signal() { forkguard_condition_signal(condition) }

    /// Wakes every thread that waits. With or without the mutex.
    public func broadcast() { forkguard_condition_broadcast(condition) }

    private var description: String {
        let made = "made at \(condition.pointee.file.map { String(cString: $0) } ?? "?"):\(condition.pointee.line)"
        guard let name = condition.pointee.name else { return "a condition \(made)" }
        return "condition '\(String(cString: name))', \(made)"
    }
}

extension Duration {
    /// So long from now, by forkguard_nanoseconds.
    var deadline: UInt64 { forkguard_nanoseconds() + UInt64(max(0, clampedNanoseconds)) }
}
