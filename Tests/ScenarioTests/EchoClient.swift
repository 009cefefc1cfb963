import EventLoop
import ForkGuard
import Glibc
import Wire

/// A Redis connection whose answers come by an event loop: ECHO, one request at a time.
final class EchoClient: Sendable {
    private let connection: Connection
    private let loop: EventLoop
    private let answers: Answers
    let registration: EventLoop.Registration

    init(_ loop: EventLoop, to server: ServerAddress) throws {
        self.loop = loop
        connection = try Connection(to: server, timeout: .seconds(10))
        // It is the one that closes: hundreds of these are not to leave a port each behind.
        var linger = linger(l_onoff: 1, l_linger: 0)
        try connection.token.withNumber { _ = setsockopt($0, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size)) }
        let answers = Answers()
        self.answers = answers
        registration = try loop.add(connection.token, .readable) { [connection] _ in
            do {
                var bytes: [UInt8] = []
                try connection.receive(into: &bytes, Deadline(in: .zero))
                answers.add(bytes)
            } catch {
                answers.fail(error)
            }
        }
    }

    var token: ForkDescriptor { connection.token }

    /// Whether the answer came, through the loop, and is the right one.
    func echo(_ text: String, timeout: Duration = .seconds(10)) throws -> Bool {
        try connection.send(Array("ECHO \(text)\r\n".utf8), Deadline(in: timeout))
        let wanted = Array("$\(text.utf8.count)\r\n\(text)\r\n".utf8)
        return try answers.take(wanted.count, timeout: timeout) == wanted
    }

    func close() {
        loop.remove(registration)
        connection.close()
    }
}

/// Bytes that one thread hands to another.
final class Answers: Sendable {
    private struct State {
        var bytes: [UInt8] = []
        var failure: (any Error)?
    }

    private let state = ForkMutex(State(), name: "answers", ifTorn: .rebuild { State() })
    private let hasChanged = ForkCondition(name: "an answer by the event loop")

    func add(_ bytes: [UInt8]) {
        state.withLock { $0.bytes += bytes }
        hasChanged.signal()
    }

    func fail(_ error: any Error) {
        state.withLock { $0.failure = error }
        hasChanged.signal()
    }

    func take(_ count: Int, timeout: Duration) throws -> [UInt8] {
        try hasChanged.wait(state, timeout: timeout, until: { $0.bytes.count >= count || $0.failure != nil }) { state in
            if let failure = state.failure, state.bytes.count < count { throw failure }
            defer { state.bytes.removeFirst(count) }
            return Array(state.bytes.prefix(count))
        }
    }
}

/// A connect under way.
func beginConnect(to server: ServerAddress) throws -> ForkDescriptor {
    let token = try ForkDescriptor(name: "connect under way") {
        let number = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        if number < 0 { throw WireError.system("socket", errno: errno) }
        return number
    }
    try token.withNumber { number in
        var linger = linger(l_onoff: 1, l_linger: 0)
        setsockopt(number, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
        _ = Loopback.connect(number, to: server.port)
    }
    return token
}
