public import ForkGuard
public import Wire

/// A Redis client with a pool of connections.
///
///     let redis = try RedisClient(ServerAddress(host: "127.0.0.1", port: 6379))
///     try redis.send("SET", "name", "value")
///     let replies = try redis.pipeline([["INCR", "a"], ["INCR", "b"]])
///
/// Any thread, any side of a fork: a child's first command connects anew. Commands that change the connection (SUBSCRIBE, SELECT, MULTI without its EXEC in the same
/// pipeline) are not for a pool.
public final class RedisClient: ForkSafe {
    private let pool: ForkPool<Connection>
    private let timeout: Duration
    private let largestReply: Int

    /// A client without a connection: the first command makes one.
    ///
    /// - Parameters:
    ///   - connections: how many at most. More threads than that wait for each other.
    ///   - timeout: for each call as a whole, and for connecting.
    ///   - largestReply: in bytes.
    /// - Throws: `ForkError.refused` when `connections` is below 1.
    public init(
        _ server: ServerAddress, connections: Int = 8, timeout: Duration = .seconds(5), largestReply: Int = 16 << 20
    ) throws(ForkError) {
        self.timeout = timeout
        self.largestReply = largestReply
        pool = try ForkPool(
            name: "redis \(server.host):\(server.port)", maximum: connections, isHealthy: { $0.isQuiet }, close: { $0.close() },
            make: { try Connection(to: server, timeout: timeout) })
        ForkGuard.register(self)
    }

    /// Nothing: the pool asks for the generation at each check-out, and what it abandons are tombstones. No goodbye is owed to anyone.
    public func discardAfterFork() {}

    /// Sends one command.
    ///
    /// - Throws: `RedisError.server`, `WireError`, `ForkError`.
    @discardableResult
    public func send(_ command: String...) throws -> RedisReply {
        do {
            let reply = try pipeline([command])[0]
            if case .error(let message) = reply { throw RedisError.server(message) }
            return reply
        } catch RedisError.brokenOff(_, let cause) {
            throw cause
        }
    }

    /// Sends the commands at once. There is a reply for each, in order; what the server refuses is a reply too.
    ///
    /// - Throws: `RedisError.brokenOff` when not all were answered; `WireError` and `ForkError` before anything was sent.
    public func pipeline(_ commands: [[String]]) throws -> [RedisReply] {
        let deadline = Deadline(in: timeout)
        return try pool.withResource(timeout: deadline.left) { try exchange(commands, on: $0, deadline) }
    }

    /// The same for tasks: waiting for a connection, where all are in use, suspends; asking the server blocks the thread.
    ///
    /// - Throws: `CancellationError` too, when the task is cancelled while it waits for a connection.
    public func pipeline(_ commands: [[String]]) async throws -> [RedisReply] {
        let deadline = Deadline(in: timeout)
        return try await pool.withResource(timeout: deadline.left) { try exchange(commands, on: $0, deadline) }
    }

    /// Closes the connections. Later calls throw `ForkError.closed`.
    public func close() { pool.close() }

    /// What the pool has done in this process.
    public var counters: ForkPool<Connection>.Counters { pool.counters }

    private func exchange(_ commands: [[String]], on connection: Connection, _ deadline: Deadline) throws -> [RedisReply] {
        var replies: [RedisReply] = []
        // A server that does not take all of it may have answered the beginning.
        let unsent = failure { try connection.send(encode(commands), deadline) }
        let unanswered = failure {
            var reader = ReplyReader(connection, limit: largestReply, deadline)
            while replies.count < commands.count { replies.append(try reader.next()) }
            try reader.finish()
        }
        if let cause = unsent ?? unanswered { throw RedisError.brokenOff(answered: replies, because: cause) }
        return replies
    }

    private func failure(of body: () throws -> Void) -> (any Error)? {
        do {
            try body()
            return nil
        } catch {
            return error
        }
    }
}

/// Each command is an array of bulk strings.
private func encode(_ commands: [[String]]) -> [UInt8] {
    var bytes: [UInt8] = []
    for command in commands {
        bytes.append(contentsOf: "*\(command.count)\r\n".utf8)
        for word in command { bytes.append(contentsOf: "$\(word.utf8.count)\r\n\(word)\r\n".utf8) }
    }
    return bytes
}
