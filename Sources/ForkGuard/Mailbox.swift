/// What a worker has in one process: requests, a thread, and those who wait for either. The worker holds it, and so does the thread, which does not hold the worker.
///
/// In a child it is abandoned whole, so nothing here is ever waited for in another process than the one that made it. The one thread that can arrive there is the
/// worker's own, out of a closure that forked.
final class Mailbox<Request: Sendable, Response: Sendable>: Sendable {
    /// Who a worker is.
    struct Identity: Sendable {
        let threadName: String?
        let description: String
        let file: StaticString
        let line: UInt32
    }

    private final class Job: Sendable {
        let request: Request
        let answer: Answer<Response>

        init(_ request: Request, _ answer: Answer<Response>) {
            self.request = request
            self.answer = answer
        }
    }

    private enum Thread {
        case notStarted
        case running(SystemThread)
        // It has left its last section, and somebody has to join or detach it.
        case ended(SystemThread, id: Int32)
        case beingJoined
        case gone
    }

    private struct State: Sendable {
        // Taken from the end of `next`, which is refilled from `arrived`, turned around.
        var arrived: [Job] = []
        var next: [Job] = []
        var isClosed = false
        var thread = Thread.notStarted

        var count: Int { arrived.count + next.count }
        var isOwnThread: Bool { if case .running(let thread) = thread { thread.isCurrent } else { false } }

        mutating func takeNext() -> Job? {
            if next.isEmpty {
                next = arrived.reversed()
                arrived.removeAll(keepingCapacity: true)
            }
            return next.popLast()
        }

        mutating func takeAll() -> [Job] {
            defer { (arrived, next) = ([], []) }
            return next.reversed() + arrived
        }
    }

    private let generation = ForkGuard.generation
    private let identity: Identity
    private let capacity: Int
    private let handle: @Sendable (Request) throws -> Response
    private let state: ForkMutex<State>
    private let hasRequest = ForkCondition()
    private let hasRoom = ForkCondition()
    private let hasEnded = ForkCondition()

    init(_ identity: Identity, capacity: Int, handle: @escaping @Sendable (Request) throws -> Response) {
        self.identity = identity
        self.capacity = capacity
        self.handle = handle
        state = ForkMutex(
            State(), name: identity.description, ifTorn: .rebuild { State(isClosed: true) }, file: identity.file, line: identity.line)
    }

    func submit(_ request: Request, deadline: UInt64) throws(ForkError) -> ForkReply<Response> {
        let answer = Answer<Response>(file: identity.file, line: identity.line)
        let job = Job(request, answer)
        let accepted: Void? = try hasRoom.wait(state, deadline: deadline) { (state) throws(ForkError) in
            if state.isClosed { throw .closed(identity.description) }
            if state.count < capacity { return true }
            if state.isOwnThread { throw .refused("a request to \(identity.description) by its own thread while its mailbox is full") }
            return false
        } _: { (state) throws(ForkError) in
            if case .notStarted = state.thread {
                state.thread = .running(try SystemThread(name: identity.threadName) { [self] in run() })
            }
            state.arrived.append(job)
            hasRequest.signal()
        }
        if accepted == nil { throw .timedOut(waitingFor: "room in the mailbox of \(identity.description)") }
        return ForkReply(answer, worker: identity.description)
    }

    /// Accepts nothing more; what is pending is still done.
    func finish() {
        state.withLock { state in
            state.isClosed = true
            hasRequest.broadcast()
        }
        hasRoom.broadcast()
    }

    /// Accepts nothing more; what is pending fails.
    func close() {
        finish()
        // Outside of the section: these may be the last references to what users sent.
        for job in state.withLock({ $0.takeAll() }) { job.answer.give(.failure(ForkError.closed(identity.description))) }
    }

    func join(deadline: UInt64) throws(ForkError) {
        let toJoin: (thread: SystemThread, id: Int32)?? = try hasEnded.wait(state, deadline: deadline) { (state) throws(ForkError) in
            switch state.thread {
            case .running where state.isOwnThread: throw .refused("a join of \(identity.description) by its own thread")
            case .running, .beingJoined: false
            case .notStarted, .ended, .gone: true
            }
        } _: { (state) throws(ForkError) in
            guard case .ended(let thread, let id) = state.thread else { return nil }
            state.thread = .beingJoined
            return (thread, id)
        }
        guard let toJoin else { throw .timedOut(waitingFor: "the end of \(identity.description)") }
        guard let (thread, id) = toJoin else { return }
        // All that can be left of it are destructors of thread-local storage, which may be anybody's.
        let isGone = thread.join(id: id, deadline: deadline)
        state.withLock { state in
            state.thread = isGone ? .gone : .ended(thread, id: id)
            hasEnded.broadcast()
        }
        if !isGone { throw .timedOut(waitingFor: "the end of \(identity.description)") }
    }

    /// Nobody will join the thread any more.
    func detach() {
        state.withLock { state in
            switch state.thread {
            case .running(let thread), .ended(let thread, _):
                thread.detach()
                state.thread = .gone
            case .notStarted, .beingJoined, .gone: break
            }
        }
    }

    // ---- the worker's thread ----

    private func run() {
        repeat {
            guard let job = takeNext() else {
                state.withLock { state in
                    if case .running(let thread) = state.thread { state.thread = .ended(thread, id: SystemThread.currentID) }
                    hasEnded.broadcast()
                }
                return
            }
            let outcome = Result { try handle(job.request) }
            if ForkGuard.isCurrent(generation) {
                job.answer.give(outcome)
            } else {
                // The closure forked, and this is the child: the request is the parent's.
                _ = Unmanaged.passRetained(job)
            }
        } while ForkGuard.isCurrent(generation)
        // So is everything else that the thread would let go of at its end.
        _ = Unmanaged.passRetained(self)
    }

    /// Waits for a request; `nil` when none will come.
    private func takeNext() -> Job? {
        let job: Job?? = hasRequest.wait(state, deadline: .max, until: { $0.isClosed || $0.count > 0 }) { state in
            defer { hasRoom.signal() }
            return state.takeNext()
        }
        return job ?? nil
    }
}
