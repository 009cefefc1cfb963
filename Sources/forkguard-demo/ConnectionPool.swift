import ForkGuard

/// What the client needs of a pool. The pool is what differs between the two columns of the table.
protocol ConnectionPool: Sendable {
    /// Runs `body` with a connection that nobody else uses meanwhile; closes it when `body` throws.
    func withConnection(_ body: (Connection) throws -> RESP.Reply) throws -> RESP.Reply
}

extension ForkPool: ConnectionPool where Resource == Connection {
    func withConnection(_ body: (Connection) throws -> RESP.Reply) throws -> RESP.Reply { try withResource(timeout: .seconds(2), body) }
}

/// A pool as they are everywhere, which knows nothing of fork: bounded, last in first out, under a pthread mutex.
final class PlainPool: ConnectionPool {
    private let maximum: Int
    private let timeout: UInt64
    private let make: @Sendable () throws -> Connection
    private let state = PthreadMutex((idle: [Connection](), count: 0))

    init(maximum: Int, timeout: UInt64, make: @escaping @Sendable () throws -> Connection) {
        self.maximum = maximum
        self.timeout = timeout
        self.make = make
    }

    func withConnection(_ body: (Connection) throws -> RESP.Reply) throws -> RESP.Reply {
        let connection = try take()
        do {
            let reply = try body(connection)
            state.withLock { $0.idle.append(connection) }
            return reply
        } catch {
            state.withLock { $0.count -= 1 }
            throw error
        }
    }

    private func take() throws -> Connection {
        let deadline = MonotonicClock.now + timeout
        while true {
            let maximum = maximum
            let (idle, makesOne) = state.withLock { state -> (Connection?, Bool) in
                while let connection = state.idle.popLast() {
                    if connection.isQuiet { return (connection, false) }
                    state.count -= 1
                }
                guard state.count < maximum else { return (nil, false) }
                state.count += 1
                return (nil, true)
            }
            if let idle { return idle }
            if makesOne { return try makeOne() }
            if MonotonicClock.now >= deadline { throw RedisError.poolExhausted }
            MonotonicClock.sleep(MonotonicClock.millisecond / 10)
        }
    }

    private func makeOne() throws -> Connection {
        do {
            return try make()
        } catch {
            state.withLock { $0.count -= 1 }
            throw error
        }
    }
}
