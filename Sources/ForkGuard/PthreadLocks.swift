public import CForkGuard

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif

extension ForkGuard {
    /// Registers a pthread mutex: plain, adaptive, recursive or error-checking. A fork waits until no other thread has it, at most until the deadline; one
    /// that the forking thread has stays its own, in the child too; all others are made anew there. Registering it again returns the same registration.
    ///
    /// Any thread, any side of a fork, also in hooks.
    ///
    /// - Parameters:
    ///   - mutex: must stay in place until the registration is cancelled, or `owner` ends.
    ///   - owner: what keeps the mutex; the registration ends with it. `nil`: cancel it before the mutex is destroyed.
    ///   - name: names it in reports.
    ///   - ifTorn: as for ``register(lock:name:ifTorn:file:line:)``.
    /// - Throws: ``ForkError/refused(_:)`` for a mutex that processes share, a robust one, or memory that is no mutex.
    @discardableResult
    public static func register(
        mutex: UnsafeMutablePointer<pthread_mutex_t>, owner: AnyObject? = nil, name: String, ifTorn: (@Sendable () -> Void)? = nil,
        file: StaticString = #fileID, line: UInt32 = #line
    ) throws(ForkError) -> ForkRegistration {
        try LockKeeper(owner, ifTorn: ifTorn).register(UnsafeRawPointer(mutex), name: name, file: file, line: line) {
            forkguard_register_mutex(mutex, &$0)
        }.get()
    }

    /// Registers a pthread read-write lock. As for a mutex; one that the forking thread has for reading costs the deadline, is reported, and is made anew in the child,
    /// which must not unlock it.
    @discardableResult
    public static func register(
        rwlock: UnsafeMutablePointer<pthread_rwlock_t>, owner: AnyObject? = nil, name: String, ifTorn: (@Sendable () -> Void)? = nil,
        file: StaticString = #fileID, line: UInt32 = #line
    ) throws(ForkError) -> ForkRegistration {
        try LockKeeper(owner, ifTorn: ifTorn).register(UnsafeRawPointer(rwlock), name: name, file: file, line: line) {
            forkguard_register_rwlock(rwlock, &$0)
        }.get()
    }

    /// Registers a pthread condition variable: in the child it is made anew. Otherwise a broadcast waits there for threads that are gone, and a signal is lost to
    /// them. As for a mutex.
    @discardableResult
    public static func register(
        condition: UnsafeMutablePointer<pthread_cond_t>, owner: AnyObject? = nil, name: String,
        file: StaticString = #fileID, line: UInt32 = #line
    ) throws(ForkError) -> ForkRegistration {
        try LockKeeper(owner, ifTorn: nil).register(UnsafeRawPointer(condition), name: name, file: file, line: line) {
            forkguard_register_condition(condition, &$0)
        }.get()
    }

    /// Registers the pthread locks inside a lock of another library's: `NSLock`, `NSRecursiveLock`, `NSCondition`, `NSConditionLock` of Foundation on Linux;
    /// `NIOLock`, `NIOLockedValueBox`, `ConditionLock` of SwiftNIO. Weakly: the registrations live as long as the lock.
    ///
    /// They are found by reflection: stored properties, two levels deep, that point to a pthread mutex, read-write lock or condition variable, or that are a `ManagedBuffer`
    /// of one. A program that was compiled with `-disable-reflection-metadata` has none. `Synchronization.Mutex` has no pthread lock inside; use
    /// ``ForkMutex`` in its place.
    ///
    /// - Throws: ``ForkError/refused(_:)`` when nothing was found; then nothing is registered.
    @discardableResult
    public static func register(
        reflecting lock: Any, name: String? = nil, ifTorn: (@Sendable () -> Void)? = nil, file: StaticString = #fileID, line: UInt32 = #line
    ) throws(ForkError) -> [ForkRegistration] {
        let name = name ?? String(describing: type(of: lock))
        let found = PthreadLock.inside(lock, depth: 2)
        guard !found.isEmpty else {
            throw .refused(
                "'\(name)' (\(file):\(line)): no pthread lock is to be seen in a \(type(of: lock)); use a ForkMutex, or conform it to ForkableLock"
            )
        }
        var registrations: [ForkRegistration] = []
        for (lock, owner) in found {
            switch lock {
            case .mutex(let mutex):
                registrations.append(try register(mutex: mutex, owner: owner, name: name, ifTorn: ifTorn, file: file, line: line))
            case .rwlock(let rwlock):
                registrations.append(try register(rwlock: rwlock, owner: owner, name: name, ifTorn: ifTorn, file: file, line: line))
            case .condition(let condition):
                registrations.append(try register(condition: condition, owner: owner, name: name, file: file, line: line))
            }
        }
        return registrations
    }
}

/// A pthread lock that was found in an object.
private enum PthreadLock {
    case mutex(UnsafeMutablePointer<pthread_mutex_t>)
    case rwlock(UnsafeMutablePointer<pthread_rwlock_t>)
    case condition(UnsafeMutablePointer<pthread_cond_t>)

    /// The locks, each with the object that keeps it.
    static func inside(_ value: Any, owner: AnyObject? = nil, depth: Int) -> [(PthreadLock, AnyObject)] {
        if let buffer = value as? any LockBuffer { return buffer.pthreadLock.map { [($0, buffer)] } ?? [] }
        let mirror = Mirror(reflecting: value)
        let owner = mirror.displayStyle == .class ? value as AnyObject : owner
        return mirror.children.flatMap { child -> [(PthreadLock, AnyObject)] in
            if let owner {
                switch child.value {
                case let mutex as UnsafeMutablePointer<pthread_mutex_t>: return [(.mutex(mutex), owner)]
                case let rwlock as UnsafeMutablePointer<pthread_rwlock_t>: return [(.rwlock(rwlock), owner)]
                case let condition as UnsafeMutablePointer<pthread_cond_t>: return [(.condition(condition), owner)]
                default: break
                }
            }
            return depth > 0 ? inside(child.value, owner: owner, depth: depth - 1) : []
        }
    }
}

/// SwiftNIO keeps a lock as the element of a buffer whose header is the value that it protects.
private protocol LockBuffer: AnyObject {
    var pthreadLock: PthreadLock? { get }
}

extension ManagedBuffer: LockBuffer where Element == pthread_mutex_t {
    fileprivate var pthreadLock: PthreadLock? { withUnsafeMutablePointerToElements { .mutex($0) } }
}
