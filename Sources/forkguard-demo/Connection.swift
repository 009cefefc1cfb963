#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif
import ForkGuard

/// A connection to the server, one question at a time. Guarded, a child that inherits it finds a tombstone under its number.
final class Connection: Sendable {
    private let number: Int32
    private let token: ForkDescriptor?

    /// With a time-out for connecting, and for each read and write.
    init(to server: ServerAddress, timeout: UInt64, guarded: Bool) throws {
        if guarded {
            let token = try ForkDescriptor(name: "connection") { try server.makeSocket(timeout: timeout) }
            self.token = token
            number = try token.withNumber { $0 }
        } else {
            token = nil
            number = try server.makeSocket(timeout: timeout)
        }
        try server.connect(number)
    }

    deinit {
        if let token { try? token.close() } else { close(number) }
    }

    func ask(_ command: [[UInt8]]) throws -> RESP.Reply {
        guard let token else { return try exchange(RESP.command(command), over: number) }
        return try token.withNumber { try exchange(RESP.command(command), over: $0) }
    }

    /// Whether it is open and has nothing to read, as careful clients ask before they use an idle one.
    var isQuiet: Bool {
        var byte: UInt8 = 0
        return recv(number, &byte, 1, .init(MSG_PEEK) | .init(MSG_DONTWAIT)) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)
    }

    private func exchange(_ command: [UInt8], over number: Int32) throws(RedisError) -> RESP.Reply {
        var sent = 0
        while sent < command.count {
            let count = command[sent...].withUnsafeBytes { write(number, $0.baseAddress, $0.count) }
            if count < 0 { try checkError(of: "write") } else { sent += count }
        }
        var received: [UInt8] = []
        while true {
            let count = withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 1) { buffer in
                let count = read(number, buffer.baseAddress, buffer.count)
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
            // Who got somebody else's answer too cannot give the connection back. If it comes later, the pool's next look finds it.
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
