internal import Synchronization

/// How a default implementation of ``ForkSafe`` tells that it is one, so that a process with ten thousand clients does not call ten thousand methods that do nothing at each
/// fork: it notes whose it is and which, and whoever called it looks.
///
/// The note has to name the resource: one that hands a call on to others, whose methods do nothing, does something itself.
enum UnusedPhase: UInt {
    // Objects are aligned to 16 bytes, so these do not disturb the address.
    case prepare = 1
    case resume = 2

    private static let noted = Atomic<UInt>(0)

    func note(_ resource: some AnyObject) { Self.noted.store(Self.key(resource, self), ordering: .relaxed) }

    /// Whether what `call` called was the default.
    func isDefault(of resource: some AnyObject, _ call: () -> Void) -> Bool {
        Self.noted.store(0, ordering: .relaxed)
        call()
        return Self.noted.load(ordering: .relaxed) == Self.key(resource, self)
    }

    private static func key(_ resource: some AnyObject, _ phase: UnusedPhase) -> UInt {
        UInt(bitPattern: ObjectIdentifier(resource)) | phase.rawValue
    }
}
