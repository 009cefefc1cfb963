public import ForkGuard
public import Wire

/// A PostgreSQL client by libpq, with a pool of connections.
///
///     let postgres = try PostgresClient(ServerAddress(host: "127.0.0.1", port: 5432), user: "me", database: "mine")
///     let name = try postgres.query("SELECT name FROM people WHERE id = $1", ["7"]).value
///
/// Any thread, any side of a fork: a child's first query connects anew. Its parent's connections are abandoned there, with their memory: PQfinish would send the
/// server a Terminate in the parent's name.
public final class PostgresClient: ForkSafe {
    private let pool: ForkPool<PostgresConnection>
    private let timeout: Duration

    /// A client without a connection: the first query makes one, without TLS.
    ///
    /// - Parameters:
    ///   - connections: how many at most. More threads than that wait for each other.
    ///   - timeout: for each statement, and for connecting.
    ///   - largestResult: in bytes of values; looked at after each row.
    /// - Throws: `ForkError.refused` when `connections` is below 1.
    public init(
        _ server: ServerAddress, user: String, database: String, password: String = "", connections: Int = 8,
        timeout: Duration = .seconds(5), largestResult: Int = 64 << 20
    ) throws(ForkError) {
        self.timeout = timeout
        pool = try ForkPool(
            name: "postgres \(server.host):\(server.port)", maximum: connections, isHealthy: { $0.isIdle },
            isReusableAfter: { error in
                if case PostgresError.server = error { true } else { false }
            },
            close: { $0.close() },
            make: {
                try PostgresConnection(
                    to: server, user: user, database: database, password: password, timeout: timeout, largestResult: largestResult)
            })
        ForkGuard.register(self)
    }

    /// Nothing: the pool asks for the generation at each check-out, and what it abandons are tombstones.
    public func discardAfterFork() {}

    /// Runs one statement. `$1` and so on stand for the parameters.
    ///
    /// - Throws: `PostgresError`; `WireError.timedOut`, after which the server may still be at it; `WireError.tooLarge`; `ForkError`.
    @discardableResult
    public func query(_ statement: String, _ parameters: [String?] = []) throws -> PostgresRows {
        let deadline = Deadline(in: timeout)
        return try pool.withResource(timeout: deadline.left) { try $0.query(statement, parameters, deadline) }
    }

    /// Runs `body` in a transaction, which is rolled back when it throws. Do not let the connection out of it. A child that is forked in there has no part in it: its
    /// statements throw `ForkError.staleGeneration`.
    public func transaction<Result>(_ body: (PostgresConnection) throws -> Result) throws -> Result {
        try pool.withResource(timeout: timeout) { connection in
            try connection.query("BEGIN")
            let result: Result
            do {
                result = try body(connection)
            } catch {
                // One that is not rolled back is closed: see the health check.
                _ = try? connection.query("ROLLBACK")
                throw error
            }
            try connection.query("COMMIT")
            return result
        }
    }

    /// Closes the connections. Later calls throw `ForkError.closed`.
    public func close() { pool.close() }

    /// What the pool has done in this process.
    public var counters: ForkPool<PostgresConnection>.Counters { pool.counters }
}
