import Synchronization

/// Memory that C code uses once, one after the other; never freed. Another thread may see which is the newest.
final class Current<Value>: Sendable {
    private let address: Atomic<UInt>
    private let initial: @Sendable () -> Value

    init(_ initial: @escaping @Sendable () -> Value) {
        self.initial = initial
        address = Atomic(UInt(bitPattern: Self.make(initial())))
    }

    var now: UnsafeMutablePointer<Value> { UnsafeMutablePointer(bitPattern: address.load(ordering: .acquiring))! }

    /// The next one.
    func advance() -> UnsafeMutablePointer<Value> {
        let next = Self.make(initial())
        address.store(UInt(bitPattern: next), ordering: .releasing)
        return next
    }

    private static func make(_ value: Value) -> UnsafeMutablePointer<Value> {
        let made = UnsafeMutablePointer<Value>.allocate(capacity: 1)
        made.initialize(to: value)
        return made
    }
}
