import Glibc

/// The unguarded twin of `RedisClient`: a connection as clients are written that know nothing of forks. It says goodbye when it goes away.
final class PlainRedis: @unchecked Sendable {
    // @unchecked: nothing changes after `init`; who talks at once gets each other's answers, and the tests that show that want it so.
    private let number: Int32

    struct Failure: Error, CustomStringConvertible { let description: String }

    init(port: UInt16) throws {
        number = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var patience = timeval(tv_sec: 1, tv_usec: 0)
        setsockopt(number, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        if Loopback.connect(number, to: port) != 0 {
            close(number)
            throw Failure(description: "connect: errno \(errno)")
        }
    }

    deinit { quit() }

    func quit() {
        send("QUIT\r\n")
        close(number)
    }

    /// The next line that comes, whoever it is for.
    func echo(_ word: String) throws -> String {
        send("*2\r\n$4\r\nECHO\r\n$\(word.utf8.count)\r\n\(word)\r\n")
        var received: [UInt8] = []
        var room = [UInt8](repeating: 0, count: 4096)
        while received.filter({ $0 == UInt8(ascii: "\n") }).count < 2 {
            let count = recv(number, &room, room.count, 0)
            if count <= 0 { throw Failure(description: count == 0 ? "the server closed the connection" : "recv: errno \(errno)") }
            received += room[..<count]
        }
        return String(decoding: received, as: UTF8.self).split(separator: "\r\n").dropFirst().first.map(String.init) ?? ""
    }

    private func send(_ text: String) {
        var text = text
        text.withUTF8 { _ = Glibc.send(number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    }
}
