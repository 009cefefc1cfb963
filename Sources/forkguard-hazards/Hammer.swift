import Synchronization

/// A thread of the parent that does a row's operation over and over, and says when it is inside.
final class Hammer: Sendable {
    private let isInsideNow = Atomic<Bool>(false)
    private let turnsDone = Atomic<Int>(0)

    var isInside: Bool { isInsideNow.load(ordering: .sequentiallyConsistent) }
    var turns: Int { turnsDone.load(ordering: .relaxed) }

    func inside(_ body: () -> Void) {
        isInsideNow.store(true, ordering: .sequentiallyConsistent)
        body()
        isInsideNow.store(false, ordering: .sequentiallyConsistent)
    }

    func finishTurn() { turnsDone.wrappingAdd(1, ordering: .relaxed) }
}
