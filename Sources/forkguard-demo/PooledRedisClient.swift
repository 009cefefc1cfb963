#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif
import ForkGuard

/// What a client's lock must do. The one thing that differs between the two columns of the table.
protocol PoolLock: Sendable {
    func withLock<Result, Failure: Error>(
        _ body: (inout sending PoolState) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result
}

extension ForkMutex: PoolLock where Value == PoolState {}

extension PthreadMutex: PoolLock where Value == PoolState {}

/// A connection on loan from the pool.
struct PooledConnection: Sendable {
    let descriptor: Int32
    /// Of the pool that it belongs to; after a fork the child's is another.
    let epoch: UInt64
}

/// What a client's lock protects.
struct PoolState: Sendable {
    /// Last in, first out.
    var idle: [PooledConnection] = []
    /// The descriptors of all connections, idle or on loan.
    var open: Set<Int32> = []
    /// How many connections there are or are being made.
    var size = 0
    var epoch: UInt64 = 0
    /// How often each command was asked.
    var commands: [[UInt8]: Int] = [:]
}

/// A Redis client for many threads, with a bounded pool of connections: the one source for both columns.
///
/// With a `ForkMutex` and registered with ForkGuard, children may use it too. With a plain mutex and no registration it is a client as they are
/// everywhere. It takes no lock while it waits for the server.
final class PooledRedisClient<Lock: PoolLock>: ForkSafe {
    private let server: ServerAddress
    private let lock: Lock
    private let limit: Int
    /// For connecting, for each read and write, and for a connection to become free.
    private let timeout: UInt64

    init(_ server: ServerAddress, lock: Lock, limit: Int, timeout: UInt64) {
        self.server = server
        self.lock = lock
        self.limit = limit
        self.timeout = timeout
    }

    /// One command, one answer.
    func request(_ command: [[UInt8]]) throws(RedisError) -> RESP.Reply {
        let connection = try checkOut(for: command[0])
        do {
            let reply = try exchange(RESP.command(command), over: connection.descriptor)
            giveBack(connection)
            return reply
        } catch {
            // An answer may still come, to a question that nobody waits with any more.
            drop(connection)
            throw error
        }
    }

    /// In a child: the connections are the parent's, and so are those that vanished threads have on loan. `close` gives up the child's copies of the
    /// descriptors, with no QUIT; the parent keeps its own. The child makes new ones when it asks.
    ///
    /// Threads fork between their requests, so the forking thread has no connection on loan.
    func discardAfterFork() {
        lock.withLock { state in
            for descriptor in state.open { close(descriptor) }
            state = PoolState(epoch: state.epoch + 1)
        }
    }

    /// Closes the idle connections. Nobody may have one on loan.
    func closeIdle() {
        lock.withLock { state in
            while let connection = state.idle.popLast() { Self.remove(connection, from: &state) }
        }
    }

    // ---- the pool ----

    private enum CheckOut: Sendable {
        case connection(PooledConnection)
        case makeOne(epoch: UInt64)
        case wait
    }

    private func checkOut(for command: [UInt8]) throws(RedisError) -> PooledConnection {
        var deadline: UInt64?
        while true {
            let limit = limit
            let next: CheckOut = lock.withLock { state in
                while let connection = state.idle.popLast() {
                    if Self.isQuiet(connection.descriptor) {
                        state.commands[command, default: 0] += 1
                        return .connection(connection)
                    }
                    Self.remove(connection, from: &state)
                }
                guard state.size < limit else { return .wait }
                state.size += 1
                state.commands[command, default: 0] += 1
                return .makeOne(epoch: state.epoch)
            }
            switch next {
            case .connection(let connection): return connection
            case .makeOne(let epoch): return try makeConnection(epoch: epoch)
            case .wait:
                let now = MonotonicClock.now
                if now >= deadline ?? .max { throw .poolExhausted }
                if deadline == nil { deadline = now + timeout }
                MonotonicClock.sleep(MonotonicClock.millisecond / 10)
            }
        }
    }

    private func makeConnection(epoch: UInt64) throws(RedisError) -> PooledConnection {
        do {
            let connection = PooledConnection(descriptor: try server.connect(timeout: timeout), epoch: epoch)
            lock.withLock { _ = $0.open.insert(connection.descriptor) }
            return connection
        } catch {
            lock.withLock { $0.size -= 1 }
            throw error
        }
    }

    private func giveBack(_ connection: PooledConnection) {
        lock.withLock { state in
            // One from before a fork was closed by `discardAfterFork`.
            if connection.epoch == state.epoch { state.idle.append(connection) }
        }
    }

    private func drop(_ connection: PooledConnection) {
        lock.withLock { state in
            if connection.epoch == state.epoch { Self.remove(connection, from: &state) }
        }
    }

    private static func remove(_ connection: PooledConnection, from state: inout PoolState) {
        close(connection.descriptor)
        state.open.remove(connection.descriptor)
        state.size -= 1
    }

    /// Whether an idle connection is open and has nothing to read, as careful clients ask before they use one.
    private static func isQuiet(_ descriptor: Int32) -> Bool {
        var byte: UInt8 = 0
        return recv(descriptor, &byte, 1, .init(MSG_PEEK) | .init(MSG_DONTWAIT)) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)
    }

    // ---- the connection ----

    private func exchange(_ command: [UInt8], over descriptor: Int32) throws(RedisError) -> RESP.Reply {
        var sent = 0
        while sent < command.count {
            let count = command[sent...].withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
            if count < 0 { try checkError(of: "write") } else { sent += count }
        }
        var received: [UInt8] = []
        while true {
            let count = withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 1) { buffer in
                let count = read(descriptor, buffer.baseAddress, buffer.count)
                if count > 0 { received.append(contentsOf: buffer[..<count]) }
                return count
            }
            if count == 0 { throw .closed }
            if count < 0 {
                try checkError(of: "read")
                continue
            }
            guard var (reply, end) = try parse(received, from: 0) else { continue }
            if end == received.count { return reply }
            // Who got somebody else's answer too cannot give it back. If it comes later, the pool's next look at the connection finds it.
            var replies = [reply]
            while let next = try parse(received, from: end) {
                (reply, end) = next
                replies.append(reply)
            }
            throw .surplus(replies)
        }
    }

    private func parse(_ received: [UInt8], from start: Int) throws(RedisError) -> (reply: RESP.Reply, end: Int)? {
        do {
            return try RESP.reply(in: received, from: start)
        } catch {
            throw .malformed(error.what)
        }
    }

    /// For a call that returned -1.
    private func checkError(of call: String) throws(RedisError) {
        switch errno {
        case EINTR: return
        case EAGAIN, EWOULDBLOCK: throw .timedOut
        case let error: throw .system(call, errno: error)
        }
    }
}
