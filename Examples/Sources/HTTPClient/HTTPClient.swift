import ForkGuard
public import Wire

/// An HTTP/1.1 client for many threads, with a pool of kept-alive connections for each server.
///
/// A child starts with empty pools: the connections that it inherits are the parent's, which goes on with them, and it makes its own, with
/// threads of their own, when it asks. There is nothing to be done before or after a fork: the pools see it, and the connections are
/// registered with ForkGuard. Any thread, any side of a fork; not in hooks.
public final class HTTPClient: Sendable {
    private let maximum: Int
    private let timeout: Duration
    private let connect: @Sendable (ServerAddress) throws -> PersistentConnection
    // By host and port. A fork waits for whoever changes or walks it.
    private let pools = ForkMutex<[String: ForkPool<PersistentConnection>]>([:], name: "HTTPClient", ifTorn: .rebuild { [:] })

    /// A client without a connection yet.
    ///
    /// - Parameters:
    ///   - maximum: how many connections to one server there are at most.
    ///   - timeout: how long connecting takes at most, and how long a request waits at most for a connection and its answer together.
    ///   - idleTimeout: connections that are idle for longer are closed. Less than the servers' is best.
    ///   - limits: how large answers may be.
    public init(
        connectionsPerServer maximum: Int = 8, timeout: Duration = .seconds(10), idleTimeout: Duration = .seconds(50),
        limits: HTTPLimits = HTTPLimits()
    ) {
        self.maximum = maximum
        self.timeout = timeout
        connect = { try PersistentConnection(to: $0, timeout: timeout, idleTimeout: idleTimeout, limits: limits) }
    }

    deinit { closeIdle() }

    /// Asks for a path.
    public func get(_ path: String, from server: ServerAddress) throws -> HTTPResponse { try send(HTTPRequest("GET", path), to: server) }

    /// Asks, and waits for the answer. An idempotent request that finds its kept-alive connection closed by the server is sent once more,
    /// on a new one.
    ///
    /// - Throws: `WireError`, `HTTPError`; `ForkError.timedOut` when all are in use, `ForkError.refused` when there may be none.
    public func send(_ request: HTTPRequest, to server: ServerAddress) throws -> HTTPResponse {
        let deadline = Deadline(in: timeout)
        // It closes the connection if it ends by an error.
        let lease = try checkOut(for: server)
        let response: HTTPResponse
        do {
            response = try lease.resource.send(request, deadline)
        } catch let failure as PersistentConnection.Unanswered {
            guard failure.maySendAgain(request) else { throw failure.cause }
            // In the place of the one that has ended. The pool's idle ones may have ended, too.
            let fresh = try connect(server)
            defer { fresh.close() }
            response = try fresh.send(request, timeout: deadline.left)
        }
        lease.giveBack()
        return response
    }

    /// Closes the idle connections, and those in use when their request is done.
    public func closeIdle() {
        let pools = self.pools.withLock { pools in
            defer { pools = [:] }
            return pools
        }
        // Not left to their deinitialisers, which never come in a child if threads of the parent were using them.
        for pool in pools.values { pool.close() }
    }

    /// How many connections are idle, in this process.
    public var idleConnections: Int { pools.withLock { $0.values.reduce(0) { $0 + $1.counters.idle } } }

    private func checkOut(for server: ServerAddress) throws -> ForkPool<PersistentConnection>.Lease {
        while true {
            do {
                return try pool(for: server).checkOut(timeout: timeout)
            } catch ForkError.closed {
                // By `closeIdle`, in between. There is another pool now.
            }
        }
    }

    private func pool(for server: ServerAddress) throws -> ForkPool<PersistentConnection> {
        try pools.withLock { pools in
            let key = "\(server.host):\(server.port)"
            if let pool = pools[key] { return pool }
            let pool = try ForkPool(name: key, maximum: maximum, isHealthy: { $0.isIdle }, close: { $0.close() }) { [connect] in
                try connect(server)
            }
            pools[key] = pool
            return pool
        }
    }
}
