import ForkGuard
import Glibc
import XCTest

/// Plays a server that answers what no real server can be made to: half of it, something else, too much. One connection after the other; each is closed when its script ends.
final class ScriptedListener: Sendable {
    /// The other end of a connection.
    struct Peer {
        fileprivate let number: Int32

        /// Waits for at least a byte; false when the other side has closed.
        @discardableResult
        func receive() -> Bool {
            var room = [UInt8](repeating: 0, count: 65536)
            return recv(number, &room, room.count, 0) > 0
        }

        func send(_ text: String) { send(Array(text.utf8)) }
        func send(_ bytes: [UInt8]) { _ = Glibc.send(number, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }

        /// Says nothing more, until the other side gives up.
        func stayUntilClosed() { while receive() {} }
    }

    let port: UInt16
    private let number: Int32
    private let thread: TestThread

    /// - Parameter port: 0 is any free one.
    init(port: UInt16 = 0, _ script: @escaping @Sendable (Peer) -> Void) throws {
        let number = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var yes: Int32 = 1
        setsockopt(number, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        let bound = try? Loopback.bind(number, to: port)
        self.port = try XCTUnwrap(bound, "port \(port) was taken meanwhile")
        listen(number, 64)
        self.number = number
        thread = TestThread {
            while true {
                let connection = accept(number, nil, nil)
                if connection < 0 { return }
                var patience = timeval(tv_sec: 10, tv_usec: 0)
                setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
                script(Peer(number: connection))
                close(connection)
            }
        }
    }

    /// After the scripts that have begun.
    func stop() {
        shutdown(number, Int32(SHUT_RDWR))
        thread.join()
        close(number)
    }
}

/// Runs `body` in this process, which cannot open a descriptor meanwhile. For children.
func withoutFreeDescriptors<Result>(_ body: () throws -> Result) rethrows -> Result {
    var limit = rlimit()
    getrlimit(numberOfFiles, &limit)
    var none = limit
    none.rlim_cur = 1  // poll(2) wants room for what it is given
    setrlimit(numberOfFiles, &none)
    defer { setrlimit(numberOfFiles, &limit) }
    return try body()
}

/// For a child that was forked inside of that.
func allowDescriptors() {
    var limit = rlimit()
    getrlimit(numberOfFiles, &limit)
    limit.rlim_cur = min(limit.rlim_max, 1024)
    setrlimit(numberOfFiles, &limit)
}

private let numberOfFiles = __rlimit_resource_t(7)  // RLIMIT_NOFILE, a macro
