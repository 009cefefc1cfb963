internal import CForkGuard

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// What the C registry keeps for a lock: a weak reference to what keeps it, which a fork makes a strong one for its duration.
final class LockKeeper: @unchecked Sendable {
    // @unchecked: all but `held` are constants, a weak reference may be read by any thread, and `held` belongs to the one thread that uses the lock around
    // a fork (foreign.c, `busy`).
    private weak var owner: AnyObject?
    private weak var lock: (any ForkableLock)?
    private let hasOwner: Bool
    private let ifTorn: (@Sendable () -> Void)?
    private var held: AnyObject?
    private var heldLock: (any ForkableLock)?

    init(_ owner: AnyObject?, lock: (any ForkableLock)? = nil, ifTorn: (@Sendable () -> Void)?) {
        self.owner = owner
        self.lock = lock
        self.hasOwner = owner != nil
        self.ifTorn = ifTorn
    }

    /// Registers what `register` registers, or finds the registration that `lock` has already. The registry keeps this object until that ends.
    func register(
        _ lock: UnsafeRawPointer, name: String, file: StaticString, line: UInt32,
        _ register: (inout forkguard_foreign_lock) -> UInt64
    ) -> Result<ForkRegistration, ForkError> {
        var made = forkguard_foreign_lock()
        made.file = file.cString
        made.line = line
        made.context = Unmanaged.passRetained(self).toOpaque()
        made.release = { Unmanaged<LockKeeper>.fromOpaque($0!).release() }
        if hasOwner {
            made.hold = { LockKeeper.from($0).hold() }
            made.let_go = { LockKeeper.from($0).letGo() }
            made.probe = { LockKeeper.from($0).owner == nil ? FORKGUARD_GONE : 0 }
        }
        if ifTorn != nil {
            made.torn = {
                LockKeeper.from($0).ifTorn?()
                return 0
            }
        }
        while true {
            let id = name.withCString { name in
                made.name = name
                return register(&made)
            }
            if id != 0 { return .success(ForkRegistration(id: id)) }
            let error = errno
            let twin = error == EEXIST ? forkguard_registration_of(lock) : 0
            if error == EEXIST, twin == 0 { continue }  // it was cancelled in between
            Unmanaged.passUnretained(self).release()
            if twin != 0 { return .success(ForkRegistration(id: twin)) }
            return .failure(.refused("'\(name)' (\(file):\(line)): \(LockKeeper.reason(error))"))
        }
    }

    private static func reason(_ error: Int32) -> String {
        switch error {
        case ENOTSUP:
            "it is shared by processes, or robust: a child must not make it anew under the others' hands. Take it in an onFork prepare hook"
        case EINVAL: "this is not a lock: it was destroyed, or never initialised"
        default: String(cString: strerror(error))
        }
    }

    private static func from(_ context: UnsafeMutableRawPointer?) -> LockKeeper {
        Unmanaged<LockKeeper>.fromOpaque(context!).takeUnretainedValue()
    }

    private func hold() -> Int32 {
        guard let owner else { return FORKGUARD_GONE }
        held = owner
        heldLock = lock
        return 0
    }

    private func letGo() -> Int32 {
        held = nil
        heldLock = nil
        return 0
    }

    /// For locks of the user's: C hands over the keeper as the lock.
    ///
    /// Constant, and never freed.
    nonisolated(unsafe) static let operations: UnsafePointer<forkguard_lock_operations> = {
        let operations = UnsafeMutablePointer<forkguard_lock_operations>.allocate(capacity: 1)
        operations.initialize(
            to: forkguard_lock_operations(
                check: nil,
                try_lock: { LockKeeper.from($0).heldLock!.tryLock() ? 0 : EBUSY },
                wait_lock: nil,
                unlock: {
                    LockKeeper.from($0).heldLock!.unlock()
                    return 0
                },
                reinitialize: {
                    LockKeeper.from($0).heldLock!.reinitialize()
                    return 0
                },
                adopt: nil, owner: nil))
        return UnsafePointer(operations)
    }()
}
