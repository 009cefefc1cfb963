internal import CForkGuard

/// Ends the waits of tasks whose time is over, with one thread for all of them, which is there while there are any.
///
/// Not by Task.sleep, which leaves its timer behind until its time has come, however soon it is cancelled: each wait that is over sooner
/// would cost the memory of one.
final class Deadlines: Sendable {
    // Lazy, so a child can inherit it half made: only tasks of its own ask, and those need the cure of lazy globals anyway.
    static let ofTasks = Deadlines()

    private final class Entries: @unchecked Sendable {
        // @unchecked: the variables are reached with the mutex of `Deadlines` locked only.
        var all: [UInt64: (time: UInt64, end: @Sendable () -> Void)] = [:]
        var last: UInt64 = 0
        /// When the thread looks; never, while there is none.
        var wake = UInt64.max
        var isRunning = false
    }

    private struct State: Sendable {
        let generation = ForkGuard.generation
        // Never released, so that a child abandons the parent's.
        let entries = Unmanaged.passRetained(Entries())
    }

    private let state = ForkMutex<State?>(nil, name: "deadlines of tasks", ifTorn: .rebuild { nil })
    private let isEarlier = ForkCondition()

    /// Calls `end` on the thread once `time`, by forkguard_nanoseconds, has come, unless it is removed by the number that is returned.
    /// `nil` when there is no thread to be had.
    func add(_ time: UInt64, _ end: @escaping @Sendable () -> Void) -> UInt64? {
        state.withLock { state in
            if state.map({ ForkGuard.isCurrent($0.generation) }) != true { state = State() }
            let entries = state!.entries.takeUnretainedValue()
            if !entries.isRunning {
                guard let thread = try? SystemThread(name: "deadlines", { self.run(entries) }) else { return nil }
                thread.detach()
                entries.isRunning = true
            }
            entries.last += 1
            entries.all[entries.last] = (time, end)
            if time < entries.wake {
                entries.wake = time
                isEarlier.signal()
            }
            return entries.last
        }
    }

    func remove(_ number: UInt64) { _ = state.withLock { $0?.entries.takeUnretainedValue().all.removeValue(forKey: number) } }

    private func run(_ entries: Entries) {
        var isOver = false
        while !isOver {
            let wake = state.withLock { _ in entries.wake }
            isEarlier.wait(state, deadline: wake, until: { _ in entries.wake < wake }) { _ in }
            let late = state.withLock { _ in
                let now = forkguard_nanoseconds()
                let late = entries.all.filter { $0.value.time <= now }
                for number in late.keys { entries.all[number] = nil }
                entries.wake = entries.all.values.map(\.time).min() ?? .max
                isOver = entries.all.isEmpty
                entries.isRunning = !isOver
                return late.values.map(\.end)
            }
            for end in late { end() }
        }
    }
}
