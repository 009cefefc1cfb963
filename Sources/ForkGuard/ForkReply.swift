/// What a ``ForkWorker`` will answer to one request.
///
/// May be dropped without being waited for: the request is handled all the same. A child abandons the replies that it inherits, with what they hold.
public final class ForkReply<Response: Sendable>: Sendable {
    private let generation: UInt64
    private let worker: String
    // One reference is ours to give back or, in a child, to leak.
    private let answer: Unmanaged<Answer<Response>>

    init(_ answer: Answer<Response>, worker: String) {
        generation = ForkGuard.generation
        self.worker = worker
        self.answer = .passRetained(answer)
    }

    deinit { if ForkGuard.isCurrent(generation) { answer.release() } }

    /// Waits until the request was handled, and returns what the worker's closure returned. Asking again, from any thread, gives the same answer.
    ///
    /// Any thread of the process that submitted the request; in a child it throws at once. Not in hooks. On the worker's own thread nobody is left to answer: only time runs out.
    ///
    /// - Parameter timeout: how long to wait at most. 0 or less looks once. The request stays submitted when it has passed.
    /// - Throws: what the worker's closure threw; ``ForkError/timedOut(waitingFor:)``; ``ForkError/closed(_:)`` when the worker was closed before it began with the request;
    ///   ``ForkError/staleGeneration(_:generation:)`` in a child.
    public func wait(timeout: Duration) throws -> Response { try wait(deadline: timeout.deadline) }

    /// Waits as the one that blocks, which the compiler takes in code that is not asynchronous, but suspends the task. A task of the
    /// parent's that waits is forgotten in a child, never resumed.
    ///
    /// - Parameter timeout: how long to wait at most. 0 or less looks once. The request stays submitted when it has passed.
    /// - Throws: what the other one throws; `CancellationError` when the task is cancelled while it waits, or before it would: the request
    ///   stays submitted then, too.
    public func wait(timeout: Duration) async throws -> Response { try await wait(deadline: timeout.deadline, isCancellable: true) }

    func wait(deadline: UInt64) throws -> Response {
        try checkGeneration()
        guard let outcome = answer.takeUnretainedValue().wait(deadline: deadline) else { throw late }
        return try outcome.get()
    }

    func wait(deadline: UInt64, isCancellable: Bool) async throws -> Response {
        try checkGeneration()
        switch await answer.takeUnretainedValue().wait(deadline: deadline, isCancellable: isCancellable) {
        case .given(let outcome): return try outcome.get()
        case .late: throw late
        case .cancelled: throw CancellationError()
        }
    }

    private func checkGeneration() throws(ForkError) {
        guard ForkGuard.isCurrent(generation) else { throw .staleGeneration("a reply of \(worker)", generation: generation) }
    }

    private var late: ForkError { .timedOut(waitingFor: "a reply of \(worker)") }
}
