internal import Glibc

/// A connection to a Redis server, by its number.
final class PlainConnection {
    struct Failure: Error, CustomStringConvertible { let description: String }

    private let number: Int32
    private var received: [UInt8] = []

    init(host: String, port: UInt16) throws {
        number = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        guard inet_pton(AF_INET, host, &address.sin_addr) == 1 else { throw Failure(description: "'\(host)' is no address") }
        let size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeBytes(of: address) {
            connect(number, $0.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: sockaddr.self), size)
        }
        guard result == 0 else { throw Failure(description: "connect: \(String(cString: strerror(errno)))") }
    }

    deinit { Glibc.close(number) }

    /// The reply as text, `nil` where there is no value: whatever comes next is taken for it.
    func send(_ command: [String]) throws -> String? {
        let words = command.map { "$\($0.utf8.count)\r\n\($0)\r\n" }.joined()
        let bytes = Array("*\(command.count)\r\n\(words)".utf8)
        guard Glibc.send(number, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else { throw Failure(description: "send") }
        let line = try line()
        let rest = line.dropFirst()
        switch line.first {
        case "+", ":": return String(rest)
        case "$": return rest == "-1" ? nil : try self.line()
        default: throw Failure(description: "a reply that begins with '\(line)'")
        }
    }

    private func line() throws -> String {
        while true {
            if let end = received.firstIndex(of: UInt8(ascii: "\n")) {
                defer { received.removeSubrange(...end) }
                return String(decoding: received[..<end].dropLast(), as: UTF8.self)
            }
            var room = [UInt8](repeating: 0, count: 4096)
            let count = recv(number, &room, room.count, 0)
            guard count > 0 else { throw Failure(description: count == 0 ? "the server closed the connection" : "recv") }
            received += room[..<count]
        }
    }
}
