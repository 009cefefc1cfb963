public import ForkGuard
public import Wire

/// A kept-alive connection to a server, with a thread that writes requests and one that reads answers, and so notices at once when the
/// server closes it.
///
/// Both threads end, and the descriptor is closed, when the peer closes it, when it is closed here, after any error, and when it was idle
/// for too long. One of them holds the connection: close it when it is done with.
///
/// To a child it is another process's: neither thread exists there, and each request throws at once. It is registered with ForkGuard, so
/// that the child gets its number back; nothing is sent. Any thread; one request at a time, others wait for it.
public final class PersistentConnection: ForkSafe {
    /// A request that is under way.
    private struct Exchange: Sendable {
        let request: [UInt8]
        let method: String
        let deadline: Deadline
    }

    private struct State: Sendable {
        /// From a request until the read loop has its answer, whether or not somebody fetches that.
        var exchange: Exchange?
        var answer: HTTPResponse?
        var hasAnswered = false
        var isAnswering = false
        var ended: (any Error)?
    }

    /// Why a request has no answer, when not one byte of it has come.
    struct Unanswered: Error {
        let cause: any Error
        let wasSubmitted: Bool
        let wasKeptAlive: Bool

        /// Whether the server closed a connection that it had kept alive until then, and the request may be sent on another one.
        func maySendAgain(_ request: HTTPRequest) -> Bool {
            wasKeptAlive && (!wasSubmitted || request.isIdempotent && cause as? WireError == .closedByPeer)
        }
    }

    private let server: ServerAddress
    private let connection: Connection
    private let limits: HTTPLimits
    private let idleTimeout: Duration
    private let generation = ForkGuard.generation
    private let state = ForkMutex(State(), name: "PersistentConnection")
    private let changed = ForkCondition(name: "PersistentConnection")
    private let reader: ForkWorker<@Sendable () -> Void, Void>
    private let writer: ForkWorker<@Sendable () -> Void, Void>

    /// Connects, and starts the threads.
    ///
    /// - Throws: `WireError.timedOut`, `WireError.system`: `ECONNREFUSED`, `EMFILE`; `ForkError.system` when there is no thread to be had.
    public init(
        to server: ServerAddress, timeout: Duration, idleTimeout: Duration = .seconds(50), limits: HTTPLimits = HTTPLimits()
    ) throws {
        self.server = server
        self.limits = limits
        self.idleTimeout = idleTimeout
        connection = try Connection(to: server, timeout: timeout)
        reader = try ForkWorker(name: "http reader", inChild: .staysStopped) { $0() }
        writer = try ForkWorker(name: "http writer", inChild: .staysStopped) { $0() }
        ForkGuard.register(self)
        // Holds the connection as long as it runs.
        try reader.submit({ self.readLoop() }, timeout: .zero)
    }

    /// Asks, and waits for the answer.
    ///
    /// - Throws: `WireError`, `HTTPError`; `ForkError.closed`; in a child of the process that made it `ForkError.staleGeneration`.
    public func send(_ request: HTTPRequest, timeout: Duration) throws -> HTTPResponse {
        do {
            return try send(request, Deadline(in: timeout))
        } catch let failure as Unanswered {
            throw failure.cause
        }
    }

    /// Closes it. A request that is under way throws. In a child, of an inherited one, only the number is given back.
    public func close() {
        if ForkGuard.isCurrent(generation) { end(ForkError.closed(name)) } else { connection.close() }
    }

    /// The tombstone goes. Nothing else here is a child's to touch.
    public func discardAfterFork() { connection.close() }

    /// Whether a request may be sent on it: it is open, and nothing has come that nobody asked for. A snapshot.
    public var isIdle: Bool { connection.isQuiet && state.withLock { $0.ended == nil && $0.exchange == nil } }

    func send(_ request: HTTPRequest, _ deadline: Deadline) throws -> HTTPResponse {
        guard ForkGuard.isCurrent(generation) else { throw ForkError.staleGeneration(name, generation: generation) }
        let exchange = Exchange(request: request.bytes(host: server.host, port: server.port), method: request.method, deadline: deadline)
        try wait(deadline, "its turn", until: { $0.ended != nil || $0.exchange == nil && $0.answer == nil }) { state in
            if let cause = state.ended { throw Unanswered(cause: cause, wasSubmitted: false, wasKeptAlive: state.hasAnswered) }
            state.exchange = exchange
        }
        var isSubmitted = false
        do {
            try writer.submit({ self.write(exchange) }, timeout: deadline.left)
            isSubmitted = true
        } catch {
            // Ended in between, or there is no thread to be had.
            end(error)
        }
        do {
            defer { changed.broadcast() }
            return try wait(deadline, "the answer", until: { $0.ended != nil || $0.answer != nil }) { state in
                if let answer = state.answer.take() { return answer }
                let cause = state.ended!
                throw state.isAnswering ? cause : Unanswered(cause: cause, wasSubmitted: isSubmitted, wasKeptAlive: state.hasAnswered)
            }
        } catch let error as WireError {
            // An answer may still come.
            end(error)
            throw error
        }
    }

    private func wait<Result: Sendable>(
        _ deadline: Deadline, _ what: String, until ready: (inout State) -> Bool, _ body: (inout State) throws -> Result
    ) throws -> Result {
        do {
            return try changed.wait(state, timeout: deadline.left, until: { ready(&$0) }) { try body(&$0) }
        } catch ForkError.timedOut {
            throw WireError.timedOut("\(what) of \(server.host):\(server.port)")
        }
    }

    private var name: String { "the connection to \(server.host):\(server.port)" }

    // ---- the threads ----

    private func write(_ exchange: Exchange) {
        do {
            // The answer may come before all is sent. Another request waits until it is.
            try connection.send(exchange.request, exchange.deadline)
        } catch WireError.closedByPeer {
            // It may have answered before. The read loop sees.
        } catch {
            end(error)
        }
    }

    private func readLoop() {
        var reader = ResponseReader(connection, limits)
        do {
            while true {
                do {
                    try reader.fill(Deadline(in: idleTimeout))
                } catch let timeout as WireError {
                    guard case .timedOut = timeout else { throw timeout }
                    let exchange = state.withLock { state in
                        // In one section, so that no request comes in between.
                        if state.exchange == nil { state.ended = timeout }
                        return state.exchange
                    }
                    guard let exchange else { throw timeout }
                    try reader.fill(exchange.deadline)
                }
                let exchange = state.withLock { state in
                    state.isAnswering = state.exchange != nil
                    return state.exchange
                }
                guard let exchange else { throw WireError.malformed("an answer that nobody asked for") }
                let (response, keepsAlive) = try reader.response(to: exchange.method, exchange.deadline)
                state.withLock { state in
                    // Not left to whoever fetches the answer: what comes next on the connection is for nobody, already now.
                    state.exchange = nil
                    state.answer = response
                    state.hasAnswered = true
                    state.isAnswering = false
                    if !keepsAlive { state.ended = WireError.closedByPeer }
                }
                changed.broadcast()
                if !keepsAlive { throw WireError.closedByPeer }
            }
        } catch {
            end(error)
        }
    }

    /// Once is enough, and more do no harm.
    private func end(_ error: any Error) {
        state.withLock { $0.ended = $0.ended ?? error }
        changed.broadcast()
        connection.close()
        reader.close()
        writer.close()
    }
}
