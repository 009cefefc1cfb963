public import ForkGuard
import Glibc

/// A TCP connection of this process. What its protocol is, others know.
///
/// Its descriptor is a token: a child that inherits the connection gets an error from every call, before any system call, and the number is a tombstone there. So dropping
/// an inherited connection, whoever does it, sends nothing. One thread may send while another receives; `close` wakes both.
public final class Connection: Sendable {
    private let descriptor: ForkDescriptor

    /// Connects.
    ///
    /// - Throws: `WireError.timedOut`, `WireError.system`: `ECONNREFUSED`, `EMFILE`.
    public init(to server: ServerAddress, timeout: Duration) throws {
        descriptor = try ForkDescriptor(name: "connection") {
            let number = socket(server.family, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
            guard number >= 0 else { throw WireError.system("socket", errno: errno) }
            return number
        }
        do {
            try connect(to: server, Deadline(in: timeout))
        } catch {
            close()
            throw error
        }
    }

    /// One that was accepted: an open socket that does not block, and from here on this connection's to close.
    public init(_ accepted: ForkDescriptor) { descriptor = accepted }

    deinit { close() }

    /// Closes it. In a child, of an inherited one, only the tombstone goes.
    public func close() { try? descriptor.close() }

    /// Sends all of it. A peer that is gone is an error, no SIGPIPE.
    public func send(_ bytes: [UInt8], _ deadline: Deadline) throws {
        var sent = 0
        while sent < bytes.count {
            sent += try transfer("send", POLLOUT, deadline) { number in
                bytes.withUnsafeBytes { Glibc.send(number, $0.baseAddress! + sent, $0.count - sent, Int32(MSG_NOSIGNAL)) }
            }
        }
    }

    /// Appends what has come, at least a byte, to `buffer`.
    ///
    /// - Throws: `WireError.closedByPeer`, `WireError.timedOut`, `WireError.tooLarge` when there are more than `limit` bytes in the buffer already.
    public func receive(into buffer: inout [UInt8], limit: Int = 16 << 20, _ deadline: Deadline) throws {
        guard buffer.count < limit else { throw WireError.tooLarge(limit: limit) }
        try withUnsafeTemporaryAllocation(byteCount: 16384, alignment: 16) { room in
            let count = try transfer("receive", POLLIN, deadline) { recv($0, room.baseAddress, room.count, 0) }
            if count == 0 { throw WireError.closedByPeer }
            buffer.append(contentsOf: room[..<count])
        }
    }

    /// Whether it is open and nothing has come that nobody asked for: what a pool asks before it hands out an idle one.
    public var isQuiet: Bool {
        var byte: UInt8 = 0
        let count = try? descriptor.withNumber { number in
            recv(number, &byte, 1, Int32(MSG_PEEK)) < 0 && (errno == EAGAIN || errno == EINTR)
        }
        return count ?? false
    }

    /// The token, for an event loop.
    public var token: ForkDescriptor { descriptor }

    // ---- how ----

    private func connect(to server: ServerAddress, _ deadline: Deadline) throws {
        var yes: Int32 = 1
        try descriptor.withNumber { number in
            setsockopt(number, Int32(IPPROTO_TCP), TCP_NODELAY, &yes, socklen_t(MemoryLayout<Int32>.size))
            let result = withUnsafeBytes(of: server.storage) {
                Glibc.connect(number, $0.baseAddress!.assumingMemoryBound(to: sockaddr.self), server.length)
            }
            if result == 0 { return }
            guard errno == EINPROGRESS else { throw WireError.system("connect", errno: errno) }
            try deadline.wait(for: POLLOUT, on: number, "connecting to \(server.host):\(server.port)")
            var failure: Int32 = 0
            var size = socklen_t(MemoryLayout<Int32>.size)
            getsockopt(number, SOL_SOCKET, SO_ERROR, &failure, &size)
            if failure != 0 { throw WireError.system("connect", errno: failure) }
        }
    }

    /// Calls until it neither has to wait nor was interrupted.
    private func transfer(_ what: String, _ events: Int32, _ deadline: Deadline, _ call: (Int32) -> Int) throws -> Int {
        while true {
            // A use of the number for each attempt and its wait: closing the connection ends the wait.
            let count = try descriptor.withNumber { number in
                let count = call(number)
                if count >= 0 { return count }
                switch errno {
                case EINTR: break
                case EAGAIN: try deadline.wait(for: events, on: number, what)
                case EPIPE, ECONNRESET: throw WireError.closedByPeer
                case let error: throw WireError.system(what, errno: error)
                }
                return -1
            }
            if count >= 0 { return count }
        }
    }
}
