/// Where a worker's thread leaves what became of a request, and whoever wants to know waits for it.
final class Answer<Response: Sendable>: Sendable {
    /// How a task's wait for it ends.
    enum Ending: Sendable {
        case given(Result<Response, any Error>)
        case late
        case cancelled
    }

    private struct State: Sendable {
        var outcome: Result<Response, any Error>?
        var tasks: [Waiter<Ending>] = []
    }

    private let state: ForkMutex<State>
    // For threads.
    private let given = ForkCondition()

    init(file: StaticString, line: UInt32) {
        state = ForkMutex(State(), name: nil, ifTorn: .rebuild { State() }, file: file, line: line)
    }

    func give(_ result: Result<Response, any Error>) {
        let tasks = state.withLock { state in
            defer { state.tasks = [] }
            state.outcome = result
            given.broadcast()
            for task in state.tasks { task.end(.given(result)) }
            return state.tasks
        }
        for task in tasks { task.wake() }
    }

    /// `nil` when it was not given in time.
    func wait(deadline: UInt64) -> Result<Response, any Error>? {
        given.wait(state, deadline: deadline, until: { $0.outcome != nil }) { $0.outcome } ?? nil
    }

    /// Suspends instead of blocking. Without `isCancellable` a cancelled task waits, too.
    func wait(deadline: UInt64, isCancellable: Bool) async -> Ending {
        let task = Waiter<Ending>()
        let outcome = state.withLock { state in
            if state.outcome == nil { state.tasks.append(task) }
            return state.outcome
        }
        if let outcome { return .given(outcome) }
        return await task.wait(state, deadline: deadline, late: .late, cancelled: isCancellable ? .cancelled : nil) { state in
            state.tasks.removeAll { $0 === task }
        }
    }
}
