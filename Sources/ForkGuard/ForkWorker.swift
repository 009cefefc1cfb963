internal import Synchronization

/// A thread with a mailbox that a forked child can use.
///
/// A child has neither the parent's thread nor its requests: it abandons them, never deinitialised, and they are handled in the parent, once each. Its own thread starts
/// at its first submit, or submits throw there: see ``InChild``. Replies that it inherited fail at once, and joining or closing returns at once: nobody waits for a
/// thread that does not exist.
///
/// The thread starts at the first submit, and ends after ``close()`` or ``finish()``, or when the worker is dropped, which closes it. The thread keeps the closure, and not the worker:
/// a closure that holds its own worker keeps it for ever. Any thread, any side of a fork; do not wait in hooks.
public final class ForkWorker<Request: Sendable, Response: Sendable>: Sendable {
    /// What becomes of a worker in children of the process that made it.
    public enum InChild: Sendable {
        /// It starts again, empty: a child's own thread handles what the child submits.
        case restarts
        /// It does not: submitting throws ``ForkError/staleGeneration(_:generation:)``.
        case staysStopped
    }

    private struct Current: Sendable {
        var generation: UInt64
        // One reference is ours to keep or to leak.
        var mailbox: Unmanaged<Mailbox<Request, Response>>
    }

    private let identity: Mailbox<Request, Response>.Identity
    private let capacity: Int
    private let inChild: InChild
    private let madeIn = ForkGuard.generation
    private let handle: @Sendable (Request) throws -> Response
    private let life: ForkMutex<Current?>
    // Set once, with `life` locked. Not in there, because a closed worker stays closed in a child that finds that torn.
    private let isClosed = Atomic(false)

    /// A worker, without a thread yet.
    ///
    /// - Parameters:
    ///   - name: names the worker in errors and reports, as `file` and `line` do; its thread gets what fits into 15 bytes of it.
    ///   - capacity: how many requests can wait; from there on submitting waits, too.
    ///   - inChild: whether it starts again in a child.
    ///   - handle: what the thread does with each request, one after the other, in the order of their submits. When it throws, the reply does. It may use ``ForkGuard/fork(options:_:)``.
    ///     After a raw `fork()` in it the child's copy of the thread ends when it returns, so it should end the child, or exec: a child whose last thread ends exits with 0.
    /// - Throws: ``ForkError/refused(_:)`` when `capacity` is below 1.
    public init(
        name: String? = nil, capacity: Int = 1024, inChild: InChild = .restarts, file: StaticString = #fileID, line: UInt32 = #line,
        handle: @escaping @Sendable (Request) throws -> Response
    ) throws(ForkError) {
        let place = "made at \(file):\(line)"
        let description = name.map { "worker '\($0)', \(place)" } ?? "a worker \(place)"
        guard capacity >= 1 else { throw .refused("\(description), with a capacity of \(capacity)") }
        var threadName = name
        while let name = threadName, name.utf8.count > 15 { threadName = String(name.dropLast()) }
        identity = .init(threadName: threadName, description: description, file: file, line: line)
        self.capacity = capacity
        self.inChild = inChild
        self.handle = handle
        // A child that finds it torn, after a fork that ran no handlers, begins anew.
        life = ForkMutex(nil, name: description, ifTorn: .rebuild { nil }, file: file, line: line)
    }

    deinit {
        guard let current = life.withLock({ $0 }), ForkGuard.isCurrent(current.generation) else { return }
        let mailbox = current.mailbox.takeRetainedValue()
        mailbox.close()
        mailbox.detach()
    }

    /// Hands a request to the thread, which it starts if there is none yet. Blocks while the mailbox is full. The
    /// request is handled even if nobody keeps the reply.
    ///
    /// Any thread, any side of a fork, the worker's own too; not in hooks.
    ///
    /// - Parameters:
    ///   - request: what `handle` gets.
    ///   - timeout: how long to wait for room at most. 0 or less looks once.
    /// - Throws: ``ForkError/timedOut(waitingFor:)``; ``ForkError/closed(_:)``; ``ForkError/system(call:errno:)`` when there is no thread to be had;
    ///   ``ForkError/staleGeneration(_:generation:)`` in a child of a worker that ``InChild/staysStopped``; ``ForkError/refused(_:)`` when the worker's own thread would wait for
    ///   room. The request was not taken then.
    @discardableResult
    public func submit(_ request: Request, timeout: Duration) throws(ForkError) -> ForkReply<Response> {
        try submit(request, deadline: timeout.deadline)
    }

    /// Submits a request and waits for its reply.
    ///
    /// Threads as for ``submit(_:timeout:)``, but not the worker's own, which would wait for itself.
    ///
    /// - Parameters:
    ///   - request: what `handle` gets.
    ///   - timeout: how long to wait at most, for room and for the reply together. The request may be handled when it has passed.
    /// - Throws: what ``submit(_:timeout:)`` and ``ForkReply/wait(timeout:)`` throw.
    public func call(_ request: Request, timeout: Duration) throws -> Response {
        let deadline = timeout.deadline
        return try submit(request, deadline: deadline).wait(deadline: deadline)
    }

    /// Hands a request over as the one that blocks does, but suspends the task while the mailbox is full, in the same line as threads that
    /// wait.
    ///
    /// Any task of the process; a task of the parent's that waits is forgotten in a child, never resumed.
    ///
    /// - Parameters:
    ///   - request: what `handle` gets.
    ///   - timeout: how long to wait for room at most. 0 or less looks once.
    /// - Throws: what the one that blocks throws; `CancellationError` when the task is cancelled before, or while it waits. The request was
    ///   not taken then.
    @discardableResult
    public func submit(_ request: Request, timeout: Duration) async throws -> ForkReply<Response> {
        try await mailboxForSubmit().submit(request, deadline: timeout.deadline).1
    }

    /// Submits a request and waits for its reply, and suspends the task meanwhile.
    ///
    /// When the task is cancelled before the thread has begun with the request, that is taken out and never handled. One that is begun is
    /// waited for: so whoever gets `CancellationError` knows that nothing was done, unless `handle` throws that itself.
    ///
    /// - Parameters:
    ///   - request: what `handle` gets.
    ///   - timeout: how long to wait at most, for room and for the reply together. The request may be handled when it has passed.
    /// - Throws: what the one that blocks throws; `CancellationError`.
    public func call(_ request: Request, timeout: Duration) async throws -> Response {
        try await mailboxForSubmit().call(request, deadline: timeout.deadline)
    }

    /// Accepts nothing more, here and in children to come, and returns at once. Requests that the thread has not begun fail with ``ForkError/closed(_:)``, as do submits that
    /// wait for room; the one that it has begun is finished and answered; then the thread ends. Twice does no harm.
    ///
    /// Any thread, any side of a fork, the worker's own too.
    public func close() { mailbox(closing: true)?.close() }

    /// As ``close()``, but what is pending is still handled and answered before the thread ends. ``join(timeout:)`` waits for that; ``close()`` after it, or dropping the worker,
    /// drops what is left.
    public func finish() { mailbox(closing: true)?.finish() }

    /// Waits until the thread has ended, and nothing of it is left. Returns at once if there is none: not started, joined before, or the parent's, in a child.
    /// It does not close the worker: without ``close()`` or ``finish()`` it waits for somebody who does.
    ///
    /// Any thread, any side of a fork, several at once; not in hooks.
    ///
    /// - Parameter timeout: how long to wait at most. 0 or less looks once.
    /// - Throws: ``ForkError/timedOut(waitingFor:)``; ``ForkError/refused(_:)`` on the worker's own thread.
    public func join(timeout: Duration) throws(ForkError) { try mailbox()?.join(deadline: timeout.deadline) }

    private func submit(_ request: Request, deadline: UInt64) throws(ForkError) -> ForkReply<Response> {
        try mailboxForSubmit().submit(request, deadline: deadline)
    }

    /// This process's, if it has one.
    private func mailbox(closing: Bool = false) -> Mailbox<Request, Response>? {
        life.withLock { life in
            if closing { isClosed.store(true, ordering: .relaxed) }
            guard let current = life, ForkGuard.isCurrent(current.generation) else { return nil }
            return current.mailbox.takeUnretainedValue()
        }
    }

    private func mailboxForSubmit() throws(ForkError) -> Mailbox<Request, Response> {
        try life.withLock { (life) throws(ForkError) in
            if isClosed.load(ordering: .relaxed) { throw .closed(identity.description) }
            // Asked inside the section: no fork can come between this and the use.
            let generation = ForkGuard.generation
            if let current = life, current.generation == generation { return current.mailbox.takeUnretainedValue() }
            if inChild == .staysStopped, generation != madeIn { throw .staleGeneration(identity.description, generation: madeIn) }
            let mailbox = Mailbox(identity, capacity: capacity, handle: handle)
            life = Current(generation: generation, mailbox: .passRetained(mailbox))
            return mailbox
        }
    }
}
