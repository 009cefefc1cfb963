public import ForkGuard
import Glibc
public import Wire

/// A client of one memcached server, for any number of threads and on any side of a fork. It registers itself with ForkGuard.
///
/// It connects when it needs to, in a child anew: of what the child inherited nothing is used, and nothing is said goodbye to.
///
/// Errors are `MemcachedError`, after which the connection goes on, `WireError` and `ForkError`. A request that failed after it was sent
/// may have been carried out: none is repeated.
public final class MemcachedClient: ForkSafe {
    /// How threads share connections.
    public enum Sharing: Sendable {
        /// Each request has a connection of its own, of at most so many.
        case pool(maximum: Int)
        /// One connection, one request at a time. It is locked meanwhile: a fork waits for the request that is under way.
        case locked
    }

    private enum Connections {
        case pool(ForkPool<Connection>)
        case locked(ForkMutex<Single>)
    }

    private struct Single {
        var connection: Connection?
        var made = 0
        var isClosed = false
    }

    private let connections: Connections
    private let server: ServerAddress
    private let timeout: Duration
    private let maximumValueSize: Int

    /// A client that is not connected yet.
    ///
    /// - Parameters:
    ///   - timeout: for each request: waiting for a connection, sending, receiving. The pool connects with one more of these.
    ///   - maximumValueSize: a larger value that the server announces is `WireError.tooLarge`; in bytes.
    /// - Throws: `ForkError.refused` for a pool of less than one.
    public init(
        to server: ServerAddress, _ sharing: Sharing = .pool(maximum: 8), timeout: Duration = .seconds(5), maximumValueSize: Int = 1 << 20
    ) throws {
        self.server = server
        self.timeout = timeout
        self.maximumValueSize = maximumValueSize
        switch sharing {
        case .pool(let maximum):
            connections = .pool(
                try ForkPool(
                    name: "memcached", maximum: maximum, isHealthy: { $0.isQuiet }, isReusableAfter: { $0 is MemcachedError },
                    close: Self.end, make: { try Connection(to: server, timeout: timeout) }))
        case .locked:
            connections = .locked(ForkMutex(Single(), name: "memcached", ifTorn: .rebuild { Single() }))
        }
        ForkGuard.register(self)
    }

    deinit { close() }

    /// Closes the connections, those in use when their request is done. Later requests throw `ForkError.closed`.
    public func close() {
        switch connections {
        case .pool(let pool): pool.close()
        case .locked(let single):
            single.withLock { single in
                if let connection = single.connection { Self.end(connection) }
                single.connection = nil
                single.isClosed = true
            }
        }
    }

    /// Drops the inherited connection now, and nothing is sent on it. A pool does that by itself.
    public func discardAfterFork() {
        if case .locked(let single) = connections { _ = single.withLockIfAvailable { $0 = Single(isClosed: $0.isClosed) } }
    }

    /// How many connections this process has made with this client.
    public var connectionsMade: Int {
        switch connections {
        case .pool(let pool): pool.counters.made
        case .locked(let single): single.withLock { $0.made }
        }
    }

    // ---- commands ----

    /// The value of a key, if there is one.
    public func get(_ key: String) throws -> [UInt8]? { try get([key])[key] }

    /// The values of those keys that have one.
    public func get(_ keys: [String]) throws -> [String: [UInt8]] {
        var found: [String: [UInt8]] = [:]
        try retrieve("get", keys) { key, value, _ in found[key] = value }
        return found
    }

    /// The value and its version, for `replace`.
    public func gets(_ key: String) throws -> (value: [UInt8], version: UInt64)? {
        var found: (value: [UInt8], version: UInt64)?
        try retrieve("gets", [key]) { _, value, version in
            guard let version else { throw WireError.malformed("gets without a version") }
            found = (value, version)
        }
        return found
    }

    /// Sets a key to a value, for so many seconds; 0 is for ever.
    public func set(_ key: String, to value: [UInt8], seconds: Int = 0) throws {
        _ = try store("set", key, value, seconds, "STORED")
    }

    /// Sets a key to a value unless it has one. Whether it did.
    public func add(_ key: String, _ value: [UInt8], seconds: Int = 0) throws -> Bool {
        try store("add", key, value, seconds, "STORED", "NOT_STORED")
    }

    /// Sets a key to a value if it still has this version. Whether it did.
    public func replace(_ key: String, ofVersion version: UInt64, with value: [UInt8], seconds: Int = 0) throws -> Bool {
        try store("cas", key, value, seconds, version: " \(version)", "STORED", "EXISTS", "NOT_FOUND")
    }

    /// Removes a key. Whether it was there.
    public func delete(_ key: String) throws -> Bool {
        try ask("delete \(try checked(key))\r\n") { try $0.word(among: ["DELETED", "NOT_FOUND"]) } == "DELETED"
    }

    /// Adds to the number that a key has, as decimal digits. The sum; `nil` when there is no such key.
    public func increment(_ key: String, by amount: UInt64 = 1) throws -> UInt64? {
        try ask("incr \(try checked(key)) \(amount)\r\n") { reply in
            let words = try reply.words()
            if words == ["NOT_FOUND"] { return nil }
            guard words.count == 1, let sum = UInt64(words[0]) else { throw reply.malformed(words) }
            return sum
        }
    }

    // ---- how ----

    private func retrieve(_ command: String, _ keys: [String], _ body: (String, [UInt8], UInt64?) throws -> Void) throws {
        if keys.isEmpty { return }
        var missing = try Set(keys.map(checked))
        try ask("\(command) \(missing.joined(separator: " "))\r\n") { reply in
            try reply.values { key, value, version in
                guard missing.remove(key) != nil else { throw WireError.malformed("a value of '\(key)', which was not asked for") }
                try body(key, value, version)
            }
        }
    }

    private func store(
        _ command: String, _ key: String, _ value: [UInt8], _ seconds: Int, version: String = "", _ answers: String...
    ) throws -> Bool {
        // More than thirty days is an instant to memcached.
        let expiry = seconds > 2_592_000 ? time(nil) + seconds : seconds
        let line = "\(command) \(try checked(key)) 0 \(expiry) \(value.count)\(version)\r\n"
        return try ask(line, value + Array("\r\n".utf8)) { try $0.word(among: answers) } == "STORED"
    }

    private func checked(_ key: String) throws -> String {
        if (1...250).contains(key.utf8.count), key.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) { return key }
        throw MemcachedError.key(key)
    }

    private func ask<Reply: Sendable>(_ line: String, _ data: [UInt8] = [], _ read: (inout ReplyReader) throws -> Reply) throws -> Reply {
        let deadline = Deadline(in: timeout)
        return try withConnection(deadline) { connection in
            try connection.send(Array(line.utf8) + data, deadline)
            var reader = ReplyReader(connection, valueLimit: maximumValueSize, deadline)
            let reply = try read(&reader)
            try reader.end()
            return reply
        }
    }

    private func withConnection<Reply: Sendable>(_ deadline: Deadline, _ body: (Connection) throws -> Reply) throws -> Reply {
        switch connections {
        case .pool(let pool): return try pool.withResource(timeout: deadline.left, body)
        case .locked(let single):
            return try single.withLock { single in
                if single.isClosed { throw ForkError.closed("the memcached client") }
                // Whoever was first had an earlier deadline: by ours the lock is free, more or less.
                if deadline.hasPassed { throw WireError.timedOut("waiting for the connection") }
                // Not quiet is one that the server closed, and the parent's.
                if single.connection?.isQuiet != true {
                    single.connection = nil
                    single.connection = try Connection(to: server, timeout: deadline.left)
                    single.made += 1
                }
                do {
                    return try body(single.connection!)
                } catch let error where !(error is MemcachedError) {
                    single.connection = nil
                    throw error
                }
            }
        }
    }

    /// The goodbye that memcached knows. On an inherited connection nothing is sent: its descriptor is stale.
    private static func end(_ connection: Connection) {
        try? connection.send(Array("quit\r\n".utf8), Deadline(in: .zero))
        connection.close()
    }
}
