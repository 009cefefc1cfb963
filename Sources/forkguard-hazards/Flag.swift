import Synchronization

/// A number that is set once and waited for by looking at it: nothing of the system's that a fork could break.
final class Flag: Sendable {
    private let number = Atomic<Int>(0)

    var value: Int { number.load(ordering: .sequentiallyConsistent) }
    var isSet: Bool { value != 0 }

    func set(_ value: Int = 1) { number.store(value, ordering: .sequentiallyConsistent) }
    func add() { number.wrappingAdd(1, ordering: .sequentiallyConsistent) }

    /// Until it has this value at least. Whoever waits for ever is the deadline's.
    func wait(for value: Int = 1) { while self.value < value { Clock.hold(microseconds: 20) } }
}
