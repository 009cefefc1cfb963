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

    final class Job: Sendable {
        let request: Request
        let answer: Answer<Response>

        init(_ request: Request, _ answer: Answer<Response>) {
            self.request = request
            self.answer = answer
        }
    }

    /// How a wait for room ends.
    private enum Admission: Sendable {
        case accepted
        case closed
        case late
        case cancelled
    }

    /// A request that there is no room for yet. Who makes room puts it into the mailbox, so that nobody who comes later is before it.
    private final class Waiting: Sendable {
        let job: Job
        let waiter = Waiter<Admission>()

        init(_ job: Job) { self.job = job }
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
        var requests = Line<Job>()
        /// Only while the mailbox is full.
        var waiting = Line<Waiting>()
        var isClosed = false
        var thread = Thread.notStarted

        var isOwnThread: Bool { if case .running(let thread) = thread { thread.isCurrent } else { false } }

        /// After one request was taken out: lets in who waits longest, to be woken when the mutex is unlocked.
        mutating func admitFirst() -> Waiting? {
            guard let first = waiting.removeFirst() else { return nil }
            requests.append(first.job)
            first.waiter.end(.accepted)
            return first
        }
    }

    private let generation = ForkGuard.generation
    private let identity: Identity
    private let capacity: Int
    private let handle: @Sendable (Request) throws -> Response
    private let state: ForkMutex<State>
    private let hasRequest = ForkCondition()
    private let hasEnded = ForkCondition()

    init(_ identity: Identity, capacity: Int, handle: @escaping @Sendable (Request) throws -> Response) {
        self.identity = identity
        self.capacity = capacity
        self.handle = handle
        state = ForkMutex(
            State(), name: identity.description, ifTorn: .rebuild { State(isClosed: true) }, file: identity.file, line: identity.line)
    }

    func submit(_ request: Request, deadline: UInt64) throws(ForkError) -> ForkReply<Response> {
        let job = makeJob(request)
        if let waiting = try enqueue(job) {
            switch waiting.waiter.wait(state, deadline: deadline, leave: { _ = $0.waiting.remove(waiting) }) {
            case .accepted: break
            case .closed: throw closed
            case nil, .late, .cancelled: throw noRoom
            }
        }
        return ForkReply(job.answer, worker: identity.description)
    }

    /// Suspends instead of blocking.
    func submit(_ request: Request, deadline: UInt64) async throws -> (Job, ForkReply<Response>) {
        try Task.checkCancellation()
        let job = makeJob(request)
        if let waiting = try enqueue(job) {
            let admission = await waiting.waiter.wait(state, deadline: deadline, late: .late, cancelled: .cancelled) { state in
                _ = state.waiting.remove(waiting)
            }
            switch admission {
            case .accepted: break
            case .closed: throw closed
            case .late: throw noRoom
            case .cancelled: throw CancellationError()
            }
        }
        return (job, ForkReply(job.answer, worker: identity.description))
    }

    /// Submits, and waits for the reply. Cancelling takes the request out for as long as it was not begun.
    func call(_ request: Request, deadline: UInt64) async throws -> Response {
        let (job, reply) = try await submit(request, deadline: deadline)
        return try await withTaskCancellationHandler {
            try await reply.wait(deadline: deadline, isCancellable: false)
        } onCancel: {
            withdraw(job)
        }
    }

    private func withdraw(_ job: Job) {
        let (isOut, admitted) = state.withLock { state -> (Bool, Waiting?) in
            // In a child the request is the parent's.
            guard ForkGuard.isCurrent(generation), state.requests.remove(job) else { return (false, nil) }
            return (true, state.admitFirst())
        }
        admitted?.waiter.wake()
        if isOut { job.answer.give(.failure(CancellationError())) }
    }

    private func makeJob(_ request: Request) -> Job { Job(request, Answer(file: identity.file, line: identity.line)) }

    private var closed: ForkError { .closed(identity.description) }
    private var noRoom: ForkError { .timedOut(waitingFor: "room in the mailbox of \(identity.description)") }

    /// Puts it into the mailbox, or into the line before it when that is full.
    private func enqueue(_ job: Job) throws(ForkError) -> Waiting? {
        try state.withLock { (state) throws(ForkError) in
            if state.isClosed { throw closed }
            if state.requests.count < capacity {
                if case .notStarted = state.thread {
                    state.thread = .running(try SystemThread(name: identity.threadName) { [self] in run() })
                }
                state.requests.append(job)
                hasRequest.signal()
                return nil
            }
            if state.isOwnThread { throw .refused("a request to \(identity.description) by its own thread while its mailbox is full") }
            let waiting = Waiting(job)
            state.waiting.append(waiting)
            return waiting
        }
    }

    /// Accepts nothing more; what is pending is still done.
    func finish() {
        let refused = state.withLock { state in
            state.isClosed = true
            hasRequest.broadcast()
            let refused = state.waiting.removeAll()
            for waiting in refused { waiting.waiter.end(.closed) }
            return refused
        }
        for waiting in refused { waiting.waiter.wake() }
    }

    /// Accepts nothing more; what is pending fails.
    func close() {
        finish()
        // Outside of the section: these may be the last references to what users sent.
        for job in state.withLock({ $0.requests.removeAll() }) { job.answer.give(.failure(closed)) }
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
        let taken: (job: Job?, admitted: Waiting?)? = hasRequest.wait(
            state, deadline: .max, until: { $0.isClosed || $0.requests.count > 0 }
        ) { state in
            (state.requests.removeFirst(), state.admitFirst())
        }
        taken?.admitted?.waiter.wake()
        return taken?.job
    }
}
