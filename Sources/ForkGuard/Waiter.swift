internal import CForkGuard

/// A thread or a task that waits until somebody has an outcome for it.
///
/// What it waits for keeps it in a line, under a ``ForkMutex``. In a child that line is forgotten whole: whoever waited there is never
/// woken, and a task of the parent's never resumed.
@usableFromInline
final class Waiter<Outcome: Sendable>: @unchecked Sendable {
    // @unchecked: until the outcome is there, the variables are reached with the mutex of what is waited for locked only; from then on
    // nobody writes them. The links are the line's, which has its mutex locked.
    private(set) var outcome: Outcome?
    // What it sleeps on, once it does: one of the two.
    private var condition: ForkCondition?
    private var continuation: UnsafeContinuation<Void, Never>?
    private let generation = ForkGuard.generation

    var previous: Unmanaged<Waiter>?
    var next: Unmanaged<Waiter>?

    /// Ends the wait, once: with the mutex locked, by who takes it out of the line. ``wake()`` has to follow.
    func end(_ outcome: Outcome) { self.outcome = outcome }

    /// Lets it go on after ``end(_:)``. Without the mutex: an executor, which may be anybody's, is handed the task here.
    func wake() {
        condition?.signal()
        continuation?.resume()
    }

    /// Blocks the thread until there is an outcome: `nil` at the deadline, by forkguard_nanoseconds, when it is out of the line by `leave`.
    func wait<Value>(_ mutex: ForkMutex<Value>, deadline: UInt64, leave: (inout Value) -> Void) -> Outcome? {
        let granted = ForkCondition()
        granted.wait(mutex, deadline: deadline) { _ in
            if outcome != nil { return true }
            condition = granted
            return false
        } _: { _ in
        }
        return mutex.withLock { value in
            // It may have come after the deadline.
            if outcome == nil { leave(&value) }
            return outcome
        }
    }

    /// Suspends the task until there is an outcome: `late` at the deadline, by forkguard_nanoseconds, and `cancelled`, if it is not `nil`,
    /// when the task is cancelled. It is out of the line by `leave` then.
    func wait<Value>(
        _ mutex: ForkMutex<Value>, deadline: UInt64, late: Outcome, cancelled: Outcome?, isolation: isolated (any Actor)? = #isolation,
        leave: @escaping @Sendable (inout Value) -> Void
    ) async -> Outcome {
        let giveUp: @Sendable (Outcome) -> Void = { [self] outcome in
            let isOurs = mutex.withLock { value in
                // In a child it is in no line, and a task of the parent's.
                guard self.outcome == nil, ForkGuard.isCurrent(generation) else { return false }
                leave(&value)
                end(outcome)
                return true
            }
            if isOurs { wake() }
        }
        let isTimed = deadline > forkguard_nanoseconds() && deadline != .max
        let timer = isTimed ? Deadlines.ofTasks.add(deadline) { giveUp(late) } : nil
        // Without a thread nobody would keep the time: better too early than never.
        if timer == nil && deadline != .max { giveUp(late) }
        defer { if let timer { Deadlines.ofTasks.remove(timer) } }
        await withTaskCancellationHandler {
            // Unsafe: that it is resumed once is what `end` and `wake` are for, and in a child it never is, on purpose.
            await withUnsafeContinuation { continuation in
                let isOver = mutex.withLock { _ in
                    if outcome != nil { return true }
                    self.continuation = continuation
                    return false
                }
                if isOver { continuation.resume() }
            }
        } onCancel: {
            if let cancelled { giveUp(cancelled) }
        }
        return mutex.withLock { _ in outcome! }
    }
}
