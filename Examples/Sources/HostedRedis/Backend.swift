internal import ForkGuard
internal import Glibc
internal import RedisClient
internal import Wire

/// A pool of connections, a table of what was seen last, and threads that keep both busy.
final class Backend: Sendable {
    private struct Counts {
        var right: Int64 = 0
        var wrong: Int64 = 0
    }

    private let redis: RedisClient
    // A fork waits until nobody is inside.
    private let seen: ForkMutex<[String: String]>
    // A child counts for itself.
    private let counted: ForkLocal<ForkMutex<Counts>>
    // And it has threads of its own, from its first call on.
    private let refreshers: ForkLocal<Refreshers>

    init(host: String, port: UInt16, refreshers count: Int, pause: UInt32) throws {
        let redis = try RedisClient(ServerAddress(host: host, port: port))
        let seen = ForkMutex([:] as [String: String], name: "seen", ifTorn: .rebuild { [:] })
        let counted = ForkLocal(name: "counts") { ForkMutex(Counts(), name: "counts", ifTorn: .rebuild { Counts() }) }
        (self.redis, self.seen, self.counted) = (redis, seen, counted)
        refreshers = ForkLocal(name: "refreshers") {
            Refreshers(count, pause: pause) { round in
                let isRight = Self.refresh(round, redis, seen)
                try? counted.get().withLock { if isRight { $0.right += 1 } else { $0.wrong += 1 } }
            }
        }
        _ = try refreshers.get()
    }

    private static func refresh(_ round: Int, _ redis: RedisClient, _ seen: borrowing ForkMutex<[String: String]>) -> Bool {
        let mine = "\(getpid()) \(round)", key = "hosted:\(round % 64)"
        guard let replies = try? redis.pipeline([["ECHO", mine], ["GET", key]]), replies[0].text == mine else { return false }
        // Not while asking: the fork would wait for the server, too.
        seen.withLock { $0[key] = replies[1].text }
        return true
    }

    func get(_ key: String) throws -> String? { try running().send("GET", key).text }

    func set(_ key: String, _ value: String) throws { try running().send("SET", key, value) }

    func increment(_ key: String) throws -> Int64 {
        guard case .integer(let value) = try running().send("INCR", key) else { throw WireError.malformed("no number") }
        return value
    }

    func recent(_ key: String) throws -> String? {
        _ = try running()
        return seen.withLock { $0[key] }
    }

    var counts: (right: Int64, wrong: Int64) {
        get throws { try counted.get().withLock { ($0.right, $0.wrong) } }
    }

    /// In a child that has not called anything yet there is no thread to wait for.
    func close() {
        refreshers.ifBuilt?.stop()
        redis.close()
    }

    static func code(of error: any Error) -> Code {
        switch error {
        case RedisError.server: .refusedByServer
        case is ForkError: .refusedAfterFork
        default: .noAnswer
        }
    }

    private func running() throws -> RedisClient {
        _ = try refreshers.get()
        return redis
    }
}
