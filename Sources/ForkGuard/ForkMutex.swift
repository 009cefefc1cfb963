#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif
public import CForkGuard

/// What a ``ForkMutex`` does when a thread that was inside it did not survive a fork, so that its value may be half changed.
public enum ForkTorn<Value: ~Copyable>: Sendable {
    /// End the child at its first lock, with a message that names the mutex, the holder and why the fork did not wait for it.
    case trap
    /// Make a new value at the child's first lock. The torn one is never read and never deinitialised.
    case rebuild(@Sendable () -> Value)
}

/// A mutex with a value in it, as `Synchronization.Mutex`, that a forked child can use.
///
/// At a fork no other thread is inside: the fork waits for those that are. Where that could not be had (see ``ForkTorn``), the mutex is torn in the child, and
/// `ifTorn` says what happens at its first lock there. The forking thread's own hold stays its own, in the child and in the parent.
///
/// Not recursive: locking twice on one thread is a trap that names the mutex, not a deadlock. Any thread, any side of a fork, also in hooks.
public final class ForkMutex<Value: ~Copyable>: @unchecked Sendable {
    // @unchecked: the value is reached only between forkguard_lock and forkguard_unlock, which order all accesses; it enters by
    // `sending` and leaves by `sending`. The pointers and the policy are constants.

    // Memory of its own, because a lock must not move and a stored property has no address that Swift promises to keep.
    @usableFromInline let lock: UnsafeMutablePointer<forkguard_lock_t>
    @usableFromInline let value: UnsafeMutablePointer<Value>
    private let ifTorn: ForkTorn<Value>

    /// A mutex around `value`.
    ///
    /// - Parameters:
    ///   - value: what it protects.
    ///   - name: names the mutex in reports and traps; `file` and `line` are given there too.
    ///   - ifTorn: what happens in a child that finds the value half changed.
    public init(
        _ value: consuming sending Value, name: String? = nil, ifTorn: ForkTorn<Value> = .trap,
        file: StaticString = #fileID, line: UInt32 = #line
    ) {
        lock = .allocate(capacity: 1)
        forkguard_lock_init(lock, name.flatMap { UnsafePointer(strdup($0)) }, file.cString, line)
        self.value = .allocate(capacity: 1)
        self.value.initialize(to: value)
        self.ifTorn = ifTorn
    }

    deinit {
        if !forkguard_lock_is_torn(lock) {
            if lock.pointee.word != 0 {
                forkguard_trap_misuse(lock, "was destroyed while it is locked", "keep a reference to the mutex while it is in use")
            }
            value.deinitialize(count: 1)
        }
        value.deallocate()
        free(UnsafeMutableRawPointer(mutating: lock.pointee.name))
        lock.deallocate()
    }

    /// Runs `body` with exclusive access to the value. A fork by another thread waits until it returns, at most until the deadline.
    @inlinable
    public func withLock<Result: ~Copyable, Failure: Error>(
        _ body: (inout sending Value) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result {
        if _slowPath(forkguard_lock(lock) != FORKGUARD_LOCKED.rawValue) { mend() }
        defer { forkguard_unlock(lock) }
        return try body(&value.pointee)
    }

    /// Runs `body` if nobody else has the mutex, else returns `nil`. Never `nil` for nothing: while a fork is being prepared it waits for that fork.
    @inlinable
    public func withLockIfAvailable<Result: ~Copyable, Failure: Error>(
        _ body: (inout sending Value) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result? {
        let locked = forkguard_trylock(lock)
        if locked == FORKGUARD_BUSY.rawValue { return nil }
        if _slowPath(locked != FORKGUARD_LOCKED.rawValue) { mend() }
        defer { forkguard_unlock(lock) }
        return try body(&value.pointee)
    }

    /// The halves of ``withLock(_:)``, for what is moved in while it is locked: a closure can only copy it.
    @inlinable
    func begin() -> UnsafeMutablePointer<Value> {
        if _slowPath(forkguard_lock(lock) != FORKGUARD_LOCKED.rawValue) { mend() }
        return value
    }

    @inlinable
    func end() { forkguard_unlock(lock) }

    @usableFromInline
    func mend() {
        switch ifTorn {
        case .trap:
            forkguard_trap_torn(lock)
        case .rebuild(let make):
            value.initialize(to: make())
            _ = forkguard_lock_mark_consistent(lock)
        }
    }
}
