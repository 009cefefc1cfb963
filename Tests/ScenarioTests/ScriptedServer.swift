import ForkGuard
import Glibc
import Wire
import XCTest

/// A server that does what a test says, which a real one cannot be made to do. It listens on loopback, in the test's process.
final class ScriptedServer: Sendable {
    /// A connection, seen from the server.
    struct Peer: Sendable {
        let number: Int32
        /// Which of the server's connections it is, from 0.
        let turn: Int

        /// All of the next request; nil when there is none.
        func request() -> String? {
            var text = ""
            var bytes = [UInt8](repeating: 0, count: 4096)
            while true {
                let count = recv(number, &bytes, bytes.count, 0)
                guard count > 0 else { return nil }
                text += String(decoding: bytes[..<count], as: UTF8.self)
                let lines = text.split(separator: "\r\n", omittingEmptySubsequences: false)
                guard let end = lines.firstIndex(of: "") else { continue }
                let length = lines.first { $0.hasPrefix("Content-Length: ") }.flatMap { Int($0.dropFirst(16)) } ?? 0
                if lines[(end + 1)...].joined(separator: "\r\n").utf8.count >= length { return text }
            }
        }

        func write(_ text: String) {
            let bytes = Array(text.utf8)
            var sent = 0
            while sent < bytes.count {
                let count = bytes.withUnsafeBytes { send(number, $0.baseAddress! + sent, $0.count - sent, Int32(MSG_NOSIGNAL)) }
                guard count > 0 else { return }
                sent += count
            }
        }

        /// Waits until the client has closed the connection.
        func waitForEnd() { while request() != nil {} }

        /// The end of the connection will be a reset.
        func reset() {
            var linger = linger(l_onoff: 1, l_linger: 0)
            setsockopt(number, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
        }
    }

    private struct State {
        var open: [Int: Int32] = [:]
        var threads: [Int: TestThread] = [:]
        var ended: [Int] = []
        var accepted = 0
        var isStopped = false
    }

    let address: ServerAddress
    private let listener: Int32
    private let state = ForkMutex(State(), name: "ScriptedServer", ifTorn: .rebuild { State() })

    /// A server that refuses connections until `start`.
    init() throws {
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        address = try ServerAddress(host: "127.0.0.1", port: Loopback.bind(listener))
    }

    /// Listens. Each connection gets a thread that runs the script, and ends with it.
    convenience init(_ script: @escaping @Sendable (Peer) -> Void) throws {
        try self.init()
        start(script)
    }

    func start(_ script: @escaping @Sendable (Peer) -> Void) {
        listen(listener, 128)
        let accepting = TestThread { [self] in
            while true {
                let number = accept(listener, nil, nil)
                guard number >= 0 else { return }
                let ended = state.withLock { state in
                    let turn = state.accepted
                    state.accepted += 1
                    state.open[turn] = number
                    if state.isStopped { shutdown(number, Int32(SHUT_RDWR)) }
                    state.threads[turn] = TestThread { [self] in serve(Peer(number: number, turn: turn), script) }
                    defer { state.ended = [] }
                    return state.ended.compactMap { state.threads.removeValue(forKey: $0) }
                }
                ended.forEach { $0.join() }
            }
        }
        state.withLock { $0.threads[-1] = accepting }
    }

    /// How many connections there have been.
    var accepted: Int { state.withLock { $0.accepted } }

    /// Ends all connections.
    func closeAll() { state.withLock { $0.open.values.forEach { _ = shutdown($0, Int32(SHUT_RDWR)) } } }

    /// Ends everything, and waits for it.
    func stop() {
        state.withLock { $0.isStopped = true }
        shutdown(listener, Int32(SHUT_RDWR))
        closeAll()
        while true {
            let threads = state.withLock { state in
                defer { state.threads = [:] }
                return state.threads.values
            }
            if threads.isEmpty { break }
            threads.forEach { $0.join() }
        }
        close(listener)
    }

    private func serve(_ peer: Peer, _ script: @Sendable (Peer) -> Void) {
        script(peer)
        // Not close(2) alone: a child may have a copy.
        state.withLock { state in
            state.open[peer.turn] = nil
            var linger = linger()
            var length = socklen_t(MemoryLayout<Glibc.linger>.size)
            getsockopt(peer.number, SOL_SOCKET, SO_LINGER, &linger, &length)
            if linger.l_onoff == 0 { shutdown(peer.number, Int32(SHUT_RDWR)) }
            close(peer.number)
            state.ended.append(peer.turn)
        }
    }
}
