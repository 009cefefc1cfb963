import Glibc

/// The unguarded twin of `MemcachedClient`: a connection as clients are written that know nothing of forks. It says goodbye when it goes
/// away.
final class PlainMemcached: @unchecked Sendable {
    // @unchecked: nothing changes after `init`. Who talks on it at once gets the other's answers; that is what the controls show.
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
        send("quit\r\n")
        close(number)
    }

    func set(_ key: String, to value: String) throws {
        send("set \(key) 0 0 \(value.utf8.count)\r\n\(value)\r\n")
        let reply = try receive(until: "\r\n")
        if reply != "STORED\r\n" { throw Failure(description: "set: \(reply)") }
    }

    func get(_ key: String) throws -> String {
        send("get \(key)\r\n")
        let reply = try receive(until: "END\r\n").split(separator: "\r\n")
        guard reply.count == 3, reply[0].hasPrefix("VALUE \(key) ") else { throw Failure(description: "get: \(reply)") }
        return String(reply[1])
    }

    private func send(_ text: String) {
        var text = text
        text.withUTF8 { _ = Glibc.send(number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    }

    private func receive(until end: String) throws -> String {
        var received: [UInt8] = []
        var room = [UInt8](repeating: 0, count: 4096)
        while !String(decoding: received, as: UTF8.self).hasSuffix(end) {
            let count = recv(number, &room, room.count, 0)
            if count <= 0 { throw Failure(description: count == 0 ? "the server closed the connection" : "recv: errno \(errno)") }
            received += room[..<count]
        }
        return String(decoding: received, as: UTF8.self)
    }
}
