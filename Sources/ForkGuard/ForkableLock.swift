internal import CForkGuard

/// A lock that is not ForkGuard's: anything that can be tried, unlocked and made anew. Register it with
/// ``ForkGuard/register(lock:name:ifTorn:file:line:)``.
///
/// pthread locks, and the locks that stand on them, need no conformance: see `ForkGuard.register(mutex:…)`, `register(rwlock:…)` and
/// `register(reflecting:…)`. Where a lock can be a ``ForkMutex``, make it one: a fork then need not touch it.
public protocol ForkableLock: AnyObject, Sendable {
    /// Takes the lock if nobody has it; must not wait. Called by the forking thread while other threads are held up, several times if somebody has it.
    ///
    /// A lock that is never to be had costs every fork the deadline, and the report names it. One that claims to be taken although somebody is
    /// inside is believed: the child may then find what it protects half changed.
    func tryLock() -> Bool

    /// Undoes `tryLock`, on the thread that called it: in the parent, and between attempts.
    func unlock()

    /// In the child: makes the lock free, whoever had it. After that `tryLock` must succeed, which is tried; if it does not the report names the lock.
    ///
    /// Do not unlock here: the thread of the child has another id than the one that locked, and most locks refuse that.
    func reinitialize()
}

extension ForkGuard {
    /// Registers a lock, weakly: the registration lives as long as the lock. From then on a fork waits until nobody else has it, at most until the deadline, and it is
    /// free in the child. Registering it again returns the same registration.
    ///
    /// A lock that the forking thread itself has is not to be had: it costs the deadline, and is free in the child. `ForkGuard.fork` then throws
    /// ``ForkError/timedOut(waitingFor:)``.
    ///
    /// Any thread, any side of a fork, also in hooks.
    ///
    /// - Parameters:
    ///   - lock: its three methods are called on the forking thread.
    ///   - name: names it in reports; its type's name if left out.
    ///   - ifTorn: in a child, before its hooks, when a thread that did not survive the fork had the lock: what it protects may be half changed and is to be made
    ///     anew here. If left out, a line on standard error says so.
    @discardableResult
    public static func register<Lock: ForkableLock>(
        lock: Lock, name: String? = nil, ifTorn: (@Sendable () -> Void)? = nil, file: StaticString = #fileID, line: UInt32 = #line
    ) -> ForkRegistration {
        let keeper = LockKeeper(lock, lock: lock, ifTorn: ifTorn)
        let identity = UnsafeRawPointer(Unmanaged.passUnretained(lock).toOpaque())
        let result = keeper.register(identity, name: name ?? String(describing: Lock.self), file: file, line: line) { made in
            made.lock = Unmanaged.passUnretained(keeper).toOpaque()
            made.identity = identity
            made.operations = LockKeeper.operations
            made.flags = UInt32(FORKGUARD_AFTER_C_PHASES.rawValue)
            return forkguard_register_lock(&made)
        }
        switch result {
        case .success(let registration): return registration
        case .failure(let error): fatalError("\(error)")
        }
    }
}
