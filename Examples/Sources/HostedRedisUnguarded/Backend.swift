internal import Glibc

/// The unguarded twin: a lock, an array of connections, and threads, as libraries are written that know nothing of forks.
final class Backend: @unchecked Sendable {
    // @unchecked: the fields that change are used with the mutex, and `refreshers` is set before anybody else has this.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let host: String
    private let port: UInt16
    private var idle: [PlainConnection] = []
    private var seen: [String: String] = [:]
    private var right: Int64 = 0
    private var wrong: Int64 = 0
    private var refreshers: Refreshers?

    init(host: String, port: UInt16, refreshers count: Int, pause: UInt32) throws {
        mutex = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
        self.host = host
        self.port = port
        refreshers = Refreshers(count, pause: pause) { [unowned self] in refresh($0) }
    }

    private func locked<Result>(_ body: () throws -> Result) rethrows -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body()
    }

    private func send(_ command: String...) throws -> String? {
        let connection = try locked { idle.popLast() } ?? PlainConnection(host: host, port: port)
        let reply = try connection.send(command)
        locked { idle.append(connection) }
        return reply
    }

    private func refresh(_ round: Int) {
        let mine = "\(getpid()) \(round)", key = "hosted:\(round % 64)"
        let isRight = (try? send("ECHO", mine)) == mine
        let value = try? send("GET", key)
        locked {
            seen[key] = value
            if isRight { right += 1 } else { wrong += 1 }
        }
    }

    func get(_ key: String) throws -> String? { try send("GET", key) }

    func set(_ key: String, _ value: String) throws { _ = try send("SET", key, value) }

    func increment(_ key: String) throws -> Int64 {
        guard let text = try send("INCR", key), let value = Int64(text) else { throw PlainConnection.Failure(description: "no number") }
        return value
    }

    func recent(_ key: String) throws -> String? { locked { seen[key] } }

    var counts: (right: Int64, wrong: Int64) {
        get throws { locked { (right, wrong) } }
    }

    func close() {
        refreshers?.stop()
        locked { idle = [] }
    }

    static func code(of error: any Error) -> Code { .noAnswer }
}
